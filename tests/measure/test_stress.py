"What must hold for every stress of the registry, holes counted by hand, and scores against copies scored one by one."

import builtins

import numpy as np
import pandas as pd
import papermill
import pytest
import torch
from safetensors.torch import save_file

from ada_repro.core import ROOT, named_generator
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.evidence.figures import plot_stress
from ada_repro.evidence.scores import dice_lost
from ada_repro.measure.look import zones
from ada_repro.measure.metrics import dice_score
from ada_repro.measure.stress import STRESS, evaluate_stress, holes, scanned_with, some_of_each, stressed_dice
from ada_repro.method.mask import build_robustness_data
from ada_repro.train.training import cpu_weights, new_state, predict, train

HOLES = [n for n in STRESS if n.startswith("hole")]
SCANNER = [n for n in STRESS if n not in HOLES]
every = pytest.mark.parametrize("name", STRESS)


@pytest.fixture(scope="module")
def image():
    return phantom_slices(1, px=80, spacing_mm=0.5, seed=1)[0]


def trained(images, targets):
    state, data = (
        new_state(width=4, dropout=0.0, bn_momentum=0.4, lr=0.01, seed=0),
        Slices(images, targets, pd.DataFrame({"spacing_mm": [1.0] * len(images)})),
    )
    list(train(state, data, data, arm="none", seed=0, standard_epochs=80, cycles=0, ada_epochs=0, size=5, batch_size=4))
    return state.model


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    "A network trained for seconds, as a run, scored."
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
    slices, model = Slices(images, targets, table.assign(person=table.subject)), trained(images, targets)
    run = tmp_path_factory.mktemp("stress") / "my_arm-paper-3"
    run.mkdir()
    save_file(cpu_weights(model), run / "best.safetensors")
    return run, slices, model, evaluate_stress(run, slices, 4, near_mm=2.5, per_subject=2, threshold=0.5)


@every
def test_shape_type_and_input_left_alone(image, name):
    kept, random = image.clone(), torch.get_rng_state()
    copies = STRESS[name](image, named_generator(name), 0.5)
    assert copies.shape[1:] == (1, 80, 80) and copies.dtype == torch.float32 and type(copies) is torch.Tensor
    assert copies.isfinite().all() and torch.equal(image, kept) and torch.equal(random, torch.get_rng_state())


@every
def test_every_copy_is_changed_and_the_same_each_time(image, name):
    one, two = (STRESS[name](image, named_generator(name), 0.5) for _ in range(2))
    assert torch.equal(one, two) and (one != image).flatten(1).any(1).all()


@pytest.mark.parametrize("name", ["hole_noise", "noise_mild", "bias_mild"])
def test_another_generator_is_another_draw(image, name):
    one, two = (STRESS[name](image, named_generator(n), 0.5) for n in "ab")
    assert not torch.equal(one, two)


def test_the_default_hole_is_algorithm_2(image):
    assert torch.equal(STRESS["hole_5mm"](image, None, 0.5), build_robustness_data(image, 10)[:, 0])


@pytest.mark.parametrize(
    "name, side_mm",
    [
        ("hole_2_5mm", 2.5),
        ("hole_5mm", 5),
        ("hole_7_5mm", 7.5),
        ("hole_10mm", 10),
        ("hole_offset", 5),
        ("hole_mean", 5),
        ("hole_noise", 5),
        ("hole_blur", 5),
    ],
)
@pytest.mark.parametrize("spacing_mm", [0.5, 1.0])
def test_holes_tile_the_image(image, name, side_mm, spacing_mm):
    changed = STRESS[name](image, named_generator(name), spacing_mm) != image
    assert (
        changed.sum(0).max() == 1 and (changed.sum(0) == 1).float().mean() > 0.99
    )  # a filling may happen to equal a pixel
    assert changed.flatten(1).sum(1).max() == round(side_mm / spacing_mm) ** 2 and set(HOLES) >= {name}


def test_an_offset_grid_by_hand(image):
    changed = (holes(image, 20, offset=10) != image)[:, 0]
    assert len(changed) == 25 and changed[0].nonzero().amax(0).tolist() == [9, 9]
    assert changed[6].nonzero().amin(0).tolist() == [10, 10] and changed[6].nonzero().amax(0).tolist() == [29, 29]


def test_a_hole_filled_with_its_mean_keeps_the_mean(image):
    copies = STRESS["hole_mean"](image, None, 0.5)
    torch.testing.assert_close(copies.mean((1, 2, 3)), image.mean().expand(64), rtol=0, atol=1e-6)
    ragged = STRESS["hole_mean"](image[..., :74, :74], None, 0.5)  # the last row and column of cells are cut
    assert len(ragged) == 64 and torch.allclose(ragged[-1, 0, 70:, 70:], image[0, 0, 70:74, 70:74].mean())


@pytest.mark.parametrize("name", SCANNER)
def test_what_a_scanner_gives_is_z_scored(image, name):
    (copy,) = STRESS[name](image, named_generator(name), 0.5)
    assert copy.mean().abs() < 1e-5 and (copy.std(correction=0) - 1).abs() < 1e-5


@pytest.mark.parametrize("kind", ["noise", "bias", "ghosting", "motion"])
def test_strong_is_farther_than_mild(image, kind):
    mild, strong = (
        (STRESS[f"{kind}_{s}"](image, named_generator(kind), 0.5) - image).square().mean() for s in ("mild", "strong")
    )
    assert strong > 1.5 * mild > 0


def test_no_fault_no_change(image):
    torch.testing.assert_close(scanned_with(image, lambda x: x), image, rtol=0, atol=1e-5)


