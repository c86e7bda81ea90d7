"""Nothing wrong loads silently: every fault is made from a valid volume, and must end as one line that names the file."""

import gzip
import json
import os
import re
import runpy
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file

from ada_repro.core import ROOT, DataError, folder_hash
from ada_repro.data import datasets as data
from ada_repro.data.datasets import DATASETS, OPEN_SESSIONS, Subject, check, main, prepare
from ada_repro.data.slices import load_slices
from ada_repro.data.volume import read_nifti, read_volume
from ada_repro.method.unet import UNet

REAL = Path(os.environ.get("ADA_GM_CHALLENGE", ROOT.parent / "shared" / "data" / "gm-challenge"))
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"no open grey matter challenge data in {REAL} (set ADA_GM_CHALLENGE)"
)
SIDE, DEPTH, MM = 64, 3, (0.5, 0.5, 5.0)
AFFINE = np.diag([*MM, 1.0])


def arrays(seed=0, shift=(0, 0)):
    "Image, mask (1 = GM, 2 = WM) and cord of a small valid volume, 32 mm wide, in R, A, S order."
    x, y = np.mgrid[:SIDE, :SIDE] * 0.5 - 15.75 - np.array(shift)[:, None, None]
    cord, gm = (x / 6.5) ** 2 + (y / 4.5) ** 2 < 1, (x / 3.5) ** 2 + (y / 1.8) ** 2 < 1
    noise = np.random.default_rng(seed).normal(0, 5, (SIDE, SIDE, DEPTH))
    stack = lambda a: np.repeat(a[..., None], DEPTH, -1)
    return (
        (stack(100.0 + 60 * cord + 12 * gm) + noise).astype(np.float32),
        stack(2 * cord - gm).astype(np.uint8),
        stack(cord).astype(np.uint8),
    )


def write(path, values, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    path.write_bytes(gzip.compress(image.to_bytes(), 6, mtime=0))
    return path


def volume(folder, seed=0):
    "The files of a valid volume: scan, two raters, cord."
    image, mask, cord = arrays(seed)
    return {
        "scan": write(folder / "scan.nii.gz", image),
        "one": write(folder / "one.nii.gz", mask),
        "two": write(folder / "two.nii.gz", mask),
        "cord": write(folder / "cord.nii.gz", cord),
    }


def read(files, labels=(0, 1, 2)):
    return read_volume(files["scan"], [files["one"], files["two"]], files.get("cord"), labels=labels)


@pytest.fixture
def files(tmp_path):
    return volume(tmp_path)


# Every fault: the file it is in, and what makes it. It gets the path and the arrays of a valid volume.
FAULTS = {}


def fault(where, cord=True, labels=(0, 1, 2)):
    def register(make):
        FAULTS[make.__name__] = where, make, cord, labels
        return make

    return register


def patch(path, offset, form, *values):
    "Change the header, in a stream whose checksum is right."
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<" + form, raw, offset, *values)
    path.write_bytes(gzip.compress(raw))


@fault("scan")
def truncated(path):
    path.write_bytes(path.read_bytes()[:-40])


@fault("one")
def without_checksum(path):
    path.write_bytes(path.read_bytes()[:-8])


@fault("scan")
def one_bit(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)


@fault("two")
def bit_in_checksum(path):
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1
    path.write_bytes(raw)


@fault("scan")
def rubbish_after_the_end(path):
    path.write_bytes(path.read_bytes() + b"rubbish")


@fault("scan")
def empty_file(path):
    path.write_bytes(b"")


@fault("one")
def html(path):
    path.write_bytes(b"<!DOCTYPE html><html>404</html>" * 20)


@fault("one")
def zipped_html(path):
    path.write_bytes(gzip.compress(b"<!DOCTYPE html><html>404</html>" * 20))


@fault("scan")
def a_folder(path):
    path.unlink()
    path.mkdir()


@fault("one")
def a_folder_as_mask(path):
    path.unlink()
    path.mkdir()


@fault("scan")
def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


@fault("two")
def a_pipe_as_mask(path):
    path.unlink()
    os.mkfifo(path)


@fault("scan")
def a_device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


@fault("two")
def missing_rater(path):
    path.unlink()


@fault("scan")
def missing_scan(path):
    path.unlink()


@fault("scan")
def short_header(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:200]))


@fault("scan")
def header_alone(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:352]))


