"What runs again after which edit, in a finished project; and whether a stage imports what it is said to import."

import ast
import json
import re
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from dvc.repo import Repo
from sharing import ENV, copy_of, run, stages_run

from ada_repro.core import ROOT, run_named
from ada_repro.pipeline.code import (
    code_cells,
    exported_code,
    fingerprint,
    library,
    module_file,
    module_name,
    parse,
    registered_methods,
    stage_code,
)

EXPERIMENTS = sorted((ROOT / "nbs" / "experiments").glob("*.ipynb"))
ALL = {p.stem for p in EXPERIMENTS} - {"check"}
CHANGE = "\nchanged_by_hand = 1\n"


# Edits: of a notebook's cells, or of a file
def cells_of(path, change):
    "Let `change` do something to the cells of a notebook."
    notebook = json.loads(path.read_text())
    change(notebook["cells"])
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def add_to(kind, having, text):
    "Add a text to the first cell of a kind that has a certain text."

    def change(cells):
        cell = next(c for c in cells if c["cell_type"] == kind and having in "".join(c["source"]))
        cell["source"] = ["".join(cell["source"]) + text]

    return lambda path: cells_of(path, change)


def replace(old, new):
    "Replace a text in the code cells."

    def change(cells):
        assert any(old in "".join(c["source"]) for c in cells)
        for cell in cells:
            if cell["cell_type"] == "code":
                cell["source"] = ["".join(cell["source"]).replace(old, new)]

    return lambda path: cells_of(path, change)


def drop_outputs(cells):
    for cell in cells:
        if "outputs" in cell:
            cell["outputs"] = []


def add_cell(text):
    "Add a code cell at the end."
    cell = {"cell_type": "code", "id": "n01", "metadata": {}, "outputs": [], "execution_count": None, "source": [text]}
    return lambda path: cells_of(path, lambda cells: cells.append(cell))


def append(text):
    "Add a text to a file."
    return lambda path: path.write_text(path.read_text() + text)


METHOD = "#| export\n@saliency_method\ndef squared(score, x, layer):\n    return vanilla(score, x, layer) ** 2\n"
SENTENCE = add_to("markdown", "", "\n\nOne more sentence.")
EXPORTED = add_to("code", "#| export", CHANGE)

# What was edited; where: a file, or a module for its notebook; how; and the stages that have to run because of it:
# notebook, or notebook@arm.
CASES = {
    "a sentence of a stage's notebook": ("nbs/experiments/ada.ipynb", SENTENCE, set()),
    "a sentence of a library notebook": ("train.training", SENTENCE, set()),
    "pictures and other outputs": ("measure.robustness", lambda p: cells_of(p, drop_outputs), set()),
    "a comment in a stage's notebook": ("nbs/experiments/iou.ipynb", add_to("code", "DATA", "\n# why"), set()),
    "a comment in a library cell": ("core", add_to("code", "#| export", "\n# why"), set()),
    "a library cell that is not exported": ("core", add_cell("assert ROOT.is_dir()"), set()),
    "code of `experiments/figures`": ("nbs/experiments/figures.ipynb", add_to("code", "DATA", CHANGE), {"figures"}),
    "code of `experiments/robustness`": (
        "nbs/experiments/robustness.ipynb",
        add_to("code", "DATA", CHANGE),
        {"robustness"},
    ),
    "`data.phantom`": ("data.phantom", EXPORTED, {"phantom"}),
    "`data.anatomy`, which `data.phantom` imports": ("data.anatomy", EXPORTED, {"phantom"}),
    "`data.datasets`": ("data.datasets", EXPORTED, {"prepare"}),
    "`evidence.claims`": ("evidence.claims", EXPORTED, {"claims"}),
    "`core`": ("core", EXPORTED, ALL),
    "`pipeline.stage`, which runs all notebooks": ("pipeline.stage", EXPORTED, ALL),
    "`pipeline.engine`, which says when": ("pipeline.engine", EXPORTED, set()),
    "a saliency method": (
        "method.saliency",
        replace("relu_attributions=True", "relu_attributions=False"),
        {"ada@gradcam", "look", "giveaway", "sensitivity"},
    ),
    "a new saliency method, in no list yet": ("method.saliency", add_cell(METHOD), set()),
    "a module by hand, `data/phantom.py`": ("ada_repro/data/phantom.py", append(CHANGE), {"phantom"}),
    "a comment in `params.yaml`": ("params.yaml", append("# end\n"), set()),
}
STATE = ("nbs", "ada_repro", "data/code", "data/arms", "dvc.lock", "params.yaml")


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    "A finished project, to do things to and to put back."
    return copy_of(finished, tmp_path_factory.mktemp("edited") / "ada_repro")


@pytest.fixture
def put_back(project, tmp_path):
    "What an edit and the first stage change is put back in the end."
    for name in STATE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (project / name).is_dir() else shutil.copy2
        copy(project / name, tmp_path / name)
    yield
    for name in STATE:
        if (project / name).is_dir():
            shutil.rmtree(project / name)
            shutil.copytree(tmp_path / name, project / name)
        else:
            shutil.copy2(tmp_path / name, project / name)


