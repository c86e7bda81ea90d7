"What runs side by side: random graphs, the real one, small ones of DVC, kills, and whoever runs the commands."

import importlib
import inspect
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import psutil
import pytest
import yaml
from dvc.rwlock import rwlock
from sharing import ENV, ROOT, one_line, python, wait_until

from ada_repro.pipeline.books import Books, LockFile, Records, close, to_run
from ada_repro.pipeline.engine import count_jobs, first_things_first, run_all, run_changed
from ada_repro.pipeline.executors import Workers
from ada_repro.pipeline.locks import held
from ada_repro.pipeline.progress import Times


# Order
def random_graph(seed):
    "Names of stages -> earlier ones."
    rng = random.Random(seed)
    names = [f"s{i}" for i in range(rng.randint(1, 25))]
    return {n: {m for m in names[:i] if rng.random() < 0.15} for i, n in enumerate(names)}


class Note:
    "In place of a task."

    def __init__(self, name):
        self.name = name

    def file(self, ending):
        return Path(f"/nowhere/{self.name}.{ending}")


class Plain:
    "Books in which each stage has to run, and an executor that runs a function; all that happens is noted, in order."

    def __init__(self, run):
        self.run, self.seen, self.lock = run, [], threading.Lock()

    def note(self, what, name):
        with self.lock:
            self.seen.append((what, name))

    def begin(self, name):
        return Note(name)

    def finish(self, name, fine):
        self.note("entered" if fine else "failed", name)

    def submit(self, call, task, prefix):
        return self.pool.submit(self.work, task.name)

    def work(self, name):
        self.note("+", name)
        code = self.run(name)
        self.note("-", name)
        return code or 0


def played(needs, run, jobs):
    "What happened, and who failed."
    plain = Plain(run)
    with ThreadPoolExecutor(50) as plain.pool:
        failed = run_all(needs, plain, Workers(plain, lambda: jobs), Times({}))
    return plain.seen, failed


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_each_runs_once_after_its_needs_and_never_too_many(seed, jobs):
    needs, rng = random_graph(seed), random.Random(jobs)
    naps = {name: rng.uniform(0, 0.004) for name in needs}
    seen, failed = played(needs, lambda name: time.sleep(naps[name]), jobs)
    assert failed == [] and sorted(seen) == sorted(product(["+", "-", "entered"], needs))
    running = 0
    for i, (what, name) in enumerate(seen):
        running += {"+": 1, "-": 0, "entered": -1}[what]
        assert running <= jobs
        if what == "+":
            assert needs[name] <= {n for w, n in seen[:i] if w == "entered"}


def test_as_many_as_may_run_do():
    gate = threading.Barrier(3, timeout=30)  # opens only for three at once
    played({n: set() for n in "abcdef"}, lambda name: gate.wait() * 0, 3)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_what_fails_twice_fails_alone(seed, jobs):
    needs = random_graph(seed + 100)
    bad = random.Random(seed).choice(sorted(needs))
    seen, failed = played(needs, lambda name: name == bad, jobs)
    behind = {bad}
    for name, before in needs.items():
        if before & behind:
            behind.add(name)
    assert failed == [bad] and [n for w, n in seen if w == "+"].count(bad) == 2
    assert {n for w, n in seen if w == "entered"} == needs.keys() - behind
    assert not [n for w, n in seen if w == "+" and n in behind - {bad}]


def test_what_fails_once_is_tried_again():
    tried = []
    seen, failed = played({"a": set(), "b": {"a"}}, lambda name: tried.append(name) or tried == ["a"], 2)
    assert failed == [] and tried == ["a", "a", "b"] and ("failed", "a") in seen


def test_a_lost_worker_is_a_failure():
    def lost(name):
        raise OSError("the worker is gone")

    assert played({"a": set(), "b": {"a"}}, lost, 2)[1] == ["a"]


