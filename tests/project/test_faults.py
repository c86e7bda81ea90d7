"""Kills, full disks, second starts, hostile files: a short sample of `make faults`.

What is promised stands in docs/promises.md.
"""

import ast
import contextlib
import hashlib
import os
import pickle
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import yaml
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils.serialize import dumps_yaml
from hostile import CRAFTED, KERNEL, MODEL, Evil, is_refused, legacy
from nbformat.v4 import new_code_cell, new_notebook
from sharing import ENV, ROOT, hashes, memory_grown_mb, one_line, python

from ada_repro.core import STOP_AT, part_of, whole_file, whole_folder
from ada_repro.data.phantom import phantom_slices
from ada_repro.pipeline.engine import count_jobs
from ada_repro.pipeline.locks import held, wait_for
from ada_repro.pipeline.stage import main
from ada_repro.pipeline.start import find_cut, is_whole_lock, set_time
from ada_repro.train.runs import first_record, fit, load_checkpoint, run_key, save_checkpoint, state_bytes
from ada_repro.train.training import new_state

REPRO = [sys.executable, "-m", "ada_repro.pipeline.start"]
HOW = {"arm": "gradcam", "seed": 0, "standard_epochs": 2, "cycles": 2, "ada_epochs": 1, "size": 5, "batch_size": 8}


@pytest.fixture
def project(tmp_path):
    "An empty project: a root, no data."
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    return tmp_path


# Interrupted training
FIT = f"""
import os, signal, sys
from pathlib import Path
import torch
from ada_repro.train import runs
from ada_repro.train.training import new_state
torch.set_num_threads(1)
runs.SAVE_EVERY_S = 0  # a checkpoint after each epoch
run, slices = Path('data/runs/gradcam-paper-0'), Path('data/slices')
def fit(): runs.fit(run, new_state(**{MODEL}), slices, keep_state=True, **{HOW})
def die(): os.kill(os.getpid(), signal.SIGKILL)
"""

KILLS = (
    FIT
    + f"new_state(**{MODEL})    # what each child would load"
    + """
write, sync, rename, unlink = Path.write_bytes, os.fsync, os.replace, Path.unlink
def is_checkpoint(path): return 'checkpoints' in str(path)
def after(share):
    def cut(path, content):
        if not is_checkpoint(path): return write(path, content)
        write(path, content[:int(share*len(content))]); die()
    Path.write_bytes = cut
def at_sync(): os.fsync = lambda fd: die()
def at_rename(): os.replace = lambda a, b: die() if is_checkpoint(a) else rename(a, b)
def renamed(): os.replace = lambda a, b: (rename(a, b), is_checkpoint(a) and die())
def at_tidying(): Path.unlink = lambda path, **k: die() if path.suffix == '.pt' else unlink(path, **k)
for how in (
    lambda: after(0), at_rename, renamed, lambda: after(.3), at_sync, renamed,
    lambda: after(1), at_tidying, lambda: after(.9), renamed, None,
):
    if not (child := os.fork()):
        if how: how()
        fit(); os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, *sorted(p.name[:6] + p.suffix for p in Path('data/checkpoints').rglob('*.*')), flush=True)
"""
)


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    to = tmp_path_factory.mktemp("slices") / "slices"
    to.mkdir()
    images, targets = phantom_slices(24, px=40, spacing_mm=1.0, seed=0)
    table = pd.DataFrame(
        {
            "site": "1",
            "subject": [f"s{i // 4}" for i in range(24)],
            "slice": range(24),
            "spacing_mm": 1.0,
            "native_mm": 1.0,
            "slice_mm": 5.0,
            "split": ["train"] * 16 + ["val"] * 8,
        }
    )
    np.save(to / "images.npy", images)
    np.save(to / "targets.npy", targets)
    table.assign(person=table.subject).to_csv(to / "slices.csv", index=False)
    return to


def with_slices(project, slices):
    (project / "data").mkdir()
    (project / "data" / "slices").symlink_to(slices)
    return project


