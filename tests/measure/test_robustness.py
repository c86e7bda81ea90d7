"The streamed evaluation against all copies made at once and scored one by one."

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from ada_repro.core import named_generator
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.measure.metrics import score
from ada_repro.measure.occluded import (
    RowNorm,
    WideConv,
    applied,
    layers_of,
    overwriting,
    predict_occluded,
    wholes_through,
)
from ada_repro.measure.robustness import cell_groups, evaluate, evaluate_run, score_parts
from ada_repro.method.mask import build_robustness_data, occlusion_grid
from ada_repro.method.unet import UNet, block
from ada_repro.train.runs import save_file
from ada_repro.train.training import cpu_weights, new_state, predict, train


@pytest.fixture(scope="module")
def scored():
    images, targets = phantom_slices(12, px=40, spacing_mm=1.0, seed=0)
    table = pd.DataFrame(
        {
            "site": "1",
            "subject": [f"s{i // 4}" for i in range(12)],
            "slice": range(12),
            "spacing_mm": 1.0,
            "split": "val",
        }
    )
    slices = Slices(images, targets, table.assign(person=table.subject))
    state = new_state(width=4, dropout=0.0, bn_momentum=0.4, lr=0.01, seed=0)
    list(
        train(
            state, slices, slices, arm="none", seed=0, standard_epochs=80, cycles=0, ada_epochs=0, size=5, batch_size=4
        )
    )
    return slices, state.model, *evaluate(state.model, slices, size=5, near_px=2.5)


def test_equals_all_copies_at_once(scored):
    slices, model, rows, _ = scored
    copies = build_robustness_data(slices.images, 5)
    for i in range(12):
        groups = cell_groups(slices.consensus[i], 5, 2.5)
        naive = pd.DataFrame([score(predict(model, c[i : i + 1])[0], slices.consensus[i], (1.0, 1.0)) for c in copies])
        assert len(copies) == len(naive) == 64
        for group in np.unique(groups):
            mine, theirs = rows[(rows.slice == i) & (rows.group == group)].iloc[0], naive[groups == group]
            assert mine.cells == len(theirs) and mine["empty"] == theirs.PPV.isna().sum()
            for name in naive:
                assert mine[name] == pytest.approx(theirs[name].mean(), abs=1e-6, nan_ok=True), name


def test_inside_and_outside_by_taking_pixels_out(scored):
    slices, model, rows, _ = scored
    copies = build_robustness_data(slices.images, 5)
    for i in range(12):
        target, parts = slices.consensus[i].numpy(), {"inside": [], "outside": []}
        for c, (row, col) in zip(copies, occlusion_grid(40, 5), strict=True):
            hidden = np.zeros((40, 40), bool)
            hidden[row : row + 5, col : col + 5] = True
            if not (target & hidden).any():
                continue
            pred = predict(model, c[i : i + 1])[0].numpy()
            for name, part in (("inside", hidden), ("outside", ~hidden)):
                parts[name].append(score(pred[part][None], target[part][None], (1, 1)))
        for group, each in parts.items():
            mine, theirs = rows[(rows.slice == i) & (rows.group == group)].iloc[0], pd.DataFrame(each)
            assert mine.cells == len(each) == rows[(rows.slice == i) & (rows.group == "touching")].cells.item()
            for name in ("DSC", "TPR", "TNR", "PPV"):
                assert mine[name] == pytest.approx(theirs[name].mean(), nan_ok=True)
            assert np.isnan(mine.HSD) and np.isnan(mine.HSD_rows)


def test_inside_and_outside_counted_by_hand():
    target, pred, hidden = (torch.zeros(1, 6, 6, dtype=torch.bool) for _ in range(3))
    target[0, 2, 1:5] = True  # four pixels in a row; the hole hides two of them
    hidden[0, 2:4, 3:6] = True  # six pixels
    pred[0, 2, 0:4] = True
    pred[0, 3, 5] = True  # outside: both found, one wrong; inside: one of two found, one wrong
    parts = score_parts(pred, target[0], hidden)
    inside, outside = ({name: values.item() for name, values in part.items()} for part in parts.values())
    assert list(parts) == ["inside", "outside"]
    assert inside == {"DSC": 50, "TPR": 50, "TNR": 75, "PPV": 50}
    assert outside == pytest.approx({"DSC": 80, "TPR": 100, "TNR": 100 * 27 / 28, "PPV": 200 / 3})


