"Tests, verdicts and what it would take against loops, enumeration and drawn tables."

from itertools import product

import numpy as np
import pandas as pd
import pytest
from test_intervals import drawn_table, made_up, seeds

from ada_repro.core import named_rng
from ada_repro.evidence.intervals import Components, crossed_interval, crossed_table, estimate, gap
from ada_repro.evidence.verdicts import (
    FALLS,
    OPEN,
    STANDS,
    TOLERANCE,
    SeedRange,
    against,
    expected_half_width,
    holm,
    is_ahead,
    is_alike,
    needed,
    p_value,
    step_down,
    what_it_takes,
)

# What it would take
PARTS = Components(0.2, 0.5, 0.3)


def test_needed_is_the_first_that_will_do():
    for wanted, subjects in product((0.5, 1.0, 3.0), (5, 20, None)):
        found = needed(PARTS, wanted, subjects, most=200)
        widths = {n: expected_half_width(PARTS, n, subjects or n) for n in range(2, 201)}
        assert found == next((n for n in widths if widths[n] < wanted), None)
    assert needed(PARTS, 0.1, 5) is None and needed(Components(0, 0, 0), 0.1, 2) == 2


def test_the_width_is_foretold():
    for seeds_, subjects in ((5, 8), (10, 5), (5, 20)):
        rng, shape = named_rng("foretold"), (2000, seeds_, subjects)
        tables = PARTS.seed**0.5 * rng.normal(size=(*shape[:2], 1)) + PARTS.residual**0.5 * rng.normal(size=shape)
        tables = tables + PARTS.subject**0.5 * rng.normal(size=(2000, 1, subjects))
        _, low, high = crossed_interval(tables)
        assert expected_half_width(PARTS, seeds_, subjects) == pytest.approx((high - low).mean() / 2, rel=0.1)


def test_what_it_takes_is_a_table_of_what_is_needed():
    table = what_it_takes(PARTS, (0.3, 1.0), (5, 40))
    assert list(table) == ["difference", "balanced", "seeds_5", "seeds_40"] and table.difference.tolist() == [0.3, 1.0]
    for row in table.itertuples():
        for n, found in ((None, row.balanced), (5, row.seeds_5), (40, row.seeds_40)):
            assert needed(PARTS, row.difference, n) == (None if pd.isna(found) else found)


# Tests
@seeds
@pytest.mark.parametrize("missing", [0, 4])
def test_the_interval_at_one_minus_p_just_touches_the_null(seed, missing):
    values = drawn_table("p", seed, missing=missing)
    weights = named_rng("p weights", seed).integers(1, 9, values.shape)
    for null in (0, 1.5, -2):
        p = p_value(values, null, weights)
        _, low, high = crossed_interval(values, 1 - p, weights)
        assert min(abs(low - null), abs(high - null)) == pytest.approx(0, abs=1e-6)
        for level in (0.5, 0.9, 0.95, 0.99):
            _, low, high = crossed_interval(values, level, weights)
            assert (p < 1 - level) == (null < low or null > high)


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


def test_a_comparison_without_p_counts_and_stays():
    assert holm([np.nan, 0.01]) == pytest.approx([np.nan, 0.02], nan_ok=True)


@seeds
def test_against_is_made_of_its_parts(seed):
    rows = made_up("against", seed)
    table = against(rows, ["b", "c", "d"], "a")
    assert table.arm.tolist() == ["b", "c", "d"] and (table.other == "a").all()
    assert table.p_holm.tolist() == pytest.approx(naive_holm(table.p.tolist()))
    for row in table.itertuples():
        gaps = gap(rows, [row.arm], ["a"])
        values, slices = crossed_table(gaps, "DSC")
        ends = row.difference, row.difference_low, row.difference_high
        assert ends == pytest.approx(crossed_interval(values, weights=slices))
        assert row.difference == pytest.approx(np.nanmean(gaps.DSC)) and row.p == p_value(values, weights=slices)


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


# Many together
@seeds
def test_stepping_down_says_what_corrected_p_values_say(seed):
    tables = [drawn_table("step", seed, i) - 2 + i / 2 for i in range(7)]
    p = np.array([p_value(table) for table in tables])

    def judge(i, level):
        low, high = estimate(tables[i]).ends(level)
        if low > 0:
            return {"verdict": STANDS}
        return {"verdict": FALLS if high < 0 else OPEN}

    for level in (0.9, 0.95):
        told = step_down(judge, range(7), level)
        assert list(told) == list(range(7))
        assert [told[i]["verdict"] != OPEN for i in range(7)] == (holm(p) < 1 - level).tolist()
        left = sum(one["verdict"] == OPEN for one in told.values())
        for i, one in told.items():
            assert one["verdict"] == judge(i, one["level"])["verdict"]
            assert one["level"] >= 1 - (1 - level) / max(left, 1) - 1e-12


def test_stepping_down_ends():
    def one(verdict):
        return lambda key, level: {"verdict": verdict}

    assert step_down(one(OPEN), "ab") == dict.fromkeys("ab", {"verdict": OPEN, "level": 0.975})
    assert step_down(one(STANDS), "abc")["a"]["level"] == pytest.approx(1 - 0.05 / 3)
    assert step_down(one(STANDS), []) == {}


# The range over seeds
SCATTER = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape),
}


@pytest.mark.parametrize("kind, n, shared", [*product(SCATTER, (2, 3, 5, 10), (0, 0.5, 1))])
@pytest.mark.parametrize("level", [0.95, 0.997])
def test_the_range_over_seeds_is_covered_however_alike_the_arms(kind, n, shared, level):
    rng, draws = named_rng("seed range", kind, n), 20_000
    common, own = SCATTER[kind](rng, (draws, 1, n)), SCATTER[kind](rng, (draws, 7, n))
    found = np.ptp(shared**0.5 * common + (1 - shared) ** 0.5 * own, axis=2).mean(axis=1)
    low, high = SeedRange(found, n).ends(level)
    held = ((low <= found.mean()) & (found.mean() <= high)).mean()
    assert held >= level - 4 * np.sqrt(level * (1 - level) / draws)


def test_the_range_of_two_seeds_by_hand():
    low, high = SeedRange(1.0, 2).ends(0.9)  # of two exponential draws: one more exponential
    assert low == pytest.approx(1 / -np.log(0.05)) and high == pytest.approx(1 / -np.log(0.95))
    assert np.isnan(SeedRange(1.0, 1).ends()).all()