@pytest.fixture(scope="module")
def undisturbed(slices, tmp_path_factory):
    "A run in a process of its own."
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    code, _, errors = python(with_slices(folder, slices), "-c", FIT + "fit()", env={"PYTHONHASHSEED": "1"})
    assert code == 0, errors
    assert not list((folder / "data" / "checkpoints").iterdir())
    return hashes(folder / "data" / "runs")


def test_killed_inside_a_checkpoint(project, slices, undisturbed):
    code, output, errors = python(with_slices(project, slices), "-c", KILLS, env={"PYTHONHASHSEED": "2"})
    assert code == 0, errors
    *killed, end = [line.split() for line in output.splitlines()]
    assert [words[0] for words in killed] == ["-9"] * 10 and end == ["0"], output
    assert [words[-1] for words in killed if words[-1].endswith(".pt")][-1] == "000004.pt", output
    assert hashes(project / "data" / "runs") == undisturbed
    assert not list((project / "data").rglob("*.part")) and not list((project / "data" / "checkpoints").iterdir())


@pytest.fixture
def checkpoints(tmp_path):
    "Three epochs; the last two are kept."
    state = new_state(**MODEL)
    for state.epoch in (1, 2, 3):
        save_checkpoint(state, tmp_path / "c")
    assert [p.name[:6] for p in sorted((tmp_path / "c").iterdir())] == ["000002", "000003"]
    return tmp_path / "c"


def spoil(path, how):
    content = bytearray(path.read_bytes())
    if how == "bit":
        content[len(content) // 3] ^= 4
    if how == "cut":
        content = content[:-1]
    if how == "empty":
        content = b""
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["bit", "cut", "empty"])
def test_a_broken_checkpoint_is_passed_over(checkpoints, how, capsys):
    second, newest = sorted(checkpoints.iterdir())
    spoil(newest, how)
    assert load_checkpoint(new_state(**MODEL), checkpoints).epoch == 2
    assert one_line(words := capsys.readouterr().err) and "broken" in words
    spoil(second, how)
    assert load_checkpoint(new_state(**MODEL), checkpoints).epoch == 0


def key(how=None, data="a", epochs=0, **model):
    "The key of a run that differs in what is told."
    state = new_state(**MODEL | model)
    state.epoch = epochs
    return run_key(first_record(state, data, HOW | (how or {})))


OTHER_TRAINING = {
    "arm": "vanilla",
    "seed": 1,
    "standard_epochs": 3,
    "cycles": 3,
    "ada_epochs": 2,
    "size": 6,
    "batch_size": 4,
    "protect": "none",
}


def test_nothing_else_determines_a_run_and_all_of_it_is_in_the_key():
    others = [key(data="b"), key(epochs=1)]
    for name, value in {"width": 8, "dropout": 0.2, "bn_momentum": 0.3, "lr": 0.02, "seed": 1}.items():
        others.append(key(**{name: value}))
    for name, value in OTHER_TRAINING.items():
        others.append(key({name: value}))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    others.append(key())
    torch.set_num_threads(threads)
    assert key() == key() and len({key(), *others}) == 1 + len(others)


def test_weights_that_are_not_finite_are_no_state_to_go_on_from(project, slices, monkeypatch):
    "A loss between -1 and 0 cannot explode; weights can, and after the last batch of an epoch no loss would tell."
    monkeypatch.setattr("ada_repro.train.runs.DATA", with_slices(project, slices) / "data")
    state = new_state(**MODEL)
    state.optimizer.param_groups[0]["lr"] = float("inf")
    with pytest.raises(FloatingPointError, match="last batch of epoch 1"):
        fit(project / "data" / "runs" / "gradcam-paper-0", state, slices, **HOW | {"batch_size": 16})
    assert not (project / "data" / "runs").exists() and not list((project / "data").glob("checkpoints/*/*"))


def test_equal_states_are_equal_bytes(checkpoints):
    state = load_checkpoint(new_state(**MODEL | {"seed": 5}), checkpoints)
    assert hashlib.sha256(state_bytes(state)).hexdigest() == max(checkpoints.iterdir()).stem[7:]


