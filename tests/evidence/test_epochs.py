"What histories say: milestones, the context rule, the first epoch, the last cycles, each by a second look."

import numpy as np
import pandas as pd
import pytest

from ada_repro.core import FIGURES
from ada_repro.data.tables import read_table
from ada_repro.evidence.epochs import (
    ahead_until,
    best_epochs,
    context_line,
    does_without,
    last_cycles,
    last_epochs,
    milestones,
    reading_line,
    table13,
    table14,
    takes_looking,
    with_context,
)
from ada_repro.evidence.figures import figure_style, plot_without_context
from ada_repro.evidence.verdicts import FALLS, OPEN, STANDS
from ada_repro.method.arms import METHODS

PAPER = read_table(FIGURES / "paper" / "figure2.csv")
ARMS = [*METHODS, "none", "random"]


def history(arms=ARMS, folds=("A", "B", "C"), seeds=(0, 1), schedule=(100, 31, 30), without=()):
    "Made up; the arms `without` lose a point without context, the others forty."
    standard, cycles, ada_epochs = schedule
    rng, runs = np.random.default_rng(0), []
    for arm in ["baseline", *arms]:
        epochs = np.arange(1, standard + 1)
        if arm != "baseline":
            epochs = standard + np.arange(1, cycles * ada_epochs + 1)
        cycle = np.ceil(np.maximum(epochs - standard, 0) / ada_epochs).astype(int)
        asked = (epochs % 10 == 0) | (epochs == epochs[-1]) | ((epochs - standard) % ada_epochs == 0)
        for fold in folds:
            for seed in seeds:
                dice = 80 + rng.normal(0, 0.3, len(epochs))
                context = np.where(asked, dice - (1 if arm in without else 40), np.nan)
                rows = {"epoch": epochs, "cycle": cycle, "DSC": dice, "DSC_a": dice - 1, "DSC_b": dice + 1}
                runs.append(pd.DataFrame(rows | {"DSC_context": context}).assign(arm=arm, fold=fold, seed=seed))
    return pd.concat(runs, ignore_index=True)


@pytest.mark.parametrize(
    "schedule, epochs",
    [((100, 31, 30), [100, 130, 250, 500, 1030]), ((40, 3, 3), [40, 43, 49]), ((2, 1, 1), [2, 3])],
)
def test_the_epochs_of_the_issue_at_the_papers_schedule_and_the_nearest_elsewhere(schedule, epochs):
    assert milestones(history(schedule=schedule)) == epochs


def test_the_table_holds_means_over_runs():
    h = history()
    table = table13(h).set_index("arm")
    for arm in ("gradcam", "none"):
        for epoch in (130, 250, 500, 1030):
            rows = h[(h.arm == arm) & (h.epoch == epoch)]
            assert table.loc[arm, f"context_{epoch}"] == pytest.approx(rows.DSC_context.mean())
        rows = h[(h.arm == arm) & (h.epoch == 1030)]
        assert table.loc[arm, "lost_context"] == pytest.approx((rows.DSC - rows.DSC_context).mean())
        other = h[(h.arm == "random") & (h.epoch == 1030)]
        gap = rows.DSC_context.mean() - other.DSC_context.mean()
        assert table.loc[arm, "context_minus_random"] == pytest.approx(gap)
    assert np.isfinite(table.loc["baseline", "context_100"]) and np.isnan(table.loc["baseline", "context_130"])
    assert np.isnan(table.loc["random", "context_minus_random"])


def test_who_does_without_and_whether_it_takes_looking():
    study = {"folds": "ABCDE", "seeds": range(5)}
    any_hole = context_line(history(without=[*METHODS, "random"], **study))
    assert "That stands for Vanilla backprop" in any_hole and "Random window." in any_hole
    assert "That does not stand for No hole." in any_hole and "takes looking does not stand" in any_hole
    looking = context_line(history(without=METHODS, **study))
    assert "That does not stand for No hole; Random window." in looking and "takes looking stands" in looking
    assert takes_looking(history(without=METHODS))["difference"] == pytest.approx(39, abs=1)


