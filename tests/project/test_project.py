"The house rules: what is pinned, what is exported, how code and a notebook look, what may be committed."

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from itertools import chain

import nbformat
import pytest
import yaml
from fastcore.docments import docments
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sharing import BIN, ROOT, committed_files, run_notebook

from ada_repro.evidence.claims import CLAIMS
from ada_repro.measure.stress import STRESS
from ada_repro.method.saliency import SALIENCY

REGISTERED = [*(f.func for f in STRESS.values()), *(f for _, f in CLAIMS.values())]
NBS, PACKAGE = ROOT / "nbs", ROOT / "ada_repro"
LIBRARY = [*sorted(NBS.glob("[0-9]*.ipynb")), *sorted(NBS.glob("[0-9]_*/[0-9]*.ipynb"))]
PAGES = [*LIBRARY, *sorted(NBS.glob("index.ipynb"))]
EXPERIMENTS = sorted((NBS / "experiments").glob("*.ipynb"))
FILES = sorted(p for p in PACKAGE.rglob("*.py") if not p.stem.startswith("_"))
CODE = ["ada_repro", "nbs", "tests", "benchmarks", "docs"]


def name(path):
    return path.relative_to(ROOT).as_posix()


def dotted(path):
    "The name of a module inside the package, e.g. data.volume."
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def module_of(notebook):
    "The module that a notebook is to define: its own name inside its chapter's, less the numbers."
    parts = notebook.relative_to(NBS).with_suffix("").parts
    return ".".join(part.split("_", 1)[1] for part in parts)


def code_cells(path):
    return [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]


def trees(path):
    return [ast.parse(c.source) for c in code_cells(path)]


def over(paths):
    return pytest.mark.parametrize("path", paths, ids=name)


MODULES = [dotted(path) for path in FILES]
over_modules = pytest.mark.parametrize("module", MODULES)


# The pinned set
LINES = (ROOT / "requirements.lock").read_text().splitlines()
PINS = [Requirement(line) for line in LINES if line and not line.startswith("#")]
LOCK = {canonicalize_name(pin.name): pin for pin in PINS}


def test_lock_is_portable():
    for r in LOCK.values():
        assert re.fullmatch(r"==[\w.]+", str(r.specifier)) and not r.url, f"{r} is not one plain pin"
        assert not r.name.startswith(("nvidia", "cuda", "triton")), f"{r.name} is for one kind of machine"
    assert str(LOCK["torch"]) == "torch==2.13.0"


def test_lock_satisfies_pyproject():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*told["build-system"]["requires"], *told["project"]["dependencies"]]
    for more in told["project"]["optional-dependencies"].values():
        asked += more
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


# How code looks
def ruff(*words, folder=ROOT):
    done = subprocess.run([sys.executable, "-m", "ruff", *words], cwd=folder, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_code_is_formatted():
    assert ruff("format", "-q", "--check", *CODE) == ""


def test_code_is_linted():
    assert ruff("check", "-q", "--output-format", "concise", *CODE) == ""


def test_chapters_lean_on_those_before_them_only():
    done = subprocess.run([BIN / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# Notebooks and the modules made from them
def bytes_of(folder):
    "What its notebooks and modules hold, by name."
    files = [p for p in [*(folder / "nbs").rglob("*"), *(folder / "ada_repro").rglob("*")] if p.is_file()]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_export_and_clean_change_nothing(checkout):
    before = bytes_of(checkout)
    subprocess.run([BIN / "nbdev_export"], cwd=checkout, check=True)
    assert ruff("check", "-q", "--select", "I", "--fix", "ada_repro", folder=checkout) == ""
    assert ruff("format", "-q", "ada_repro", folder=checkout) == ""
    subprocess.run([BIN / "nbdev_clean"], cwd=checkout, check=True)
    after = bytes_of(checkout)
    assert sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n)) == []


@over(PAGES)
def test_notebook_runs(path, checkout, tmp_path):
    log = tmp_path / "log"
    assert run_notebook(checkout / path.relative_to(ROOT), checkout, log) == 0, log.read_text()


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
def test_one_notebook_one_module_one_name(path):
    lines = "\n".join(c.source for c in code_cells(path)).splitlines()
    assert f"#| default_exp {module_of(path)}" in lines and module_of(path) in MODULES


def test_each_module_has_its_notebook():
    assert sorted(MODULES) == sorted(map(module_of, LIBRARY))


@over(LIBRARY + EXPERIMENTS)
def test_cells_are_short(path):
    for c in code_cells(path):
        lines = [line for line in c.source.splitlines() if line.strip() and not line.startswith("#|")]
        assert len(lines) <= 35, f"cell {c.id} has {len(lines)} lines"


ONE_ROOM = {"figures": 800, "claims": 550}  # every figure is drawn in one module, every claim is measured in one


@over(FILES)
def test_module_is_short(path):
    assert len(path.read_text().splitlines()) <= ONE_ROOM.get(path.stem, 410)


def body_lines(function):
    "How many lines a function takes below its signature and its sentence."
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


@over(FILES)
def test_functions_fit_a_screen(path):
    long = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and body_lines(node) > 30:
            long[node.name] = body_lines(node)
    assert long == {}


COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def packed(node):
    "Whether a thought is packed into another: a condition in a condition or in a loop's head, two loops in one line."
    if isinstance(node, ast.IfExp):
        return any(isinstance(part, ast.IfExp) for part in ast.walk(node) if part is not node)
    if isinstance(node, ast.For):
        return any(isinstance(part, ast.IfExp) for part in ast.walk(node.iter))
    if isinstance(node, COMPREHENSIONS):
        return len(node.generators) > 1 or len(node.generators[0].ifs) > 1
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)


