"The house rules: what is pinned, what is exported, how a notebook looks, what may be committed."

import ast
import dataclasses
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import yaml
from fastcore.docments import docments
from nbclient import NotebookClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ada_repro.evidence.claims import CLAIMS
from ada_repro.measure.stress import STRESS
from ada_repro.method.saliency import SALIENCY

REGISTERED = [*(f.func for f in STRESS.values()), *(f for _, f in CLAIMS.values())]
ROOT = Path(__file__).resolve().parents[2]
LIBRARY = sorted((ROOT / "nbs").glob("[0-9]*.ipynb"))
PAGES = LIBRARY + sorted((ROOT / "nbs").glob("index.ipynb"))
EXPERIMENTS = sorted((ROOT / "nbs" / "experiments").glob("*.ipynb"))
MODULES = sorted(p.stem for p in (ROOT / "ada_repro").glob("*.py") if not p.stem.startswith("_"))


def git_files():
    "What is committed, or would be by `git add .`."
    names = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [p for n in names.split("\0") if n and (p := ROOT / n).is_file()]


@pytest.fixture
def checkout(tmp_path):
    "A copy of the checkout, to do things to."
    for p in git_files():
        to = tmp_path / p.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(p, to)
    return tmp_path


def name(path):
    return path.relative_to(ROOT).as_posix()


def module_of(path):
    return path.stem.split("_", 1)[1]


def code_cells(path):
    return [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]


def trees(path):
    return [ast.parse(c.source) for c in code_cells(path)]


def over(paths):
    return pytest.mark.parametrize("path", paths, ids=name)


# The pinned set
LOCK = {
    canonicalize_name(r.name): r
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#") and (r := Requirement(line))
}


def test_lock_is_portable():
    for r in LOCK.values():
        assert re.fullmatch(r"==[\w.]+", str(r.specifier)) and not r.url, f"{r} is not one plain pin"
        assert not r.name.startswith(("nvidia", "cuda", "triton")), f"{r.name} is for one kind of machine"
    assert str(LOCK["torch"]) == "torch==2.13.0"


def test_lock_satisfies_pyproject():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = (
        told["build-system"]["requires"]
        + told["project"]["dependencies"]
        + sum(told["project"]["optional-dependencies"].values(), [])
    )
    for r in map(Requirement, asked):
        (pin,) = LOCK[canonicalize_name(r.name)].specifier
        assert pin.version in r.specifier, f"pyproject.toml asks for {r}, the lock has {pin}"


def test_environment_is_the_lock():
    for r in LOCK.values():
        if r.marker is None or r.marker.evaluate():
            assert version(r.name) in r.specifier, f"{r.name} {version(r.name)} runs, the lock says {r}"


def test_conda_agrees_with_the_lock():
    *plain, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert plain == ["python=3.11", "pip", "git", "make"] and pip == {"pip": ["-r requirements.lock", "-e ."]}


# Notebooks and the modules made from them
def test_export_and_clean_change_nothing(checkout):
    before = {p: p.read_bytes() for d in ("nbs", "ada_repro") for p in (checkout / d).rglob("*") if p.is_file()}
    for command in ("nbdev_export", "nbdev_clean"):
        subprocess.run([Path(sys.executable).parent / command], cwd=checkout, check=True)
    after = {p: p.read_bytes() for d in ("nbs", "ada_repro") for p in (checkout / d).rglob("*") if p.is_file()}
    assert [str(p.relative_to(checkout)) for p in before.keys() | after.keys() if before.get(p) != after.get(p)] == []


@over(PAGES)
def test_notebook_runs(path, checkout):
    NotebookClient(
        nbformat.read(path, 4), timeout=300, kernel_name="python3", resources={"metadata": {"path": checkout / "nbs"}}
    ).execute()


@over(PAGES)
def test_notebook_is_committed_with_clean_outputs(path):
    cells = code_cells(path)
    assert any(c.outputs for c in cells), "run it and keep the outputs"
    for c in cells:
        assert c.execution_count is None and not c.metadata, f"nbdev_clean would clean cell {c.id}"
        assert not any(o.output_type == "error" or o.get("name") == "stderr" for o in c.outputs), (
            f"noise below cell {c.id}"
        )
        assert not re.search(r"\bat 0x[0-9a-f]{6,}", str(c.outputs)), f"an object address below cell {c.id}"


