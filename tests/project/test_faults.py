"Kills, full disks, second starts, hostile files: a short sample of `make faults`. What is promised stands in docs/promises.md."

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import yaml
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from nbformat.v4 import new_code_cell, new_notebook

from ada_repro.core import whole_file, whole_folder
from ada_repro.data.datasets import prepare
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import load_slices
from ada_repro.pipeline.engine import count_jobs
from ada_repro.pipeline.code import write_arms
from ada_repro.pipeline.locks import held
from ada_repro.pipeline.params import parse_words, read_params
from ada_repro.pipeline.stage import main, notebook_parameters
from ada_repro.pipeline.start import is_whole_lock
from ada_repro.train.runs import (
    first_record,
    fit,
    load_checkpoint,
    load_model,
    load_state,
    parent_state,
    run_key,
    save_checkpoint,
    state_bytes,
)
from ada_repro.train.training import new_state

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
MODEL = {"width": 4, "dropout": 0.1, "bn_momentum": 0.4, "lr": 0.01, "seed": 0}
HOW = {"arm": "gradcam", "seed": 0, "standard_epochs": 2, "cycles": 2, "ada_epochs": 1, "size": 5, "batch_size": 8}


def python(folder, *words, env={}, **kwargs):
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=ENV | env, capture_output=True, text=True, timeout=300, **kwargs
    )
    return done.returncode, done.stdout, done.stderr


def one_line(text):
    return len(text.strip().splitlines()) == 1 and "Traceback" not in text


def hashes(folder):
    "SHA-256 of every file; of run.json without what it cost."

    def content(p):
        if p.name != "run.json":
            return p.read_bytes()
        return json.dumps(
            {k: v for k, v in json.loads(p.read_text()).items() if k not in ("seconds", "peak_memory_mb")}
        ).encode()

    return {
        str(p.relative_to(folder)): hashlib.sha256(content(p)).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


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
torch.set_num_threads(1)
def fit(): runs.fit(Path('data/runs/gradcam-0'), new_state(**{MODEL}), Path('data/slices'), keep_state=True, **{HOW})
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
for how in (lambda: after(0), at_rename, renamed, lambda: after(.3), at_sync, renamed, lambda: after(1), at_tidying, lambda: after(.9), renamed, None):
    if not (child := os.fork()):
        if how: how()
        fit(); os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *sorted(p.name[:6] + p.suffix for p in Path('data/checkpoints').rglob('*.*')), flush=True)
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
    os.symlink(slices, project / "data" / "slices")
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
    path.write_bytes(b"" if how == "empty" else content[:-1] if how == "cut" else content)


@pytest.mark.parametrize("how", ["bit", "cut", "empty"])
def test_a_broken_checkpoint_is_passed_over(checkpoints, how, capsys):
    second, newest = sorted(checkpoints.iterdir())
    spoil(newest, how)
    assert load_checkpoint(new_state(**MODEL), checkpoints).epoch == 2
    assert one_line(words := capsys.readouterr().err) and "broken" in words
    spoil(second, how)
    assert load_checkpoint(new_state(**MODEL), checkpoints).epoch == 0


