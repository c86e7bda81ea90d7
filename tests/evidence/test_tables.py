"Tables 3 to 12 against loops over their rows."

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from test_scores import PAPER, made_up_scores

from ada_repro.core import named_rng
from ada_repro.evidence.figures import plot_lost
from ada_repro.evidence.intervals import components, crossed_table, gap
from ada_repro.evidence.scores import CELLS, per_slice
from ada_repro.evidence.tables import (
    held_out,
    needed_line,
    pair_components,
    table3,
    table4,
    table5,
    table6,
    table7,
    table8,
    table9,
    table10,
    table11,
    table12,
)
from ada_repro.evidence.verdicts import holm, p_value, what_it_takes

KEYS = ["seed", "subject", "slice"]
ARMS = ["baseline", "vanilla", "gradcam", "none", "random"]
SLICES = list(product(range(2), "ABCD", range(2)))
seeds = pytest.mark.parametrize("seed", range(3))


def made_up(arms, columns, *name):
    "A row per arm, slice and what else is crossed, with a random DSC."
    rng = named_rng("tables", *name)
    rows = [(a, *key, *c) for a, key, c in product(arms, SLICES, product(*columns.values()))]
    return pd.DataFrame(rows, columns=["arm", *KEYS, *columns]).assign(DSC=lambda t: rng.uniform(60, 95, len(t)))


def value(rows, key, column="DSC", **where):
    "The mean over what is left of one slice."
    at = np.ones(len(rows), bool)
    for k, v in (dict(zip(KEYS, key, strict=True)) | where).items():
        at &= rows[k] == v
    return rows[column][at].mean()


def has_ends(table, name):
    "Where there is a value, an interval holds it."
    return ((table[f"{name}_low"] <= table[name] + 1e-9) & (table[name] <= table[f"{name}_high"] + 1e-9)).all()


# Tables 3 and 4
def test_tables_hold_the_paper_and_the_means():
    scores = made_up_scores(seeds=(0, 1))
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


def test_one_run_of_a_single_person_leaves_an_arm_without_a_held_out_epoch():
    folds = {"A": [70.0, 90.0], "B": [np.nan, np.nan]}
    history = pd.concat(
        pd.DataFrame({"fold": f, "epoch": [1, 2], "DSC_a": [60.0, 61.0], "DSC_b": b}) for f, b in folds.items()
    )
    both = pd.concat([history.assign(arm="none", seed=0), history[history.fold == "A"].assign(arm="random", seed=0)])
    assert held_out(both).set_index("arm").DSC_held_out.isna().to_dict() == {"none": True, "random": False}
    assert list(held_out(both[both.arm == "none"])) == ["arm"]


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


def test_the_epoch_chosen_on_other_people_stands_beside_the_best():
    scores = made_up_scores(seeds=(0, 1))
    assert "DSC_chosen" not in table3(scores, PAPER[3])
    chosen = scores[scores.weights == "best"].assign(weights="chosen", DSC=lambda t: t.DSC - 2)
    both = pd.concat([scores, chosen])
    for table, plain in (
        (table3(both, PAPER[3]), table3(scores, PAPER[3])),
        (table4(both, PAPER[4]), table4(scores, PAPER[4])),
    ):
        arms = table[table.arm != "counting"]
        assert (arms.DSC - arms.DSC_chosen).tolist() == pytest.approx([2.0] * len(arms))
        pd.testing.assert_frame_equal(table[list(plain)], plain)


def test_a_held_out_epoch_is_chosen_fold_by_fold():
    runs = [("a", [70.0, 90.0], [60.0, 50.0]), ("b", [1.0, 2.0], [4.0, 3.0])]
    history = pd.concat([pd.DataFrame({"fold": fold, "DSC_a": a, "DSC_b": b}) for fold, a, b in runs]).assign(
        arm="none", seed=0
    )
    assert held_out(history).DSC_held_out.tolist() == pytest.approx([((50 + 70) / 2 + (3 + 1) / 2) / 2])


