"Tables 5 to 10 against loops over their rows; the pages of all tables and of the claims."

import json
from functools import cache
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from test_claims import evidence
from test_scores import PAPER, made_up_scores

from ada_repro.core import DataError, named_rng
from ada_repro.evidence.claims import CLAIMS, judge
from ada_repro.evidence.figures import plot_lost
from ada_repro.evidence.intervals import holm, sign_test
from ada_repro.evidence.scores import CELLS, read_seeds, study_record
from ada_repro.evidence.tables import (
    CAPTIONS,
    HEADS,
    HEADS_OF,
    held_out,
    table3,
    table4,
    table5,
    table6,
    table7,
    table8,
    table9,
    table10,
    write_claims,
    write_table,
)
from ada_repro.method.arms import arm_name

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


# Table 5
def test_table5_by_loop():
    whole = made_up_scores().query("group == 'original'")
    extra = [whole.assign(group=g, DSC=whole.DSC - k) for k, g in ((3, "inside"), (7, "outside"))]
    scores = pd.concat([made_up_scores(), *extra])
    table = table5(scores)
    assert table.arm.tolist() == ["vanilla", "gradcam", "baseline", "none", "random"]
    best = scores[scores.weights == "best"]
    for _, row in table.iterrows():
        mine = best[best.arm == row.arm].set_index(["subject", "slice", "group"]).DSC
        for group in CELLS:
            assert row[f"lost_{group}"] == pytest.approx(
                np.mean([mine[s, i, "original"] - mine[s, i, group] for s, i, g in mine.index if g == "original"])
            )
        for k, group in ((3, "inside"), (7, "outside")):
            assert row[f"DSC_{group}"] == pytest.approx(
                np.mean([x - k for (_, _, g), x in mine.items() if g == "original"])
            )
    assert all(has_ends(table, c) for c in table if c != "arm" and not c.endswith(("_low", "_high")))


# Table 6
@seeds
def test_table6_by_loop(seed):
    t3, t4 = (made_up(ARMS, {}, seed, n) for n in (3, 4))
    table = table6(t3, t4)
    assert list(zip(table.arm, table.other, strict=True)) == [
        (a, o) for o in ("none", "random") for a in ("vanilla", "gradcam", "baseline", "none", "random") if a != o
    ]
    for other, part in table.groupby("other"):
        for n, rows in ((3, t3), (4, t4)):
            gaps = {
                a: pd.DataFrame(
                    [(*k, value(rows, k, arm=a) - value(rows, k, arm=other)) for k in SLICES], columns=[*KEYS, "DSC"]
                )
                for a in part.arm
            }
            assert part[f"DSC_{n}"].tolist() == pytest.approx([g.DSC.mean() for g in gaps.values()])
            assert part[f"p_holm_{n}"].tolist() == pytest.approx(holm([sign_test(g) for g in gaps.values()]).tolist())
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
    assert has_ends(table, "DSC_3") and has_ends(table, "DSC_4")


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


# Pages
def page_of(path):
    "Heads, rows and the lines below of a markdown table."
    lines = path.read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    return cells[0], cells[2:], [line.strip() for line in lines if line and not line.startswith("|")]


@cache
def made_up_tables():
    scores = pd.concat([made_up_scores(), made_up_scores().query("group == 'original'").assign(group="context")])
    t3, more = made_up(ARMS, {}, "pages"), made_up([*ARMS, "gradcam.forbid"], {}, "pages")
    halves = scores[["arm", "seed"]].drop_duplicates().assign(DSC_a=80.0, DSC_b=81.0)
    return {
        "table3": table3(scores, PAPER[3]).merge(held_out(halves), "left"),
        "table4": table4(scores, PAPER[4]),
        "table5": table5(scores),
        "table6": table6(t3, t3),
        "table7": table7(more, more, "gradcam"),
        "table8": table8(made_up_stress()),
        "table9": table9(made_up_look()),
        "table10": table10(made_up_look()),
    }


TABLES = [f"table{n}" for n in range(3, 11)]


@pytest.mark.parametrize("name", TABLES)
def test_each_table_becomes_a_page(tmp_path, name):
    table = made_up_tables()[name]
    write_table(table, tmp_path, name, ["Made up."])
    again = pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(again, table.round(4), check_dtype=False)
    heads, rows, below = page_of(tmp_path / f"{name}.md")
    assert below == [*CAPTIONS[name], "Made up."] and below[0].startswith(name.replace("table", "Table "))
    assert {len(row) for row in rows} == {len(heads)} and len(rows) == len(table)
    text = [[arm_name(v) for v in row if isinstance(v, str)] for row in table.itertuples(index=False)]
    assert [row[: len(names)] for row, names in zip(rows, text, strict=True)] == text
    if name == "table7":
        assert rows[0][2] == "2", "a count is no decimal number"


