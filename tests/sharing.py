"What several test files use: copies of the checkout, processes of their own, what a folder holds."

import hashlib
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PATH = f"{BIN}{os.pathsep}{os.environ['PATH']}"
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": PATH, "PYTHONPATH": str(ROOT)}  # the package of this checkout


# The checkout
def committed_files():
    "What is committed, or would be by `git add .`."
    words = ["git", "ls-files", "-coz", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def copy_checkout(to):
    "What a fresh clone holds."
    for path in committed_files():
        copy = to / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    return to


def copy_of(folder, to):
    "A project, to do things to."
    shutil.copytree(folder, to, symlinks=True)
    return to


def edit(folder, **new):
    "Change values of params.yaml where their names stand, leaving anchors as they are."
    path = folder / "params.yaml"
    for old, text in new.values():
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, text))


def built_once(folder, build):
    "The folder, after one of the processes that test side by side has built it."
    built = folder.with_name(f"{folder.name}.built")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not built.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a failed build has left
            build(folder)
            built.touch()
    return folder


# Processes
def python(folder, *words, env=None, **kwargs):
    "Exit code, output and errors of a Python process; the first words are its own, e.g. `-m dvc repro`."
    told = ENV | (env or {})
    if (folder / "ada_repro").is_dir():
        told["PYTHONPATH"] = str(folder)  # a copy of the checkout uses its own package
    done = subprocess.run([sys.executable, *words], cwd=folder, env=told, capture_output=True, text=True, **kwargs)
    return done.returncode, done.stdout, done.stderr


def run(folder, *words):
    "Exit code of a module, e.g. `dvc repro`, and all that it said."
    code, output, errors = python(folder, "-m", *words)
    return code, output + errors


def stages_run(output):
    "The stages that DVC ran, by what it said."
    return sorted(re.findall(r"Running stage '(.+?)'", output))


def one_line(text):
    "Whether it is one line, and no traceback."
    return len(text.strip().splitlines()) == 1 and "Traceback" not in text


# Bits
def hashes(folder):
    "SHA-256 of every file."
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# Memory
ATTRIBUTIONS = """
import resource, sys, torch
from ada_repro.method.saliency import SALIENCY, saliency_map
from ada_repro.method.unet import UNet
torch.set_num_threads(1)
model, x, y = UNet(8).eval(), torch.randn(4, 1, 40, 40), torch.ones(4, 40, 40, dtype=torch.bool)
methods, peaks = list(SALIENCY), []
for i in range(int(sys.argv[1])):
    saliency_map(model, x, y, methods[i % len(methods)])
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[19], peaks[-1])
"""


def memory_grown_mb(attributions):
    "How much the peak of that many attributions has grown after the first twenty."
    code, output, errors = python(ROOT, "-c", ATTRIBUTIONS, str(attributions))
    assert code == 0, errors
    first, last = map(int, output.split())
    return (last - first) / 1024


# Notebooks
FORKS = multiprocessing.get_context("forkserver")  # of a process that has imported what is slow to import
FORKS.set_forkserver_preload(["captum.attr", "nbdev.test", "nibabel", "papermill", "scipy.ndimage", "seaborn", "torch"])


def run_cells(notebook, root, log):
    "Run a notebook's cells in this process, in the notebook's folder; the exit code tells whether they ended well."
    from nbdev.test import test_nb

    os.chdir(notebook.parent)
    with log.open("w") as sys.stderr:
        fine, _ = test_nb(notebook, basepath=root)
    sys.exit(not fine)


def run_notebook(notebook, root, log):
    "Run a notebook in a process of its own; an error is in the log."
    process = FORKS.Process(target=run_cells, args=(notebook, root, log))
    process.start()
    process.join()
    return process.exitcode


# Time
def wait_until(happens):
    "Until something is so, within a minute."
    end = time.monotonic() + 60
    while not happens() and time.monotonic() < end:
        time.sleep(0.05)
    assert happens()
