"All claims together: Holm by its definition, yardsticks that do not stand, epochs chosen elsewhere."

from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_claims import ARMS, METHODS, evidence

from ada_repro.core import named_rng
from ada_repro.evidence.claims import CLAIMS, DIRECTIONS
from ada_repro.evidence.intervals import gap
from ada_repro.evidence.judging import evidence_of, judge, judge_all, stand_in, yardsticks
from ada_repro.evidence.scores import made_up_scores, methods_in
from ada_repro.evidence.verdicts import FALLS, OPEN, STANDS
from ada_repro.method.arms import arm_name


def rest_of(e):
    "The evidence without the scores."
    return {name: getattr(e, name) for name in ("history", "iou", "look", "sensitivity", "giveaway", "rescan")}


def test_the_table_tells_every_claim_once():
    table = judge(evidence(noise=0.02), "made up")
    assert table.claim.tolist() == list(CLAIMS) and (table.data == "made up").all()
    for column in ("says", "measure", "rule", "why"):
        assert table[column].str.len().gt(0).all() and not table[column].str.contains("[|\n_]").any()
    assert set(table.verdict) <= {STANDS, FALLS, OPEN} and table.says.is_unique


def test_each_claim_is_read_at_its_level():
    e = evidence(noise=0.4, hidden={"gradcam": 1})
    table = judge(e, "made up")
    for row in table.itertuples():
        one = CLAIMS[row.claim][1](e, row.level)
        assert one["verdict"] == row.verdict and one["value"] == pytest.approx(row.value, nan_ok=True)
    number = np.round(0.05 / (1 - table.level)).astype(int)
    assert np.allclose(1 - 0.05 / number, table.level) and number.max() == len(CLAIMS)
    left = (table.verdict == OPEN).sum()
    assert (number[table.verdict == OPEN] == left).all() and (number >= max(left, 1)).all()


# Yardsticks
def crossed_noise(rows, *name):
    "Noise of trainings, of subjects to whom an arm is dear, and of slices; of no arm in particular."
    rng = named_rng("crossed", *name)
    total = rng.normal(0, 0.4, len(rows))
    for keys in (["arm", "seed"], ["arm", "subject"]):
        group = rows.groupby([key for key in keys if key in rows]).ngroup()
        total += rng.normal(0, 0.8, group.max() + 1)[group]
    return total


def noisy(*name):
    "Evidence in which no arm differs from another, but for luck."
    e = evidence(noise=0, seeds=5)
    for table in (e.table3, e.table4):
        for value in ("DSC", "TPR", "PPV"):
            table[value] += crossed_noise(table, value, *name)
    e.rescan["DSC_pair"] += crossed_noise(e.rescan, "rescan", *name)
    e.history["DSC"] += named_rng("history", *name).normal(0, 1, len(e.history))
    return e


def test_noise_alone_does_not_stand():
    found = []
    for number in range(4):
        e = noisy(number)
        claims = judge(e, "noise")
        together = yardsticks(e, claims)
        assert together.claim.tolist() == [f"{key} A/A" for key in CLAIMS if key in DIRECTIONS]
        assert not (together.verdict == STANDS).any()
        assert not (claims.verdict[claims.claim.isin(DIRECTIONS)] == STANDS).any()
        alone = yardsticks(e, claims.assign(level=0.95))
        found += (alone.verdict == STANDS).tolist()
    assert np.mean(found) <= 0.05


def test_a_yardstick_compares_no_hole_with_itself():
    e = evidence(noise=0.02, whole={"none.again": 7.0}, hidden={"none.again": 7.0, "gradcam": 90.0, "none": 1.0})
    found = yardsticks(e, judge(e, "x")).set_index("claim")
    for key in ("C3 A/A", "C6 A/A", "S4 A/A"):
        assert found.value[key] == pytest.approx(6, abs=0.1) and found.verdict[key] == STANDS, "it can stand"
    e.table3 = e.table3[e.table3.arm != "none.again"]
    assert yardsticks(e, judge(e, "x")).empty


