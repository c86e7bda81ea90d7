"""Scores, tables and IoU against slow and obvious second implementations."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest

from ada_repro.core import ROOT, DataError, named_rng
from ada_repro.evidence.scores import (
    CELLS,
    SLICE,
    VALUES,
    dice_lost,
    per_slice,
    provenance,
    read_arms,
    read_seeds,
    study_record,
)
from ada_repro.evidence.scores import made_up_scores as examples
from ada_repro.evidence.tables import held_out, table3, table4
from ada_repro.measure.agreement import chance_iou, iou_matrix, mask_iou, read_examples, window_iou
from ada_repro.method.arms import arm_order
from ada_repro.method.saliency import SALIENCY

PAPER = {n: pd.read_csv(ROOT / "figures" / "paper" / f"table{n}.csv") for n in (3, 4)}
ARMS = ["random", "none", "baseline", "gradcam", "vanilla"]


def made_up_scores(arms=ARMS, seeds=(0,), subjects=3, slices=2, rng=None):
    "Scores in the contract format; some copies without a prediction."
    rng, rows = rng or np.random.default_rng(0), []
    for arm, seed, weights, subject, i in product(arms, seeds, ("best", "last"), range(subjects), range(slices)):
        for group, cells in (
            ("original", 1),
            ("touching", int(rng.integers(2, 7))),
            ("near", 9),
            ("far", 48),
            ("context", 1),
        ):
            empty = int(rng.integers(0, 3)) if group == "touching" else 0
            dsc, tpr, ppv = rng.uniform(70, 95, 3)
            rows.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "weights": weights,
                    "site": "s",
                    "subject": f"sub-{subject}",
                    "slice": i,
                    "group": group,
                    "cells": cells,
                    "empty": empty,
                    "DSC": dsc,
                    "HSD": np.nan if empty == cells else rng.uniform(1, 3),
                    "HSD_rows": np.nan if empty == cells else 1.5,
                    "TPR": tpr,
                    "TNR": 99.9,
                    "PPV": np.nan if empty == cells else ppv,
                    "DSC_raters": dsc - 2 if group == "original" else np.nan,
                }
            )
    return pd.DataFrame(rows)


def test_table_4_value_of_a_slice_is_the_mean_over_copies():
    scores = made_up_scores()
    assert (scores["empty"] > 0).any()
    keys = ["arm", *SLICE]
    for _, row in per_slice(scores).iterrows():
        part = scores[(scores[keys] == row[keys]).all(axis=1) & scores.group.isin(CELLS)]
        for value in VALUES[:-1]:
            copies = []
            for _, group in part.iterrows():
                empty = group["empty"] if value in ("HSD", "HSD_rows", "PPV") else 0
                copies += [group[value]] * (group["cells"] - empty)
            assert row[value] == pytest.approx(np.mean(copies), abs=1e-9)


def test_a_slice_without_any_prediction_has_no_distance():
    scores = made_up_scores(["none"], subjects=1, slices=1)
    scores["empty"] = scores["cells"]
    scores["DSC"] = 0.0
    scores[["HSD", "HSD_rows", "PPV"]] = np.nan
    row = per_slice(scores).iloc[0]
    assert np.isnan([row.HSD, row.HSD_rows, row.PPV]).all() and row.DSC == 0


def test_what_a_stress_costs_by_loop():
    rng = np.random.default_rng(0)
    keys = list(product("ab", (0, 1), range(3), range(2), ("original", "noise", "blur")))
    table = pd.DataFrame(keys, columns=["arm", "seed", "subject", "slice", "stress"])
    table = table.assign(DSC=rng.uniform(60, 90, len(table))).sample(frac=1, random_state=0)
    dice = {tuple(row): value for *row, value in table.itertuples(index=False)}
    lost = dice_lost(table)
    assert len(lost) == len(table) * 2 // 3 and list(lost) == [*table, "DSC_lost"]
    for *slice_of, stress, _, cost in lost.itertuples(index=False):
        assert cost == dice[*slice_of, "original"] - dice[*slice_of, stress]


def test_the_made_up_scores_are_the_same_each_time_and_in_the_format_of_the_stages():
    once, again = examples("ab", (0, 1)), examples("ab", (0, 1))
    pd.testing.assert_frame_equal(once, again)
    assert set(once) == {"arm", *SLICE, "group", "cells", "empty", *VALUES}
    assert (
        not once.duplicated(["arm", *SLICE, "group"]).any() and once.groupby(["arm", *SLICE]).cells.sum().eq(65).all()
    )
    assert once[VALUES].notna().all(axis=None) and once.DSC.between(0, 100).all()
    assert np.allclose(once.DSC, 2 / (1 / once.TPR + 1 / once.PPV))


def test_tables_hold_the_paper_and_the_means():
    scores = made_up_scores()
    for n, table in ((3, table3(scores, PAPER[3])), (4, table4(scores, PAPER[4]))):
        assert table.arm.tolist() == ["vanilla", "gradcam", "baseline", "none", "random"] + ["counting"] * (n == 4)
        mine, theirs = table.set_index("arm"), PAPER[n].set_index("method")
        for v in ("DSC", "HSD", "TPR", "TNR", "PPV"):
            assert (
                mine.loc[["vanilla", "gradcam"], f"{v}_paper"].tolist()
                == theirs.loc[["vanilla", "gradcam"], v].tolist()
            )
            assert mine.loc[["baseline", "none", "random"], f"{v}_paper"].isna().all()
        rows = per_slice(scores, ["original"] if n == 3 else CELLS).query("arm == 'gradcam'")
        assert mine.DSC["gradcam"] == pytest.approx(rows.query("weights == 'best'").DSC.mean())
        assert mine.DSC_last["gradcam"] == pytest.approx(rows.query("weights == 'last'").DSC.mean())
        assert (
            (mine.DSC_low <= mine.DSC).all() and (mine.DSC_high >= mine.DSC).all() and mine.DSC_minus_none["none"] == 0
        )
        assert ("DSC_raters" in mine) == (n == 3) and "HSD_rows_low" in mine
    whole = table3(scores, PAPER[3]).set_index("arm").DSC
    assert mine.DSC_drop.drop("counting").to_dict() == pytest.approx((whole - mine.DSC.drop("counting")).to_dict())
    assert (
        mine.DSC_drop["counting"] == pytest.approx(mine.DSC_drop_counting["none"])
        and (mine.DSC_drop_counting > 0).all()
    )


def test_tables_do_without_the_arm_they_compare_with():
    assert table4(made_up_scores(["gradcam"]), PAPER[4]).arm.tolist() == ["gradcam"]


def test_order_of_arms():
    assert arm_order(["random", "my_method", *reversed(SALIENCY), "none", "random"]) == [
        *SALIENCY,
        "my_method",
        "none",
        "random",
    ]
    assert list(SALIENCY)[:5] == PAPER[3].method.tolist() == PAPER[4].method.tolist()


def test_iou_by_counting_pixels():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 12, (2, 60, 2))

    def square(at):
        m = np.zeros((20, 20), bool)
        m[at[0] : at[0] + 7, at[1] : at[1] + 7] = True
        return m

    slow = [(square(p) & square(q)).sum() / (square(p) | square(q)).sum() for p, q in zip(a, b, strict=True)]
    assert np.allclose(window_iou(a, b, 7), slow)
    assert mask_iou(np.stack([~square(a[0]), ~square(b[0])]))[0, 1] == pytest.approx(slow[0])


@pytest.mark.parametrize("n, size, low, high", [(6, 3, None, None), (7, 2, 1, 4), (5, 5, None, None), (6, 4, 2, 2)])
def test_chance_by_enumeration(n, size, low, high):
    at = range(low or 0, (n - size if high is None else high) + 1)
    corners = np.array(list(product(at, at)))
    slow = np.mean([window_iou(c[None], d[None], size)[0] for c, d in product(corners, corners)])
    assert chance_iou(n, size, low, high) == pytest.approx(slow)


def test_chance_of_the_paper():
    assert round(chance_iou(200, 20), 3) == 0.008 and round(chance_iou(200, 20, 60, 120), 3) == 0.057
    with pytest.raises(ValueError, match="do not fit"):
        chance_iou(20, 10, 5, 15)


def test_iou_matrix_takes_the_first_cycle_and_real_windows():
    rows = [
        (arm, 0, cycle, i, r, c)
        for arm, r, c in (("gradcam", 2, 2), ("random", 4, 2), ("none", -4, -4))
        for cycle in (1, 2)
        for i in range(3)
    ]
    windows = pd.DataFrame(rows, columns=["arm", "seed", "cycle", "slice_index", "row", "col"])
    windows.loc[windows.cycle == 2, "row"] = 2
    iou = iou_matrix(windows.sample(frac=1, random_state=0), 4).set_index(["arm_a", "arm_b"])
    assert iou.iou[("gradcam", "random")] == iou.iou[("random", "gradcam")] == pytest.approx(8 / 24)
    assert len(iou) == 4 and (iou.slices == 3).all() and iou.iou[("random", "random")] == 1


def test_reading_names_what_is_missing_or_wrong(tmp_path):
    with pytest.raises(DataError, match="gradcam-0.*missing"):
        read_arms(tmp_path, "scores.csv", ["gradcam"], [0])
    with pytest.raises(DataError, match="no run has"):
        read_arms(tmp_path, "windows.csv", ["gradcam"], [0], optional=True)
    with pytest.raises(DataError, match="no run has example"):
        read_examples(tmp_path, ["gradcam"], 0)
    with pytest.raises(DataError, match="iou-1.*missing"):
        read_seeds(tmp_path, "iou", "iou.csv", [1])
    (tmp_path / "gradcam-0").mkdir()
    pd.DataFrame({"arm": ["vanilla"], "seed": [0]}).to_csv(tmp_path / "gradcam-0" / "scores.csv", index=False)
    with pytest.raises(DataError, match="another arm"):
        read_arms(tmp_path, "scores.csv", ["gradcam"], [0])


def test_examples_must_show_one_slice(tmp_path):
    for arm, x in (("gradcam", 0), ("vanilla", 1)):
        (tmp_path / f"{arm}-0").mkdir()
        np.savez(
            tmp_path / f"{arm}-0" / "example.npz",
            image=np.full((4, 4), x),
            target=np.eye(4) > 0,
            map=np.eye(4),
            mask=np.eye(4) > 0,
        )
    with pytest.raises(DataError, match="gradcam-0.*another slice"):
        read_examples(tmp_path, ["gradcam", "vanilla"], 0)


def test_provenance_says_what_the_data_are(tmp_path):
    lines = " ".join(provenance(made_up_scores(seeds=(0, 1)), tmp_path, "phantom", "laptop"))
    for said in (
        "simulated",
        "laptop",
        "Seeds: 2 (0, 1)",
        "3 subjects, 6 slices",
        "over seeds and subjects",
        "not recorded",
    ):
        assert said in lines
    lines = provenance(made_up_scores(), tmp_path, "gm_challenge", "laptop")
    assert "real" in lines[0] and "none, as there is one seed." in lines[1]
    assert "one seed and one subject." in provenance(made_up_scores(subjects=1), tmp_path, "phantom", "laptop")[1]


RUN = {"params": {"size": 20}, "code": "c", "data": "d", "seconds": 3.2, "peak_memory_mb": 5}
HERE = {"versions": {"python": "3", "torch": "2"}, "device": "cpu", "isa": "AVX2", "threads": 2}


def test_a_study_says_what_all_runs_share_once_and_what_one_has_for_itself(tmp_path):
    facts = ("dataset", "simulated", "spacing_mm", "crop_px", "slices", "manifest_sha256")
    (tmp_path / "report.json").write_text(json.dumps(dict.fromkeys([*facts, "more"], 1)))
    for seed, threads in ((0, 2), (1, 4)):
        (tmp_path / f"none-{seed}").mkdir()
        (tmp_path / f"none-{seed}" / "run.json").write_text(json.dumps(RUN | HERE | {"threads": threads}))
    study = study_record(tmp_path, tmp_path, ["none"], [0, 1])
    assert study["data"] == dict.fromkeys(facts, 1) and study["seconds"] == 6 and study["peak_memory_mb"] == 5
    assert {key: study[key] for key in HERE} == HERE
    assert "threads" not in study["runs"]["none-0"] and study["runs"]["none-1"]["threads"] == 4
    assert study["runs"]["none-0"]["params"] == {"size": 20}
    line = provenance(made_up_scores(["none"], (0, 1)), tmp_path, "phantom", "laptop")[2]
    assert line == "Machine: cpu AVX2, 2 threads / cpu AVX2, 4 threads; python 3, torch 2."


def test_held_out_by_hand():
    def run(arm, seed, a, b):
        return pd.DataFrame({"arm": arm, "seed": seed, "epoch": range(1, len(a) + 1), "DSC_a": a, "DSC_b": b})

    history = pd.concat(
        [
            run("gradcam", 0, [70.0, 90.0, 80.0], [60.0, 50.0, 75.0]),  # chosen on a: 50; chosen on b: 80
            run("gradcam", 1, [10.0, 20.0], [30.0, 40.0]),  # 40 and 20
            run("none", 0, [5.0, 5.0], [7.0, 8.0]),  # the first of equals: 7; chosen on b: 5
            run("alone", 0, [5.0, 6.0], [np.nan, np.nan]),
        ]
    )  # one subject has no other half
    assert held_out(history).set_index("arm").DSC_held_out.to_dict() == pytest.approx(
        {"gradcam": (65 + 30) / 2, "none": 6.0, "alone": np.nan}, nan_ok=True
    )


@pytest.mark.parametrize("seed", range(5))
def test_held_out_is_never_above_the_best_epoch_of_each_half(seed):
    rng = named_rng("held out", seed)
    history = pd.DataFrame(
        [(arm, s, n, *rng.uniform(60, 90, 2)) for arm, s, n in product(ARMS, range(3), range(10))],
        columns=["arm", "seed", "epoch", "DSC_a", "DSC_b"],
    )
    found, best = (
        held_out(history).set_index("arm").DSC_held_out,
        history.groupby(["arm", "seed"])[["DSC_a", "DSC_b"]].max().mean(axis=1).groupby("arm").mean(),
    )
    assert sorted(found.index) == sorted(ARMS) and (found <= best).all() and (found[ARMS] >= 60).all()
