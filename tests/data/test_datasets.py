"""Whole data sets: who is in them, what no single file shows, and nothing written unless all is well."""

import gzip
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from scans import CHALLENGE, REAL, arrays, needs_real, spoil, write

from ada_repro.core import ROOT, DataError
from ada_repro.data.datasets import check, check_dataset, main, prepare
from ada_repro.data.slices import load_slices
from ada_repro.data.subjects import DATASETS, Subject, dataset_layout
from ada_repro.data.tables import read_table, save_table
from ada_repro.method.unet import UNet
from ada_repro.train.runs import folder_hash


def test_scgm_layout(challenge, tmp_path, capsys):
    s = prepare("scgm", challenge, tmp_path / "slices", 0.5, 40)
    assert "site4" in capsys.readouterr().out
    assert s.images.shape == (80, 1, 40, 40) and s.targets.shape == (80, 4, 40, 40) and len(s.table) == 80 == len(s)
    assert (
        s.images.dtype.is_floating_point
        and s.images.mean((1, 2, 3)).abs().max() < 1e-5
        and (s.images.std((1, 2, 3)) - 1).abs().max() < 1e-3
    )
    assert set(s.subset("val").table.subject) == {name for name in CHALLENGE if name[-2:] in ("09", "10")}
    assert len(s.subset("train")) == 64 and set(s.table.slice) == {1, 2}
    report = json.loads((tmp_path / "slices" / "report.json").read_text())
    assert (
        len(report["manifest"]) == 200
        and sum(r["dropped"].get("no GM", 0) for r in report["inventory"]) == 40
        and not report["simulated"]
    )
    assert all(r["contrast"] > 1.05 and r["contrast_in_noise"] > 1 for r in report["inventory"])
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
    for i, name in enumerate(CHALLENGE):
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
    standard = prepare("scgm", challenge, tmp_path / "s", 0.5, 40)
    s = load_slices(tmp_path / "s", fold=site)
    others = {f"site{i}" for i in range(1, 5)} - {site}
    assert set(s.subset("val").table.site) == {site} and set(s.subset("train").table.site) == others
    assert s.subset("val").table.subject.nunique() == 10 and len(s) == 80
    assert standard.images.equal(s.images) and standard.targets.equal(s.targets)
    assert standard.table.drop(columns="split").equals(s.table.drop(columns="split"))
    assert standard.subset("val").table.site.nunique() == 4
    assert load_slices(tmp_path / "s", fold="paper").table.equals(standard.table)


@pytest.mark.parametrize("site", ["site5", "Site1", "", "none", "../site1", "site1-sc01"])
def test_an_unknown_site_cannot_be_held_out(site, challenge, tmp_path):
    prepare("phantom", challenge, tmp_path / "s", 0.5, 40)
    with pytest.raises(DataError, match="is not a site of .*Known are paper, site1, site2, site3, site4") as e:
        load_slices(tmp_path / "s", fold=site)
    assert "\n" not in str(e.value)


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

    dataset_layout(two_scanners)
    try:
        assert len(prepare("two_scanners", challenge, tmp_path / "standard", 0.5, 40).subset("train")) == 4
    finally:
        del DATASETS["two_scanners"]
    with pytest.raises(DataError, match="anna"):
        load_slices(tmp_path / "standard", fold="site2")


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


def test_a_challenge_that_is_not_compressed(copy, challenge, tmp_path):
    for p in list(copy.iterdir())[::2]:
        p.with_suffix("").write_bytes(gzip.decompress(p.read_bytes()))
        p.unlink()
    s = prepare("scgm", copy, tmp_path / "slices", 0.5, 40)
    truth = prepare("scgm", challenge, tmp_path / "truth", 0.5, 40)
    assert np.array_equal(s.images, truth.images) and np.array_equal(s.targets, truth.targets)
    assert set(json.loads((tmp_path / "slices" / "report.json").read_text())["manifest"]) == {
        p.name for p in copy.iterdir()
    }
    for name in ("site1-sc01-image.nii", "site1-sc01-image.nii.gz"):
        (copy / name).unlink(missing_ok=True)  # linked to the original
        (copy / name).write_bytes(b"old or new")
    (problem,) = check("scgm", copy)
    assert "site1-sc01-image.nii.gz: stands there a second time" in problem


