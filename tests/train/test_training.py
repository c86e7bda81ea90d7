"Algorithm 1: what every arm, every cycle and every interruption must keep."

import pickle
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.method.arms import CONTROLS, check_arms, choices_of, draws_of
from ada_repro.method.saliency import SALIENCY
from ada_repro.method.unet import UNet
from ada_repro.train.runs import load_state, save_state
from ada_repro.train.training import (
    FILLS,
    batch_of,
    dice_loss,
    mean_dice,
    new_state,
    predict,
    slice_dice,
    step,
    train,
    train_epoch,
    validate,
)

MODEL = {"width": 4, "dropout": 0.2, "bn_momentum": 0.4, "lr": 0.01, "seed": 0}
HOW = {"seed": 0, "standard_epochs": 1, "cycles": 2, "ada_epochs": 2, "size": 6, "batch_size": 8}
STILL = {
    "rotation_deg": 0.0,
    "shift": 0.0,
    "scaling": 0.0,
    "channel_shift": 0.0,
    "elastic_alpha": 0.0,
    "elastic_sigma": 4.0,
    "elastic_p": 0.0,
}


def make_slices(n, split):
    images, targets = phantom_slices(n, px=40, spacing_mm=1.0, seed=len(split))
    table = pd.DataFrame(
        {
            "site": "1",
            "subject": [f"{split}{i // 4}" for i in range(n)],
            "slice": range(n),
            "spacing_mm": 1.0,
            "split": split,
        }
    )
    return Slices(images, targets, table.assign(person=table.subject))


@pytest.fixture(scope="module")
def data():
    return make_slices(16, "train"), make_slices(8, "val")


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("arm", [*SALIENCY, *CONTROLS])
def test_every_arm_runs_to_the_end(data, arm):
    state = new_state(**MODEL)
    history = pd.DataFrame(train(state, *data, arm=arm, **HOW))
    assert history.epoch.tolist() == [1, 2, 3, 4, 5] and history.cycle.tolist() == [0, 1, 1, 2, 2]
    assert history.loss.between(-1, 0).all() and history.DSC.between(0, 100).all()
    assert len(state.windows) == 2 and all(corners.shape == (16, 2) for corners, _ in state.windows)
    inside = ((state.windows[0][0] >= 0) & (state.windows[0][0] <= 34)).all()
    assert inside == (arm != "none")


def test_arms_part_only_in_their_windows(data):
    none, random = (pd.DataFrame(train(new_state(**MODEL), *data, arm=a, **HOW)) for a in ("none", "random"))
    assert none.loc[0].equals(random.loc[0]) and not none.loc[1:].equals(random.loc[1:])


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_continued_runs_end_with_the_same_bits(data, tmp_path, stop):
    whole, part = new_state(**MODEL), new_state(**MODEL)
    list(train(whole, *data, arm="vanilla", **HOW))
    run = train(part, *data, arm="vanilla", **HOW)
    for _ in range(stop):
        next(run)
    save_state(part, tmp_path / "state.pt")
    again = load_state(new_state(**MODEL | {"seed": 9}), tmp_path / "state.pt")
    torch.rand(3)  # the global generator may be anywhere
    list(train(again, *data, arm="vanilla", **HOW))
    assert same(again, whole) and again.history == whole.history
    for name in ("best", "chosen"):
        one, other = getattr(again, name), getattr(whole, name)
        assert one.keys() == other.keys() != set() and all(torch.equal(one[key], other[key]) for key in other)


def test_best_weights_are_those_of_the_best_epoch(data):
    state = new_state(**MODEL)
    list(train(state, *data, arm="random", **HOW))
    best = new_state(**MODEL)
    best.model.load_state_dict(state.best)
    assert mean_dice(predict(best.model, data[1].images), data[1].consensus) == max(r["DSC"] for r in state.history)


def test_chosen_weights_are_those_of_the_epoch_best_on_people_who_train(data):
    state, naive, epochs = new_state(**MODEL), UNet(4), []
    for record in train(state, *data, arm="random", **HOW):
        naive.load_state_dict(state.model.state_dict())
        pred, target = predict(naive, data[0].images[:4]), data[0].consensus[:4]  # the first of four subjects of four
        dice = [200 * (p & t).sum().item() / (p.sum() + t.sum()).item() for p, t in zip(pred, target, strict=True)]
        epochs.append((sum(dice) / 4, {key: value.clone() for key, value in naive.state_dict().items()}))
        assert record["DSC_select"] == pytest.approx(epochs[-1][0], abs=1e-3)
    _, weights = max(epochs, key=lambda epoch: epoch[0])
    assert all(torch.equal(state.chosen[key], value) for key, value in weights.items())


