"Whoever runs the commands, a thread, Dask or srun, makes the same bytes, and nobody is left behind."

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import wait
from contextlib import ExitStack

import psutil
import pytest
import yaml
from sharing import ENV, ROOT, hashes, python, wait_until

from ada_repro.pipeline.executors import LENT, find_workers, lent_gpu, list_gpus, thread_workers
from ada_repro.pipeline.guard import Task
from ada_repro.pipeline.locks import held

START = [sys.executable, "-m", "ada_repro.pipeline.start"]


# GPUs
def see_gpus(monkeypatch, told):
    "Let this process see other GPUs."
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)


@pytest.fixture
def tasks(tmp_path):
    "Tasks that say which GPU they see, and meet there."
    meet = "touch here$DVC_STAGE; until test -e here0 && test -e here1; do sleep 0.05; done"
    with held(tmp_path / "head.lock"):
        says, made = (tmp_path / "head.lock").read_text(), []
        for n in range(4):
            env, head = {"DVC_STAGE": str(n)}, str(tmp_path / "head.lock")
            words = ["sh", "-c", f"echo $CUDA_VISIBLE_DEVICES; {meet}"]
            made.append(Task(f"see@{n}", words, str(tmp_path), env, [], "k", str(tmp_path / "logs"), head, says))
        yield made


def test_each_command_has_a_gpu_of_its_own(monkeypatch, tasks):
    see_gpus(monkeypatch, "3,5")
    with thread_workers(2) as workers:
        wait(workers.submit(task) for task in tasks)
    seen = [task.file("log").read_text().strip() for task in tasks]
    assert set(seen[:2]) == {"3", "5"}, "two at the same time"
    assert set(seen) == {"3", "5"} and not any(LENT.values())


def test_more_commands_than_gpus_are_spread_evenly(monkeypatch):
    see_gpus(monkeypatch, "0,1")
    with ExitStack() as stack:
        lent = [stack.enter_context(lent_gpu())["CUDA_VISIBLE_DEVICES"] for _ in range(5)]
    assert sorted(lent[:4]) == ["0", "0", "1", "1"] and not any(LENT.values())


@pytest.mark.parametrize("told, gpus", [("", []), ("7", ["7"]), ("0,1", ["0", "1"])])
def test_where_there_is_no_choice_nothing_is_said(monkeypatch, told, gpus):
    see_gpus(monkeypatch, told)
    with lent_gpu() as env:
        assert list_gpus() == gpus and (env == {}) == (len(gpus) < 2)


