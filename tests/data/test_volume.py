"""No wrong file loads silently: every fault is made from a valid volume and ends as one line that names the file."""

import gzip
import os
import shutil
import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scans import AFFINE, DEPTH, MM, REAL, SIDE, arrays, needs_real, read, volume, write

from ada_repro.core import DataError
from ada_repro.data.volume import read_nifti, read_volume


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