@pytest.mark.parametrize("name", TABLES)
def test_heads_are_words_and_tell_the_columns_apart(tmp_path, name):
    write_table(made_up_tables()[name], tmp_path, name)
    heads, _, below = page_of(tmp_path / f"{name}.md")
    assert len(set(heads)) == len(heads) and not [h for h in heads if "_" in h or not h[0].isupper() and h[0] != "p"]
    assert not [line for line in below if "_" in line]


def test_every_head_and_caption_is_of_some_table():
    tables = made_up_tables()
    columns = {column for table in tables.values() for column in table}
    assert set(HEADS) <= columns and set(HEADS_OF) <= set(tables) and list(CAPTIONS) == list(tables)


def test_the_page_of_claims_has_a_row_per_claim(tmp_path):
    table = judge(evidence(noise=0.02, seeds=1), "made up")
    write_claims(table, tmp_path, ["First line.", "Second line."])
    heads, rows, below = page_of(tmp_path / "claims.md")
    assert {len(row) for row in rows} == {len(heads)} and [row[0] for row in rows] == sorted(CLAIMS)
    assert below == ["First line.", "Second line."]
    for (_, says, verdict, measure, shown, *rest), claim in zip(rows, table.itertuples(), strict=True):
        assert [says, verdict, measure] == [claim.says, f"**{claim.verdict}**", claim.measure]
        assert rest == [claim.rule, claim.why] and ("[" in shown) == (claim.low < claim.high)
        assert float(shown.split()[0]) == pytest.approx(claim.value, abs=0.0051, nan_ok=True)
    again = pd.read_csv(tmp_path / "claims.csv")
    assert again.claim.tolist() == table.claim.tolist() and again.says.tolist() == table.says.tolist()
    assert np.allclose(again.value, table.value.round(4), equal_nan=True)


# What was read
def test_reading_seeds(tmp_path):
    for s in (0, 2):
        (tmp_path / f"look-{s}").mkdir()
        pd.DataFrame({"seed": [s, s], "value": [s, s + 1]}).to_csv(tmp_path / f"look-{s}" / "look.csv", index=False)
    assert read_seeds(tmp_path, "look", "look.csv", [2, 0]).value.tolist() == [2, 3, 0, 1]
    with pytest.raises(DataError, match="look-1.*is missing. Run the stage look"):
        read_seeds(tmp_path, "look", "look.csv", [0, 1])


def test_the_record_of_a_study(tmp_path):
    machine = {"versions": {"torch": "2"}, "device": "x86", "isa": "AVX2", "threads": 1}
    for i, (arm, seed) in enumerate(product(["baseline", "none"], [0, 1])):
        (tmp_path / "runs" / f"{arm}-{seed}").mkdir(parents=True)
        run = (
            machine
            | {
                "params": {"arm": arm, "seed": seed},
                "code": "c",
                "data": "d",
                "seconds": 10.4 + i,
                "peak_memory_mb": 100 * i,
            }
            | ({"threads": 2} if i == 3 else {})
        )
        (tmp_path / "runs" / f"{arm}-{seed}" / "run.json").write_text(json.dumps(run))
    report = {
        "dataset": "phantom",
        "simulated": True,
        "spacing_mm": 0.5,
        "crop_px": 80,
        "slices": {"train": 3},
        "manifest_sha256": "m",
    }
    (tmp_path / "report.json").write_text(json.dumps(report | {"subjects": ["left out"]}))
    told = study_record(tmp_path / "runs", tmp_path, ["baseline", "none"], [0, 1])
    assert (
        told["data"] == report
        and {k: told[k] for k in machine} == machine
        and told["seconds"] == round(4 * 10.4 + 6)
        and told["peak_memory_mb"] == 300
    )
    assert list(told["runs"]) == ["baseline-0", "baseline-1", "none-0", "none-1"]
    assert told["runs"]["baseline-1"] == {
        "params": {"arm": "baseline", "seed": 1},
        "code": "c",
        "data": "d",
        "seconds": 11.4,
    }
    assert told["runs"]["none-1"]["threads"] == 2  # where a run differs from the first, it says so
    with pytest.raises(FileNotFoundError):
        study_record(tmp_path / "runs", tmp_path, ["baseline"], [2])
