"""Small valid scans, and how the tests spoil them."""

import gzip
import os
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ada_repro.core import ROOT
from ada_repro.data.volume import read_volume

REAL = Path(os.environ.get("ADA_GM_CHALLENGE", ROOT.parent / "shared" / "data" / "gm-challenge"))
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"no open grey matter challenge data in {REAL} (set ADA_GM_CHALLENGE)"
)
SIDE, DEPTH, MM = 64, 3, (0.5, 0.5, 5.0)
AFFINE = np.diag([*MM, 1.0])


def stack(plane):
    "The same plane in every slice."
    return np.repeat(plane[..., None], DEPTH, -1)


def arrays(seed=0, shift=(0, 0)):
    "Image, mask (1 = GM, 2 = WM) and cord of a small valid volume, 32 mm wide, in R, A, S order."
    x, y = np.mgrid[:SIDE, :SIDE] * 0.5 - 15.75 - np.array(shift)[:, None, None]
    cord = (x / 6.5) ** 2 + (y / 4.5) ** 2 < 1
    gm = (x / 3.5) ** 2 + (y / 1.8) ** 2 < 1
    noise = np.random.default_rng(seed).normal(0, 5, (SIDE, SIDE, DEPTH))
    image = stack(100.0 + 60 * cord + 12 * gm) + noise
    return image.astype(np.float32), stack(2 * cord - gm).astype(np.uint8), stack(cord).astype(np.uint8)


# The people of the challenge, in its order
CHALLENGE = [f"site{site}-sc{number:02}" for site, number in product(range(1, 5), range(1, 11))]


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


def spoil(path, raw):
    "Other bytes in place of a file that may be a link."
    path.unlink()
    path.write_bytes(raw)