def test_copies_double_the_steps_and_hide_the_window(data):
    slices, n = data[0], 16
    mask = torch.ones(n, 40, 40, dtype=torch.bool)
    mask[:, 3:9, 5:11] = False
    generator = torch.Generator().manual_seed(0)
    x, target = batch_of(torch.arange(2 * n), slices, mask, generator, STILL, "originals")
    torch.testing.assert_close(x[:n], slices.images, atol=1e-4, rtol=1e-4)
    assert torch.equal(x[n:], slices.images * mask[:, None])
    assert all(
        (t == r).all((1, 2)).any() for t, r in zip(target[n:], slices.targets, strict=True)
    )  # one rater's, and whole


@pytest.mark.parametrize("fill", FILLS)
def test_fills_change_the_hole_and_nothing_else(data, fill):
    slices, n = data[0], 16
    mask = torch.ones(n, 40, 40, dtype=torch.bool)
    mask[:, 3:9, 5:11] = False
    mask |= slices.consensus

    def batch(fill):
        return batch_of(torch.arange(2 * n), slices, mask, torch.Generator().manual_seed(0), STILL, "originals", fill)[
            0
        ]

    x, originals, hole = batch(fill), slices.images, ~mask[:, None]
    torch.testing.assert_close(x[:n], originals, atol=1e-4, rtol=1e-4)
    assert torch.equal(x[n:][~hole], originals[~hole]) and hole.any()
    if fill == "noise":
        assert (
            abs(x[n:][hole].mean()) < 0.2
            and abs(x[n:][hole].std() - 1) < 0.2
            and x[n:][hole].unique().numel() == hole.sum()
        )
        assert torch.equal(x, batch(fill))
    else:
        for image, one, at in zip(x[n:], originals, hole, strict=True):
            assert (image[at] == {"mean": 0.0, "minimum": one.min()}[fill]).all()


class Waits(TorchDispatchMode):
    "Counts what would make the CPU wait for a GPU: a number, a truth or a count taken from a tensor."

    NAMES = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::is_nonzero")
    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.name().partition(".")[0]
        by_truth = "index" in name and any(torch.is_tensor(i) and i.dtype == torch.bool for i in tree_leaves(args[1:]))
        self.count += by_truth or name in self.NAMES
        return operation(*args, **(kwargs or {}))


def test_what_counts_waits_counts_them():
    x = torch.ones(3)
    with Waits() as waits:
        x.sum().item(), bool((x > 0).all()), x[x > 0], x + x
    assert waits.count == 3


@pytest.mark.parametrize("augment_copies", ["originals", "both", "off"])
@pytest.mark.parametrize("fill", FILLS)
def test_a_batch_is_made_without_waiting(data, fill, augment_copies):
    "On the device `meta`, which has shapes and no numbers, whatever asks for a number raises."
    slices, mask = data[0].to("meta"), torch.ones(16, 40, 40, dtype=torch.bool, device="meta")
    for items in (torch.arange(32), torch.arange(16), torch.arange(16, 32)):
        generator = torch.Generator().manual_seed(0)
        x, target = batch_of(items, slices, mask, generator, {}, augment_copies, fill)
        assert x.device.type == target.device.type == "meta" and x.shape == target.shape == (len(items), 1, 40, 40)


def test_a_step_does_not_wait(data):
    x, target = data[0].images[:4], data[0].targets[:4, :1]
    state = new_state(**MODEL)
    state.model.train()
    step(state, x, target)  # Adam makes its moments
    with Waits() as waits:
        step(state, x, target)
    assert waits.count == 0


def test_an_epoch_waits_as_often_whatever_the_number_of_steps(data, monkeypatch):
    monkeypatch.setattr("ada_repro.train.training.batch_of", lambda *_: (data[0].images[:4], data[0].targets[:4, :1]))
    counts = []
    for batch_size in (2, 4, 16):
        state = new_state(**MODEL)
        train_epoch(state, data[0], None, 0, batch_size, {}, "originals")
        with Waits() as waits:
            train_epoch(state, data[0], None, 0, batch_size, {}, "originals")
        counts.append(waits.count)
    assert counts == [2, 2, 2]  # is every loss finite, and their mean: of the losses on the CPU, fetched once


