"""Data in BIDS: the layout of the open data, a folder of one's own, and what is left alone in it."""

import gzip
import json
import os
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from scans import DEPTH, SIDE, arrays, spoil, write

from ada_repro.core import DataError
from ada_repro.data.bids import Bids
from ada_repro.data.datasets import check, check_dataset, list_left_out, list_subjects, main, prepare
from ada_repro.data.slices import load_rescans, load_slices

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
    s = prepare("bids", own, tmp_path / "slices", 0.5, 40, **LESION, area_mm2=["none"], contrast="any")
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
