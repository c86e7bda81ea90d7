"Differences and intervals against loops, enumeration, published numbers and drawn tables."

import importlib.util
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from test_scores import made_up_scores

from ada_repro.core import ROOT, named_rng
from ada_repro.evidence.intervals import (
    DF_PER_LEVEL,
    Components,
    NestedComponents,
    components,
    crossed_interval,
    crossed_table,
    difference,
    estimate,
    gap,
    interval,
    mean_over_slices,
    nested_components,
    nested_estimate,
    prediction_interval,
    seed_mean,
    training_mean,
)
from ada_repro.evidence.scores import is_nested, per_slice
from ada_repro.evidence.verdicts import OPEN, is_ahead, is_alike, needed, p_of, p_value, step_down

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
    score = {(r.arm, r.seed, r.subject, r.slice): r.DSC for r in rows.itertuples()}
    for key in product(range(2), range(5), range(3)):
        ours, theirs = ([score.get((arm, *key), np.nan) for arm in these] for these in (arms, others))
        assert found.get(key, np.nan) == pytest.approx(np.mean(ours) - np.mean(theirs), nan_ok=True)
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


# The interval
def drawn_table(*name, seeds=4, subjects=6, missing=0):
    "Made-up differences, some cells empty."
    rng = named_rng("table", *name)
    table = rng.normal(2, 1, (seeds, 1)) + rng.normal(0, 2, subjects) + rng.normal(0, 0.7, (seeds, subjects))
    table.flat[rng.permutation(table.size)[:missing]] = np.nan
    return table


def students(variances, df, level=0.95):
    "Half of the widest of several of Student's intervals."
    return max(stats.t.ppf((1 + level) / 2, nu) * v**0.5 for v, nu in zip(variances, df, strict=True))


def test_a_table_worked_by_hand():
    values = [[1, 2, 3], [3, 6, 9]]  # mean squares 24, 8 and 2
    assert components(values) == Components(*map(pytest.approx, ((24 - 2) / 3, (8 - 2) / 2, 2)))
    df = 0.4 * 2, 0.4 * 3
    both = (4 + 4 / 3) ** 2 / (4**2 / df[0] + (4 / 3) ** 2 / df[1])
    half = students((4, 4 / 3, 4 + 4 / 3 - 1 / 3), (*df, both))
    assert crossed_interval(values) == pytest.approx((4, 4 - half, 4 + half))


def test_the_judges_of_shrout_and_fleiss():
    "Psychological Bulletin 86, 420 (1979): six targets, four judges, mean squares and agreement as published."
    values = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]).T
    found = components(values)
    assert found.residual == pytest.approx(1.02, abs=0.005)
    assert found.residual + 6 * found.seed == pytest.approx(32.49, abs=0.005)
    assert found.residual + 4 * found.subject == pytest.approx(11.24, abs=0.005)
    assert found.subject / (found.seed + found.subject + found.residual) == pytest.approx(0.29, abs=0.005)
    variance = (32.49 + 11.24 - 1.02) / 24
    both = (32.49 + 11.24) ** 2 / (32.49**2 / 1.6 + 11.24**2 / 2.4)
    half = students((32.49 / 24, 11.24 / 24, variance), (1.6, 2.4, both))
    assert crossed_interval(values)[1:] == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


@seeds
@pytest.mark.parametrize("shape", [(2, 2), (2, 9), (5, 2), (5, 8), (10, 20)])
def test_full_tables_by_the_textbook(seed, shape):
    values = drawn_table("full", seed, seeds=shape[0], subjects=shape[1])
    r, c = shape
    rows, columns, mean = values.mean(1), values.mean(0), values.mean()
    squares = (
        c * sum((a - mean) ** 2 for a in rows) / (r - 1),
        r * sum((b - mean) ** 2 for b in columns) / (c - 1),
        sum((values[i, j] - rows[i] - columns[j] + mean) ** 2 for i, j in product(range(r), range(c)))
        / ((r - 1) * (c - 1)),
    )
    v_a, v_b, v_e = (square / (r * c) for square in squares)
    df = DF_PER_LEVEL * r, DF_PER_LEVEL * c
    both = (v_a + v_b) ** 2 / (v_a**2 / df[0] + v_b**2 / df[1])
    half = students((v_a, v_b, max(v_a + v_b - v_e, 0)), (*df, both), 0.9)
    assert crossed_interval(values, 0.9) == pytest.approx((mean, mean - half, mean + half))