@pytest.mark.parametrize("n, size", [(8, 3), (16, 4), (40, 5), (40, 7), (48, 30), (64, 20), (80, 10), (136, 10)])
def test_windows_equal_whole_copies(n, size):
    torch.manual_seed(0)
    model = UNet(width=4).to(memory_format=torch.channels_last)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
    image = torch.randn(1, 1, n, n, generator=named_generator(0, "windows"))
    corners = torch.tensor(occlusion_grid(n, size))
    with torch.no_grad():
        logits = model.eval()(build_robustness_data(image, size)[:, 0])[:, 0]
    middle = logits.median().item()
    clear = (logits - middle).abs() > 1e-5  # the others may round to either side
    assert clear.float().mean() > 0.99 and 0.2 < (logits > middle).float().mean() < 0.8
    pred = predict_occluded(model, image, corners, size, 1 / (1 + math.exp(-middle)), batch_size=7)
    assert torch.equal(pred[clear], (logits > middle)[clear])


def test_any_other_network_is_shown_whole_copies(scored):
    slices, model, rows, preds = scored
    same, again = evaluate(torch.nn.Sequential(model), slices, size=5, near_px=2.5)
    pd.testing.assert_frame_equal(same, rows, atol=1e-6)
    assert np.array_equal(preds, again)


def test_bfloat16_moves_little(scored):
    slices, model, rows, _ = scored
    coarse, _ = evaluate(model, slices, size=5, near_px=2.5, precision="bfloat16")
    assert coarse.cells.tolist() == rows.cells.tolist() and not coarse.equals(rows)
    means = [
        t.groupby("group")[["DSC", "TPR", "TNR", "PPV"]].mean().loc[["touching", "near", "far"]] for t in (coarse, rows)
    ]
    assert (means[0] - means[1]).abs().max(axis=None) < 0.5  # in masks so small that a pixel is 5 %


def test_equal_weights_are_scored_alike_and_others_apart(scored, tmp_path):
    slices, model, rows, _ = scored
    run, other = tmp_path / "none-Site-1-3", UNet(4)
    run.mkdir()
    for name in ("best", "chosen", "last"):
        save_file(cpu_weights(model), run / f"{name}.safetensors")
    alike = parts_of(evaluate_run(run, tmp_path / "scores", slices, 4, 5, 2.5, 0.5))
    assert list(alike) == ["best", "chosen", "last"]
    for part in alike.values():
        pd.testing.assert_frame_equal(part, alike["best"])
        assert np.allclose(part.DSC, rows.DSC, equal_nan=True)
        assert set(zip(part.arm, part.fold, part.seed, strict=True)) == {("none", "Site-1", 3)}
    for name in ("chosen", "last"):
        save_file(cpu_weights(other), run / f"{name}.safetensors")
    apart = parts_of(evaluate_run(run, tmp_path / "scores", slices, 4, 5, 2.5, 0.5))
    pd.testing.assert_frame_equal(apart["best"], alike["best"])
    pd.testing.assert_frame_equal(apart["chosen"], apart["last"])
    assert np.allclose(apart["chosen"].TNR, evaluate(other, slices, size=5, near_px=2.5)[0].TNR)
    assert not np.allclose(apart["chosen"].TNR, apart["best"].TNR)


def parts_of(table):
    "The scores of each of a run's weights."
    return {weights: part.drop(columns="weights").reset_index(drop=True) for weights, part in table.groupby("weights")}


def test_original_and_context(scored):
    slices, model, rows, preds = scored
    pred = predict(model, slices.images)
    assert np.array_equal(preds[:, 0], pred.numpy())
    assert np.array_equal(preds[:, 1], predict(model, slices.images * slices.consensus[:, None]).numpy())
    for i, row in enumerate(rows[rows.group == "original"].itertuples()):
        assert pytest.approx(score(pred[i], slices.consensus[i], (1.0, 1.0))["DSC"]) == row.DSC
        assert row.DSC_raters == pytest.approx(
            np.mean([score(pred[i], t, (1.0, 1.0))["DSC"] for t in slices.targets[i]])
        )


