"Scan and rescan counted by hand, what must not matter, and the study against its parts."

import numpy as np
import pandas as pd
import papermill
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ada_repro.core import ROOT
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.measure.metrics import dice_score
from ada_repro.measure.rescan import (
    COLUMNS,
    area_variation,
    find_shifts,
    predict_moved,
    rescan_arms,
    rescan_scores,
    scanned_twice,
    shifted,
)
from ada_repro.train.training import cpu_weights, predict
from ada_repro.train.weights import load_weights


@pytest.fixture(scope="module")
def pair():
    "Slices, and the same with a little noise."
    images, targets = phantom_slices(6, px=80, spacing_mm=0.5, seed=9)
    table = pd.DataFrame(
        {
            "site": "1",
            "subject": [f"s{i // 3}" for i in range(6)],
            "slice": range(6),
            "spacing_mm": 0.5,
            "native_mm": 0.5,
            "slice_mm": 5.0,
            "split": ["val"] * 4 + ["train"] * 2,
        }
    )
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return Slices(images, targets, table.assign(person=table.subject)), images + 0.1 * noise


def still(n):
    "Nobody has moved."
    return torch.zeros(n, 2)


class Brightness(nn.Module):
    "Whatever is bright is grey matter."

    def forward(self, x):
        return x - 0.5


def test_counted_by_hand():
    "Found in the scan 4 pixels, in the rescan 3 of them and 2 others; of the 4 that are grey matter, 2 and 3."
    scan, rescan, target = (torch.zeros(2, 1, 5, 5) for _ in range(3))
    scan[0, 0, 1, 0:4] = 1
    rescan[0, 0, 1, 1:4] = rescan[0, 0, 2, 0:2] = 1
    target[0, 0, 1, 2:4] = target[0, 0, 2, 1:3] = 1
    target[1, 0, 0, 0] = 1  # nothing is found in the other slice
    table = pd.DataFrame({"subject": ["a", "b"], "slice": [3, 4], "spacing_mm": [0.5, 2.0]})
    scores = rescan_scores(Brightness(), Slices(scan, target > 0, table), rescan, still(2))
    assert scores.loc[0].to_dict() == {
        "subject": "a",
        "slice": 3,
        "DSC_pair": pytest.approx(200 * 3 / 9),
        "area_mm2": 4 * 0.25,
        "area_rescan_mm2": 5 * 0.25,
        "DSC_rescan": pytest.approx(200 * 3 / 9),
        "DSC_pair_raw": pytest.approx(200 * 3 / 9),
        "moved_mm": 0,
    }
    assert np.isnan(scores.DSC_pair[1]) and scores.area_mm2[1] == scores.area_rescan_mm2[1] == scores.DSC_rescan[1] == 0


def test_scores_one_by_one(pair):
    scans, rescans = pair
    model = load_weights("gradcam")
    scores = rescan_scores(model, scans, rescans, still(6), 0.6)
    assert scores.DSC_pair.between(50, 99).all()  # else the comparisons below compare nothing
    for row in scores.itertuples():
        i = row.slice
        first, second = (predict(model, images[i : i + 1], 0.6)[0] for images in (scans.images, rescans))
        assert row.DSC_pair == pytest.approx(dice_score(first, second))
        assert row.DSC_rescan == pytest.approx(dice_score(second, scans.consensus[i]))
        assert (row.area_mm2, row.area_rescan_mm2) == (int(first.sum()) / 4, int(second.sum()) / 4)


def test_whole_shifts_are_rolls(pair):
    images, inner = pair[0].images, (..., slice(5, 75), slice(5, 75))
    near = {"rtol": 0, "atol": 1e-4}  # of a spread of 1: interpolation rounds
    moved = shifted(images, torch.tensor([[3.0, -2.0]]).expand(6, 2))
    torch.testing.assert_close(moved[inner], images.roll((3, -2), (2, 3))[inner], **near)
    half = shifted(images, torch.tensor([[0.5, 0.0]]).expand(6, 2))
    torch.testing.assert_close(half[inner], ((images + images.roll(1, 2)) / 2)[inner], **near)
    torch.testing.assert_close(shifted(images, still(6)), images, **near)


@pytest.mark.parametrize("rows, cols", [(0, 0), (2, -1), (-4, 4), (1, 3)])
def test_a_movement_is_found_whatever_the_brightness(pair, rows, cols):
    scans, rescans = pair
    moved = 3 * rescans.roll((rows, cols), (2, 3)) + 5
    assert find_shifts(scans.images, moved, 0.5).tolist() == [[-rows / 2, -cols / 2]] * 6


def test_who_moved_is_scored_like_who_lay_still(pair):
    scans, _ = pair
    moved = scans.images.roll((3, -2), (2, 3))
    scores = rescan_scores(load_weights("none"), scans, moved, find_shifts(scans.images, moved, 0.5))
    assert (scores.DSC_pair > 90).all() and (scores.DSC_pair_raw < 50).all()  # pooling notices where the grid lies
    assert np.allclose(scores.moved_mm, np.hypot(1.5, 1))


def test_a_prediction_is_moved_and_not_the_image(pair):
    scans, _ = pair
    model = load_weights("none")
    at = predict_moved(model, scans.images, torch.tensor([[2.0, 1.0]]).expand(6, 2), 0.7)
    assert torch.equal(at, predict(model, scans.images, 0.7).roll((2, 1), (1, 2)))


def test_the_same_scan_twice_is_alike(pair):
    scans, _ = pair
    scores = rescan_scores(load_weights("none"), scans, scans.images, still(6))
    assert (scores.DSC_pair == 100).all() and (scores.area_mm2 == scores.area_rescan_mm2).all()
    assert (area_variation(scores.assign(arm="none", fold="paper", seed=0)).CV == 0).all()


