"""Scores against slow and obvious second implementations."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest

from ada_repro.core import ROOT, DataError
from ada_repro.evidence.scores import (
    CELLS,
    SLICE,
    VALUES,
    dice_lost,
    keys_of,
    per_slice,
    provenance,
    read_arms,
    read_seeds,
    study_record,
)
from ada_repro.evidence.scores import made_up_scores as examples
from ada_repro.measure.agreement import read_examples
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
                    "fold": "paper",
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
    keys = ["arm", *keys_of(scores)]
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


def test_order_of_arms():
    assert arm_order(["random", "my_method", *reversed(SALIENCY), "none", "random"]) == [
        *SALIENCY,
        "my_method",
        "none",
        "random",
    ]
    assert list(SALIENCY)[:5] == PAPER[3].method.tolist() == PAPER[4].method.tolist()


def test_reading_names_what_is_missing_or_wrong(tmp_path):
    with pytest.raises(DataError, match="gradcam-paper-0.*missing"):
        read_arms(tmp_path, "scores.csv", ["gradcam"], ["paper"], [0])
    with pytest.raises(DataError, match="no run has"):
        read_arms(tmp_path, "windows.csv", ["gradcam"], ["paper"], [0], optional=True)
    with pytest.raises(DataError, match="no run has example"):
        read_examples(tmp_path, ["gradcam"], "paper", 0)
    with pytest.raises(DataError, match="iou-paper-1.*missing"):
        read_seeds(tmp_path, "iou", "iou.csv", ["paper"], [1])
    (tmp_path / "gradcam-paper-0").mkdir()
    pd.DataFrame({"arm": ["vanilla"], "fold": ["paper"], "seed": [0]}).to_csv(
        tmp_path / "gradcam-paper-0" / "scores.csv", index=False
    )
    with pytest.raises(DataError, match="another arm"):
        read_arms(tmp_path, "scores.csv", ["gradcam"], ["paper"], [0])


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


RUN = {"params": {"size": 20}, "code": "c", "data": "d"}
HERE = {"versions": {"python": "3", "torch": "2"}, "device": "cpu", "isa": "AVX2", "threads": 2}


def test_a_study_says_what_all_runs_share_once_and_what_one_has_for_itself(tmp_path):
    facts = ("dataset", "simulated", "spacing_mm", "crop_px", "slices", "manifest_sha256")
    (tmp_path / "report.json").write_text(json.dumps(dict.fromkeys([*facts, "more"], 1)))
    for seed, threads in ((0, 2), (1, 4)):
        (tmp_path / f"none-paper-{seed}").mkdir()
        (tmp_path / f"none-paper-{seed}" / "run.json").write_text(json.dumps(RUN | HERE | {"threads": threads}))
    study = study_record(tmp_path, tmp_path, ["none"], ["paper"], [0, 1])
    assert study["data"] == dict.fromkeys(facts, 1)
    assert {key: study[key] for key in HERE} == HERE
    assert "threads" not in study["runs"]["none-paper-0"] and study["runs"]["none-paper-1"]["threads"] == 4
    assert study["runs"]["none-paper-0"]["params"] == {"size": 20}
    line = provenance(made_up_scores(["none"], (0, 1)), tmp_path, "phantom", "laptop")[2]
    assert line == "Machine: cpu AVX2, 2 threads / cpu AVX2, 4 threads; python 3, torch 2."


def test_a_person_who_came_twice_is_counted_once(tmp_path):
    scores = made_up_scores(seeds=(0, 1)).assign(person="P1", fold="site3")
    assert keys_of(scores) == SLICE and keys_of(scores[["seed", "slice"]]) == ["seed", "slice"]
    assert (per_slice(scores).person == "P1").all() and len(per_slice(scores)) == len(
        per_slice(scores.drop(columns="person"))
    )
    lines = provenance(scores, tmp_path, "gm_challenge", "laptop")
    assert "1 subjects, 6 slices" in lines[1] and "one subject" in lines[1]


def test_reading_seeds(tmp_path):
    for s in (0, 2):
        (tmp_path / f"look-paper-{s}").mkdir()
        pd.DataFrame({"seed": [s, s], "value": [s, s + 1]}).to_csv(
            tmp_path / f"look-paper-{s}" / "look.csv", index=False
        )
    assert read_seeds(tmp_path, "look", "look.csv", ["paper"], [2, 0]).value.tolist() == [2, 3, 0, 1]
    with pytest.raises(DataError, match="look-paper-1.*is missing. Run the stage look"):
        read_seeds(tmp_path, "look", "look.csv", ["paper"], [0, 1])
