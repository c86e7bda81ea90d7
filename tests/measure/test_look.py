"Shares counted by hand, deletion pixel by pixel, ranks by their definition, and the study against its parts."

from itertools import product

import numpy as np
import pandas as pd
import papermill
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import rankdata
from torch import nn

from ada_repro.core import ROOT, named_generator
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.measure.look import (
    SHARES,
    deletion_curve,
    few,
    look_at,
    randomisation_check,
    randomised,
    saliency_share,
    zones,
)
from ada_repro.method.saliency import SALIENCY, saliency_map
from ada_repro.train.training import cpu_weights, new_state, predict, train

OPTIONS = {"explain": "target", "sign": "absolute", "layer": "bottleneck.5"}


@pytest.fixture
def square():
    target = torch.zeros(1, 9, 9, dtype=torch.bool)
    target[0, 4, 4] = True
    return target


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    "A network trained for seconds and two that never were, as runs; slices to look at."
    images, targets = phantom_slices(12, px=40, spacing_mm=1.0, seed=0)
    table = pd.DataFrame(
        {
            "site": "1",
            "subject": [f"s{i // 4}" for i in range(12)],
            "slice": range(12),
            "spacing_mm": 1.0,
            "native_mm": 1.0,
            "slice_mm": 5.0,
            "split": "val",
        }
    )
    runs, slices, states = (
        tmp_path_factory.mktemp("look") / "runs",
        Slices(images, targets, table.assign(person=table.subject)),
        {},
    )
    for i, arm in enumerate(("baseline", "gradcam", "none")):
        states[arm] = new_state(width=4, dropout=0.0, bn_momentum=0.4, lr=0.01, seed=i)
        if arm == "baseline":
            list(
                train(
                    states[arm],
                    slices,
                    slices,
                    arm="none",
                    seed=0,
                    standard_epochs=80,
                    cycles=0,
                    ada_epochs=0,
                    size=5,
                    batch_size=4,
                )
            )
        (runs / f"{arm}-paper-0").mkdir(parents=True)
        save_file(cpu_weights(states[arm].model), runs / f"{arm}-paper-0" / "last.safetensors")
    return runs, slices, states["baseline"].model


def test_zones_by_hand(square):
    zone = zones(square, spacing_mm=0.5, near_mm=1.0)[0]
    assert zone[4, 4] == 0 and (zone == 0).sum() == 1
    assert (zone == 1).sum() == 12  # two pixels away: 4 at distance 1, 4 at the root of 2, 4 at 2
    assert zone[4, 6] == 1 and zone[4, 7] == 2 and zone[5, 6] == 2


def test_shares_by_hand(square):
    saliency = torch.zeros(2, 9, 9)
    saliency[0, 4, 4], saliency[0, 4, 5], saliency[0, 0, 0] = 1, 2, 5
    shares = saliency_share(saliency, square.expand(2, -1, -1), spacing_mm=1.0, near_mm=1.0)
    assert shares[0].tolist() == [1 / 8, 2 / 8, 5 / 8] and shares[1].isnan().all()


@pytest.mark.parametrize("method", SALIENCY)
def test_shares_sum_to_one(study, method):
    _, slices, model = study
    maps = saliency_map(model, slices.images[:3], slices.consensus[:3], method)
    total = saliency_share(maps, slices.consensus[:3], 1.0).sum(1)
    assert torch.allclose(total[maps.any(2).any(1)], torch.ones(1, dtype=torch.float64))


def curve_by_hand(model, image, target, saliency, spared, shares):
    pixels = product(range(len(target)), repeat=2)
    at = sorted((-saliency[r, c].item(), r, c) for r, c in pixels if not spared[r, c])
    for share in shares:
        x = image.clone()
        for _, r, c in at[: round(share * len(at))]:
            x[0, 0, r, c] = 0
        pred = predict(model, x)[0]
        yield 200 * float((pred & target).sum()) / float(pred.sum() + target.sum())


def test_deletion_pixel_by_pixel(study):
    _, slices, model = study
    x, target = slices.images[:3], slices.consensus[:3]
    saliency = torch.rand(3, 40, 40, generator=named_generator("no two alike"))
    spared = zones(target, 1.0, near_mm=2.0) < 2
    curve = deletion_curve(model, x, target, saliency, spared, named_generator("any"))
    naive = torch.tensor(
        [list(curve_by_hand(model, x[i : i + 1], target[i], saliency[i], spared[i], SHARES)) for i in range(3)]
    )
    torch.testing.assert_close(curve, naive)
    assert curve.std() > 0


class Brightness(nn.Module):
    def forward(self, x):
        return x - 0.5


def test_deletion_takes_the_brightest_and_spares_the_target(square):
    "Found is what is left bright: 80 pixels beside the target, of which none, half, then all are deleted."
    image, saliency = torch.ones(1, 1, 9, 9), square.float() + torch.arange(81.0).reshape(1, 9, 9)
    curve = deletion_curve(Brightness(), image, square, saliency, square, named_generator("any"), shares=(0, 0.5, 1))
    assert curve[0].tolist() == pytest.approx([200 / 82, 200 / 42, 100])