def test_halves_of_the_validation_make_up_its_mean():
    slices = make_slices(14, "val")  # subjects of 4, 4, 4 and 2 slices: halves of 8 and 6
    names = slices.table.subject.unique()
    second = slices.table.subject.isin(names[1::2]).to_numpy(copy=True)
    state = new_state(**MODEL)
    history = pd.DataFrame(train(state, make_slices(8, "train"), slices, arm="gradcam", **HOW))
    assert second.sum() == 6 and history[["DSC_a", "DSC_b"]].nunique().gt(1).all()
    assert (8 * history.DSC_a + 6 * history.DSC_b).tolist() == pytest.approx((14 * history.DSC).tolist())
    each = slice_dice(predict(state.model, slices.images), slices.consensus)
    assert (history.DSC_a.iloc[-1], history.DSC_b.iloc[-1]) == pytest.approx(
        (each[~second].mean().item(), each[second].mean().item())
    )


def test_one_subject_has_no_second_half():
    record = validate(new_state(**MODEL), make_slices(4, "val"), make_slices(4, "train"), 0.5, 0, -1.0)
    assert record["DSC_a"] == record["DSC"] and record["DSC_b"] != record["DSC_b"]


def test_sessions_of_a_person_stay_in_one_half():
    slices = make_slices(14, "val")
    slices.table["person"] = slices.table.subject.map(dict(zip(slices.table.subject.unique(), "AABB", strict=True)))
    state = new_state(**MODEL)
    record = validate(state, slices, make_slices(4, "train"), 0.5, 0, -1.0)
    each = slice_dice(predict(state.model, slices.images), slices.consensus)
    is_a = (slices.table.person == "A").to_numpy(copy=True)
    assert (record["DSC_a"], record["DSC_b"]) == pytest.approx((each[is_a].mean().item(), each[~is_a].mean().item()))
    slices.table["person"] = "A"
    alone = validate(state, slices, make_slices(4, "train"), 0.5, 0, -1.0)
    assert alone["DSC_a"] == alone["DSC"] and alone["DSC_b"] != alone["DSC_b"]


def test_slice_dice_by_loop():
    pred, target = (torch.rand(5, 9, 9, generator=torch.Generator().manual_seed(i)) < 0.4 for i in (0, 1))
    slow = [
        200 * sum(bool(p and t) for p, t in zip(a.flatten(), b.flatten(), strict=True)) / (a.sum() + b.sum()).item()
        for a, b in zip(pred, target, strict=True)
    ]
    assert slice_dice(pred, target).tolist() == pytest.approx(slow) and mean_dice(pred, target) == pytest.approx(
        sum(slow) / 5
    )


def test_inputs_are_left_alone(data):
    images, targets = data[0].images.clone(), data[0].targets.clone()
    list(train(new_state(**MODEL), *data, arm="gradcam", **HOW))
    assert torch.equal(images, data[0].images) and torch.equal(targets, data[0].targets)


@pytest.mark.parametrize(
    "choice",
    [
        {"sign": "signed", "flat": "corner"},
        {"protect": "forbid"},
        {"protect": "none"},
        {"explain": "pred"},
        {"explain": "all"},
        {"layer": "up.2.5"},
        {"augment_copies": "both"},
        {"augment_copies": "off"},
        *({"fill": f} for f in FILLS),
    ],
    ids=str,
)
def test_every_open_choice_runs(data, choice):
    assert (
        len(list(train(new_state(**MODEL), *data, arm="gradcam", **HOW | {"cycles": 1, "ada_epochs": 1}, **choice)))
        == 2
    )


def test_dice_loss_by_hand():
    target = torch.tensor([[[[True, False], [False, False]]]])
    logits = torch.tensor([[[[0.0, 0.0], [-100.0, -100.0]]]])  # p = 1/2, 1/2, 0, 0
    assert dice_loss(logits, target, smooth=0.0).item() == pytest.approx(-2 * 0.5 / (1 + 1))