@fault("scan")
def huge(path):
    patch(path, 40, "4h", 3, 30000, 30000, 30000)


@fault("scan")
def zero_dimension(path):
    patch(path, 42, "h", 0)


@fault("scan")
def negative_dimension(path):
    patch(path, 44, "h", -64)


@fault("scan")
def fewer_slices_than_stored(path):
    patch(path, 46, "h", DEPTH - 1)


@fault("scan")
def more_slices_than_stored(path):
    patch(path, 46, "h", DEPTH + 1)


@fault("scan")
def bomb(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(10**7)))


@fault("scan")
def unknown_type(path):
    patch(path, 70, "h", 7777)


@fault("scan")
def complex_type(path):
    patch(path, 70, "2h", 32, 64)


@fault("scan")
def wrong_bits(path):
    patch(path, 72, "h", 8)


@fault("scan")
def offset_lies(path):
    patch(path, 108, "f", np.nan)


@fault("scan")
def bad_magic(path):
    patch(path, 344, "4s", b"abc")


@fault("scan")
def bad_header_size(path):
    patch(path, 0, "i", 300)


@fault("scan")
def infinite_scale(path):
    patch(path, 112, "2f", 1, np.inf)


@fault("scan")
def scale_overflows(path):
    patch(path, 112, "2f", 3e38, 0)


@fault("scan")
def zero_affine(path):
    patch(path, 280, "12f", *[0] * 12)


@fault("scan")
def nan_affine(path):
    patch(path, 280, "f", np.nan)


@fault("scan")
def singular_affine(path):
    patch(path, 280, "12f", 0.5, 0, 0, 0, 0.5, 0, 0, 0, 0, 0, 5, 0)


@fault("scan")
def pixdim_lies(path):
    patch(path, 80, "2f", 0.25, 0.25)


@fault("scan")
def sheared(path):
    patch(path, 284, "f", 0.2)


@fault("scan")
def nan_quaternion(path):
    patch(path, 252, "2h", 1, 0)
    patch(path, 256, "3f", np.nan, 0, 0)


@fault("scan")
def oblique(path):
    c, s = np.cos(0.7), np.sin(0.7)
    write(path, arrays()[0], np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]]) @ AFFINE)


@fault("scan")
def sagittal(path):
    write(path, arrays()[0], AFFINE[[2, 0, 1, 3]])


@fault("scan")
def two_dimensions(path):
    write(path, arrays()[0][..., 0])


@fault("scan")
def four_dimensions(path):
    write(path, np.stack([arrays()[0]] * 2, -1))


@fault("scan")
def one_nan(path):
    a = arrays()[0]
    a[5, 6, 1] = np.nan
    write(path, a)


@fault("scan")
def one_inf(path):
    a = arrays()[0]
    a[5, 6, 1] = np.inf
    write(path, a)


@fault("scan")
def beyond_float32(path):
    a = arrays()[0].astype(float)
    a[5, 6, 1] = 1e300
    write(path, a)


@fault("scan")
def constant(path):
    write(path, np.full_like(arrays()[0], 7))


@fault("scan")
def lowest_integer(path):
    write(path, np.full(arrays()[0].shape, -32768, np.int16))


@fault("scan")
def blank_slice(path):
    a = arrays()[0]
    a[..., 1] = 3
    write(path, a)


@fault("scan")
def saturated(path):
    write(path, arrays()[0].clip(None, 155))


@fault("scan")
def mask_as_scan(path):
    write(path, arrays()[1])


@fault("one")
def scan_as_mask(path):
    write(path, arrays()[0])


@fault("two")
def other_shape(path):
    write(path, arrays()[1][:-1])


@fault("two")
def other_depth(path):
    write(path, arrays()[1][..., :-1])


@fault("two")
def shifted_affine(path):
    a = AFFINE.copy()
    a[1, 3] = 50
    write(path, arrays()[1], a)


@fault("two")
def shifted_by_a_voxel(path):
    a = AFFINE.copy()
    a[0, 3] = 0.5
    write(path, arrays()[1], a)


@fault("two")
def flipped_affine(path):
    write(path, arrays()[1], AFFINE * [-1, 1, 1, 1])


@fault("two")
def upside_down_affine(path):
    write(path, arrays()[1], AFFINE * [1, 1, -1, 1])


