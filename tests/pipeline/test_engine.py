"What runs side by side: random graphs, the real one, small ones of DVC, and what a process prints."

import os
import random
import subprocess
import sys
import threading
import time
from itertools import product
from pathlib import Path

import psutil
import pytest
import yaml

from ada_repro.core import ROOT
from ada_repro.pipeline.engine import count_jobs, pieces, run_all, run_stage, side_by_side, to_run


# Order
def random_graph(seed):
    "Names of stages -> earlier ones."
    rng = random.Random(seed)
    names = [f"s{i}" for i in range(rng.randint(1, 25))]
    return {n: {m for m in names[:i] if rng.random() < 0.15} for i, n in enumerate(names)}


def record(needs, jobs, failing=()):
    "Everything that begins (+) and ends (-), in order; failing stages raise."
    seen, lock, rng = [], threading.Lock(), random.Random(jobs)
    naps = {name: rng.uniform(0, 0.004) for name in needs}

    def run(name):
        with lock:
            seen.append(("+", name))
        time.sleep(naps[name])
        with lock:
            seen.append(("!" if name in failing else "-", name))
        if name in failing:
            raise RuntimeError(f"{name} failed")

    try:
        side_by_side(needs, run, jobs)
    except RuntimeError as e:
        return seen, str(e)
    return seen, None


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_each_runs_once_after_its_needs_and_never_too_many(seed, jobs):
    needs = random_graph(seed)
    seen, error = record(needs, jobs)
    assert error is None and sorted(seen) == sorted((what, n) for what, n in product("+-", needs))
    running = 0
    for i, (what, name) in enumerate(seen):
        running += 1 if what == "+" else -1
        assert running <= jobs
        if what == "+":
            assert needs[name] <= {n for w, n in seen[:i] if w == "-"}


def test_as_many_as_may_run_do():
    gate = threading.Barrier(3, timeout=30)  # opens only for three at once

    def meet(name):
        gate.wait()

    side_by_side({n: set() for n in "abcdef"}, meet, 3)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_after_an_error_none_begins_and_the_others_end(seed, jobs):
    needs = random_graph(seed + 100)
    failing = set(random.Random(seed).sample(sorted(needs), 1))
    seen, error = record(needs, jobs, failing)
    (bad,) = failing
    assert error == f"{bad} failed"
    assert {n for w, n in seen if w == "+"} == {n for w, n in seen if w != "+"}
    assert not [n for w, n in seen if w == "+" and bad in needs[n]]


def test_what_waits_is_not_begun_after_an_error():
    for _ in range(20):
        seen, _ = record({f"s{i}": set() for i in range(6)}, 1, ["s0"])
        assert seen == [("+", "s0"), ("!", "s0")]


def test_what_runs_beside_an_error_ends_and_nothing_follows_it():
    seen, failed = [], threading.Event()

    def run(name):
        seen.append(name)
        if name == "bad":
            failed.set()
            raise RuntimeError("bad failed")
        failed.wait(30)
        time.sleep(0.3)
        seen.append(f"{name} ended")

    with pytest.raises(RuntimeError, match="bad failed"):
        side_by_side(dict(slow=set(), bad=set(), **{f"s{i}": set() for i in range(6)}), run, 2)
    assert seen[-1] == "slow ended" and sorted(seen[:-1]) == ["bad", "slow"]


def test_a_circle_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        side_by_side({"a": {"b"}, "b": {"a"}}, print, 2)


# What has to run
def names_of(file):
    "The stages of a DVC file, its matrices multiplied out, with the stages whose outputs they take."
    params = yaml.safe_load((Path(file).parent / (".." if "evidence" in file else ".") / "params.yaml").read_text())

    def look_up(key):
        value = params
        for k in key.strip("${}").split("."):
            value = value[k]
        return value

    def word(key, i, v):
        return f"{key}{i}" if isinstance(v, dict) else str(v)

    names = []
    for name, stage in yaml.safe_load(Path(file).read_text())["stages"].items():
        axes = [[word(k, i, v) for i, v in enumerate(look_up(values))] for k, values in stage.get("matrix", {}).items()]
        names += [f"{name}@{'-'.join(c)}" if axes else name for c in product(*axes)]
    return names


def makers(repo):
    "Stage -> stages that make what it takes, by comparing paths."

    def inside(a, b):
        return a == b or a.startswith(b + os.sep)

    found = {}
    for taker, maker in product(repo.index.stages, repeat=2):
        makers_of = found.setdefault(taker.addressing, set())
        for taken, made in product(taker.deps, maker.outs):
            if inside(taken.fs_path, made.fs_path) or inside(made.fs_path, taken.fs_path):
                makers_of.add(maker.addressing)
    return found