SCRIPTS = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "docs").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
NOTEBOOKS = [*PAGES, *EXPERIMENTS, *sorted((NBS / "tutorials").glob("*.ipynb"))]


@over(FILES + sorted(SCRIPTS) + NOTEBOOKS)
def test_lines_read_at_first_sight(path):
    code = trees(path) if path.suffix == ".ipynb" else [ast.parse(path.read_text())]
    nodes = chain.from_iterable(map(ast.walk, code))
    assert [ast.unparse(node) for node in nodes if packed(node)] == []


def is_own(thing, module):
    return getattr(thing, "__module__", None) == module.__name__ and (
        inspect.isclass(thing) or inspect.isfunction(thing)
    )


def undocumented(thing):
    "Names of its parameters that have no comment of their own."
    if not (inspect.isfunction(thing) or dataclasses.is_dataclass(thing) or "__init__" in vars(thing)):
        return []
    source = inspect.getsource(thing)
    rest = re.findall(r"^ *\*\*(\w+),? +# \S", source, re.M)  # docments passes over the comment behind `**rest`
    comments = docments(thing, returns=False)
    return [p for p, comment in comments.items() if not comment and p not in ("self", *rest)]


@over_modules
def test_public_functions_are_documented(module):
    module = importlib.import_module(f"ada_repro.{module}")
    for public in module.__all__:
        thing = getattr(module, public)
        if not is_own(thing, module):
            continue
        doc = thing.__doc__ or ""
        fine = doc.strip() and "\n" not in doc and not doc.startswith(f"{public}(")
        assert fine, f"{public}: one line says what it is"
        if public in SALIENCY or thing in REGISTERED:
            continue  # a registry says once what its functions take
        assert undocumented(thing) == [], f"{public}: each parameter has its own line and comment"


# Experiments: parameters, calls and pictures
@over(EXPERIMENTS)
def test_experiment_parameters_carry_no_numbers(path):
    (cell,) = [c for c in code_cells(path) if "parameters" in c.metadata.get("tags", [])]
    for line in cell.source.splitlines():
        assert re.fullmatch(r"\w+: [\w\[\], |]+ = None {2,}# \S.*", line), line


def is_logic(node):
    "Whether it decides or defines something; to name the items of a list in a call is neither."
    if isinstance(node, ast.comprehension):
        return bool(node.ifs)
    kinds = (
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.For,
        ast.While,
        ast.Lambda,
        ast.If,
        ast.IfExp,
        ast.Try,
    )
    return isinstance(node, kinds)


@over(EXPERIMENTS)
def test_experiment_holds_calls_and_pictures_only(path):
    assert len(code_cells(path)) <= 12
    logic = [ast.unparse(node) for node in chain.from_iterable(map(ast.walk, trees(path))) if is_logic(node)]
    assert logic == [], "this belongs in a library notebook"


# What may be committed
NOT_PORTABLE = {
    "an absolute path": r"(?<![\w.:/}])/(?:root|home|Users|work|tmp)/[\w.-]+",
    "an index address": r"index[-_]url|find[-_]links|/simpl[e]/",
    "a folder beside the checkout": r"""\.\./share[d]|['"]share[d]['"]""",
    "unfinished work": r"\b(?:TOD[O]|FIXM[E]|NotImplemente[d]Error)\b",
}


@pytest.mark.parametrize("what", NOT_PORTABLE)
def test_nothing_committed_holds(what):
    found = {}
    for path in committed_files():
        in_tests = "tests" in path.relative_to(ROOT).parts
        if in_tests and what == "a folder beside the checkout":
            continue
        if hit := re.search(NOT_PORTABLE[what], path.read_text(errors="replace")):
            found[name(path)] = hit[0]
    assert found == {}


def test_nothing_committed_is_large():
    assert [name(path) for path in committed_files() if path.stat().st_size > 1_000_000] == []