def left_over(y, *indicators):
    "The sum of squares that an additive model leaves."
    model = np.hstack([np.ones((len(y), 1)), *indicators])
    return ((y - model @ np.linalg.lstsq(model, y, rcond=None)[0]) ** 2).sum()


@seeds
@pytest.mark.parametrize("weighted", [False, True])
def test_missing_cells_and_weights_by_least_squares(seed, weighted):
    "Henderson's third method: the expected sum of squares of a component is that of its indicators."
    values = drawn_table("missing", seed, missing=5)
    weights = named_rng("weights", seed).integers(1, 9, values.shape) if weighted else np.ones(values.shape)
    i, j = np.nonzero(~np.isnan(values))
    y, w = values[i, j], weights[i, j] / weights[i, j].sum()
    levels = [(at[:, None] == np.unique(at)).astype(float) for at in (i, j)]
    n, (r, c) = len(y), [level.shape[1] for level in levels]
    residual = left_over(y, *levels) / (n - r - c + 1)
    alone, estimates, shares = [], [], []
    for own, other, k in ((levels[0], levels[1], r), (levels[1], levels[0], c)):
        square = (left_over(y, other) - left_over(y, other, own)) / (k - 1)
        copies = sum(left_over(column, other) for column in own.T) / (k - 1)
        shares.append(((w @ own) ** 2).sum())
        alone.append(shares[-1] * square / copies)
        estimates.append((square - residual) / copies)
    both = shares[0] * estimates[0] + shares[1] * estimates[1] + (w**2).sum() * residual
    df = DF_PER_LEVEL * r, DF_PER_LEVEL * c
    df_both = sum(alone) ** 2 / (alone[0] ** 2 / df[0] + alone[1] ** 2 / df[1])
    half, mean = students((*alone, max(both, 0)), (*df, df_both)), (w * y).sum()
    assert crossed_interval(values, weights=weights) == pytest.approx((mean, mean - half, mean + half))
    found = components(values)
    assert (found.seed, found.subject, found.residual) == pytest.approx((*np.maximum(estimates, 0), residual))


@seeds
@pytest.mark.parametrize("missing", [0, 4])
def test_what_an_interval_must_not_depend_on(seed, missing):
    values = drawn_table("same", seed, missing=missing)
    ends = np.array(crossed_interval(values))
    rng = named_rng("order", seed)
    shuffled = rng.permutation(rng.permutation(values, axis=0), axis=1)
    empty = np.pad(values, ((1, 0), (0, 2)), constant_values=np.nan)
    for other in (shuffled, values.T, empty):
        assert crossed_interval(other) == pytest.approx(ends)
    assert crossed_interval(7 + 3 * values) == pytest.approx(7 + 3 * ends)
    assert crossed_interval(-values) == pytest.approx((-ends[0], -ends[2], -ends[1]))
    assert crossed_interval(values, weights=np.full(values.shape, 3)) == pytest.approx(ends)
    filled = np.nan_to_num(values, nan=1000.0)
    assert crossed_interval(filled, weights=~np.isnan(values)) == pytest.approx(ends)
    widths = [np.diff(crossed_interval(values, level)[1:])[0] for level in (0.5, 0.9, 0.95, 0.999)]
    assert widths == sorted(widths) and p_value(values.T) == pytest.approx(p_value(values))


