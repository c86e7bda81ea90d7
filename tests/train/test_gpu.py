"On a GPU: the same data, the same arithmetic but for rounding, one wait an epoch, and nobody need move anything."

import copy
import itertools
import warnings
from functools import partial

import pandas as pd
import pytest
import torch

from ada_repro.core import named_generator
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.measure.look import randomised
from ada_repro.measure.occluded import predict_occluded
from ada_repro.measure.rescan import predict_moved
from ada_repro.measure.robustness import evaluate
from ada_repro.measure.sensitivity import unguarded_map
from ada_repro.method.mask import window_mask
from ada_repro.method.saliency import SALIENCY, saliency_map
from ada_repro.train import training
from ada_repro.train.augment import augment, draw
from ada_repro.train.batches import can_be_planned
from ada_repro.train.runs import load_state, save_state
from ada_repro.train.steps import Steps
from ada_repro.train.training import dice_loss, new_state, predict, step, train, train_epoch

N, PX = 14, 40
MODEL = {"width": 4, "dropout": 0.0, "bn_momentum": 0.4, "lr": 0.01, "seed": 0}


@pytest.fixture(scope="module")
def data():
    images, targets = phantom_slices(N, px=PX, spacing_mm=1.0, seed=0)
    table = pd.DataFrame({"spacing_mm": [1.0] * N, "subject": list("aabbccddeeffgg"), "person": list("aabbccddeeffgg")})
    return Slices(images, targets, table)


@pytest.fixture(scope="module")
def mask():
    corners = torch.randint(PX - 8, (N, 2), generator=torch.Generator().manual_seed(0))
    return window_mask(corners, 8, (PX, PX))


@pytest.fixture
def no_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(training, "fast_bf16", lambda device: False)


def in_float64(state, x, target, twin):
    "A step in so many digits that the order of sums does not count."
    return step(state, x.double(), target, twin)


def new_state_in_float64(device, make, **model):
    "A state whose steps are `in_float64`."
    state = new_state(**MODEL | model)
    state.model.to(device).double()
    state.optimizer = make(state.model.parameters(), lr=0.01)
    return state


def weights_of(state):
    return torch.cat([value.detach().cpu().double().flatten() for value in state.model.parameters()])


def test_the_gradient_of_a_step(gpu, data, no_tf32):
    gradients = []
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.float32)):
        model = new_state(**MODEL).model.to(device, dtype).train()
        dice_loss(model(data.images.to(device, dtype)), data.targets[:, :1].to(device)).backward()
        gradients.append(torch.cat([p.grad.cpu().double().flatten() for p in model.parameters()]))
    assert (gradients[1] - gradients[0]).norm() < 1e-3 * gradients[0].norm()


@pytest.mark.parametrize("copies", [True, False])
def test_epochs_are_those_of_the_cpu(gpu, data, mask, copies, monkeypatch, no_tf32):
    monkeypatch.setattr(training, "step", in_float64)
    losses, ends = [], []
    for device in ("cpu", "cuda"):
        state = new_state_in_float64(device, torch.optim.SGD)  # Adam divides by gradients that are only rounding
        begin, steps = weights_of(state), Steps(in_float64, state, 4)
        told = (mask if copies else None, 0, 4, {}, "originals", "mean", steps)
        losses.append([train_epoch(state, data, *told) for _ in range(3)])
        ends.append(weights_of(state) - begin)
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert (ends[1] - ends[0]).norm() < 0.02 * ends[0].norm()
    assert len(steps.graphs) == (1 if copies else 2) and all(steps.graphs.values())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_graph_does_what_its_operations_do(gpu, data, mask, dropout, no_tf32):
    ends = []
    for calls in (Steps.__call__, Steps.told):
        state = new_state_in_float64("cuda", partial(torch.optim.Adam, fused=True), dropout=dropout)
        steps = type("Way", (Steps,), {"__call__": calls})(in_float64, state, 5)
        losses = [train_epoch(state, data, mask, 0, 5, {}, "originals", "mean", steps) for _ in range(3)]
        assert len(steps.graphs) == (2 if calls is Steps.__call__ else 0) and all(steps.graphs.values())
        assert not any(group["capturable"] for group in state.optimizer.param_groups)
        ends.append((losses, weights_of(state)))
    assert ends[1][0] == pytest.approx(ends[0][0], abs=1e-6) and torch.allclose(ends[1][1], ends[0][1], atol=1e-5)