# What a user says
@pytest.mark.parametrize(
    "told, words",
    [
        ({"JOBS": "0"}, "JOBS is '0'. Give a number"),
        ({"JOBS": "two"}, "JOBS is 'two'. Give a number"),
        ({"SCHEDULER": "local", "SRUN": "srun"}, "exclude each other"),
        ({"SRUN": "no-such-srun -n1"}, "'no-such-srun', which is not there"),
        ({"SRUN": "srun 'x"}, 'SRUN is "srun \'x": No closing quotation'),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(told, words):
    with pytest.raises(ValueError, match=words):
        find_workers(told, 2)


def test_without_dask_its_name_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install -e \.\[cluster\]"), find_workers({"SCHEDULER": "local"}, 2):
        pass


# The same bytes
@pytest.fixture
def stages():
    "A tiny study: three trainings, each scored, and what is made of all."
    made = {"check": {"cmd": "mkdir code && cp first code/a", "deps": ["first"], "outs": ["code"]}}
    for arm in "abc":
        run = f"sleep 0.{ord(arm) % 3} && mkdir -p runs/{arm} && echo {arm} | cat code/a - > runs/{arm}/w"
        made[f"ada_{arm}"] = {"cmd": run, "deps": ["code/a"], "outs": [f"runs/{arm}"]}
        score = f"wc runs/{arm}/w > {arm}.csv"
        made[f"score_{arm}"] = {"cmd": score, "deps": [f"runs/{arm}/w"], "outs": [f"{arm}.csv"]}
    tables = [f"{arm}.csv" for arm in "abc"]
    made["figures"] = {"cmd": "cat *.csv > table", "deps": ["runs", *tables], "outs": [{"table": {"cache": False}}]}
    return made


def project(folder, stages):
    "A folder with these stages."
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text((ROOT / ".dvc" / "config").read_text())
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (folder / "params.yaml").write_text("profile: {machine: {threads: 1}}\n")
    (folder / "first").write_text("1\n")
    return folder


def made(folder):
    "The bytes of what the graph makes, dvc.lock among them; that DVC agrees."
    code, output, errors = python(folder, "-m", "dvc", "status")
    assert code == 0 and "up to date" in output, output + errors
    names = {name: digest for name, digest in hashes(folder).items() if not name.startswith((".dvc/", "data/"))}
    assert {"dvc.lock", "table", "runs/a/w"} <= names.keys()
    return names


@pytest.fixture
def plain(tmp_path, stages):
    "What plain `dvc repro` makes."
    folder = project(tmp_path / "plain", stages)
    code, output, errors = python(folder, "-m", "dvc", "repro", "-q")
    assert code == 0, output + errors
    return made(folder)


FAKE_SRUN = """#!/bin/sh
echo "$@" | cut -c 1-40 >> {log}
test "$1" = --ntasks=1 && shift
exec "$@"
"""


@pytest.fixture
def srun(tmp_path):
    "A program that does what `srun` does on a cluster of one machine."
    script = tmp_path / "bin" / "srun"
    script.parent.mkdir()
    script.write_text(FAKE_SRUN.format(log=tmp_path / "srun.log"))
    script.chmod(0o755)
    return script


def test_threads_and_srun_make_the_bytes_of_plain_dvc(tmp_path, stages, plain, srun):
    for name, env in {"threads": {"JOBS": "3"}, "srun": {"SRUN": f"{srun} --ntasks=1", "JOBS": "2"}}.items():
        folder = project(tmp_path / name, stages)
        code, output, errors = python(folder, "-m", "ada_repro.pipeline.start", env=env)
        assert code == 0 and "Running stage 'figures'" in errors, output + errors
        assert made(folder) == plain
    assert len((tmp_path / "srun.log").read_text().splitlines()) == len(stages)


def test_a_head_that_is_killed_ends_what_srun_runs(tmp_path, srun):
    wait_for_ever = {"cmd": "echo $$ >> begun; sleep 600", "outs": ["never"]}
    folder = project(tmp_path / "p", {"a": wait_for_ever})
    head = subprocess.Popen(START, cwd=folder, env=ENV | {"SRUN": f"{srun} --ntasks=1"}, stderr=subprocess.DEVNULL)
    while not (folder / "begun").exists():
        time.sleep(0.05)
    head.kill()
    head.wait()
    end_of(folder)


def end_of(folder):
    "Wait until nobody works in a folder."
    wait_until(lambda: not living(folder))


def living(folder):
    "The processes at work in a project."
    found = []
    for process in psutil.process_iter(["cwd", "status"]):
        if process.info["cwd"] == str(folder) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


# Dask
@pytest.fixture
def cluster(tmp_path):
    "A Dask scheduler and two workers, each a process of its own; the scheduler's file, and the workers."
    pytest.importorskip("distributed", reason="Dask is an extra: pip install -e .[cluster]")
    file = tmp_path / "scheduler.json"
    words = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--scheduler-file", str(file), "--port", "0"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path, "env": ENV}
    scheduler = subprocess.Popen([*words, "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"], **quiet)
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--nthreads", "1"]
    worker += ["--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
    workers = [subprocess.Popen(worker, **quiet) for _ in range(2)]
    wait_until(file.exists)
    yield file, workers
    for process in [*workers, scheduler]:
        process.kill()
        process.wait()


def test_dask_makes_the_bytes_of_plain_dvc(tmp_path, stages, plain, cluster):
    folder = project(tmp_path / "dask", stages)
    code, output, errors = python(folder, "-m", "ada_repro.pipeline.start", env={"SCHEDULER": str(cluster[0])})
    assert code == 0, output + errors
    assert made(folder) == plain


def test_a_worker_that_is_killed_leaves_nobody_and_its_task_is_run_by_another(tmp_path, cluster):
    file, workers = cluster
    command = "echo $$ >> begun; until test -e go; do sleep 0.05; done; echo 1 > one"
    folder = project(tmp_path / "p", {"one": {"cmd": command, "outs": ["one"]}})
    with (tmp_path / "said").open("wb") as said:
        head = subprocess.Popen(START, cwd=folder, env=ENV | {"SCHEDULER": str(file)}, stdout=said, stderr=said)
        first = wait_begun(folder, 1)[0]
        busy = next(worker for worker in workers if is_above(worker, first))
        busy.kill()
        wait_begun(folder, 2)
        assert not psutil.pid_exists(first), "the second begins after the first has ended"
        (folder / "go").touch()
        assert head.wait(60) == 0, (tmp_path / "said").read_text()
    assert len(wait_begun(folder, 2)) == 2 and (folder / "one").read_text() == "1\n"


@pytest.mark.parametrize("word", [signal.SIGKILL, signal.SIGTERM])
def test_a_head_that_ends_ends_what_dask_runs(tmp_path, cluster, word):
    wait_for_ever = {"cmd": "echo $$ >> begun; sleep 600", "outs": ["never"]}
    folder = project(tmp_path / "p", {"a": wait_for_ever})
    env = ENV | {"SCHEDULER": str(cluster[0])}
    head = subprocess.Popen(START, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_begun(folder, 1)
    head.send_signal(word)
    assert head.wait(60) != 0
    end_of(folder)


def wait_begun(folder, many):
    "The processes that a command has been, when it has been so many."
    path = folder / "begun"
    wait_until(lambda: path.exists() and len(path.read_text().splitlines()) >= many)
    return [int(number) for number in path.read_text().split()]


def is_above(worker, number):
    "Whether a process has begun another."
    return number in [child.pid for child in psutil.Process(worker.pid).children(recursive=True)]


def test_nobody_answers(monkeypatch):
    distributed = pytest.importorskip("distributed", reason="Dask is an extra: pip install -e .[cluster]")
    monkeypatch.setattr("ada_repro.pipeline.executors.ANSWERS_WITHIN", 1)
    loops = len(distributed.utils.LoopRunner._all_loops)
    nobody = {"SCHEDULER": "tcp://127.0.0.1:9"}
    with pytest.raises(ValueError, match="No Dask scheduler answers at tcp://127.0.0.1:9"), find_workers(nobody, 2):
        pass
    assert len(distributed.utils.LoopRunner._all_loops) == loops  # one that is left can block the next client's start


@pytest.mark.parametrize("where", ["tcp://nobody:port", "bogus://nobody:1", "", "{", "[]", "{}", '{"address": null}'])
def test_what_names_no_scheduler_is_refused_in_one_line(tmp_path, monkeypatch, where):
    pytest.importorskip("distributed", reason="Dask is an extra: pip install -e .[cluster]")
    monkeypatch.setattr("ada_repro.pipeline.executors.ANSWERS_WITHIN", 1)
    file = tmp_path / "scheduler.json"
    file.write_text(where)
    told = {"SCHEDULER": where if "://" in where else str(file)}
    with pytest.raises(ValueError, match="No Dask scheduler answers at"), find_workers(told, 2):
        pass


def test_a_file_that_is_not_there_is_named():
    pytest.importorskip("distributed", reason="Dask is an extra: pip install -e .[cluster]")
    with (
        pytest.raises(ValueError, match="SCHEDULER is 'no-file.json', neither"),
        find_workers({"SCHEDULER": "no-file.json"}, 2),
    ):
        pass


def test_a_local_cluster_runs_commands(tasks):
    pytest.importorskip("distributed", reason="Dask is an extra: pip install -e .[cluster]")
    with find_workers({"SCHEDULER": "local"}, 2) as workers:
        assert workers.room() == 2
        futures = [workers.submit(task) for task in tasks[:2]]
        wait(futures)
        assert [future.result() for future in futures] == [0, 0]


# No disk in common
def test_two_machines_without_a_common_disk_share_a_folder_of_results(tmp_path, stages, plain):
    "What one has run the other fetches, by the recipe of docs/more_machines.md."
    for name in ("head", "worker"):
        folder = project(tmp_path / name, stages)
        dvc(folder, "remote", "add", "-q", "--local", "--default", "common", str(tmp_path / "common"))
    head, worker = tmp_path / "head", tmp_path / "worker"
    assert python(head, "-m", "ada_repro.pipeline.start", "check")[0] == 0
    dvc(head, "push", "-q", "--run-cache")
    shutil.copy(head / "dvc.lock", worker)
    assert "Running stage 'ada_b'" in dvc(worker, "repro", "-s", "--pull", "ada_b", "score_b")
    assert not (worker / "runs" / "a").exists()
    dvc(worker, "push", "-q", "--run-cache")
    dvc(head, "fetch", "-q", "--run-cache")
    code, output, errors = python(head, "-m", "ada_repro.pipeline.start")
    assert code == 0 and "Running stage 'ada_a'" in errors, output + errors
    assert "Running stage 'ada_b'" not in errors and "Running stage 'score_b'" not in errors
    assert made(head) == plain


def dvc(folder, *words):
    "What `dvc` says."
    code, output, errors = python(folder, "-m", "dvc", *words)
    assert code == 0, output + errors
    return output


# A real SLURM
SLURM = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}
SlurmdSpoolDir={folder}
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/daemon.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/daemon.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
DAEMONS = ("munged", "slurmctld", "slurmd", "srun")


def free_ports():
    "Two ports that nobody listens to."
    with socket.socket() as one, socket.socket() as two:
        for listener in (one, two):
            listener.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


@pytest.fixture
def slurm(tmp_path):
    "A SLURM of this machine alone: a controller, a node, and munge, which says who is who; what makes `srun` find it."
    if not all(map(shutil.which, DAEMONS)) or os.geteuid():
        pytest.skip("needs Debian's slurm-wlm, and to be root")
    folder, host = tmp_path / "slurm", socket.gethostname().partition(".")[0]
    folder.mkdir()
    (folder / "slurm.conf").write_text(SLURM.format(host=host, folder=folder, ports=free_ports()))
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o400)
    munge = ["munged", "--foreground", "--force", f"--key-file={folder}/key", f"--socket={folder}/munge.socket"]
    munge += [f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/seed"]
    env = ENV | {"SLURM_CONF": str(folder / "slurm.conf")}
    words = [munge, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env}
    daemons = []
    try:
        for daemon in words:
            daemons.append(subprocess.Popen(daemon, **quiet))
            time.sleep(1)
        ready = ["srun", "--ntasks=1", "true"]
        wait_until(lambda: subprocess.run(ready, timeout=30, **quiet).returncode == 0)
        yield {"SLURM_CONF": env["SLURM_CONF"], "SRUN": "srun --quiet --ntasks=1"}
    finally:
        for daemon in reversed(daemons):
            daemon.kill()
            daemon.wait()


def test_slurm_makes_the_bytes_of_plain_dvc(tmp_path, stages, plain, slurm):
    folder = project(tmp_path / "real", stages)
    code, output, errors = python(folder, "-m", "ada_repro.pipeline.start", env=slurm | {"JOBS": "4"})
    assert code == 0, output + errors
    assert made(folder) == plain


@pytest.mark.parametrize("word", [signal.SIGKILL, signal.SIGTERM])
def test_a_head_that_ends_ends_what_slurm_runs(tmp_path, slurm, word):
    wait_for_ever = {"cmd": "echo $$ >> begun; sleep 600", "outs": ["never"]}
    folder = project(tmp_path / "p", {"a": wait_for_ever})
    head = subprocess.Popen(START, cwd=folder, env=ENV | slurm, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_begun(folder, 1)
    head.send_signal(word)
    assert head.wait(90) != 0
    end_of(folder)
    asked = {"env": ENV | slurm, "capture_output": True, "text": True}
    wait_until(lambda: subprocess.run(["squeue", "-h"], **asked).stdout == "")


def test_a_command_that_slurm_ends_is_tried_again(tmp_path, slurm):
    command = "echo $$ >> begun; until test -e go; do sleep 0.05; done; echo 1 > one"
    folder = project(tmp_path / "p", {"one": {"cmd": command, "outs": ["one"]}})
    head = subprocess.Popen(START, cwd=folder, env=ENV | slurm, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_begun(folder, 1)
    jobs = subprocess.run(["squeue", "-ho", "%A"], env=ENV | slurm, capture_output=True, text=True).stdout.split()
    subprocess.run(["scancel", *jobs], env=ENV | slurm, check=True)
    wait_begun(folder, 2)
    (folder / "go").touch()
    assert head.wait(60) == 0 and (folder / "one").read_text() == "1\n"