@fault("two")
def swapped_axes(path):
    write(path, arrays()[1], AFFINE[[1, 0, 2, 3]])


@fault("two")
def other_voxel_size(path):
    write(path, arrays()[1], np.diag([0.4, 0.4, 5, 1]))


@fault("one")
def transposed(path):
    write(path, arrays()[1].swapaxes(0, 1).copy())


@fault("one", cord=False)
def transposed_without_cord(path):
    write(path, arrays()[1].swapaxes(0, 1).copy())


@fault("one")
def wrong_place(path):
    write(path, np.roll(arrays()[1], (9, -7), (0, 1)))


@fault("one", cord=False)
def wrong_place_to_the_other_rater(path):
    write(path, np.roll(arrays()[1], (9, -7), (0, 1)))


@fault("one")
def no_grey_matter(path):
    write(path, np.where(arrays()[1] == 1, 2, arrays()[1]).astype(np.uint8))


@fault("two")
def empty_mask(path):
    write(path, np.zeros_like(arrays()[1]))


@fault("cord")
def empty_cord(path):
    write(path, np.zeros_like(arrays()[1]))


@fault("one")
def label_7(path):
    a = arrays()[1]
    a[1, 2, 0] = 7
    write(path, a)


@fault("one")
def negative_label(path):
    a = arrays()[1].astype(np.int16)
    a[1, 2, 0] = -1
    write(path, a)


@fault("one")
def half_a_label(path):
    a = arrays()[1].astype(np.float32)
    a[1, 2, 0] = 0.5
    write(path, a)


@fault("one")
def nan_label(path):
    a = arrays()[1].astype(np.float32)
    a[1, 2, 0] = np.nan
    write(path, a)


@fault("one")
def scaled_labels(path):
    patch(path, 112, "2f", 0.5, 0)


@fault("one", labels=(0, 1))
def white_matter_where_none_is_known(path):
    pass


@fault("one")
def white_matter_called_grey(path):
    write(path, np.array([0, 2, 1], np.uint8)[arrays()[1]])


@fault("one")
def a_single_voxel(path):
    a = arrays()[1]
    b = np.zeros_like(a)
    b[32, 32, 1] = 1
    write(path, b)


@fault("cord")
def cord_elsewhere(path):
    write(path, np.roll(arrays()[2], 16, 0))


@fault("cord")
def missing_cord(path):
    path.unlink()


@fault("cord")
def cord_of_other_shape(path):
    write(path, arrays()[2][1:])


@fault("cord")
def cord_with_shifted_affine(path):
    a = AFFINE.copy()
    a[2, 3] = 5
    write(path, arrays()[2], a)


@fault("cord")
def cord_with_label_2(path):
    write(path, arrays()[2] * 2)


@fault("one")
def mask_of_four_dimensions(path):
    write(path, np.stack([arrays()[1]] * 2, -1))


@fault("one")
def mask_of_two_dimensions(path):
    write(path, arrays()[1][..., 0])


@fault("scan")
def nifti_2(path):
    path.write_bytes(gzip.compress(nib.Nifti2Image(arrays()[0], AFFINE).to_bytes()))


@fault("scan")
def in_metres(path):
    write(path, arrays()[0], AFFINE @ np.diag([0.001, 0.001, 0.001, 1]))


@fault("scan")
def in_microns(path):
    write(path, arrays()[0], AFFINE @ np.diag([1000, 1000, 1000, 1]))


