"How much windows agree, by counting pixels and by enumeration."

from itertools import product

import numpy as np
import pandas as pd
import pytest

from ada_repro.core import DataError
from ada_repro.measure.agreement import chance_iou, iou_matrix, mask_iou, read_examples, window_iou


def test_iou_by_counting_pixels():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 12, (2, 60, 2))

    def square(at):
        m = np.zeros((20, 20), bool)
        m[at[0] : at[0] + 7, at[1] : at[1] + 7] = True
        return m

    slow = [(square(p) & square(q)).sum() / (square(p) | square(q)).sum() for p, q in zip(a, b, strict=True)]
    assert np.allclose(window_iou(a, b, 7), slow)
    assert mask_iou(np.stack([~square(a[0]), ~square(b[0])]))[0, 1] == pytest.approx(slow[0])


@pytest.mark.parametrize("n, size, low, high", [(6, 3, None, None), (7, 2, 1, 4), (5, 5, None, None), (6, 4, 2, 2)])
def test_chance_by_enumeration(n, size, low, high):
    at = range(low or 0, (n - size if high is None else high) + 1)
    corners = np.array(list(product(at, at)))
    slow = np.mean([window_iou(c[None], d[None], size)[0] for c, d in product(corners, corners)])
    assert chance_iou(n, size, low, high) == pytest.approx(slow)


def test_chance_of_the_paper():
    assert round(chance_iou(200, 20), 3) == 0.008 and round(chance_iou(200, 20, 60, 120), 3) == 0.057
    with pytest.raises(ValueError, match="do not fit"):
        chance_iou(20, 10, 5, 15)


def test_iou_matrix_takes_the_first_cycle_and_real_windows():
    rows = [
        (arm, "paper", 0, cycle, i, r, c)
        for (arm, r, c), cycle, i in product((("gradcam", 2, 2), ("random", 4, 2), ("none", -4, -4)), (1, 2), range(3))
    ]
    windows = pd.DataFrame(rows, columns=["arm", "fold", "seed", "cycle", "slice_index", "row", "col"])
    windows.loc[windows.cycle == 2, "row"] = 2
    iou = iou_matrix(windows.sample(frac=1, random_state=0), 4).set_index(["arm_a", "arm_b"])
    assert iou.iou[("gradcam", "random")] == iou.iou[("random", "gradcam")] == pytest.approx(8 / 24)
    assert len(iou) == 4 and (iou.slices == 3).all() and iou.iou[("random", "random")] == 1


def test_examples_must_show_one_slice(tmp_path):
    for arm, x in (("gradcam", 0), ("vanilla", 1)):
        (tmp_path / f"{arm}-paper-0").mkdir()
        np.savez(
            tmp_path / f"{arm}-paper-0" / "example.npz",
            image=np.full((4, 4), x),
            target=np.eye(4) > 0,
            map=np.eye(4),
            mask=np.eye(4) > 0,
        )
    with pytest.raises(DataError, match="gradcam-paper-0.*another slice"):
        read_examples(tmp_path, ["gradcam", "vanilla"], "paper", 0)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, float])
def test_windows_and_masks_of_any_kind_of_number(kind):
    assert window_iou(np.array([[0, 0]], kind), np.array([[1, 1]], kind), 4)[0] == pytest.approx(9 / 23)
    masks = np.ones((2, 8, 8), kind)
    masks[0, :4], masks[1, 2:6] = 0, 0
    assert np.allclose(mask_iou(masks), [[1, 1 / 3], [1 / 3, 1]])
    assert chance_iou(np.uint8(16), np.uint8(4)) == chance_iou(16, 4)


@pytest.mark.parametrize("told", [(16, 0), (16.5, 4), ("16", 4), (True, True), (16, 4, 0.5, 3)])
def test_windows_that_cannot_be(told):
    with pytest.raises(ValueError, match="must be a whole number"):
        chance_iou(*told)
