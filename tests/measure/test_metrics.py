"Table 1 against hand counts, naive second implementations, scipy, MONAI and surface-distance."

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.spatial.distance import directed_hausdorff

from ada_repro.core import named_rng
from ada_repro.measure.metrics import (
    boundary,
    boundary_distance,
    counts,
    dice_score,
    hausdorff_distance,
    hausdorff_rows,
    precision,
    ratios,
    score,
    score_copies,
    sensitivity,
    specificity,
)

RATIOS = {"DSC": dice_score, "TPR": sensitivity, "TNR": specificity, "PPV": precision}
ALL = [*RATIOS.values(), hausdorff_distance, hausdorff_rows]
EMPTY, FULL = np.zeros((6, 7), bool), np.ones((6, 7), bool)
SOME = EMPTY.copy()
SOME[2:4, 3:6] = True


def blobs(*names, shape=(40, 36)):
    "Two overlapping masks with smooth random outlines."
    rng = named_rng(0, "blobs", *names)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    bumps = [gaussian_filter(rng.normal(size=shape), 3) * 20 for _ in range(2)]
    at, wide = (
        [rng.uniform(-3, 3, len(shape)) for _ in range(2)],
        [rng.uniform(0.15, 0.3, len(shape)) * shape for _ in range(2)],
    )
    return [
        (((grid - np.array(shape) / 2 - a) / w) ** 2).sum(-1) + 0.1 * b < 1
        for a, w, b in zip(at, wide, bumps, strict=True)
    ]


def naive_boundary(mask):
    "Pixel by pixel: in the mask, and some neighbour (along axes longer than 1) is not, or lies beyond the image."
    points = []
    for p in map(tuple, np.argwhere(mask)):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                q = list(p)
                q[axis] += step
                beyond = not 0 <= q[axis] < mask.shape[axis]
                if mask.shape[axis] > 1 and (beyond or not mask[tuple(q)]):
                    points.append(p)
    return sorted(set(points))


def naive_hausdorff(pred, target, spacing, percentile=100):
    a, b = [[np.array(p) * spacing for p in naive_boundary(m)] for m in (pred, target)]

    def directed(u, v):
        return np.percentile([min(math.dist(x, y) for y in v) for x in u], percentile)

    return max(directed(a, b), directed(b, a))


def test_hand_counted():
    pred, target = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    target[1:3, 1:3] = True
    pred[1, 1:5] = True
    assert counts(pred, target) == (2, 2, 2, 14)
    assert score(pred, target, (1, 1)) == {
        "DSC": 50,
        "HSD": 2,
        "HSD_rows": math.sqrt(2),
        "TPR": 50,
        "TNR": 87.5,
        "PPV": 50,
    }


@pytest.mark.parametrize("i", range(20))
def test_counts_equal_a_double_loop(i):
    rng = named_rng(0, "counts", i)
    pred, target = rng.random((5, 6)) < rng.random(), rng.random((5, 6)) < rng.random()
    naive = [0, 0, 0, 0]
    for r in range(5):
        for c in range(6):
            naive[{(1, 1): 0, (1, 0): 1, (0, 1): 2, (0, 0): 3}[int(pred[r, c]), int(target[r, c])]] += 1
    assert counts(pred, target) == tuple(naive)
    TP, FP, FN, TN = naive

    def percent(a, b):
        return 100 * a / b if b else math.nan

    expected = {
        "DSC": percent(2 * TP, 2 * TP + FP + FN),
        "TPR": percent(TP, TP + FN),
        "TNR": percent(TN, TN + FP),
        "PPV": percent(TP, TP + FP),
    }
    for name, metric in RATIOS.items():
        assert metric(pred, target) == pytest.approx(expected[name], nan_ok=True), name


