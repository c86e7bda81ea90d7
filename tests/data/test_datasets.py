"""Whole data sets: who is in them, what no single file shows, and nothing written unless all is well."""

import gzip
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file
from scans import DEPTH, REAL, SIDE, arrays, needs_real, spoil, write

from ada_repro.core import ROOT, DataError, folder_hash
from ada_repro.data import datasets as data
from ada_repro.data.datasets import DATASETS, Bids, Subject, check, list_left_out, list_subjects, main, prepare
from ada_repro.data.slices import load_rescans, load_slices
from ada_repro.method.unet import UNet


def test_scgm_layout(challenge, tmp_path, capsys):
    s = prepare("scgm", challenge, tmp_path / "slices", 0.5, 40)
    assert "site4" in capsys.readouterr().out
    assert s.images.shape == (80, 1, 40, 40) and s.targets.shape == (80, 4, 40, 40) and len(s.table) == 80 == len(s)
    assert (
        s.images.dtype.is_floating_point
        and s.images.mean((1, 2, 3)).abs().max() < 1e-5
        and (s.images.std((1, 2, 3)) - 1).abs().max() < 1e-3
    )
    assert set(s.subset("val").table.subject) == {f"site{i}-sc{j}" for i in range(1, 5) for j in ("09", "10")}
    assert len(s.subset("train")) == 64 and set(s.table.slice) == {1, 2}
    report = json.loads((tmp_path / "slices" / "report.json").read_text())
    assert (
        len(report["manifest"]) == 200
        and sum(r["dropped"].get("no GM", 0) for r in report["inventory"]) == 40
        and not report["simulated"]
    )
    assert sorted(p.name for p in (tmp_path / "slices").iterdir()) == [
        "images.npy",
        "report.json",
        "slices.csv",
        "targets.npy",
    ]


def test_prepared_twice_is_the_same(challenge, tmp_path):
    for name in "ab":
        prepare("phantom", challenge, tmp_path / name, 0.6, 32)
    for p in (tmp_path / "a").iterdir():
        assert p.read_bytes() == (tmp_path / "b" / p.name).read_bytes()


def test_a_smaller_phantom_is_whole(copy, tmp_path):
    for p in copy.glob("*-sc*"):
        if p.name[8:10] not in ("01", "09"):
            p.unlink()
    assert not check("phantom", copy) and len(check("scgm", copy)) == 32
    (copy / "site2-sc09-image.nii.gz").unlink()
    assert len(check("phantom", copy)) == 1
    for p in copy.glob("site3-sc01-*"):
        p.unlink()
    assert len(check("phantom", copy)) == 2