def test_the_network_found_something(scored):
    assert scored[2].query("group == 'original'").DSC.mean() > 20  # else the comparisons above compare nothing


@pytest.mark.parametrize("n, size", [(40, 5), (40, 7)])
def test_groups_by_brute_force(n, size):
    target = torch.zeros(n, n, dtype=torch.bool)
    target[17:21, 12:26] = True
    at = target.nonzero().numpy()
    for (r, c), group in zip(occlusion_grid(n, size), cell_groups(target, size, near_px=3), strict=True):
        cell = product(range(r, min(r + size, n)), range(c, min(c + size, n)))
        closest = min(np.hypot(*(at - pixel).T).min() for pixel in cell)
        expected = "near" if closest <= 3 else "far"
        assert group == ("touching" if closest == 0 else expected)


@pytest.mark.parametrize("channels", [1, 3, 8, 32])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_norm_over_rows_is_batch_norm_to_the_bit(channels, layout, dtype):
    norm = torch.nn.BatchNorm2d(channels).eval()
    for value in (*norm.parameters(), norm.running_mean, norm.running_var):
        value.data.uniform_(0.1, 3)
    x = (3 * torch.randn(5, channels, 7, 12)).to(dtype).contiguous(memory_format=layout)
    with torch.no_grad():
        assert torch.equal(RowNorm(norm)(x.clone()), norm(x))


def test_layers_that_overwrite_leave_their_input_alone_and_say_the_same():
    layers = block(3, 4, 0.5, 0.4).to(memory_format=torch.channels_last).eval()
    x = torch.randn(5, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    with torch.no_grad():
        assert torch.equal(applied(overwriting(layers), x), layers(x))
    assert torch.equal(x, before)


@pytest.mark.parametrize("channels", [1, 3, 8, 16])
@pytest.mark.parametrize("out", [1, 2, 5, 8, 16])
@pytest.mark.parametrize("W", [7, 12, 16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_several_pixels_at_once_are_those_of_a_convolution(channels, out, W, layout):
    conv = torch.nn.Conv2d(channels, out, 3, padding=1).to(memory_format=torch.channels_last).eval()
    x = torch.randn(3, channels, 9, W).contiguous(memory_format=layout)
    for bias in (conv.bias, None):
        with torch.no_grad():
            one, many = torch.conv2d(x, conv.weight, bias, padding=1), WideConv(conv.weight, bias)(x)
            exact = torch.conv2d(x.double(), conv.weight.double(), None if bias is None else bias.double(), padding=1)
        assert one.shape == many.shape and (many - exact).abs().max() <= 2 * (one - exact).abs().max() + 1e-6


def test_whole_images_through_the_layers_are_those_of_the_network():
    torch.manual_seed(0)
    model = UNet(8).to(memory_format=torch.channels_last).eval()
    x = torch.randn(3, 1, 40, 40).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    with torch.no_grad():
        assert torch.allclose(wholes_through(layers_of(model), x), model(x), atol=1e-5)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": 1}, {"threshold": 0}, {"near_px": -1}, {"near_px": "2"}, {"size": 0}, {"size": 99}, {"model": abs}]
    + [{"precision": "float16"}],
    ids=str,
)
def test_what_evaluate_cannot_be_told(scored, wrong):
    told = {"model": scored[1], "slices": scored[0], "size": 5, "near_px": 2.5} | wrong
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must") as error:
        evaluate(**told)
    assert "\n" not in str(error.value)


def test_slices_with_nothing_to_score_are_refused(scored):
    slices, model = scored[:2]
    few = Slices(slices.images[:1], slices.targets[:1] & False, slices.table[:1])
    with pytest.raises(ValueError, match="must mark something in each slice"):
        evaluate(model, few, 5, 2.5)
    with pytest.raises(ValueError, match="image must have the shape"):
        predict_occluded(model, slices.images[:2], torch.zeros(1, 2, dtype=torch.long), 5)
