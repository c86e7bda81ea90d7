"""What other loaders make of the files of nbs/1_data/04_volume.

pip install nibabel SimpleITK torchio monai nnunetv2; python benchmarks/loaders.py
Writes loaders.csv: `error`, `warning`, `silent` for what is wrong; `read`, `wrong`, `error` for what is sound.
"""

import contextlib
import gzip
import io
import os
import struct
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pandas as pd

from ada_repro.data.tables import save_table

AFFINE = np.diag([0.5, 0.5, 5, 1])
SHAPE = (48, 48, 4)


def pair():
    "The scan and the mask that the notebook spoils."
    x, y = np.mgrid[-12:12:0.5, -12:12:0.5] + 0.25
    cord = (x / 6.5) ** 2 + (y / 4.5) ** 2 < 1
    gm = (x / 3.5) ** 2 + (y / 1.8) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 5, SHAPE)
    scan = 100 + 60 * cord[..., None] + 12 * gm[..., None] + noise
    return scan.astype("float32"), np.repeat((2 * cord - gm)[..., None], 4, axis=-1).astype("uint8")


SCAN, LABELS = pair()


# How files are spoilt
def save(path, values, affine=AFFINE, **forms):
    image = nib.Nifti1Image(values, affine)
    if "qform" in forms:
        image.set_qform(forms["qform"], 1)
    nib.save(image, path)


def raw_of(path):
    return bytearray(gzip.decompress(path.read_bytes()))


def patch(path, at, form, *values):
    raw = raw_of(path)
    struct.pack_into("<" + form, raw, at, *values)
    path.write_bytes(gzip.compress(raw))


