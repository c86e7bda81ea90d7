"Do the intervals hold the truth as often as they say? Ours and the percentile bootstrap, on drawn tables."

import argparse
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from ada_repro.core import named_rng
from ada_repro.data.tables import save_table
from ada_repro.evidence.intervals import estimate, nested_estimate
from ada_repro.evidence.verdicts import SeedRange

SIZES = tuple(product((2, 5, 10), (2, 5, 8, 20)))  # Seeds, subjects
NESTED_SIZES = tuple(product((1, 2, 5), (2, 5, 8, 20)))  # Each subject has so many trainings of its own
NESTED_SHARES = ("subjects alone", "the rest alone", "mostly subjects", "mostly the rest", "a third each")
SHARES = {  # Of the variance of a cell: seeds, subjects, the rest
    "seeds alone": (1, 0, 0),
    "subjects alone": (0, 1, 0),
    "the rest alone": (0, 0, 1),
    "seeds and subjects": (0.5, 0.5, 0),
    "mostly seeds": (0.8, 0.1, 0.1),
    "mostly subjects": (0.1, 0.8, 0.1),
    "mostly the rest": (0.1, 0.1, 0.8),
    "a third each": (1 / 3, 1 / 3, 1 / 3),
}
EFFECTS = ("normal", "lognormal", "exponential")
HEAVY = "heavy lognormal"  # Beyond what is promised
LAYOUTS = ("full", "unequal slices", "missing cells")
SLICES = (
    3,
    25,
    12,
    6,
    13,
    9,
    20,
    3,
    12,
    28,
    7,
    15,
    3,
    12,
    25,
    6,
    13,
    20,
    9,
    12,
)  # Slices of a subject, as in the challenge
SKEWNESS_OF_SIGMA = {"lognormal": 0.5, HEAVY: 1.0}
RESAMPLES = 500
STRICT = 0.997  # The level at which about twenty verdicts are read together
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    "What tables are drawn from."

    seeds: int
    subjects: int
    shares: str  # Of `SHARES`
    effects: str  # Of `EFFECTS`
    layout: str  # Of `LAYOUTS`
    design: str = "crossed"  # nested: no two subjects share a training


def effects(
    kind: str,  # Of `EFFECTS`
    rng: np.random.Generator,  # Source of chance
    shape: tuple,  # Of what is drawn
) -> np.ndarray:  # Mean 0, variance 1
    "Random effects; skewness 0, 1.75, 2, or 6.2 for the heavy ones."
    if kind == "normal":
        return rng.normal(size=shape)
    if kind == "exponential":
        return rng.exponential(size=shape) - 1
    variance = SKEWNESS_OF_SIGMA[kind] ** 2
    deviation = np.sqrt((np.exp(variance) - 1) * np.exp(variance))
    return (rng.lognormal(0, np.sqrt(variance), shape) - np.exp(variance / 2)) / deviation


