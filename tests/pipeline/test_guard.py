"A command alone, watched and noted: what it may not outlive, what is not done twice."

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from sharing import one_line, wait_until

from ada_repro.pipeline.guard import Task, fingerprint, guarded, is_noted, write_note
from ada_repro.pipeline.locks import Busy, held, wait_for


@pytest.fixture
def head(tmp_path):
    "A file that this process has locked."
    with held(tmp_path / "head.lock"):
        yield tmp_path / "head.lock"


@pytest.fixture
def task(tmp_path, head):
    "A task that says when it is at work, waits until it may end, and makes a file."
    words = ["sh", "-c", "echo $$ >> begun; until test -e go; do sleep 0.05; done; echo 1 > made"]
    outs, place = [str(tmp_path / "made")], str(tmp_path / "logs")
    return Task("ada@a", words, str(tmp_path), {}, outs, "key", place, str(head), head.read_text())


def begin(task):
    "Its guard, when the command is at work."
    before = begun(task)
    guard = subprocess.Popen(guarded(task, os.getpid()), process_group=0)
    while begun(task) == before and guard.poll() is None:
        time.sleep(0.02)
    return guard


def begun(task):
    "The processes that the command has been."
    path = Path(task.folder, "begun")
    return path.read_text().split() if path.exists() else []


def gone(numbers):
    "Whether these processes end within half a minute."
    end = time.monotonic() + 30
    while any(psutil.pid_exists(int(number)) for number in numbers) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(psutil.pid_exists(int(number)) for number in numbers)


# The note
def test_a_task_that_has_ended_well_is_not_done_again(task):
    Path(task.folder, "go").touch()
    assert [subprocess.run(guarded(task, os.getpid())).returncode for _ in range(2)] == [0, 0]
    assert len(begun(task)) == 1 and is_noted(task)


@pytest.mark.parametrize("what", ["another key", "changed", "removed", "touched", "half a note", "no note"])
def test_a_note_counts_for_just_what_was_made(task, what):
    made, note = Path(task.outs[0]), task.file("json")
    note.parent.mkdir()
    made.write_text("1")
    write_note(task)
    assert is_noted(task)
    if what == "another key":
        task = replace(task, key="other")
    if what == "changed":
        made.write_text("12")
    if what == "removed":
        made.unlink()
    if what == "touched":
        os.utime(made, ns=(1, 1))
    if what == "half a note":
        note.write_text(note.read_text()[:-3])
    if what == "no note":
        note.unlink()
    assert not is_noted(task)