def everything(folder):
    "All files below a folder, and what is in them."
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize(
    "out, words",
    [
        ("raw", "would replace raw data"),
        ("raw/derivatives", "holds what prepare did not write, such as masks.txt"),
        ("link/derivatives", "holds what prepare did not write, such as masks.txt"),
        (".", "would replace raw data"),
        ("results", "results: holds what prepare did not write, such as thesis.tex, and would be replaced. Choose"),
        ("results/thesis.tex", "thesis.tex: is a file. Choose"),
        ("results/thesis.tex/slices", "slices: cannot be made (Not a directory). Choose"),
        ("x" * 300, "cannot be made (File name too long). Choose"),
        ("new/" + "x" * 250, "cannot be made (File name too long). Choose"),
    ],
)
def test_no_folder_but_its_own_is_replaced(out, words, copy, tmp_path):
    (copy / "derivatives").mkdir()
    (copy / "derivatives" / "masks.txt").write_text("of many hours")
    (tmp_path / "link").symlink_to(copy)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "thesis.tex").write_text("all of it")
    before = everything(tmp_path)
    with pytest.raises((DataError, ValueError), match=re.escape(words)) as e:
        prepare("scgm", copy, tmp_path / out, 0.5, 40)
    assert "\n" not in str(e.value) and everything(tmp_path) == before


def test_a_checkout_may_lie_in_the_study_that_it_reads(copy):
    before = everything(copy)
    prepare("scgm", copy, copy / "code" / "data" / "slices", 0.5, 32)
    assert before.items() <= everything(copy).items() and len(load_slices(copy / "code" / "data" / "slices"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_one_line(copy, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(DataError, match="slices: cannot be made .Permission denied"):
        prepare("scgm", copy, tmp_path / "locked" / "slices", 0.5, 40)


@pytest.mark.parametrize("there", [None, "empty", "linked", "half", "more"])
def test_its_own_folder_is_replaced(there, challenge, tmp_path):
    out = tmp_path / "slices"
    if there == "empty":
        out.mkdir()
    if there == "linked":
        out.symlink_to(tmp_path / "scratch")
    if there in ("half", "more"):
        prepare("scgm", challenge, out, 0.5, 32)
        (out / "notes.txt").touch()
    if there == "half":
        (out / "notes.txt").unlink()
        (out / "slices.csv").unlink()
    assert prepare("scgm", challenge, out, 0.5, 40).images.shape[-1] == 40
    assert {p.name for p in out.iterdir()} == {"images.npy", "targets.npy", "slices.csv", "report.json"}
    rest = {"scratch"} if there == "linked" else set()
    assert {p.name for p in tmp_path.iterdir()} == {"slices"} | rest and out.is_symlink() == (there == "linked")


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
    check_dataset("scgm", challenge)
    check_dataset("phantom", tmp_path / "still to be made")
    for name, folder in (
        ("scmg", challenge),
        ("scgm", tmp_path),
        ("gm_challenge", challenge),
        ("scgm", tmp_path / "nowhere"),
    ):
        with pytest.raises(DataError):
            check_dataset(name, folder)
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
        lambda: check_dataset(name, raw.parent / name),
        lambda: prepare(name, raw.parent / name, tmp_path / "data" / "slices", 0.5, 40),
    ):
        with pytest.raises(DataError, match="is not known. Known are scgm, phantom, gm_challenge, bids") as e:
            run()
        assert "\n" not in str(e.value)
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["raw"]


def test_no_archive_is_unpacked_by_us():
    for p in [*(ROOT / "ada_repro").rglob("*.py"), *(ROOT / "nbs").rglob("*.ipynb")]:
        assert not re.search(r"tarfile|extractall|unpack_archive|pickle\.load", p.read_text()), p


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

    dataset_layout(split_wrong)
    try:
        with pytest.raises(DataError, match="anna"):
            prepare("split_wrong", challenge, tmp_path / "s", 0.5, 40)
    finally:
        del DATASETS["split_wrong"]
    prepare("scgm", challenge, tmp_path / "s", 0.5, 40)
    table = read_table(tmp_path / "s" / "slices.csv")
    save_table(table.assign(person="anna"), tmp_path / "s" / "slices.csv")
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
    dataset_layout(pair)
    try:
        s = prepare("pair", tmp_path / "raw", tmp_path / "s", 0.5, 40)
    finally:
        del DATASETS["pair"]
    assert list(s.table.slice) == [1, 2]
    assert json.loads((tmp_path / "s" / "report.json").read_text())["inventory"][0]["dropped"] == {
        "GM of a minority": 1
    }


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
    notes = list(chain.from_iterable(r["notes"] for r in rows))
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
    slices, run = tmp_path / "data" / "slices", tmp_path / "data" / "runs" / "baseline-paper-0"
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
    run, slices = trained / "data" / "runs" / "baseline-paper-0", trained / "data" / "slices"
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
        read_table(trained / "benchmarks" / "realism.csv"),
        read_table(ROOT / "benchmarks" / "realism.csv"),
    )
    assert table.columns.tolist() == stored.columns.tolist() == ["subject", "site", "slices", "DSC"]
    assert table.drop(columns="DSC").equals(stored.drop(columns="DSC")) and stored.slices.sum() == 128
    assert np.average(stored.DSC, weights=stored.slices) > 60