# Half-written results
SECOND = """
import sys
from pathlib import Path
from ada_repro.core import STOP_AT, whole_file, whole_folder
with whole_folder(Path('f')) as f, whole_file(Path('x')) as x:
    (f/'a').write_text('second')
    x.write_text('second')
"""
DIES = """
import os
from pathlib import Path
from ada_repro.core import STOP_AT, whole_file, whole_folder
with whole_folder(Path('f')) as f, whole_file(Path('x')) as x:
    (f/'a').write_text('half')
    x.write_text('half')
    os.kill(os.getpid(), 9)
"""


def test_two_processes_never_share_a_part(tmp_path):
    "The second begins, and ends, while the first is writing."
    folder, file = tmp_path / "f", tmp_path / "x"
    with whole_folder(folder) as f, whole_file(file) as x:
        (f / "a").write_text("first")
        x.write_text("first")
        assert python(tmp_path, "-c", SECOND)[0] == 0
        assert (folder / "a").read_text() == file.read_text() == "second"
        assert (f / "a").read_text() == x.read_text() == "first"
    assert (folder / "a").read_text() == file.read_text() == "first"
    assert not list(tmp_path.glob("*.part"))


def test_what_a_dead_process_left_is_swept_away(tmp_path):
    folder, file = tmp_path / "f", tmp_path / "x"
    assert python(tmp_path, "-c", DIES)[0] == -9
    assert len(list(tmp_path.glob("*.part"))) == 2 and not folder.exists() and not file.exists()
    with whole_folder(folder) as f, whole_file(file) as x:
        (f / "a").write_text("whole")
        x.write_text("whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "x"]


SWAPS = """
import os
from pathlib import Path
from ada_repro.core import whole_folder
replace = Path.replace
def dies(self, to):
    if '-old-' in str(to):
        replace(self, to)
        os.kill(os.getpid(), 9)
Path.replace = dies
with whole_folder(Path('f')) as f:
    (f/'a').write_text('second')
"""


def test_killed_between_two_names_the_older_folder_comes_back(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a").write_text("first")
    assert python(tmp_path, "-c", SWAPS)[0] == -9
    assert not (tmp_path / "f").exists() and len(list(tmp_path.glob("*.part"))) == 2
    part_of(tmp_path / "f")
    assert (tmp_path / "f" / "a").read_text() == "first" and not list(tmp_path.glob("*.part"))


def test_stopped_between_two_names_the_older_folder_stays(tmp_path, monkeypatch):
    folder, replace, asked = tmp_path / "f", Path.replace, []
    folder.mkdir()
    (folder / "a").write_text("first")

    def stopped(self, to):
        asked.append(to)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt), whole_folder(folder) as f:
        (f / "a").write_text("second")
    assert (folder / "a").read_text() == "first" and not list(tmp_path.glob("*.part"))


def test_what_another_machine_is_writing_is_left_alone(tmp_path):
    host = platform.node()
    theirs = [f"f.{host}-1-999999.part", f"f.{host}-x.part", f"f.{host}-old-x.part", f"g.{host}-999999.part"]
    for name in (*theirs, f"f.{host}-999999.part"):
        (tmp_path / name).touch()
    part_of(tmp_path / "f")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(theirs)


# The runner
CELLS = {
    "wait": """
import os, sys, time
print(os.getpid(), file=sys.stderr, flush=True)
end = time.monotonic() + seconds
while time.monotonic() < end and not os.path.exists("go"):
    time.sleep(0.05)
""",
    "die": "import os; os.kill(os.getpid(), 9)",
    "memory": """
import resource
resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
import numpy as np
np.ones(2**31)
""",
    "large": """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))
open("large", "wb").write(bytes(10**7))
""",
}


@pytest.fixture
def stages(project, monkeypatch):
    "A project with a stage for each fault."
    (project / "nbs" / "experiments").mkdir(parents=True)
    for name, code in CELLS.items():
        cells = [
            new_code_cell("seconds: float = None  # to wait", metadata={"tags": ["parameters"]}),
            new_code_cell(code),
        ]
        nbformat.write(new_notebook(cells=cells, metadata=KERNEL), project / "nbs" / "experiments" / f"{name}.ipynb")
    monkeypatch.setattr("ada_repro.pipeline.stage.ROOT", project)
    monkeypatch.setattr("ada_repro.pipeline.stage.DATA", project / "data")
    return project


def stage(name, capfd):
    "Exit code of a stage, and what it said."
    capfd.readouterr()
    return main([name, "--seconds", "0"]), capfd.readouterr().err


@pytest.mark.parametrize(
    "name, words",
    [
        ("die", ["killed", "want of memory", "run again"]),
        ("memory", ["MemoryError", "Close other programs"]),
        ("large", ["File too large", "limit on file size"]),
    ],
)
def test_a_stage_out_of_memory_or_disk_says_so_in_one_line(stages, name, words, capfd):
    code, errors = stage(name, capfd)
    assert code == 1 and one_line(errors) and all(w in errors for w in words), errors


def test_no_room_and_no_folder_are_said_before_anything_runs(stages, monkeypatch, capfd):
    (stages / "data").write_text("in the way")
    code, errors = stage("wait", capfd)
    assert code == 1 and one_line(errors) and str(stages / "data") in errors
    (stages / "data").unlink()
    monkeypatch.setattr("shutil.disk_usage", lambda p: type("", (), {"free": 50 << 20}))
    code, errors = stage("wait", capfd)
    assert code == 1 and one_line(errors) and "Only 50 MB" in errors


def begun(words, folder, **kwargs):
    "A process at work, whose words can be read."
    return subprocess.Popen(
        words, cwd=folder, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs
    )


def begin(project, seconds):
    "A runner at work, and its kernel."
    runner = begun([sys.executable, "-m", "ada_repro.pipeline.stage", "wait", "--seconds", str(seconds)], project)
    said = next(line for line in runner.stdout if re.search(r"\d", line))
    return runner, psutil.Process(int(re.search(r"\d+", said)[0]))


def test_second_start_stale_lock_and_killed_runner(stages, capfd, monkeypatch):
    monkeypatch.setattr("ada_repro.pipeline.stage.wait_for", partial(wait_for, patience_s=300))  # on a busy machine
    runner, kernel = begin(stages, 300)
    code, errors = stage("wait", capfd)
    assert code == 1 and one_line(errors) and f"wait is already running, as process {runner.pid}" in errors
    runner.kill()
    runner.wait()
    code, errors = stage("wait", capfd)  # waits for the old kernel, then takes over
    assert code == 0, errors
    assert not kernel.is_running() or kernel.status() == "zombie"


# Disk full
@pytest.fixture
def small_disk(tmp_path):
    "A disk of 1 MB."
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("may not mount")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_the_last_good_state_survives_a_full_disk(small_disk):
    state = new_state(**MODEL)
    save_checkpoint(state, small_disk / "c")
    (small_disk / "rest").write_bytes(bytes((os.statvfs(small_disk).f_bavail - 8) * 4096))
    state.epoch = 1
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(state, small_disk / "c")
    with pytest.raises(OSError, match="No space left"), whole_folder(small_disk / "f") as f:
        (f / "a").write_bytes(bytes(10**5))
    assert not (small_disk / "f").exists() and not list(small_disk.rglob("*.part"))
    assert (
        load_checkpoint(new_state(**MODEL), small_disk / "c").epoch == 0
        and len(list((small_disk / "c").iterdir())) == 1
    )


# Start
def with_dvc(project):
    (project / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", project / ".dvc")
    return project


@pytest.fixture
def repository(project):
    "A project whose one stage waits until it may go on; it may."
    command = "until test -e go; do sleep 0.1; done && echo a > a"
    stage = {"cmd": command, "deps": ["params.yaml"], "outs": ["a"]}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"a": stage}}))
    (project / "go").touch()
    (project / "params.yaml").write_text("data: {dataset: phantom}\n")
    return with_dvc(project)


