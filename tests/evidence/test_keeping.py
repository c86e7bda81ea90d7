"What is kept of a run comes back as it was, is the same bytes each time, and an unfinished run is named."

import json
import zipfile

import numpy as np
import pandas as pd
import pytest

from ada_repro.core import FIGURES, ROOT, DataError, Run
from ada_repro.data.tables import save_table
from ada_repro.evidence.keeping import Study, complete_arms, keep_runs, read_all, runs_of, studies_of, take_back
from ada_repro.evidence.kept import COST, NEEDED, OPTIONAL, PICTURES, core_seconds, is_finished
from ada_repro.evidence.reproduced import publish
from ada_repro.pipeline.params import read_params
from ada_repro.train.runs import folder_hash

STUDY = runs_of(["gradcam", "none.again"], ["NWU", "UCL"], [0, 1])
PROFILE = {
    "name": "made_up",
    "model": {"width": 8},
    "train": {"standard_epochs": 100},
    "augment": {"shift": 0.03},
    "ada": {"protect": "keep"},
}
REAL = Study("made_up", PROFILE, STUDY)


def make_run(run, data, epochs=100, seen="the study's", width=8):
    "A finished run with everything that stages write, weights too."
    rng = np.random.default_rng(len(run.name))
    for stage in ("runs", "scores"):
        (data / stage / run.name).mkdir(parents=True)
    own = data / "runs" / run.name
    save_table(pd.DataFrame({"epoch": range(9), "DSC": rng.random(9)}).assign(**run.keys), own / "history.csv")
    told = {"seed": run.seed, "standard_epochs": epochs, "augmentation": {"shift": 0.03}}
    (own / "run.json").write_text(json.dumps({"params": told, "network": {"width": width}, "data": seen}))
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
    left = keep_runs(REAL, data, tmp_path / "kept")
    assert left == [Run("gradcam", "UCL", 1)]
    found = take_back(tmp_path / "kept", tmp_path / "back", REAL)
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
        keep_runs(REAL, data, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize("name", NEEDED)
def test_an_unfinished_run_is_still_to_come(data, tmp_path, name):
    stage, _, file = name.partition("/")
    (data / stage / "gradcam-NWU-0" / file).unlink()
    left = keep_runs(REAL, data, tmp_path / "kept")
    assert Run("gradcam", "NWU", 0) in left and not (tmp_path / "kept" / "gradcam-NWU-0.zip").exists()


def test_what_is_kept_stays_when_the_run_is_gone(data, tmp_path):
    keep_runs(REAL, data, tmp_path / "kept")
    for run in STUDY:
        for stage in ("runs", "scores"):
            for path in (data / stage / run.name).glob("*"):
                path.unlink()
    assert keep_runs(REAL, data, tmp_path / "kept") == [Run("gradcam", "UCL", 1)]


def test_a_folder_that_is_there_stays(data, tmp_path):
    keep_runs(REAL, data, tmp_path / "kept")
    own = data / "runs" / "gradcam-NWU-0"
    (own / "history.csv").write_text("mine")
    take_back(tmp_path / "kept", data, REAL)
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
        take_back(tmp_path / "kept", tmp_path / "back", REAL)
    assert not (tmp_path / "back").exists()


def test_only_what_is_known_is_kept(data, tmp_path):
    keep_runs(REAL, data, tmp_path / "kept")
    for path in (tmp_path / "kept").iterdir():
        names = zipfile.ZipFile(path).namelist()
        assert set(NEEDED) <= set(names) <= {*NEEDED, *OPTIONAL, *PICTURES}


def test_publishing_a_study_anew_leaves_its_runs(data, tmp_path):
    published = tmp_path / "figures" / "published" / "study"
    keep_runs(REAL, data, published / "runs")
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
    keep_runs(REAL, data, tmp_path / "kept")
    told = {}
    for path in sorted((tmp_path / "kept").iterdir()):
        with zipfile.ZipFile(path) as archive:
            if COST in archive.namelist():
                told[path.stem] = json.loads(archive.read(COST))["seconds"]
    assert told == {"baseline-NWU-0": 30.0, "gradcam-NWU-0": 70.0}
    take_back(tmp_path / "kept", tmp_path / "back", REAL)
    assert (tmp_path / "back" / "executed" / "baseline-NWU-0.json").read_text() == '{"seconds": 30.0}'
    assert sorted(path.name for path in (tmp_path / "back" / "executed").iterdir()) == [
        "ada-gradcam-NWU-0.json",
        "baseline-NWU-0.json",
    ]


# What was taken back, kept again
def files_of(folder):
    "Bytes of all files in a folder, by their place in it."
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def kept(data, tmp_path):
    "The files of the study, with what its trainings took."
    (data / "executed").mkdir()
    for run in STUDY:
        name = run.name if run.arm == "baseline" else f"ada-{run.name}"
        (data / "executed" / f"{name}.json").write_text(json.dumps({"seconds": 30.0}))
    keep_runs(REAL, data, tmp_path / "kept")
    return tmp_path / "kept"


def test_what_is_taken_back_is_kept_as_it_was(kept, tmp_path):
    before = files_of(kept)
    take_back(kept, tmp_path / "back", REAL)
    keep_runs(REAL, tmp_path / "back", kept)
    assert files_of(kept) == before
    keep_runs(REAL, tmp_path / "back", tmp_path / "anew")
    assert files_of(tmp_path / "anew") == before


def test_what_a_training_took_stays_where_its_record_is_gone(kept, data):
    before = files_of(kept)
    for path in (data / "executed").iterdir():
        path.unlink()
    keep_runs(REAL, data, kept)
    assert files_of(kept) == before


def test_a_run_scored_again_is_kept_again(kept, data):
    scores = data / "scores" / "gradcam-NWU-0" / "scores.csv"
    save_table(pd.DataFrame({"DSC": [1.0]}).assign(**Run("gradcam", "NWU", 0).keys), scores)
    before = files_of(kept)
    keep_runs(REAL, data, kept)
    after = files_of(kept)
    assert [path.name for path in before if before[path] != after[path]] == ["gradcam-NWU-0.zip"]


# Of another study
def test_every_published_run_is_of_its_study_and_of_no_other():
    studies = studies_of(read_params(ROOT / "params.yaml"))
    folders = sorted((FIGURES / "published").glob("*/runs"))
    assert folders
    for folder in folders:
        name = folder.parent.name
        assert len(read_all(folder, studies[name])) == len(list(folder.glob("*.zip")))
        for other in ("smoke", "laptop", "paper"):
            with pytest.raises(DataError, match=f"is of another study than phantom-{other}: "):
                read_all(folder, studies[f"phantom-{other}"])


def another(run, data, **how):
    "A run of the same name that was trained otherwise."
    for stage in ("runs", "scores"):
        for path in (data / stage / run.name).glob("*"):
            path.unlink()
        if (data / stage / run.name).exists():
            (data / stage / run.name).rmdir()
    make_run(run, data, **how)


@pytest.mark.parametrize("run", [STUDY[0], Run("gradcam", "UCL", 1)], ids=lambda run: run.name)
def test_a_run_of_another_profile_is_not_kept(data, kept, run):
    another(run, data, epochs=1)
    before = files_of(kept)
    with pytest.raises(DataError, match=f"{run.name}: is of another study .*standard_epochs is 1 and not 100"):
        keep_runs(REAL, data, kept)
    assert files_of(kept) == before


def test_a_run_of_another_network_is_not_kept(data, kept):
    another(STUDY[0], data, width=16)
    with pytest.raises(DataError, match="is of another study .*width is 16 and not 8"):
        keep_runs(REAL, data, kept)


def test_a_run_of_other_data_is_not_kept(data, kept):
    make_run(Run("gradcam", "UCL", 1), data, seen="another's")
    before = files_of(kept)
    with pytest.raises(DataError, match=r"gradcam-UCL-1: was trained on other slices"):
        keep_runs(REAL, data, kept)
    assert files_of(kept) == before


def test_runs_of_another_data_set_are_not_kept(data, tmp_path):
    (data / "slices").mkdir()
    (data / "slices" / "report.json").write_text('{"dataset": "phantom"}')
    with pytest.raises(DataError, match="slices: is of phantom, not of made_up"):
        keep_runs(REAL, data, tmp_path / "kept")
    (data / "slices" / "report.json").write_text('{"dataset": "made_up"}')  # prepared since the trainings
    with pytest.raises(DataError, match="baseline-NWU-0: was trained on other slices"):
        keep_runs(REAL, data, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_another_training_of_the_study_does_not_replace_the_one_kept(data, kept):
    record = data / "runs" / "gradcam-NWU-0" / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"isa": "another"}))
    before = files_of(kept)
    with pytest.raises(DataError, match="gradcam-NWU-0: is another training than the one kept in"):
        keep_runs(REAL, data, kept)
    assert files_of(kept) == before


