"What a study costs, by hand."

import sys

import pytest
from sharing import ROOT

from ada_repro.core import Run
from ada_repro.evidence.keeping import runs_of

sys.path.insert(0, str(ROOT / "docs"))

import count_cost  # noqa: E402

RUNS = runs_of(["none", "gradcam"], ["A", "B"], [0, 1])
SECONDS = {Run("baseline", "A", 0): 100.0, Run("none", "A", 0): 900.0, Run("gradcam", "A", 0): 1100.0}


def test_what_is_not_there_lasts_as_long_as_its_kind():
    full = count_cost.with_guesses(RUNS, SECONDS)
    assert len(full) == 12 and full[Run("baseline", "B", 1)] == 100 and full[Run("none", "B", 1)] == 1000
    assert full[Run("none", "A", 0)] == 900
    assert count_cost.with_guesses(RUNS, {}) == {}


def test_a_row_by_hand():
    name, runs, done, spent, whole, *hours = count_cost.row_of("x", RUNS, SECONDS)
    total = (4 * 100 + 8 * 1000) / 3600
    assert (runs, done) == ("12", "3") and float(spent) == pytest.approx(2100 / 3600, abs=0.05)
    assert float(whole) == pytest.approx(total, abs=0.05) and float(hours[0]) == pytest.approx(total, abs=0.05)
    assert float(hours[2]) == pytest.approx(1200 / 3600, abs=0.05)  # a baseline and the longest arm


def test_a_core_counts_for_each_thread():
    records = {RUNS[0]: {"seconds": 10, "threads": 2}, RUNS[1]: {"seconds": 10}}
    assert count_cost.core_seconds(records) == {RUNS[0]: 20, RUNS[1]: 10}


def test_what_the_cores_worked_goes_before_the_clock():
    records = {RUNS[0]: {"seconds": 10, "core_seconds": 6.5, "threads": 2}, RUNS[1]: {"seconds": 10}}
    assert count_cost.core_seconds(records) == {RUNS[0]: 6.5, RUNS[1]: 10}
