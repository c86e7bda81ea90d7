"The real DVC graph before it runs: what bad input is told, and what each stage is told."

import re
from itertools import product

import pytest
import yaml
from dvc.repo import Repo
from papermill.exceptions import PapermillExecutionError
from sharing import copy_of, edit, run

from ada_repro.core import ROOT
from ada_repro.pipeline.stage import in_one_line, notebook_parameters, parse_words

PROFILES = ["paper", "laptop", "smoke", "evidence", "schedule"]


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
        (["prepare", "--dataset", "phantom", "--spacing", "1", "--crop_px", "8"], "knows no parameter spacing"),
        (["phantom", "--phantom_seed", "0", "--subjects", "2"], "was not given slices"),
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
    told, folds = params[profile], params["data"]["repeat"]["folds"]
    study = set(product(told["study"]["arms"], folds, told["repeat"]["seeds"]))
    variants = {variant["arm"]: variant for variant in told["again"]["variants"]}
    retrained = set(product(variants, folds, told["retrain"]["retrain_seeds"]))
    assert sorted((t["arm"], t["fold"], t["seed"]) for t in called["ada"]) == sorted([*study, *retrained])
    for t in called["ada"]:
        changed = variants.get(t["arm"], {}) if t["kept_in"] == "data/variants" else {}
        assert changed.items() <= t.items()  # what a variant changes is told last


@pytest.mark.parametrize(
    "kind, said, words",
    [
        ("DataError", "x: cannot be read (Permission denied). Make it readable.", ""),
        ("OSError", "[Errno 13] Permission denied: 'x'", "Make the folder writable and run again"),
        ("OSError", "[Errno 28] No space left on device", "Free some disk space and run again"),
    ],
)
def test_a_remedy_is_added_where_none_is_said(kind, said, words):
    line = in_one_line(PapermillExecutionError(0, 1, "source", kind, said, ["traceback"]))
    assert line.endswith(words or said) and ".." not in line and line.count("Make") <= 1
