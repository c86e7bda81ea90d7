"Table 2 against scipy, and what must hold for every draw."

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, binary_dilation, binary_erosion, gaussian_filter, map_coordinates

from ada_repro.core import named_generator, named_rng
from ada_repro.train.augment import Draws, augment, draw

SIZE = 64
OFF = dict.fromkeys(("rotation_deg", "shift", "scaling", "channel_shift", "elastic_p"), 0)


def toy(n, raters=2, size=SIZE):
    "Smooth images, and targets by threshold."
    rng = named_rng(0, "toy", n, size)
    images = np.stack([gaussian_filter(rng.normal(size=(size, size)), 4) * 14 for _ in range(n)])[:, None].astype(
        np.float32
    )
    return torch.from_numpy(images), torch.from_numpy(np.concatenate([images > 0.3 * r for r in range(raters)], 1))


def drawn(*names, n=6, size=SIZE, **kw):
    return draw(n, size, named_generator(0, "augment", *names), **kw)


def field_of(draws, i):
    return (draws.spread.double() @ draws.noise[i].double() @ draws.spread.T.double()).numpy()


def source(draws, i, size):
    "Where each pixel of result i comes from (row, column), in plain numpy."
    angle, scale = np.deg2rad(draws.rotation[i].item()), draws.scale[i].item()
    right, down = (draws.shift[i].double() * size).numpy()
    row, col = np.mgrid[:size, :size] - (size - 1) / 2
    x, y = col - right, row - down
    from_x, from_y = (np.cos(angle) * x + np.sin(angle) * y) / scale, (-np.sin(angle) * x + np.cos(angle) * y) / scale
    bend = field_of(draws, i)
    return np.stack([from_y + bend[1], from_x + bend[0]]) + (size - 1) / 2


@pytest.mark.parametrize("elastic_p", [0, 1])
def test_equals_scipy_image_by_image(elastic_p):
    images, targets = toy(6)
    d = drawn("scipy", elastic_p=elastic_p, rotation_deg=20, shift=0.1, scaling=0.2)
    x, y = augment(images, targets, d)
    for i in range(6):
        at = source(d, i, SIZE)
        expected = (
            map_coordinates(images[i, 0].numpy().astype(float), at, order=1, mode="grid-constant") + d.channel[i].item()
        )
        assert np.abs(x[i, 0].numpy() - expected).max() < 1e-3
        for r in range(2):
            soft = map_coordinates(targets[i, r].numpy().astype(float), at, order=1, mode="grid-constant")
            clear = np.abs(soft - 0.5) > 1e-3
            assert np.array_equal(y[i, r].numpy()[clear], soft[clear] > 0.5) and clear.mean() > 0.98


def test_the_affine_part_equals_scipys_affine_transform():
    images, targets = toy(4)
    d = drawn("affine", n=4, elastic_p=0, rotation_deg=30, channel_shift=0)
    x, _ = augment(images, targets, d)
    for i in range(4):
        a, centre = np.deg2rad(d.rotation[i].item()), np.full(2, (SIZE - 1) / 2)
        back = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) / d.scale[i].item()
        offset = centre - back @ (centre + d.shift[i].numpy()[::-1] * SIZE)
        expected = affine_transform(images[i, 0].numpy(), back, offset, order=1, mode="grid-constant")
        assert np.abs(x[i, 0].numpy() - expected).max() < 1e-3


@pytest.mark.parametrize("k", [-7, 3])
def test_a_shift_by_whole_pixels(k):
    images, targets = toy(1)
    still = drawn("shift", n=1, **OFF)
    x, y = augment(images, targets, replace(still, shift=torch.tensor([[k / SIZE, 0.0]])))
    inner = slice(8, -8)
    assert torch.allclose(x[..., inner], torch.roll(images, k, 3)[..., inner], atol=1e-4)
    assert torch.equal(y[..., inner], torch.roll(targets, k, 3)[..., inner])
    gone = x[..., :k] if k > 0 else x[..., k:]
    assert gone.abs().max() < 1e-4  # beyond the image: 0, the slice's mean


def test_a_quarter_turn_is_clockwise():
    images, targets = toy(1)
    x, y = augment(images, targets, replace(drawn("turn", n=1, **OFF), rotation=torch.tensor([90.0])))
    assert torch.allclose(x, torch.rot90(images, -1, (2, 3)), atol=1e-3) and torch.equal(
        y, torch.rot90(targets, -1, (2, 3))
    )