@pytest.mark.parametrize(
    "pred, target, expected",
    [
        (EMPTY, SOME, {"DSC": 0, "HSD": math.nan, "HSD_rows": math.nan, "TPR": 0, "TNR": 100, "PPV": math.nan}),
        (
            SOME,
            EMPTY,
            {"DSC": 0, "HSD": math.nan, "HSD_rows": math.nan, "TPR": math.nan, "TNR": 100 * 36 / 42, "PPV": 0},
        ),
        (
            EMPTY,
            EMPTY,
            {"DSC": math.nan, "HSD": math.nan, "HSD_rows": math.nan, "TPR": math.nan, "TNR": 100, "PPV": math.nan},
        ),
        (FULL, FULL, {"DSC": 100, "HSD": 0, "HSD_rows": 0, "TPR": 100, "TNR": math.nan, "PPV": 100}),
    ],
)
def test_conventions(pred, target, expected):
    assert score(pred, target, (1, 1)) == pytest.approx(expected, nan_ok=True)
    with np.errstate(all="raise"):
        score(pred, target, (1, 1))
    for volume in (pred[None].repeat(3, 0), target[None].repeat(3, 0)), (pred[None], target[None]):
        three = score(*volume, (2, 1, 1))
        for name in RATIOS:
            assert three[name] == pytest.approx(expected[name], nan_ok=True)


@pytest.mark.parametrize("i", range(30))
@pytest.mark.parametrize("percentile", [100, 95, 50])
def test_hausdorff_equals_a_naive_one(i, percentile):
    rng = named_rng(0, "naive", i)
    pred, target = rng.random((2, 7, 9)) < rng.uniform(0.1, 0.95, (2, 1, 1))
    if not (pred.any() and target.any()):
        pytest.skip("an empty draw")
    spacing = tuple(rng.uniform(0.2, 2, 2))
    assert hausdorff_distance(pred, target, spacing, percentile) == pytest.approx(
        naive_hausdorff(pred, target, spacing, percentile), rel=1e-12
    )