# Table 5
def test_table5_by_loop():
    both = made_up_scores(seeds=(0, 1))
    whole = both.query("group == 'original'")
    extra = [whole.assign(group=g, DSC=whole.DSC - k) for k, g in ((3, "inside"), (7, "outside"))]
    scores = pd.concat([both, *extra])
    table = table5(scores)
    assert table.arm.tolist() == ["vanilla", "gradcam", "baseline", "none", "random"]
    best = scores[scores.weights == "best"]
    for _, row in table.iterrows():
        mine = best[best.arm == row.arm].set_index(["seed", "subject", "slice", "group"]).DSC
        for group in CELLS:
            assert row[f"lost_{group}"] == pytest.approx(
                np.mean([mine[*key, "original"] - mine[*key, group] for *key, g in mine.index if g == "original"])
            )
        for k, group in ((3, "inside"), (7, "outside")):
            assert row[f"DSC_{group}"] == pytest.approx(
                np.mean([x - k for (*_, g), x in mine.items() if g == "original"])
            )
    assert all(has_ends(table, c) for c in table if c != "arm" and not c.endswith(("_low", "_high")))


# Table 6
@seeds
def test_table6_by_loop(seed):
    t3, t4 = (made_up(ARMS, {}, seed, n) for n in (3, 4))
    table = table6(t3, t4)
    pairs = product(("none", "random"), ("vanilla", "gradcam", "baseline", "none", "random"))
    assert list(zip(table.arm, table.other, strict=True)) == [(arm, other) for other, arm in pairs if arm != other]
    for other, part in table.groupby("other"):
        for n, rows in ((3, t3), (4, t4)):
            gaps = {
                a: pd.DataFrame(
                    [(*k, value(rows, k, arm=a) - value(rows, k, arm=other)) for k in SLICES], columns=[*KEYS, "DSC"]
                )
                for a in part.arm
            }
            assert part[f"DSC_{n}"].tolist() == pytest.approx([g.DSC.mean() for g in gaps.values()])
            tables = [g.pivot_table(index="seed", columns="subject", values="DSC") for g in gaps.values()]
            assert part[f"p_holm_{n}"].tolist() == pytest.approx(holm([p_value(table) for table in tables]).tolist())
            assert has_ends(part, f"DSC_{n}")


# Table 7
def test_table7_by_loop():
    arms = ["gradcam", "vanilla", "gradcam.forbid", "vanilla.corner", "signed_gradcam.corner"]
    t3, t4 = (made_up(arms, {}, n).query("arm != 'gradcam.forbid' or seed == 1") for n in (3, 4))
    table = table7(t3, t4, "gradcam").set_index("arm")
    assert table.other.to_dict() == {
        "gradcam.forbid": "gradcam",
        "vanilla.corner": "vanilla",
        "signed_gradcam.corner": "gradcam",
    }
    assert table.seeds.to_dict() == {"gradcam.forbid": 1, "vanilla.corner": 2, "signed_gradcam.corner": 2}
    for (arm, row), (n, rows) in product(table.iterrows(), ((3, t3), (4, t4))):
        slow = [value(rows, k, arm=arm) - value(rows, k, arm=row.other) for k in SLICES]
        assert row[f"DSC_{n}"] == pytest.approx(np.nanmean(slow)) and np.isfinite(slow).sum() == 8 * row.seeds
    twice = table.drop("gradcam.forbid")
    assert has_ends(twice, "DSC_3") and has_ends(twice, "DSC_4")
    assert np.isnan(table.DSC_3_low["gradcam.forbid"]), "one seed has no interval"


# Table 8
def made_up_stress(*name):
    return made_up(ARMS, {"stress": ["original", "hole_3mm", "hole_blur", "noise_mild", "motion"]}, "stress", *name)