def test_a_stack_is_as_good_as_its_tables():
    stack = np.stack([drawn_table("stack", k) for k in range(7)])
    stack[:, 1, 2] = np.nan
    together, each = crossed_interval(stack), [crossed_interval(table) for table in stack]
    assert np.allclose(np.transpose(together), each)
    assert p_value(stack) == pytest.approx([p_value(table) for table in stack])


def test_no_variance_is_a_point():
    for shape in ((2, 2), (5, 8)):
        assert crossed_interval(np.full(shape, 80.1)) == (80.1, 80.1, 80.1)
        assert p_value(np.zeros(shape)) == 1 and p_value(np.full(shape, 80.1)) == 0
    rows = made_up("pair")
    pair = gap(rows, ["a"], ["a"])
    assert set(interval(pair, "DSC").values()) == {0.0} and p_value(crossed_table(pair, "DSC")[0]) == 1


FIVE = np.arange(5.0)
NOTHING = {
    "one seed": FIVE[None],
    "one subject": FIVE[:, None],
    "one subject with values": np.stack([FIVE, np.full(5, np.nan)]).T,
    "nothing left to tell": np.array([[1, 2], [3, np.nan]]),
    "two tables in one": np.array([[1, 2, np.nan, np.nan], [np.nan, np.nan, 3, 4]]),
    "no value": np.full((3, 3), np.nan),
    "no cell": np.empty((0, 0)),
}


@pytest.mark.parametrize("values", NOTHING.values(), ids=NOTHING)
def test_where_there_is_nothing_to_say(values):
    mean, low, high = crossed_interval(values)
    assert np.isnan([low, high, p_value(values), components(values).seed]).all()
    filled = values[~np.isnan(values)]
    assert mean == pytest.approx(filled.mean() if filled.size else np.nan, nan_ok=True)
    assert is_ahead(low, high, 1.0) == is_alike(low, high, 1.0) == OPEN


