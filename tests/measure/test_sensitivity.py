"S1 to the bit, the signed maps against their formula, and what each choice can and cannot move."

from itertools import product

import numpy as np
import pandas as pd
import papermill
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ada_repro.core import ROOT, named_generator
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.measure.agreement import window_iou
from ada_repro.measure.sensitivity import (
    CHOICES,
    choice_maps,
    choice_windows,
    functional_twin,
    unguarded_map,
    window_sensitivity,
)
from ada_repro.method.mask import build_mask, touches
from ada_repro.method.saliency import SALIENCY, saliency_map
from ada_repro.train.training import cpu_weights, new_state

PAPER = list(SALIENCY)[:5]


@pytest.fixture(scope="module")
def scene():
    images, targets = phantom_slices(10, px=40, spacing_mm=1.0, seed=0)
    table = pd.DataFrame(
        {
            "site": "1",
            "subject": [f"s{i // 4}" for i in range(10)],
            "slice": range(10),
            "spacing_mm": 1.0,
            "native_mm": 1.0,
            "slice_mm": 5.0,
            "split": "train",
        }
    )
    model = new_state(width=4, dropout=0.1, bn_momentum=0.4, lr=0.01, seed=0).model
    model.train()(images)
    return model.eval(), Slices(images, targets, table.assign(person=table.subject))


@pytest.fixture(scope="module")
def table(scene):
    return window_sensitivity(*scene, PAPER, size=5, seed=0).set_index(["method", "choice"])


def test_a_twin_computes_the_same_and_leaves_the_model_alone(scene):
    model, slices = scene
    relus = [n for n, m in model.named_modules() if isinstance(m, nn.ReLU)]
    twin = functional_twin(model)
    with torch.no_grad():
        assert torch.equal(twin(slices.images), model(slices.images))
    assert not any(isinstance(m, nn.ReLU) for m in twin.modules())
    assert [n for n, m in model.named_modules() if isinstance(m, nn.ReLU)] == relus and len(relus) == 14


def test_s1_with_functional_relus_guided_is_plain(scene):
    model, slices = scene
    x, target = slices.images, slices.consensus
    fake, cam = (
        unguarded_map(functional_twin(model), x, target, SALIENCY[m]) for m in ("guided_backprop", "guided_gradcam")
    )
    plain, gradcam = (saliency_map(model, x, target, m) for m in ("vanilla", "gradcam"))
    assert torch.equal(fake, plain) and not torch.allclose(plain, saliency_map(model, x, target, "guided_backprop"))
    torch.testing.assert_close(cam, plain * gradcam)
    with pytest.raises(ValueError, match="plain backprop"):
        saliency_map(functional_twin(model), x, target, "guided_backprop")


@pytest.mark.parametrize("method", SALIENCY)
def test_unguarded_is_the_frame_without_its_guard(scene, method):
    model, slices = scene
    x, target = slices.images[:2], slices.consensus[:2]
    for sign in ("absolute", "signed"):
        torch.testing.assert_close(
            unguarded_map(model, x, target, SALIENCY[method], sign), saliency_map(model, x, target, method, sign=sign)
        )


def test_the_siblings_maps_by_hand(scene):
    model, slices = scene
    x, target = slices.images, slices.consensus
    kept = []
    hook = model.bottleneck[5].register_forward_hook(lambda m, i, o: kept.append(o))
    score = (model(x) * target[:, None]).sum()
    hook.remove()
    (a,) = kept
    cam = (torch.autograd.grad(score, a)[0].mean((2, 3), keepdim=True) * a).sum(1, keepdim=True).detach()
    cam = cam.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, 0]
    assert (cam < 0).any()
    torch.testing.assert_close(choice_maps(model, x, target, "gradcam", "sibling"), cam)
    guided = saliency_map(model, x, target, "guided_backprop", sign="signed")
    torch.testing.assert_close(choice_maps(model, x, target, "guided_gradcam", "sibling"), cam * guided)
    for method in ("vanilla", "guided_backprop"):
        assert torch.equal(choice_maps(model, x, target, method, "sibling"), saliency_map(model, x, target, method))
    torch.testing.assert_close(
        choice_maps(model, x, target, "input_x_gradient", "sibling"),
        saliency_map(model, x, target, "input_x_gradient", sign="signed"),
    )


