"Differences, tests and verdicts against loops, enumeration and their definitions."

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ada_repro.core import named_rng
from ada_repro.evidence.intervals import (
    FALLS,
    OPEN,
    STANDS,
    TOLERANCE,
    against,
    bootstrap_interval,
    gap,
    holm,
    is_ahead,
    is_alike,
    seed_interval,
    sign_test,
)

KEYS = ["seed", "subject", "slice"]
seeds = pytest.mark.parametrize("seed", range(5))


def made_up(*name, arms="abcd", subjects=5, missing=0.1):
    "A table of random scores, some rows missing, some without a value."
    rng = named_rng("compare", *name)
    rows = pd.DataFrame(list(product(arms, range(2), range(subjects), range(3))), columns=["arm", *KEYS])
    rows = rows.assign(DSC=rng.normal(80, 5, len(rows)), TPR=rng.normal(90, 5, len(rows)))
    rows.loc[rng.random(len(rows)) < missing, "DSC"] = np.nan
    return rows[rng.random(len(rows)) >= missing].sample(frac=1, random_state=0)


@seeds
@pytest.mark.parametrize("arms, others", [("a", "b"), ("ab", "cd"), ("abc", "d"), ("a", "a"), ("a", "e")])
def test_gap_by_loop(seed, arms, others):
    rows = made_up(seed)
    found = gap(rows, [*arms], [*others])
    assert list(found) == [*KEYS, "DSC"] and not found.duplicated(KEYS).any()
    found = found.set_index(KEYS).DSC.to_dict()
    for key in product(range(2), range(5), range(3)):

        def value(arm):
            got = [r.DSC for r in rows.itertuples() if r.arm == arm and (r.seed, r.subject, r.slice) == key]
            return got[0] if got else np.nan

        slow = np.mean([value(a) for a in arms]) - np.mean([value(a) for a in others])
        assert found.get(key, np.nan) == pytest.approx(slow, nan_ok=True)
    assert ("e" in others) == all(np.isnan([*found.values()]))


def test_gap_takes_another_column_and_turns_its_sign():
    rows = made_up("column")
    there, back = (gap(rows, *pair, "TPR") for pair in ((["a"], ["b", "c"]), (["b", "c"], ["a"])))
    assert (
        list(there) == [*KEYS, "TPR"] and np.allclose(there.TPR, -back.TPR, equal_nan=True) and there.TPR.notna().any()
    )


def test_gap_averages_rows_of_one_slice():
    rows = pd.DataFrame(
        [("a", 0, "A", 0, 1.0), ("a", 0, "A", 0, 4.0), ("b", 0, "A", 0, 2.0)], columns=["arm", *KEYS, "DSC"]
    )
    assert gap(rows, ["a"], ["b"]).DSC.tolist() == [0.5]


def all_signs(each):
    "p by trying every sign of every subject."
    flipped = [abs(np.mean(np.array(signs) * each)) for signs in product((1, -1), repeat=len(each))]
    return np.mean(np.array(flipped) >= abs(np.mean(each)) - 1e-12)


@seeds
@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_sign_test_by_enumeration(seed, n):
    rows = made_up("sign", seed, subjects=n)
    rows = rows.assign(DSC=rows.DSC - 79)
    each = [np.nanmean(rows.DSC[rows.subject == i]) for i in range(n)]
    assert sign_test(rows) == pytest.approx(all_signs(np.array(each)))


@pytest.mark.parametrize("n", range(2, 11))
def test_the_smallest_p_is_that_of_the_number_of_subjects(n):
    rows = pd.DataFrame({"subject": range(n), "DSC": np.linspace(1, 2, n)})
    assert sign_test(rows) == sign_test(rows.assign(DSC=-rows.DSC)) == 2 / 2**n


def test_sign_test_says_nothing_of_one_subject_and_one_of_no_difference():
    rows = pd.DataFrame({"subject": [0, 0, 0], "DSC": [1.0, 2, 3]})
    assert (
        np.isnan(sign_test(rows))
        and np.isnan(sign_test(rows[:0]))
        and np.isnan(sign_test(rows.assign(subject=[0, 1, 1], DSC=[1.0, np.nan, np.nan])))
    )
    assert sign_test(pd.DataFrame({"subject": [0, 1, 2], "DSC": 0.0})) == 1


