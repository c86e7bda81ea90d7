"What a start costs: counters that begin again, a line for what lasted, none for what did not."

import csv

import pytest

from ada_repro.pipeline import spent
from ada_repro.pipeline.spent import COLUMNS, core_seconds, counted, joules_between, read_counters


@pytest.mark.parametrize(
    "before, after, joules",
    [
        ({"a": (1_000_000, 9_999_999)}, {"a": (3_000_000, 9_999_999)}, 2.0),
        ({"a": (9_000_000, 9_999_999)}, {"a": (1_000_000, 9_999_999)}, 2.0),
        ({"a": (0, 9)}, {}, None),
        ({}, {}, None),
    ],
)
def test_joules(before, after, joules):
    assert joules_between(before, after) == joules


def test_a_counter_that_may_not_be_read_is_none(tmp_path):
    (tmp_path / "intel-rapl:0").mkdir()
    assert read_counters(tmp_path) == {} and read_counters(tmp_path / "no") == {}


def test_a_line_for_each_that_lasted_however_it_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(spent, "SHORTEST_S", 0)
    path = tmp_path / "spent.csv"
    with counted(path):
        pass
    with pytest.raises(ValueError, match="broken"), counted(path):
        raise ValueError("broken")
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 2 and tuple(rows[0]) == COLUMNS and all(float(row["seconds"]) >= 0 for row in rows)


def test_what_was_short_leaves_nothing(tmp_path):
    with counted(tmp_path / "spent.csv"):
        pass
    assert not list(tmp_path.iterdir())


def test_cores_work_while_this_counts():
    before = core_seconds()
    total = sum(i * i for i in range(10**6))
    assert total and core_seconds() > before
