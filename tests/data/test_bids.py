"""Data in BIDS: the layout of the open data, a folder of one's own, and what is left alone in it."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
from scans import DEPTH, SIDE, arrays, spoil, write

from ada_repro.core import ROOT, DataError
from ada_repro.data.bids import Bids
from ada_repro.data.datasets import check, check_dataset, list_left_out, list_subjects, main, prepare
from ada_repro.data.slices import load_rescans, load_slices
from ada_repro.data.subjects import Subject, walk

# The open data's layout, without the open data


OPEN_SESSIONS = {
    "9418": "UCL",
    "9584": "NWU",
    "9604": "Philips",
    "9709Ses1": "Milan",
    "9709Ses2": "Milan",
    "10062Ses1": "CEITEC",
    "10062Ses2": "CEITEC",
}


def write_session(folder, name, seed, labels="derivatives/labels", gm="gmseg-manual", run="_run-1", cord=True):
    "One scan with its masks."
    (image, mask, around), stem = arrays(seed=seed), f"sub-{name}/anat/sub-{name}{run}_T2starw"
    write(folder / f"{stem}.nii.gz", image)
    write(folder / labels / f"{stem}_{gm}.nii.gz", (mask == 1).astype(np.uint8))
    if name == "9604":
        around[..., 2] = 0
    if cord:
        write(folder / labels / f"{stem}_seg-manual.nii.gz", around)


@pytest.fixture
def bids(tmp_path):
    "Seven tiny sessions; one slice of 9604 has no cord mask, and its site is the name of a manufacturer."
    folder = tmp_path / "raw"
    for i, name in enumerate(OPEN_SESSIONS):
        write_session(folder, name, i)
    rows = [f"sub-{name}\tM\tn/a\t{site}\t3" for name, site in OPEN_SESSIONS.items()]
    head = "participant_id\tsex\tage\tSite\tField Strength [T]"
    (folder / "participants.tsv").write_text("\n".join([head, *rows, "sub-9605\tM\t37\tMount Sinai\t7"]))
    sidecar = folder / "sub-9604" / "anat" / "sub-9604_run-1_T2starw.json"
    sidecar.write_text(json.dumps({"Manufacturer": "Philips", "InstitutionName": "CHUM"}))
    return folder


def test_bids_layout(bids, tmp_path, capsys):
    assert main(["check", str(bids)]) == 0
    out = capsys.readouterr().out
    assert "sub-9604_run-1_T2starw.nii.gz: slice 2 has" in out and "no cord mask" in out and "CEITEC" in out
    s = prepare("gm_challenge", bids, tmp_path / "slices", 0.5, 40)
    milan = load_slices(tmp_path / "slices", fold="Milan")
    assert (
        set(milan.subset("val").table.subject) == {"sub-9709Ses1", "sub-9709Ses2"}
        and milan.subset("train").table.person.nunique() == 4
    )
    assert len(s) == 7 * DEPTH - 1 and s.targets.shape[1] == 1 and s.table.person.nunique() == 5
    assert set(s.subset("val").table.subject) == {"sub-9418", "sub-9604"}
    assert "1 no cord mask" in capsys.readouterr().out


@pytest.mark.parametrize(
    "where, make",
    [
        ("10062Ses2_run-1_T2starw_seg-manual", lambda folder, p: p.unlink()),
        ("9584_run-1_T2starw_gmseg-manual", lambda folder, p: write(p, arrays()[1])),
        (
            "9709Ses2_run-1_T2starw",
            lambda folder, p: spoil(p, next(folder.rglob("sub-9709Ses1_run-1_T2starw.nii.gz")).read_bytes()),
        ),
    ],
)
def test_bids_faults(where, make, bids, tmp_path):
    make(bids, next(bids.rglob(f"sub-{where}.nii.gz")))
    (problem,) = check("gm_challenge", bids)
    assert where in problem and main(["check", str(bids)]) == 1
    with pytest.raises(DataError, match=where):
        prepare("gm_challenge", bids, tmp_path / "slices", 0.5, 40)
    assert not (tmp_path / "slices").exists()


def test_the_open_data_come_from_their_files(bids, tmp_path, capsys):
    table = prepare("gm_challenge", bids, tmp_path / "before", 0.5, 40).table
    assert list(table.subject.unique()) == [f"sub-{name}" for name in OPEN_SESSIONS]
    assert list(table.drop_duplicates("subject").site) == [*["UCL", "NWU", "CHUM"], *["Milan"] * 2, *["CEITEC"] * 2]
    write_session(bids, "9605", 20)
    for i in (1, 2, 3):
        write_session(bids, f"9611Ses{i}", 20 + i)
    write(bids / "sub-9669" / "anat" / "sub-9669_run-1_T2starw.nii.gz", arrays(30)[0])
    next(bids.rglob("sub-9611Ses3_run-1_T2starw_gmseg-manual.nii.gz")).unlink()
    capsys.readouterr()
    more = prepare("gm_challenge", bids, tmp_path / "after", 0.5, 40)
    assert "left out, without a mask: 2 (sub-9611Ses3, sub-9669)" in capsys.readouterr().out
    assert json.loads((tmp_path / "after" / "report.json").read_text())["left_out"] == ["sub-9611Ses3", "sub-9669"]
    people = more.table.drop_duplicates("subject").set_index("subject")
    assert people.person["sub-9611Ses1"] == people.person["sub-9611Ses2"] == "9611"
    assert people.site["sub-9605"] == "Mount Sinai" and people.site["sub-9611Ses1"] == "unknown"
    assert set(more.subset("val").table.person) == {"9418", "9604"}
    assert more.table[more.table.subject.isin(table.subject)].reset_index(drop=True).equals(table)
    assert "left_out" not in json.loads((tmp_path / "before" / "report.json").read_text())


def test_rescans_lie_beside_their_slices(bids, tmp_path, capsys):
    plain = prepare("gm_challenge", bids, tmp_path / "plain", 0.5, 40)
    with pytest.raises(DataError, match="holds no rescans"):
        load_rescans(tmp_path / "plain")
    for name in ("9418", "9584"):
        first = next(bids.glob(f"sub-{name}/anat/*_run-1_T2starw.nii.gz"))
        again = 2 * np.asarray(nib.load(first).dataobj) + 3
        write(first.with_name(first.name.replace("run-1", "run-2")), again)
    write(bids / "sub-9604" / "anat" / "sub-9604_run-2_T2starw.nii.gz", arrays(40)[0][1:])
    s = prepare("gm_challenge", bids, tmp_path / "slices", 0.5, 40)
    assert "sub-9604_run-2_T2starw.nii.gz: does not lie on the grid" in capsys.readouterr().out
    rescans = load_rescans(tmp_path / "slices")
    twice = s.table.subject.isin(["sub-9418", "sub-9584"]).to_numpy(copy=True)
    assert np.allclose(rescans[twice], s.images[twice], atol=1e-4) and rescans[~twice].isnan().all()
    for name in ("images.npy", "targets.npy", "slices.csv", "report.json"):
        assert (tmp_path / "slices" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert len(plain) == len(rescans)


def test_rescans_of_files_that_state_no_orientation_lie_as_stored(bids, tmp_path, capsys):
    first = next(bids.glob("sub-9418/anat/*_run-1_T2starw.nii.gz"))
    write(first.with_name(first.name.replace("run-1", "run-2")), arrays(9)[0])
    prepare("gm_challenge", bids, tmp_path / "stated", 0.5, 40)
    for path in bids.rglob("*.nii.gz"):
        image = nib.load(path)
        image.set_sform(image.affine, 0)
        image.set_qform(image.affine, 0)
        path.write_bytes(gzip.compress(image.to_bytes(), 6, mtime=0))
    s = prepare("gm_challenge", bids, tmp_path / "slices", 0.5, 40, orientation="grid")
    twice = s.table.subject.eq("sub-9418").to_numpy(copy=True)
    rescans = load_rescans(tmp_path / "slices")
    assert not rescans[twice].isnan().any() and "(orientation: grid)" not in capsys.readouterr().out
    assert np.array_equal(rescans, load_rescans(tmp_path / "stated"), equal_nan=True)


# A data set of one's own


@pytest.fixture
def own(tmp_path):
    "Five people, one of them in two sessions, with a lesion mask beside the scan and no cord."
    folder = tmp_path / "own"
    for i, person in enumerate(["001", "002", "10", "null", "NA"]):
        sessions = ("_ses-1", "_ses-2") if person == "001" else ("",)
        for session in sessions:
            image, mask, _ = arrays(seed=10 * i + len(session) + ord(session[-1:] or "0"), shift=(3, -2))
            at = folder / f"sub-{person}" / session[1:] / "anat"
            write(at / f"sub-{person}{session}_T2w.nii.gz", image)
            write(at / f"sub-{person}{session}_T2w_lesion.nii.gz", (mask == 1).astype(np.uint8))
    (folder / "participants.tsv").write_text("participant_id\tsite\nsub-001\t001\nsub-002\tNA\nsub-10\t1e5\n")
    return folder


LESION = {"image_suffix": "T2w", "label_suffix": "lesion"}


def test_bids_of_ones_own(own, tmp_path, capsys):
    s = prepare("bids", own, tmp_path / "slices", 0.5, 40, **LESION)
    assert len(s) == 6 * DEPTH and s.table.person.nunique() == 5 and s.subset("val").table.person.nunique() == 1
    assert set(s.table.subject) == {"sub-001_ses-1", "sub-001_ses-2", "sub-002", "sub-10", "sub-null", "sub-NA"}
    assert set(s.table.site) == {"001", "NA", "1e5", "unknown"} and set(s.table.person) == {
        "001",
        "002",
        "10",
        "null",
        "NA",
    }
    middle = np.argwhere(s.consensus[0].numpy()).mean(0)
    assert np.abs(middle - 19.5).max() < 1
    report = json.loads((tmp_path / "slices" / "report.json").read_text())
    assert report["bids"]["label_suffix"] == "lesion" and report["inventory"][0]["contrast"] > 1.05
    assert "contrast, label to its rim: sub-001_ses-1 1.0" in capsys.readouterr().out


@pytest.mark.parametrize("share, count", [(0, 0), (0.01, 1), (0.4, 2), (0.6, 3), (0.99, 4), (1, 5)])
def test_a_share_of_the_people_validates(share, count, own):
    subjects = list_subjects("bids", own, how=Bids(**LESION, val_share=share))
    assert len({s.person for s in subjects if s.split == "val"}) == count
    assert subjects == list_subjects("bids", own, how=Bids(**LESION, val_share=share))


def test_a_site_of_ones_own_is_held_out(own, tmp_path):
    prepare("bids", own, tmp_path / "slices", 0.5, 40, **LESION)
    s = load_slices(tmp_path / "slices", fold="NA")
    assert set(s.subset("val").table.subject) == {"sub-002"}


@pytest.mark.parametrize(
    "place",
    [
        "derivatives/sub-002/anat/sub-002_T2w_lesion.nii.gz",
        "derivatives/labels/sub-002/anat/sub-002_T2w_lesion.nii",
        "derivatives/rater one/sub-002/anat/sub-002_lesion.nii.gz",
        "sub-002/sub-002_T2w_lesion.nii.gz",
    ],
)
def test_masks_lie_in_many_places(place, own):
    mask = own / "sub-002" / "anat" / "sub-002_T2w_lesion.nii.gz"
    (own / place).parent.mkdir(parents=True, exist_ok=True)
    raw = mask.read_bytes()
    mask.unlink()
    assert list_left_out("bids", own, Bids(**LESION)) == ["sub-002"]
    (own / place).write_bytes(raw)
    assert list_left_out("bids", own, Bids(**LESION)) == [] == check("bids", own, how=Bids(**LESION))
    mask.write_bytes(raw)
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "sub-002" in problem and "several masks" in problem


def test_words_that_do_not_fit_a_folder(own):
    (problem,) = check("bids", own)
    assert "no scans sub-*_T2starw.nii.gz" in problem and "there are T2w, lesion" in problem
    (problem,) = check("bids", own, how=Bids("T2w", "gm"))
    assert "no mask *_gm" in problem and "there are lesion." in problem
    (problem,) = {p.split(": ")[1] for p in check("bids", own, how=Bids("T2w", "lesion", "seg"))}
    assert problem.startswith("is missing")


@pytest.mark.parametrize(
    "wrong",
    [
        {"val_share": 1.5},
        {"val_share": "half"},
        {"contrast": "bright"},
        {"area_mm2": [5]},
        {"area_mm2": [9, 3]},
        {"area_mm2": ["a", "b"]},
        {"outside_cord": -1},
        {"off_centre": 0.7},
        {"image_suffix": "../T2w"},
        {"label_suffix": ""},
        {"label_suffix": 1},
        {"cord_suffix": None},
        {"area_mm2": 5},
        {"area_mm2": "any"},
        {"area_mm2": [2, float("inf")]},
        {"width_to_depth": -0.1},
        {"width_to_depth": True},
        {"val_share": float("nan")},
    ],
)
def test_options_that_cannot_be(wrong, own, tmp_path):
    with pytest.raises(ValueError, match=next(iter(wrong))) as e:
        prepare("bids", own, tmp_path / "slices", 0.5, 40, **(LESION | wrong))
    assert "\n" not in str(e.value) and not (tmp_path / "slices").exists()


def test_a_lesion_has_limits_of_its_own(own, tmp_path):
    mask = own / "sub-10" / "anat" / "sub-10_T2w_lesion.nii.gz"
    write(mask, (arrays(shift=(3, -2))[1] > 0).astype(np.uint8))
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "mm2 as lesion in a slice, not 2 to 50" in problem
    assert check("bids", own, how=Bids(**LESION, area_mm2=("none",))) == []
    assert check("bids", own, how=Bids(**LESION, area_mm2=(60, 120))) != []
    write(mask, np.zeros((SIDE, SIDE, DEPTH), np.uint8))
    how = LESION | {"area_mm2": ["none"], "contrast": "any"}
    with pytest.raises(DataError, match=r"no slice left for validation .dropped: 3 no lesion.\. Correct the masks"):
        prepare("bids", own, tmp_path / "slices", 0.5, 40, **how)
    s = prepare("bids", own, tmp_path / "slices", 0.5, 40, **how, val_share=0.4)
    assert "sub-10" not in set(s.table.subject) and len(s) == 5 * DEPTH


def test_only_what_is_read_is_judged(own, tmp_path):
    before = list_subjects("bids", own, how=Bids(**LESION))
    os.mkfifo(own / "sub-002" / "anat" / "pipe")
    (own / ".git" / "annex").mkdir(parents=True)
    (own / ".git" / "annex" / "object").symlink_to("nowhere")
    (own / "sub-002" / "anat" / "sub-002_T1w.nii.gz").symlink_to("../../.git/annex/nowhere")
    (own / "sub-002" / "anat" / "loop").symlink_to("..")
    (own / "sub-002" / ".cache").mkdir()
    (own / "sub-002" / ".cache" / "sub-002_T2w.nii.gz").write_bytes(b"half")
    (own / "sub-3.txt").touch()
    (own / os.fsdecode(b"sub-002/anat/\xff.nii.gz")).touch()
    assert list_subjects("bids", own, how=Bids(**LESION)) == before
    assert check("bids", own, how=Bids(**LESION)) == []
    mask = own / "sub-002" / "anat" / "sub-002_T2w_lesion.nii.gz"
    mask.unlink()
    mask.symlink_to("../../.git/annex/nowhere")
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "is a link to a file that is not here. Fetch that file" in problem


@pytest.mark.parametrize("letter", ["\r", "\n", "\t", "\x1b", "\u2028"])
def test_a_name_that_no_table_can_hold_is_one_line(letter, own):
    write(own / f"sub-1{letter}2" / f"sub-1{letter}2_T2w.nii.gz", arrays()[0])
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "control characters" in problem and problem.isprintable()


def test_a_name_that_is_not_utf8_is_one_line(own):
    folder = own / os.fsdecode(b"sub-\xff\xfe")
    write(folder / os.fsdecode(b"sub-\xff\xfe_T2w.nii.gz"), arrays()[0])
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "not UTF-8" in problem and problem.encode() and "\n" not in problem


# What spreadsheets make of a table
SITES = "participant_id\tsite\nsub-001\tZürich\nsub-002\tNA\n"
TABLES = {
    "as it should be": SITES.encode(),
    "byte order mark, lines of Windows": SITES.replace("\n", "\r\n").encode("utf-8-sig"),
    "lines of an old Mac": SITES.replace("\n", "\r").encode(),
    "without sub-": SITES.replace("sub-", "").encode(),
    "numbers": SITES.replace("sub-00", "").encode(),
    "blanks": SITES.replace("\t", " \t  ").encode(),
    "quotes": re.sub(r"[^\t\n]+", r'"\g<0>"', SITES).encode(),
    "short and empty rows": (SITES + "\n\t\nsub-10\n").encode(),
    "another column": SITES.replace("site", "Center").encode(),
    "said in the second": SITES.replace("site", "site\tinstitution").replace("\tZü", "\tn/a\tZü").encode(),
    "said twice": (SITES + "sub-001\tZürich\n").encode(),
}


@pytest.mark.parametrize("name", TABLES)
def test_sites_whatever_a_spreadsheet_made_of_them(name, own):
    (own / "participants.tsv").write_bytes(TABLES[name])
    sites = {s.subject: s.site for s in list_subjects("bids", own, how=Bids(**LESION))}
    assert sites["sub-001_ses-1"] == "Zürich" and sites["sub-002"] == "NA" and sites["sub-10"] == "unknown"


@pytest.mark.parametrize(
    "text, words",
    [
        (SITES.replace("\t", ","), "names none of the people here, such as sub-001"),
        (SITES.replace("\t", "  "), "names none of the people here"),
        (SITES.replace("participant_id", "subject"), "names none of the people here"),
        (SITES.replace("sub-00", "sub-9"), "names none of the people here"),
        (SITES + "sub-001\tBern\n", "gives sub-001 two sites, Zürich and Bern"),
        (SITES + "1\tBern\n", "gives sub-001 two sites"),
        (SITES.encode("utf-16"), "cannot be read"),
        (SITES.encode("utf-16-le"), "cannot be read"),
        (SITES + "sub-10\tA\0\n", "zero bytes"),
        (SITES + "sub-10\t" + "A" * 2 * 10**5, "cannot be read"),
    ],
)
def test_a_table_that_was_not_understood_is_one_line(text, words, own):
    (own / "participants.tsv").write_bytes(text if isinstance(text, bytes) else text.encode())
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "participants.tsv: " in problem and words in problem and "\n" not in problem


@pytest.mark.parametrize("text", ["", "participant_id\tsite\n", "\n\n"])
def test_a_table_that_says_nothing(text, own):
    (own / "participants.tsv").write_text(text)
    assert {s.site for s in list_subjects("bids", own, how=Bids(**LESION))} == {"unknown"}


def test_a_number_that_two_people_have_means_neither(own):
    folder = shutil.copytree(own / "sub-002", own / "sub-02")
    for path in folder.rglob("*.nii.gz"):
        path.rename(path.with_name(path.name.replace("sub-002", "sub-02")))
    (own / "participants.tsv").write_text("participant_id\tsite\n2\tA\n10\tB\n")
    sites = {s.subject: s.site for s in list_subjects("bids", own, how=Bids(**LESION))}
    assert sites["sub-002"] == sites["sub-02"] == "unknown" and sites["sub-10"] == "B"


@pytest.mark.parametrize(
    "about, site",
    [(b'{"InstitutionName": " Bern\\r\\n"}', "Bern"), (b'\xef\xbb\xbf{"InstitutionName": "Bern"}', "Bern")]
    + [(b'{"InstitutionName": null}', "unknown"), (b'{"InstitutionName": ["Bern"]}', "unknown")]
    + [(b"[1]", "unknown"), (b"{", "unknown"), (b"\xff", "unknown")],
)
def test_the_file_beside_a_scan_says_where_it_was_made(about, site, own):
    (own / "participants.tsv").unlink()
    (own / "sub-002" / "anat" / "sub-002_T2w.json").write_bytes(about)
    assert {s.subject: s.site for s in list_subjects("bids", own, how=Bids(**LESION))}["sub-002"] == site


# What names may hold
def test_acquisitions_and_runs_of_one_session(own):
    at = own / "sub-10" / "anat"
    for i, entities in enumerate(["_acq-axial_run-1", "_acq-axial_run-2", "_acq-sag"]):
        image, mask, _ = arrays(seed=50 + i, shift=(3, -2))
        write(at / f"sub-10{entities}_T2w.nii.gz", image)
        if entities != "_acq-axial_run-2":
            write(at / f"sub-10{entities}_T2w_lesion.nii.gz", (mask == 1).astype(np.uint8))
    found = {s.subject: s for s in list_subjects("bids", own, how=Bids(**LESION)) if s.person == "10"}
    assert list(found) == ["sub-10", "sub-10_acq-axial_run-1", "sub-10_acq-sag"]
    assert found["sub-10_acq-axial_run-1"].rescan.name == "sub-10_acq-axial_run-2_T2w.nii.gz"
    assert found["sub-10_acq-sag"].rescan is None


@pytest.mark.parametrize(
    "name, suffix",
    [("T2w_label-lesion_mask", "label-lesion_mask"), ("space-orig_desc-manual_dseg", "space-orig_desc-manual_dseg")],
)
def test_the_suffix_of_a_mask_is_all_that_follows_its_scan(name, suffix, own):
    for mask in own.rglob("*_lesion.nii.gz"):
        person = mask.name.removesuffix("T2w_lesion.nii.gz")
        moved = own / "derivatives" / "labels" / "final" / mask.relative_to(own).with_name(f"{person}{name}.nii.gz")
        moved.parent.mkdir(parents=True)
        mask.rename(moved)
    (problem,) = check("bids", own, how=Bids("T2w", name.rpartition("_")[2]))
    assert f"Correct label_suffix; there are {suffix}." in problem
    assert check("bids", own, how=Bids("T2w", suffix)) == []


def test_a_scan_in_the_folder_of_somebody_else_is_refused(own):
    scan = own / "sub-002" / "anat" / "sub-002_T2w.nii.gz"
    scan.rename(scan.with_name("sub-10_T2w.nii.gz"))
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "lies in the folder of sub-002, and is named after somebody else" in problem


def test_people_one_folder_too_deep(own, tmp_path):
    (tmp_path / "outer").mkdir()
    own.rename(tmp_path / "outer" / "own")
    (problem,) = check("bids", tmp_path / "outer", how=Bids(**LESION))
    assert "has no folders sub-*" in problem


def test_a_linked_person_and_names_with_blanks(own, tmp_path):
    (own / "sub-10").rename(tmp_path / "elsewhere")
    (own / "sub-10").symlink_to(tmp_path / "elsewhere")
    person = shutil.copytree(own / "sub-002", own / "sub-Zoë B")
    for path in person.rglob("*.nii.gz"):
        path.rename(path.with_name(path.name.replace("sub-002", "sub-Zoë B")))
    write(person / "anat" / "sub-Zoë B_T2w.nii.gz", arrays(99, shift=(3, -2))[0])
    assert {"10", "Zoë B"} < {s.person for s in list_subjects("bids", own, how=Bids(**LESION))}
    assert check("bids", own, how=Bids(**LESION)) == []


@pytest.mark.parametrize("fold", ["Mount Sinai, New York", "Mount_Sinai_New_York"])
def test_a_site_is_held_out_by_its_plain_name(fold, own, tmp_path):
    rows = "participant_id\tsite\nsub-001\tMount Sinai, New York\nsub-002\tMount_Sinai\n"
    (own / "participants.tsv").write_text(rows)
    prepare("bids", own, tmp_path / "slices", 0.5, 40, **LESION)
    assert set(load_slices(tmp_path / "slices", fold).subset("val").table.person) == {"001"}
    check_dataset("bids", own, Bids(**LESION), [fold, "paper", "Mount_Sinai"])
    with pytest.raises(DataError, match="fold 'Mount': is not a site.*Mount_Sinai_New_York.*stands in quotes"):
        check_dataset("bids", own, Bids(**LESION), ["Mount"])


def test_one_person_cannot_do_both(own):
    for person in ("002", "10", "null", "NA"):
        shutil.rmtree(own / f"sub-{person}")
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "one person" in problem
    assert {s.split for s in list_subjects("bids", own, how=Bids(**LESION, val_share=1))} == {"val"}


def test_participants_that_cannot_be_read(own):
    (own / "participants.tsv").write_bytes(b"participant_id\tsite\nsub-001\tZ\xfcrich\n")
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "participants.tsv: cannot be read" in problem
    (own / "participants.tsv").write_text("\ufeffparticipant_id\tSITE\nsub-001\tZürich\n", encoding="utf-8")
    assert list_subjects("bids", own, how=Bids(**LESION))[0].site == "Zürich"
    (own / "participants.tsv").write_text("sub-001\n")
    assert list_subjects("bids", own, how=Bids(**LESION))[0].site == "unknown"


def test_bids_by_hand(own, capsys):
    words = ["check", str(own), "--dataset", "bids", "--image_suffix", "T2w", "--label_suffix", "lesion"]
    assert main(words) == 0 and "sub-001_ses-1 1.0" in capsys.readouterr().out
    assert main([*words, "--area_mm2", "60", "100"]) == 1
    assert main([*words, "--area_mm2", "none", "--val_share", "0.5"]) == 0
    capsys.readouterr()
    assert main([*words, "--val_share", "2"]) == 1 and "val_share" in capsys.readouterr().out


def test_a_suffix_that_looks_like_a_number_is_text(own, capsys):
    words = ["check", str(own), "--dataset", "bids", "--image_suffix", "T2w", "--label_suffix"]
    for suffix in ("001", "1.0", "1e3"):
        for mask in sorted(own.rglob("*_T2w_*.nii.gz")):
            mask.rename(mask.with_name(f"{mask.name.partition('_T2w_')[0]}_T2w_{suffix}.nii.gz"))
        assert main([*words, suffix]) == 0, capsys.readouterr().out


def test_the_grid_may_be_trusted(own, tmp_path):
    mask = own / "sub-10" / "anat" / "sub-10_T2w_lesion.nii.gz"
    raw = bytearray(gzip.decompress(mask.read_bytes()))
    raw[252:256] = bytes(4)
    mask.write_bytes(gzip.compress(raw))
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "states neither qform nor sform" in problem
    prepare("bids", own, tmp_path / "slices", 0.5, 40, orientation="grid", **LESION)
    report = json.loads((tmp_path / "slices" / "report.json").read_text())
    assert report["orientation"] == "grid" and "states no orientation" in report["inventory"][3]["notes"][0]
    with pytest.raises(ValueError, match="orientation must be one of"):
        prepare("bids", own, tmp_path / "slices", 0.5, 40, orientation="any", **LESION)


# What was left out without a word
def test_large_letters_leave_nobody_out(own):
    before = list_subjects("bids", own, how=Bids(**LESION))
    for name in ("sub-002_T2w.nii.gz", "sub-10_T2w_lesion.nii.gz"):
        (path,) = own.rglob(name)
        path.rename(path.with_name(name.replace(".nii.gz", ".NII.GZ")))
    assert list_subjects("bids", own, how=Bids(**LESION)) == before
    assert check("bids", own, how=Bids(**LESION)) == []
    (own / "sub-10").rename(own / "Sub-10")
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert problem.endswith("Sub-10: is a person's folder, but does not begin with sub- in small letters. Rename it.")


@pytest.mark.parametrize("share, fold, who", [(0, "paper", "validates"), (1, "paper", "trains"), (0.2, "X", "trains")])
def test_a_fold_without_a_side_is_seen_before_anything_runs(share, fold, who, own):
    (own / "participants.tsv").write_text(
        "participant_id\tsite\n" + "".join(f"{p.name}\tX\n" for p in own.glob("sub-*"))
    )
    with pytest.raises(DataError, match=f"has nobody who {who} in the fold {fold}"):
        check_dataset("bids", own, Bids(**LESION, val_share=share), [fold])


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to(".git/annex/nowhere")])
def test_a_table_of_people_that_cannot_be_read_is_a_fault(make, own):
    (own / "participants.tsv").unlink()
    make(own / "participants.tsv")
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "participants.tsv: cannot be read (" in problem and "\n" not in problem


@pytest.mark.parametrize(
    "said, site", [("n/a", "unknown"), ("X\0Y", "X Y"), ("X\ud800 Y", "X Y"), ("X\x07", "X"), ("NA", "NA")]
)
def test_a_site_can_be_printed(said, site, own):
    (own / "participants.tsv").unlink()
    (own / "sub-10" / "anat" / "sub-10_T2w.json").write_text(json.dumps({"InstitutionName": said}))
    subjects = list_subjects("bids", own, how=Bids(**LESION))
    assert {s.site for s in subjects if s.subject == "sub-10"} == {site}


def test_several_masks_are_named_each(own):
    mask = own / "sub-10" / "anat" / "sub-10_T2w_lesion.nii.gz"
    shutil.copy(mask, mask.with_name("sub-10_lesion.nii.gz"))
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "sub-10_T2w_lesion.nii.gz and " in problem and "sub-10_lesion.nii.gz" in problem


# Whose mask is it, and who is not there


def write_person(folder, person, seed, entities="", where="anat", mask=True):
    "One more scan of somebody, with its mask beside it."
    image, marked, _ = arrays(seed=seed, shift=(3, -2))
    at = folder / f"sub-{person}" / where
    write(at / f"sub-{person}{entities}_T2w.nii.gz", image)
    if mask:
        write(at / f"sub-{person}{entities}_T2w_lesion.nii.gz", (marked == 1).astype(np.uint8))


@pytest.mark.parametrize("mask", [True, False])
def test_sessions_in_folders_alone_are_refused(mask, own, tmp_path):
    "The mask of one session must not be read as that of another of the same name."
    write_person(own, "20", 50, where="ses-1/anat")
    write_person(own, "20", 60, where="ses-2/anat", mask=mask)
    with pytest.raises(DataError) as e:
        prepare("bids", own, tmp_path / "slices", 0.5, 40, **LESION)
    assert [str(e.value)] == check("bids", own, how=Bids(**LESION))
    first, second = (f"{own}/sub-20/ses-{i}/anat/sub-20_T2w.nii.gz" for i in (1, 2))
    remedy = "Put the session into the names: sub-20_ses-2_T2w."
    assert str(e.value) == f"{second}: has the name of another scan, {first}. {remedy}"


def test_a_scan_in_a_second_folder_is_refused_but_its_link_is_not(own):
    (own / "sub-10" / "again").symlink_to("anat")
    assert [s.subject for s in list_subjects("bids", own, how=Bids(**LESION))].count("sub-10") == 1
    assert check("bids", own, how=Bids(**LESION)) == []
    write_person(own, "10", 60, where="old", mask=False)
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "has the name of another scan" in problem and problem.endswith("Rename one of them, or remove it.")


def test_one_scan_under_one_name_is_seen(challenge):
    def twice(folder):
        images = [folder / f"site1-sc0{i}-image.nii.gz" for i in (1, 1)]
        images[1] = folder / "again" / images[1].name
        masks = [folder / "site1-sc01-mask-r1.nii.gz"]
        return [Subject("s", "sc01", "anna", "train", image, masks) for image in images]

    (challenge / "again").mkdir()
    shutil.copy(challenge / "site1-sc01-image.nii.gz", challenge / "again")
    found = [[str(e) for e in faults] for _, _, faults in walk(twice(challenge))]
    assert found[0] == [] and "again/site1-sc01-image.nii.gz: is the same scan as sc01" in found[1][0]
    shutil.rmtree(challenge / "again")


@pytest.mark.parametrize("name", ["Sub-20_T2w", "sub-20_T2W", "SUB-20_t2w"])
def test_a_scan_named_in_other_letters_is_refused(name, own):
    write_person(own, "20", 50)
    scan = own / "sub-20" / "anat" / "sub-20_T2w.nii.gz"
    scan.rename(scan.with_name(f"{name}.nii.gz"))
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert problem.endswith(f"{name}.nii.gz: differs from a scan sub-*_T2w in large and small letters. Rename it.")


@pytest.mark.parametrize(
    "name", ["20_T2w", "sub-20_T2w (1)", "sub-20-T2w", "sub-20_T2w_v2", "sub-20_T2w_", "../a/b/c/d/sub-20_T2w"]
)
def test_a_mask_whose_scan_is_not_there_is_left_out_with_a_word(name, own):
    write_person(own, "20", 50)
    scan = own / "sub-20" / "anat" / "sub-20_T2w.nii.gz"
    (own / "sub-20" / "a" / "b" / "c" / "d").mkdir(parents=True)
    scan.rename(scan.parent / f"{name}.nii.gz")
    told = ["sub-20: no scan *_T2w", "sub-20_T2w: a mask, but no scan of that name"]
    assert list_left_out("bids", own, Bids(**LESION)) == told
    assert check("bids", own, how=Bids(**LESION)) == []


def test_a_session_whose_scan_was_removed_is_left_out_and_the_rest_is_read(own):
    for session in ("ses-1", "ses-2"):
        for suffix, values in (("T2w", arrays(7)[0]), ("T2w_lesion", arrays(7)[1])):
            write(own / "sub-20" / session / "anat" / f"sub-20_{session}_{suffix}.nii.gz", values)
    (own / "sub-20" / "ses-2" / "anat" / "sub-20_ses-2_T2w.nii.gz").unlink()
    told = ["sub-20_ses-2_T2w: a mask, but no scan of that name"]
    assert list_left_out("bids", own, Bids(**LESION)) == told
    assert "sub-20_ses-1" in {s.subject for s in list_subjects("bids", own, how=Bids(**LESION))}


@pytest.mark.parametrize("name", ["20_T2w", "sub-20_T1w", "sub-20_T2w.nii.gz", "../a/b/c/d/sub-20_T2w"])
def test_whoever_has_no_scan_is_left_out_with_a_word(name, own, tmp_path, capsys):
    write_person(own, "20", 50, mask=False)
    scan = own / "sub-20" / "anat" / "sub-20_T2w.nii.gz"
    (own / "sub-20" / "a" / "b" / "c" / "d").mkdir(parents=True)
    scan.rename(scan.parent / f"{name}.nii.gz")
    write_person(own, "30", 60, mask=False)
    assert list_left_out("bids", own, Bids(**LESION)) == ["sub-20: no scan *_T2w", "sub-30"]
    prepare("bids", own, tmp_path / "slices", 0.5, 40, **LESION)
    assert "left out, without a mask: 2 (sub-20: no scan *_T2w, sub-30)" in capsys.readouterr().out
    report = json.loads((tmp_path / "slices" / "report.json").read_text())
    assert report["left_out"] == ["sub-20: no scan *_T2w", "sub-30"]


def test_a_mask_of_somebody_who_is_not_there_is_left_out_with_a_word(own):
    at = own / "derivatives" / "labels"
    for name in ("sub-40_T2w_lesion", "sub-10_space-template_T2w_lesion", "sub-10_T1w_lesion"):
        write(at / name.partition("_")[0] / f"{name}.nii.gz", arrays()[1])
    (own / os.fsdecode(b"sub-\xff")).mkdir()
    assert list_left_out("bids", own, Bids(**LESION)) == [
        "sub-\\udcff: no scan *_T2w",
        "sub-40_T2w: a mask, but no scan of that name",
    ]
    assert check("bids", own, how=Bids(**LESION)) == []


@pytest.mark.parametrize("name", ["sub-", "sub-_x"])
def test_a_scan_of_nobody_is_one_line(name, own):
    write(own / name / f"{name}_T2w.nii.gz", arrays()[0])
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert f"{name}_T2w.nii.gz: names nobody. Name the person" in problem


@pytest.mark.parametrize("link", ["folder", "hard", "soft"])
def test_one_mask_by_two_paths_is_one_mask(link, own):
    before = [s.subject for s in list_subjects("bids", own, how=Bids(**LESION))]
    mask = own / "sub-002" / "anat" / "sub-002_T2w_lesion.nii.gz"
    version = own / "derivatives" / "v1" / "sub-002"
    version.mkdir(parents=True)
    mask.rename(version / mask.name)
    if link == "folder":
        (own / "derivatives" / "latest").symlink_to("v1")
    if link == "hard":
        os.link(version / mask.name, mask)
    if link == "soft":
        mask.symlink_to(version / mask.name)
    assert [s.subject for s in list_subjects("bids", own, how=Bids(**LESION))] == before
    assert check("bids", own, how=Bids(**LESION)) == []


@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u3000"])
def test_names_may_hold_blanks_of_any_kind(blank, own, tmp_path):
    write_person(own, f"A{blank}B", 50)
    moved = own.rename(tmp_path / f"my{blank}data\n")
    assert check("bids", moved, how=Bids(**LESION)) == []
    s = prepare("bids", moved, tmp_path / "slices", 0.5, 40, **LESION)
    assert f"A{blank}B" in set(s.table.person) and load_slices(tmp_path / "slices").table.equals(s.table)


def test_a_message_is_one_line_whatever_the_names(own):
    mask = own / "sub-002" / "anat" / "sub-002_T2w_lesion.nii.gz"
    for folder in ("a\nb", os.fsdecode(b"\xff")):
        second = own / "derivatives" / folder / "sub-002"
        second.mkdir(parents=True)
        shutil.copy(mask, second)
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "several masks" in problem and problem.isprintable() and problem.encode()
    for name in (b"sub-002_\xff.nii.gz", b"sub-002_a\nb.nii.gz"):
        (own / "sub-002" / os.fsdecode(name)).touch()
    (problem,) = check("bids", own)
    assert "there are" in problem and problem.isprintable() and problem.encode()


# Rescans that are none, and how they lie


@pytest.mark.parametrize("of", ["001_ses-1", "002", "10"])
def test_a_copy_is_no_rescan(of, own, tmp_path, capsys):
    "Neither of its own scan, nor of that of somebody else, before it or after it."
    write_person(own, "002", 70, "_run-2", mask=False)
    write_person(own, "10", 71, "_run-2", mask=False)
    prepare("bids", own, tmp_path / "sound", 0.5, 40, **LESION)
    (again,) = own.rglob("sub-002_run-2_T2w.nii.gz")
    (scan,) = own.rglob(f"sub-{of}_T2w.nii.gz")
    again.write_bytes(gzip.compress(gzip.decompress(scan.read_bytes()), 1))
    capsys.readouterr()
    table = prepare("bids", own, tmp_path / "slices", 0.5, 40, **LESION).table
    note = f"{again}: is the same scan as sub-{of}. Put the right scan there."
    assert f"note: {note}" in capsys.readouterr().out
    told = json.loads((tmp_path / "slices" / "rescans.json").read_text())
    assert told["notes"] == [note] and list(told["manifest"]) == ["sub-10/anat/sub-10_run-2_T2w.nii.gz"]
    sound, left = load_rescans(tmp_path / "sound"), load_rescans(tmp_path / "slices")
    copied = table.subject.eq("sub-002").to_numpy(copy=True)
    assert left[copied].isnan().all() and np.array_equal(left[~copied], sound[~copied], equal_nan=True)


def test_two_rescans_are_not_the_same(own, tmp_path):
    write_person(own, "002", 70, "_run-2", mask=False)
    write_person(own, "10", 70, "_run-2", mask=False)
    table = prepare("bids", own, tmp_path / "slices", 0.5, 40, **LESION).table
    (note,) = json.loads((tmp_path / "slices" / "rescans.json").read_text())["notes"]
    assert "sub-10_run-2_T2w.nii.gz: is the same scan as sub-002_run-2_T2w. Put the right scan there." in note
    there = ~load_rescans(tmp_path / "slices").isnan().flatten(1).any(1).numpy()
    assert set(table.subject[there]) == {"sub-002"}


def without_orientation(path):
    "The same file, which does not state how it lies."
    image = nib.load(path)
    image.set_sform(image.affine, 0)
    image.set_qform(image.affine, 0)
    path.write_bytes(gzip.compress(image.to_bytes(), 6, mtime=0))


@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPS", "RAI"])
def test_a_rescan_that_states_nothing_lies_as_its_scan_is_stored(axes, own, tmp_path):
    (scan,) = own.rglob("sub-002_T2w.nii.gz")
    again = scan.with_name("sub-002_run-2_T2w.nii.gz")
    shutil.copy(scan, again)
    for path in (scan, again, scan.with_name("sub-002_T2w_lesion.nii.gz")):
        image = nib.load(path)
        turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes))
        turned = image.as_reoriented(turn)
        values = np.asarray(turned.dataobj)
        write(path, 2 * values + 3 if path == again else values, turned.affine)
    prepare("bids", own, tmp_path / "stated", 0.5, 40, "grid", **LESION)
    without_orientation(again)
    s = prepare("bids", own, tmp_path / "slices", 0.5, 40, "grid", **LESION)
    rescans, mine = load_rescans(tmp_path / "slices"), s.table.subject.eq("sub-002").to_numpy(copy=True)
    assert np.allclose(rescans[mine], s.images[mine], atol=1e-4) and mine.sum() == DEPTH
    assert np.array_equal(rescans, load_rescans(tmp_path / "stated"), equal_nan=True)
    (note,) = json.loads((tmp_path / "slices" / "rescans.json").read_text())["notes"]
    assert note == "sub-002_run-2_T2w.nii.gz: states no orientation, taken to lie as it is stored"


def test_a_rescan_of_other_pixels_is_on_no_grid_whatever_it_states(own, tmp_path):
    write_person(own, "002", 70, "_run-2", mask=False)
    (again,) = own.rglob("sub-002_run-2_T2w.nii.gz")
    write(again, np.asarray(nib.load(again).dataobj), np.diag([0.6, 0.6, 5, 1]))
    without_orientation(again)
    prepare("bids", own, tmp_path / "slices", 0.5, 40, "grid", **LESION)
    (note,) = json.loads((tmp_path / "slices" / "rescans.json").read_text())["notes"]
    assert "sub-002_run-2_T2w.nii.gz: does not lie on the grid of sub-002_T2w.nii.gz" in note


def test_a_rescan_that_cannot_be_read_is_noted_by_all(own, tmp_path, capsys):
    write_person(own, "002", 70, "_run-2", mask=False)
    (again,) = own.rglob("sub-002_run-2_T2w.nii.gz")
    again.write_bytes(again.read_bytes()[:-50])
    words = ["check", str(own), "--image_suffix", "T2w", "--label_suffix", "lesion"]
    note = f"note: {again}: is cut short. Copy or download the file again."
    assert main(words) == 0 and note in capsys.readouterr().out.splitlines()
    prepare("bids", own, tmp_path / "slices", 0.5, 40, **LESION)
    assert note in capsys.readouterr().out.splitlines()
    assert json.loads((tmp_path / "slices" / "rescans.json").read_text()) == {"manifest": {}, "notes": [note[6:]]}
    with pytest.raises(DataError, match="holds no rescans"):
        load_rescans(tmp_path / "slices")


# Sides without anybody, numbers of numpy, options by hand


def test_a_person_at_two_sites_is_seen_before_anything_runs(own, tmp_path):
    for i in (1, 2):
        (sidecar := own / "sub-001" / f"ses-{i}" / "anat" / f"sub-001_ses-{i}_T2w.json").touch()
        sidecar.write_text(json.dumps({"InstitutionName": ["Basel", "Bern"][i - 1]}))
    (own / "participants.tsv").unlink()
    check_dataset("bids", own, Bids(**LESION), ["paper"])
    with pytest.raises(DataError, match="own, fold Bern: has 001 in training and in validation. Keep all"):
        check_dataset("bids", own, Bids(**LESION), ["paper", "Bern"])


@pytest.mark.parametrize("share, side", [(0, "train"), (1, "val")])
def test_a_side_that_nobody_is_on_is_not_missed(share, side, own, tmp_path):
    s = prepare("bids", own, tmp_path / "slices", 0.5, 40, **LESION, val_share=share)
    assert set(s.table.split) == {side}


def test_slices_that_are_all_dropped_are_counted(own, tmp_path):
    for scan in own.rglob("*_T2w.nii.gz"):
        cord = arrays(shift=(3, -2))[2]
        mask = scan.with_name(scan.name.replace("_T2w", "_T2w_lesion"))
        marked = np.asarray(nib.load(mask).dataobj).copy()
        marked[..., 2], cord[..., :2] = 0, 0
        write(mask, marked)
        write(scan.with_name(scan.name.replace("_T2w", "_T2w_seg")), cord)
    with pytest.raises(DataError, match="no slice left for training and validation .dropped: 6 no lesion, 12 no cord"):
        prepare("bids", own, tmp_path / "slices", 0.5, 40, **LESION, cord_suffix="seg")
    assert not (tmp_path / "slices").exists()


def test_numbers_of_numpy_are_numbers(own, tmp_path):
    plain = prepare("bids", own, tmp_path / "plain", 0.5, 40, **LESION)
    for i, area in enumerate([np.array([2, 50]), (np.int64(2), np.float32(50)), np.array([2.0, 50.0])]):
        out, how = tmp_path / str(i), {"val_share": np.float64(0.2), "off_centre": np.float32(0.5), "area_mm2": area}
        s = prepare("bids", own, out, np.float32(0.5), np.int64(40), **LESION, **how)
        assert s.images.equal(plain.images) and s.table.equals(plain.table)
        report = json.loads((out / "report.json").read_text())
        assert report["bids"]["area_mm2"] == [2, 50] and (report["spacing_mm"], report["crop_px"]) == (0.5, 40)
    for wrong in (np.array([2]), np.array([[2, 50]]), np.array(["a", "b"]), np.zeros((2, 2)), np.array(3)):
        with pytest.raises(ValueError, match="area_mm2 must be a") as e:
            Bids(area_mm2=wrong)
        assert "\n" not in str(e.value)


def test_an_option_of_bids_means_bids(own, capsys):
    words = ["check", str(own), "--image_suffix", "T2w", "--label_suffix", "lesion"]
    assert main(words) == 0 and "sub-001_ses-1 1.0" in capsys.readouterr().out
    assert main([*words, "--dataset", "gm_challenge"]) == 1
    told = "--image_suffix is an option of bids, not of gm_challenge: leave it out\n"
    assert capsys.readouterr().out == told
    assert main(["check", str(own)]) == 1 and "no gm_challenge data" in capsys.readouterr().out


# Folders that may not be looked at, as nobody but root may


CLOSED = """
import encodings.utf_8_sig  # while it may be read
import os
import sys
from pathlib import Path
import psutil
from ada_repro.data.bids import Bids
from ada_repro.core import DataError
from ada_repro.data.datasets import check, prepare
os.seteuid(65534)
raw, out = map(Path, sys.argv[1:])
print(check("bids", raw, how=Bids("T2w", "lesion")))
try:
    prepare("bids", raw, out, 0.5, 40, image_suffix="T2w", label_suffix="lesion")