@pytest.mark.parametrize("how", [{"epochs": 1}, {"seen": "another's"}], ids=str)
@pytest.mark.parametrize(
    "run", [STUDY[0], Run("gradcam", "UCL", 1), Run("vanilla", "NWU", 0)], ids=lambda run: run.name
)
def test_nothing_comes_back_beside_another_study(kept, tmp_path, run, how):
    make_run(run, tmp_path / "back", **how)
    before = files_of(tmp_path / "back")
    with pytest.raises(DataError, match=f"{run.name}: (is|was) "):
        take_back(kept, tmp_path / "back", REAL)
    assert files_of(tmp_path / "back") == before


def test_scores_without_their_run_are_not_taken_for_its_own(kept, tmp_path):
    scores = tmp_path / "back" / "scores" / "gradcam-NWU-0"
    scores.mkdir(parents=True)
    (scores / "scores.csv").write_text("another")
    with pytest.raises(DataError, match="gradcam-NWU-0: is there without the run that was scored"):
        take_back(kept, tmp_path / "back", REAL)
    assert not (tmp_path / "back" / "runs").exists()


# Damaged, or of something else
def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


def flip(path):
    content = bytearray(path.read_bytes())
    content[120] ^= 255
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def rename(path):
    path.rename(path.with_name("none.again-UCL-1.zip"))


