"What is shown of all that runs: logs as they grow, and how long it takes until all have ended."

import io
import random
import re
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from sharing import ROOT
from tqdm import tqdm

from ada_repro.pipeline.engine import first_things_first
from ada_repro.pipeline.progress import (
    Board,
    Log,
    Times,
    benchmarked,
    count,
    earlier,
    in_words,
    kind_of,
    leave,
    look,
    play_through,
    seconds_left,
    shares,
    time_left,
)

SAYS = """
import os, sys, time
for part in {parts!r}: os.write(1, part); time.sleep(.05)
"""


@pytest.mark.parametrize(
    "parts, whole",
    [
        ([b"one\ntwo\n"], ["one\n", "two\n"]),
        ([b"on", b"e\ntw", b"o"], ["one\n", "two"]),
        ([b"\r 1%", b"\r 2%\r", b" 3%\nend\n"], ["\r", " 1%\r", " 2%\r", " 3%\n", "end\n"]),
        ([], []),
        ([b"\n\n"], ["\n", "\n"]),
        (["a █".encode()[:-1], "a █".encode()[-1:] + b"\rb"], ["a █\r", "b"]),
        ([b"\xff\n"], ["\ufffd\n"]),
        ([b"x" * 100_000 + b"\n"], ["x" * 100_000 + "\n"]),
    ],
    ids=range(8),
)
def test_pieces_of_a_log(parts, whole, tmp_path):
    log, seen = Log(tmp_path / "log"), []
    with (tmp_path / "log").open("wb") as said:
        process = subprocess.Popen([sys.executable, "-c", SAYS.format(parts=parts)], stdout=said)
        while process.poll() is None:
            seen += log.pieces()
            time.sleep(0.01)
    assert seen + log.pieces(is_over=True) == whole


def test_what_was_there_before_is_passed_over(tmp_path):
    (tmp_path / "log").write_text("old\n")
    log = Log(tmp_path / "log")
    with (tmp_path / "log").open("a") as file:
        file.write("new\n")
    assert log.pieces() == ["new\n"]


# How long
@pytest.mark.parametrize(
    "name, kind",
    [
        ("check", "check"),
        ("ada@gradcam-paper-0", "ada"),
        ("ada-gradcam-0", "ada"),
        ("robustness_baseline@paper-0", "robustness"),
        ("evidence/dvc.yaml:look@paper-0", "look"),
    ],
)
def test_kinds(name, kind):
    assert kind_of(name) == kind


@pytest.mark.parametrize("done, took_s, left_s", [(0, 1, None), (10, 10, 30), (10, 7210, 21630), (40, 5, 0)])
def test_a_bar_says_how_long_it_will_take(done, took_s, left_s):
    state = tqdm.format_meter(done, 40, took_s, prefix="baseline-paper-0", unit="epoch", postfix="DSC=80.1")
    assert seconds_left(state) == left_s and seconds_left("no bar") is None


def test_what_was_seen_counts_before_the_bar_and_the_bar_before_other_runs():
    assert Times({}).of("nobody knows") is None
    times = Times({"ada": 60.0, "baseline": 100.0, "figures": 8.0})
    assert times.of("ada@a-0") == 60 and times.of("nobody knows") == 56, "as the others in the mean"
    times.saw("baseline@paper-0", 200.0)
    assert times.of("ada@a-0") == 120 and times.of("figures") == 16, "this machine is half as fast"
    times.bars["ada"] = 90.0
    assert times.of("ada@a-0") == 90
    times.saw("ada@a-0", 70.0)
    times.saw("ada@b-0", 80.0)
    assert times.of("ada@c-0") == 75 and times.of("figures") == pytest.approx(8 * 275 / 160)


def test_what_earlier_runs_took(tmp_path):
    assert earlier(tmp_path) == {}
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "repro.csv").write_text(
        "what,seconds,peak_memory_mb\nada-a-0,50,1\nada-b-0,70,1\nfigures,8,1\n"
    )
    assert earlier(tmp_path) == {"ada": 60, "figures": 8}
    (tmp_path / "data" / "executed").mkdir(parents=True)
    (tmp_path / "data" / "executed" / "ada-a-paper-0.json").write_text('{"seconds": 10.5, "peak_memory_mb": 1}')
    assert earlier(tmp_path) == {"ada": 10.5, "figures": 8}


def played_by_the_second(needs, seconds, room):
    "The same, tick by tick."
    left, busy, now = dict(needs), {}, 0
    while left:
        for name in needs:
            if name in left and name not in busy and len(busy) < room and not needs[name] & left.keys():
                busy[name] = now + seconds[name]
        now += 1
        for name in [name for name, end in busy.items() if end <= now]:
            del busy[name], left[name]
    return now