def flip_bit(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def spoil_last_member(path):
    raw = raw_of(path)
    last = bytearray(gzip.compress(raw[5000:]))
    last[-8] ^= 1
    path.write_bytes(gzip.compress(raw[:5000]) + last)


def with_voxel(values, new):
    values = values.copy()
    values[3, 4, 0] = new
    return values


def turned(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(4)
    turn[:2, :2] = [[c, -s], [s, c]]
    return turn @ AFFINE


def moved(*mm):
    affine = AFFINE.copy()
    affine[:3, 3] = mm
    return affine


def coloured(path):
    colours = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["R"] = LABELS
    nib.save(nib.Nifti1Image(colours, AFFINE), path)


FAULTS = {
    "truncated .gz": lambda i, m: i.write_bytes(i.read_bytes()[:-40]),
    "one bit flipped in .gz": lambda i, m: flip_bit(i),
    "empty file": lambda i, m: i.write_bytes(b""),
    "HTML page named .nii.gz": lambda i, m: i.write_bytes(b"<!DOCTYPE html>" * 30),
    "missing rater file": lambda i, m: m.unlink(),
    "mask of other shape": lambda i, m: save(m, LABELS[1:]),
    "mask transposed, same shape": lambda i, m: save(m, LABELS.swapaxes(0, 1)),
    "mask shifted 50 mm": lambda i, m: save(m, LABELS, moved(50, 0, 0)),
    "left-right flipped affine": lambda i, m: save(m, LABELS, AFFINE * [-1, 1, 1, 1]),
    "axes swapped": lambda i, m: save(m, LABELS, AFFINE[[1, 0, 2, 3]]),
    "4-D image": lambda i, m: save(i, np.stack([SCAN] * 2, -1)),
    "2-D image": lambda i, m: save(i, SCAN[..., 0]),
    "NaN voxel": lambda i, m: save(i, with_voxel(SCAN, np.nan)),
    "Inf voxel": lambda i, m: save(i, with_voxel(SCAN, np.inf)),
    "constant image": lambda i, m: save(i, 0 * SCAN + 7),
    "all -32768": lambda i, m: save(i, np.full(SHAPE, -32768, "int16")),
    "empty mask": lambda i, m: save(m, 0 * LABELS),
    "mask value 7": lambda i, m: save(m, with_voxel(LABELS, 7)),
    "mask 0.5": lambda i, m: save(m, with_voxel(LABELS.astype("float32"), 0.5)),
    "qform mirrors sform": lambda i, m: save(m, LABELS, qform=AFFINE * [-1, 1, 1, 1]),
    "qform turned by 3 degrees": lambda i, m: save(m, LABELS, qform=turned(3)),
    "qform one slice higher": lambda i, m: save(m, LABELS, qform=moved(0, 0, 5)),
    "no orientation": lambda i, m: patch(m, 252, "2h", 0, 0),
    "checksum of 2nd member": lambda i, m: spoil_last_member(m),
    "voxels behind the last": lambda i, m: m.write_bytes(m.read_bytes() + gzip.compress(bytes(512))),
    "compressed twice": lambda i, m: m.write_bytes(gzip.compress(m.read_bytes())),
    "both .nii and .nii.gz": lambda i, m: m.with_suffix("").write_bytes(raw_of(m)),
    "infinite slope": lambda i, m: patch(m, 112, "2f", np.inf, 0),
    "a colour a voxel": lambda i, m: coloured(m),
    "three numbers a voxel": lambda i, m: save(m, np.stack([LABELS] * 3, -1)[:, :, :, None]),
    "mm called metres": lambda i, m: patch(i, 123, "b", 1),
    "voxels at byte 0": lambda i, m: patch(m, 108, "f", 0),
}


# How the same may be written
def stored(path, values, dtype, slope=1.0, order="<", kind=nib.Nifti1Header):
    header = kind(endianness=order)
    header.set_data_dtype(dtype)
    numbers = np.rint(values / slope).astype(np.dtype(dtype).newbyteorder(order))
    image = (nib.Nifti2Image if kind is nib.Nifti2Header else nib.Nifti1Image)(numbers, AFFINE, header)
    image.header.set_xyzt_units("mm")
    raw = bytearray(image.to_bytes())
    at, form = (176, "2d") if kind is nib.Nifti2Header else (112, "2f")
    struct.pack_into(order + form, raw, at, slope, 0)
    path.write_bytes(gzip.compress(raw))


def in_metres(path):
    image = nib.Nifti1Image(np.asarray(nib.load(path).dataobj), AFFINE * [[1e-3], [1e-3], [1e-3], [1]])
    image.header.set_xyzt_units("meter")
    path.write_bytes(gzip.compress(image.to_bytes()))


def other_name(path):
    path.with_suffix("").write_bytes(raw_of(path))
    path.unlink()


def members(path, *sizes):
    raw, parts = bytes(raw_of(path)), []
    for size in sizes:
        parts.append(gzip.compress(raw[:size]))
        raw = raw[size:]
    path.write_bytes(b"".join([*parts, gzip.compress(raw), gzip.compress(b"")]) + bytes(99))


SOUND = {
    "labels saved with an intensity scale": lambda i, m: stored(m, LABELS, "i2", 0.0123),
    "the same in one byte, 1/125": lambda i, m: stored(m, LABELS, "u1", 1 / 125),
    "big endian 16 bit": lambda i, m: stored(m, LABELS, "u2", order=">"),
    "64 bit whole numbers": lambda i, m: stored(m, LABELS, "i8"),
    "X,Y,Z,1": lambda i, m: patch(m, 40, "8h", 4, *SHAPE, 1, 1, 1, 1),
    "X,Y,Z,1,1": lambda i, m: patch(m, 40, "8h", 5, *SHAPE, 1, 1, 1, 1),
    "negative pixdim": lambda i, m: patch(m, 80, "3f", -0.5, -0.5, -5),
    "pixdim 0": lambda i, m: patch(m, 80, "3f", 0, 0, 0),
    "NIfTI-2": lambda i, m: stored(m, LABELS, "u1", kind=nib.Nifti2Header),
    "scan in metres": lambda i, m: in_metres(i),
    "several gzip members, an empty one, zero padding": lambda i, m: members(m, 7, 5000),
    "a .nii.gz that is not compressed": lambda i, m: m.write_bytes(raw_of(m)),
    ".nii where .nii.gz is named": lambda i, m: other_name(m),
    "slope 0, intercept not finite": lambda i, m: patch(m, 112, "2f", 0, np.nan),
}


# Loaders: (scan, mask) as arrays, axes in the order of the file
def by_nibabel(i, m):
    return nib.load(i).get_fdata(), nib.load(m).get_fdata()


def by_simpleitk(i, m):
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return [sitk.GetArrayFromImage(sitk.ReadImage(str(p))).T for p in (i, m)]


def by_torchio(i, m):
    import torchio as tio

    subject = tio.Subject(image=tio.ScalarImage(i), mask=tio.LabelMap(m))
    subject.load()
    subject.check_consistent_attribute("spatial_shape")
    return [subject[name].numpy()[0] for name in ("image", "mask")]


def by_monai(i, m):
    from monai.transforms import LoadImaged

    read = LoadImaged(["image", "mask"])({"image": i, "mask": m})
    return np.asarray(read["image"]), np.asarray(read["mask"])


def by_nnunet(reader):
    "nnU-Net's check of a case, by one of its two readers of NIfTI."

    def check(i, m):
        from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases, verify_labels
        from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
        from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

        kind = {"NibabelIO": NibabelIO, "SimpleITKIO": SimpleITKIO}[reader]
        if not (check_cases([str(i)], str(m), 1, kind) and verify_labels(str(m), kind, [0, 1, 2])):
            raise ValueError("refused")
        return kind().read_images([str(i)])[0][0].T, kind().read_seg(str(m))[0][0].T

    return check


LOADERS = {
    "nibabel": by_nibabel,
    "SimpleITK": by_simpleitk,
    "TorchIO": by_torchio,
    "MONAI": by_monai,
    "nnU-Net (SimpleITKIO)": by_nnunet("SimpleITKIO"),
    "nnU-Net (NibabelIO)": by_nnunet("NibabelIO"),
}


def one_word(spoil, load, sound):
    "What a loader makes of a pair that was spoilt, or only written otherwise."
    said = io.StringIO()
    with TemporaryDirectory() as d, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        i, m = Path(d) / "image.nii.gz", Path(d) / "mask.nii.gz"
        save(i, SCAN)
        save(m, LABELS)
        spoil(i, m)
        try:
            scan, labels = load(i, m)
        except Exception:
            return "error"
    if sound:
        same = np.squeeze(labels).shape == SHAPE and np.array_equal(np.squeeze(labels), LABELS)
        return "read" if same and np.allclose(np.squeeze(scan), SCAN, atol=0.01) else "wrong"
    return "warning" if "warning" in said.getvalue().lower() else "silent"


def main():
    os.environ |= dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), "nowhere")  # it asks for them
    rows = []
    for kind, cases in (("fault", FAULTS), ("sound", SOUND)):
        for name, spoil in cases.items():
            words = {loader: one_word(spoil, load, kind == "sound") for loader, load in LOADERS.items()}
            rows.append({"kind": kind, "file": name, **words})
    table = pd.DataFrame(rows)
    save_table(table, Path(__file__).with_suffix(".csv"))
    print(table.to_string())
    peers = ("nibabel", "SimpleITK", "torchio", "monai", "nnunetv2")
    print(*(f"{name} {version(name)}" for name in peers), file=sys.stderr)


if __name__ == "__main__":
    main()