def test_two_make_repro_at_once(repository):
    (repository / "go").unlink()
    first, lock = begun(REPRO, repository), repository / ".dvc" / "tmp" / "repro.lock"
    while not lock.exists() or not lock.read_text():
        time.sleep(0.01)
    code, _, errors = python(repository, "-m", "ada_repro.pipeline.start")
    assert code == 1 and one_line(errors) and f"repro is already running, as process {first.pid}" in errors
    (repository / "go").touch()
    first.communicate()
    assert first.returncode == 0 and (repository / "a").read_text() == "a\n"


def test_after_kill_of_dvc_alone_the_orphan_is_named(repository):
    with held(repository / "data" / "locks" / "baseline-paper-0.lock"):
        code, _, errors = python(repository, "-m", "ada_repro.pipeline.start")
    assert code == 1 and one_line(errors) and f"baseline-paper-0 is already running, as process {os.getpid()}" in errors
    code, _, errors = python(repository, "-m", "ada_repro.pipeline.start")
    assert code == 0 and (repository / "a").exists(), errors


def test_the_lock_of_each_graph_is_mended(repository):
    (repository / "evidence").mkdir()
    stage = {"cmd": "echo b > ../b", "outs": ["../b"]}
    (repository / "evidence" / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"b": stage}}))
    assert python(repository, "-m", "ada_repro.pipeline.start", "evidence/dvc.yaml")[0] == 0
    lock = repository / "evidence" / "dvc.lock"
    whole = lock.read_text()
    for target in ([], ["evidence/dvc.yaml"]):
        lock.write_text(whole[: len(whole) // 2])
        assert find_cut(repository) == [lock]
        code, _, errors = python(repository, "-m", "ada_repro.pipeline.start", *target)
        assert code == 0 and errors.count("evidence/dvc.lock was cut off") == 1, errors
        assert find_cut(repository) == []
    assert lock.read_text() == whole


def test_what_dvc_left_half_written_is_mended(repository):
    assert python(repository, "-m", "ada_repro.pipeline.start")[0] == 0
    lock = (repository / "dvc.lock").read_text()
    (repository / "dvc.lock").write_text(lock[: len(lock) // 2])
    (repository / ".dvc" / "tmp" / "rwlock").write_text('{"read": {')
    code, output, errors = python(repository, "-m", "ada_repro.pipeline.start")
    assert code == 0 and errors.count("made again") == 2 and (repository / "dvc.lock").read_text() == lock
    assert "restored" in output or "cached" in output.lower(), output
    for n in range(len(lock)):  # what passes for whole, DVC can read
        if is_whole_lock(lock[:n]):
            COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(lock[:n]))


LISTED = {"cmd": ["x", "y"], "params": {"params.yaml": {"seeds": [0, None], "none": None}}, "outs": [{"path": "a"}]}


def test_a_lock_with_lists_and_no_values_is_whole():
    "As DVC writes a command of several lines, and parameters that are lists or null."
    text = dumps_yaml({"schema": "2.0", "stages": {"a": LISTED}})
    assert is_whole_lock(text)
    for n in range(len(text)):
        if is_whole_lock(text[:n]):
            COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(text[:n]))


@pytest.fixture
def messy(repository):
    "A data set with one sound file, beside what no program could read, and none needs to."
    stage = {"cmd": "cat data/raw/bids/scan > a", "deps": ["data/raw/bids"], "outs": ["a"]}
    (repository / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"a": stage}}))
    folder = repository / "data" / "raw" / "bids"
    (folder / "sub 1 [a]!#").mkdir(parents=True)
    (folder / "scan").write_text("first")
    (folder / "link").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "up").symlink_to("..")
    (folder / os.fsdecode(b"sub 1 [a]!#/\xff.nii")).write_text("x")
    (folder / os.fsdecode(b"\xfe")).mkdir()
    (folder / os.fsdecode(b"\xfe") / "inside").symlink_to("nowhere")
    (folder / ".git").mkdir()
    (folder / ".git" / "object").symlink_to("annex")
    os.mkfifo(folder / "sub 1 [a]!#" / "pipe*\n?")
    with contextlib.chdir(folder), socket.socket(socket.AF_UNIX) as door:
        door.bind("socket")
    return repository