def weights_of(
    case: Case,
) -> np.ndarray:  # (seeds, subjects), their sum is 1; 0 where there is no cell
    "What each cell counts in the mean."
    shape = (case.seeds, case.subjects)
    weights = np.ones(shape)
    if case.layout == "unequal slices":
        weights = np.broadcast_to(SLICES[: case.subjects], shape).astype(float)
    if case.layout == "missing cells":
        size = case.seeds * case.subjects
        gone = named_rng("missing", *shape).permutation(size)[: max(1, size // 8)]
        weights.flat[gone] = 0
    return weights / weights.sum()


def rest_of(
    case: Case,
) -> np.ndarray:  # (subjects,) standard deviations
    "How much of the rest is left in a cell: half of it is averaged over the slices, where they are unequal."
    if case.layout != "unequal slices":
        return np.ones(case.subjects)
    slices = np.array(SLICES[: case.subjects])
    return np.sqrt(0.5 + 0.5 * slices.mean() / slices)


def drawn_tables(
    case: Case,
    draws: int,  # How many tables
) -> np.ndarray:  # (draws, seeds, subjects), their expectation is 0; NaN where a cell is missing
    "Tables with known components."
    rng = named_rng("coverage", case.seeds, case.subjects, case.effects, case.layout)
    seed, subject, rest = np.sqrt(SHARES[case.shares])
    shape = (draws, case.seeds, case.subjects)
    tables = seed * effects(case.effects, rng, shape if case.design == "nested" else (*shape[:2], 1))
    tables = tables + subject * effects(case.effects, rng, (draws, 1, case.subjects))
    if rest:
        tables = tables + rest * rest_of(case) * effects(case.effects, rng, shape)
    return np.where(weights_of(case) > 0, tables, np.nan)


def known_deviation(
    case: Case,
) -> float:
    "The standard deviation of the mean, were the components known."
    weights = weights_of(case)
    seed, subject, rest = SHARES[case.shares]
    by_cell = ((weights * rest_of(case)) ** 2).sum()
    by_seed = weights**2 if case.design == "nested" else weights.sum(1) ** 2
    return np.sqrt(seed * by_seed.sum() + subject * (weights.sum(0) ** 2).sum() + rest * by_cell)


def bootstrap_ends(
    tables: np.ndarray,  # (draws, seeds, subjects)
    weights: np.ndarray,  # (seeds, subjects)
) -> tuple:  # (draws,) low, high
    "The percentile bootstrap over seeds and subjects, the same resamples for all tables."
    drawn = []
    for n, what in zip(weights.shape, ("seeds", "subjects"), strict=True):
        drawn.append(named_rng("bootstrap", what, n).multinomial(n, np.full(n, 1 / n), RESAMPLES))
    counts = drawn[0][:, :, None] * drawn[1][:, None] * weights
    total = counts.sum((1, 2))
    counts = counts[total > 0] / total[total > 0][:, None, None]
    means = np.nan_to_num(tables).reshape(len(tables), -1) @ counts.reshape(len(counts), -1).T
    return tuple(np.percentile(means, [2.5, 97.5], axis=1))


def share_held(
    low: np.ndarray,  # (draws,)
    high: np.ndarray,  # (draws,)
) -> float:  # In [0, 1]
    "How many intervals hold 0."
    return round(((low <= 1e-12) & (high >= -1e-12)).mean(), 4)


def coverage(
    case: Case,
    draws: int,  # Tables for our interval
    resampled: int,  # How many of them the bootstrap gets
) -> dict:  # Columns of the table
    "How often both intervals hold the truth, and how wide they are against one of known components."
    tables, weights = drawn_tables(case, draws), weights_of(case)
    ours = (nested_estimate if case.design == "nested" else estimate)(tables, weights)
    theirs = bootstrap_ends(tables[:resampled], weights)
    known = 2 * 1.96 * known_deviation(case)
    row = dict(vars(case))
    for name, (low, high) in {"crossed": ours.ends(), "bootstrap": theirs}.items():
        row[name] = share_held(low, high)
        row[f"{name}_width"] = round((high - low).mean() / known, 2)
    return row | {"strict": share_held(*ours.ends(STRICT))}


def cases() -> list:  # Of Case
    "All that is drawn: every mixture, and the heavy tail for subjects alone."
    found = [Case(*size, *rest) for size, *rest in product(SIZES, SHARES, EFFECTS, LAYOUTS)]
    found += [Case(*size, "subjects alone", HEAVY, "full") for size in SIZES]
    nested = product(NESTED_SIZES, NESTED_SHARES, EFFECTS, LAYOUTS[:2])
    found += [Case(*size, *rest, "nested") for size, *rest in nested]
    few = {size for size in SIZES if size[0] * size[1] < 10}  # Where one cell is missing, nothing is left to tell
    return [case for case in found if case.layout != "missing cells" or (case.seeds, case.subjects) not in few]


PAGE = """# Do the intervals cover?

`python benchmarks/coverage.py` draws tables of seeds and subjects from known variance components, lays
`crossed_interval` around the mean of each, and counts how often it holds the truth: {draws} tables a case, {cases}
cases (in `benchmarks/coverage.csv`, with those of the sections below but the last). Beside it stands the percentile
bootstrap over seeds and subjects that was used here before ({resampled} of the tables, {resamples} resamples). The
cases are {shares} mixtures of components (one source alone, mostly one, two, all three); three kinds of effects, for
seeds, subjects and the rest alike (normal; lognormal, skewness 1.75; exponential, skewness 2); and three layouts
(full; 3 to 28 slices a subject, the mean over slices; one cell in eight missing).

The lowest coverage in percent of an interval called 95 %, for each size, over all mixtures and layouts. Lowest of all:
**{lowest} %**; of the bootstrap {bootstrap} %. Verdicts are read together, at 99.6 or 99.7 % each: of an
interval called 99.7 % the column *strict* is the lowest coverage.

{covered}

The mean width, as a multiple of an interval that knows the components (normal effects, full tables, mean over the
mixtures). No interval from two seeds is narrow: two numbers say little about their own spread. With five seeds and
eight subjects the price for knowing neither components nor distribution is a factor of {factor}.

{wide}

## Trainings apart

On the open scans each of five people has trainings of their own, without their site: `nested_estimate`, one training a
person or more, otherwise drawn alike. Lowest of all: **{nested_lowest} %**; {nested_strict} % where
99.7 % is promised.

{nested}

What is not promised: subjects with a very heavy tail (lognormal, skewness 6.2, nothing else varies). There it covers
{heavy} % (of 99.7 promised, {heavy_strict}): most samples do not show such a tail.

## The range over seeds

S7 asks how far the seeds of an arm lie apart. `SeedRange` around the mean range of seven arms that share their seeds:
the lowest coverage where nothing, half, or all of what a seed does is common to the arms.

{ranges}
"""


def nested_table(
    table: pd.DataFrame,  # A row per nested case
) -> pd.DataFrame:  # Of texts
    "Coverage and width where each subject has its own trainings."
    size, skewed = ["seeds", "subjects"], table.effects != "normal"
    full = table[~skewed & (table.layout == "full")].groupby(size)
    columns = {
        "normal": (100 * table[~skewed].groupby(size).crossed.min()).map("{:.1f}".format),
        "skewed": (100 * table[skewed].groupby(size).crossed.min()).map("{:.1f}".format),
        "strict": (100 * table.groupby(size).strict.min()).map("{:.1f}".format),
        "width": full.crossed_width.mean().map("{:.2f}".format),
    }
    return pd.DataFrame(columns).reset_index().rename(columns={"seeds": "trainings each"})


def ranges_held(
    seeds: int,
    kind: str,  # Of `EFFECTS`
    shared: float,  # Share of a seed's variance that all arms have in common, in [0, 1]
    level: float,  # In (0, 1)
    draws: int,  # Studies of seven arms
) -> float:  # In [0, 1]
    "How often the interval of the mean range holds the range that is expected."
    rng = named_rng("ranges", seeds, kind, shared)
    common, own = effects(kind, rng, (draws, 1, seeds)), effects(kind, rng, (draws, 7, seeds))
    found = np.ptp(shared**0.5 * common + (1 - shared) ** 0.5 * own, axis=2).mean(axis=1)
    low, high = SeedRange(found, seeds).ends(level)
    return ((low <= found.mean()) & (found.mean() <= high)).mean()


def ranges_table(
    draws: int,  # Studies of seven arms a case
) -> pd.DataFrame:  # Of texts
    "Coverage of the range over seeds."
    rows = []
    for seeds in (2, 3, 5, 10):
        row = {"seeds": seeds}
        for name, kinds, level in (
            ("normal", EFFECTS[:1], 0.95),
            ("skewed", EFFECTS[1:], 0.95),
            ("strict", EFFECTS, STRICT),
        ):
            held = [ranges_held(seeds, kind, shared, level, draws) for kind, shared in product(kinds, (0, 0.5, 1))]
            row[name] = f"{100 * min(held):.1f}"
        rows.append(row)
    return pd.DataFrame(rows)


def page(
    table: pd.DataFrame,  # A row per case
    draws: int,  # Tables a case
    resampled: int,  # Of these for the bootstrap
) -> str:
    "What it says, in Markdown."
    heavy, table = table[table.effects == HEAVY], table[table.effects != HEAVY]
    apart, table = table[table.design == "nested"], table[table.design == "crossed"]
    size, skewed = ["seeds", "subjects"], table.effects != "normal"
    lowest = {
        "normal": table[~skewed].groupby(size).crossed.min(),
        "skewed": table[skewed].groupby(size).crossed.min(),
        "strict": table.groupby(size).strict.min(),
        "bootstrap, normal": table[~skewed].groupby(size).bootstrap.min(),
        "bootstrap, skewed": table[skewed].groupby(size).bootstrap.min(),
    }
    plain = table[~skewed & (table.layout == "full")].groupby(size)[["crossed_width", "bootstrap_width"]].mean()
    covered = (100 * pd.DataFrame(lowest)).map("{:.1f}".format).reset_index()
    wide = plain.map("{:.2f}".format).reset_index().set_axis([*size, "crossed", "bootstrap"], axis=1)
    return PAGE.format(
        nested=markdown(nested_table(apart)),
        ranges=markdown(ranges_table(draws)),
        nested_lowest=f"{100 * apart.crossed.min():.1f}",
        nested_strict=f"{100 * apart.strict.min():.1f}",
        draws=draws,
        cases=len(table),
        shares=len(SHARES),
        resampled=resampled,
        resamples=RESAMPLES,
        lowest=f"{100 * table.crossed.min():.1f}",
        bootstrap=f"{100 * table.bootstrap.min():.0f}",
        covered=markdown(covered),
        wide=markdown(wide),
        factor=plain.crossed_width[5, 8].round(1),
        heavy=f"{100 * heavy.crossed.min():.0f} to {100 * heavy.crossed.max():.0f}",
        heavy_strict=f"{100 * heavy.strict.min():.0f} to {100 * heavy.strict.max():.0f}",
    )


def markdown(
    table: pd.DataFrame,  # Short
) -> str:
    "A table as Markdown."
    rows = [table.columns, ["---"] * table.shape[1], *table.astype(object).to_numpy()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def main(
    draws: int,  # Tables a case
    resampled: int,  # Of these for the bootstrap
):
    "Write `benchmarks/coverage.csv` and `docs/coverage.md`."
    table = pd.DataFrame([coverage(case, draws, resampled) for case in cases()])
    save_table(table, HERE / "coverage.csv")
    (HERE.parent / "docs" / "coverage.md").write_text(page(table, draws, resampled))
    promised = table[table.effects != HEAVY]
    print(f"Lowest coverage: {promised.crossed.min():.2%}; of the bootstrap: {promised.bootstrap.min():.2%}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=40_000, help="tables a case")
    parser.add_argument("--resampled", type=int, default=4_000, help="of these for the bootstrap")
    main(**vars(parser.parse_args()))