@fault("scan")
def two_streams(path):
    path.write_bytes(path.read_bytes() * 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_refused(name, files):
    where, make, cord, labels = FAULTS[name]
    if not cord:
        del files["cord"]
    if labels == (0, 1, 2):
        read(files)
    make(files[where])
    with pytest.raises(DataError) as e:
        read(files, labels)
    line = str(e.value)
    assert "\n" not in line
    assert ("one.nii.gz" if name == "cord_elsewhere" else files[where].name) in line


def test_enough_faults():
    assert len(FAULTS) >= 25


def test_a_lone_mask_at_the_edge_is_refused(tmp_path):
    image, mask, _ = arrays()
    gm = np.roll(mask == 1, 24, 1).astype(np.uint8)
    with pytest.raises(DataError, match="edge of the image"):
        read_volume(write(tmp_path / "i.nii.gz", image), [write(tmp_path / "m.nii.gz", gm)])
    with pytest.raises(DataError, match="no mask"):
        read_volume(tmp_path / "i.nii.gz", [])


def loads_wrong(path, load, same, flips=300, cuts=100):
    "Flips one bit, or cuts the end off, at random places of a stream; which of them load, other than right."
    raw, truth, rng, wrong = path.read_bytes(), load(), np.random.default_rng(0), []
    plain = gzip.decompress(raw)
    for bit in rng.choice(8 * len(raw), flips, replace=False):
        bad = bytearray(raw)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        try:
            v = load()
        except DataError:
            continue
        if not same(v, truth) or gzip.decompress(bad) != plain:
            wrong.append(bit)
    for n in rng.integers(0, len(raw), cuts):
        path.write_bytes(raw[:n])
        try:
            load()
            wrong.append(-n)
        except DataError:
            pass
    return wrong


@pytest.mark.parametrize("where", ["scan", "one"])
def test_flips_and_truncations_never_load_wrong(where, files):
    assert not loads_wrong(
        files[where],
        lambda: read(files),
        lambda a, b: np.array_equal(a.image, b.image) and np.array_equal(a.masks, b.masks),
    )


def test_every_bit_of_the_gzip_header(files):
    truth, raw = read(files), files["one"].read_bytes()
    for bit in range(80):
        bad = bytearray(raw)
        bad[bit // 8] ^= 1 << bit % 8
        files["one"].write_bytes(bad)
        try:
            assert np.array_equal(read(files).masks, truth.masks)
        except DataError:
            pass


def test_a_huge_header_takes_no_memory(files):
    import tracemalloc

    huge(files["scan"])
    tracemalloc.start()
    with pytest.raises(DataError):
        read(files)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


@pytest.mark.parametrize("axes", ["LPS", "RAI", "SAR", "PSL", "ARS"])
def test_stored_orientation_does_not_matter(axes, files, tmp_path):
    truth = read(files)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes))
    turned = {k: tmp_path / "turned" / p.name for k, p in files.items()}
    for k, p in files.items():
        image = nib.load(p).as_reoriented(turn)
        write(turned[k], np.asarray(image.dataobj), image.affine)
    v = read(turned)
    assert "".join(nib.aff2axcodes(nib.load(turned["scan"]).affine)) == axes
    assert (
        np.array_equal(v.image, truth.image)
        and np.array_equal(v.masks, truth.masks)
        and np.array_equal(v.cord, truth.cord)
    )
    assert v.spacing_mm == truth.spacing_mm and v.slice_mm == truth.slice_mm and v.content == truth.content


def test_plain_and_scaled_files_read_alike(files, tmp_path):
    truth = read(files)
    (tmp_path / "scan.nii").write_bytes(gzip.decompress(files["scan"].read_bytes()))
    assert np.array_equal(read(files | {"scan": tmp_path / "scan.nii"}).image, truth.image)
    image = nib.Nifti1Image(np.round(truth.image * 10).astype(">i2"), AFFINE, nib.Nifti1Header(endianness=">"))
    image.header.set_slope_inter(0.1, 0)
    (tmp_path / "big.nii").write_bytes(image.to_bytes())
    assert np.allclose(read(files | {"scan": tmp_path / "big.nii"}).image, truth.image, atol=0.06)


def test_volume_is_what_was_written(files):
    v, (image, mask, cord) = read(files), arrays()
    assert v.image.dtype == np.float32 and np.array_equal(v.image, image)
    assert (
        v.masks.dtype == bool
        and np.array_equal(v.masks, np.stack([mask == 1] * 2))
        and np.array_equal(v.cord, cord > 0)
    )
    assert v.spacing_mm == MM[:2] and v.slice_mm == MM[2] and v.name == "scan.nii.gz" and not v.notes
    assert read_volume(str(files["scan"]), [str(files["one"])]).masks.shape == (1, SIDE, SIDE, DEPTH)


# Whole data sets ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def challenge(tmp_path_factory):
    "A tiny challenge in the SCGM layout."
    folder = tmp_path_factory.mktemp("scgm")
    for i, name in enumerate(f"site{s}-sc{n:02}" for s in range(1, 5) for n in range(1, 11)):
        image, mask, _ = arrays(seed=i)
        mask = mask.copy()
        mask[..., 0] = np.where(mask[..., 0] == 1, 2, mask[..., 0])
        write(folder / f"{name}-image.nii.gz", image)
        for r in range(1, 5):
            write(folder / f"{name}-mask-r{r}.nii.gz", mask)
    return folder