def test_an_optimiser_with_numbers_on_the_cpu_trains(gpu, data, mask):
    state = new_state(**MODEL)
    state.optimizer = torch.optim.Adam(state.model.parameters(), lr=0.001)
    steps = Steps(step, state, 4)
    for _ in range(2):
        train_epoch(state, data, mask, 0, 4, {}, "originals", "mean", steps)
    assert list(steps.graphs.values()) == [None]


def test_a_run_goes_on_where_it_was(gpu, data, tmp_path, no_tf32, monkeypatch):
    monkeypatch.setattr(training, "step", in_float64)
    how = {"arm": "random", "seed": 0, "standard_epochs": 2, "cycles": 1, "ada_epochs": 2, "size": 8, "batch_size": 4}
    adam, losses = partial(torch.optim.Adam, fused=True), []
    whole, first, second = (new_state_in_float64("cuda", adam, dropout=0.5) for _ in range(3))
    begun = list(itertools.islice(train(first, data, data, **how), 3))
    save_state(first, tmp_path / "state.pt")
    rest = list(train(load_state(second, tmp_path / "state.pt"), data, data, **how))
    losses = [[record["loss"] for record in records] for records in (train(whole, data, data, **how), begun + rest)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_it_is_waited_for_once_an_epoch(gpu, data, mask):
    state, there = new_state(**MODEL), (data.to("cuda"), mask.to("cuda"))
    assert can_be_planned(there[0], "mean") and not can_be_planned(there[0], "noise")
    told = (*there, 0, 4, {}, "originals", "mean", Steps(step, state, 4))
    for _ in range(2):  # what is loaded and recorded once
        train_epoch(state, *told)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            train_epoch(state, *told)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([w for w in waits if "synchroniz" in str(w.message)]) == 1


def test_the_same_draws(gpu, data):
    draws = draw(N, PX, named_generator("gpu"), 1.0, elastic_p=1)
    (x, y), (gx, gy) = (
        augment(*(t.to(there) for t in (data.images, data.targets)), draws) for there in ("cpu", "cuda")
    )
    assert (x - gx.cpu()).abs().max() < 1e-3 and (y != gy.cpu()).float().mean() < 1e-3


def test_images_may_be_elsewhere(gpu, data, no_tf32):
    state = new_state(**MODEL)
    *_, last = train(state, data, data, "gradcam", 0, 2, 1, 2, 8, batch_size=4)
    assert last["epoch"] == 4
    model, there = copy.deepcopy(state.model).cpu(), state.model
    assert (predict(there, data.images) != predict(model, data.images)).float().mean() < 1e-3
    shifts = torch.zeros(N, 2)
    assert (
        predict_moved(there, data.images, shifts) != predict_moved(model, data.images, shifts)
    ).float().mean() < 1e-3
    for method in SALIENCY:
        for look, what in ((saliency_map, method), (unguarded_map, SALIENCY[method])):
            one, other = (look(m, data.images[:3], data.consensus[:3], what) for m in (model, there))
            assert one.any() and other.device == data.images.device, method
            assert (one - other).norm() < 0.02 * one.norm(), method
    preds = [evaluate(m, data, 8, 5.0)[1] for m in (model, there)]
    assert (preds[0] != preds[1]).mean() < 1e-3
    corners = torch.tensor([[0, 0], [10, 12], [30, 30]])
    cells = [predict_occluded(m.eval(), data.images[:1], corners, 8) for m in (model, there)]
    assert (cells[0] != cells[1]).float().mean() < 1e-3
    assert randomised(there, data.images[:3], 0)(data.images[:3].cuda()).isfinite().all()