def test_while_no_worker_is_there_the_bar_says_so(monkeypatch):
    said, plain, workers = [], Plain(lambda name: 0), [0, 0, 0, 1]
    monkeypatch.setattr("ada_repro.pipeline.engine.look", lambda board, room: said.append(board.note))
    monkeypatch.setattr("ada_repro.pipeline.engine.PAUSE_S", 0.01)
    with ThreadPoolExecutor(1) as plain.pool:
        assert (
            run_all({"a": set()}, plain, Workers(plain, lambda: workers.pop(0) if workers[1:] else 1), Times({})) == []
        )
    assert said[0] == "no worker is there" and said[-1] == ""


def test_a_circle_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        played({"a": {"b"}, "b": {"a"}}, print, 2)


# What comes first
def study(arms, seeds):
    "The graph of a study."
    needs = {"check": set(), "prepare": {"check"}}
    for seed in seeds:
        needs[f"baseline@paper-{seed}"] = {"prepare"}
    for arm, seed in product(arms, seeds):
        needs[f"ada@{arm}-paper-{seed}"] = {f"baseline@paper-{seed}"}
        needs[f"robustness@{arm}-paper-{seed}"] = {f"ada@{arm}-paper-{seed}"}
    trained = {name for name in needs if name.startswith("ada")}
    scored = {name for name in needs if name.startswith("robustness")}
    return needs | {"iou": trained, "figures": {"iou", *scored}}


def test_trainings_come_before_scores_and_seed_by_seed():
    needs = study(["a", "b"], [0, 1])
    order = list(first_things_first(dict(sorted(needs.items()))))
    assert order[:2] == ["check", "prepare"]
    assert order[2:5] == ["baseline@paper-0", "ada@a-paper-0", "ada@b-paper-0"]
    assert order[5:8] == ["baseline@paper-1", "ada@a-paper-1", "ada@b-paper-1"]
    assert first_things_first(needs).keys() == needs.keys()
    assert first_things_first(needs) == needs


def test_no_core_is_idle_while_anything_is_ready():
    "While one baseline trains, whatever else may run does."
    begun, gate = [], threading.Event()

    def run(name):
        begun.append(name)
        if name == "baseline@paper-0":
            gate.wait(30)
        if name == "other":
            gate.set()

    seen, failed = played(study(["a"], [0]) | {"other": {"prepare"}}, run, 2)
    assert failed == [] and gate.is_set()


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


def asked(targets):
    "What has to run in this folder, for these targets."
    return to_run(Records(), targets)


def test_a_fresh_clone_runs_every_stage_after_those_it_needs(fresh, monkeypatch):
    from dvc.repo import Repo

    monkeypatch.chdir(fresh)
    study, more = names_of("dvc.yaml"), [f"evidence/dvc.yaml:{n}" for n in names_of("evidence/dvc.yaml")]
    plain, whole = asked([]), asked(["dvc.yaml", "evidence/dvc.yaml"])
    assert sorted(plain) == sorted(asked(["dvc.yaml"])) == sorted(study) and sorted(whole) == sorted(study + more)
    with_all_before = [*asked(["evidence/dvc.yaml"]), "weights"]
    assert sorted(with_all_before) == sorted(whole)
    with Repo() as repo:
        made_by = makers(repo)
    for needs in (plain, whole):
        for name, before in needs.items():
            assert before == made_by[name] and name not in before
    assert set(asked(["prepare"])) == {"check", "phantom", "prepare"}
    before = {"check", "phantom", "prepare", "baseline@paper-0"}
    group = {name for name in study if name.startswith("ada@")}
    assert set(asked(["ada"])) == set(asked(["dvc.yaml:ada", "prepare"])) == before | group and len(group) > 1
    with pytest.raises(RuntimeError, match="nonsense"):
        asked(["nonsense"])


COPY = "{python} -c \"import shutil; shutil.copy('{of}', '{to}')\""


def stage(of, to):
    "A stage that copies a file."
    return {"cmd": COPY.format(python=sys.executable, of=of, to=to), "deps": [of], "outs": [to]}


def project(folder, stages, **files):
    "A folder with stages and files."
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text((ROOT / ".dvc" / "config").read_text())
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (folder / "params.yaml").write_text("profile: {machine: {threads: 1}}\n")
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


CHAIN = {"a": stage("first", "a.txt"), "b": stage("a.txt", "b.txt"), "c": stage("b.txt", "c.txt")}
CHAIN["d"] = stage("other", "d.txt")