@pytest.fixture
def copy(challenge, tmp_path):
    "The same challenge, to be spoilt."
    folder = tmp_path / "raw"
    folder.mkdir()
    for p in challenge.iterdir():
        os.link(p, folder / p.name)
    return folder


def spoil(path, raw):
    path.unlink()
    path.write_bytes(raw)


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
    middle = lambda s: (np.argwhere(s.consensus.numpy().any(0)).mean(0) - 39.5).round(6).tolist()
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
    run = lambda *a: subprocess.run(
        [sys.executable, "-m", "ada_repro.data", "check", *map(str, a)], capture_output=True, text=True, cwd=ROOT
    )
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
        with pytest.raises(DataError, match="is not known. Known are scgm, phantom, gm_challenge") as e:
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


# The open data's layout, without the open data --------------------------------------------------------------------------


@pytest.fixture
def bids(tmp_path):
    "Seven tiny sessions; one slice of 9604 has no cord mask."
    folder = tmp_path / "raw"
    for i, name in enumerate(OPEN_SESSIONS):
        (image, mask, cord), stem = arrays(seed=i), f"sub-{name}/anat/sub-{name}_run-1_T2starw"
        if name == "9604":
            cord[..., 2] = 0
        write(folder / f"{stem}.nii.gz", image)
        write(folder / "derivatives" / "labels" / f"{stem}_gmseg-manual.nii.gz", (mask == 1).astype(np.uint8))
        write(folder / "derivatives" / "labels" / f"{stem}_seg-manual.nii.gz", cord)
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
        ("9584_run-1_T2starw_gmseg-manual", lambda folder, p: p.unlink()),
        ("9584_run-1_T2starw_gmseg-manual", lambda folder, p: write(p, arrays()[1])),
        (
            "9709Ses2_run-1_T2starw",
            lambda folder, p: spoil(p, next(folder.rglob("sub-9709Ses1_run-1_T2starw.nii.gz")).read_bytes()),
        ),
        (
            "9418_run-1_T2starw",
            lambda folder, p: [
                shutil.rmtree(folder / "sub-9418"),
                shutil.rmtree(folder / "derivatives" / "labels" / "sub-9418"),
            ],
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


# What DVC notices ------------------------------------------------------------------------------------------------------


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


# Resampling, by hand ---------------------------------------------------------------------------------------------------


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
    m = data.sampling_matrix(40, 19.5, 0.5, 0.2, 60)
    assert np.allclose(m @ (np.arange(40) * 0.5), 19.5 * 0.5 + (np.arange(60) - 29.5) * 0.2, atol=1e-5)
    stripes = np.arange(40) % 2.0
    assert np.abs(data.sampling_matrix(40, 19.5, 0.5, 2.0, 8) @ stripes - 0.5).max() < 0.01


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


# The open data ---------------------------------------------------------------------------------------------------------


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


@needs_real
def test_every_transposed_or_shifted_open_mask_is_refused(tmp_path):
    for image in sorted(REAL.glob("sub-*/anat/*_T2starw.nii.gz")):
        mask = next(
            (REAL / "derivatives" / "labels").glob(f"*/anat/{image.name.replace('.nii.gz', '_gmseg-manual.nii.gz')}")
        )
        m = nib.load(mask)
        values, n = np.asarray(m.dataobj), min(m.shape[:2])
        square = np.zeros_like(values)
        square[:n, :n] = values[:n, :n].swapaxes(0, 1)
        for name, bad in {"transposed.nii.gz": square, "rolled.nii.gz": np.roll(values, 120, 0)}.items():
            with pytest.raises(DataError, match=name):
                read_volume(image, [write(tmp_path / name, bad, m.affine)])


@needs_real
def test_flips_and_truncations_of_a_real_scan_never_load_wrong(tmp_path):
    path = shutil.copy(REAL / "sub-9709Ses2" / "anat" / "sub-9709Ses2_run-1_T2starw.nii.gz", tmp_path)
    assert not loads_wrong(
        Path(path),
        lambda: read_nifti(path),
        lambda a, b: np.array_equal(a.values, b.values) and np.array_equal(a.affine, b.affine),
    )


# The realism benchmark -------------------------------------------------------------------------------------------------


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
