"Windows, masks and holes against slow and obvious second implementations."

import numpy as np
import pytest
import torch

from ada_repro.core import named_generator
from ada_repro.method.mask import (
    build_mask,
    build_robustness_data,
    choose_windows,
    occlude,
    occlusion_grid,
    window_mask,
    window_sums,
)


def naive_window(s, size, allowed=lambda r, c: True):
    best, at = -np.inf, None
    for r in range(s.shape[0] - size + 1):
        for c in range(s.shape[1] - size + 1):
            total = s[r : r + size, c : c + size].astype(np.float64).sum()
            if allowed(r, c) and total > best + 1e-9:
                best, at = total, (r, c)
    return at


@pytest.mark.parametrize("h, w, size", [(9, 9, 1), (9, 9, 9), (12, 17, 5), (20, 20, 7)])
def test_window_sums_by_double_loop(h, w, size):
    s = torch.rand(2, h, w, generator=named_generator(h, w, size))
    sums = window_sums(s, size)
    assert sums.shape == (2, h - size + 1, w - size + 1) and sums.dtype == torch.float64
    for r in range(h - size + 1):
        for c in range(w - size + 1):
            torch.testing.assert_close(sums[:, r, c], s[:, r : r + size, c : c + size].double().sum((1, 2)))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("protect", ["keep", "forbid", "none"])
def test_mask_by_double_loop(seed, protect):
    s = torch.rand(3, 18, 18, generator=named_generator(seed))
    gm = torch.zeros(3, 18, 18, dtype=torch.bool)
    gm[:, 7:10, 5:12] = True
    mask = build_mask(s, 5, gm, protect=protect)
    for i in range(3):
        avoided = gm[i] if protect == "forbid" else torch.zeros_like(gm[i])
        r, c = naive_window(s[i].numpy(), 5, lambda r, c, avoided=avoided: not avoided[r : r + 5, c : c + 5].any())
        expected = np.ones((18, 18), bool)
        expected[r : r + 5, c : c + 5] = False
        if protect == "keep":
            expected |= gm[i].numpy()
        assert np.array_equal(mask[i].numpy(), expected)


def test_the_first_of_equal_windows_wins():
    s = torch.zeros(1, 10, 10)
    s[0, 2, 2] = s[0, 7, 7] = 1
    assert choose_windows(s, 2)[0].tolist() == [[1, 1]]


def test_the_window_has_exactly_the_size_asked_for():
    s = torch.zeros(1, 12, 12)
    s[0, 3:7, 4:8] = 1
    mask = build_mask(s, 4)
    assert (~mask).sum() == 16 and not mask[0, 3:7, 4:8].any()


@pytest.mark.parametrize(
    "s",
    [torch.zeros(2, 16, 16), torch.full((2, 16, 16), 0.3), -torch.rand(2, 16, 16)],
    ids=["zero", "constant", "negative"],
)
def test_flat_maps_are_counted_and_never_the_corner_by_default(s):
    corners = torch.cat([choose_windows(s, 4, generator=named_generator("flat", i))[0] for i in range(40)])
    assert choose_windows(s, 4)[1].all()
    assert len(corners.unique(dim=0)) > 20
    assert choose_windows(s, 4, flat="corner")[0].tolist() == [[0, 0], [0, 0]]


def test_random_windows_are_uniform():
    corners, _ = choose_windows(torch.zeros(4000, 6, 6), 4, generator=named_generator("uniform"))
    counts = torch.bincount(corners[:, 0] * 3 + corners[:, 1], minlength=9)
    assert ((counts - 4000 / 9).abs() < 5 * (4000 / 9) ** 0.5).all()


def test_forbid_holds_for_flat_maps_too():
    gm = torch.zeros(50, 16, 16, dtype=torch.bool)
    gm[:, 5:12, 5:12] = True
    mask = build_mask(torch.zeros(50, 16, 16), 4, gm, protect="forbid")
    assert (~mask).sum((1, 2)).eq(16).all() and not (~mask & gm).any()


@pytest.mark.parametrize("protect", ["keep", "forbid"])
def test_a_map_is_judged_by_itself(protect):
    maps, target = (
        torch.rand(19, 12, 12, generator=named_generator("many")),
        torch.rand(19, 12, 12, generator=named_generator("gm")) > 0.99,
    )
    maps[[2, 8, 17]] = 0
    many, one = named_generator("flat"), named_generator("flat")
    corners, is_flat = choose_windows(maps, 4, target, protect, generator=many)
    each = [choose_windows(s[None], 4, t[None], protect, generator=one) for s, t in zip(maps, target, strict=True)]
    assert (
        torch.equal(corners, torch.cat([c for c, _ in each]))
        and torch.equal(is_flat, torch.cat([f for _, f in each]))
        and is_flat.sum() == 3
    )