@pytest.mark.parametrize("seed", range(20))
def test_playing_through_is_what_happens(seed):
    rng = random.Random(seed)
    names = [f"s{i}" for i in range(rng.randint(1, 15))]
    needs = {name: {before for before in names[:i] if rng.random() < 0.2} for i, name in enumerate(names)}
    seconds = {name: float(rng.randint(1, 9)) for name in names}
    for room in (1, 2, 4):
        assert play_through(needs, seconds, [], room) == played_by_the_second(needs, seconds, room)
    assert play_through(needs, seconds, [], 1) == sum(seconds.values())


def test_what_is_at_work_counts_by_what_is_left_of_it():
    needs = {"a": set(), "b": set(), "c": {"a"}}
    assert play_through(needs, {"a": 5.0, "b": 20.0, "c": 10.0}, ["a", "b"], 2) == 20
    assert play_through(needs, {"a": 15.0, "b": 20.0, "c": 10.0}, ["a", "b"], 2) == 25


@pytest.mark.parametrize("seconds, words", [(3, "10 s"), (64, "60 s"), (300, "5 min"), (9000, "2.5 h")])
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words


LAPTOP_S = {
    "check": 5,
    "phantom": 19,
    "prepare": 16,
    "baseline": 115,
    "ada": 58,
    "robustness": 31,
    "iou": 4,
    "figures": 8,
}


def laptop():
    "The graph of the laptop profile."
    needs = {"check": set(), "phantom": {"check"}, "prepare": {"phantom"}, "baseline@0": {"prepare"}}
    needs |= {f"ada@{arm}-0": {"baseline@0"} for arm in "abcdefg"}
    needs |= {f"robustness@{arm}-0": {f"ada@{arm}-0"} for arm in "abcdefg"}
    needs["iou"] = {name for name in needs if name.startswith("ada")}
    needs["figures"] = {"iou", *(name for name in needs if name.startswith("robustness"))}
    return needs


@pytest.mark.parametrize("speed", [0.6, 1.0, 2.5])
@pytest.mark.parametrize("seed", range(5))
def test_after_a_minute_the_estimate_is_right_within_a_quarter(seed, speed):
    "On another machine than that of the benchmarks, whose kinds of stages differ by a fifth more."
    needs, rng = laptop(), random.Random(seed)
    factor = {kind: speed * rng.uniform(0.8, 1.2) for kind in LAPTOP_S}
    seconds = {name: LAPTOP_S[kind_of(name)] * factor[kind_of(name)] for name in needs}
    takes = play_through(needs, seconds, [], 2)
    times, left, now = Times(LAPTOP_S), dict(needs), 0
    for name in ("check", "phantom", "prepare", "baseline@0"):  # one after another
        if now + seconds[name] > 60:
            break
        now += seconds[name]
        times.saw(name, seconds[name])
        del left[name]
    if name == "baseline@0":
        times.bars["baseline"] = seconds[name]  # as its bar says
    guessed = {other: times.of(other) for other in left}
    guessed[name] = max(1.0, guessed[name] - (60 - now))
    assert 60 + play_through(left, guessed, [name], 2) == pytest.approx(takes, rel=0.25)


class Silent:
    "In place of a bar."

    def write(self, *words, **named):
        pass

    update = set_postfix_str = write


def told_each_second(seconds, times, monkeypatch):
    "How long the rest was said to take, and took, at each second of a run of these stages, two at a time."
    now, ends, told = 0.0, {}, []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    needs = first_things_first(laptop_of(seconds))
    board = Board(needs, times, Silent())
    while board.left:
        for name in [name for name, end in ends.items() if end <= now]:
            times.saw(name, leave(board, name))
            count(board, name)
            del ends[name]
        for name in needs:
            if name in board.left and name not in ends and len(ends) < 2 and not needs[name] & board.left.keys():
                board.begin(name, Path("no log"))
                ends[name] = now + seconds[name]
        for name in ends:
            if kind_of(name) in ("ada", "baseline") and now - board.since[name] > 5:
                times.will_take(name, seconds[name])  # as its bar says
        told.append(time_left(board, 2))
        now += 1
    return [(said, len(told) - 1 - i) for i, said in enumerate(told)]


