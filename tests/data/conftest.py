"""A tiny challenge, for all tests of data."""

import os

import numpy as np
import pytest
from scans import CHALLENGE, arrays, write


@pytest.fixture(scope="module")
def challenge(tmp_path_factory):
    "A tiny challenge in the SCGM layout."
    folder = tmp_path_factory.mktemp("scgm")
    for i, name in enumerate(CHALLENGE):
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