def call_foo(path):
    path.rename(path.with_name("none.foo.zip"))


def call_00(path):
    path.rename(path.with_name("none.again-UCL-00.zip"))


@pytest.mark.parametrize("harm", [cut, flip, empty, rename, call_foo, call_00])
def test_a_damaged_or_foreign_file_is_named_before_anything_is_written(kept, data, tmp_path, harm):
    harm(kept / "none.again-NWU-1.zip")
    before = files_of(kept)
    with pytest.raises(DataError, match=r"^[^\n]*none\.[^\n]*\.zip: [^\n]*(again, or remove it|Move it away)\.$"):
        take_back(kept, tmp_path / "back", REAL)
    assert not (tmp_path / "back").exists()
    with pytest.raises(DataError):
        keep_runs(REAL, data, kept)
    assert files_of(kept) == before


# Names
def test_a_fold_is_text_where_runs_are_named():
    assert runs_of(["none"], [1, "002"], [0]) == runs_of(["none"], ["1", "002"], [0])
    assert {type(run.fold) for run in runs_of(["none"], [1], [0])} == {str}


def test_seconds_of_a_core_by_hand():
    assert core_seconds({"seconds": 10, "threads": 2}) == 20 and core_seconds({"seconds": 10}) == 10
    assert core_seconds({"seconds": 10, "core_seconds": 6.5, "threads": 2}) == 6.5 and core_seconds({}) is None


def test_scores_of_an_earlier_training_are_not_kept(data, tmp_path):
    run = Run("none.again", "NWU", 0)
    weights, scored = (data / stage / run.name for stage in ("runs", "scores"))
    (weights / "best.safetensors").write_bytes(b"one")
    (scored / "scored.json").write_text(json.dumps({"weights": folder_hash(weights, "*.safetensors")}))
    assert is_finished(run, data)
    (weights / "best.safetensors").write_bytes(b"another")
    assert not is_finished(run, data) and run in keep_runs(REAL, data, tmp_path / "kept")
    assert not (tmp_path / "kept" / f"{run.name}.zip").exists()
