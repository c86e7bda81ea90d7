"""Resampling checked by hand and on every processor; folds; prepared slices that are broken are refused."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scans import SIDE, arrays

from ada_repro.core import ROOT, DataError
from ada_repro.data.datasets import prepare
from ada_repro.data.slices import (
    Slices,
    load_rescans,
    load_slices,
    resample,
    sampling_matrix,
    some_people,
    split_by_fold,
    zscore,
)
from ada_repro.data.tables import read_table, save_table


@pytest.mark.parametrize("spacing_mm", [0.25, 0.4, 0.5, 0.7, 1.0])
def test_area_in_mm2_is_kept(spacing_mm, challenge, tmp_path):
    s = prepare("scgm", challenge, tmp_path / "s", spacing_mm, int(32 / spacing_mm))
    before = (arrays()[1][..., 1] == 1).sum() * 0.25
    after = s.targets.sum((2, 3)).numpy() * spacing_mm**2
    assert abs(after / before - 1).max() < 0.05


def test_same_grid_changes_nothing_and_the_front_is_up(challenge, tmp_path):
    s = prepare("scgm", challenge, tmp_path / "s", 0.5, SIDE)
    image, mask, _ = arrays(seed=0)
    a = np.rot90(image[..., 1])
    assert np.allclose(s.images[0, 0], (a - a.mean()) / a.std(), atol=1e-4)
    assert np.array_equal(s.targets[0, 0], np.rot90(mask[..., 1] == 1))


def test_beyond_the_scan_is_the_mean(challenge, tmp_path):
    s = prepare("scgm", challenge, tmp_path / "s", 0.5, SIDE + 20)
    assert (
        (s.images[:, :, :10] == 0).all()
        and (s.images[:, :, :, -10:] == 0).all()
        and (s.images[:, :, 10:-10, 10:-10] != 0).all()
    )


def test_a_line_stays_a_line():
    m = sampling_matrix(40, 19.5, 0.5, 0.2, 60)
    assert np.allclose(m @ (np.arange(40) * 0.5), 19.5 * 0.5 + (np.arange(60) - 29.5) * 0.2, atol=1e-5)
    stripes = np.arange(40) % 2.0
    assert np.abs(sampling_matrix(40, 19.5, 0.5, 2.0, 8) @ stripes - 0.5).max() < 0.01


@pytest.mark.parametrize("native_mm, spacing_mm", [(0.5, 0.25), (0.5, 0.5), (0.3, 0.7), (1.0, 0.6)])
def test_resampling_equals_the_dense_product(native_mm, spacing_mm):
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (3, 50, 41))
    rows = sampling_matrix(50, 23.3, native_mm, spacing_mm, 64)
    cols = sampling_matrix(41, 20.1, native_mm, spacing_mm, 64)
    dense = rows.astype(float) @ values @ cols.astype(float).T
    made = resample(values, rows, cols)
    assert made.dtype == np.float32 and np.abs(made - dense).max() < 1e-5
    assert np.array_equal(resample(values[1], rows, cols), made[1])
    assert resample(values[:0], rows, cols).shape == (0, 64, 64)


HASH = """
import hashlib
import numpy as np
from ada_repro.data.slices import resample, sampling_matrix
values = np.random.default_rng(0).normal(0, 100, (4, 300, 280))
weights = [sampling_matrix(n, n / 2 - 0.3, 0.29, 0.5, 80) for n in values.shape[1:]]
print(hashlib.sha256(np.ascontiguousarray(resample(values, *weights))).hexdigest())
"""


def test_resampling_has_the_same_bits_on_every_processor():
    "OpenBLAS sums a product of matrices in another order on each kind of processor; this one sums without it."
    hashes = set()
    for kind in (None, "Haswell", "Nehalem"):
        env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
        if kind:
            env["OPENBLAS_CORETYPE"] = kind
        done = subprocess.run([sys.executable, "-c", HASH], env=env, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        hashes.add(done.stdout)
    assert len(hashes) == 1


def test_a_fold_is_a_site_that_validates():
    names = ["001", "NA", "paper house", "1e5"]
    table = pd.DataFrame({"site": names * 3, "split": ["train", "val", "train"] * 4, "x": range(12)})
    assert split_by_fold(table, "paper", "data") is table
    sides = []
    for name in names:
        told = split_by_fold(table, name, "data")
        assert ((told.split == "val") == (table.site == name)).all() and told.x.equals(table.x)
        sides.append(told.split == "val")
    assert (sum(side.astype(int) for side in sides) == 1).all()  # every slice validates once
    assert table.split.tolist() == ["train", "val", "train"] * 4


@pytest.mark.parametrize("people, kept", [("a", "a"), ("aab", "aa"), ("aabbccddeef", "aaee")])
def test_some_people_are_whole_people(people, kept):
    table = pd.DataFrame({"person": list(people)})
    images = torch.arange(len(people))
    some = some_people(Slices(images, images, table))
    assert "".join(some.table.person) == kept and list(some.table.index) == list(range(len(kept)))
    assert [people[i] for i in some.images] == list(kept) and some.targets.equal(some.images)


def test_broken_slices_are_refused(challenge, tmp_path):
    with pytest.raises(DataError, match="prepare"):
        load_slices(tmp_path / "none")
    for name, spoiler in {
        "images.npy": lambda p: p.write_bytes(p.read_bytes()[:-9]),
        "slices.csv": lambda p: p.write_text("a,b\n1,2\n"),
        "targets.npy": lambda p: np.save(p, np.array([{}], dtype=object)),
        "report.json": None,
    }.items():
        prepare("scgm", challenge, tmp_path / "s", 0.5, 40)
        if not spoiler:
            continue
        spoiler(tmp_path / "s" / name)
        with pytest.raises(DataError, match="slices"):
            load_slices(tmp_path / "s")


@pytest.mark.parametrize("person", ["", "  ", None, np.nan])
def test_a_missing_person_is_a_fault(person, challenge, tmp_path):
    prepare("scgm", challenge, tmp_path / "s", 0.5, 40)
    table = read_table(tmp_path / "s" / "slices.csv")
    table.loc[3, "person"] = person
    save_table(table, tmp_path / "s" / "slices.csv")
    with pytest.raises(DataError, match="names no person in 1 of 80 rows"):
        load_slices(tmp_path / "s")


def test_people_called_like_numbers_and_nothing(challenge, tmp_path):
    prepare("scgm", challenge, tmp_path / "s", 0.5, 40)
    table = read_table(tmp_path / "s" / "slices.csv")
    names = dict(zip(table.person.unique(), ["001", "NA", "null", "1", "1.0", "nan"], strict=False))
    table["person"] = table["subject"] = table.person.map(lambda p: names.get(p, p))
    save_table(table, tmp_path / "s" / "slices.csv")
    again = load_slices(tmp_path / "s").table
    assert again.person.tolist() == table.person.tolist() == again.subject.tolist()
    assert again.person.nunique() == 40


# Numbers of any size


@pytest.mark.parametrize("size", [1e-30, 1e-8, 1.0, 1e4, 1e30])
def test_the_scale_of_a_scan_changes_nothing(size):
    image = np.moveaxis(arrays()[0], -1, 0)
    seen = np.ones(image.shape[1:], bool)
    assert np.allclose(zscore((image * size).astype(np.float32), seen), zscore(image, seen), atol=1e-4)


@pytest.mark.parametrize("value", [0, 1e-30, 7, 1e30])
def test_a_constant_slice_is_the_mean(value):
    flat = np.full((2, 8, 8), value, np.float32)
    assert (zscore(flat, np.ones((8, 8), bool)) == 0).all()


@pytest.mark.parametrize("spacing_mm", [100, 500])
def test_pixels_larger_than_a_scan_are_refused(spacing_mm, challenge, tmp_path):
    with pytest.raises(DataError, match=f"is smaller than a pixel of {spacing_mm} mm. Lower spacing_mm"):
        prepare("scgm", challenge, tmp_path / "s", spacing_mm, 40)


# Prepared files that are spoilt


@pytest.fixture(scope="module")
def prepared(challenge, tmp_path_factory):
    "Slices of a tiny challenge."
    folder = tmp_path_factory.mktemp("prepared") / "slices"
    prepare("scgm", challenge, folder, 0.5, 40)
    return folder


def header(old, new):
    "Another word in the header of an array."

    def spoiler(path):
        raw = path.read_bytes()
        assert old in raw
        path.write_bytes(raw.replace(old, new))

    return spoiler


ARRAYS = {
    "a number": lambda path: np.save(path, np.float32(3)),
    "text": lambda path: np.save(path, np.full((80, 1, 40, 40), "a")),
    "a flat one": lambda path: np.save(path, np.zeros((80, 40), np.float32)),
    "another length": lambda path: np.save(path, np.zeros((3, 1, 8, 8), np.float32)),
    "begins like a zip file": lambda path: path.write_bytes(b"PK\x03\x04junk"),
    "several arrays": lambda path: np.savez(path.open("wb"), a=np.zeros(3)),
    "nothing": lambda path: path.write_bytes(b""),
    "a header without end": header(b"{'descr'", b"{{{descr'"),
    "a header of zeros": header(b"'shape'", b"'sh\0pe'"),
    "a header larger than any memory": header(b"(80, 1, 40, 40)", b"(9999999999999, 1, 40, 40)"),
}


@pytest.mark.parametrize("what", ARRAYS)
@pytest.mark.parametrize("name", ["images", "rescans"])
def test_a_spoilt_array_is_one_line(name, what, prepared, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "s")
    np.save(folder / "rescans.npy", np.load(folder / "images.npy"))
    read = {"images": load_slices, "rescans": load_rescans}[name]
    assert len(read(folder)) == 80
    ARRAYS[what](folder / f"{name}.npy")
    with pytest.raises(DataError, match="holds (no )?(prepared slices|rescans|images)") as e:
        read(folder)
    assert str(e.value).isprintable()


@pytest.mark.parametrize("split", ["test", "", "Train"])
def test_a_side_that_is_none_is_refused(split, prepared, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "s")
    table = read_table(folder / "slices.csv")
    save_table(table.assign(split=table.split.replace("val", split)), folder / "slices.csv")
    with pytest.raises(DataError, match=f"has the split '{split}'. Call it train or val"):
        load_slices(folder)