def test_what_no_stage_reads_is_no_concern_of_dvc(messy):
    raw, made = messy / "data" / "raw", messy / "a"
    before = sorted(raw.rglob("*"))
    code, _, errors = python(messy, "-m", "ada_repro.pipeline.start")
    assert code == 0 and made.read_text() == "first", errors
    assert sorted(raw.rglob("*")) == before
    assert (messy / "data" / ".dvcignore").read_text().count("\n") == 7
    assert "didn't change" in python(messy, "-m", "ada_repro.pipeline.start")[1]
    (raw / "bids" / "scan").write_text("second")
    assert python(messy, "-m", "ada_repro.pipeline.start")[0] == 0 and made.read_text() == "second"


def test_a_file_that_was_fetched_is_seen(messy):
    ignored = messy / "data" / ".dvcignore"
    ignored.write_text("*.mine\n")
    assert python(messy, "-m", "ada_repro.pipeline.start")[0] == 0
    lines = ignored.read_text().splitlines()
    assert lines[0] == "*.mine" and "/raw/bids/link" in lines
    (messy / "data" / "raw" / "bids" / "nowhere").write_text("fetched")
    assert python(messy, "-m", "ada_repro.pipeline.start")[0] == 0
    assert ignored.read_text().startswith("*.mine\n") and "/raw/bids/link" not in ignored.read_text()
    shutil.rmtree(messy / "data" / "raw" / "bids")
    (messy / "data" / "raw" / "bids").mkdir()
    (messy / "data" / "raw" / "bids" / "scan").write_text("alone")
    assert python(messy, "-m", "ada_repro.pipeline.start")[0] == 0
    assert ignored.read_text() == "*.mine\n" and (messy / "a").read_text() == "alone"


