"Windows of methods and controls: permuted, least by brute force, and named."

import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from ada_repro.core import ROOT, named_generator
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.method.arms import (
    CONTROLS,
    NAMES,
    VARIANTS,
    another,
    arm_maps,
    arm_name,
    arm_order,
    arm_windows,
    check_arms,
    check_study_arms,
    choices_of,
    images_at_once,
    is_control,
    kept,
    method_of,
    unimportance,
)
from ada_repro.method.mask import choose_windows, touches, window_mask
from ada_repro.method.saliency import SALIENCY
from ada_repro.method.unet import UNet

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
PROFILES = [v for v in PARAMS.values() if isinstance(v, dict) and "study" in v]
STUDIED = set().union(*(profile["study"]["arms"] for profile in PROFILES))
SIZE = 6
methods = pytest.mark.parametrize("method", SALIENCY)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return UNet(width=4)


@pytest.fixture(scope="module")
def data():
    images, targets = phantom_slices(8, px=40, spacing_mm=1.0, seed=0)
    return Slices(images, targets, pd.DataFrame({"slice": range(8)}))


def windows(arm, model, data, *name, **options):
    return arm_windows(arm, model, data, SIZE, named_generator("windows", *name), **options)


def all_sums(maps):
    "The sum of every window, by a loop."
    n = maps.shape[1] - SIZE + 1
    return {(r, c): maps[:, r : r + SIZE, c : c + SIZE].double().sum((1, 2)) for r, c in product(range(n), repeat=2)}


# Names
def test_names_by_hand():
    told = {
        "none": None,
        "random": None,
        "shuffled": "gradcam",
        "least": "gradcam",
        "shuffled_vanilla": "vanilla",
        "least_guided_gradcam": "guided_gradcam",
        "gradcam": "gradcam",
        "guided_backprop": "guided_backprop",
        "signed_gradcam": "signed_gradcam",
    }
    assert {arm: method_of(arm) for arm in told} == told
    assert [arm for arm in told if is_control(arm)] == [
        "none",
        "random",
        "shuffled",
        "least",
        "shuffled_vanilla",
        "least_guided_gradcam",
    ]
    for arm in told:
        assert method_of(f"{arm}.told_else") == told[arm] and is_control(f"{arm}.told_else") == is_control(arm)


@methods
def test_each_method_has_its_controls(method):
    arms = [method, f"shuffled_{method}", f"least_{method}"]
    check_arms(arms)
    assert list(map(method_of, arms)) == [method] * 3 and list(map(is_control, arms)) == [False, True, True]


def test_every_arm_of_params_is_known():
    arms = STUDIED | {v["arm"] for v in PARAMS["variants"]}
    check_arms(sorted(arms))
    assert {method_of(a) for a in arms} <= {None, *SALIENCY} and all("." in v["arm"] for v in PARAMS["variants"])