def test_identity_changes_nothing_and_channel_shift_only_adds():
    images, targets = toy(6)
    x, y = augment(images, targets, drawn("none", **OFF))
    assert (x - images).abs().max() < 1e-6 and torch.equal(y, targets)
    d = drawn("none", **{**OFF, "channel_shift": 0.17})
    x, y = augment(images, targets, d)
    assert torch.allclose(x - images, d.channel[:, None, None, None].expand_as(x), atol=1e-6) and torch.equal(
        y, targets
    )
    assert d.channel.abs().max() > 0


def test_an_unmoved_image_among_moved_ones():
    images, targets = toy(6)
    d = drawn("mixed", channel_shift=0)
    for name, value in {"rotation": 0, "scale": 1, "shift": 0, "noise": 0}.items():
        getattr(d, name)[2] = value
    x, y = augment(images, targets, d)
    assert (
        torch.equal(x[2], images[2])
        and torch.equal(y[2], targets[2])
        and not torch.allclose(x[3], images[3], atol=0.01)
    )


@pytest.mark.parametrize("elastic_p", [0, 1])
def test_image_and_target_move_together(elastic_p):
    images, _ = toy(6)
    x, y = augment(images, images > 0.5, drawn("together", elastic_p=elastic_p, channel_shift=0))
    for moved, target in zip(x[:, 0].numpy() > 0.5, y[:, 0].numpy(), strict=True):
        sure = binary_erosion(target) | ~binary_dilation(target)
        assert np.array_equal(moved[sure], target[sure]) and (moved != target).mean() < 0.02


def test_mixed_precision_does_not_move_anything():
    images, targets = toy(6)
    d = drawn("bf16", elastic_p=1)
    plain = augment(images, targets, d)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = augment(images, targets, d)
    assert (
        mixed[0].dtype == torch.float32
        and (mixed[0] - plain[0]).abs().max() < 0.05
        and (mixed[1] != plain[1]).float().mean() < 1e-3
    )


def test_a_batch_of_none():
    x, y = augment(
        torch.zeros(0, 1, SIZE, SIZE), torch.zeros(0, 2, SIZE, SIZE, dtype=torch.bool), drawn("none at all", n=0)
    )
    assert x.shape == (0, 1, SIZE, SIZE) and y.shape == (0, 2, SIZE, SIZE)


def test_raters_share_the_field():
    images, targets = toy(3, raters=1)
    _, y = augment(images, targets.expand(-1, 4, -1, -1), drawn("raters", n=3, elastic_p=1))
    assert all(torch.equal(y[:, 0], y[:, r]) for r in range(4))


def test_area_goes_with_the_square_of_the_scale():
    rows, cols = np.mgrid[:200, :200]
    disc = torch.from_numpy((rows - 97) ** 2 + (cols - 104) ** 2 < 45**2)
    d = drawn("area", n=40, size=200, elastic_p=0)
    _, y = augment(torch.zeros(40, 1, 200, 200), disc.expand(40, 1, 200, 200), d)
    assert (y.sum((1, 2, 3)) / disc.sum() - d.scale**2).abs().max() < 0.015
    d = drawn("area", n=40, size=200, elastic_p=1, scaling=0)
    _, y = augment(torch.zeros(40, 1, 200, 200), disc.expand(40, 1, 200, 200), d)
    assert abs((y.sum((1, 2, 3)) / disc.sum()).mean() - 1) < 0.01  # bending neither grows nor shrinks


def test_same_names_same_bits_other_names_other_bits():
    images, targets = toy(6)
    a, b, c = [augment(images, targets, drawn(*names)) for names in (("bits", 3), ("bits", 3), ("bits", 4))]
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and not torch.equal(a[0], c[0])


def test_global_random_state_and_inputs_are_left_alone():
    images, targets = toy(6)
    before, state = (images.clone(), targets.clone()), torch.get_rng_state()
    d = drawn("inputs")
    kept = {f.name: getattr(d, f.name).clone() for f in fields(d)}
    for draws in (d, drawn("inputs", **OFF)):
        x, y = augment(images, targets, draws)
        x += 1
        y ^= True
        assert torch.equal(images, before[0]) and torch.equal(targets, before[1])
    assert all(torch.equal(getattr(d, k), v) for k, v in kept.items()) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", OFF)
def test_switching_one_off_leaves_the_others(name):
    with_it, without = drawn("off"), drawn("off", **{name: 0})
    changed = [f.name for f in fields(Draws) if not torch.equal(getattr(with_it, f.name), getattr(without, f.name))]
    assert changed == [
        {
            "rotation_deg": "rotation",
            "shift": "shift",
            "scaling": "scale",
            "channel_shift": "channel",
            "elastic_p": "noise",
        }[name]
    ]