def test_mean_dice_by_hand():
    pred = torch.tensor([[[1, 1], [0, 0]], [[1, 0], [0, 0]]]).bool()
    target = torch.tensor([[[1, 0], [0, 0]], [[1, 0], [0, 0]]]).bool()
    assert mean_dice(pred, target) == pytest.approx((200 / 3 + 100) / 2)


def test_an_exploded_loss_names_epoch_and_batch(data):
    state = new_state(**MODEL)
    with torch.no_grad():
        state.model.head.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="epoch 1, batch 0"):
        train_epoch(state, data[0], None, 0, 8, STILL, "originals")


def test_unknown_arms_are_refused_in_one_line():
    with pytest.raises(ValueError, match="'grdcam'; known are vanilla"):
        check_arms(["gradcam", "grdcam"])


def test_a_crafted_checkpoint_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    torch.save({"model": Evil()}, tmp_path / "state.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_state(new_state(**MODEL), tmp_path / "state.pt")
    assert not (tmp_path / "pwned").exists()


def test_again_parts_from_none_by_its_draws_alone(data):
    runs = {}
    for name, arm in [("none", "none"), ("again", "none.again"), ("twice", "none.again")]:
        runs[name] = new_state(**MODEL)
        list(train(runs[name], *data, arm=arm, **HOW | {"standard_epochs": 0}))
    assert same(runs["again"], runs["twice"]) and not same(runs["again"], runs["none"])
    for again, none in zip(runs["again"].windows, runs["none"].windows, strict=True):
        assert torch.equal(again[0], none[0])


def test_another_seed_is_no_repetition():
    assert draws_of("none", 3) == 3 and draws_of("gradcam.forbid", 3) == 3
    assert len({draws_of(*told) for told in product(("none", "none.again"), (0, 1))}) == 4


def test_a_variant_is_its_arm_told_otherwise(data):
    how = HOW | {"cycles": 1}
    for variant, protect in [("vanilla.forbid", "forbid"), ("vanilla.bare", "none"), ("vanilla.noise", "keep")]:
        named, told = new_state(**MODEL), new_state(**MODEL)
        list(train(named, *data, arm=variant, **how, **choices_of(variant)))
        list(train(told, *data, arm="vanilla", **how, protect=protect))
        assert same(named, told)
    assert choices_of("gradcam") == choices_of("none.again") == {}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"arm": "grdcam"}, "No arm is called 'grdcam'"),
        ({"sign": "abs"}, "sign must be one of 'absolute', 'signed', not 'abs'"),
        ({"flat": "middle"}, "flat must be one of 'random', 'corner', not 'middle'"),
        ({"explain": "sigmoid"}, "explain must be one of 'target', 'pred', 'all', not 'sigmoid'"),
        ({"layer": "bottleneck.9"}, "layer must be one of .*, not 'bottleneck.9'"),
        ({"sing": "signed"}, "an option must be one of 'flat', 'explain', 'sign', 'precision', 'layer', not 'sing'"),
        ({"protect": "kept"}, "protect must be one of 'keep', 'forbid', 'none', not 'kept'"),
        ({"fill": "black"}, "fill must be one of 'mean', 'minimum', 'noise', not 'black'"),
        ({"augment_copies": "none"}, "augment_copies must be one of 'originals', 'both', 'off', not 'none'"),
        ({"size": 41}, "size must be a whole number .*, not 41"),
        ({"size": 0}, "size must be a whole number .*, not 0"),
        ({"batch_size": 0}, "batch_size must be a whole number .*, not 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"cycles": -1}, "cycles must be a whole number .*, not -1"),
        ({"ada_epochs": None}, "ada_epochs must be a whole number"),
        ({"standard_epochs": True}, "standard_epochs must be a whole number"),
        ({"threshold": 1.0}, "threshold must be a number .*, not 1.0"),
        ({"threshold": float("nan")}, "threshold must be a number"),
        ({"seed": "0"}, "seed must be a whole number, not '0'"),
        ({"augmentation": {"elastic_p": 30}}, "elastic_p must be a number .*, not 30"),
        ({"augmentation": {"rotation_deg": -4}}, "rotation_deg must be a number .*, not -4"),
    ],
    ids=str,
)
def test_what_train_cannot_be_told_is_refused_before_the_first_epoch(data, wrong, words):
    state = new_state(**MODEL)
    with pytest.raises(ValueError, match=words) as error:
        next(train(state, *data, **{"arm": "gradcam", **HOW, **wrong}))
    assert "\n" not in str(error.value) and state.epoch == 0 and not state.history and same(state, new_state(**MODEL))