except DataError as e:
    print(e)
"""


@pytest.mark.parametrize(
    "link, words",
    [
        ("sub-002/anat/link.txt", "[]"),
        ("sub-99", "sub-99: cannot be read (Permission denied). Make it readable, or remove it."),
        ("derivatives", "derivatives: cannot be read (Permission denied). Make it readable, or remove it."),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_lies_in_a_closed_folder_is_one_line(link, words, own, tmp_path):
    closed = tmp_path / "closed"
    (closed / "in").mkdir(parents=True)
    closed.chmod(0o700)
    (own / link).symlink_to(closed / "in" / "x")
    with TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        raw = shutil.copytree(own, Path(open_to_all) / "own", symlinks=True)
        command = [sys.executable, "-c", CLOSED, raw, closed / "new" / "slices"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and words in done.stdout, done.stderr
    assert done.stdout.endswith("slices: cannot be made (Permission denied). Choose another folder.\n")


@pytest.mark.parametrize("name", ["x" * 300, "file/own", "nothing"])
def test_a_folder_that_cannot_be_is_one_line(name, tmp_path, capsys):
    (tmp_path / "file").touch()
    (problem,) = check("bids", tmp_path / name, how=Bids(**LESION))
    assert str(tmp_path) in problem and ("is not a folder" in problem or "cannot be read (File name" in problem)
    assert main(["check", str(tmp_path / name)]) == 1 and len(capsys.readouterr().out.splitlines()) == 1