def have_to_run(project):
    "Stages of the root's graph, but for the first, that DVC finds changed: their notebooks; notebook@arm for a method."
    with chdir(project), Repo() as repo:  # DVC names stages as seen from here
        changed = repo.status()
    names = set()
    for stage in changed.keys() - {"check"} - {name for name in changed if ":" in name}:
        parts = []
        for reason in changed[stage]:
            if isinstance(reason, dict):
                parts += reason.get("changed deps", {})
        name, _, run_name = stage.partition("@")
        arm = run_named(run_name).arm if name == "ada" else None
        is_arm_alone = arm and parts == [f"data/arms/{arm}.py"]
        names.add(f"ada@{arm}" if is_arm_alone else name.removesuffix("_baseline"))
    return names


def file_of(project, where):
    "A file, or the notebook of a module."
    return project / where if "/" in where or where == "params.yaml" else notebook_of(project, where)


def notebook_of(project, module):
    return library(project)[f"ada_repro.{module}"]


def codes(project):
    return {p.stem: p.read_text() for p in (project / "data" / "code").glob("*.txt")}


@pytest.mark.parametrize("what", CASES)
def test_what_has_to_run_after_an_edit(what, project, put_back):
    where, edit, expected = CASES[what]
    before = codes(project)
    edit(file_of(project, where))
    arms = any("@" in name for name in expected)
    code, output = run(project, *(("dvc", "repro", "check") if arms else ("ada_repro.pipeline.code",)))
    assert code == 0, output[-2000:]
    after = codes(project)
    named = {name for name in after if after[name] != before[name]} - {"check", "notebooks"}
    assert named == {name for name in expected if "@" not in name}
    in_root = {"phantom", "prepare", "baseline", "ada", "robustness", "weights", "iou", "figures"}
    assert have_to_run(project) == {name for name in expected if name.partition("@")[0] in in_root}


def test_the_page_lists_these_cases():
    rows = []
    for what, (_, _, expected) in CASES.items():
        stages = "all" if expected == ALL else ", ".join(sorted(expected)) or "none"
        rows.append(f"| {what} | {stages} |")
    assert "\n".join(rows) in (ROOT / "docs" / "stale.md").read_text()


def test_an_edit_takes_effect_and_runs_what_follows(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "ada_repro")
    EXPORTED(notebook_of(folder, "measure.agreement"))
    code, output = run(folder, "dvc", "repro")
    assert code == 0, output[-3000:]
    assert {"check", "iou", "figures"} == set(stages_run(output)) and "exported nbs/4_measure" in output
    assert "changed_by_hand = 1" in (folder / "ada_repro" / "measure" / "agreement.py").read_text()
    code, output = run(folder, "dvc", "repro")
    assert code == 0 and "up to date" in output and stages_run(output) == []
    code, output = run(folder, "ada_repro.pipeline.start")
    assert code == 0 and "up to date" in output and stages_run(output) == []


def test_edits_on_both_sides_are_named(project, put_back):
    EXPORTED(notebook_of(project, "data.phantom"))
    append("\nother = 2\n")(project / "ada_repro" / "data" / "phantom.py")
    code, output = run(project, "ada_repro.pipeline.code")
    assert code == 1 and len(output.strip().splitlines()) == 1, output
    assert "have both changed" in output and "nbdev_export" in output and "nbdev_update" in output


def test_a_module_edited_by_hand_is_named(project, put_back):
    append(CHANGE)(project / "ada_repro" / "data" / "phantom.py")
    code, output = run(project, "ada_repro.pipeline.code")
    assert code == 0 and "data/phantom.py" in output and "runs as it is" in output
    assert CHANGE.strip() in (project / "ada_repro" / "data" / "phantom.py").read_text()


def test_a_cell_that_is_no_python_is_one_line(project, put_back):
    add_to("code", "#| export", "\ndef (:\n")(notebook_of(project, "data.phantom"))
    code, output = run(project, "ada_repro.pipeline.code")
    assert code == 1 and len(output.strip().splitlines()) == 1 and "_phantom.ipynb" in output, output


# Imports: what Python itself has loaded, in a process for each notebook
LOADED = """
import ast, os, sys
import captum.attr, matplotlib.pyplot, nibabel, pandas, scipy.ndimage, seaborn, torch
for path, code in {cells!r}.items():
    tree = ast.parse(code)
    tree.body = [s for s in tree.body if isinstance(s, (ast.Import, ast.ImportFrom))]
    if not os.fork():
        exec(compile(tree, path, "exec"), {{}})
        os.write(1, " ".join([path, *(m for m in sys.modules if m.startswith("ada_repro"))]).encode() + b"\\n")
        os._exit(0)
    os.wait()
"""


