"What is kept of a run comes back as it was, is the same bytes each time, and an unfinished run is named."

import json
import zipfile

import numpy as np
import pandas as pd
import pytest

from ada_repro.core import DataError, Run
from ada_repro.data.tables import save_table
from ada_repro.evidence.keeping import (
    COST,
    NEEDED,
    OPTIONAL,
    PICTURES,
    complete_arms,
    is_finished,
    keep_runs,
    runs_of,
    take_back,
)
from ada_repro.evidence.reproduced import publish

STUDY = runs_of(["gradcam", "none.again"], ["NWU", "UCL"], [0, 1])


def make_run(run, data):
    "A finished run with everything that stages write, weights too."
    rng = np.random.default_rng(len(run.name))
    for stage in ("runs", "scores"):
        (data / stage / run.name).mkdir(parents=True)
    own = data / "runs" / run.name
    save_table(pd.DataFrame({"epoch": range(9), "DSC": rng.random(9)}).assign(**run.keys), own / "history.csv")
    (own / "run.json").write_text(json.dumps({"params": {"seed": run.seed}, "seconds": 3.0}))
    (own / "last.safetensors").write_bytes(rng.bytes(500))
    np.savez_compressed(own / "example.npz", map=rng.random((4, 4)))
    if run.arm != "baseline":
        save_table(pd.DataFrame({"cycle": [1], "row": [2], "col": [3]}).assign(**run.keys), own / "windows.csv")
    save_table(pd.DataFrame({"DSC": rng.random(5)}).assign(**run.keys), data / "scores" / run.name / "scores.csv")
    np.savez_compressed(data / "scores" / run.name / "preds.npz", original=rng.random((2, 4, 4)) > 0.5)


@pytest.fixture
def data(tmp_path):
    for run in STUDY:
        if run != Run("gradcam", "UCL", 1):
            make_run(run, tmp_path / "data")
    return tmp_path / "data"


def test_all_runs_of_a_study_once_seed_by_seed():
    assert len(STUDY) == len(set(STUDY)) == 12 and STUDY[0] == Run("baseline", "NWU", 0)
    assert [run.seed for run in STUDY] == [0] * 6 + [1] * 6


def test_what_comes_back_is_what_was_there(data, tmp_path):
    left = keep_runs(STUDY, data, tmp_path / "kept")
    assert left == [Run("gradcam", "UCL", 1)]
    found = take_back(tmp_path / "kept", tmp_path / "back")
    assert set(found) == set(STUDY) - set(left)
    for path in (tmp_path / "back").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (data / path.relative_to(tmp_path / "back")).read_bytes()
    for run in found:
        own = tmp_path / "back" / "runs" / run.name
        assert is_finished(run, tmp_path / "back") and not (own / "last.safetensors").exists()
        assert (own / "windows.csv").exists() == (run.arm != "baseline")
        assert (own / "example.npz").exists() == (run.fold == "NWU" and run.seed == 0)


def test_the_same_run_is_the_same_bytes(data, tmp_path):
    for name in ("one", "two"):
        keep_runs(STUDY, data, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize("name", NEEDED)
def test_an_unfinished_run_is_still_to_come(data, tmp_path, name):
    stage, _, file = name.partition("/")
    (data / stage / "gradcam-NWU-0" / file).unlink()
    left = keep_runs(STUDY, data, tmp_path / "kept")
    assert Run("gradcam", "NWU", 0) in left and not (tmp_path / "kept" / "gradcam-NWU-0.zip").exists()


def test_what_is_kept_stays_when_the_run_is_gone(data, tmp_path):
    keep_runs(STUDY, data, tmp_path / "kept")
    for run in STUDY:
        for stage in ("runs", "scores"):
            for path in (data / stage / run.name).glob("*"):
                path.unlink()
    assert keep_runs(STUDY, data, tmp_path / "kept") == [Run("gradcam", "UCL", 1)]


def test_a_folder_that_is_there_stays(data, tmp_path):
    keep_runs(STUDY, data, tmp_path / "kept")
    own = data / "runs" / "gradcam-NWU-0"
    (own / "history.csv").write_text("mine")
    take_back(tmp_path / "kept", data)
    assert (own / "history.csv").read_text() == "mine" and (own / "last.safetensors").exists()


def test_arms_are_complete_with_all_folds_of_the_seeds():
    left = [Run("gradcam", "UCL", 1)]
    assert complete_arms(STUDY, left, [0]) == ["gradcam", "none.again"]
    assert complete_arms(STUDY, left, [0, 1]) == ["none.again"]
    assert complete_arms(STUDY, [Run("baseline", "UCL", 0)], [0]) == []


@pytest.mark.parametrize("names", [[*NEEDED, "runs/../../evil"], [*NEEDED[1:]], [*NEEDED, "runs/last.safetensors"]])
def test_a_file_that_holds_anything_else_is_refused(tmp_path, names):
    (tmp_path / "kept").mkdir()
    with zipfile.ZipFile(tmp_path / "kept" / "gradcam-NWU-0.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    with pytest.raises(DataError, match="not what is kept of a run"):
        take_back(tmp_path / "kept", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_only_what_is_known_is_kept(data, tmp_path):
    keep_runs(STUDY, data, tmp_path / "kept")
    for path in (tmp_path / "kept").iterdir():
        names = zipfile.ZipFile(path).namelist()
        assert set(NEEDED) <= set(names) <= {*NEEDED, *OPTIONAL, *PICTURES}


def test_publishing_a_study_anew_leaves_its_runs(data, tmp_path):
    published = tmp_path / "figures" / "published" / "study"
    keep_runs(STUDY, data, published / "runs")
    (published / "old.md").write_text("old")
    (tmp_path / "figures" / "study").mkdir()
    (tmp_path / "figures" / "study" / "table3.md").write_text("new")
    publish("study", tmp_path / "figures")
    assert sorted(path.name for path in published.iterdir()) == ["runs", "table3.md"]
    assert len(list((published / "runs").iterdir())) == 11


def test_what_a_training_took_is_kept_beside_it(data, tmp_path):
    (data / "executed").mkdir()
    for name, seconds in {"baseline-NWU-0": 30.0, "ada-gradcam-NWU-0": 70.0, "robustness-gradcam-NWU-0": 1.0}.items():
        (data / "executed" / f"{name}.json").write_text(json.dumps({"seconds": seconds}))
    keep_runs(STUDY, data, tmp_path / "kept")
    told = {}
    for path in sorted((tmp_path / "kept").iterdir()):
        with zipfile.ZipFile(path) as archive:
            if COST in archive.namelist():
                told[path.stem] = json.loads(archive.read(COST))["seconds"]
    assert told == {"baseline-NWU-0": 30.0, "gradcam-NWU-0": 70.0}
    take_back(tmp_path / "kept", tmp_path / "back")
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["runs", "scores"]