def test_arms_that_stand_in():
    rows = pd.DataFrame(product(ARMS, range(2)), columns=["arm", "seed"])
    rows["DSC"] = rows.arm.map({arm: i for i, arm in enumerate(ARMS)}) * 10 + rows.seed
    value = rows.set_index(["arm", "seed"]).DSC
    for ahead in (["gradcam"], METHODS, ["none", *METHODS]):
        stood = stand_in(rows, ahead).set_index(["arm", "seed"]).DSC
        assert sorted(stood.index) == sorted(value.index)
        for arm, seed in value.index:
            assert stood[arm, seed] == value["none.again" if arm in ahead else "none", seed]


# The choice of the epoch
def chosen_scores(worse):
    "Scores with epochs chosen on other people, whose arms are worse by what is told."
    scores = made_up_scores([*METHODS, "baseline", "none", "random"], range(4))
    even = scores.DSC.where(scores.arm == "none").groupby(
        [scores[k] for k in ("seed", "weights", "subject", "slice", "group")]
    )
    same = even.transform("first") + named_rng("chosen").normal(0, 0.02, len(scores))
    scores = scores.assign(DSC=same)
    chosen = scores[scores.weights == "best"].assign(weights="chosen")
    return pd.concat([scores, chosen.assign(DSC=chosen.DSC - chosen.arm.map(worse).fillna(0))], ignore_index=True)


def test_verdicts_are_those_of_the_paper_unless_one_would_differ():
    rest = rest_of(evidence(noise=0.02))
    without = chosen_scores({}).query("weights != 'chosen'")
    by_paper = judge_all(without, "x", **rest)
    assert (by_paper.weights == "best").all() and by_paper.claim.tolist() == list(CLAIMS)
    pd.testing.assert_frame_equal(
        by_paper.drop(columns="weights"), judge(evidence_of(without, "best", **rest), "x"), check_dtype=False
    )
    scores = chosen_scores({"gradcam": -3})
    found = judge_all(scores, "x", **rest).set_index("claim")
    assert (found.weights == "chosen").all()
    assert found.verdict[["C1", "C3"]].tolist() == [FALLS, STANDS]
    assert found.why.C1.endswith("By the paper's rule: stands.")
    assert found.why.C3.endswith("By the paper's rule: does not stand.")
    assert "By the paper's rule" not in found.why.C5
    expected = judge(evidence_of(scores, "chosen", **rest), "x").set_index("claim")
    assert found.verdict.to_dict() == expected.verdict.to_dict()
    assert found.value.drop("S9").to_dict() == pytest.approx(expected.value.drop("S9").to_dict(), nan_ok=True)


def test_the_last_epoch_is_not_judged():
    scores, rest = chosen_scores({}), rest_of(evidence(noise=0.02))
    worse = scores.assign(DSC=scores.DSC.where(scores.weights != "last", 0.0))
    pd.testing.assert_frame_equal(judge_all(scores, "x", **rest), judge_all(worse, "x", **rest))


@pytest.mark.parametrize("missing", [["vanilla"], METHODS[:4], METHODS, ["gradcam"], [*METHODS[1:], "none", "random"]])
def test_a_study_that_lacks_methods_says_which_it_has_and_claims_no_more(missing):
    whole = evidence()
    tables = {name: getattr(whole, name) for name in ("table3", "table4", "best3", "chosen3", "judged", "history")}
    part = {name: table[~table.arm.isin(missing)] for name, table in tables.items()}
    claims = judge(SimpleNamespace(**(vars(whole) | part)), "part").set_index("claim")
    there = [arm_name(method) for method in METHODS if method not in missing]
    assert claims.why.str.contains(f"this study has: {', '.join(there) or 'none'}.", regex=False).all()
    assert not claims.why.str.contains("nan").any()
    assert (claims.verdict[claims.value.isna()] == OPEN).all()
    for key in ("C1", "C3", "S6b", "S9"):
        assert claims.verdict[key] != STANDS, "it is about each method, and one is missing"
    assert claims.value["C6"] == pytest.approx(
        gap(part["table4"], methods_in(part["table4"]), ["none"]).DSC.mean(), nan_ok=True
    )