@pytest.mark.parametrize("i", range(8))
def test_hausdorff_of_volumes_equals_a_naive_one(i):
    rng = named_rng(0, "volume", i)
    pred, target = rng.random((2, 3, 5, 4)) < 0.6
    assert hausdorff_distance(pred, target, (3, 0.5, 0.7)) == pytest.approx(
        naive_hausdorff(pred, target, (3, 0.5, 0.7)), rel=1e-12
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("i", range(60))
def test_hausdorff_equals_monai_and_surface_distance(i):
    monai, surface = pytest.importorskip("monai.metrics"), pytest.importorskip("surface_distance")
    pred, target = blobs(i)
    spacing = tuple(named_rng(0, "spacing", i).uniform(0.2, 1.5, 2))
    both = [torch.from_numpy(m)[None, None] for m in (pred, target)]
    for percentile in (100, 95):
        theirs = monai.compute_hausdorff_distance(
            *both, include_background=True, percentile=percentile, spacing=spacing
        ).item()
        assert hausdorff_distance(pred, target, spacing, percentile) == pytest.approx(theirs, rel=1e-5)
    theirs = surface.compute_robust_hausdorff(surface.compute_surface_distances(target, pred, spacing), 100)
    assert hausdorff_distance(pred, target, spacing) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("i", range(5))
def test_hausdorff_of_volumes_equals_monai(i):
    monai = pytest.importorskip("monai.metrics")
    pred, target = blobs("volume", i, shape=(9, 24, 20))
    both = [torch.from_numpy(m)[None, None] for m in (pred, target)]
    theirs = monai.compute_hausdorff_distance(*both, include_background=True, spacing=(3.0, 0.5, 0.7)).item()
    assert hausdorff_distance(pred, target, (3, 0.5, 0.7)) == pytest.approx(theirs, rel=1e-5)


def test_many_boundary_points_take_the_tree_and_agree():
    a, b = named_rng(0, "points").normal(size=(2, 1200, 2))
    whole = max(np.sqrt(((u[:, None] - v) ** 2).sum(-1)).min(1).max() for u, v in ((a, b), (b, a)))
    assert boundary_distance(a, b) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("i", range(10))
def test_symmetry_identity_and_scale(i):
    pred, target = blobs("symmetry", i)
    assert hausdorff_distance(pred, target) == hausdorff_distance(target, pred)
    assert hausdorff_distance(pred, target, (3, 3)) == pytest.approx(3 * hausdorff_distance(pred, target))
    assert dice_score(pred, target) == dice_score(target, pred) and sensitivity(pred, target) == precision(target, pred)
    assert score(target, target, (1, 1)) == {"DSC": 100, "HSD": 0, "HSD_rows": 0, "TPR": 100, "TNR": 100, "PPV": 100}


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_translation_is_as_far_as_it_goes(k, axis):
    disc = np.add.outer((np.arange(40) - 20) ** 2, (np.arange(40) - 20) ** 2) < 60
    assert hausdorff_distance(np.roll(disc, k, axis), disc, (0.5, 0.3)) == pytest.approx(k * (0.5, 0.3)[axis])


def test_boundary_convention():
    assert len(boundary(np.ones((5, 4), bool))) == 14  # the image's border is boundary
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    assert len(boundary(ring)) == 20  # a hole has boundary too: its 4 neighbours, no diagonal
    line = np.zeros((5, 6), bool)
    line[2] = True
    assert len(boundary(line)) == 6  # a line is all boundary
    assert boundary(SOME, (2, 0.5)).min(0).tolist() == [4, 1.5]  # in mm, of the uncropped image
    for i in range(10):
        mask = named_rng(0, "edge", i).random((6, 5)) < 0.7
        assert sorted(map(tuple, boundary(mask).astype(int).tolist())) == naive_boundary(mask)
        assert not (
            set(naive_boundary(mask))
            - set(map(tuple, np.argwhere(mask & binary_dilation(~np.pad(mask, 1))[1:-1, 1:-1]).tolist()))
        )


@pytest.mark.parametrize("i", range(10))
def test_a_volume_of_one_slice_is_that_slice(i):
    pred, target = blobs("slice", i)
    assert score(pred[None], target[None], (5, 0.5, 0.3)) == pytest.approx(
        {**score(pred, target, (0.5, 0.3)), "HSD_rows": math.nan}, nan_ok=True
    )


@pytest.mark.parametrize("i", range(30))
def test_rows_equal_the_ancestor(i):
    rng = named_rng(0, "rows", i)
    pred, target = rng.random((2, 12, 9)) < rng.uniform(0, 0.6, (2, 12, 1))
    assert hausdorff_rows(pred, target) == pytest.approx(
        directed_hausdorff(pred.astype(float), target.astype(float))[0]
    )


def test_rows_do_not_see_a_shift():
    square = np.zeros((60, 60), bool)
    square[10:20, 20:30] = True
    assert (
        hausdorff_rows(np.roll(square, 10, 0), square) == 0 and hausdorff_distance(np.roll(square, 10, 0), square) == 10
    )
    assert hausdorff_rows(EMPTY, SOME) == 0 and hausdorff_rows(SOME, EMPTY) == pytest.approx(math.sqrt(3))


@pytest.mark.parametrize("shape", [(40, 36), (6, 20, 18)])
def test_copies_equal_one_at_a_time(shape):
    target = blobs("target", shape=shape)[0]
    preds = np.stack([blobs("copy", i, shape=shape)[1] for i in range(6)] + [target, target & ~target])
    spacing = (3, 0.5, 0.4)[-len(shape) :]
    many = score_copies(preds, target, spacing)
    for i, pred in enumerate(preds):
        assert score(pred, target, spacing) == pytest.approx({k: v[i] for k, v in many.items()}, nan_ok=True)
    assert all(v.shape == (8,) and v.dtype == np.float64 for v in many.values())
    assert np.array_equal(ratios(*counts(preds, target))["DSC"], many["DSC"], equal_nan=True)


@pytest.mark.parametrize("metric", ALL)
def test_numpy_or_torch_and_nothing_changed(metric):
    pred, target = blobs("torch")
    before = pred.copy(), target.copy()
    value = metric(pred, target)
    assert (
        value == metric(torch.from_numpy(pred), torch.from_numpy(target)) == metric(pred, torch.from_numpy(target))
        and type(value) is float
    )
    assert value == metric(np.asfortranarray(pred), target) == metric(pred[::-1], target[::-1])
    assert np.array_equal(pred, before[0]) and np.array_equal(target, before[1])


@pytest.mark.parametrize("metric", [*ALL, lambda p, t: score(p, t, (1, 1))])
@pytest.mark.parametrize(
    "pred, target, said",
    [
        (SOME * 0.7, SOME, "pred must hold only zeros and ones, but holds 0.7; threshold it"),
        (SOME, SOME.astype(np.uint8) * 2, "target must hold only zeros and ones, but holds 2"),
        (torch.from_numpy(SOME) * -1.0, SOME, "pred must hold only zeros and ones, but holds -1"),
        (np.where(SOME, np.nan, 0), SOME, "pred must hold only zeros and ones, but holds nan"),
        (SOME, [[0, 1], [1]], "inhomogeneous"),
        ("SOME", SOME, "pred must hold only zeros and ones, but holds SOME"),
        (None, SOME, "pred must hold only zeros and ones, but holds None"),
        (SOME, SOME[:5], "same grid"),
        (SOME[None], SOME, "same grid"),
        (SOME[0], SOME[0], r"\(H,W\) or \(D,H,W\)"),
        (SOME[None, None], SOME[None, None], r"\(H,W\) or \(D,H,W\)"),
    ],
)
def test_bad_masks_are_refused(metric, pred, target, said):
    with pytest.raises(ValueError, match=said) as e:
        metric(pred, target)
    assert "\n" not in str(e.value)


OTHER_TYPES = {
    "float": SOME.astype(float),
    "uint8": SOME.astype(np.uint8),
    "list": SOME.tolist(),
    "list of 0 and 1": SOME.astype(int).tolist(),
    "object": SOME.astype(object),
    "torch bool": torch.from_numpy(SOME),
    "torch uint8": torch.from_numpy(SOME).byte(),
    "torch bfloat16": torch.from_numpy(SOME).bfloat16(),
    "torch with gradient": torch.from_numpy(SOME).float().requires_grad_(),
}


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_zeros_and_ones_of_any_type_are_a_mask(kind):
    mask, other = OTHER_TYPES[kind], np.roll(SOME, 1, 0)
    assert score(mask, other, (1, 1)) == score(SOME, other, (1, 1))
    assert score(other, mask, torch.tensor([0.5, 0.25])) == score(other, SOME, (0.5, 0.25))
    for metric in ALL:
        assert metric(mask, other) == metric(SOME, other)


@pytest.mark.parametrize(
    "spacing, said",
    [
        ((1,), "needs 2 positive numbers"),
        ((1, 1, 1), "needs 2 positive numbers"),
        (0.5, "needs 2 positive numbers"),
        (None, "needs 2 positive numbers"),
        ((1, 0), "a number above 0, not 0"),
        ((-1, 1), "a number above 0, not -1"),
        ((math.nan, 1), "a number, not nan"),
        ((1, math.inf), "a number, not inf"),
        ((1, "1"), "a number, not '1'"),
    ],
)
def test_bad_spacing_is_refused(spacing, said):
    for refuse in (lambda: hausdorff_distance(SOME, SOME, spacing), lambda: score(SOME, EMPTY, spacing)):
        with pytest.raises(ValueError, match=said) as e:
            refuse()
        assert "spacing_mm" in str(e.value) and "\n" not in str(e.value)


def test_other_refusals():
    with pytest.raises(ValueError, match="one slice"):
        hausdorff_rows(SOME[None], SOME[None])
    with pytest.raises(ValueError, match="same grid"):
        score_copies(SOME, SOME, (1, 1))
    with pytest.raises(ValueError, match="ercentile"):
        hausdorff_distance(SOME, SOME, percentile=101)


def test_masks_without_pixels_and_of_ragged_rows():
    assert np.isnan(hausdorff_rows(np.zeros((0, 8)), np.zeros((0, 8))))
    with pytest.raises(ValueError, match="pred must not be inhomogeneous; give rows"):
        dice_score([[1, 0], [1]], [[1, 0], [0, 1]])
    with pytest.raises(ValueError, match="masked"):
        dice_score(np.ma.masked_array(np.eye(4), mask=np.eye(4) > 0), np.eye(4))