def test_which_of_the_two_came_first_does_not_matter_to_the_pair(pair):
    scans, rescans = pair
    model = load_weights("none")
    run = {"arm": "none", "fold": "paper", "seed": 0}
    one = rescan_scores(model, scans, rescans, still(6)).assign(**run)
    two = rescan_scores(model, Slices(rescans, scans.targets, scans.table), scans.images, still(6)).assign(**run)
    assert (one.DSC_pair == two.DSC_pair).all() and (one.area_mm2 == two.area_rescan_mm2).all()
    assert np.allclose(area_variation(one).CV, area_variation(two).CV)


def test_variation_by_hand():
    areas = pd.DataFrame(
        [
            ("a", "A", 0, "s", 10.0, 12.0),
            ("a", "A", 0, "s", 20.0, 20.0),  # with the row above: 15 and 16
            ("a", "A", 1, "s", 10.0, 30.0),
            ("a", "B", 1, "s", 30.0, 30.0),
            ("b", "A", 0, "s", 0.0, 0.0),
        ],
        columns=["arm", "fold", "seed", "subject", "area_mm2", "area_rescan_mm2"],
    )
    made = area_variation(areas)
    assert list(made) == ["arm", "fold", "seed", "subject", "CV"]
    assert made.CV.tolist() == pytest.approx(
        [100 * np.std([15, 16], ddof=1) / 15.5, 100 * np.sqrt(2) * 20 / 40, 0, np.nan], nan_ok=True
    )
    larger = area_variation(areas.assign(area_mm2=areas.area_mm2 * 7, area_rescan_mm2=areas.area_rescan_mm2 * 7))
    assert np.allclose(larger.CV, made.CV, equal_nan=True)


@pytest.mark.parametrize("shape", [(5, 1, 80, 80), (6, 1, 80, 79), (6, 80, 80)])
def test_rescans_that_do_not_fit_are_refused(pair, shape):
    with pytest.raises(ValueError, match="one for each is needed") as e:
        rescan_scores(load_weights("none"), pair[0], torch.zeros(shape), still(6))
    assert "\n" not in str(e.value)


def test_the_study_against_its_parts(pair, tmp_path):
    scans, rescans = pair
    for arm in ("baseline", "none"):
        (tmp_path / f"{arm}-paper-4").mkdir()
        save_file(cpu_weights(load_weights(arm)), tmp_path / f"{arm}-paper-4" / "best.safetensors")
    table = rescan_arms(tmp_path, scans, rescans, "paper", 4, ["baseline", "none"], 8, 0.5)
    assert (
        list(table) == COLUMNS
        and table.fold.eq("paper").all()
        and table.seed.eq(4).all()
        and table.arm.tolist() == ["baseline"] * 6 + ["none"] * 6
    )
    alone = rescan_scores(load_weights("none"), scans, rescans, find_shifts(scans.images, rescans, 0.5))
    pd.testing.assert_frame_equal(table[6:][list(alone)].reset_index(drop=True), alone)


def prepared(folder, scans, rescans=None):
    "The files of prepared slices."
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", scans.images)
    np.save(folder / "targets.npy", scans.targets)
    scans.table.to_csv(folder / "slices.csv", index=False)
    if rescans is not None:
        np.save(folder / "rescans.npy", rescans)
    return folder


def test_only_validation_slices_with_a_rescan_count(pair, tmp_path):
    scans, rescans = pair
    some = rescans.clone()
    some[1] = torch.nan
    found, again = scanned_twice(prepared(tmp_path / "some", apart(scans), some), "paper")
    assert found.table.slice.tolist() == [0, 2, 3] and torch.equal(again, rescans[[0, 2, 3]])
    none, nothing = scanned_twice(prepared(tmp_path / "none", apart(scans)), "paper")
    assert len(none) == len(nothing) == 0


def apart(scans):
    "The same with nobody on both sides."
    person = np.where(scans.table.split == "val", "a", "b")
    return Slices(scans.images, scans.targets, scans.table.assign(person=person))


@pytest.mark.parametrize("twice", [True, False])
def test_the_notebook(pair, tmp_path, twice):
    scans, rescans = pair
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    prepared(tmp_path / "data" / "slices", apart(scans), rescans if twice else None)
    for arm in ("baseline", "none"):
        run = tmp_path / "data" / "runs" / f"{arm}-paper-4"
        run.mkdir(parents=True)
        save_file(cpu_weights(load_weights(arm)), run / "best.safetensors")
    told = {"fold": "paper", "seed": 4, "arms": ["none"], "width": 8, "threshold": 0.5}
    notebook = ROOT / "nbs" / "experiments" / "rescan.ipynb"
    papermill.execute_notebook(notebook, tmp_path / "rescan.ipynb", told, cwd=tmp_path, progress_bar=False)
    table = pd.read_csv(tmp_path / "data" / "rescan" / "rescan-paper-4" / "rescan.csv")
    assert list(table) == COLUMNS and len(table) == (8 if twice else 0)


def test_without_rescans_the_table_has_no_rows(tmp_path):
    nothing = Slices(torch.zeros(0, 1, 8, 8), torch.zeros(0, 1, 8, 8) > 0, pd.DataFrame({"subject": [], "slice": []}))
    table = rescan_arms(tmp_path, nothing, nothing.images, "paper", 0, ["none"], 8, 0.5)
    assert list(table) == COLUMNS and table.empty and area_variation(table).empty