def naive_holm(p):
    "Step down: the k-th smallest of n times n-k, never below one before it, never above 1."
    out, highest = [None] * len(p), 0
    for k, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, (len(p) - k) * p[i])
        out[i] = min(highest, 1)
    return out


@seeds
def test_holm_by_definition(seed):
    p = named_rng("holm", seed).random(seed + 1) ** 2
    assert holm(p) == pytest.approx(naive_holm(p)) and (holm(p) >= p).all()
    assert holm(p[::-1]) == pytest.approx(holm(p)[::-1]) and (np.argsort(holm(p), kind="stable")[0] == np.argmin(p))


@seeds
def test_against_is_made_of_its_parts(seed):
    rows = made_up("against", seed)
    table = against(rows, ["b", "c", "d"], "a")
    assert table.arm.tolist() == ["b", "c", "d"] and (table.other == "a").all()
    assert table.p_holm.tolist() == pytest.approx(naive_holm(table.p.tolist()))
    for row in table.itertuples():
        g = gap(rows, [row.arm], ["a"])
        assert (row.difference, row.difference_low, row.difference_high) == pytest.approx(
            tuple(bootstrap_interval(g, "DSC").values())
        )
        assert row.difference == pytest.approx(np.nanmean(g.DSC)) and row.p == sign_test(g)


@seeds
@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_seed_interval_is_students(seed, n):
    values = named_rng("t", seed, n).normal(3, 2, n)
    low, high = stats.t.interval(0.95, n - 1, np.mean(values), np.std(values, ddof=1) / n**0.5)
    assert seed_interval(values) == pytest.approx({"value": np.mean(values), "low": low, "high": high})
    assert seed_interval(pd.Series(values, index=range(n, 2 * n))) == seed_interval(values)


def test_one_seed_has_no_interval():
    ends = seed_interval([4.0])
    assert ends["value"] == 4 and np.isnan([ends["low"], ends["high"]]).all()


# Verdicts
AHEAD = {
    (0.01, 9): STANDS,
    (0.01, 0.02): STANDS,
    (0.0, 9): OPEN,
    (-0.01, 9): OPEN,
    (-0.01, 0.99): FALLS,
    (-0.01, 1.0): OPEN,
    (-0.99, 0.99): FALLS,
    (-1.0, 0.99): OPEN,
    (-1.0, 0.0): OPEN,
    (-9.0, -0.01): FALLS,
    (-9.0, 0.0): OPEN,
    (-9.0, 9.0): OPEN,
    (0.0, 0.0): FALLS,
}
ALIKE = {
    (-0.99, 0.99): STANDS,
    (-1.0, 0.5): OPEN,
    (-0.5, 1.0): OPEN,
    (0.0, 0.0): STANDS,
    (0.5, 0.9): STANDS,
    (0.5, 1.5): OPEN,
    (1.0, 2.0): OPEN,
    (1.01, 2.0): FALLS,
    (-2.0, -1.0): OPEN,
    (-2.0, -1.01): FALLS,
    (-9.0, 9.0): OPEN,
}


@pytest.mark.parametrize("rule, table", [(is_ahead, AHEAD), (is_alike, ALIKE)], ids=["ahead", "alike"])
def test_verdicts_at_and_around_their_boundaries(rule, table):
    assert {ends: rule(*ends, 1.0) for ends in table} == table
    assert {ends: rule(*(10 * np.array(ends)), 10.0) for ends in table} == table


@pytest.mark.parametrize("rule", [is_ahead, is_alike])
@pytest.mark.parametrize("ends", [(np.nan, np.nan), (np.nan, 5.0), (-5.0, np.nan)])
def test_nothing_can_be_told_without_an_interval(rule, ends):
    assert rule(*ends, 1.0) == OPEN


@seeds
def test_verdicts_do_not_contradict_one_another(seed):
    for low, width in named_rng("verdicts", seed).normal(0, 2, (200, 2)):
        low, high = low, low + abs(width)
        there, back, alike = is_ahead(low, high, 1.0), is_ahead(-high, -low, 1.0), is_alike(low, high, 1.0)
        assert (
            alike == is_alike(-high, -low, 1.0)
            and {there, back} != {STANDS}
            and not (there == OPEN and alike == STANDS)
        )
        assert (there == STANDS) == (low > 0) and (alike == FALLS) <= (STANDS in (there, back))


def test_the_tolerance_is_the_last_digit_of_the_challenge():
    assert TOLERANCE == 1.0 and len({STANDS, FALLS, OPEN}) == 3