@seeds
def test_table8_by_loop(seed):
    rows = made_up_stress(seed)
    table = table8(rows).set_index("arm")
    assert table.index.tolist() == ["vanilla", "gradcam", "baseline", "none", "random"]
    for kind, stresses in {"holes": ["hole_3mm", "hole_blur"], "scanner": ["noise_mild", "motion"]}.items():
        lost = {
            a: np.mean(
                [
                    value(rows, k, arm=a, stress="original") - value(rows, k, arm=a, stress=s)
                    for k, s in product(SLICES, stresses)
                ]
            )
            for a in ARMS
        }
        assert table[f"lost_{kind}"].to_dict() == pytest.approx(lost)
        assert table[f"{kind}_minus_none"].to_dict() == pytest.approx({a: lost[a] - lost["none"] for a in ARMS})
        assert has_ends(table, f"lost_{kind}") and has_ends(table, f"{kind}_minus_none")


def test_the_picture_of_table_8_shows_each_mean():
    rows = made_up_stress("picture")
    fig = plot_lost(rows)
    shown = [float(t.get_text()) for t in fig.axes[0].texts]
    stresses, arms = (
        [s for s in rows.stress.unique() if s != "original"],
        ["vanilla", "gradcam", "baseline", "none", "random"],
    )
    slow = [
        np.mean([value(rows, k, arm=a, stress="original") - value(rows, k, arm=a, stress=s) for k in SLICES])
        for s, a in product(stresses, arms)
    ]
    assert shown == pytest.approx(slow, abs=0.0501)
    plt.close(fig)


# Tables 9 and 10
def made_up_look(*name):
    "The parent through two methods, each arm through its own."
    rng, measures = (
        named_rng("look", *name),
        ["share_inside", "share_near", "share_far", "deletion", "deletion_random", "randomisation_rho"],
    )
    seen = [
        ("baseline", "vanilla"),
        ("baseline", "gradcam"),
        ("vanilla", "vanilla"),
        ("gradcam", "gradcam"),
        ("none", "vanilla"),
    ]
    rows = [
        (s, *pair, who, k, m)
        for pair, (s, who, k), m in product(seen, SLICES, measures)
        if m.startswith("share") or pair[0] == "baseline"
    ]
    table = pd.DataFrame(rows, columns=["seed", "arm", "method", "subject", "slice", "measure"])
    return table.assign(value=rng.random(len(table))).drop(index=[5, 17])  # an undefined measure has no row


@seeds
def test_table9_by_loop(seed):
    look = made_up_look(seed)
    table = table9(look).set_index("arm")
    assert table.method.to_dict() == {"vanilla": "vanilla", "gradcam": "gradcam", "none": "vanilla"}
    for (arm, row), zone in product(table.iterrows(), ("share_inside", "share_near", "share_far")):
        after, before = (
            [value(look, k, "value", arm=a, method=row.method, measure=zone) for k in SLICES] for a in (arm, "baseline")
        )
        assert row[zone] == pytest.approx(100 * np.mean(after)) and row[f"{zone}_change"] == pytest.approx(
            100 * np.nanmean(np.subtract(after, before))
        )
        assert (
            row[f"{zone}_low"] <= row[zone] <= row[f"{zone}_high"]
            and row[f"{zone}_change_low"] <= row[f"{zone}_change"] <= row[f"{zone}_change_high"]
        )


@seeds
def test_table10_by_loop(seed):
    look = made_up_look(seed)
    table = table10(look).set_index("arm")
    assert table.index.tolist() == ["vanilla", "gradcam"]
    for method, row in table.iterrows():
        deletion, by_chance, rho = (
            np.array([value(look, k, "value", arm="baseline", method=method, measure=measure) for k in SLICES])
            for measure in ("deletion", "deletion_random", "randomisation_rho")
        )
        assert row.deletion_minus_random == pytest.approx(np.nanmean(deletion - by_chance))
        assert row.randomisation_rho == pytest.approx(np.nanmean(rho))
    assert has_ends(table, "deletion_minus_random") and has_ends(table, "randomisation_rho")


