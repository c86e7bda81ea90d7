"The real DVC graph on the smoke profile, in a clone of its own: to the end, again, with a new method, with bad input."

import json
import re
import subprocess

import nbformat
import pandas as pd
import pytest
import yaml
from dvc.repo import Repo
from sharing import BIN, ENV, copy_of, edit, run, stages_run

from ada_repro.core import ROOT
from ada_repro.pipeline.stage import notebook_parameters, parse_words

PROFILES = ["paper", "laptop", "smoke", "evidence"]
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
    assert all((made / f"figure{i}.{kind}").stat().st_size > 5000 for i in range(1, 5) for kind in ("svg", "png"))
    assert (made / "reproduced.md").read_text().startswith("Nothing is published for this profile")


def test_each_run_did_what_it_was_told(finished):
    for arm in [*METHODS, "none", "random"]:
        told = json.loads((finished / "data" / "runs" / f"{arm}-0" / "run.json").read_text())["params"]
        assert told["arm"] == arm and told["seed"] == 0
        windows = pd.read_csv(finished / "data" / "runs" / f"{arm}-0" / "windows.csv")
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
    path = folder / "nbs" / "2_method" / "02_saliency.ipynb"
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
    assert stages_run(output) == sorted(["check", f"ada@{name}-0", f"robustness@{name}-0", "weights", "iou", "figures"])
    assert name in pd.read_csv(folder / "figures" / "phantom-smoke" / "table4.csv").arm.tolist()
    assert name in pd.read_csv(folder / "data" / "iou" / "iou.csv").arm_a.tolist()


def break_dataset(folder):
    edit(folder, x=("dataset: phantom", "dataset: fantom"))


def break_absent(folder):
    edit(folder, x=("dataset: phantom", "dataset: gm_challenge"))


def break_method(folder):
    edit(folder, x=("- gradcam", "- grdcam"))


def break_parameter(folder):
    edit(folder, x=("crop_px: 40", "crop_pixels: 40"))


def break_name(folder):
    edit(folder, x=("name: smoke", "name: ../../escaped"))


def break_type(folder):
    edit(folder, x=("crop_px: 40", "crop_px: forty"))


def break_file(folder):
    edit(folder, x=("dataset: phantom", "dataset: scgm"))
    (folder / "data" / "raw" / "scgm").mkdir(parents=True)
    (folder / "data" / "raw" / "scgm" / "site1-sc01-image.nii.gz").write_text("<html>404</html>")


@pytest.mark.parametrize(
    "spoil, words",
    [
        (break_dataset, ["fantom", "phantom, gm_challenge"]),
        (break_absent, ["data/raw/gm_challenge", "Put the gm_challenge data there"]),
        (break_method, ["'grdcam'", "gradcam"]),
        (break_parameter, ["crop_pixels", "params.yaml"]),
        (break_type, ["crop_px", "int"]),
        (break_name, ["../../escaped", "not a plain name"]),
        (break_file, ["site1-sc01-image.nii.gz", "neither gzip nor NIfTI"]),
    ],
    ids=lambda f: getattr(f, "__name__", None),
)
def test_bad_input_is_one_line(fresh, tmp_path, spoil, words):
    folder = copy_of(fresh, tmp_path / "ada_repro")
    spoil(folder)
    code, output = run(folder, "dvc", "repro")
    assert code != 0 and "Traceback" not in output
    said = [line for line in output.splitlines() if not line.startswith((">", "ERROR"))]
    lines = [line for line in said if all(word in line for word in words)]
    assert len(lines) == 1, output
    assert not (folder / "data" / "slices").exists() and not (folder / "figures" / "phantom-smoke").exists()
    assert not list((folder / "data").rglob("*.part"))


@pytest.mark.parametrize(
    "words, message",
    [
        (["iuo"], "no stage 'iuo'"),
        (
            ["prepare", "--dataset", "phantom", "--spacing", "1", "--crop_px", "8", "--held_out", "none"],
            "knows no parameter spacing",
        ),
        (["prepare", "--dataset", "phantom", "--crop_px", "8", "--held_out", "none"], "was not given spacing_mm"),
    ],
)
def test_the_runner_refuses_in_one_line(fresh, words, message):
    code, output = run(fresh, "ada_repro.pipeline.stage", *words)
    assert code == 1 and message in output and len(output.strip().splitlines()) == 1


@pytest.mark.parametrize("profile", PROFILES)
def test_every_stage_names_the_parameters_its_notebook_takes(fresh, tmp_path, monkeypatch, profile):
    folder, called = copy_of(fresh, tmp_path / "ada_repro"), {}
    edit(folder, profile=("profile: *smoke", f"profile: *{profile}"))
    monkeypatch.chdir(folder)
    with Repo() as repo:
        commands = {s.addressing: s.cmd for s in repo.index.stages}
    assert {n.partition(":")[0] for n in commands if ":" in n} == {"evidence/dvc.yaml"}
    for cmd in commands.values():
        stage, *words = re.search(r"-m ada_repro.pipeline.stage (.+)", cmd)[1].split()
        told = parse_words(words)
        told.pop("threads", None)  # for the runner
        called.setdefault(stage, []).append(notebook_parameters(ROOT / "nbs" / "experiments" / f"{stage}.ipynb", told))
    assert set(called) == {p.stem for p in (ROOT / "nbs" / "experiments").glob("*.ipynb")}
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    study = [a for a in params[profile]["study"]["arms"] for _ in params[profile]["repeat"]["seeds"]]
    retrained = [v for v in params["variants"] for _ in params[profile]["retrain"]["retrain_seeds"]]
    assert sorted(t["arm"] for t in called["ada"]) == sorted(study + [v["arm"] for v in retrained])
    for variant in retrained:
        assert all(
            variant.items() <= t.items() for t in called["ada"] if t["arm"] == variant["arm"]
        )  # what it changes is told last