def test_variants_are_named_once():
    names = [v["arm"] for v in PARAMS["variants"]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("profile", PROFILES, ids=[profile["name"] for profile in PROFILES])
def test_a_variant_that_is_an_arm_of_a_study_says_by_its_name_what_it_changes(profile):
    told = {v["arm"]: {name: value for name, value in v.items() if name != "arm"} for v in PARAMS["variants"]}
    for arm in set(told) & set(profile["study"]["arms"]):
        assert choices_of(arm) == told[arm]
    assert all(variant in PARAMS["variants"] for variant in profile["again"]["variants"])


def test_a_variant_that_names_its_choice_is_told_the_same_in_params():
    for variant in PARAMS["variants"]:
        told = {name: value for name, value in variant.items() if name != "arm"}
        assert told and choices_of(variant["arm"]) in ({}, told)


@pytest.mark.parametrize("arm", [*SALIENCY, *CONTROLS])
def test_what_a_variant_changes_is_in_its_name(arm):
    assert choices_of(arm) == choices_of(f"{arm}.again") == choices_of(f"{arm}.noise") == {}
    assert choices_of(f"{arm}.forbid") == {"protect": "forbid"} and choices_of(f"{arm}.bare") == {"protect": "none"}


def test_variants_may_stand_in_a_study():
    "Between the methods and what they are compared with, each with a name that people can read."
    arms = ["none.again", "random", "gradcam.bare", "none", "gradcam.forbid", "gradcam", "vanilla"]
    check_study_arms(arms)
    ordered = arm_order(arms)
    assert ordered[:2] == ["vanilla", "gradcam"] and ordered[4:] == ["none", "none.again", "random"]
    names = [arm_name(arm) for arm in ordered]
    assert names[2:4] == ["GradCam, grey matter hidden too", "GradCam, beside grey matter"]
    assert names[5] == "No hole, trained again" and len(set(names)) == len(arms)


@pytest.mark.parametrize("bad", ["gradcam.frobid", "none.noise", "gradcam.", "gradcam.forbid.again"])
def test_a_variant_that_does_not_say_what_it_changes_stands_in_no_study(bad):
    "It would be trained as the plain arm."
    check_arms([bad])
    with pytest.raises(ValueError, match=f"the variant in '{bad}' must be one of 'again', 'forbid', 'bare'") as e:
        check_study_arms(["gradcam", bad])
    assert "\n" not in str(e.value)
    with pytest.raises(ValueError, match="No arm is called"):
        check_study_arms(["grdcam.forbid"])


def test_every_study_of_params_can_be():
    for profile in PROFILES:
        check_study_arms(profile["study"]["arms"])


def test_names_are_for_people():
    "No name of a variable: a capital first, then words."
    known = [*NAMES, *map(".".join, product(NAMES, VARIANTS))]
    known += [variant["arm"] for variant in PARAMS["variants"]]
    for arm in known:
        assert re.fullmatch(r"[A-Z][^._]*", arm_name(arm)), arm
    assert len(set(map(arm_name, known))) == len(set(known))
    assert arm_name("my_method.other_layer") == "My method, other layer"


@pytest.mark.parametrize(
    "bad", ["grdcam", "shuffled_grdcam", "least_none", "random_vanilla", "grdcam.forbid", "Gradcam", ""]
)
def test_unknown_names_are_refused_in_one_line(bad):
    with pytest.raises(ValueError, match=f"No arm is called {bad!r}; known are vanilla") as e:
        check_arms(["gradcam", bad])
    assert "\n" not in str(e.value) and all(name in str(e.value) for name in (*SALIENCY, *CONTROLS))


# Windows
@pytest.mark.parametrize("n", [2, 3, 4, 17])
def test_another_is_a_permutation_without_fixed_points(n):
    orders = torch.stack([another(n, named_generator("another", i)) for i in range(200)])
    assert (orders.sort(dim=1).values == torch.arange(n)).all() and (orders != torch.arange(n)).all()
    assert all(set(orders[:, i].tolist()) == set(range(n)) - {i} for i in range(n))


def test_unimportance_reverses_the_order_and_leaves_nothing_of_nothing():
    maps = torch.rand(4, 20, 20, generator=named_generator("maps")).round(decimals=2)
    maps[2], maps[3] = 0, 1
    turned = unimportance(maps, named_generator("ties"))
    for m, t in zip(maps[:2].flatten(1), turned[:2].flatten(1), strict=True):
        assert (m[t.argsort()].diff() <= 0).all() and (t >= 0).all()
    assert (turned[2:] == 0).all()


@pytest.mark.parametrize("arm", [*SALIENCY, *(control for control in CONTROLS if control != "none")])
def test_beside_grey_matter_is_beside_an_images_own(model, data, arm):
    corners, _ = arm_windows(arm, model, data, SIZE, named_generator("windows"), protect="forbid")
    hidden = ~window_mask(corners, SIZE, data.consensus.shape[1:])
    assert not (hidden & data.consensus).any()


@methods
def test_shuffled_windows_are_the_methods_own_of_other_images(model, data, method):
    own, shuffled = (windows(arm, model, data) for arm in (method, f"shuffled_{method}"))
    order = another(len(data), replay(method, model, data))
    assert torch.equal(shuffled[0], own[0][order]) and torch.equal(shuffled[1], own[1][order])


def replay(method, model, data):
    "The generator where the windows of the method leave it."
    generator = named_generator("windows")
    arm_windows(method, model, data, SIZE, generator)
    return generator


@methods
def test_least_windows_have_the_smallest_sum(model, data, method):
    maps = arm_maps(method, model, data.images, data.consensus)
    corners, flat = windows(f"least_{method}", model, data)
    sums = all_sums(maps)
    chosen = torch.stack([sums[tuple(at)][i] for i, at in enumerate(corners.tolist())])
    lowest = torch.stack([*sums.values()]).amin(0)
    equal = 2e-6 * SIZE**2 * maps.double().amax((1, 2))  # what breaks ties
    assert (chosen - lowest <= equal)[~flat].all() and torch.equal(flat, maps.flatten(1).amax(1) == 0)


@methods
def test_methods_have_the_heaviest_window(model, data, method):
    maps = arm_maps(method, model, data.images, data.consensus)
    corners, flat = windows(method, model, data)
    sums = all_sums(maps)
    chosen = torch.stack([sums[tuple(at)][i] for i, at in enumerate(corners.tolist())])
    torch.testing.assert_close(chosen[~flat], torch.stack([*sums.values()]).amax(0)[~flat])


def test_equal_windows_are_drawn_at_random():
    maps = torch.zeros(1, 12, 12)
    maps[0, :, 5:7] = 1.0  # windows of 5 px left and right of the bar see nothing
    least = {
        tuple(choose_windows(unimportance(maps, named_generator("ties", i)), 5)[0][0].tolist()) for i in range(300)
    }
    assert {c for _, c in least} == {0, 7} and len(least) > 8


@pytest.mark.parametrize("protect", ["keep", "forbid", "none"])
def test_none_hides_nothing(model, data, protect):
    corners, flat = windows("none", model, data, protect=protect)
    assert kept(corners, SIZE, data.consensus, protect).all() and not flat.any()


def test_a_named_control_is_the_plain_one(model, data):
    for control in ("shuffled", "least"):
        for a, b in zip(windows(control, model, data), windows(f"{control}_gradcam", model, data), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("arm", [*SALIENCY, *CONTROLS])
def test_a_variant_looks_like_its_arm(model, data, arm):
    for a, b in zip(windows(arm, model, data), windows(f"{arm}.told_else", model, data), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("arm", [*SALIENCY, *CONTROLS, "shuffled_vanilla", "least_vanilla"])
def test_the_generator_says_all(model, data, arm):
    torch.rand(3)  # the global one may be anywhere
    for a, b in zip(windows(arm, model, data, 1), windows(arm, model, data, 1), strict=True):
        assert torch.equal(a, b)


def test_random_windows_differ_with_the_generator_and_look_nowhere(model, data):
    a, b = (windows("random", model, data, i, flat="corner") for i in (1, 2))
    assert not torch.equal(a[0], b[0]) and not a[1].any() and (a[0] >= 0).all() and (a[0] <= 40 - SIZE).all()
    assert (arm_maps("random", model, data.images, data.consensus) == 0).all()


@methods
def test_maps_do_not_depend_on_the_batches(model, data, method):
    whole, parts = (arm_maps(method, model, data.images, data.consensus, batch_size=n) for n in (8, 3))
    torch.testing.assert_close(whole, parts, atol=1e-4 * whole.max().item(), rtol=1e-3)


@pytest.mark.parametrize("arm", ["gradcam", "random", "least"])
def test_what_is_kept_by_hand(model, data, arm):
    for protect in ("keep", "forbid", "none"):
        corners, _ = windows(arm, model, data, protect=protect)
        mask = kept(corners, SIZE, data.consensus, protect)
        for i, (r, c) in enumerate(corners.tolist()):
            expected = torch.ones(40, 40, dtype=torch.bool)
            expected[r : r + SIZE, c : c + SIZE] = False
            if protect != "none":
                expected |= data.consensus[i]
            assert torch.equal(mask[i], expected)
            if protect == "forbid":
                assert not touches(data.consensus, SIZE)[i, r, c]


@pytest.mark.parametrize("arm", [*SALIENCY, *CONTROLS])
@pytest.mark.parametrize(
    "bad, words",
    [
        ({"sign": "abs"}, "sign must be one of 'absolute', 'signed', not 'abs'"),
        ({"explain": "GT"}, "explain must be one of 'target', 'pred', 'all', not 'GT'"),
        ({"protect": "kep"}, "protect must be one of 'keep', 'forbid', 'none', not 'kep'"),
        ({"flat": "midle"}, "flat must be one of 'random', 'corner', not 'midle'"),
    ],
)
def test_wrong_choices_are_refused_by_every_arm(model, data, arm, bad, words):
    with pytest.raises(ValueError, match=words):
        windows(arm, model, data, **bad)


@pytest.mark.parametrize("size", [0, 41, 2.5, "6"])
def test_wrong_sizes(model, data, size):
    with pytest.raises(ValueError, match=r"size must be a whole number"):
        arm_windows("none", model, data, size, named_generator("windows"))


def test_unknown_arms_have_no_windows(model, data):
    with pytest.raises(ValueError, match="No arm is called 'grdcam'"):
        windows("grdcam", model, data)


def test_numpy_sizes_are_sizes(model, data):
    for arm in ("none", "random", "gradcam"):
        a = arm_windows(arm, model, data, np.int64(SIZE), named_generator("windows"))
        assert all(torch.equal(x, y) for x, y in zip(a, windows(arm, model, data), strict=True))


def test_shuffled_flags_go_with_their_windows(model, data, monkeypatch):
    "Half of the maps are flat: each flag moves with the window it belongs to."
    maps = arm_maps("vanilla", model, data.images, data.consensus)
    maps[::2] = 0
    monkeypatch.setattr("ada_repro.method.arms.arm_maps", lambda *args, **options: maps)
    own, shuffled = (windows(arm, model, data) for arm in ("vanilla", "shuffled_vanilla"))
    order = another(len(data), replay("vanilla", model, data))
    assert torch.equal(shuffled[0], own[0][order]) and torch.equal(shuffled[1], own[1][order])


def test_what_is_no_name_is_no_arm_and_one_image_has_no_other():
    for arm in (None, 3, ["gradcam"]):
        with pytest.raises(ValueError, match="No arm is called"):
            check_arms([arm])
    with pytest.raises(ValueError, match="at least 2, not 1"):
        another(1, torch.Generator())


def test_large_images_are_looked_at_one_by_one_and_small_ones_together():
    def at_once(width, side, n=40):
        return images_at_once(UNet(width), torch.empty(n, 1, side, side))

    assert at_once(8, 80) == at_once(4, 40) == 32, "what the laptop's numbers were made with"
    assert at_once(64, 200) == 1 and at_once(8, 200) == 5 and at_once(8, 80, n=0) == 32
    assert images_at_once(torch.nn.Identity(), torch.empty(2, 1, 4, 4)) == 32