def test_a_stage_names_every_module_that_it_loads():
    cells = {p.stem: "\n".join(code_cells(p)) for p in EXPERIMENTS}
    script = LOADED.format(cells=cells)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=ENV, capture_output=True, text=True, check=True)
    loaded = {name: set(modules) for name, *modules in map(str.split, done.stdout.splitlines())}
    assert set(loaded) == set(cells)
    runner = {f"ada_repro.pipeline{m}" for m in ("", ".stage", ".kernel", ".locks", ".params", ".warm")}
    for path in EXPERIMENTS:
        named = {part for part in stage_code(path, ROOT, {}) if part.startswith("ada_repro")}
        assert loaded[path.stem] <= named, path.stem
        later = {m for m in named - loaded[path.stem] - runner if f"import {m}" not in cells[path.stem]}
        assert later <= imported_inside_functions(named), path.stem


def imported_inside_functions(modules):
    "Modules that some function of these modules imports when it is called, and what comes with them."
    found = set()
    for module in modules:
        tree = parse(module_file(ROOT, module).read_text(), module)
        top = set(map(id, tree.body))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and id(node) not in top:
                found |= {node.module, *(f"{node.module}.{n.name}" for n in node.names)}
    return found


def test_who_decides_when_counts_for_nobody():
    for path in EXPERIMENTS:
        assert not {"ada_repro.pipeline.start", "ada_repro.pipeline.engine"} & set(stage_code(path, ROOT, {}))


def test_every_stage_depends_on_its_own_code():
    with Repo(str(ROOT)) as repo:
        for stage in repo.index.stages:
            deps = [d.def_path for d in stage.deps]
            notebook = re.search(r"pipeline\.stage (\w+)", stage.cmd)[1]
            if notebook == "check":
                assert deps == ["nbs", "ada_repro", "params.yaml"]
                continue
            code = [d for d in deps if "data/code" in d]
            assert [Path(d).name for d in code] == [f"{notebook}.txt"], stage.addressing
            assert not [d for d in deps if "ada_repro" in d or "nbs" in d], stage.addressing


# Text and meaning
def test_each_module_says_what_its_notebook_says():
    for name, notebook in library(ROOT).items():
        cells = [c for c in code_cells(notebook) if c.startswith("#| export")]
        module = parse(module_file(ROOT, name).read_text(), name)
        assert fingerprint(parse("\n".join(cells), name)) == fingerprint(module), name


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("x = 1", "x=1  # one", True),
        ("import a\nimport b", "import b\nimport a", True),
        ("from a import b, c", "from a import c\nfrom a import b", True),
        ('def f():\n    "Says."\n    return 1', "def f():\n    return 1", True),
        ("x = [1, 2]", "x = [\n    1,\n    2,\n]", True),
        ("x = 'a'", 'x = "a"', True),
        ("x = 1", "x = 2", False),
        ("x = 'a'", "x = 'b'", False),
        ("x = 1\ny = 2", "y = 2\nx = 1", False),
        ("def f(x=1): return x", "def f(x=2): return x", False),
        ("from a import b", "from a import b as c", False),
        ("from a import b", "from c import b", False),
        ("@d\ndef f(): pass", "def f(): pass", False),
        ("x: int = 1", "x: float = 1", False),
    ],
)
def test_what_counts_as_a_change(one, other, same):
    assert (fingerprint(parse(one)) == fingerprint(parse(other))) == same


@pytest.mark.parametrize(
    "text",
    [
        "import ada_repro.data.slices",
        "import ada_repro.data.slices as s",
        "from ada_repro.data.slices import load_slices",
        "from ada_repro.data import slices",
        "def f():\n    from ada_repro.data import slices",
        "if 1:\n    import ada_repro.data.slices",
        "from importlib import import_module\nimport_module('ada_repro.data.slices')",
    ],
)
def test_every_way_to_import(text, tmp_path):
    notebook = tmp_path / "stage.ipynb"
    notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "source": ["%pylab\n", text]}]}))
    assert {"ada_repro.data", "ada_repro.data.slices", "ada_repro.core"} <= set(stage_code(notebook, ROOT, {}))


@pytest.mark.parametrize("directive", ["#| export", "#|export", "# | export", "#|  exporti", "\n#| exports"])
def test_what_nbdev_exports_is_seen_however_it_is_written(directive, tmp_path):
    "As nbdev reads it."
    sources = ["# | default_exp data.new\n", f"{directive}\nx = 1\n", "y = 2\n"]
    notebook = tmp_path / "new.ipynb"
    notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [text]} for text in sources]}))
    assert module_name(notebook) == "ada_repro.data.new"
    assert "x = 1" in exported_code(notebook) and "y = 2" not in exported_code(notebook)


def test_lines_for_ipython_are_left_out_and_python_that_looks_like_them_is_not(tmp_path):
    remainder = "x = (\n    7\n    % 4\n)\n"
    notebook = tmp_path / "stage.ipynb"
    cells = [{"cell_type": "code", "source": [text]} for text in (remainder, "%pylab\ny = 1\n!ls\n")]
    notebook.write_text(json.dumps({"cells": cells}))
    assert code_cells(notebook) == [remainder, "pass\ny = 1\npass\n"]


def test_methods_are_those_of_the_registry():
    from ada_repro.method.saliency import SALIENCY

    assert sorted(registered_methods(ROOT)) == sorted(SALIENCY)