def test_slices_that_no_network_can_be_trained_on_are_refused(data):
    training, validation = data
    empty = Slices(training.images[:0], training.targets[:0], training.table[:0])
    spoilt = Slices(training.images.clone().fill_(torch.nan), training.targets, training.table)
    for bad, words in [(empty, "holds none"), (spoilt, "must be finite")]:
        with pytest.raises(ValueError, match=f"the training data.*{words}"):
            next(train(new_state(**MODEL), bad, validation, arm="none", **HOW))
        with pytest.raises(ValueError, match=f"the validation data.*{words}"):
            next(train(new_state(**MODEL), training, bad, arm="none", **HOW))


@pytest.mark.parametrize(
    "wrong",
    [{"width": 0}, {"width": 2.5}, {"dropout": 1}, {"dropout": -0.1}, {"bn_momentum": 0}, {"lr": 0}, {"seed": 0.5}],
    ids=str,
)
def test_networks_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        new_state(**MODEL | wrong)


@pytest.mark.parametrize(
    "wrong", [{"threshold": 0}, {"threshold": 2}, {"batch_size": 0}, {"images": torch.zeros(2, 8, 8)}], ids=str
)
def test_predict_refuses_what_it_cannot_do(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must"):
        predict(new_state(**MODEL).model, **{"images": torch.zeros(2, 1, 8, 8)} | wrong)


def test_a_numpy_seed_draws_as_the_same_number_does(data):
    states = [new_state(**MODEL | {"seed": seed}) for seed in (5, np.int64(5))]
    for state, seed in zip(states, (5, np.int64(5)), strict=True):
        list(train(state, *data, arm="none", **HOW | {"seed": seed, "cycles": 1, "ada_epochs": 1}))
    assert same(*states)


def test_slices_of_any_kind_of_number_train_alike(data):
    training, validation = data
    told = HOW | {"cycles": 1, "ada_epochs": 1, "batch_size": np.int32(8)}
    kinds = [
        training,
        Slices(training.images.double(), training.targets.to(torch.uint8), training.table),
        Slices(training.images, training.targets.numpy(), training.table),
    ]
    states = [new_state(**MODEL) for _ in kinds]
    for state, kind in zip(states, kinds, strict=True):
        list(train(state, kind, validation, arm="random", **told))
    assert same(states[0], states[1]) and same(states[0], states[2])


def test_slices_that_do_not_fit_are_refused_in_one_line(data):
    good, validation = data
    n, none = len(good.images), good.targets & False
    cases = [
        (Slices(good.images, good.targets[:, :0], good.table), "targets of a rater"),
        (Slices(good.images, good.targets[1:], good.table), f"must have the shape \\({n}, R"),
        (Slices(good.images, good.targets * 0.5, good.table), "only zeros and ones"),
        (Slices(good.images, good.targets, good.table[1:]), f"a DataFrame of {n} rows"),
        (Slices(good.images, good.targets, good.table.drop(columns="spacing_mm")), "a column spacing_mm"),
        ([good], "must be Slices, not list"),
    ]
    for bad, words in cases:
        with pytest.raises(ValueError, match=f"the training data.*{words}") as error:
            next(train(new_state(**MODEL), bad, validation, arm="none", **HOW))
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="the validation data must mark something in each slice"):
        next(train(new_state(**MODEL), good, Slices(good.images, none, good.table), arm="none", **HOW))


def test_a_loss_takes_targets_of_its_own_shape_and_of_zeros_and_ones():
    logits = torch.randn(2, 1, 8, 8)
    target = logits > 0
    assert dice_loss(logits, target.float()) == dice_loss(logits, target.numpy()) == dice_loss(logits, target)
    for wrong in (target[:, 0], 0.3 * target, 255 * target):
        with pytest.raises(ValueError, match="target must"):
            dice_loss(logits, wrong)


def test_predict_takes_floats_of_any_kind_and_one_logit_a_pixel():
    model, images = new_state(**MODEL).model.cpu(), torch.randn(2, 1, 16, 16)
    assert torch.equal(predict(model, images.double()), predict(model, images.double().float()))
    for wrong in (torch.nn.Conv2d(1, 2, 1), abs):
        with pytest.raises(ValueError, match="model must"):
            predict(wrong, images)