@over(LIBRARY)
def test_library_imports_only_lower_numbers(path):
    order = [module_of(p) for p in LIBRARY]
    imported = {
        m
        for t in trees(path)
        for n in ast.walk(t)
        if isinstance(n, ast.ImportFrom) and n.module
        for m in re.findall(r"^ada_repro\.(\w+)", n.module)
    }
    assert imported <= set(order[: order.index(module_of(path))])


@over(LIBRARY)
def test_one_notebook_one_module_one_name(path):
    assert f"#| default_exp {module_of(path)}" in [line for c in code_cells(path) for line in c.source.splitlines()]
    assert module_of(path) in MODULES


@over(LIBRARY + EXPERIMENTS)
def test_cells_are_short(path):
    for c in code_cells(path):
        lines = [l for l in c.source.splitlines() if l.strip() and not l.startswith("#|")]
        assert len(lines) <= 25, f"cell {c.id} has {len(lines)} lines"


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short(module):
    assert len((ROOT / "ada_repro" / f"{module}.py").read_text().splitlines()) <= 250


def is_own(thing, module):
    return getattr(thing, "__module__", None) == module.__name__ and (
        inspect.isclass(thing) or inspect.isfunction(thing)
    )


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_are_documented(module):
    module = importlib.import_module(f"ada_repro.{module}")
    for n, thing in ((n, getattr(module, n)) for n in module.__all__):
        if not is_own(thing, module):
            continue
        doc = thing.__doc__ or ""
        assert doc.strip() and "\n" not in doc and not doc.startswith(f"{n}("), f"{n}: one line says what it is"
        if n in SALIENCY or thing in REGISTERED:
            continue  # a registry says once what its functions take
        has_parameters = inspect.isfunction(thing) or dataclasses.is_dataclass(thing) or "__init__" in vars(thing)
        parameters = docments(thing, returns=False) if has_parameters else {}
        rest = re.findall(
            r"^ *\*\*(\w+),? +# \S", inspect.getsource(thing), re.M
        )  # docments passes over the comment behind `**rest`
        assert [p for p, comment in parameters.items() if not comment and p not in ("self", *rest)] == [], (
            f"{n}: each parameter has its own line and comment"
        )


def test_site_builds_without_a_warning(tmp_path):
    subprocess.run([sys.executable, "-m", "sphinx", "-qWc", "docs", ".", tmp_path / "html"], cwd=ROOT, check=True)


# Experiments: parameters, calls and pictures
@over(EXPERIMENTS)
def test_experiment_parameters_carry_no_numbers(path):
    (cell,) = [c for c in code_cells(path) if "parameters" in c.metadata.get("tags", [])]
    for line in cell.source.splitlines():
        assert re.fullmatch(r"\w+: [\w\[\], |]+ = None {2,}# \S.*", line), line


@over(EXPERIMENTS)
def test_experiment_holds_calls_and_pictures_only(path):
    assert len(code_cells(path)) <= 12
    logic = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.While, ast.Lambda
    assert [ast.unparse(n) for t in trees(path) for n in ast.walk(t) if isinstance(n, logic)] == [], (
        "this belongs in a library notebook"
    )


# What may be committed
NOT_PORTABLE = {
    "an absolute path": r"(?<![\w.:/}])/(?:root|home|Users|work|tmp)/[\w.-]+",
    "an index address": r"index[-_]url|find[-_]links|/simpl[e]/",
    "a folder beside the checkout": r"""\.\./share[d]|['"]share[d]['"]""",
    "unfinished work": r"\b(?:TOD[O]|FIXM[E]|NotImplemente[d]Error)\b",
}


@pytest.mark.parametrize("what", NOT_PORTABLE)
def test_nothing_committed_holds(what):
    files = [
        p for p in git_files() if what != "a folder beside the checkout" or "tests" not in p.relative_to(ROOT).parts
    ]
    found = {name(p): m[0] for p in files if (m := re.search(NOT_PORTABLE[what], p.read_text(errors="replace")))}
    assert found == {}


def test_nothing_committed_is_large():
    assert [name(p) for p in git_files() if p.stat().st_size > 1_000_000] == []
