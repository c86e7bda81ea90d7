"The real DVC graph on the smoke profile, in a clone of its own: to the end, again, and with a new method."

import json
import re
import subprocess

import nbformat
import pandas as pd
from sharing import BIN, ENV, copy_of, edit, run, stages_run

from ada_repro.core import ROOT
from ada_repro.pipeline.code import library

METHODS = ["vanilla", "input_x_gradient", "guided_backprop", "gradcam", "guided_gradcam"]


def test_tables_and_figures(finished):
    made = finished / "figures" / "phantom-smoke"
    for name in ("table3", "table4"):
        table, paper = (
            pd.read_csv(made / f"{name}.csv").set_index("arm"),
            pd.read_csv(ROOT / "figures" / "paper" / f"{name}.csv").set_index("method"),
        )
        assert table.index[:5].tolist() == METHODS and {"baseline", "none", "random"} <= set(table.index[5:])
        assert table.DSC_paper[METHODS].tolist() == paper.DSC[METHODS].tolist()
        assert table.DSC[METHODS].between(0, 100).all() and table.DSC_low.isna().all(), "one seed has no interval"
        page = (made / f"{name}.md").read_text()
        assert "simulated" in page and "smoke" in page and "Seeds: 1 (0)" in page
    assert all((made / f"figure{i}.svg").stat().st_size > 5000 for i in range(1, 5))
    assert all((made / f"figure{i}.png").stat().st_size > 5000 for i in range(1, 5))
    assert (made / "reproduced.md").read_text().startswith("Nothing is published for this profile")


def test_each_run_did_what_it_was_told(finished):
    for arm in [*METHODS, "none", "random"]:
        told = json.loads((finished / "data" / "runs" / f"{arm}-paper-0" / "run.json").read_text())["params"]
        assert told["arm"] == arm and told["seed"] == 0
        windows = pd.read_csv(finished / "data" / "runs" / f"{arm}-paper-0" / "windows.csv")
        assert (windows.arm == arm).all() and (windows.row.min() >= 0) == (arm != "none")
    assert not list((finished / "data" / "checkpoints").iterdir())


def test_executed_copies_hold_no_clock_and_no_progress(finished):
    for path in (finished / "data" / "executed").glob("*.ipynb"):
        text = path.read_text()
        assert "start_time" not in text and "it/s" not in text and "injected-parameters" in text


def test_again_runs_nothing(finished, tmp_path):
    code, output = run(copy_of(finished, tmp_path / "ada_repro"), "dvc", "repro")
    assert code == 0 and stages_run(output) == [] and "up to date" in output


def test_the_readmes_new_method_is_one_cell_and_one_name(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "ada_repro")
    path = library(folder)["ada_repro.method.saliency"]
    nb = nbformat.read(path, 4)
    at = next(i for i, c in enumerate(nb.cells) if "def guided_gradcam" in c.source) + 1
    cell, name = re.search(
        r"```python\n(#\| export\n@saliency_method\ndef (\w+).*?)\n```", (ROOT / "README.md").read_text(), re.S
    ).groups()
    nb.cells.insert(at, nbformat.v4.new_code_cell(cell))
    nbformat.write(nb, path)
    subprocess.run([BIN / "nbdev_export"], cwd=folder, env=ENV, check=True)
    edit(folder, arm=("    - guided_gradcam\n", f"    - guided_gradcam\n    - {name}\n"))
    code, output = run(folder, "dvc", "repro")
    assert code == 0, output[-3000:]
    own = [f"ada@{name}-paper-0", f"robustness@{name}-paper-0"]
    assert stages_run(output) == sorted(["check", *own, "weights", "iou", "figures"])
    assert name in pd.read_csv(folder / "figures" / "phantom-smoke" / "table4.csv").arm.tolist()
    assert name in pd.read_csv(folder / "data" / "iou" / "iou.csv").arm_a.tolist()