def test_a_fresh_clone_runs_every_stage_after_those_it_needs(fresh, monkeypatch):
    from dvc.repo import Repo

    monkeypatch.chdir(fresh)
    study, more = names_of("dvc.yaml"), [f"evidence/dvc.yaml:{n}" for n in names_of("evidence/dvc.yaml")]
    plain, whole = to_run([]), to_run(["dvc.yaml", "evidence/dvc.yaml"])
    assert sorted(plain) == sorted(to_run(["dvc.yaml"])) == sorted(study) and sorted(whole) == sorted(study + more)
    assert sorted([*to_run(["evidence/dvc.yaml"]), "figures", "weights"]) == sorted(
        whole
    )  # with all that it goes on from
    with Repo() as repo:
        made_by = makers(repo)
    for needs in (plain, whole):
        for name, before in needs.items():
            assert before == set().union(made_by[name], *(needs[m] for m in made_by[name])) and name not in before
    assert set(to_run(["prepare"])) == {"check", "phantom", "prepare"}


COPY = "{python} -c \"import shutil; shutil.copy('{of}', '{to}')\""


@pytest.fixture
def chain(tmp_path, monkeypatch):
    "Stages a -> b -> c and, apart, d; `dvc repro` has run them."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")

    def stage(of, to):
        return {"cmd": COPY.format(python=sys.executable, of=of, to=to), "deps": [of], "outs": [to]}

    stages = {
        "a": stage("in", "a.txt"),
        "b": stage("a.txt", "b.txt"),
        "c": stage("b.txt", "c.txt"),
        "d": stage("other", "d.txt"),
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for name in ("in", "other"):
        (tmp_path / name).write_text(name)
    for words in (["init", "-q", "--no-scm"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *words], check=True)
    return tmp_path


def test_what_changed_and_all_that_follows(chain):
    assert to_run([]) == {}
    (chain / "other").write_text("new")
    assert to_run([]) == {"d": set()} and to_run(["c"]) == {}
    (chain / "in").write_text("new")
    assert to_run([]) == {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": set()} and to_run(["b"]) == {
        "a": set(),
        "b": {"a"},
    }
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q", "b"], check=True)
    assert to_run([]) == {"c": set(), "d": set()}
    (chain / "a.txt").unlink()
    assert to_run(["c"]) == {"a": set(), "b": {"a"}, "c": {"a", "b"}}


def test_all_stages_run_and_then_none_has_to(chain, capfd):
    for name in ("in", "other"):
        (chain / name).write_text("new")
    run_all(to_run([]), 2)
    assert to_run([]) == {} and [(chain / f"{n}.txt").read_text() for n in "abcd"] == ["new"] * 4
    said = capfd.readouterr().err
    assert all(f"Running stage '{n}'" in said for n in "abcd") and "4/4" in said and "git add" not in said


# A stage
def test_a_stage_that_fails_is_named(chain):
    said = []
    (chain / "in").unlink()
    with pytest.raises(RuntimeError, match="^a failed; what it said stands above$"):
        run_stage("a", said.append)
    assert str(chain / "in") in "".join(said)


def test_one_stage_is_run_and_heard(chain):
    said = []
    (chain / "in").write_text("new")
    run_stage("a", said.append)
    assert (
        "Running stage 'a':\n" in said
        and (chain / "a.txt").read_text() == "new"
        and (chain / "b.txt").read_text() == "in"
    )


SAYS = """
import os, sys, time
for part in {parts!r}: os.write(1, part); time.sleep(.05)
"""


def spoken(*parts):
    "The pieces of what a process writes part by part."
    with subprocess.Popen([sys.executable, "-c", SAYS.format(parts=parts)], stdout=subprocess.PIPE) as p:
        return list(pieces(p.stdout))


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
def test_pieces(parts, whole):
    assert spoken(*parts) == whole


# How many
def test_jobs_fit_cores_and_memory():
    def jobs(threads):
        return count_jobs({"profile": {"machine": {"threads": threads}}})

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert jobs(0) == jobs(cores) == jobs(cores + 1) == 1
    room = psutil.virtual_memory().total // 1.5e9
    for threads in range(1, cores + 1):
        assert 1 <= jobs(threads) <= max(1, min(cores // threads, room))


ONE_CORE = """
import os
from ada_repro.pipeline.engine import count_jobs
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(count_jobs({"profile": {"machine": {"threads": 1}}}))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to cores")
def test_cores_are_those_this_process_may_use():
    done = subprocess.run([sys.executable, "-c", ONE_CORE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]