def laptop_of(seconds):
    "The graph of the laptop profile, of the stages that the benchmarks know."
    needs = {name: {"baseline@paper-0"} for name in seconds}
    needs |= {"check": set(), "phantom": {"check"}, "prepare": {"phantom"}, "baseline@paper-0": {"prepare"}}
    needs |= {name: {name.replace("robustness", "ada")} for name in seconds if name.startswith("robustness@")}
    needs["iou"] = {name for name in seconds if name.startswith("ada")}
    needs["weights"] = {name for name in seconds if name.startswith("robustness")}
    return needs | {"figures": {"iou", *needs["weights"]}}


@pytest.mark.parametrize("speed", [0.6, 1.0, 2.5])
@pytest.mark.parametrize("seed", range(5))
def test_from_the_first_minute_to_the_end_the_estimate_is_right_within_a_quarter(seed, speed, tmp_path, monkeypatch):
    "Or within three seconds; on a machine whose kinds of stages differ by a fifth more, its runs by a twentieth."
    rng, seconds = random.Random(seed), {}
    (tmp_path / "benchmarks").mkdir()
    shutil.copy(ROOT / "benchmarks" / "repro.csv", tmp_path / "benchmarks")  # without what was run here
    factor = {kind: speed * rng.uniform(0.8, 1.2) for kind in earlier(tmp_path)}
    for run, took in benchmarked(ROOT).items():
        name = run.replace("robustness-baseline-", "robustness_baseline@")
        stage = re.sub(r"^(ada|baseline|robustness)-", r"\1@", name)
        seconds[stage] = took * factor[kind_of(run)] * rng.uniform(0.95, 1.05)
    told = told_each_second(seconds, Times(earlier(tmp_path), shares(tmp_path)), monkeypatch)
    assert len(told) > 150 and [(said, left) for said, left in told[60:] if abs(said - left) > 0.25 * left + 3] == []


def test_who_is_late_will_be_late_by_as_much_again(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    board = Board({"a": set()}, Times({"a": 100.0}), Silent())
    board.begin("a", Path("no log"))
    left = []
    for clock[0] in (10.0, 99.5, 130.0, 200.0):
        left.append(time_left(board, 1))
    assert left == [90.0, 1.0, 30.0, 100.0]


def test_arms_differ_as_they_did_where_the_benchmarks_were_made(tmp_path):
    assert shares(tmp_path) == {}
    (tmp_path / "benchmarks").mkdir()
    rows = "make repro,292,1\nada-a_b-paper-0,50,1\nada-c-paper-0,150,1\nfigures,8,1\n"
    (tmp_path / "benchmarks" / "repro.csv").write_text(f"what,seconds,peak_memory_mb\n{rows}")
    assert shares(tmp_path) == {"ada-a-b": 0.5, "ada-c": 1.5, "figures": 1.0}
    assert earlier(tmp_path) == {"ada": 100, "figures": 8}
    times = Times(earlier(tmp_path), shares(tmp_path))
    assert [times.of(name) for name in ("ada@a_b-CHUM-1", "ada@c-paper-0", "ada@d-paper-0")] == [50, 150, 100]
    times.saw("ada@a_b-paper-0", 30.0)
    assert [times.of(name) for name in ("ada@a_b-CHUM-1", "ada@c-paper-0", "ada@d-paper-0")] == [30, 90, 60]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"seconds": null}', "\0"])
def test_a_broken_note_of_an_earlier_run_is_passed_over(tmp_path, text):
    (tmp_path / "data" / "executed").mkdir(parents=True)
    (tmp_path / "data" / "executed" / "ada-a-paper-0.json").write_text(text)
    assert earlier(tmp_path) == {}


# The board
def test_a_board_shows_what_runs_and_counts_what_has_ended(tmp_path):
    shown = io.StringIO()
    needs = {"baseline@0": set(), "ada@a-0": {"baseline@0"}, "odd": set()}
    with tqdm(total=3, file=shown) as bar:
        board = Board(needs, Times({}), bar)
        board.say = partial(print, file=shown)
        board.begin("baseline@0", tmp_path / "log")
        (tmp_path / "log").write_text("hello\nbaseline:  25%|##5  | 10/40 [00:10<00:30, 1.0epoch/s]\r")
        look(board, 2)
        assert "hello\n" in shown.getvalue() and board.states["baseline@0"] == "25% 10/40 [00:10<00:30, 1.0epoch/s]"
        count(board, "odd")
        look(board, 2)
        assert time_left(board, 2) == pytest.approx(60, abs=2), "30 s, and as long again for what nobody knows"
        assert "about 60 s left" in bar.postfix
        assert leave(board, "baseline@0") < 10 and not board.logs
        count(board, "baseline@0")
        count(board, "ada@a-0")
        look(board, 2)
        assert bar.n == 3 and "left" not in bar.postfix