@pytest.mark.parametrize(
    "refused, why",
    [
        (lambda: crossed_interval([1.0, 2.0]), "seeds, subjects"),
        (lambda: crossed_interval(np.eye(3), 95), "level"),
        (lambda: crossed_interval(np.eye(3), weights=[1, 2, 3]), "weights"),
        (lambda: crossed_interval(np.eye(3), weights=-np.eye(3)), "weights"),
        (lambda: crossed_interval([np.eye(2), [[np.nan, 1], [2, 3]]]), "same cells"),
        (lambda: prediction_interval([]), "one number for each seed"),
        (lambda: prediction_interval([1, np.nan]), "one number for each seed"),
        (lambda: step_down(None, "a", 1.0), "level"),
        (lambda: prediction_interval([1, 2], more=0), "more"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(refused, why):
    with pytest.raises(ValueError, match=why) as error:
        refused()
    assert "\n" not in str(error.value)


@seeds
def test_rows_become_a_table_that_counts_slices(seed):
    rows = made_up("rows", seed)
    rows = rows[rows.arm == "a"]
    values, slices = crossed_table(rows, "DSC")
    for (i, s), (j, p) in product(enumerate(sorted(rows.seed.unique())), enumerate(sorted(rows.subject.unique()))):
        cell = [r.DSC for r in rows.itertuples() if (r.seed, r.subject) == (s, p) and not np.isnan(r.DSC)]
        assert slices[i, j] == len(cell)
        assert values[i, j] == pytest.approx(np.mean(cell) if cell else np.nan, nan_ok=True)
    found = interval(rows, "DSC", "mine", 0.9)
    assert list(found) == ["mine", "mine_low", "mine_high"] and found["mine"] == pytest.approx(rows.DSC.mean())
    assert tuple(found.values()) == crossed_interval(values, 0.9, slices)
    assert interval(rows.sample(frac=1, random_state=1), "DSC", "mine", 0.9) == pytest.approx(found)
    assert list(interval(rows, "TPR")) == ["TPR", "TPR_low", "TPR_high"]


def test_rows_without_a_value_have_no_interval():
    rows = made_up("none").assign(DSC=np.nan)
    assert np.isnan([*interval(rows, "DSC").values(), *interval(rows[:0], "DSC").values()]).all()


# Does it cover?
spec = importlib.util.spec_from_file_location("coverage_of_intervals", ROOT / "benchmarks" / "coverage.py")
simulation = importlib.util.module_from_spec(spec)
spec.loader.exec_module(simulation)
COVERED = pd.read_csv(ROOT / "benchmarks" / "coverage.csv")


def test_the_committed_table_covers_everywhere():
    promised = COVERED[COVERED.effects != simulation.HEAVY]
    assert len(COVERED) == len(simulation.cases()) and not COVERED.duplicated(list(COVERED)[:6]).any()
    assert set(zip(promised.seeds, promised.subjects, strict=True)) == set(product((1, 2, 5, 10), (2, 5, 8, 20)))
    assert promised.crossed.min() >= 0.93 and promised[promised.effects == "normal"].crossed.min() >= 0.95
    assert promised.strict.min() >= 0.99 and promised.bootstrap.min() < 0.5


@pytest.mark.parametrize("effects", simulation.EFFECTS)
@pytest.mark.parametrize("layout", simulation.LAYOUTS)
@pytest.mark.parametrize("size", [(5, 2), (5, 8), (10, 5)], ids=str)
def test_coverage_in_short(size, layout, effects):
    "As committed, but for the chance of fewer draws; and drawn from components that average to the truth."
    draws = 2000
    for shares in ("seeds alone", "subjects alone", "mostly the rest", "a third each"):
        case = simulation.Case(*size, shares, effects, layout)
        if case not in simulation.cases():
            continue
        row = simulation.coverage(case, draws, 200)
        committed = COVERED[(COVERED[list(vars(case))] == pd.Series(vars(case))).all(axis=1)].crossed.item()
        assert abs(row["crossed"] - committed) < 4 * (committed * (1 - committed) / draws) ** 0.5 + 0.002
        means = crossed_interval(simulation.drawn_tables(case, draws), weights=simulation.weights_of(case))[0]
        assert means.std() == pytest.approx(simulation.known_deviation(case), rel=0.15)


@pytest.mark.parametrize("folds", [[0, 1, 2, 2, 3], [0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 3, 3, 3, 3]], ids=str)
@pytest.mark.parametrize("seed", [2, 5])
def test_subjects_of_folds_are_covered(folds, seed):
    "A subject is judged by the network of its seed and its fold."
    rng, draws = named_rng("folds", seed, folds), 2000
    networks = rng.normal(size=(draws, seed, max(folds) + 1))[:, :, folds]
    subjects, rest = rng.normal(size=(draws, 1, len(folds))), rng.normal(size=(draws, seed, len(folds)))
    for share in (0, 0.3, 1):
        _, low, high = crossed_interval(networks + share * subjects + share * rest)
        assert ((low <= 0) & (high >= 0)).mean() > 0.95


def test_the_bootstrap_beside_it_equals_a_loop():
    values, weights = drawn_table("bootstrap", missing=3), named_rng("slices").integers(1, 9, (4, 6)).astype(float)
    weights[np.isnan(values)] = 0
    draws = []
    for n, what in ((4, "seeds"), (6, "subjects")):
        draws.append(named_rng("bootstrap", what, n).multinomial(n, [1 / n] * n, simulation.RESAMPLES))
    means = []
    for often, times in zip(*draws, strict=True):
        counts = np.array([[often[i] * times[j] * weights[i, j] for j in range(6)] for i in range(4)])
        if counts.sum():
            means.append((np.nan_to_num(values) * counts).sum() / counts.sum())
    ends = simulation.bootstrap_ends(values[None], weights)
    assert np.ravel(ends) == pytest.approx(np.percentile(means, [2.5, 97.5]))


def test_components_are_found_on_the_average():
    rng, found = named_rng("components"), []
    for _ in range(300):
        table = 2 * rng.normal(size=(6, 1)) + rng.normal(size=12) + 0.5 * rng.normal(size=(6, 12))
        found.append(list(vars(components(table)).values()))
    assert np.mean(found, axis=0) == pytest.approx((4, 1, 0.25), rel=0.15)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_one_more_training_falls_into_the_prediction_interval(n):
    drawn = named_rng("prediction", n).normal(80, 3, (4000, n + 1))
    _, low, high = np.transpose([prediction_interval(values, 0.9) for values in drawn[:, :-1]])
    assert ((low <= drawn[:, -1]) & (drawn[:, -1] <= high)).mean() == pytest.approx(0.9, abs=0.02)


def test_prediction_by_its_formula():
    values = [80.0, 82.0, 81.0, 83.0, 84.0]
    half = 2.7764 * 2.5**0.5 * 1.2**0.5
    assert prediction_interval(values) == pytest.approx((82, 82 - half, 82 + half), abs=1e-3)
    assert prediction_interval([80.0])[0] == 80 and np.isnan(prediction_interval([80.0])[1:]).all()
    assert prediction_interval([80.0, 80.0]) == (80, 80, 80)


@seeds
@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_the_interval_over_seeds_is_students(seed, n):
    values = named_rng("t", seed, n).normal(3, 2, n)
    for level in (0.5, 0.95, 0.999):
        ends = stats.t.interval(level, n - 1, np.mean(values), np.std(values, ddof=1) / n**0.5)
        assert seed_mean(values).ends(level) == pytest.approx(ends)
    assert seed_mean(pd.Series(values, index=range(n, 2 * n))).ends() == seed_mean(values).ends()


def test_one_seed_has_no_interval():
    assert seed_mean([4.0]).value == 4 and np.isnan(seed_mean([4.0]).ends()).all()


@seeds
@pytest.mark.parametrize("missing", [0, 4])
def test_an_estimate_is_the_interval_at_every_level(seed, missing):
    values = drawn_table("estimate", seed, missing=missing)
    weights = named_rng("estimate weights", seed).integers(1, 9, values.shape)
    mean = estimate(values, weights)
    for level in (0.1, 0.95, 0.999):
        assert (mean.value, *mean.ends(level)) == crossed_interval(values, level, weights)


@pytest.mark.parametrize("more", [2, 5])
def test_the_mean_of_more_trainings_falls_into_its_prediction_interval(more):
    drawn = named_rng("prediction", more).normal(80, 3, (4000, 4 + more))
    _, low, high = np.transpose([prediction_interval(values, 0.9, more) for values in drawn[:, :4]])
    mean = drawn[:, 4:].mean(axis=1)
    assert ((low <= mean) & (mean <= high)).mean() == pytest.approx(0.9, abs=0.02)


def test_two_sessions_of_a_person_are_one_subject_and_a_fold_is_a_key():
    keys = product(range(3), ["P1a", "P1b", "P2", "P3"], range(2))
    rows = pd.DataFrame(keys, columns=["seed", "subject", "slice"]).assign(fold="paper")
    rows = rows.assign(DSC=named_rng("people").normal(80, 3, len(rows)), person=rows.subject.str[:2])
    values, slices = crossed_table(rows, "DSC")
    assert values.shape == (3, 3) and slices[0].tolist() == [4, 2, 2]
    one = rows[(rows.seed == 0) & (rows.person == "P1")].DSC.mean()
    assert values[0, 0] == pytest.approx(one)
    both = pd.concat([rows.assign(arm="a"), rows.assign(arm="b", DSC=rows.DSC + 2)])
    gaps = gap(both, ["b"], ["a"])
    assert np.allclose(gaps.DSC, 2) and crossed_table(gaps, "DSC")[0].shape == (3, 3)


def test_tables_of_any_kind():
    values = np.random.default_rng(0).normal(80, 1, (3, 5))
    wanted = crossed_interval(values)
    hole = np.where(np.arange(15).reshape(3, 5) == 7, np.nan, values)
    masked = np.ma.masked_array(values, mask=np.isnan(hole))
    assert crossed_interval(torch.tensor(values, requires_grad=True)) == wanted
    assert crossed_interval(pd.DataFrame(values)) == crossed_interval(values.tolist()) == wanted
    assert crossed_interval(masked) == crossed_interval(hole) != wanted


@pytest.mark.parametrize("wrong", [np.full((3, 5), np.inf), np.ones((3, 5)) + 1j, [["1", "2"]] * 2, [[1, 2], [3]]])
def test_what_is_no_table_of_numbers(wrong):
    for asked in (crossed_interval, prediction_interval, seed_mean):
        with pytest.raises(ValueError, match="must be"):
            asked(wrong)


# Trainings apart
def apart(seeds, people, **columns):
    "Made-up rows: each person has a fold, three slices and trainings of its own."
    keys = pd.DataFrame(product(range(seeds), people, range(3)), columns=["seed", "subject", "slice"])
    return keys.assign(
        fold=keys.subject, DSC=named_rng("apart", seeds, len(people)).normal(80, 3, len(keys)), **columns
    )


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_people_judged_by_trainings_of_their_own_are_independent(seeds):
    rows = apart(seeds, "ABCDE")
    rows = rows[(rows.subject != "B") | (rows.slice > 0)]
    people = rows.groupby("subject").DSC.agg(["mean", "size"])
    share = people["size"] / len(rows)
    half = 4.3027 * (share**2).sum() ** 0.5 * people["mean"].std()  # t(0.975, 2)
    found = interval(rows, "DSC")
    assert list(found.values()) == pytest.approx(
        [rows.DSC.mean(), rows.DSC.mean() - half, rows.DSC.mean() + half], abs=1e-3
    )
    assert p_of(mean_over_slices(rows), null=found["DSC_high"]) == pytest.approx(0.05)
    means = rows.groupby(["fold", "seed"]).DSC.mean()
    assert training_mean(means).ends() == seed_mean(means.groupby("fold").mean()).ends()


def test_people_who_share_a_training_are_not():
    rows = apart(2, "ABCD")
    assert is_nested(rows)
    for shared in (
        rows.assign(fold="paper"),
        rows.assign(fold=rows.fold.replace("A", "B")),
        rows.assign(person=rows.subject.replace("A", "B")),
        rows.drop(columns="fold"),
        rows[rows.subject == "A"],
    ):
        assert not is_nested(shared)
        assert mean_over_slices(shared).ends() == pytest.approx(
            estimate(*crossed_table(shared, "DSC")).ends(), nan_ok=True
        )
    assert np.isnan([*interval(rows[rows.subject == "A"], "DSC").values()][1:]).all()
    assert np.isnan(nested_estimate(np.ones((3, 1))).ends()).all()


def test_nested_components_are_found_on_the_average():
    rng, found = named_rng("nested components"), []
    for _ in range(300):
        found.append(list(vars(nested_components(rng.normal(size=12) + 2 * rng.normal(size=(3, 12)))).values()))
    assert np.mean(found, axis=0) == pytest.approx((0, 1, 4), rel=0.15)
    short = nested_components([[80.0, 82.0, 84.0, 85.0], [81.0, 83.0, 86.0, np.nan]])
    means = [80.5, 82.5, 85.0, 85.0]
    assert short.residual == pytest.approx((0.5 + 0.5 + 2) / 3)
    assert short.subject == pytest.approx(np.var(means, ddof=1) - (3 * 0.5 + 1) / 4 * short.residual)
    alone = nested_components([[1.0, 2.0, 3.0]])
    assert (alone.subject, alone.residual) == (1, 0) and np.isnan(nested_components(np.ones((5, 1))).residual)


def test_what_apart_trainings_need_is_what_their_intervals_have():
    parts = NestedComponents(0.0, 0.3, 1.0)
    seeds = needed(parts, 1.0, 8)
    half = [stats.t.ppf(0.975, 3.2) * ((0.3 + 1 / n) / 8) ** 0.5 for n in (seeds, seeds - 1)]
    assert half[0] < 1 < half[1]