def test_ranges_of_table_2():
    d = drawn("ranges", n=4000, size=32)
    for value, low, high in (
        (d.rotation, -4.6, 4.6),
        (d.shift, -0.03, 0.03),
        (d.scale, 0.98, 1.02),
        (d.channel, -0.17, 0.17),
    ):
        assert low <= value.min() < low + 0.02 * (high - low) and high - 0.02 * (high - low) < value.max() <= high
        assert abs(value.mean() - (low + high) / 2) < 0.02 * (high - low)
    assert abs(d.noise.flatten(1).any(1).float().mean() - 0.3) < 0.03
    assert abs(np.corrcoef(torch.stack([d.rotation, d.scale, d.channel, *d.shift.T]).numpy()) - np.eye(5)).max() < 0.06


def test_the_field_is_the_ancestors():
    d = drawn("field", n=80, size=120, elastic_p=1)
    ours = np.stack([field_of(d, i) for i in range(80)])
    white = named_rng(0, "white").uniform(-1, 1, (160, 160, 160))
    exact = np.stack([30 * gaussian_filter(w, 4, mode="constant")[20:-20, 20:-20] for w in white]).reshape(
        80, 2, 120, 120
    )
    assert ours.std() == pytest.approx(exact.std(), rel=0.03)
    assert (
        np.allclose(ours.std((0, 1)), 1.22, atol=0.4) and abs(ours.std((0, 1))[:, [0, -1]].mean() - 1.22) < 0.1
    )  # as strong at the border
    for k in (2, 4, 8, 12):
        for axis in (2, 3):
            a, b = [np.take(f, range(k, 120), axis) * np.take(f, range(120 - k), axis) for f in (ours, exact)]
            assert a.mean() / ours.var() == pytest.approx(b.mean() / exact.var(), abs=0.04)
            assert a.mean() / ours.var() == pytest.approx(np.exp(-(k**2) / 64), abs=0.04)
    assert abs((ours[:, 0] * ours[:, 1]).mean()) < 0.1  # right and down are independent


@pytest.mark.parametrize("spacing", [0.25, 0.5, 0.6])
def test_the_same_deformation_in_mm_on_every_grid(spacing):
    d = drawn("mm", n=150, size=round(20 / spacing), spacing_mm=spacing, elastic_p=1)
    field = np.stack([field_of(d, i) for i in range(150)]) * spacing
    k = round(1.2 / spacing)
    assert field.std() == pytest.approx(30 / (4 * np.sqrt(12 * np.pi)) * 0.25, rel=0.03)
    assert (field[..., k:] * field[..., :-k]).mean() / field.var() == pytest.approx(
        np.exp(-((k * spacing) ** 2) / 4), abs=0.04
    )


def test_draws_move_to_a_device():
    d = drawn("device").to("meta")
    assert {getattr(d, f.name).device.type for f in fields(d)} == {"meta"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x, y: (x[:5], y),
        lambda x, y: (x, y[:5]),
        lambda x, y: (x[..., :60], y),
        lambda x, y: (x, y.float()),
        lambda x, y: (x[:, 0], y),
    ],
)
def test_bad_batches_are_refused(spoil):
    with pytest.raises(ValueError, match="these draws are for"):
        augment(*spoil(*toy(6)), drawn("bad"))


@pytest.mark.parametrize("bad", [{"spacing_mm": 0}, {"elastic_sigma": 0}, {"size": 0}])
def test_bad_ranges_are_refused(bad):
    with pytest.raises(ValueError, match="above 0"):
        drawn("bad", **bad)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"n": -1}, "n must be a whole number"),
        ({"n": 2.5}, "n must be a whole number"),
        ({"generator": None}, "generator must be a torch.Generator"),
        ({"elastic_sigma": 1e-9}, "elastic_sigma in pixels must be a number of at least 0.1"),
    ],
)
def test_what_draw_cannot_be_told(wrong, words):
    with pytest.raises(ValueError, match=words):
        draw(**{"n": 2, "size": 16, "generator": torch.Generator()} | wrong)


@pytest.mark.parametrize("kind", [lambda x: x.half(), lambda x: x.double(), lambda x: x.int(), lambda x: x.numpy()])
def test_augment_takes_float32(kind):
    draws = draw(2, 16, torch.Generator())
    with pytest.raises(ValueError, match="images must be a torch tensor of float32, not"):
        augment(kind(torch.zeros(2, 1, 16, 16)), torch.zeros(2, 1, 16, 16, dtype=torch.bool), draws)
