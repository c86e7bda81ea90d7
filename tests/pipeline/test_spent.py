"What a start costs: counters that begin again, a line for what lasted, none for what did not."

import csv
import json
import os
import time

import pytest

from ada_repro.pipeline import spent
from ada_repro.pipeline.spent import (
    COLUMNS,
    core_seconds,
    counted,
    joules_between,
    joules_counted,
    noted_seconds,
    read_counters,
)


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


def test_a_counter_that_begins_again_twice_is_read_in_between(tmp_path, monkeypatch):
    monkeypatch.setattr(spent, "READ_EVERY_S", 0.02)
    counter = tmp_path / "intel-rapl:0"
    counter.mkdir()
    (counter / "max_energy_range_uj").write_text("999999")

    def stand(joules):
        (counter / "new").write_text(str(round(joules * 1e6) % 1_000_000))
        (counter / "new").replace(counter / "energy_uj")

    stand(0)
    with joules_counted(tmp_path) as parts:
        for joules in (0.6, 1.2, 1.8, 2.4):
            n = len(parts)
            while len(parts) < n + 2:
                time.sleep(0.005)
            stand(joules)
    assert sum(parts) == pytest.approx(2.4)


def test_where_nothing_counts_there_are_no_joules(tmp_path):
    with joules_counted(tmp_path) as parts:
        pass
    assert parts == [None]


def test_stages_that_ended_since_count_whoever_ran_them(tmp_path, monkeypatch):
    for name, seconds, age in (("old", 100, 60), ("new", 7.5, 0), ("newer", 2, 0)):
        note = tmp_path / f"{name}.json"
        note.write_text(json.dumps({"seconds": 1, "core_seconds": seconds}))
        os.utime(note, (time.time() - age,) * 2)
    (tmp_path / "bare.json").write_text("{}")
    (tmp_path / "broken.json").write_text('{"core')
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "word.json").write_text('{"core_seconds": "long"}')
    assert noted_seconds(tmp_path, time.time() - 30) == 9.5 and noted_seconds(tmp_path / "no", 0) == 0
    monkeypatch.setattr(spent, "SHORTEST_S", 0)
    (tmp_path / "executed").mkdir()
    with counted(tmp_path / "spent.csv"):
        (tmp_path / "executed" / "ada.json").write_text('{"core_seconds": 50}')
    assert 50 <= float(next(csv.DictReader((tmp_path / "spent.csv").open()))["core_seconds"]) <= 51


def test_what_was_short_leaves_nothing(tmp_path):
    with counted(tmp_path / "spent.csv"):
        pass
    assert not list(tmp_path.iterdir())


def test_cores_work_while_this_counts():
    before = core_seconds()
    total = sum(i * i for i in range(10**6))
    assert total and core_seconds() > before