def test_the_check_by_hand_of_a_smaller_phantom(copy, capsys):
    for p in copy.glob("*-sc*"):
        if p.name[8:10] not in ("01", "09"):
            p.unlink()
    assert main(["check", str(copy), "--dataset", "phantom"]) == 0 and "site4" in capsys.readouterr().out
    (named := copy.parent / "phantom").symlink_to(copy)
    assert main(["check", str(named)]) == 0 and main(["check", str(copy)]) == 1
    capsys.readouterr()
    spoil(copy / "site1-sc09-mask-r2.nii.gz", b"")
    spoil(copy / "site4-sc01-image.nii.gz", b"")
    assert main(["check", str(copy), "--dataset", "phantom"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert "site1-sc09-mask-r2" in first and "site4-sc01-image" in second


@pytest.mark.parametrize("off_mm", [(0, 0), (15, -20), (-24, 5)])
def test_a_phantom_is_cropped_around_its_cord_and_the_challenge_is_not(off_mm, tmp_path):
    "In a field of 100 mm the cord may be 25 mm off the middle; its slice is the one of a cord in the middle."
    raw = tmp_path / "raw"
    for i, name in enumerate(f"site{s}-sc{n:02}" for s in range(1, 5) for n in range(1, 11)):
        image, mask, _ = (
            np.pad(a, [(68, 68), (68, 68), (0, 0)], mode="wrap" if a.dtype == np.float32 else "constant")
            for a in arrays(seed=i)
        )
        image, mask = (np.roll(a, (2 * np.array(off_mm)), (0, 1)) for a in (image, mask))
        write(raw / f"{name}-image.nii.gz", image)
        for r in range(1, 5):
            write(raw / f"{name}-mask-r{r}.nii.gz", mask)

    def middle(s):
        return (np.argwhere(s.consensus.numpy().any(0)).mean(0) - 39.5).round(6).tolist()

    assert middle(prepare("phantom", raw, tmp_path / "phantom", 0.5, 80)) == [0, 0]
    if max(map(abs, off_mm)) < 18:
        assert middle(prepare("scgm", raw, tmp_path / "scgm", 0.5, 80)) == [-2 * off_mm[1], 2 * off_mm[0]]
    else:
        with pytest.raises(DataError, match="beyond the crop"):
            prepare("scgm", raw, tmp_path / "scgm", 0.5, 80)


def test_a_phantom_without_white_matter_has_no_cord(copy, tmp_path):
    for r in range(1, 5):
        spoil(path := copy / f"site1-sc01-mask-r{r}.nii.gz", b"")
        write(path, (arrays()[1] == 1).astype(np.uint8))
    (problem,) = check("phantom", copy)
    assert "site1-sc01-image.nii.gz: has no cord" in problem and check("scgm", copy) == []
    with pytest.raises(DataError, match="has no cord"):
        prepare("phantom", copy, tmp_path / "slices", 0.5, 40)


@pytest.mark.parametrize("site", ["site1", "site3"])
def test_leave_one_site_out(site, challenge, tmp_path):
    s = prepare("scgm", challenge, tmp_path / "s", 0.5, 40, held_out=site)
    assert set(s.subset("val").table.site) == {site} and set(s.subset("train").table.site) == {
        f"site{i}" for i in range(1, 5)
    } - {site}
    assert s.subset("val").table.subject.nunique() == 10 and len(s) == 80
    assert json.loads((tmp_path / "s" / "report.json").read_text())["held_out"] == site
    standard = prepare("scgm", challenge, tmp_path / "standard", 0.5, 40, held_out="none")
    assert np.array_equal(standard.images, s.images) and standard.subset("val").table.site.nunique() == 4
    assert (tmp_path / "standard" / "report.json").read_text() != (tmp_path / "s" / "report.json").read_text()


@pytest.mark.parametrize("site", ["site5", "Site1", "", "../site1", "site1-sc01"])
def test_an_unknown_site_cannot_be_held_out(site, challenge, tmp_path):
    with pytest.raises(DataError, match="is not a site. Known are none, site1, site2, site3, site4") as e:
        prepare("phantom", challenge, tmp_path / "s", 0.5, 40, held_out=site)
    assert "\n" not in str(e.value) and not list(tmp_path.iterdir())


def test_nobody_is_held_out_by_half(challenge, tmp_path):
    def two_scanners(folder):
        return [
            Subject(
                f"site{i}",
                f"sc0{i}",
                "anna",
                "train",
                folder / f"site{i}-sc01-image.nii.gz",
                [folder / f"site{i}-sc01-mask-r1.nii.gz"],
            )
            for i in (1, 2)
        ]

    data.dataset_layout(two_scanners)
    try:
        assert len(prepare("two_scanners", challenge, tmp_path / "standard", 0.5, 40).subset("train")) == 4
        with pytest.raises(DataError, match="anna"):
            prepare("two_scanners", challenge, tmp_path / "s", 0.5, 40, held_out="site2")
    finally:
        del DATASETS["two_scanners"]
    assert not (tmp_path / "s").exists()


SPOILT = {
    "missing rater": ("site1-sc03-mask-r2.nii.gz", lambda folder, p: p.unlink()),
    "missing subject": ("site4-sc10", lambda folder, p: [q.unlink() for q in folder.glob("site4-sc10-*")]),
    "same scan twice": (
        "site2-sc02-image.nii.gz",
        lambda folder, p: spoil(p, (folder / "site2-sc01-image.nii.gz").read_bytes()),
    ),
    "same scan, compressed anew": (
        "site2-sc02-image.nii.gz",
        lambda folder, p: spoil(
            p, gzip.compress(gzip.decompress((folder / "site2-sc01-image.nii.gz").read_bytes()), 1)
        ),
    ),
    "damaged at the very end": ("site4-sc10-image.nii.gz", lambda folder, p: spoil(p, p.read_bytes()[:-1])),
    "not NIfTI": ("site1-sc01-image.nii.gz", lambda folder, p: spoil(p, b"not a scan")),
}


@pytest.mark.parametrize("name", SPOILT)
def test_nothing_is_written_on_failure(name, copy, tmp_path):
    where, make = SPOILT[name]
    make(copy, copy / where)
    with pytest.raises(DataError, match=where):
        prepare("scgm", copy, tmp_path / "slices", 0.5, 40)
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_an_older_result_survives_a_failure(copy, tmp_path):
    prepare("scgm", copy, tmp_path / "slices", 0.5, 40)
    (copy / "site1-sc01-image.nii.gz").unlink()
    with pytest.raises(DataError):
        prepare("scgm", copy, tmp_path / "slices", 0.5, 32)
    assert load_slices(tmp_path / "slices").images.shape[-1] == 40


def test_check_lists_all_problems(copy, capsys):
    (copy / "site1-sc03-mask-r2.nii.gz").unlink()
    spoil(copy / "site1-sc03-image.nii.gz", b"")
    spoil(copy / "site2-sc01-image.nii.gz", (copy / "site3-sc01-image.nii.gz").read_bytes())
    nan = arrays()[0]
    nan[0] = np.nan
    (copy / "site4-sc07-image.nii.gz").unlink()
    write(copy / "site4-sc07-image.nii.gz", nan)
    problems = check("scgm", copy)
    assert len(problems) == 4 and not any("\n" in p for p in problems)
    assert main(["check", str(copy)]) == 1
    assert capsys.readouterr().out.splitlines() == problems


def test_check_from_the_command_line(challenge):
    def run(*words):
        command = [sys.executable, "-m", "ada_repro.data.datasets", "check", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    good = run(challenge)
    assert good.returncode == 0 and "site1" in good.stdout and "Traceback" not in good.stderr
    bad = run(challenge, "--dataset", "scmg")
    assert bad.returncode == 1 and len(bad.stdout.splitlines()) == 1 and "scgm" in bad.stdout


def test_a_glance_before_long_work(challenge, tmp_path):
    data.check_dataset("scgm", challenge)
    data.check_dataset("phantom", tmp_path / "still to be made")
    for name, folder in (
        ("scmg", challenge),
        ("scgm", tmp_path),
        ("gm_challenge", challenge),
        ("scgm", tmp_path / "nowhere"),
    ):
        with pytest.raises(DataError):
            data.check_dataset(name, folder)
    assert [main(["check", str(f)]) for f in (challenge / "nowhere", challenge.parent, tmp_path)] == [1, 1, 1]


def test_wrong_names_and_folders(challenge, tmp_path):
    with pytest.raises(DataError, match="gm_chalenge.*phantom.*scgm|gm_chalenge.*scgm.*phantom"):
        prepare("gm_chalenge", challenge, tmp_path / "s", 0.5, 40)
    with pytest.raises(DataError, match="nowhere"):
        prepare("scgm", tmp_path / "nowhere", tmp_path / "s", 0.5, 40)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        prepare("scgm", tmp_path / "empty", tmp_path / "s", 0.5, 40)
    with pytest.raises(DataError, match="no gm_challenge data"):
        prepare("gm_challenge", challenge, tmp_path / "s", 0.5, 40)
    with pytest.raises(DataError, match="beyond the crop"):
        prepare("scgm", challenge, tmp_path / "s", 0.5, 8)
    for spacing, crop in ((0, 40), (-1, 40), (float("nan"), 40), (0.5, 0)):
        with pytest.raises(ValueError):
            prepare("scgm", challenge, tmp_path / "s", spacing, crop)
    with pytest.raises(ValueError, match="replace"):
        prepare("scgm", challenge, challenge.parent, 0.5, 40)
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    "name", ["../scgm", "../../raw/scgm", "/etc", "scgm/../scgm", "scgm/", ".", "", "scgm\nphantom"]
)
def test_a_name_is_no_path(name, challenge, tmp_path):
    raw = tmp_path / "data" / "raw" / "scgm"
    shutil.copytree(challenge, raw, copy_function=os.link)
    for run in (
        lambda: data.check_dataset(name, raw.parent / name),
        lambda: prepare(name, raw.parent / name, tmp_path / "data" / "slices", 0.5, 40),
    ):
        with pytest.raises(DataError, match="is not known. Known are scgm, phantom, gm_challenge, bids") as e:
            run()
        assert "\n" not in str(e.value)
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["raw"]


def test_no_archive_is_unpacked_by_us():
    for p in [*(ROOT / "ada_repro").rglob("*.py"), *(ROOT / "nbs").rglob("*.ipynb")]:
        assert not re.search(r"tarfile|zipfile|unpack_archive|pickle\.load", p.read_text()), p


def test_a_person_on_both_sides(challenge, tmp_path):
    def split_wrong(folder):
        return [
            Subject(
                "s",
                f"sc0{i}",
                "anna",
                split,
                folder / f"site1-sc0{i}-image.nii.gz",
                [folder / f"site1-sc0{i}-mask-r1.nii.gz"],
            )
            for i, split in ((1, "train"), (2, "val"))
        ]

    data.dataset_layout(split_wrong)
    try:
        with pytest.raises(DataError, match="anna"):
            prepare("split_wrong", challenge, tmp_path / "s", 0.5, 40)
    finally:
        del DATASETS["split_wrong"]
    prepare("scgm", challenge, tmp_path / "s", 0.5, 40)
    table = pd.read_csv(tmp_path / "s" / "slices.csv")
    table.assign(person="anna").to_csv(tmp_path / "s" / "slices.csv", index=False)
    with pytest.raises(DataError, match="anna"):
        load_slices(tmp_path / "s")


def test_minority_slices_are_dropped(tmp_path):
    image, mask, _ = arrays()
    mine = mask.copy()
    mine[..., 0] = 2 * (mask[..., 0] > 0)

    def pair(folder):
        return [
            Subject(
                "s",
                "a",
                "a",
                "train",
                write(folder / "a.nii.gz", image),
                [write(folder / "r1.nii.gz", mask), write(folder / "r2.nii.gz", mine)],
            )
        ]

    (tmp_path / "raw").mkdir()
    pair(tmp_path / "raw")
    data.dataset_layout(pair)
    try:
        s = prepare("pair", tmp_path / "raw", tmp_path / "s", 0.5, 40)
    finally:
        del DATASETS["pair"]
    assert list(s.table.slice) == [1, 2]
    assert json.loads((tmp_path / "s" / "report.json").read_text())["inventory"][0]["dropped"] == {
        "GM of a minority": 1
    }


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
    milan = prepare("gm_challenge", bids, tmp_path / "milan", 0.5, 40, held_out="Milan")
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
    twice = s.table.subject.isin(["sub-9418", "sub-9584"]).to_numpy()
    assert np.allclose(rescans[twice], s.images[twice], atol=1e-4) and rescans[~twice].isnan().all()
    for name in ("images.npy", "targets.npy", "slices.csv", "report.json"):
        assert (tmp_path / "slices" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert len(plain) == len(rescans)


# A data set of one's own


@pytest.fixture
def own(tmp_path):
    "Five people, one of them in two sessions, with a lesion mask beside the scan and no cord."
    folder = tmp_path / "own"
    for i, person in enumerate(["001", "002", "10", "null", "NA"]):
        for session in ("_ses-1", "_ses-2") if person == "001" else ("",):
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
    s = prepare("bids", own, tmp_path / "slices", 0.5, 40, held_out="NA", **LESION)
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
    assert "no mask *_gm" in problem and "there are T2w, lesion" in problem
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


def test_a_name_that_is_not_utf8_is_one_line(own):
    folder = own / os.fsdecode(b"sub-\xff\xfe")
    write(folder / os.fsdecode(b"sub-\xff\xfe_T2w.nii.gz"), arrays()[0])
    (problem,) = check("bids", own, how=Bids(**LESION))
    assert "not UTF-8" in problem and problem.encode() and "\n" not in problem


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


# What DVC notices


@pytest.fixture
def checkout(challenge, tmp_path):
    "A fresh clone on the smoke profile, its raw data a link as data/README tells to make it."
    folder, raw = tmp_path / "ada_repro", tmp_path / "challenge"
    names = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, names.split("\0")):
        if not (ROOT / name).is_file():
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    params = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(
        params.replace("dataset: phantom", "dataset: scgm").replace("profile: *laptop", "profile: *smoke")
    )
    shutil.copytree(challenge, raw)
    (folder / "data" / "raw").mkdir(parents=True)
    (folder / "data" / "raw" / "scgm").symlink_to(raw)
    (folder / "data" / "arms").mkdir()
    (folder / "data" / "arms" / "README.txt").touch()  # as the check stage leaves it
    (folder / "data" / "code").mkdir()
    (folder / "data" / "code" / "prepare.txt").touch()
    return folder


def repro_prepare(folder):
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--single-item", "prepare"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_changed_raw_file_is_noticed(checkout):
    manifests = []
    for seed in (None, 99):
        if seed:
            write(checkout / "data" / "raw" / "scgm" / "site2-sc05-image.nii.gz", arrays(seed)[0])
        code, output = repro_prepare(checkout)
        assert code == 0 and "Running stage 'prepare'" in output, output[-3000:]
        manifests.append(json.loads((checkout / "data" / "slices" / "report.json").read_text()))
    before, after = manifests
    assert len(before["manifest"]) == 200 and after["manifest_sha256"] != before["manifest_sha256"]
    assert [k for k, digest in before["manifest"].items() if digest != after["manifest"][k]] == [
        "site2-sc05-image.nii.gz"
    ]


# The open data


@needs_real
def test_open_data_is_sound(tmp_path):
    rows = []
    assert check("gm_challenge", REAL, rows) == []
    assert {r["subject"][4:]: r["gm_slices"] for r in rows} == {
        "9418": 17,
        "9584": 17,
        "9604": 15,
        "9709Ses1": 20,
        "9709Ses2": 20,
        "10062Ses1": 20,
        "10062Ses2": 20,
    }
    notes = [n for r in rows for n in r["notes"]]
    assert len(notes) == 1 and "9604" in notes[0] and "slice 17" in notes[0]


@needs_real
def test_open_data_prepared(tmp_path):
    s = prepare("gm_challenge", REAL, tmp_path / "s", 0.5, 80)
    assert s.table.subject.nunique() == 7 and s.table.person.nunique() == 5
    assert not set(s.subset("train").table.person) & set(s.subset("val").table.person)
    assert set(s.subset("val").table.person) == {"9418", "9604"} and len(s) == 128 and len(s.subset("val")) == 31
    area = s.consensus.sum((1, 2)) * 0.25
    assert area.min() > 9 and area.max() < 23
    centre = np.array([np.argwhere(c).mean(0) for c in s.consensus.numpy()]) - 39.5
    assert np.abs(centre).max() < 14


# The realism benchmark


@pytest.fixture
def trained(challenge, tmp_path):
    "A project whose baseline has ended; its network has learnt nothing."
    (tmp_path / "dvc.yaml").touch()
    slices, run = tmp_path / "data" / "slices", tmp_path / "data" / "runs" / "baseline-0"
    prepare("phantom", challenge, slices, 0.5, 40)
    run.mkdir(parents=True)
    save_file(UNet(2).state_dict(), run / "best.safetensors")
    (run / "run.json").write_text(json.dumps({"params": {"threshold": 0.5}, "data": folder_hash(slices)}))
    return tmp_path


def realism(folder, raw):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "realism.py", raw], cwd=folder, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_realism_is_of_phantoms_alone(trained, challenge):
    phantom_run = runpy.run_path(str(ROOT / "benchmarks" / "realism.py"))["phantom_run"]
    run, slices = trained / "data" / "runs" / "baseline-0", trained / "data" / "slices"
    assert phantom_run(run, slices)[1]["crop_px"] == 40
    code, out, err = realism(trained, challenge)
    assert (
        code == 1
        and err.startswith("realism: ")
        and "no gm_challenge data" in err
        and len(err.splitlines()) == 1
        and not (trained / "benchmarks").exists()
    )
    prepare("phantom", challenge, slices, 1.0, 40)
    with pytest.raises(DataError, match="was not trained on"):
        phantom_run(run, slices)
    prepare("scgm", challenge, slices, 0.5, 40)
    with pytest.raises(DataError, match="holds scgm slices"):
        phantom_run(run, slices)
    (run / "run.json").unlink()
    with pytest.raises(DataError, match="no finished run"):
        phantom_run(run, slices)


@needs_real
def test_realism_counts_every_real_slice(trained):
    code, out, err = realism(trained, REAL)
    assert code == 0 and "5 people" in out, err
    table, stored = (
        pd.read_csv(trained / "benchmarks" / "realism.csv"),
        pd.read_csv(ROOT / "benchmarks" / "realism.csv"),
    )
    assert table.columns.tolist() == stored.columns.tolist() == ["subject", "site", "slices", "DSC"]
    assert table.drop(columns="DSC").equals(stored.drop(columns="DSC")) and stored.slices.sum() == 128
    assert np.average(stored.DSC, weights=stored.slices) > 60
