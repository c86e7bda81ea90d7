"""Resampling checked by hand; prepared slices that are broken are refused."""

import numpy as np
import pytest
from scans import SIDE, arrays

from ada_repro.core import DataError
from ada_repro.data.datasets import prepare
from ada_repro.data.slices import load_slices, sampling_matrix


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