def dvc(folder, *words):
    "What plain `dvc` says."
    code, output, errors = python(folder, "-m", "dvc", *words)
    assert code == 0, output + errors
    return output


@pytest.fixture
def chain(tmp_path, monkeypatch):
    "Stages a -> b -> c and, apart, d; `dvc repro` has run them."
    project(tmp_path / "chain", CHAIN, first="1", other="2")
    dvc(tmp_path / "chain", "repro", "-q")
    monkeypatch.chdir(tmp_path / "chain")
    return tmp_path / "chain"


def run_here(targets=()):
    "Run what has changed in this folder; the names of what failed."
    with held(Path("head.lock")):
        return run_changed(list(targets), 2, Path("head.lock"))


def test_what_changed_and_all_that_follows(chain):
    assert asked([]) == {}
    (chain / "other").write_text("new")
    assert asked([]) == {"d": set()} and asked(["c"]) == {}
    (chain / "first").write_text("new")
    assert asked([]) == {"a": set(), "b": {"a"}, "c": {"b"}, "d": set()} and asked(["b"]) == {"a": set(), "b": {"a"}}
    dvc(chain, "repro", "-q", "b")
    assert asked([]) == {"c": set(), "d": set()}
    (chain / "a.txt").unlink()
    assert asked(["c"]) == {"a": set(), "b": {"a"}, "c": {"b"}}


def test_all_stages_run_and_then_none_has_to(chain, capfd):
    for name in ("first", "other"):
        (chain / name).write_text("new")
    assert run_here() == []
    assert asked([]) == {} and [(chain / f"{n}.txt").read_text() for n in "abcd"] == ["new"] * 4
    said = capfd.readouterr().err
    assert all(f"Running stage '{n}'" in said for n in "abcd") and "4/4" in said
    assert "up to date" in dvc(chain, "status") and "Running" not in dvc(chain, "repro")


def test_what_was_ever_made_is_not_made_again(chain, capfd):
    "Neither the stage that changed back, nor those behind one that makes what it made before."
    for text in ("new", "1"):
        (chain / "first").write_text(text)
        run_here()
    assert capfd.readouterr().err.count("Running stage") == 3 and (chain / "c.txt").read_text() == "1"
    half = {"cmd": "head -c 1 first > a.txt", "deps": ["first"], "outs": ["a.txt"]}
    (chain / "dvc.yaml").write_text(yaml.safe_dump({"stages": CHAIN | {"a": half}}))
    (chain / "first").write_text("123")
    run_here()
    assert capfd.readouterr().err.count("Running stage") == 1, "b finds what it took before"


def test_a_stage_that_fails_is_named_and_what_needs_it_does_not_run(chain, capfd):
    (chain / "first").unlink()
    (chain / "other").write_text("new")
    code, _, errors = python(chain, "-m", "ada_repro.pipeline.start")
    assert code == 1 and errors.endswith("repro: a failed; what was said stands above and in data/logs\n")
    assert str(chain / "first") in errors
    assert (chain / "d.txt").read_text() == "new" and "Running stage 'b'" not in errors


def test_a_stage_that_makes_nothing_has_failed(tmp_path, monkeypatch, capfd):
    project(tmp_path / "p", {"a": {"cmd": "true", "outs": ["a"]}})
    monkeypatch.chdir(tmp_path / "p")
    assert run_here() == ["a"] and "output 'a' does not exist" in capfd.readouterr().err


@pytest.mark.parametrize(
    "lines",
    ["X=3\ncd data\necho $X; pwd > ../a", ["X=3", 'echo "it\'s" $X > a'], ["echo 1 > a", "false", "echo 2 > a"]],
)
def test_each_line_of_a_command_has_a_shell_of_its_own_as_plain_dvc_gives_it(tmp_path, monkeypatch, lines):
    plain, ours = (project(tmp_path / name, {"a": {"cmd": lines, "outs": ["a"]}}) for name in ("plain", "ours"))
    for folder in (plain, ours):
        (folder / "data").mkdir()
    fine = python(plain, "-m", "dvc", "repro", "-q")[0] == 0
    monkeypatch.chdir(ours)
    assert (run_here() == []) == fine == ("false" not in lines and "../a" not in lines)
    for name in ("a", "dvc.lock"):
        there = [(folder / name).exists() and (folder / name).read_text() for folder in (plain, ours)]
        assert there[0] == there[1]


