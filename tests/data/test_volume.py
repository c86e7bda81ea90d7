"""No wrong file loads silently: every fault is made from a valid volume and ends as one line that names the file."""

import gzip
import os
import re
import shutil
import struct
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scans import AFFINE, DEPTH, MM, REAL, SIDE, arrays, needs_real, read, volume, write

from ada_repro.core import DataError
from ada_repro.data.nifti import read_nifti
from ada_repro.data.plausible import Limits, measure_contrast
from ada_repro.data.volume import read_volume


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
def infinite_slope(path):
    patch(path, 112, "2f", np.inf, 0)


@fault("one")
def infinite_slope_of_a_mask(path):
    patch(path, 112, "2f", -np.inf, 0)


@fault("one")
def coloured(path):
    colours = np.zeros(arrays()[1].shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["R"] = arrays()[1]
    path.write_bytes(gzip.compress(nib.Nifti1Image(colours, AFFINE).to_bytes()))


@fault("scan")
def complex_numbers(path):
    path.write_bytes(gzip.compress(nib.Nifti1Image(arrays()[0].astype(np.complex64), AFFINE).to_bytes()))


@fault("scan")
def a_vector_a_voxel(path):
    write(path, np.stack([arrays()[0]] * 3, -1)[:, :, :, None])


@fault("one")
def a_fourth_axis_of_nothing(path):
    patch(path, 40, "8h", 4, SIDE, SIDE, DEPTH, 0, 1, 1, 1)


@fault("scan")
def voxels_at_byte_0(path):
    patch(path, 108, "f", 0)


@fault("one")
def compressed_twice(path):
    path.write_bytes(gzip.compress(path.read_bytes()))


@fault("one")
def an_archive_in_gzip(path):
    path.write_bytes(gzip.compress(b"one.nii" + bytes(505) + gzip.decompress(path.read_bytes())))


@fault("scan")
def millimetres_called_metres(path):
    patch(path, 123, "b", 1)


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
        with suppress(DataError):
            assert np.array_equal(read(files).masks, truth.masks)


def test_a_huge_header_takes_no_memory(files):
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
    (tmp_path / "plain.nii").write_bytes(gzip.decompress(files["scan"].read_bytes()))
    assert np.array_equal(read(files | {"scan": tmp_path / "plain.nii"}).image, truth.image)
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


# Real scans


@needs_real
def test_every_transposed_or_shifted_open_mask_is_refused(tmp_path):
    for image in sorted(REAL.glob("sub-*/anat/*_run-1_T2starw.nii.gz")):
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


# What people have, in the ways in which it may be written


def header(path, change):
    "A file whose header was changed by nibabel's names, stream and checksum right."
    image = nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
    image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
    change(image.header)
    path.write_bytes(gzip.compress(image.to_bytes()))
    return path


def same(a, b):
    return (
        np.array_equal(a.image, b.image)
        and np.array_equal(a.masks, b.masks)
        and np.array_equal(a.cord, b.cord)
        and np.allclose(a.spacing_mm, b.spacing_mm)
        and np.isclose(a.slice_mm, b.slice_mm)
    )


def store_scaled(path, slope, inter=0.0):
    "The labels as a writer stores them that keeps the scan's intensity scale."
    stored = np.rint((arrays()[1].astype(float) - inter) / slope).astype(np.int16)
    write(path, stored)
    patch(path, 112, "2f", slope, inter)


@pytest.mark.parametrize("slope, inter", [(1 / 127, 0), (0.00784, 0), (1.00002, 0), (0.3, 0), (0.0123, -4), (-0.01, 2)])
def test_labels_that_were_scaled_are_whole(slope, inter, files):
    truth = read(files)
    store_scaled(files["one"], slope, inter)
    assert same(read(files), truth)


TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def store_typed(path, values, dtype, order, kind, slope=1.0, inter=0.0):
    "Values as a writer stores them in this type, byte order and kind of header."
    h = kind(endianness=order)
    h.set_data_dtype(dtype)
    stored = (values.astype(float) - inter) / slope
    stored = (np.rint(stored) if dtype[0] in "iu" else stored).astype(np.dtype(dtype).newbyteorder(order))
    image = (nib.Nifti2Image if kind is nib.Nifti2Header else nib.Nifti1Image)(stored, AFFINE, h)
    image.header.set_slope_inter(slope, inter)
    image.header.set_xyzt_units("mm")
    raw = bytearray(image.to_bytes())
    at, form = (176, "2d") if kind is nib.Nifti2Header else (112, "2f")
    struct.pack_into(order + form, raw, at, slope, inter)
    path.write_bytes(gzip.compress(raw))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
def test_every_type_and_byte_order(dtype, order, kind, files):
    truth = read(files)
    slope = {"i": 1 / 60, "u": 1 / 125, "f": 0.5}[dtype[0]]
    store_typed(files["one"], arrays()[1], dtype, order, kind, slope)
    store_typed(files["two"], arrays()[1], dtype, order, kind)
    assert same(read(files), truth)
    if dtype[1] != "1":
        store_typed(files["scan"], arrays()[0], dtype, order, kind, 0.01 if dtype[0] != "f" else 1)
        assert np.allclose(read(files).image, truth.image, atol=0.006)


@pytest.mark.parametrize(
    "dtype, slope, inter",
    [("u1", 1 / 3, 0), ("u1", 0.49, 0), ("i2", -1 / 16000, 1), ("i4", 2e-9, -1), ("i8", 1e-12, 0), ("u1", 1, 1e-4)],
)
def test_scales_that_writers_choose(dtype, slope, inter, files):
    truth = read(files)
    store_typed(files["one"], arrays()[1], dtype, ">", nib.Nifti1Header, slope, inter)
    assert same(read(files), truth)


@pytest.mark.parametrize("slope, inter", [(0, 7), (0, np.nan), (0, np.inf), (np.nan, np.nan), (np.nan, 3)])
def test_a_scale_that_says_nothing_is_none(slope, inter, files):
    truth = read(files)
    patch(files["one"], 112, "2f", slope, inter)
    assert same(read(files), truth)


@pytest.mark.parametrize("error", [2e-5, -2e-5, 9e-4, -9e-4])
def test_labels_a_rounding_error_off_are_whole(error, files):
    truth = read(files)
    write(files["one"], (arrays()[1] * (1 + error / 2)).astype(np.float32))
    write(files["cord"], (arrays()[2] + error).astype(np.float64))
    assert same(read(files), truth)


@pytest.mark.parametrize("value, said", [(1.002, "1.002"), (0.996, "0.996"), (1.4999999, "1.4999999"), (0.3, "0.3")])
def test_a_label_that_is_none_is_shown(value, said, files):
    labels = arrays()[1].astype(np.float32)
    labels[labels == 1] = value
    write(files["one"], labels)
    with pytest.raises(DataError, match=re.escape(f"has the label {said}")):
        read(files)


def test_a_coarse_scale_makes_no_labels_of_halves(files):
    write(files["one"], arrays()[1])
    patch(files["one"], 112, "2f", 0.5, 0)
    with pytest.raises(DataError, match=r"has the label 0\.5, not a whole number,"):
        read(files)


def with_axes(*lengths):
    return lambda path: patch(path, 40, "8h", *(lengths + (1,) * 8)[:8])


def negative_pixdim(path):
    patch(path, 80, "3f", -0.5, -0.5, -5)


def as_nifti_2(path):
    image = nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
    path.write_bytes(gzip.compress(nib.Nifti2Image(np.asarray(image.dataobj), AFFINE).to_bytes()))


def big_endian(path):
    image = nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
    swapped = nib.Nifti1Image(np.asarray(image.dataobj), AFFINE, nib.Nifti1Header(endianness=">"))
    path.write_bytes(gzip.compress(swapped.to_bytes()))


def in_unit(factor, unit, sform=True):
    def make(path):
        image = nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
        affine = np.diag([factor, factor, factor, 1]) @ AFFINE
        again = nib.Nifti1Image(np.asarray(image.dataobj), None)
        again.header.set_zooms(np.array(MM) * factor)
        again.set_qform(affine, 0 if sform else 1)
        again.set_sform(affine if sform else None, 2 if sform else 0)
        again.header.set_xyzt_units(unit)
        path.write_bytes(gzip.compress(again.to_bytes()))

    return make


def by_qform_alone(path):
    in_unit(1, "mm", sform=False)(path)


def quaternion_over_one(path):
    by_qform_alone(path)
    patch(path, 256, "3f", 0, 0, np.float32(1 + 2e-5))
    patch(path, 76, "f", 1)
    patch(path, 268, "3f", 31.5, 31.5, 0)


HARMLESS = {
    "X,Y,Z,1": with_axes(4, SIDE, SIDE, DEPTH),
    "X,Y,Z,1,1": with_axes(5, SIDE, SIDE, DEPTH),
    "seven axes": with_axes(7, SIDE, SIDE, DEPTH),
    "negative pixdim": negative_pixdim,
    "pixdim not stated": lambda path: patch(path, 80, "3f", 0, 0, 0),
    "NIfTI-2": as_nifti_2,
    "big endian": big_endian,
    "metres": in_unit(0.001, "meter"),
    "micrometres": in_unit(1000, "micron"),
    "metres by qform": in_unit(0.001, "meter", sform=False),
    "micrometres by qform": in_unit(1000, "micron", sform=False),
    "qform alone": by_qform_alone,
    "both forms, alike": lambda path: header(path, lambda h: h.set_qform(AFFINE, 1)),
    "unknown unit": lambda path: patch(path, 123, "b", 0),
    "millimetres and seconds": lambda path: patch(path, 123, "b", 10),
    "a unit of time alone": lambda path: patch(path, 123, "b", 16),
    "axes of length 0 after the last": lambda path: patch(path, 40, "8h", 3, SIDE, SIDE, DEPTH, 0, 0, 0, 0),
    "a sign of 7": lambda path: patch(path, 76, "f", 7),
    "no size of a fourth axis": lambda path: [with_axes(4, SIDE, SIDE, DEPTH)(path), patch(path, 92, "f", np.nan)],
    "a comment behind the header": lambda path: header(
        path, lambda h: h.extensions.append(nib.nifti1.Nifti1Extension("comment", b"hello" * 99))
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("where", ["scan", "one", "cord"])
def test_other_ways_to_write_the_same(name, where, files):
    truth = read(files)
    HARMLESS[name](files[where])
    assert same(read(files), truth)


def test_a_quaternion_a_rounding_error_over_one_is_scaled(files):
    image = arrays()[0]
    write(files["scan"], image[::-1, ::-1])
    quaternion_over_one(files["scan"])
    for name in ("one", "two", "cord"):
        values = np.asarray(nib.load(files[name]).dataobj)
        write(files[name], values[::-1, ::-1])
        quaternion_over_one(files[name])
    assert np.array_equal(read(files).image, image)
    patch(files["scan"], 256, "3f", 0, 0, 1.01)
    with pytest.raises(DataError, match="scan.nii.gz: has an affine that is not finite"):
        read(files)


@pytest.mark.parametrize("plane", [True, False])
def test_a_plane_is_a_volume_of_one_slice(plane, tmp_path):
    image, mask, cord = (a[..., 0] if plane else a[..., :1] for a in arrays())
    v = read_volume(
        write(tmp_path / "i.nii.gz", image), [write(tmp_path / "m.nii.gz", mask)], write(tmp_path / "c.nii.gz", cord)
    )
    assert v.image.shape == (SIDE, SIDE, 1) and np.array_equal(v.image[..., 0], image.reshape(SIDE, SIDE))
    assert v.spacing_mm == (0.5, 0.5) and v.masks.shape == (1, SIDE, SIDE, 1)


def test_a_plane_that_states_no_thickness(tmp_path):
    paths = [write(tmp_path / f"{i}.nii.gz", a[..., 0]) for i, a in enumerate(arrays())]
    for path in paths:
        patch(path, 88, "f", 0)
        patch(path, 280, "12f", 0.5, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0, 0)
    assert read_volume(paths[0], paths[1:2], paths[2]).image.shape == (SIDE, SIDE, 1)


def block(raw, name=b"", comment=b"", extra=b"", level=6):
    "A gzip member with all that its header may hold."
    flags = 8 * bool(name) | 16 * bool(comment) | 4 * bool(extra)
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(4) + b"\0\xff"
    head += (struct.pack("<H", len(extra)) + extra) if extra else b""
    head += (name + b"\0" if name else b"") + (comment + b"\0" if comment else b"")
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    body = deflate.compress(raw) + deflate.flush()
    return head + body + struct.pack("<2I", zlib.crc32(raw), len(raw))


def bgzf(raw, size=4000):
    "What bgzip writes: blocks that tell their own length, and an empty one."
    blocks = [block(raw[i : i + size], extra=b"BC\x02\0\0\0") for i in range(0, len(raw), size)]
    told = [b[:16] + struct.pack("<H", len(b) - 1) + b[18:] for b in blocks]
    return b"".join(told) + bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def members(*parts):
    return b"".join(gzip.compress(part) for part in parts)


STREAMS = {
    "two members": lambda raw: members(raw[:5000], raw[5000:]),
    "as bgzip writes them": lambda raw: members(*[raw[i : i + 4096] for i in range(0, len(raw), 4096)], b""),
    "cut inside the header": lambda raw: members(raw[:7], raw[7:300], raw[300:]),
    "an empty member before": lambda raw: members(b"", raw),
    "an empty member after": lambda raw: members(raw, b""),
    "padded with zeros": lambda raw: members(raw) + bytes(1000),
    "bgzip": bgzf,
    "a name and a comment": lambda raw: block(raw, "Übung.nii".encode("latin1"), b"made by hand", b"ab\1\0z"),
    "stored, not compressed": lambda raw: block(raw, level=0),
    "zeros between members": lambda raw: members(raw[:5000]) + bytes(100) + members(raw[5000:]) + bytes(3),
}


@pytest.mark.parametrize("name", STREAMS)
def test_all_members_are_read(name, files):
    truth = read(files)
    for where in ("scan", "one"):
        files[where].write_bytes(STREAMS[name](gzip.decompress(files[where].read_bytes())))
    assert same(read(files), truth)


@pytest.mark.parametrize("name", STREAMS)
def test_every_checksum_counts(name, files):
    good = STREAMS[name](gzip.decompress(files["one"].read_bytes()))
    end = len(good) - {"padded with zeros": 1000, "zeros between members": 3}.get(name, 0)
    spoilt = {
        "byte after": good + b"x",
        "voxels after": good + members(b"\0"),
        "first block": bytes([*good[:2], good[2] ^ 1, *good[3:]]),
        "first voxels": bytes([*good[:45], good[45] ^ 4, *good[46:]]),
        "last checksum": good[: end - 6] + bytes([good[end - 6] ^ 1]) + good[end - 5 :],
        "cut": good[: end - 9],
    }
    for raw in spoilt.values():
        files["one"].write_bytes(raw)
        with pytest.raises(DataError, match="one.nii.gz"):
            read(files)


def test_a_second_member_with_a_wrong_checksum(files):
    raw = gzip.decompress(files["one"].read_bytes())
    second = bytearray(gzip.compress(raw[5000:]))
    second[-7] ^= 1
    files["one"].write_bytes(gzip.compress(raw[:5000]) + second)
    with pytest.raises(DataError, match="one.nii.gz: is damaged"):
        read(files)


@pytest.mark.parametrize("where", ["scan", "one", "cord"])
def test_compressed_or_not_is_the_same_file(where, files):
    truth, path = read(files), files[where]
    plain = path.with_suffix("")
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path.name}: stands there a second time, as {plain.name}"):
        read(files)
    path.unlink()
    assert same(read(files), truth)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert same(read(files | {where: plain}), truth)


def linked(path, other):
    other.symlink_to(path.name)


def linked_back(path, other):
    path.rename(other)
    path.symlink_to(other.name)


BESIDE = {
    "a link to it": linked,
    "it is a link": linked_back,
    "a second name of it": lambda path, other: os.link(path, other),
    "a folder": lambda path, other: other.mkdir(),
    "a pipe": lambda path, other: os.mkfifo(other),
    "a link to nothing": lambda path, other: other.symlink_to("nowhere"),
    "a link to nothing in its place": lambda path, other: [path.rename(other), path.symlink_to("nowhere")],
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_has_the_other_name_and_is_no_second_file(name, files):
    truth, path = read(files), files["one"]
    BESIDE[name](path, path.with_suffix(""))
    assert same(read(files), truth)


def test_an_empty_file_of_the_other_name_is_a_second_one(files):
    files["one"].with_suffix("").touch()
    with pytest.raises(DataError, match="a second time"):
        read(files)


def test_a_link_to_nothing_says_so(files):
    files["two"].unlink()
    files["two"].symlink_to(".git/annex/objects/two")
    with pytest.raises(DataError, match="two.nii.gz: is a link to a file that is not here. Fetch that file"):
        read(files)


# Two statements of one fact


def disagree(change):
    def make(h):
        affine = AFFINE.copy()
        change(affine)
        h.set_qform(affine, 1)

    return make


def shift(affine):
    affine[0, 3] += 0.2


def mirror(affine):
    affine[0] *= -1


def stretch(affine):
    affine[0, 0] = 0.506


def turn(affine):
    affine[:3, :3] = rotation(0.5) @ affine[:3, :3]


def turn_round(affine):
    affine[:3, :3] = rotation(180) @ affine[:3, :3]


def one_slice_up(affine):
    affine[2, 3] += 5


def rotation(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    "change, said",
    [(shift, "0.20 mm and 0.0 degrees"), (turn, "0.39 mm and 0.5 degrees"), (turn_round, "180.0 degrees")]
    + [(one_slice_up, "5.00 mm and 0.0 degrees")],
)
def test_two_forms_that_disagree_say_by_how_much(change, said, files):
    header(files["one"], disagree(change))
    with pytest.raises(DataError, match=f"{said} apart"):
        read(files)


@pytest.mark.parametrize("change", [shift, mirror, stretch, turn, turn_round, one_slice_up])
@pytest.mark.parametrize("where", ["scan", "one", "cord"])
def test_two_forms_that_disagree_are_refused(change, where, files):
    path = header(files[where], disagree(change))
    with pytest.raises(DataError, match=f"{path.name}: .*mm") as e:
        read(files)
    assert "sform" in str(e.value) and "qform" in str(e.value) or "pixdim" in str(e.value)
    header(path, lambda h: h.set_qform(None, 0))
    if change is not stretch:
        read(files)


def test_a_hair_between_two_forms_is_none(files):
    truth = read(files)

    def hair(affine):
        affine[:3, 3] += 0.05

    header(files["one"], disagree(hair))
    assert same(read(files), truth)


def unoriented(path):
    patch(path, 252, "2h", 0, 0)


@pytest.mark.parametrize("where", ["scan", "one", "two", "cord"])
def test_without_orientation_the_file_is_refused(where, files):
    unoriented(files[where])
    with pytest.raises(DataError, match="states neither qform nor sform.*orientation: grid"):
        read(files)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS"])
def test_the_grid_may_be_trusted_and_that_is_noted(axes, files):
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes))
    truth = read(files)
    for path in files.values():
        image = nib.load(path).as_reoriented(turn)
        write(path, np.asarray(image.dataobj), image.affine)
    unoriented(files["one"])
    v = read_volume(files["scan"], [files["one"], files["two"]], files["cord"], orientation="grid")
    assert same(v, truth)
    assert v.notes == ["one.nii.gz: states no orientation, taken to lie as it is stored"]


# Right grid, wrong content


def test_contrast_of_a_valid_scan(files):
    v = read(files)
    assert 1.05 < v.contrast.ratio < 1.1 and 1.5 < v.contrast.in_noise < 3.5 and not v.notes


@pytest.mark.parametrize("wrong", ["swapped", "flat"])
def test_no_contrast_is_noted(wrong, files):
    image = arrays(shift=(3, -2))[0]
    made = {
        "swapped": image.swapaxes(0, 1),
        "flat": np.where(arrays()[1] > 0, 160, 100) + np.random.default_rng(1).normal(0, 5, image.shape),
    }[wrong]
    write(files["scan"], made.astype(np.float32))
    (note,) = read(files).notes
    assert note.startswith("scan.nii.gz: GM shows no contrast")


def test_other_structures_have_limits_of_their_own(tmp_path):
    image, mask, cord = arrays()
    lesion = np.zeros_like(mask)
    lesion[30:32, 25:33, 1] = 1
    paths = (
        write(tmp_path / "i.nii.gz", image),
        [write(tmp_path / "m.nii.gz", lesion)],
        write(tmp_path / "c.nii.gz", cord),
    )
    with pytest.raises(DataError, match="deeper"):
        read_volume(*paths)
    free = Limits("lesion", None, 0, 1, 0.5, "any")
    assert read_volume(*paths, limits=free).masks.sum() == 16
    write(paths[1][0], 0 * lesion)
    assert read_volume(*paths, limits=free).masks.sum() == 0
    with pytest.raises(DataError, match="marks nothing"):
        read_volume(*paths)
    big = Limits("tumour", (60, 200), 0, 1, 0.5, "any")
    write(paths[1][0], cord)
    assert read_volume(*paths, limits=big).masks.any()
    with pytest.raises(DataError, match="as GM in a slice, not 2 to 50"):
        read_volume(*paths)


@needs_real
def test_contrast_of_real_scans_and_of_swapped_ones(tmp_path):
    for image in sorted(REAL.glob("sub-*/anat/*_run-1_T2starw.nii.gz")):
        stem = image.relative_to(REAL).as_posix().replace(".nii.gz", "")
        gm, cord = (REAL / "derivatives" / "labels" / f"{stem}_{kind}-manual.nii.gz" for kind in ("gmseg", "seg"))
        v = read_volume(image, [gm], cord, labels=(0, 1))
        assert 1.1 < v.contrast.ratio < 1.25 and v.contrast.in_noise > 1.5
        n = min(v.image.shape[:2])
        swapped = v.image.copy()
        swapped[:n, :n] = v.image[:n, :n].swapaxes(0, 1)
        for wrong in (swapped, v.image[::-1], v.image[:, ::-1], v.image[..., ::-1]):
            assert not measure_contrast(wrong, v.masks, v.cord, v.spacing_mm).is_seen("brighter")


# Names and what stands in place of a file
@pytest.mark.parametrize("ending", [".NII.GZ", ".Nii.gz", ".NII", ".nii.GZ"])
def test_an_ending_in_large_letters_is_the_same_ending(ending, files):
    truth, path = read(files), files["one"]
    raw = path.read_bytes()
    large = path.with_name(f"one{ending}")
    path.rename(large)
    large.write_bytes(raw if ending.lower().endswith("gz") else gzip.decompress(raw))
    assert same(read(files), truth) and same(read(files | {"one": large}), truth)
    path.write_bytes(raw)
    with pytest.raises(DataError, match="stands there a second time"):
        read(files)


@pytest.mark.parametrize(
    "said", ["version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "/annex/objects/MD5E-1"]
)
def test_what_git_has_not_fetched_is_to_be_fetched(said, files):
    files["two"].write_text(said)
    with pytest.raises(DataError, match="two.nii.gz: points to a file that is not here. Fetch that file"):
        read(files)


def test_what_read_volume_cannot_be_told(files):
    told = {"orientation": "Grid"}, {"labels": 1}, {"labels": "01"}, {"labels": (0.5,)}, {"limits": None}
    for wrong in told:
        with pytest.raises(ValueError, match=next(iter(wrong))) as e:
            read_volume(files["scan"], files["one"], **wrong)
        assert "\n" not in str(e.value)
    for path in (None, 3, b"scan.nii"):
        with pytest.raises(ValueError, match="the path of a scan or mask must be"):
            read_volume(path, files["one"])
    with pytest.raises(ValueError, match="contrast must be one of 'brighter', 'darker', 'any', not 'bright'"):
        Limits(contrast="bright")
    with pytest.raises(DataError, match="is missing") as e:
        read_volume(files["scan"].with_name("a\nb.nii.gz"), files["one"])
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("mm", [(1, 1, 0.9), (1, 1, 0.98), (0.8, 0.8, 0.5), (0.5, 0.5, 0.5), (0.8, 0.6, 0.8)])
def test_axial_slices_may_be_thinner_than_their_pixels(mm, tmp_path):
    image, mask, _ = arrays()
    affine = np.diag([*mm, 1])
    scan, one = write(tmp_path / "scan.nii.gz", image, affine), write(tmp_path / "one.nii.gz", mask, affine)
    v = read_volume(scan, one, limits=Limits(area_mm2=None))
    assert (*v.spacing_mm, v.slice_mm) == pytest.approx(mm)


@pytest.mark.parametrize("mm", [(3, 0.5, 0.5), (1, 0.8, 0.8), (0.5, 3, 0.5), (0.8, 0.6, 0.7), (1, 1, 0.4)])
def test_sagittal_and_coronal_scans_are_refused(mm, tmp_path):
    scan = write(tmp_path / "scan.nii.gz", arrays()[0], np.diag([*mm, 1]))
    with pytest.raises(DataError, match="is not axial: slices"):
        read_volume(scan, scan)


@pytest.mark.parametrize(
    "option, limits, of_cord",
    [
        ("area_mm2", Limits("lesion", area_mm2=(60, 99)), False),
        ("width_to_depth", Limits("lesion", width_to_depth=9), False),
        ("outside_cord", Limits("lesion", outside_cord=-1), True),
        ("off_centre", Limits("lesion", off_centre=0), False),
    ],
)
def test_a_limit_says_what_lifts_it(option, limits, of_cord, tmp_path):
    image, mask, cord = arrays(shift=(1, 0))
    scan, one = write(tmp_path / "scan.nii.gz", image), write(tmp_path / "one.nii.gz", (mask == 1).astype(np.uint8))
    around = write(tmp_path / "cord.nii.gz", cord) if of_cord else None
    with pytest.raises(DataError, match=f"Give the mask of this scan, on its grid, or set {option}.$"):
        read_volume(scan, one, around, limits=limits)
    small = np.zeros_like(mask)
    small[32, 32] = 1
    with pytest.raises(DataError, match="not 2 to 50. Give the mask of this scan, on its grid.$"):
        read_volume(scan, write(tmp_path / "two.nii.gz", small))