def test_a_fingerprint_sees_every_file_of_a_folder(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("1")
    before = fingerprint([str(tmp_path / "a")])
    assert before == fingerprint([str(tmp_path / "a")]) != ""
    (tmp_path / "a" / "b" / "d").touch()
    assert fingerprint([str(tmp_path / "a")]) not in (before, "")
    assert fingerprint([str(tmp_path / "a"), str(tmp_path / "none")]) == ""


def test_a_task_that_fails_leaves_no_note_and_its_exit_code(task):
    task = replace(task, command=["sh", "-c", "echo no luck >&2; exit 7"])
    assert subprocess.run(guarded(task, os.getpid())).returncode == 7 and not is_noted(task)
    assert task.file("log").read_text() == "no luck\n"


# Watched
PARENT = """
import subprocess, sys, time
guard = subprocess.Popen(sys.argv[1:] + [str(__import__("os").getpid())], process_group=0)
print(guard.pid, flush=True)
time.sleep(600)
"""


def test_a_command_ends_with_the_process_that_began_its_guard(task):
    words = [sys.executable, "-c", PARENT, *guarded(task, 0)[:-1]]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    number = parent.stdout.readline().strip()
    while not begun(task):
        time.sleep(0.02)
    parent.kill()
    parent.communicate()
    assert gone([number, *begun(task)]) and not is_noted(task)


@pytest.mark.parametrize("how", ["it says that it stops", "it is gone", "another one is here"])
def test_a_command_ends_with_its_head(task, tmp_path, how):
    other = tmp_path / "other.lock"
    other.write_text("123")
    task = replace(task, head=str(other), head_says="123")
    lock = held(other)
    lock.__enter__()
    task = replace(task, head_says=other.read_text())
    guard = begin(task)
    if how == "it says that it stops":
        other.write_text("stops")
    else:
        lock.__exit__(None, None, None)
    if how == "another one is here":
        with held(other):
            other.write_text("456")
            assert guard.wait(30) == 1
    assert guard.wait(30) == 1 and gone(begun(task))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_command_ends_with_its_guard(task):
    guard = begin(task)
    guard.kill()
    guard.wait()
    assert gone(begun(task))


@pytest.mark.parametrize("word", [signal.SIGTERM, signal.SIGINT])
def test_a_guard_that_is_told_to_end_ends_its_command(task, word):
    guard = begin(task)
    os.killpg(guard.pid, word)
    assert guard.wait(30) != 0 and gone(begun(task)) and not is_noted(task)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to the guard")
@pytest.mark.parametrize("ends", ["echo 1 > made", "exit 3"])
def test_what_a_command_leaves_behind_ends_with_it(task, ends):
    "A daemon in a session of its own, too; so the next try need not wait for it."
    leave = "sleep 600 & echo $! >> begun; setsid sleep 600 & echo $! >> begun"
    task = replace(task, command=["bash", "-c", f"{leave}; trap '' TERM; {ends}"])
    assert subprocess.run(guarded(task, os.getpid())).returncode == (3 if "exit" in ends else 0)
    assert len(begun(task)) == 2 and not any(psutil.pid_exists(int(number)) for number in begun(task))
    wait_for(task.file("lock"), 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to the guard")
def test_a_command_that_listens_to_nobody_is_killed_with_all_it_began(task, head):
    deaf = "trap '' TERM INT; echo $$ >> begun; setsid sleep 600 & echo $! >> begun; until test -e go; do sleep 1; done"
    task = replace(task, command=["bash", "-c", deaf])
    guard = begin(task)
    wait_until(lambda: len(begun(task)) == 2)
    head.write_text("stops")
    assert guard.wait(30) != 0 and gone(begun(task))


# Its files
NAMES = [
    "ada@a",
    "a b",
    "a_b",
    "a/b",
    "evidence/dvc.yaml:a",
    "evidence_dvc.yaml_a",
    "\u65e5" * 90,
    "a" * 300,
    "a" * 301,
]


def test_each_stage_has_files_of_its_own(task):
    paths = {name: replace(task, name=name).file("json") for name in NAMES}
    assert len(set(paths.values())) == len(NAMES) and paths["ada@a"].name == "ada@a.json"
    for name, path in paths.items():
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert path.parent == Path(task.place), name


# Alone
def test_a_retry_waits_until_nobody_of_the_first_try_is_left(task):
    first = begin(task)
    second = subprocess.Popen(guarded(task, os.getpid()), process_group=0)
    time.sleep(0.5)
    assert len(begun(task)) == 1 and second.poll() is None
    with pytest.raises(Busy, match=f"ada@a is already running, as process {first.pid}"):
        wait_for(task.file("lock"), 0)
    Path(task.folder, "go").touch()
    assert (first.wait(30), second.wait(30)) == (0, 0) and len(begun(task)) == 1, "the second finds the note"


def test_what_waits_ends_with_its_head(task, head):
    with held(task.file("lock")):
        second = subprocess.Popen(guarded(task, os.getpid()), process_group=0)
        head.write_text("stops")
        assert second.wait(30) == 1 and begun(task) == []


@pytest.mark.parametrize("wrong", [{"command": ["/no/such/shell", "-c", "true"]}, {"folder": "/no/such/folder"}])
def test_what_cannot_be_begun_is_said_in_one_line(task, wrong):
    done = subprocess.run(guarded(replace(task, **wrong), os.getpid()), capture_output=True, text=True)
    assert done.returncode == 1 and one_line(done.stderr) and "ada@a: [Errno 2] No such file" in done.stderr