def test_inputs_are_left_alone():
    s, gm = torch.rand(2, 8, 8), torch.zeros(2, 8, 8, dtype=torch.bool)
    x = torch.rand(2, 1, 8, 8)
    copies = [t.clone() for t in (s, gm, x)]
    occlude(x, build_mask(s, 3, gm))
    assert all(torch.equal(a, b) for a, b in zip((s, gm, x), copies, strict=True))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda s: window_sums(s, 9), r"size must be a whole number in \[1, 8\], not 9"),
        (lambda s: window_sums(s, 0), "size must .*not 0"),
        (lambda s: window_sums(s, 3.5), "size must .*not 3.5"),
        (lambda s: choose_windows(s, "3"), "size must .*not '3'"),
        (lambda s: build_mask(s / 0 * 0, 3), "saliency must be finite, but holds nan at"),
        (lambda s: build_mask(s[0], 3), r"saliency must have the shape \(B, H, W\), not \(8, 8\)"),
        (lambda s: build_mask(s[:, None], 3), "saliency must have the shape"),
        (lambda s: build_mask(s.numpy(), 3), "saliency must be a torch tensor"),
        (lambda s: build_mask(s, 3, s), "target must hold only zeros and ones"),
        (lambda s: build_mask(s, 3, s[:, 1:] > 0, "none"), r"target must have the shape \(1, 8, 8\), not \(1, 7, 8\)"),
        (lambda s: choose_windows(s, 3, torch.ones(2, 8, 8)), "target must have the shape"),
        (lambda s: occlude(s[:, None], s), "mask must hold only zeros and ones"),
        (lambda s: occlude(s[:, None], s[:, :4] > 0), r"mask must have the shape \(B, 8, 8\), not \(1, 4, 8\)"),
        (lambda s: occlude(s.repeat(3, 1, 1)[:, None], s.repeat(2, 1, 1) > 0), "mask must be one for each of the 3"),
        (lambda s: occlude(s, s > 0), "image must have the shape"),
        (lambda s: occlude(s.repeat(1, 2, 1, 1).view(1, 2, 8, 8), s > 0), "image must have the shape"),
        (lambda s: occlude(s[:, None].int(), s > 0), "image must hold floating point numbers"),
        (lambda s: occlusion_grid(20, 0), "size must be a whole number in"),
        (lambda s: occlusion_grid(20, 21), "size must be a whole number in"),
        (lambda s: occlusion_grid(0, 1), "n must be a whole number of at least 1, not 0"),
        (lambda s: build_robustness_data(s, 2), "image must have the shape"),
        (lambda s: build_robustness_data(s[:, None, 1:], 2), r"image must have the shape \(B, 1, N, N\)"),
        (lambda s: build_mask(s, 3, protect="kep"), "'kep'"),
        (lambda s: build_mask(s, 3, flat="midle"), "'midle'"),
    ],
)
def test_wrong_arguments_are_one_line(call, words):
    with pytest.raises(ValueError, match=words) as e:
        call(torch.rand(1, 8, 8))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("protect", ["keep", "forbid", "none"])
def test_good_arguments_of_every_kind(protect):
    maps, target = torch.randint(0, 9, (3, 12, 12), generator=named_generator("maps")), torch.zeros(3, 12, 12) > 0
    target[:, 3:6, 4:7] = True
    expected = build_mask(maps.float(), 4, target, protect)
    for size in (4, np.int64(4), np.uint8(4), torch.tensor(4)):
        for y in (target, target[:, None], target.float(), target[:, None].byte()):
            for m in (maps, maps.double(), maps.half(), maps.byte()):
                assert torch.equal(build_mask(m, size, y, protect), expected)
    x = torch.rand(3, 1, 12, 12)
    for mask in (expected, expected.float(), expected[:, None], expected.long()):
        assert torch.equal(occlude(x, mask), x * expected[:, None])
    assert occlude(x.half(), expected).dtype == torch.float16
    assert occlude(x[:1], expected).shape == occlude(x, expected[:1]).shape == x.shape
    assert occlusion_grid(np.int64(12), np.int32(4)) == occlusion_grid(12, 4)


@pytest.mark.parametrize("n, size", [(200, 20), (80, 10), (20, 7)])
def test_each_pixel_is_hidden_in_exactly_one_copy(n, size):
    copies = build_robustness_data(torch.ones(1, 1, n, n), size)
    assert len(copies) == len(occlusion_grid(n, size)) == (-(-n // size)) ** 2
    assert (copies == 0).sum(0).eq(1).all()


def test_hundred_copies_at_the_papers_size():
    assert len(occlusion_grid(200, 20)) == 100 and occlusion_grid(200, 20)[:3] == [(0, 0), (0, 20), (0, 40)]


def test_a_corner_outside_hides_nothing():
    assert window_mask(torch.tensor([[-4, -4]]), 4, (8, 8)).all()


@pytest.mark.parametrize("protect", ["keep", "forbid", "none"])
def test_a_target_of_numpy_makes_the_mask_of_the_tensor(protect):
    maps, target = torch.rand(3, 12, 12, generator=named_generator("numpy")), torch.zeros(3, 12, 12, dtype=torch.bool)
    target[:, 4:8, 4:8] = True
    wanted = build_mask(maps, 4, target, protect)
    for same in (target.numpy(), target.numpy().astype(np.uint8), target.double().numpy()):
        mask = build_mask(maps, 4, same, protect)
        assert mask.dtype == torch.bool and torch.equal(mask, wanted) and torch.equal(~mask, ~wanted)
    image = maps[:, None]
    assert torch.equal(occlude(image, wanted.numpy()), occlude(image, wanted))


def test_what_draws_is_a_generator_on_the_cpu():
    for wrong in (0, np.random.default_rng(0)):
        with pytest.raises(ValueError, match="must be a torch.Generator"):
            build_mask(torch.zeros(1, 8, 8), 4, generator=wrong)


@pytest.mark.parametrize("flat", ["random", "corner"])
def test_a_map_that_is_flat_where_a_window_may_lie_is_flat(flat):
    gm = torch.zeros(30, 16, 16, dtype=torch.bool)
    gm[:, 6:10, 6:10] = True
    corners, is_flat = choose_windows(gm.float(), 4, gm, "forbid", flat=flat, generator=named_generator("forbidden"))
    assert is_flat.all()
    assert (flat == "corner") == (corners == 0).all().item()
    assert not (~build_mask(gm.float(), 4, gm, protect="forbid", flat=flat) & gm).any()