def test_equal_weights_go_in_an_order_that_the_generator_gives(study):
    _, slices, model = study
    x, target = slices.images[:2], slices.consensus[:2]
    a, b, c = (deletion_curve(model, x, target, x[:, 0] * 0, target, named_generator(n)) for n in "aab")
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_ranks_by_definition(study):
    _, slices, model = study
    x, target, twin = slices.images[:3], slices.consensus[:3], randomised(model, slices.images, 0)
    a, b = (saliency_map(m, x, target, "vanilla") for m in (model, twin))
    naive = [np.corrcoef(rankdata(p), rankdata(q))[0, 1] for p, q in zip(a.flatten(1), b.flatten(1), strict=True)]
    assert np.allclose(randomisation_check(a, twin, x, target, "vanilla"), naive)
    assert np.isnan(randomisation_check(a * 0, twin, x, target, "vanilla")).all()


def test_randomised_forgets_all_and_leaves_the_rest(study):
    _, slices, model = study
    before, random = cpu_weights(model), torch.get_rng_state()
    twin, same, other = (randomised(model, slices.images, seed) for seed in (0, 0, 1))
    assert torch.equal(random, torch.get_rng_state()) and all(
        torch.equal(v, before[k]) for k, v in model.state_dict().items()
    )
    weights = [k for k, v in before.items() if v.ndim == 4]
    assert len(weights) == 15 and not any(torch.equal(twin.state_dict()[k], before[k]) for k in weights)
    assert all(torch.equal(v, same.state_dict()[k]) for k, v in twin.state_dict().items())
    assert not torch.equal(twin.head.weight, other.head.weight) and not twin.training
    seen = []
    twin.down[1][2].register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.no_grad():
        twin(slices.images)
    assert seen[0].mean((0, 2, 3)).abs().max() < 1e-4  # batch norm's statistics are those of these images


@pytest.mark.parametrize("n, at_most, kept", [(12, 24, 12), (12, 5, 4), (96, 24, 24), (30, 24, 15)])
def test_few_slices_are_spread_evenly(n, at_most, kept):
    slices = Slices(torch.zeros(n, 1, 2, 2), torch.zeros(n, 1, 2, 2), pd.DataFrame({"slice": range(n)}))
    steps = np.diff(few(slices, at_most).table.slice)
    assert len(few(slices, at_most)) == kept and len(set(steps)) == 1


def test_the_study_against_its_parts(study):
    runs, slices, _ = study
    table = look_at(
        runs, slices, "paper", 0, ["gradcam", "none"], ["input_x_gradient"], 4, 0.5, near_mm=5.0, at_most=6, **OPTIONS
    )
    assert (
        list(table) == ["fold", "seed", "arm", "method", "subject", "person", "slice", "measure", "value"]
        and table.value.notna().all()
    )
    assert sorted(table.slice.unique()) == [0, 2, 4, 6, 8, 10]
    assert set(zip(table.arm, table.method, strict=True)) == {
        ("baseline", m) for m in ("input_x_gradient", "gradcam", "vanilla")
    } | {("gradcam", "gradcam"), ("none", "vanilla")}
    assert set(table.measure) == {
        "share_inside",
        "share_near",
        "share_far",
        "deletion",
        "deletion_random",
        "randomisation_rho",
    }
    assert table[table.arm != "baseline"].measure.str.startswith("share_").all()
    shares = table[table.measure.str.startswith("share_")].groupby(["arm", "method", "slice"]).value.sum()
    assert np.allclose(shares, 1)
    random = table[table.measure == "deletion_random"].pivot(index="slice", columns="method", values="value")
    assert (random.nunique(axis=1) == 1).all()


def test_the_notebook(study, tmp_path):
    runs, slices, _ = study
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "data" / "slices").mkdir(parents=True)
    (tmp_path / "data" / "runs").symlink_to(runs)
    np.save(tmp_path / "data" / "slices" / "images.npy", slices.images)
    np.save(tmp_path / "data" / "slices" / "targets.npy", slices.targets)
    slices.table.to_csv(tmp_path / "data" / "slices" / "slices.csv", index=False)
    told = {
        "fold": "paper",
        "seed": 0,
        "arms": ["none"],
        "methods": ["vanilla"],
        "width": 4,
        "threshold": 0.5,
        "near_mm": 5.0,
        "at_most": 4,
    } | OPTIONS
    papermill.execute_notebook(
        ROOT / "nbs" / "experiments" / "look.ipynb", tmp_path / "look.ipynb", told, cwd=tmp_path, progress_bar=False
    )
    table = pd.read_csv(tmp_path / "data" / "look" / "look-paper-0" / "look.csv")
    assert len(table) == 4 * (6 + 3) and table.seed.eq(0).all() and table.fold.eq("paper").all()