def test_a_data_set_may_lie_elsewhere(messy, tmp_path):
    folder = messy / "data" / "raw" / "bids"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert python(messy, "-m", "ada_repro.pipeline.start")[0] == 0 and (messy / "a").read_text() == "first"
    (tmp_path / "elsewhere" / "scan").write_text("second")
    assert python(messy, "-m", "ada_repro.pipeline.start")[0] == 0 and (messy / "a").read_text() == "second"


@pytest.mark.parametrize("text", ["profile: smoke\n", "data: bids\n"])
def test_a_star_that_was_left_out_is_one_line(text, repository):
    (repository / "params.yaml").write_text(text)
    code, _, errors = python(repository, "-m", "ada_repro.pipeline.start")
    assert code == 1 and one_line(errors) and text.replace(": ", ": *").strip() in errors


# Stages side by side
@pytest.fixture
def pair(stages):
    "Two stages that may run at once."
    for name in ("one", "two"):
        shutil.copy(stages / "nbs" / "experiments" / "wait.ipynb", stages / "nbs" / "experiments" / f"{name}.ipynb")
    made = {}
    for name in ("one", "two"):
        command = f"python -m ada_repro.pipeline.stage {name} --seconds ${{seconds}} && echo {name} > {name}"
        made[name] = {"cmd": command, "outs": [name]}
    (stages / "dvc.yaml").write_text(yaml.safe_dump({"stages": made}))
    return with_dvc(stages)


def start(project, seconds, **kwargs):
    "What `make repro` runs, when a kernel is at work."
    (project / "params.yaml").write_text(f"profile: {{machine: {{threads: 1}}}}\nseconds: {seconds}\n")
    process = begun(REPRO, project, **kwargs)
    while process.poll() is None and not [p for p in (project / "data").glob("locks/*.kernel.lock") if p.read_text()]:
        time.sleep(0.05)
    return process


def living(project):
    "The processes at work in a project."
    found = []
    for p in psutil.process_iter(["cwd", "status"]):
        if p.info["cwd"] == str(project) and p.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(p)
    return found


def both_made(project):
    return [(project / n).read_text() for n in ("one", "two")] == ["one\n", "two\n"]