def test_a_ghost_is_half_a_field_away():
    "Weakening every second line by a half leaves 3/4 of a point and puts 1/4 of it 40 rows below."
    point = torch.zeros(1, 1, 80, 80)
    point[0, 0, 10, 30] = 1
    ghost = STRESS["ghosting_strong"](point, None, 0.5)[0, 0]
    ghost = (ghost - ghost[0, 0]) / (ghost[10, 30] - ghost[0, 0])
    assert ghost[50, 30] == pytest.approx(1 / 3, abs=1e-4) and (ghost > 0.01).sum() == 2


def test_without_monai_there_is_one_line(image, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.split(".")[0] == "monai":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="MONAI. Install it"):
        STRESS["noise_mild"](image, named_generator(0), 0.5)
    assert STRESS["motion_mild"](image, None, 0.5).shape == image.shape


@pytest.mark.parametrize("per_subject, kept", [(1, [0, 4, 10]), (2, [0, 3, 4, 9, 10]), (3, [0, 2, 3, 4, 6, 9, 10])])
def test_some_of_each_subject(per_subject, kept):
    table = pd.DataFrame({"subject": [*"aaaabbbbbbc"], "slice": range(11)})
    some = some_of_each(Slices(torch.arange(11), torch.zeros(11), table), per_subject)
    assert some.table.slice.tolist() == kept == some.images.tolist()


def test_scores_one_by_one(scored):
    run, slices, model, scores = scored
    assert list(scores) == ["arm", "fold", "seed", "subject", "person", "slice", "stress", "DSC"]
    assert set(scores.fold) == {"paper"}
    assert set(scores.arm) == {"my_arm"} and set(scores.seed) == {3} and scores.DSC.between(0, 100).all()
    assert sorted(scores.slice.unique()) == [0, 3, 4, 7, 8, 11] and len(scores) == 6 * (1 + len(STRESS))
    found = scores.set_index(["stress", "slice"]).DSC
    for i in (0, 11):
        image, target = slices.images[i : i + 1], slices.consensus[i]
        assert found["original", i] == pytest.approx(dice_score(predict(model, image)[0], target))
        at, naive = target.nonzero().numpy(), []
        away = torch.tensor([[np.hypot(*(at - (r, c)).T).min() for c in range(40)] for r in range(40)])
        for c in build_robustness_data(image, 5):  # holes at most 2.5 mm from the grey matter
            if away[(c != image)[0, 0]].min() <= 2.5:
                naive.append(dice_score(predict(model, c)[0], target))
        assert 4 <= len(naive) < 40 and len(set(naive)) > 2
        assert found["hole_5mm", i] == pytest.approx(np.mean(naive))


def test_a_fault_counts_wherever_it_is(scored):
    _, slices, model, scores = scored
    at = scores[(scores.stress == "motion_strong")].iloc[0]
    copy = STRESS["motion_strong"](slices.images[:1], None, 1.0)
    assert at.slice == 0 and pytest.approx(dice_score(predict(model, copy)[0], slices.consensus[0])) == at.DSC
    everywhere = torch.ones(40, 40, dtype=torch.bool)
    assert stressed_dice(model, slices.images[:1], slices.consensus[0], copy, everywhere) == pytest.approx(at.DSC)
    assert (zones(slices.consensus, 1.0, 2.5) < 2).any((1, 2)).all()


def test_the_network_found_something(scored):
    assert scored[3].query("stress == 'original'").DSC.mean() > 20  # else the comparisons above compare nothing


def test_dice_lost(scored):
    scores = pd.concat([scored[3], scored[3].assign(arm="gradcam", DSC=50.0)])
    lost = dice_lost(scores)
    assert len(lost) == 2 * 6 * len(STRESS) and "original" not in set(lost.stress)
    assert (lost[lost.arm == "gradcam"].DSC_lost == 0).all()
    mine = lost[lost.arm == "my_arm"].iloc[0]
    original = scored[3].query("stress == 'original' and slice == @mine.slice").DSC.item()
    assert mine.DSC_lost == pytest.approx(original - mine.DSC)
    assert len(plot_stress(scores).axes[0].get_yticklabels()) == len(STRESS)


def test_the_notebook(scored, tmp_path):
    run, slices, _, scores = scored
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "data" / "slices").mkdir(parents=True)
    (tmp_path / "data" / "runs").mkdir()
    for arm in ("baseline", "my_arm"):
        (tmp_path / "data" / "runs" / f"{arm}-paper-3").symlink_to(run)
    np.save(tmp_path / "data" / "slices" / "images.npy", slices.images)
    np.save(tmp_path / "data" / "slices" / "targets.npy", slices.targets)
    slices.table.to_csv(tmp_path / "data" / "slices" / "slices.csv", index=False)
    told = {
        "arms": ["my_arm"],
        "fold": "paper",
        "seed": 3,
        "width": 4,
        "threshold": 0.5,
        "near_mm": 2.5,
        "per_subject": 2,
    }
    papermill.execute_notebook(
        ROOT / "nbs" / "experiments" / "stress.ipynb", tmp_path / "stress.ipynb", told, cwd=tmp_path, progress_bar=False
    )
    table = pd.read_csv(tmp_path / "data" / "stress" / "stress-paper-3" / "stress.csv")
    assert table.arm.unique().tolist() == ["baseline", "my_arm"]
    table = table[table.arm == "my_arm"]
    assert np.allclose(table.DSC, scores.DSC) and table.stress.tolist() == scores.stress.tolist()
