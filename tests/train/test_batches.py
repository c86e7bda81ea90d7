"Batches drawn at once train as those drawn one by one, and a step is recorded once."

import itertools

import pandas as pd
import pytest
import torch
from test_training import Waits

from ada_repro.core import named_generator
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.method.mask import window_mask
from ada_repro.train import batches, training
from ada_repro.train import steps as steps_module
from ada_repro.train.batches import AUGMENT_COPIES, batch_of, can_be_planned, plan_epoch, planned_batches
from ada_repro.train.steps import Steps
from ada_repro.train.training import new_state, step, train, train_epoch

N, PX = 14, 40
MODEL = {"width": 4, "dropout": 0.0, "bn_momentum": 0.4, "lr": 0.01, "seed": 0}


@pytest.fixture(scope="module")
def data():
    images, targets = phantom_slices(N, px=PX, spacing_mm=1.0, seed=0)
    return Slices(images, targets, pd.DataFrame({"spacing_mm": [1.0] * N, "person": list("aabbccddeeffgg")}))


@pytest.fixture(scope="module")
def mask():
    corners = torch.randint(PX - 8, (N, 2), generator=torch.Generator().manual_seed(0))
    return window_mask(corners, 8, (PX, PX))


def epoch_of(data, mask, augment_copies="originals", fill="mean", device="cpu", **model):
    "An epoch from a new state: the state and its mean loss."
    state = new_state(**MODEL | model)
    state.model.to(device)
    mask = None if mask is None else mask.to(device)
    return state, train_epoch(state, data.to(device), mask, 0, 4, {}, augment_copies, fill)


def assert_alike(one, other, atol):
    for name, value in one.model.state_dict().items():
        assert torch.allclose(value.cpu().double(), other.model.state_dict()[name].cpu().double(), atol=atol), name


@pytest.mark.parametrize("augment_copies", AUGMENT_COPIES)
@pytest.mark.parametrize("fill", ["mean", "minimum"])
@pytest.mark.parametrize("copies", [True, False])
def test_a_plan_holds_what_the_batches_draw(data, mask, augment_copies, fill, copies):
    order = torch.randperm(2 * N if copies else N, generator=named_generator(0, "order", 3))
    mask = mask if copies else None
    plan = plan_epoch(order, data, copies, (0, 3), 4, {}, augment_copies)
    for number, (planned_x, planned_target) in enumerate(planned_batches(plan, data, mask, fill)):
        items = order.split(4)[number]
        x, target = batch_of(items, data, mask, named_generator(0, "batch", 3, number), {}, augment_copies, fill)
        assert planned_x.shape == x.shape and torch.allclose(planned_x, x, atol=1e-4)
        assert (planned_target != target).float().mean() < 1e-3
    assert number == (len(order) - 1) // 4 and len(plan.index) == len(order)


def test_what_is_not_augmented_is_left_to_the_bit(data, mask):
    order = torch.arange(2 * N)
    plan = plan_epoch(order, data, True, (0, 1), 2 * N, {}, "off")
    [(x, target)] = planned_batches(plan, data, mask)
    assert torch.equal(x[:N], data.images) and torch.equal(x[N:], data.images * mask[:, None])
    assert all(any(torch.equal(target[i, 0], rater) for rater in data.targets[i % N]) for i in range(2 * N))


@pytest.mark.parametrize("augment_copies", AUGMENT_COPIES)
@pytest.mark.parametrize("copies", [True, False])
def test_an_epoch_by_plan_ends_where_the_other_does(data, mask, augment_copies, copies, monkeypatch):
    monkeypatch.setattr(training, "fast_bf16", lambda device: False)
    mask = mask if copies else None
    state, loss = epoch_of(data, mask, augment_copies)
    monkeypatch.setattr(training, "can_be_planned", lambda *_: True)
    planned, planned_loss = epoch_of(data, mask, augment_copies)
    assert planned_loss == pytest.approx(loss, abs=1e-4)
    assert_alike(state, planned, 2e-3)


def test_a_planned_batch_waits_for_nothing(data, mask):
    plan = plan_epoch(torch.arange(2 * N), data, True, (0, 1), 4, {}, "originals")
    with Waits() as waits:
        assert len(list(planned_batches(plan, data, mask))) == 7
    assert waits.count == 0


def test_only_a_gpu_is_sent_plans(data):
    assert not can_be_planned(data, "mean")


def test_many_items_are_made_some_at_a_time(data, mask, monkeypatch):
    plan = plan_epoch(torch.arange(2 * N), data, True, (0, 1), 5, {}, "originals")
    whole = list(planned_batches(plan, data, mask))
    monkeypatch.setattr(batches, "AT_ONCE", 12)
    parts = list(planned_batches(plan, data, mask))
    assert [len(x) for x, _ in parts] == [len(x) for x, _ in whole] == [5, 5, 5, 5, 5, 3]
    for (x, target), (same_x, same_target) in zip(whole, parts, strict=True):
        assert torch.equal(x, same_x) and torch.equal(target, same_target)


def test_there_is_no_graph_without_a_gpu(data):
    steps = Steps(step, new_state(**MODEL), 4)
    for _ in range(3):
        steps(data.images[:4], data.targets[:4, :1])
    assert list(steps.graphs.values()) == [None]


class Graph:
    "What a step does, as a graph would: without saying so."

    def __init__(self, step):
        self.step, self.calls = step, 0

    def __call__(self, x, target):
        self.calls += 1
        return self.step(x, target)


def test_each_size_of_a_batch_and_each_rate_is_recorded_once_after_its_first_step(data, monkeypatch):
    state = new_state(**MODEL)
    steps, made = Steps(step, state, 4), []
    monkeypatch.setattr(steps_module, "recorded", lambda told, *_: made.append(Graph(told)) or made[-1])
    for rate, n in itertools.product((0.01, 0.002), (4, 4, 2, 4, 2, 4)):
        state.optimizer.param_groups[0]["lr"] = rate
        steps(data.images[:n], data.targets[:n, :1])
    assert [graph.calls for graph in made] == [3, 1, 3, 1]


def test_a_training_keeps_its_graphs_from_epoch_to_epoch(data, mask, monkeypatch):
    kept = []
    monkeypatch.setattr(steps_module, "recorded", lambda told, *_: kept.append(Graph(told)) or kept[-1])
    history = list(train(new_state(**MODEL), data, data, "random", 0, 2, 1, 2, 8, batch_size=4))
    told = list(train(new_state(**MODEL), data, data, "random", 0, 2, 1, 2, 8, batch_size=4))
    assert [graph.calls for graph in kept[:2]] == [2 * 3 - 1 + 2 * 7, 1] and len(kept) == 4
    assert [record["loss"] for record in history] == [record["loss"] for record in told]
