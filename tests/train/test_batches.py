"Batches drawn at once train as those drawn one by one; on a GPU as on a CPU, waited for once an epoch."

import warnings

import pandas as pd
import pytest
import torch
from test_training import Waits

from ada_repro.core import named_generator
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.method.mask import window_mask
from ada_repro.train import training
from ada_repro.train.batches import AUGMENT_COPIES, batch_of, can_be_planned, plan_epoch
from ada_repro.train.steps import Steps
from ada_repro.train.training import new_state, step, train_epoch

N, PX = 14, 40
MODEL = {"width": 4, "dropout": 0.0, "bn_momentum": 0.4, "lr": 0.01, "seed": 0}
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def data():
    images, targets = phantom_slices(N, px=PX, spacing_mm=1.0, seed=0)
    return Slices(images, targets, pd.DataFrame({"spacing_mm": [1.0] * N}))


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
    for number, items in enumerate(order.split(4)):
        x, target = batch_of(items, data, mask, named_generator(0, "batch", 3, number), {}, augment_copies, fill)
        planned_x, planned_target = plan.batch(number, data, mask, fill)
        assert planned_x.shape == x.shape and torch.allclose(planned_x, x, atol=1e-4)
        assert (planned_target != target).float().mean() < 1e-3
    assert number == (len(order) - 1) // 4 and len(plan.index) == len(order)


def test_what_is_not_augmented_is_left_to_the_bit(data, mask):
    order = torch.arange(2 * N)
    plan = plan_epoch(order, data, True, (0, 1), 2 * N, {}, "off")
    x, target = plan.batch(0, data, mask)
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
        for number in range(7):
            plan.batch(number, data, mask)
    assert waits.count == 0


def test_only_a_gpu_is_sent_plans_and_no_noise(data):
    assert not can_be_planned(data, "mean")
    if torch.cuda.is_available():
        assert can_be_planned(data.to("cuda"), "mean") and not can_be_planned(data.to("cuda"), "noise")


def test_a_graph_is_passed_over_without_a_gpu(data, monkeypatch):
    monkeypatch.setenv("ADA_GRAPH", "1")
    state = new_state(**MODEL)
    steps = Steps(step, state, 4)
    for _ in range(3):
        steps(data.images[:4], data.targets[:4, :1])
    assert steps.graph is None or torch.cuda.is_available()


@on_a_gpu
@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("graph", ["0", "1"])
def test_an_epoch_on_a_gpu_is_that_of_the_cpu(data, mask, copies, graph, monkeypatch):
    monkeypatch.setattr(training, "fast_bf16", lambda device: False)
    monkeypatch.setenv("ADA_GRAPH", graph)
    torch.backends.cudnn.allow_tf32 = False
    mask = mask if copies else None
    ends = [epoch_of(data, mask, device=device) for device in ("cpu", "cuda")]
    assert ends[1][1] == pytest.approx(ends[0][1], abs=1e-3)
    assert_alike(ends[0][0], ends[1][0], 5e-3)
    assert not any(group["capturable"] for group in ends[1][0].optimizer.param_groups)


@on_a_gpu
def test_a_gpu_is_waited_for_once_an_epoch(data, mask):
    epoch_of(data, mask, device="cuda")  # what is loaded once
    state, there = new_state(**MODEL), (data.to("cuda"), mask.to("cuda"))
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            train_epoch(state, *there, 0, 4, {}, "originals")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([w for w in waits if "synchroniz" in str(w.message)]) <= 1
