"A stage copied from a warm process does what one of its own does, and ends as one would."

import json
import os
import signal
import subprocess
import sys
import tempfile

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from sharing import ENV, one_line, python

from ada_repro.core import ROOT
from ada_repro.pipeline import warm
from ada_repro.pipeline.warm import WARM, warm_process

KERNEL = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
SAY = """
import os, sys, time, warnings
from pathlib import Path
import matplotlib.pyplot as plt
import numpy as np
import torch
from ada_repro.core import ROOT
from ada_repro.evidence.figures import figure_style
from ada_repro.train.runs import run_record
figure_style()
plt.plot([0, 1])
plt.title("ä → ∞")
plt.savefig("figure.png", metadata={"Software": None})
x = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
np.save("product.npy", (x @ x).numpy())
print("ä → ∞", file=sys.stderr)
warnings.warn("to be seen")
record = run_record({}, "-")
record["versions"], torch.get_num_threads(), f"{ROOT}", sys.stdin.read(), "ipykernel" in sys.modules
"""
CELLS = {
    "say": [SAY, "plt.plot([1, 0]);"],
    "wait": ["import os, sys, time", "print(os.getpid(), file=sys.stderr, flush=True)\ntime.sleep(300)"],
    "die": ["import os; os.kill(os.getpid(), 9)"],
    "who": ["from pathlib import Path", "Path('who').write_bytes(Path('/proc/self/cmdline').read_bytes())"],
}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there a process is copied")


@pytest.fixture
def project(tmp_path):
    "A project with a few stages."
    folder = tmp_path / "project"
    (folder / "nbs" / "experiments").mkdir(parents=True)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    for name, cells in CELLS.items():
        parameters = new_code_cell("n: int = None  # nothing", metadata={"tags": ["parameters"]})
        nb = new_notebook(cells=[parameters, *map(new_code_cell, cells)], metadata=KERNEL)
        nbformat.write(nb, folder / "nbs" / "experiments" / f"{name}.ipynb")
    return folder


@pytest.fixture(scope="module")
def listening():
    "Where a warm process listens."
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.delenv(WARM, raising=False)
        with warm_process({"profile": {"machine": {"threads": 1}}}):
            yield os.environ[WARM]


def words(name, threads=1):
    "What DVC would call."
    return [sys.executable, "-m", "ada_repro.pipeline.stage", name, "--n", "0", "--threads", str(threads)]


def ran(project, name, listening, threads=1):
    "Exit code of a stage, and what it said."
    env = ENV | {WARM: listening}
    done = subprocess.run(words(name, threads), cwd=project, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_the_same_files_and_words(project, listening):
    made = []
    for where in ("off", listening):
        code, output, errors = ran(project, "say", where)
        assert code == 0, errors
        names = ("figure.png", "product.npy", "data/executed/say.ipynb")
        made.append(
            (output, errors.splitlines()[0], "to be seen" in errors, *((project / n).read_bytes() for n in names))
        )
    assert made[0] == made[1]
    assert made[0][-1].count(b"image/png") == 2 and b"False" not in made[0][-1]


def test_a_stage_with_another_number_of_threads_is_started_afresh(project, listening):
    for threads, module in ((1, b"pipeline.warm"), (2, b"pipeline.kernel")):
        assert ran(project, "who", listening, threads)[0] == 0
        assert module in (project / "who").read_bytes()


def test_what_goes_wrong_is_one_line(project, listening):
    code, _, errors = ran(project, "die", listening)
    assert code == 1 and one_line(errors) and "its process was killed" in errors
    code, _, errors = ran(project, "nothing", listening)
    assert code == 1 and one_line(errors) and "There is no stage 'nothing'" in errors


def at_work(project, listening):
    "A client, its runner and its kernel."
    env = ENV | {WARM: listening}
    client = subprocess.Popen(words("wait"), cwd=project, env=env, stderr=subprocess.PIPE, text=True)
    kernel = psutil.Process(int(client.stderr.readline()))
    return client, kernel.parent(), kernel


@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_told_to_end_all_of_it_ends(project, listening, word):
    client, runner, kernel = at_work(project, listening)
    assert int((project / "data" / "locks" / "wait.lock").read_text()) == runner.pid
    client.send_signal(word)
    _, errors = client.communicate()
    assert not psutil.wait_procs([runner, kernel], timeout=60)[1]
    if word != signal.SIGKILL:
        assert client.returncode == 1 and errors.strip() == "wait: stopped; run again to go on"


def test_the_runner_killed_alone_is_one_line_and_its_kernel_ends(project, listening):
    client, runner, kernel = at_work(project, listening)
    runner.kill()
    _, errors = client.communicate()
    assert client.returncode == 1 and one_line(errors) and "its process was killed" in errors
    assert not psutil.wait_procs([kernel], timeout=60)[1]


IMPORTED = """
import json, os, sys
from ada_repro.pipeline.warm import import_slow
import_slow()
import torch
own = [name for name in sys.modules if name.startswith("ada_repro.") and "pipeline" not in name]
inline, tasks = "matplotlib_inline.backend_inline" in sys.modules, len(os.listdir("/proc/self/task"))
print(json.dumps([own, inline, torch.cuda.is_initialized(), tasks]))
"""


def test_what_is_imported_beforehand_is_what_no_edit_changes_and_has_no_threads():
    code, output, errors = python(ROOT, "-c", IMPORTED, env={"PYTHONWARNINGS": "ignore"})
    assert code == 0, errors
    assert json.loads(output) == [[], False, False, 1]


def test_modules_of_the_project_are_forgotten(monkeypatch):
    monkeypatch.setattr(sys, "modules", {"ada_repro": 1, "ada_repro.core": 1, "ada_repro_of_others": 1, "torch": 1})
    warm.forget_project()
    assert set(sys.modules) == {"ada_repro_of_others", "torch"}


STARTS = """
import os, time
from ada_repro.pipeline.warm import WARM, warm_process
with warm_process({"profile": {"machine": {"threads": 1}}}):
    print(os.environ[WARM], flush=True)
    time.sleep(300)
"""


@pytest.mark.parametrize("used", [False, True])
def test_it_ends_with_the_process_that_began_it(project, used):
    parent = subprocess.Popen([sys.executable, "-c", STARTS], cwd=ROOT, env=ENV, stdout=subprocess.PIPE, text=True)
    path = parent.stdout.readline().strip()
    if used:
        assert ran(project, "who", path)[0] == 0
    below = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.communicate()
    assert below and not psutil.wait_procs(below, timeout=60)[1]
    code, _, errors = ran(project, "who", path)  # nobody listens: the stage imports for itself
    assert code == 0 and b"pipeline.kernel" in (project / "who").read_bytes(), errors


@pytest.mark.parametrize("threads", [None, 0])
def test_without_a_number_of_threads_there_is_none(threads, monkeypatch):
    monkeypatch.delenv(WARM, raising=False)
    with warm_process({"profile": {"machine": {"threads": threads}}}):
        assert WARM not in os.environ


def test_told_to_have_none_there_is_none(monkeypatch):
    monkeypatch.setenv(WARM, "off")
    began = psutil.Process().children()
    with warm_process({"profile": {"machine": {"threads": 1}}}):
        assert os.environ[WARM] == "off" and psutil.Process().children() == began
    assert warm.hand_over(["who"]) is None


def test_where_names_of_temporary_files_are_long_there_is_none(monkeypatch, tmp_path):
    monkeypatch.delenv(WARM, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", f"{tmp_path}/{'long' * 30}")
    with warm_process({"profile": {"machine": {"threads": 1}}}):
        assert WARM not in os.environ