def test_one_fold_and_one_seed_tell_nothing():
    one = history(folds=["paper"], seeds=[0])
    assert "That cannot be told for" in context_line(one) and takes_looking(one)["verdict"] == OPEN


def test_without_random_windows_nothing_is_said_of_looking():
    for arms in (["gradcam", "none"], ["random"]):
        assert takes_looking(history(arms))["verdict"] == OPEN
        assert "nan" not in context_line(history(arms)) and "looking" not in context_line(history(arms))


@pytest.mark.parametrize(
    "low, high, verdict", [(1, 4.9, STANDS), (5.1, 9, FALLS), (4, 6, OPEN), (np.nan, np.nan, OPEN)]
)
def test_the_rule(low, high, verdict):
    assert does_without(low, high) == verdict


def test_histories_of_older_runs_have_no_such_column():
    old = history().drop(columns="DSC_context")
    assert with_context(old).DSC_context.isna().all()
    assert "do not say" in context_line(old) and len(table13(old)) == 8
    figure_style()
    assert len(plot_without_context(old).axes) == 1


def test_the_first_epoch_beside_the_paper():
    h = history()
    table = table14(h, PAPER).set_index("arm")
    assert table.loc["gradcam", "first_paper"] == "above 80" and table.loc["vanilla", "first_paper"] == "below 79"
    assert table.loc["none", "first_paper"] == "–" and "baseline" not in table.index
    first = h[(h.arm == "vanilla") & (h.epoch == 101)]
    assert table.loc["vanilla", "DSC_first"] == pytest.approx(first.DSC.mean())


@pytest.mark.parametrize("until", [None, 101, 123, 1030])
def test_until_when_gradcam_is_ahead(until):
    h = history()
    h["DSC"] = 80.0
    ahead = (h.arm == "gradcam") & (h.epoch <= (until or 100))
    h.loc[ahead, "DSC"] = 81.0
    h.loc[(h.arm == "gradcam") & (h.epoch == 500), "DSC"] += 5  # ahead again later does not count
    h.loc[(h.arm == "gradcam") & ~ahead & (h.epoch != 500), "DSC"] = 79.0
    assert ahead_until(h) == until
    said = reading_line(h, PAPER)
    assert "about epoch 123" in said and (f"until epoch {until}" in said if until else "not even" in said)
    assert "nothing can be said" in reading_line(h[h.arm != "vanilla"], PAPER)


@pytest.mark.parametrize("schedule, epochs", [((100, 31, 30), 90), ((40, 3, 3), 3), ((2, 1, 1), 1), ((9, 10, 2), 2)])
def test_the_last_tenth_of_the_cycles(schedule, epochs):
    assert last_epochs(history(schedule=schedule)) == epochs


def test_each_run_at_its_best_and_in_its_last_cycles():
    h = history()
    best, late = best_epochs(h), last_cycles(h)
    assert len(best) == len(late) == 8 * 3 * 2 and set(best.subject) == {"A", "B", "C"}
    for arm, last in {"none": 90, "baseline": 10}.items():
        one = h[(h.arm == arm) & (h.fold == "B") & (h.seed == 1)]
        at = [rows[(rows.arm == arm) & (rows.fold == "B") & (rows.seed == 1)].DSC for rows in (best, late)]
        assert at[0].tolist() == [one.DSC.max()] and at[1].tolist() == pytest.approx([one.DSC.iloc[-last:].mean()])


def test_with_one_fold_either_half_is_a_person():
    h = history(folds=["paper"])
    best = best_epochs(h)
    assert set(best.subject) == {"paper-a", "paper-b"} and len(best) == 8 * 2 * 2
    one = h[(h.arm == "none") & (h.seed == 1)]
    at = best[(best.arm == "none") & (best.seed == 1)].set_index("subject").DSC
    row = one.loc[one.DSC.idxmax()]  # one epoch for both halves
    assert at["paper-a"] == row.DSC_a and at["paper-b"] == row.DSC_b