def test_the_sibling_hides_the_corner_where_nothing_is_positive(scene, monkeypatch):
    model, slices = scene
    monkeypatch.setitem(CHOICES, "default", {"sign": "signed"})  # the same maps, the other rule
    monkeypatch.setitem(SALIENCY, "negative", lambda score, x, layer: -x.abs())
    for choice, cornered in (("sibling", True), ("default", False)):
        at, flat = choice_windows(model, slices, "negative", choice, 5, 0)
        assert flat.all() and (at == 0).all() == cornered


def test_the_default_is_what_training_hides(scene):
    model, slices = scene
    at, _ = choice_windows(model, slices, "vanilla", "default", 5, 0)
    masks = build_mask(
        saliency_map(model, slices.images, slices.consensus, "vanilla"),
        5,
        protect="none",
        generator=named_generator(0, "sensitivity"),
    )
    assert [(~m).nonzero()[0].tolist() for m in masks] == at.tolist()


def test_forbidden_windows_touch_nothing(scene):
    model, slices = scene
    at, _ = choice_windows(model, slices, "vanilla", "protect_forbid", 5, 0)
    assert not any(t[r, c] for t, (r, c) in zip(touches(slices.consensus, 5), at, strict=True))


def test_what_a_choice_can_move(table):
    assert len(table) == len(PAPER) * len(CHOICES) and (table.slices == 10).all()
    for choice in ("default", "protect_none"):
        assert (table.iou.xs(choice, level=1) == 1).all()
    for method in PAPER:
        assert (table.iou[method, "layer_down"] == 1) == ("gradcam" not in method)
        assert (table.iou[method, "functional_relu"] == 1) == ("guided" not in method)
    assert table.iou["gradcam", "signed"] == 1  # its map has no sign left after ReLU
    assert (
        table.iou_vanilla["guided_backprop", "functional_relu"] == 1 > table.iou_vanilla["guided_backprop", "default"]
    )
    assert table[["iou", "iou_vanilla", "flat", "corner"]].stack().between(0, 1).all()


def test_iou_by_hand(scene, table):
    model, slices = scene
    a, b = (choice_windows(model, slices, "gradcam", c, 5, 0)[0] for c in ("default", "explain_all"))

    def cells(at):
        return set(product(range(at[0], at[0] + 5), range(at[1], at[1] + 5)))

    naive = [len(cells(p) & cells(q)) / len(cells(p) | cells(q)) for p, q in zip(a, b, strict=True)]
    assert table.iou["gradcam", "explain_all"] == pytest.approx(np.mean(naive))
    assert np.allclose(window_iou(a, b, 5), naive)


def test_the_notebook(scene, tmp_path):
    model, slices = scene
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    for name in ("slices", "runs/baseline-paper-0"):
        (tmp_path / "data" / name).mkdir(parents=True)
    np.save(tmp_path / "data" / "slices" / "images.npy", slices.images)
    np.save(tmp_path / "data" / "slices" / "targets.npy", slices.targets)
    slices.table.to_csv(tmp_path / "data" / "slices" / "slices.csv", index=False)
    save_file(cpu_weights(model), tmp_path / "data" / "runs" / "baseline-paper-0" / "last.safetensors")
    told = {"fold": "paper", "seed": 0, "methods": ["vanilla", "gradcam"], "width": 4, "size": 5, "at_most": 5}
    papermill.execute_notebook(
        ROOT / "nbs" / "experiments" / "sensitivity.ipynb",
        tmp_path / "sensitivity.ipynb",
        told,
        cwd=tmp_path,
        progress_bar=False,
    )
    made = pd.read_csv(tmp_path / "data" / "sensitivity" / "sensitivity-paper-0" / "windows.csv")
    assert list(made) == ["seed", "method", "choice", "iou", "iou_vanilla", "flat", "corner", "slices", "fold"]
    assert made.slices.eq(5).all() and len(made) == 2 * len(CHOICES)