def test_two_starts_at_the_same_moment(pair):
    (pair / "params.yaml").write_text("profile: {machine: {threads: 1}}\nseconds: 300\n")
    both = [begun(REPRO, pair) for _ in range(2)]
    while all(process.poll() is None for process in both):
        time.sleep(0.05)
    (pair / "go").touch()
    said = [process.communicate()[0] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    runs, refused = sorted((0, 1), key=lambda i: both[i].returncode)
    assert said[refused] == f"repro: repro is already running, as process {both[runs].pid}. Wait for it, or stop it\n"
    assert both_made(pair)


def with_offspring(processes):
    "Processes that live, and those they have begun since."
    living = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            living += [process, *process.children(recursive=True)]
    return list(dict.fromkeys(living))


def test_start_killed_alone_and_started_again(pair):
    first = start(pair, 6)
    orphans = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.communicate()
    code, output, errors = python(pair, "-m", "ada_repro.pipeline.start")
    orphans = with_offspring(orphans)
    if code:
        named = re.search(r"already running, as process (\d+)", errors)
        assert one_line(errors) and named and int(named[1]) in [p.pid for p in orphans], errors
    psutil.wait_procs(orphans)
    assert python(pair, "-m", "ada_repro.pipeline.start")[0] == 0 and both_made(pair)


def turn_deaf():
    "What a shell does to what it starts in the background of a script."
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize("deaf", [False, True], ids=["by_hand", "in_the_background_of_a_script"])
def test_told_to_stop_it_stops_all_stages(pair, deaf):
    first = start(pair, 300, preexec_fn=turn_deaf if deaf else None)
    below = psutil.Process(first.pid).children(recursive=True)
    first.terminate()
    output, _ = first.communicate()  # when all who could speak have ended: within seconds, or when the stages do
    assert first.returncode == 1 and output.endswith("repro: stopped; run again to go on\n"), output
    assert len(below) > 3 and not (pair / "one").exists() and not (pair / "two").exists()
    psutil.wait_procs(below)
    again = start(pair, 0)
    output, _ = again.communicate()
    assert again.returncode == 0 and both_made(pair), output


@pytest.mark.parametrize("minutes", ["0", "nine", "-1", "1e3"])
def test_no_number_of_minutes_is_said_in_one_line(pair, monkeypatch, minutes):
    monkeypatch.setitem(ENV, "MINUTES", minutes)
    code, _, errors = python(pair, "-m", "ada_repro.pipeline.start")
    assert code == 1 and one_line(errors) and f"MINUTES must be a number above 0, not '{minutes}'" in errors


@pytest.mark.parametrize("minutes", ["", None, "9" * 400, "1"])
def test_any_number_of_minutes_can_be_given(monkeypatch, minutes):
    before = signal.getsignal(signal.SIGALRM)
    monkeypatch.setenv(STOP_AT, "")  # is put back
    set_time(minutes)
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    assert (left > 60) == bool(minutes)


def test_after_the_minutes_it_stops_by_itself_and_goes_on_later(pair, monkeypatch):
    monkeypatch.setitem(ENV, "MINUTES", "0.01")
    first = start(pair, 300)
    output, _ = first.communicate()
    assert first.returncode == 1 and output.endswith("repro: the time is up; run again to go on\n"), output
    assert not (pair / "one").exists() and not living(pair)
    monkeypatch.setitem(ENV, "MINUTES", "30")
    again = start(pair, 0)
    output, _ = again.communicate()
    assert again.returncode == 0 and both_made(pair), output


DIES_GIVING_BIRTH = "trap 'sleep 300 & exit 1' INT; touch begun; while :; do sleep 0.1; done"


def test_told_to_stop_it_also_stops_the_deaf_child_of_a_dead_parent(stages):
    "What a shell starts in the background does not hear SIGINT; its parent is gone before anybody looks again."
    (stages / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"a": {"cmd": DIES_GIVING_BIRTH, "outs": ["a"]}}}))
    (stages / "params.yaml").write_text("profile: {machine: {threads: 1}}\n")
    first = begun(REPRO, with_dvc(stages))
    while not (stages / "begun").exists():
        time.sleep(0.05)
    first.terminate()
    output, _ = first.communicate()
    assert first.returncode == 1 and output.endswith("repro: stopped; run again to go on\n"), output
    assert not living(stages)


