"""The simulated challenge: its layout, its numbers, and that it is the same every time."""

import itertools
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from ada_repro.core import named_rng
from ada_repro.data.anatomy import cord_at, oval, rod, waves
from ada_repro.data.crop import cut_slices
from ada_repro.data.datasets import list_subjects
from ada_repro.data.phantom import (
    SITES,
    acquire,
    axis_mm,
    cord_mm,
    draw_field,
    draw_subject,
    label,
    phantom_slices,
    weigh_lines,
    write_phantom,
    write_subject,
)
from ada_repro.data.volume import read_volume

KINDS = ["image.nii.gz", "levels.txt", *(f"mask-r{r}.nii.gz" for r in range(1, 5))]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two subjects a site, two slices each."""
    folder = tmp_path_factory.mktemp("phantom") / "small"
    write_phantom(folder, seed=0, subjects=2, slices=2)
    return folder


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_layout_is_the_challenges(small):
    names = [f"{site}-sc{n}-{kind}" for site, n, kind in itertools.product(SITES, ("01", "09"), KINDS)]
    assert sorted(p.name for p in small.iterdir()) == sorted(names)


def test_counts_are_the_challenges():
    assert [sum(s.slices) for s in SITES.values()] == [30, 113, 200, 134]
    assert sum(sum(s.slices[:8]) for s in SITES.values()) == 381
    assert sum(sum(s.slices[8:]) for s in SITES.values()) == 96
    assert all(len(s.slices) == len(s.unlabelled) == 10 for s in SITES.values())
    third = SITES["site3"]
    assert {third.slices[i] + third.unlabelled[i] for i in range(10)} <= set(range(20, 29))


@pytest.mark.parametrize("name", SITES)
def test_headers(small, name):
    site = SITES[name]
    image = nib.load(small / f"{name}-sc01-image.nii.gz")
    assert image.get_data_dtype() == np.int16 and "".join(nib.aff2axcodes(image.affine)) == site.axes
    *px_mm, slice_mm = image.header.get_zooms()
    assert np.allclose(px_mm, site.px_mm) and np.isclose(slice_mm, site.slice_mm).any()
    for stored, about in zip(image.shape[:2], site.matrix, strict=True):
        assert max(0.65 * about - 10, 50 / site.px_mm - 1) <= stored <= 1.1 * about
    assert image.shape[2] == 2 + site.unlabelled[0]
    middle = image.affine @ [*(np.array(image.shape) - 1) / 2, 1]
    assert np.allclose(middle, [0, 0, 0, 1], atol=1e-4)
    assert len((small / f"{name}-sc01-levels.txt").read_text().splitlines()) == image.shape[2]
    for r in range(1, 5):
        mask = nib.load(small / f"{name}-sc01-mask-r{r}.nii.gz")
        assert mask.shape == image.shape and np.array_equal(mask.affine, image.affine)
        data = np.asarray(mask.dataobj)
        assert set(np.unique(data)) == {0, 1, 2} and (data == 1).any((0, 1)).sum() == 2


@pytest.mark.parametrize("name", SITES)
def test_mask_lies_on_the_cord_in_every_orientation(small, name):
    """In world coordinates the grey matter is brighter than the white, and at most 25 mm off the middle."""
    image, mask = (
        nib.as_closest_canonical(nib.load(small / f"{name}-sc01-{kind}.nii.gz")) for kind in ("image", "mask-r1")
    )
    a, m = image.get_fdata(), np.asarray(mask.dataobj)
    assert 1.03 < np.median(a[m == 1]) / np.median(a[m == 2]) < 1.4
    off_mm = (np.argwhere(m == 2).mean(0)[:2] - (np.array(m.shape[:2]) - 1) / 2) * SITES[name].px_mm
    assert np.hypot(*off_mm) < min(25, min(m.shape[:2]) * SITES[name].px_mm / 2 - 20) + 2


def test_fields_of_view():
    """They differ, hold the crops of paper (by size) and laptop, and take the cord up to 25 mm off the middle."""
    for name, site in SITES.items():
        matrices, ats = zip(*[draw_field(named_rng(name, i), site) for i in range(300)], strict=True)
        off, side_mm = np.hypot(*np.transpose(ats)), np.array(matrices) * site.px_mm
        assert side_mm.min() >= 50 - site.px_mm and (len(set(matrices)) > 20) == (name != "site1")
        assert (off <= 25).all() and (np.abs(ats) + 20 <= side_mm / 2).all()
        assert off.max() > {"site1": 4}.get(name, 24)


def test_the_body_moves_with_the_cord():
    """An image whose cord is elsewhere is the same image, moved: nothing in the body stays behind."""
    s = draw_subject(named_rng("moved"), SITES["site2"])
    vars(s).update(noise=0.0, ghost=0.0, taper=0.0, acquired_mm=(0.5, 0.5), lean=(0.0, 0.0))
    here = acquire(s, 0.0, 0.5, (160, 160), named_rng())
    s.at = 10.0, -15.0
    there, labels = acquire(s, 0.0, 0.5, (160, 160), named_rng()), label(s, 0.0, 0.5, (160, 160))
    assert np.abs(there[20:, :130] - here[:140, 30:]).max() < 1e-3
    assert np.abs((np.argwhere(labels[0] > 0).mean(0) - 79.5) / 2 - s.at).max() < 1.5


def test_the_cord_leans():
    s = draw_subject(named_rng("lean"), SITES["site2"])
    s.at, s.lean = (10.0, 0.0), (0.0, 0.1)
    assert cord_mm(s, 0) == [10, 0] and np.allclose(cord_mm(s, 20), [10, 2])
    low, high = (np.argwhere(label(s, z, 0.5, (160, 160)).any(0)).mean(0) / 2 for z in (-20, 20))
    assert abs(high[1] - low[1] - 4) < 1.5 and abs(high[0] - low[0]) < 1.5


def share_beyond(spectrum, half):
    "How much of a spectrum lies beyond so many lines from its middle."
    middle = len(spectrum) // 2
    return 1 - spectrum[middle - half : middle + half].sum() / spectrum.sum()


def test_pixels_are_acquired_along_each_axis_for_itself():
    """Beyond half a cycle per acquired pixel, along x and y, little is left; some comes back with the magnitude."""
    s = draw_subject(named_rng("oblong"), SITES["site2"])
    assert len(set(s.acquired_mm)) == 2
    vars(s).update(noise=0.0, taper=0.0, acquired_mm=(0.5, 0.8))
    k = np.abs(np.fft.fftshift(np.fft.fft2(acquire(s, 0.0, 0.25, (320, 320), named_rng()))))
    along_x, along_y = k.sum(1), k.sum(0)
    assert share_beyond(along_x, 81) < 0.02
    assert share_beyond(along_y, 51) < 0.06 < 0.08 < share_beyond(along_x, 51)


def test_a_phantom_passes_the_check_and_is_cropped_around_its_cord(small):
    off = []
    for s in list_subjects("phantom", small):
        v = read_volume(s.image, s.masks, s.cord, s.labels)
        targets = cut_slices(s, v, 0.5, 80)[1]
        centre = np.argwhere(targets.any((0, 1))).mean(0) - 39.5
        assert np.abs(centre).max() < 8 and not v.notes
        from_middle_px = np.argwhere(v.cord)[:, :2].mean(0) - (np.array(v.image.shape[:2]) - 1) / 2
        off.append(np.linalg.norm(from_middle_px * v.spacing_mm))
    assert max(off) > 10


def test_levels_fall_towards_the_feet(small):
    """Higher slices carry lower cervical numbers, whichever way the file stores them."""
    for name, site in SITES.items():
        levels = [int(line.split()[1]) for line in (small / f"{name}-sc01-levels.txt").read_text().splitlines()]
        assert levels == sorted(levels, reverse=site.axes.endswith("S")) and 1 <= min(levels) <= max(levels) <= 8


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path):
    for d, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / d).mkdir()
        write_subject(tmp_path / d, seed, "site1", 3)
    for p in (tmp_path / "a").glob("*.nii.gz"):
        assert p.read_bytes() == (tmp_path / "b" / p.name).read_bytes() != (tmp_path / "c" / p.name).read_bytes()


def test_subject_does_not_depend_on_its_neighbours(small, tmp_path):
    write_subject(tmp_path, 0, "site2", 9, slices=2)
    for kind in KINDS:
        assert (tmp_path / f"site2-sc09-{kind}").read_bytes() == (small / f"site2-sc09-{kind}").read_bytes()


def test_drawing_does_not_touch_the_global_generators(tmp_path):
    np.random.seed(0)
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    phantom_slices(1)
    assert np.array_equal(before[0], np.random.get_state()[1]) and torch.equal(before[1], torch.get_rng_state())


@pytest.mark.parametrize("subjects, numbers", [(1, ["01"]), (2, ["01", "09"]), (5, ["01", "02", "03", "04", "09"])])
def test_fewer_subjects(tmp_path, monkeypatch, subjects, numbers):
    seen = []
    monkeypatch.setattr(
        "ada_repro.data.phantom.write_subject",
        lambda folder, seed, name, number, slices: seen.append((name, f"{number:02d}")),
    )
    write_phantom(tmp_path / "x", subjects=subjects)
    assert seen == list(itertools.product(SITES, numbers))


@pytest.mark.parametrize(
    "wrong", [{"subjects": 0}, {"subjects": 11}, {"subjects": 2.5}, {"slices": 0}, {"seed": "a"}], ids=str
)
def test_impossible_numbers(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a whole number"):
        write_phantom(tmp_path / "x", **wrong)
    assert not list(tmp_path.iterdir())


def test_raters_agree_as_in_the_challenge():
    """Mean Dice over pairs of raters, on subjects of all sites: 0.83 to 0.86; and no rater draws what another does."""
    values = []
    for i in range(96):
        rng = named_rng("agreement", i)
        gm = label(draw_subject(rng, list(SITES.values())[i % 4]), rng.uniform(-25, 25), 0.25, (160, 160)) == 1
        values.append(np.mean([dice(a, b) for a, b in itertools.combinations(gm, 2)]))
    assert 0.83 < np.mean(values) < 0.86 and max(values) < 0.97


def test_contrast_is_that_of_real_scans():
    """The middle of GM/WM at 1.12-1.21, of GM area at 13-22 mm2: the ranges of published T2*-weighted cords."""
    ratio, area = [], []
    for i in range(64):
        rng = named_rng("contrast", i)
        s, z = draw_subject(rng, list(SITES.values())[i % 4]), rng.uniform(-25, 25)
        image, labels = acquire(s, z, 0.5, (100, 100), rng), label(s, z, 0.5, (100, 100))
        gm, wm = (labels == 1).sum(0) > 2, (labels == 2).all(0)
        ratio.append(image[gm].mean() / image[wm].mean())
        area.append(gm.sum() * 0.25)
    assert 1.12 < np.median(ratio) < 1.21 and np.quantile(ratio, 0.05) > 1.02 and max(ratio) < 1.45
    assert 13 < np.median(area) < 22 and min(area) > 5 and max(area) < 32


def test_ranges_of_the_data_card():
    """What 400 subjects are drawn with fills the ranges that the data card names, and goes no further."""
    subjects = [draw_subject(named_rng("ranges", i), list(SITES.values())[i % 4]) for i in range(400)]
    gm, csf, noise = np.transpose([(s.gm, s.csf, s.noise) for s in subjects])
    assert 1.16 < gm.min() < 1.18 and 1.37 < gm.max() < 1.44
    assert 0.6 < csf.min() < 0.7 and 2.4 < csf.max() < 2.73 and 0.2 < (csf < 1.3).mean() < 0.4
    assert noise.min() < 0.03 and noise.max() > 0.1 and (noise <= 0.5001 * (gm - 1)).all()
    size, flat = np.transpose([(s.size, s.flat) for s in subjects])
    assert 0.87 <= size.min() < 0.88 and 1.11 < size.max() <= 1.12
    assert 0.9 <= flat.min() < 0.91 and 1.17 < flat.max() <= 1.18
    assert max(s.ghost for s in subjects) <= 0.2 and {s.ghost_axis for s in subjects} == {0, 1}


def test_fluid_surrounds_every_cord():
    """As drawn, before any bending: half a millimetre or more in front and behind, and the canal off by at most 1.5."""
    for i in range(200):
        s = draw_subject(named_rng("canal", i), SITES["site1"])
        half_width, half_depth, dv, _ = s.canal
        width, depth = 6.3 * s.size * s.flat, 4.3 * s.size / s.flat
        assert 0.6 <= half_depth - depth - abs(dv) <= 5 and 1.8 <= half_width - width <= 7 and abs(s.aside) <= 1.5


def steepness(s, lean):
    "How much brighter or darker a thick slice gets from one pixel to the next along y, on average."
    s.lean = lean
    return np.abs(np.diff(acquire(s, 0.0, 0.5, (100, 100), named_rng()), axis=1)).mean()


def test_a_cord_that_leans_is_smeared():
    s = draw_subject(named_rng("smeared"), SITES["site2"])
    vars(s).update(noise=0.0, ghost=0.0, taper=0.0, acquired_mm=(0.5, 0.5), slice_mm=7.5)
    assert steepness(s, (0.0, 0.3)) < 0.9 * steepness(s, (0.0, 0.0))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("turn", [0.0, np.pi / 2])
def test_ghosts_lie_along_one_axis(axis, turn):
    """A point has two ghosts on the line through it along that axis, and none elsewhere."""
    k = np.ones((64, 64), np.complex64)
    weigh_lines(SimpleNamespace(taper=0.0, ghost=0.2, ghost_turn=turn, ghost_axis=axis, ghost_lines=np.pi / 4), k)
    seen = np.abs(np.fft.ifft2(k)) > 0.01
    assert np.argwhere(seen)[:, axis].tolist() == [0, 8, 56] and not np.argwhere(seen)[:, 1 - axis].any()


def test_grey_matter_lies_inside_the_cord():
    x = np.linspace(-14, 14, 141, dtype=np.float32)
    for i in range(40):
        *_, cord, gm = cord_at(draw_subject(named_rng("inside", i), SITES["site1"]), (x, x, 0.0))
        assert ((gm < 0) & (cord > 0.5)).sum() <= 0.02 * (gm < 0).sum() and gm.dtype == np.float32


def test_shapes_against_points_by_hand():
    p = np.array([0.0, 3.0, 10.0]), np.array([2.0, 0.0, 0.0])
    assert np.allclose(rod(p, (0, 0, 1), (4, 0, 1)), [1, -1, 5])
    assert np.allclose(oval(p, (0, 0), 5, 5), np.hypot(*p) - 5, atol=1e-4)
    assert np.allclose(axis_mm(4, 0.5), [-0.75, -0.25, 0.25, 0.75]) and np.allclose(axis_mm(4, 0.5, 2), [-0.75, 0.25])


def test_waves_against_the_sum_of_cosines():
    x, y = np.linspace(-3, 3, 7), np.linspace(-2, 2, 5)
    rng = named_rng("waves")
    k, phase = rng.normal(size=(16, 3)) / (2, 2, 8), rng.uniform(0, 2 * np.pi, 16)
    naive = [[np.sqrt(2 / 16) * sum(np.cos(k[:, 0] * a + k[:, 1] * b + k[:, 2] * 1.5 + phase)) for b in y] for a in x]
    assert np.allclose(waves(named_rng("waves"), 2)(x, y, 1.5), naive, atol=1e-4)


def test_slices_in_memory():
    images, targets = phantom_slices(5, px=64, spacing_mm=0.5, seed=3, raters=2)
    assert images.shape == (5, 1, 64, 64) and images.dtype == torch.float32
    assert targets.shape == (5, 2, 64, 64) and targets.dtype == torch.bool and targets.flatten(2).any(2).all()
    assert images.flatten(1).mean(1).abs().max() < 1e-4 and (images.flatten(1).std(1) - 1).abs().max() < 1e-3
    assert torch.equal(images, phantom_slices(5, 64, 0.5, 3, 2)[0])
    assert torch.equal(images[:2], phantom_slices(2, 64, 0.5, 3, 2)[0])
    assert not torch.equal(images, phantom_slices(5, 64, 0.5, 4, 2)[0])