# Tables 11 and 12
@seeds
def test_table11_by_loop(seed):
    rng = named_rng("table 11", seed)
    own = {"baseline": ["vanilla", "random"], "gradcam": ["gradcam", "random"], "none": ["vanilla", "random"]}
    who = []
    for arm, methods in own.items():
        who += [(arm, method) for method in methods]
    rows = [
        (*pair, *key, *side)
        for pair, key, side in product(who, SLICES, product(("keep", "forbid", "none"), ("train", "val")))
    ]
    copies = pd.DataFrame(rows, columns=["arm", "method", *KEYS, "protect", "split"])
    copies = copies.assign(DSC_original=rng.uniform(70, 90, len(copies)), DSC_copy=rng.uniform(60, 95, len(copies)))
    table = table11(copies)
    assert list(zip(table.arm, table.method, strict=True)) == [
        *[("gradcam", method) for method in own["gradcam"]],
        *[("baseline", method) for method in own["baseline"]],
        *[("none", method) for method in own["none"]],
    ]
    for row in table.itertuples():
        mine = copies[(copies.arm == row.arm) & (copies.method == row.method)]
        for name, protect, split in (
            ("gain_keep", "keep", "val"),
            ("gain_forbid", "forbid", "val"),
            ("gain_none", "none", "val"),
            ("gain_keep_train", "keep", "train"),
        ):
            part = mine[(mine.protect == protect) & (mine.split == split)]
            assert getattr(row, name) == pytest.approx(np.mean(part.DSC_copy - part.DSC_original))
    assert all(has_ends(table, name) for name in ("gain_keep", "gain_forbid", "gain_none", "gain_keep_train"))


@seeds
def test_table12_by_loop(seed):
    rng = named_rng("table 12", seed)
    scans = pd.DataFrame([(arm, *key) for arm, key in product(ARMS, SLICES)], columns=["arm", *KEYS])
    scans = scans.assign(DSC_pair=rng.uniform(70, 95, len(scans)), DSC_rescan=rng.uniform(60, 90, len(scans)))
    areas = scans.drop_duplicates(["arm", "seed", "subject"])[["arm", "seed", "subject"]]
    areas = areas.assign(CV=rng.uniform(1, 9, len(areas)))
    table = table12(scans, areas).set_index("arm")
    assert table.index.tolist() == ["vanilla", "gradcam", "baseline", "none", "random"]
    pair, dice = (scans.groupby("arm")[name].mean() for name in ("DSC_pair", "DSC_rescan"))
    variation = areas.groupby("arm").CV.mean()
    for arm, row in table.iterrows():
        assert [row.DSC_pair, row.DSC_rescan, row.CV] == pytest.approx([pair[arm], dice[arm], variation[arm]])
        assert row.pair_minus_none == pytest.approx(pair[arm] - pair["none"])
        assert row.CV_minus_none == pytest.approx(variation[arm] - variation["none"])
    assert all(has_ends(table, name) for name in ("DSC_pair", "pair_minus_none", "CV", "CV_minus_none", "DSC_rescan"))
    empty = table12(scans[:0], areas[:0])
    assert empty.empty and list(empty) == list(table.reset_index())


# What it would take
def test_components_of_pairs_are_means_over_the_pairs():
    rows = made_up(["vanilla", "gradcam", "occlusion"], {}, "pairs")
    parts = []
    for one, other in (("vanilla", "gradcam"), ("vanilla", "occlusion"), ("gradcam", "occlusion")):
        parts.append(vars(components(crossed_table(gap(rows, [one], [other]), "DSC")[0])))
    found = vars(pair_components(rows, ["vanilla", "gradcam", "occlusion"]))
    assert found == pytest.approx(pd.DataFrame(parts).mean().to_dict())
    takes = what_it_takes(pair_components(rows, ["vanilla", "gradcam"]))
    line = needed_line(takes)
    assert all(f"{difference:.2f} DSC" in line for difference in takes.difference) and line.endswith(".")
    assert needed_line(takes.assign(balanced=pd.NA)).count("more than 1000") == len(takes)