@pytest.mark.skipif(
    count_jobs({"profile": {"machine": {"threads": 1}}}) < 2, reason="one core: DVC itself says who is in its way"
)
def test_a_dvc_by_hand_is_named(pair):
    (pair / "params.yaml").write_text("profile: {machine: {threads: 1}}\nseconds: 300\n")
    by_hand = begun([sys.executable, "-m", "dvc", "repro", "-s", "one"], pair)
    next(line for line in by_hand.stdout if "Running stage" in line)
    code, _, errors = python(pair, "-m", "ada_repro.pipeline.start")
    below = psutil.Process(by_hand.pid).children(recursive=True)
    who = re.fullmatch(
        r"repro: (dvc|one|one\.kernel) is already running, as process (\d+)\. Wait for it, or stop it\n", errors
    )
    assert code == 1 and who and int(who[2]) in [by_hand.pid, *(p.pid for p in below)], errors
    for p in [psutil.Process(by_hand.pid), *below]:
        p.kill()
    by_hand.communicate()
    assert start(pair, 0).wait() == 0 and both_made(pair)


# Hostile files
@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_file_runs_nothing(name, tmp_path):
    assert is_refused(name, tmp_path / "crafted")


def test_the_pickle_would_have_run(tmp_path):
    pickle.loads(legacy(Evil(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


COULD_RUN = "|".join(
    [
        r"\bpickle\b",
        "allow_pickle=True",
        "weights_only=False",
        r"yaml\.(load|unsafe_load|full_load)\b",
        r"(?<![.\w])(eval|exec)\(",
        r"os\.system",
        "shell=True",
    ]
)


def loads(tree):
    "The arguments of each call of torch.load, by name."
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            yield {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}


def test_nothing_in_the_package_loads_what_could_run():
    for path in (ROOT / "ada_repro").rglob("*.py"):
        text = path.read_text()
        assert not re.search(COULD_RUN, text), path.name
        assert all(told["weights_only"] == "True" for told in loads(ast.parse(text))), path.name


# Memory
def test_memory_stays_flat_over_attributions():
    assert memory_grown_mb(80) < 8


# The network
OFFLINE = """
import os, sys
HERE = (None, '', 'localhost', '127.0.0.1', '::1')
def refuse(event, args):
    if event in ('socket.connect', 'socket.sendto'):
        where = args[1]
        if isinstance(where, tuple) and not str(where[0]).startswith(('127.', '::1', 'localhost')): report(where)
    if event in ('socket.getaddrinfo', 'socket.gethostbyname') and args[0] not in HERE: report(args)
def report(what):
    with open(os.environ['WENT_OUT'], 'a') as f: f.write(f'{sys.argv} {what}\\n')
    raise OSError('offline')
sys.addaudithook(refuse)
"""
GO_OUT = 'import socket; socket.create_connection(("192.0.2.1", 80))'


def test_nothing_asks_the_network(stages, tmp_path):
    "In every Python process: dvc, runner, kernel."
    (stages / "site").mkdir()
    (stages / "site" / "sitecustomize.py").write_text(OFFLINE)
    env = {
        "PYTHONPATH": os.pathsep.join([str(stages / "site"), ENV["PYTHONPATH"]]),
        "WENT_OUT": str(stages / "went_out"),
    }
    (stages / "dvc.yaml").write_text(
        "stages:\n  a:\n    cmd: python -m ada_repro.pipeline.stage wait --seconds 0 && echo a > a\n    outs: [a]\n"
    )
    (stages / "params.yaml").write_text("{}\n")
    code, _, _ = python(stages, "-c", GO_OUT, env=env)
    assert code == 1 and (stages / "went_out").exists()
    (stages / "went_out").unlink()
    code, output, errors = python(with_dvc(stages), "-m", "ada_repro.pipeline.start", env=env)
    assert code == 0 and (stages / "a").exists(), errors
    assert not (stages / "went_out").exists(), (stages / "went_out").read_text()