@pytest.mark.parametrize(
    "text, said",
    [
        ("stages:\n  a:\n    cmd: x\n    depz: [first]\n", "extra keys not allowed @ data['stages']['a']['depz']"),
        ("stages:\n  a: [\n", "expected the node content, but found '<stream end>'"),
        ("stages:\n  a: {cmd: x, outs: [a]}\n  b: {cmd: y, outs: [a]}\n", "output 'a' is specified in"),
        ("stages:\n  a: {cmd: '${none}', outs: [a]}\n", "Could not find 'none'"),
    ],
)
def test_what_is_wrong_in_a_file_of_dvc_is_said_in_one_line(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(project(tmp_path / "p", {}))
    Path("dvc.yaml").write_text(text)
    with pytest.raises(RuntimeError) as error:
        asked([])
    assert said in f"{error.value}" and one_line(f"{error.value}")


# The lock file
def test_the_lock_is_that_of_dvc_whoever_ends_first(tmp_path, monkeypatch):
    stages = {f"s{i}": stage("first", f"{i}.txt") for i in range(6)}
    stages["last"] = {"cmd": "cat 0.txt 5.txt > last.txt", "deps": ["0.txt", "5.txt"], "outs": ["last.txt"]}
    for i in range(6):
        stages[f"s{i}"]["cmd"] = f"sleep 0.{5 - i} && {stages[f's{i}']['cmd']}"
    plain, ours = (project(tmp_path / name, stages, first="1") for name in ("plain", "ours"))
    dvc(plain, "repro", "-q")
    monkeypatch.chdir(ours)
    assert run_here(["s3"]) == [] and run_here() == []
    assert (ours / "dvc.lock").read_bytes() == (plain / "dvc.lock").read_bytes()
    assert "up to date" in dvc(ours, "status")


def test_what_another_has_written_into_the_lock_is_kept(tmp_path):
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n  gone:\n    cmd: g\n  b:\n    cmd: old\n")
    lock = LockFile(tmp_path / "dvc.lock")
    lock.add({"b": {"cmd": "b"}}, ["a", "b"])
    text = (tmp_path / "dvc.lock").read_text()
    assert list(yaml.safe_load(text)["stages"]) == ["gone", "b"]
    (tmp_path / "dvc.lock").write_text(text + "  c:\n    cmd: c\n")
    lock.add({"a": {"cmd": "a"}}, ["a", "b"])
    stages = yaml.safe_load((tmp_path / "dvc.lock").read_text())["stages"]
    assert list(stages) == ["gone", "a", "c", "b"] and stages["b"] == {"cmd": "b"}


def test_where_all_stages_stand_in_the_lock_plain_dvc_and_we_keep_their_places(tmp_path, monkeypatch):
    stages = {name: stage("first", f"{name}.txt") for name in "dacb"}
    plain, ours = (project(tmp_path / name, stages, first="1") for name in ("plain", "ours"))
    fewer = {name: stages[name] for name in "dcb"}
    for folder in (plain, ours):
        dvc(folder, "repro", "-q")
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": fewer}, sort_keys=False))
        (folder / "first").write_text("2")
    before = list(yaml.safe_load((ours / "dvc.lock").read_text())["stages"])
    dvc(plain, "repro", "-q")
    monkeypatch.chdir(ours)
    assert run_here() == []
    assert list(yaml.safe_load((ours / "dvc.lock").read_text())["stages"]) == before and "a" in before
    assert (ours / "dvc.lock").read_bytes() == (plain / "dvc.lock").read_bytes()


def test_the_lock_is_written_now_and_then_and_at_the_end(chain, monkeypatch):
    written = []
    monkeypatch.setattr("ada_repro.pipeline.books.LockFile.add", lambda self, new, order: written.append(sorted(new)))
    (chain / "first").write_text("new")
    (chain / "other").write_text("new")
    run_here()
    assert written == [["a", "b", "c", "d"]]


# Another DVC
def test_a_stage_at_work_is_claimed_as_dvc_claims_it(chain):
    (chain / "first").write_text("new")
    with held(Path("head.lock")):
        books = Books(Path("head.lock"))
        books.begin("a")
        code, output, errors = python(chain, "-m", "dvc", "repro", "b")
        assert code != 0 and "is busy" in output + errors and f"(PID {os.getpid()})" in output + errors
        assert "up to date" in dvc(chain, "status", "d"), "the rest is free"
        books.finish("a", False)
        close(books)
    dvc(chain, "repro", "-q")


# Kills
SLOW = "echo $$ >> begun; until test -e go; do sleep 0.05; done; echo {name} > {name}"


@pytest.fixture
def waiting(tmp_path):
    "Two stages, the second after the first, that wait until they may end."
    first = {"cmd": SLOW.format(name="one"), "outs": ["one"]}
    second = {"cmd": "cp one two && echo ran >> times", "deps": ["one"], "outs": ["two"]}
    return project(tmp_path / "slow", {"first": first, "second": second})


START = [sys.executable, "-m", "ada_repro.pipeline.start"]


def start(folder, **env):
    "What `make repro` runs, when its first command is at work."
    said = (folder / "said").open("ab")
    before = begun(folder)
    process = subprocess.Popen(START, cwd=folder, env=ENV | env, stdout=said, stderr=said)
    while begun(folder) == before and process.poll() is None:
        time.sleep(0.05)
    return process


def begun(folder):
    "The processes that the first command has been."
    return (folder / "begun").read_text().split() if (folder / "begun").exists() else []


def living(folder):
    "The processes at work in a project."
    found = []
    for process in psutil.process_iter(["cwd", "status"]):
        if process.info["cwd"] == str(folder) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_head_killed_leaves_nobody_and_the_next_goes_on(waiting):
    head = start(waiting)
    head.kill()
    head.wait()
    wait_until(lambda: not living(waiting))
    again = start(waiting)
    (waiting / "go").touch()
    assert again.wait() == 0 and len(begun(waiting)) == 2 and (waiting / "two").read_text() == "one\n"


def test_command_killed_is_tried_again(waiting):
    head = start(waiting)
    os.kill(int(begun(waiting)[0]), signal.SIGKILL)
    wait_until(lambda: len(begun(waiting)) == 2)
    (waiting / "go").touch()
    assert head.wait() == 0 and "tried once more" in (waiting / "said").read_text()
    assert (waiting / "two").read_text() == "one\n"


RIGHTS = "-dac_override,-dac_read_search"  # what lets root pass over a file's rights
WITHOUT = ["setpriv", "--bounding-set", RIGHTS, "--inh-caps", RIGHTS] if os.geteuid() == 0 else []


@pytest.mark.skipif(bool(WITHOUT and not shutil.which("setpriv")), reason="root cannot be kept out without setpriv")
@pytest.mark.parametrize("name, rights", [("params.yaml", 0o000), ("data", 0o555)])
def test_what_this_user_may_not_touch_is_named_with_a_remedy(tmp_path, name, rights):
    folder = project(tmp_path / "p", CHAIN, first="1", other="2")
    (folder / "data").mkdir()
    (folder / name).chmod(rights)
    done = subprocess.run([*WITHOUT, *START], cwd=folder, env=ENV, capture_output=True, text=True)
    (folder / name).chmod(0o755)
    assert done.returncode == 1 and one_line(done.stderr), done.stderr
    assert f"/{name}" in done.stderr and "chmod -R u+rwX" in done.stderr


DIES = """
import os, sys
from ada_repro.pipeline import books, guard
from ada_repro.pipeline.start import main
def die(*words): os.kill(os.getpid(), 9)
if sys.argv[1] == "before it hears of the end": books.Books.finish = die
if sys.argv[1] == "before the entry": books.Ledger.write = die
main([])
"""


@pytest.mark.parametrize("moment", ["before it hears of the end", "before the entry"])
@pytest.mark.parametrize("deps", [[], ["first"]], ids=["not kept by the cache of runs", "kept"])
def test_head_killed_between_the_end_of_a_stage_and_its_entry(tmp_path, moment, deps):
    "What has ended is not run again, whether or not DVC's cache of runs knows it."
    one = {"cmd": "echo ran >> times; echo 1 > one", "outs": ["one"]} | ({"deps": deps} if deps else {})
    folder = project(tmp_path / "p", {"one": one}, first="1")
    assert python(folder, "-c", DIES, moment)[0] == -9
    assert not (folder / "dvc.lock").exists() and (folder / "times").read_text() == "ran\n"
    code, output, errors = python(folder, "-m", "ada_repro.pipeline.start")
    assert code == 0 and (folder / "times").read_text() == "ran\n", output + errors
    assert "up to date" in dvc(folder, "status") and not list((folder / "data" / "logs").glob("*.json"))


def test_told_to_stop_it_enters_what_has_ended(waiting):
    "The lock is written when stopped, too."
    (waiting / "dvc.yaml").write_text(
        yaml.safe_dump(
            {
                "stages": {
                    "quick": {"cmd": "cp params.yaml quick", "deps": ["params.yaml"], "outs": ["quick"]},
                    "first": {"cmd": SLOW.format(name="one"), "deps": ["quick"], "outs": ["one"]},
                }
            }
        )
    )
    head = start(waiting)
    head.terminate()
    assert head.wait() == 1 and list(yaml.safe_load((waiting / "dvc.lock").read_text())["stages"]) == ["quick"]
    assert not living(waiting)


# How many
def test_jobs_fit_cores_and_memory(monkeypatch):
    def jobs(threads):
        return count_jobs({"profile": {"machine": {"threads": threads}}})

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert jobs(0) == jobs(cores) == jobs(cores + 1) == 1
    room = psutil.virtual_memory().total // 1.5e9
    for threads in range(1, cores + 1):
        assert 1 <= jobs(threads) <= max(1, min(cores // threads, room))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert jobs(0) == 3


ONE_CORE = """
import importlib
import inspect
import os
from ada_repro.pipeline.engine import count_jobs
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(count_jobs({"profile": {"machine": {"threads": 1}}}))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to cores")
def test_cores_are_those_this_process_may_use():
    done = subprocess.run([sys.executable, "-c", ONE_CORE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]


# DVC as a library
USED = {
    "dvc.repo": ["Repo"],
    "dvc.repo.reproduce": ["get_active_graph", "plan_repro"],
    "dvc.rwlock": ["rwlock"],
    "dvc.lock": ["LockError"],
    "dvc.exceptions": ["DvcException"],
    "dvc.stage.run": ["_enforce_cmd_list", "_make_cmd", "get_executable"],
    "dvc.stage.cache": ["RunCacheNotFoundError", "_can_hash", "StageCache"],
    "dvc.stage.serialize": ["to_lockfile"],
    "dvc.utils.serialize": ["dumps_yaml", "parse_yaml_for_update"],
}
OF_A_STAGE = ["changed", "reload", "save", "save_deps", "commit", "remove_outs", "frozen", "addressing", "cmd_changed"]


@pytest.mark.parametrize("module", USED)
def test_dvc_has_what_the_books_use(module):
    "Whoever raises the pin of DVC in pyproject.toml reads here what is gone."
    there = importlib.import_module(module)
    assert [name for name in USED[module] if not hasattr(there, name)] == []


def test_a_stage_of_dvc_has_what_the_books_use(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path / "p", CHAIN, first="1", other="2"))
    stage = Records().stages["a"]
    assert [name for name in OF_A_STAGE if not hasattr(stage, name)] == []
    assert {"pull", "run_cache"} <= set(inspect.signature(stage.repo.stage_cache.restore).parameters)
    assert {"run_cache"} <= set(inspect.signature(stage.save).parameters)
    words = ["tmp_dir", "fs", "cmd", "read", "write", "hardlink"]
    assert list(inspect.signature(rwlock).parameters) == words and stage.dvcfile and stage.path and stage.wdir
