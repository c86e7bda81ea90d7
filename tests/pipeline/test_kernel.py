"What lies about on a machine changes nothing: other kernels, start-up files, styles, modules and locales."

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from sharing import ENV, copy_of, one_line, python, stages_run

from ada_repro.core import ROOT
from ada_repro.pipeline.kernel import hides
from ada_repro.train.runs import module_version

KERNEL = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
CELL = """
import json, sys
from pathlib import Path
import matplotlib.pyplot as plt
from ada_repro.train.runs import run_record
record = run_record({}, "-")
known = {"versions": record["versions"], "python": sys.executable, "poisoned": "poison" in globals()}
Path("record.json").write_text(json.dumps(known))
plt.plot([0, 1])
plt.title("ä → ∞")
plt.savefig("figure.png", metadata={"Software": None})
print("ä → ∞", file=sys.stderr)
Path("text.txt").write_text("ä → ∞")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "A project with one stage, which says what it runs on and draws."
    folder = tmp_path_factory.mktemp("project")
    (folder / "nbs" / "experiments").mkdir(parents=True)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    cells = [new_code_cell("n: int = None  # nothing", metadata={"tags": ["parameters"]}), new_code_cell(CELL)]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), folder / "nbs" / "experiments" / "say.ipynb")
    return folder


def say(project, **env):
    "What the stage says of itself, its picture, its executed copy, and what the terminal shows."
    told = {**ENV, "PYTHONPATH": str(ROOT)} | env
    words = [sys.executable, "-m", "ada_repro.pipeline.stage", "say", "--n", "0"]
    done = subprocess.run(words, cwd=project, env=told, capture_output=True)
    shown = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, shown
    names = ("record.json", "figure.png", "text.txt", "data/executed/say.ipynb")
    return [(project / name).read_bytes() for name in names], shown


@pytest.fixture(scope="module")
def undisturbed(project):
    return say(project)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def start_up_file(folder):
    for name in ("profile_default/startup/00.py", "profile_default/ipython_config.py"):
        write(folder / name, "poison = 1\nraise SystemExit('poisoned')\n")
    startup = write(folder / "startup.py", "poison = 1\n")
    return {"IPYTHONDIR": str(folder), "PYTHONSTARTUP": str(startup)}


def configured_ipython(folder):
    write(folder / "profile_default" / "ipython_kernel_config.py", "c.IPKernelApp.exec_lines = ['poison = 1']\n")
    write(folder / "profile_default" / "ipython_config.py", "c.InlineBackend.rc = {'figure.dpi': 300}\n")
    return {"IPYTHONDIR": str(folder)}


def other_kernel(folder):
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "python3", "language": "python"}
    write(folder / "kernels" / "python3" / "kernel.json", json.dumps(spec))
    return {"JUPYTER_PATH": str(folder), "JUPYTER_DATA_DIR": str(folder), "JUPYTER_PREFER_ENV_PATH": "0"}


def other_style(folder):
    rc = write(folder / "matplotlibrc", "font.size: 30\nfont.family: serif\nlines.linewidth: 9\nbackend: pdf\n")
    return {"MATPLOTLIBRC": str(rc), "MPLBACKEND": "svg"}


def other_modules(folder):
    for name in ("torch", "numpy", "pandas", "yaml"):
        write(folder / f"{name}.py", "__version__ = '0'\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def other_locale(folder):
    return {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}


@pytest.mark.parametrize(
    "surroundings",
    [start_up_file, configured_ipython, other_kernel, other_style, other_modules, other_locale],
    ids=lambda f: f.__name__,
)
def test_surroundings_change_nothing(surroundings, project, undisturbed, tmp_path):
    files, shown = say(project, **surroundings(tmp_path))
    assert files == undisturbed[0]
    assert "ä → ∞" in shown and "0" not in json.loads(files[0])["versions"].values()


def test_a_style_in_the_project_changes_nothing(project, undisturbed):
    rc = write(project / "matplotlibrc", "font.size: 30\nlines.linewidth: 9\n")
    try:
        assert say(project)[0] == undisturbed[0]
    finally:
        rc.unlink()


def test_a_record_names_what_was_imported(undisturbed):
    record = json.loads(undisturbed[0][0])
    assert record["python"] == sys.executable and not record["poisoned"]
    assert record["versions"] == {"python": sys.version.split()[0]} | {
        name: module_version(name) for name in ("torch", "captum", "numpy", "scipy", "nibabel")
    }


def test_a_version_is_the_modules_own(tmp_path, monkeypatch):
    write(tmp_path / "numbers_of_mine.py", "__version__ = '7'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert module_version("numbers_of_mine") == "7" and module_version("json") != ""


@pytest.mark.parametrize(
    "file, found",
    [
        ("numpy.py", ["numpy"]),
        ("numpy/__init__.py", ["numpy"]),
        ("json.py", ["json"]),
        ("numpy/data.txt", []),
        ("mine.py", []),
        ("sitecustomize.py", []),
        ("ada_repro/__init__.py", []),
    ],
)
def test_what_hides_a_module(file, found, tmp_path):
    write(tmp_path / file, "")
    assert hides(str(tmp_path), [str(Path(pytest.__file__).parents[1])]) == found


def test_windows_is_told_of_wsl(tmp_path):
    code = "import sys; sys.modules['fcntl'] = None; import ada_repro.pipeline.start"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=ENV, capture_output=True, text=True)
    assert done.returncode == 1 and one_line(done.stderr) and "WSL" in done.stderr, done.stderr


# The checkout itself
def test_a_download_without_git_with_its_data_on_another_disk(fresh, tmp_path):
    folder = copy_of(fresh, tmp_path / "ada repro (ä)")
    shutil.rmtree(folder / ".git")
    disk = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    elsewhere = disk / f"{tmp_path.name}-{os.getpid()}"
    shutil.move(folder / "data", elsewhere)
    (folder / "data").symlink_to(elsewhere)
    try:
        code, output, errors = python(folder, "-m", "ada_repro.pipeline.start", "prepare", env=other_locale(tmp_path))
        assert code == 0 and {"check", "phantom", "prepare"} <= set(stages_run(output + errors)), output + errors
        assert (elsewhere / "slices" / "report.json").exists()
        code, output, errors = python(folder, "-m", "dvc", "repro", "prepare")
        assert code == 0 and stages_run(output) == [], output + errors
    finally:
        shutil.rmtree(elsewhere)