def test_nothing_else_determines_a_run_and_all_of_it_is_in_the_key():
    def key(how={}, data="a", epochs=0, **model):
        state = new_state(**MODEL | model)
        state.epoch = epochs
        return run_key(first_record(state, data, HOW | how))

    others = [
        key(data="b"),
        key(epochs=1),
        *(key(**{k: v}) for k, v in {"width": 8, "dropout": 0.2, "bn_momentum": 0.3, "lr": 0.02, "seed": 1}.items()),
        *(
            key({k: v})
            for k, v in {
                "arm": "vanilla",
                "seed": 1,
                "standard_epochs": 3,
                "cycles": 3,
                "ada_epochs": 2,
                "size": 6,
                "batch_size": 4,
                "protect": "none",
            }.items()
        ),
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    others.append(key())
    torch.set_num_threads(threads)
    assert key() == key() and len({key(), *others}) == 1 + len(others)


def test_weights_that_are_not_finite_are_no_state_to_go_on_from(project, slices, monkeypatch):
    "A loss between -1 and 0 cannot explode; weights can, and after the last batch of an epoch no loss would tell."
    monkeypatch.setattr("ada_repro.runs.DATA", with_slices(project, slices) / "data")
    with pytest.raises(FloatingPointError, match="last batch of epoch 1"):
        fit(
            project / "data" / "runs" / "gradcam-0",
            new_state(**MODEL | {"lr": float("inf")}),
            slices,
            **HOW | {"batch_size": 16},
        )
    assert not (project / "data" / "runs").exists() and not list((project / "data").glob("checkpoints/*/*"))


def test_equal_states_are_equal_bytes(checkpoints):
    state = load_checkpoint(new_state(**MODEL | {"seed": 5}), checkpoints)
    assert hashlib.sha256(state_bytes(state)).hexdigest() == max(checkpoints.iterdir()).stem[7:]


# Half-written results
def test_two_processes_never_share_a_part(tmp_path):
    "The second begins, and ends, while the first is writing."
    other = "from pathlib import Path\nfrom ada_repro.core import whole_file, whole_folder\nimport sys\nwith whole_folder(Path('f')) as f, whole_file(Path('x')) as x: (f/'a').write_text('second'); x.write_text('second')"
    with whole_folder(tmp_path / "f") as f, whole_file(tmp_path / "x") as x:
        (f / "a").write_text("first")
        x.write_text("first")
        assert python(tmp_path, "-c", other)[0] == 0
        assert (tmp_path / "f" / "a").read_text() == (tmp_path / "x").read_text() == "second" and (
            f / "a"
        ).read_text() == x.read_text() == "first"
    assert (tmp_path / "f" / "a").read_text() == (tmp_path / "x").read_text() == "first" and not list(
        tmp_path.glob("*.part")
    )


def test_what_a_dead_process_left_is_swept_away(tmp_path):
    die = "import os, sys\nfrom pathlib import Path\nfrom ada_repro.core import whole_file, whole_folder\nwith whole_folder(Path('f')) as f, whole_file(Path('x')) as x: (f/'a').write_text('half'); x.write_text('half'); os.kill(os.getpid(), 9)"
    assert python(tmp_path, "-c", die)[0] == -9
    assert len(list(tmp_path.glob("*.part"))) == 2 and not (tmp_path / "f").exists() and not (tmp_path / "x").exists()
    with whole_folder(tmp_path / "f") as f, whole_file(tmp_path / "x") as x:
        (f / "a").write_text("whole")
        x.write_text("whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "x"]


# The runner
KERNEL = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
CELLS = {
    "wait": "import os, sys, time; print(os.getpid(), file=sys.stderr, flush=True); time.sleep(seconds)",
    "die": "import os; os.kill(os.getpid(), 9)",
    "memory": "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33)); import numpy as np; np.ones(2**31)",
    "large": 'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)); open("large", "wb").write(bytes(10**7))',
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


def begin(project, seconds):
    "A runner at work, and its kernel."
    runner = subprocess.Popen(
        [sys.executable, "-m", "ada_repro.pipeline.stage", "wait", "--seconds", str(seconds)],
        cwd=project,
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return runner, psutil.Process(
        int(re.search(r"\d+", next(line for line in runner.stdout if re.search(r"\d", line)))[0])
    )


def test_second_start_stale_lock_and_killed_runner(stages, capfd):
    runner, kernel = begin(stages, 60)
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
    shutil.copy(Path(__file__).parents[2] / ".dvc" / "config", project / ".dvc")
    return project


@pytest.fixture
def repository(project):
    "A project whose one stage takes a while."
    (project / "dvc.yaml").write_text(
        "stages:\n  a:\n    cmd: sleep 1 && echo a > a\n    deps: [params.yaml]\n    outs: [a]\n"
    )
    (project / "params.yaml").write_text("data: {dataset: phantom}\n")
    return with_dvc(project)


def test_two_make_repro_at_once(repository):
    first = subprocess.Popen(
        [sys.executable, "-m", "ada_repro.pipeline.start"],
        cwd=repository,
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (lock := repository / ".dvc" / "tmp" / "repro.lock").exists() or not lock.read_text():
        time.sleep(0.01)
    code, _, errors = python(repository, "-m", "ada_repro.pipeline.start")
    assert code == 1 and one_line(errors) and f"repro is already running, as process {first.pid}" in errors
    assert first.wait() == 0 and (repository / "a").read_text() == "a\n"


def test_after_kill_of_dvc_alone_the_orphan_is_named(repository):
    with held(repository / "data" / "locks" / "baseline-0.lock"):
        code, _, errors = python(repository, "-m", "ada_repro.pipeline.start")
    assert code == 1 and one_line(errors) and f"baseline-0 is already running, as process {os.getpid()}" in errors
    code, _, errors = python(repository, "-m", "ada_repro.pipeline.start")
    assert code == 0 and (repository / "a").exists(), errors


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


def test_what_is_no_file_is_named_before_it_is_waited_for(repository):
    (repository / "data" / "raw" / "phantom").mkdir(parents=True)
    os.mkfifo(pipe := repository / "data" / "raw" / "phantom" / "site1-sc01-image.nii.gz")
    code, _, errors = python(repository, "-m", "ada_repro.pipeline.start")
    assert code == 1 and one_line(errors) and str(pipe) in errors and "Remove it" in errors


# Stages side by side
@pytest.fixture
def pair(stages):
    "Two stages that may run at once."
    for name in ("one", "two"):
        shutil.copy(stages / "nbs" / "experiments" / "wait.ipynb", stages / "nbs" / "experiments" / f"{name}.ipynb")
    made = {
        n: {"cmd": f"python -m ada_repro.pipeline.stage {n} --seconds ${{seconds}} && echo {n} > {n}", "outs": [n]}
        for n in ("one", "two")
    }
    (stages / "dvc.yaml").write_text(yaml.safe_dump({"stages": made}))
    return with_dvc(stages)


def start(project, seconds, **kwargs):
    "What `make repro` runs, when a kernel is at work."
    (project / "params.yaml").write_text(f"profile: {{machine: {{threads: 1}}}}\nseconds: {seconds}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "ada_repro.pipeline.start"],
        cwd=project,
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **kwargs,
    )
    while process.poll() is None and not [p for p in (project / "data").glob("locks/*.kernel.lock") if p.read_text()]:
        time.sleep(0.05)
    return process


def both_made(project):
    return [(project / n).read_text() for n in ("one", "two")] == ["one\n", "two\n"]


def test_two_starts_at_the_same_moment(pair):
    (pair / "params.yaml").write_text("profile: {machine: {threads: 1}}\nseconds: 2\n")
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "ada_repro.pipeline.start"],
            cwd=pair,
            env=ENV,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = {p.wait(): (p, errors) for p in both for errors in [p.communicate(timeout=120)[1]]}
    assert (
        said.keys() == {0, 1}
        and said[1][1] == f"repro: repro is already running, as process {said[0][0].pid}. Wait for it, or stop it\n"
    ), said
    assert both_made(pair)


def test_start_killed_alone_and_started_again(pair):
    first = start(pair, 6)
    orphans = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.communicate()
    code, output, errors = python(pair, "-m", "ada_repro.pipeline.start")
    assert (
        code == 0
        or one_line(errors)
        and "already running, as process" in errors
        and int(re.search(r"process (\d+)", errors)[1]) in [p.pid for p in orphans]
    ), errors
    psutil.wait_procs(orphans, timeout=60)
    assert python(pair, "-m", "ada_repro.pipeline.start")[0] == 0 and both_made(pair)


@pytest.mark.parametrize("deaf", [False, True], ids=["by_hand", "in_the_background_of_a_script"])
def test_told_to_stop_it_stops_all_stages(pair, deaf):
    first = start(pair, 60, preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if deaf else None)
    below = psutil.Process(first.pid).children(recursive=True)
    first.terminate()
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 1 and output.endswith("repro: stopped; run again to go on\n"), output
    assert (
        len(below) > 3
        and not psutil.wait_procs(below, timeout=20)[1]
        and not (pair / "one").exists()
        and not (pair / "two").exists()
    )
    assert start(pair, 0).wait() == 0 and both_made(pair)


@pytest.mark.skipif(
    count_jobs({"profile": {"machine": {"threads": 1}}}) < 2, reason="one core: DVC itself says who is in its way"
)
def test_a_dvc_by_hand_is_named(pair):
    (pair / "params.yaml").write_text("profile: {machine: {threads: 1}}\nseconds: 60\n")
    by_hand = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "-s", "one"],
        cwd=pair,
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    next(line for line in by_hand.stdout if "Running stage" in line)
    code, _, errors = python(pair, "-m", "ada_repro.pipeline.start")
    below = psutil.Process(by_hand.pid).children(recursive=True)
    who = re.fullmatch(
        r"repro: (dvc|one|one\.kernel) is already running, as process (\d+)\. Wait for it, or stop it\n", errors
    )
    assert code == 1 and who and int(who[2]) in [by_hand.pid, *(p.pid for p in below)], errors
    for p in below:
        p.send_signal(signal.SIGINT)
    by_hand.communicate()
    assert start(pair, 0).wait() == 0 and both_made(pair)


# Hostile files: each is offered to what reads its kind; none may run
class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def legacy(evil):
    return pickle.dumps(evil, protocol=2)


def zipped(evil, name="x.pt"):
    to = io.BytesIO()
    torch.save({"model": evil}, to)
    return to.getvalue()


def crafted_checkpoint(folder, evil):
    (folder / "c").mkdir()
    content = zipped(evil)
    (folder / "c" / f"000001-{hashlib.sha256(content).hexdigest()}.pt").write_bytes(content)
    load_checkpoint(new_state(**MODEL), folder / "c")


def crafted_state(content):
    def offer(folder, evil):
        (folder / "state.pt").write_bytes(content(evil))
        load_state(new_state(**MODEL), folder / "state.pt")

    return offer


def crafted_parent(folder, evil):
    (folder / "state.pt").write_bytes(zipped(evil))
    parent_state(new_state(**MODEL), folder)


def torchscript(folder, evil):
    torch.jit.script(torch.nn.ReLU()).save(folder / "state.pt")
    load_state(new_state(**MODEL), folder / "state.pt")


def weights(content):
    def offer(folder, evil):
        (folder / "best.safetensors").write_bytes(content(evil))
        load_model(folder / "best.safetensors", 4)

    return offer


def beyond(evil):
    header = json.dumps({"head.bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1 << 40]}}).encode()
    return struct.pack("<Q", len(header)) + header


def slices_with(name):
    def offer(folder, evil):
        for n in ("images", "targets"):
            np.save(
                folder / f"{n}.npy",
                np.array([evil], dtype=object) if n == name else np.zeros((1, 1, 8, 8), np.float32),
                allow_pickle=True,
            )
        (folder / "slices.csv").write_text(
            "site,subject,person,slice,spacing_mm,native_mm,slice_mm,split\n1,a,a,0,1.0,1.0,5.0,train\n"
        )
        load_slices(folder)

    return offer


def pickled_npy(folder, evil):
    (folder / "slices.csv").write_text("site\n1\n")
    (folder / "images.npy").write_bytes(legacy(evil))
    load_slices(folder)


def archive(folder, evil):
    np.savez(folder / "preds.npz", original=np.array([evil], dtype=object))
    np.load(folder / "preds.npz")["original"]


def yaml_value(folder, evil):
    cells = [new_code_cell("size: int = None  # of the window", metadata={"tags": ["parameters"]})]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), folder / "s.ipynb")
    notebook_parameters(
        folder / "s.ipynb", parse_words(["--size", f'!!python/object/apply:builtins.open ["{evil.path}", "w"]'])
    )


def yaml_file(folder, evil):
    (folder / "params.yaml").write_text(f'data: !!python/object/apply:builtins.open ["{evil.path}", "w"]\n')
    read_params(folder / "params.yaml")


def names(text):
    def offer(folder, evil):
        (folder / "params.yaml").write_text(json.dumps({"data": {"dataset": text.format(evil.path)}}))
        read_params(folder / "params.yaml")

    return offer


def in_the_runner(*words):
    def offer(folder, evil):
        if main([w.format(evil.path) for w in words]):
            raise ValueError("refused")

    return offer


CRAFTED = {
    "pickle_as_state": crafted_state(zipped),
    "old_pickle_as_state": crafted_state(legacy),
    "pickle_as_parent": crafted_parent,
    "torchscript_as_state": torchscript,
    "pickle_as_checkpoint_with_right_checksum": crafted_checkpoint,
    "pickle_as_weights": weights(legacy),
    "torch_file_as_weights": weights(zipped),
    "huge_safetensors_header": weights(lambda e: struct.pack("<Q", 2**63 - 1) + b"{}"),
    "safetensors_beyond_the_file": weights(beyond),
    "objects_as_images": slices_with("images"),
    "objects_as_targets": slices_with("targets"),
    "pickle_as_images": pickled_npy,
    "objects_as_predictions": archive,
    "yaml_tag_on_the_command_line": yaml_value,
    "yaml_tag_in_params": yaml_file,
    "shell_in_params": names("phantom; touch {}"),
    "substitution_in_params": names("$(touch {})"),
    "path_in_params": names("../../etc"),
    "path_as_stage": in_the_runner("../../tests/project/test_faults"),
    "path_as_dataset": lambda f, e: prepare("../../etc", f, f / "out", 1.0, 40),
    "path_as_arm": lambda f, e: write_arms(f / "arms", ["../../evil"]),
    "code_as_arm": lambda f, e: write_arms(f / "arms", [f'open({e.path!r}, "w")']),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_file_runs_nothing(name, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(Exception):
        CRAFTED[name](tmp_path / "in", Evil(tmp_path / "ran"))
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_the_pickle_would_have_run(tmp_path):
    pickle.loads(legacy(Evil(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_nothing_in_the_package_loads_what_could_run():
    for path in Path(sys.modules["ada_repro.core"].__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert not re.search(
            r"\bpickle\b|allow_pickle=True|weights_only=False|yaml\.(load|unsafe_load|full_load)\b|(?<![.\w])(eval|exec)\(|os\.system|shell=True",
            text,
        ), path.name
        assert all("weights_only=True" in line for line in text.splitlines() if "torch.load(" in line)


# Memory
ATTRIBUTIONS = """
import resource, sys, torch
from ada_repro.method.saliency import SALIENCY, saliency_map
from ada_repro.method.unet import UNet
torch.set_num_threads(1)
model, x, t = UNet(8).eval(), torch.randn(4, 1, 40, 40), torch.ones(4, 40, 40, dtype=torch.bool)
methods, peaks = list(SALIENCY), []
for i in range(int(sys.argv[1])):
    saliency_map(model, x, t, methods[i % len(methods)])
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[19], peaks[-1])
"""


def memory_grown_mb(attributions):
    "How much the peak has grown after the first twenty."
    code, output, errors = python(".", "-c", ATTRIBUTIONS, str(attributions))
    assert code == 0, errors
    first, last = map(int, output.split())
    return (last - first) / 1024


def test_memory_stays_flat_over_attributions():
    assert memory_grown_mb(80) < 8


# The network
OFFLINE = """
import os, sys
def refuse(event, args):
    if event in ('socket.connect', 'socket.sendto'):
        where = args[1]
        if isinstance(where, tuple) and not str(where[0]).startswith(('127.', '::1', 'localhost')): report(where)
    if event in ('socket.getaddrinfo', 'socket.gethostbyname') and args[0] not in (None, '', 'localhost', '127.0.0.1', '::1'): report(args)
def report(what):
    with open(os.environ['WENT_OUT'], 'a') as f: f.write(f'{sys.argv} {what}\\n')
    raise OSError('offline')
sys.addaudithook(refuse)
"""


def test_nothing_asks_the_network(stages, tmp_path):
    "In every Python process: dvc, runner, kernel."
    (stages / "site").mkdir()
    (stages / "site" / "sitecustomize.py").write_text(OFFLINE)
    env = {
        "PYTHONPATH": os.pathsep.join([str(stages / "site"), os.environ.get("PYTHONPATH", "")]),
        "WENT_OUT": str(stages / "went_out"),
    }
    (stages / "dvc.yaml").write_text(
        "stages:\n  a:\n    cmd: python -m ada_repro.pipeline.stage wait --seconds 0 && echo a > a\n    outs: [a]\n"
    )
    (stages / "params.yaml").write_text("{}\n")
    assert (
        python(stages, "-c", 'import socket; socket.create_connection(("192.0.2.1", 80))', env=env)[0] == 1
        and (stages / "went_out").exists()
    )
    (stages / "went_out").unlink()
    code, output, errors = python(with_dvc(stages), "-m", "ada_repro.pipeline.start", env=env)
    assert code == 0 and (stages / "a").exists(), errors
    assert not (stages / "went_out").exists(), (stages / "went_out").read_text()
