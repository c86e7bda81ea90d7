"""Tables, intervals and IoU against slow and obvious second implementations."""

import time
from itertools import product

import numpy as np
import pandas as pd
import pytest

from ada_repro.core import ROOT, DataError, named_rng
from ada_repro.evidence.intervals import bootstrap_interval, bootstrap_means, counting_null, difference
from ada_repro.evidence.scores import CELLS, VALUES, per_slice, provenance, read_arms
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
    for _, row in per_slice(scores).iterrows():
        part = scores[
            (
                scores[["arm", "seed", "weights", "subject", "slice"]]
                == row[["arm", "seed", "weights", "subject", "slice"]]
            ).all(axis=1)
        ]
        for v in VALUES[:-1]:
            copies = []
            for _, g in part[part.group.isin(CELLS)].iterrows():
                n = g["cells"] - g["empty"] if v in ("HSD", "HSD_rows", "PPV") else g["cells"]
                copies += [g[v]] * n
            assert row[v] == pytest.approx(np.mean(copies), abs=1e-9)


def test_a_slice_without_any_prediction_has_no_distance():
    scores = made_up_scores(["none"], subjects=1, slices=1)
    scores.loc[:, "empty"], scores.loc[:, ["HSD", "HSD_rows", "PPV"]], scores.loc[:, "DSC"] = (
        scores["cells"],
        np.nan,
        0.0,
    )
    row = per_slice(scores).iloc[0]
    assert np.isnan([row.HSD, row.HSD_rows, row.PPV]).all() and row.DSC == 0


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_bootstrap_equals_a_loop(seeds):
    rows = per_slice(made_up_scores(["none"], seeds)).query("weights == 'best'").drop(index=1)
    names, n = sorted(rows.subject.unique()), 40
    draws = [
        named_rng("bootstrap", what, k).multinomial(k, [1 / k] * k, n)
        for what, k in (("seeds", len(seeds)), ("subjects", len(names)))
    ]
    slow = []
    for per_seed, per_subject in zip(*draws, strict=True):
        values = []
        for (seed, a), (name, b) in product(zip(seeds, per_seed, strict=True), zip(names, per_subject, strict=True)):
            values += rows[(rows.seed == seed) & (rows.subject == name)].DSC.tolist() * int(a * b)
        slow.append(np.mean(values))
    assert np.allclose(bootstrap_means(rows, "DSC", n), slow)


def test_interval_is_that_of_textbook_resampling():
    rng = np.random.default_rng(1)
    rows = pd.DataFrame(
        {
            "seed": 0,
            "subject": np.repeat(np.arange(8), 5),
            "slice": 0,
            "DSC": np.repeat(rng.normal(85, 3, 8), 5) + rng.normal(0, 1, 40),
        }
    )
    means = rows.groupby("subject").DSC.mean().to_numpy()
    low, high = np.percentile([rng.choice(means, 8).mean() for _ in range(4000)], [2.5, 97.5])
    mean, a, b = bootstrap_interval(rows, "DSC").values()
    assert mean == pytest.approx(rows.DSC.mean()) and abs(a - low) < 0.25 and abs(b - high) < 0.25


def test_seeds_widen_the_interval_and_it_does_not_depend_on_row_order():
    rng = np.random.default_rng(2)
    index = pd.MultiIndex.from_product([range(5), range(8), range(4)], names=["seed", "subject", "slice"]).to_frame(
        index=False
    )
    rows = index.assign(DSC=85 + 3 * np.sin(index.seed * 2.0) + rng.normal(0, 1, len(index)))

    def width(r):
        return np.diff(list(bootstrap_interval(r, "DSC").values())[1:])[0]

    assert width(rows) > 2 * width(rows.assign(subject=rows.seed * 8 + rows.subject, seed=0))
    assert bootstrap_interval(rows, "DSC") == pytest.approx(
        bootstrap_interval(rows.sample(frac=1, random_state=0), "DSC")
    )


def test_bootstrap_is_fast_and_says_nothing_about_one_subject():
    rows = pd.DataFrame(
        {"seed": np.repeat(range(5), 96), "subject": np.tile(np.arange(96) // 12, 5), "slice": 0, "DSC": 80.0}
    )
    started = time.perf_counter()
    assert list(bootstrap_interval(rows, "DSC").values()) == [80, 80, 80] and time.perf_counter() - started < 0.5
    assert np.isnan(bootstrap_interval(rows[rows.subject == 0], "DSC")["DSC_low"])
    assert np.isnan(list(bootstrap_interval(rows[:0], "DSC").values())).all()


def test_difference_pairs_the_slices():
    rows = per_slice(made_up_scores())
    gain = difference(rows.sample(frac=1, random_state=0), rows[rows.arm == "none"])
    assert (gain[gain.arm == "none"].DSC == 0).all()
    for _, g in gain[gain.arm == "vanilla"].iterrows():
        at = (
            (rows.seed == g.seed)
            & (rows.weights == g.weights)
            & (rows.subject == g.subject)
            & (rows.slice == g["slice"])
        )
        assert (
            pytest.approx(rows[at & (rows.arm == "vanilla")].DSC.item() - rows[at & (rows.arm == "none")].DSC.item())
            == g.DSC
        )


@pytest.mark.parametrize("seed", range(5))
def test_counting_null_against_pixels(seed):
    "TPR is exact; DSC is exact where the hits are spread evenly, and never too low."
    rng, cell = np.random.default_rng(seed), 5
    target = np.zeros((20, 20), bool)
    target[4:12, 3:15] = True
    pred = (target & (rng.random((20, 20)) < 0.9)) | (rng.random((20, 20)) < 0.05)

    def ratios(p):
        return dict(
            zip(
                ("DSC", "TPR", "PPV"),
                100 * (p & target).sum() / np.array([(p.sum() + target.sum()) / 2, target.sum(), p.sum()]),
                strict=True,
            )
        )

    copies, touching = [], 0
    for r, c in product(range(0, 20, cell), repeat=2):
        hidden = np.zeros_like(target)
        hidden[r : r + cell, c : c + cell] = True
        copies.append(ratios(pred & ~(hidden & target)))
        touching += (hidden & target).any()
    row = dict(
        arm="none",
        seed=0,
        weights="best",
        site="s",
        subject="a",
        slice=0,
        empty=0,
        HSD=1.0,
        HSD_rows=1.0,
        TNR=99.0,
        DSC_raters=np.nan,
        **ratios(pred),
    )
    scores = pd.DataFrame(
        [
            row | {"group": g, "cells": n}
            for g, n in (("original", 1), ("touching", touching), ("near", 16 - touching), ("far", 0))
        ]
    )
    null, exact = per_slice(counting_null(scores)).iloc[0], pd.DataFrame(copies).mean()
    assert null.TPR == pytest.approx(exact.TPR) == pytest.approx(row["TPR"] * (1 - 1 / 16))
    assert exact.DSC - 1e-9 <= null.DSC < exact.DSC + 1 and null.TNR == 99 and np.isnan(null.HSD)


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
    assert (
        "simulated" in lines
        and "laptop" in lines
        and "Seeds: 2 (0, 1)" in lines
        and "3 subjects, 6 slices" in lines
        and "not recorded" in lines
    )
    assert "real" in provenance(made_up_scores(), tmp_path, "gm_challenge", "laptop")[0]


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
