"The scripts that keep runs and count what they cost: what they say of a small project, and one line of what is wrong."

import json

import pytest
from sharing import ROOT, python

from ada_repro.evidence.keeping import study_of
from ada_repro.pipeline.params import read_params

KEEP, COUNT = (f"{ROOT / 'docs' / name}.py" for name in ("keep_runs", "count_cost"))
TABLE = "arm,fold,seed,DSC\n{run.arm},{run.fold},{run.seed},80.0\n"


def make_runs(project, **told):
    "All runs of the project's study, trained and scored."
    params = read_params(project / "params.yaml")
    study = study_of(params["data"], params["profile"])
    (project / "data" / "executed").mkdir(parents=True, exist_ok=True)
    for run in study.runs:
        for stage, name in (("runs", "history"), ("scores", "scores")):
            (project / "data" / stage / run.name).mkdir(parents=True)
            (project / "data" / stage / run.name / f"{name}.csv").write_text(TABLE.format(run=run))
        record = {"params": {"seed": run.seed, "standard_epochs": 2} | told}
        (project / "data" / "runs" / run.name / "run.json").write_text(json.dumps(record))
        name = run.name if run.arm == "baseline" else f"ada-{run.name}"
        (project / "data" / "executed" / f"{name}.json").write_text('{"seconds": 9, "core_seconds": 3600}')
    return project / "figures" / "published" / study.name / "runs"


@pytest.fixture
def project(tmp_path):
    "A project whose profile is smoke, of two arms, and whose fold is a whole number."
    text = (ROOT / "params.yaml").read_text()
    new = {
        "profile: *laptop": "profile: *smoke",
        "dataset: phantom, repeat: {folds: [paper]}": "dataset: phantom, repeat: {folds: [1]}",
    }
    for old, now in new.items():
        assert old in text
        text = text.replace(old, now)
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "docs").mkdir()
    return tmp_path


def test_a_complete_study_of_a_fold_that_is_a_number(project):
    kept = make_runs(project)
    code, said, errors = python(project, KEEP)
    assert (code, errors) == (0, "") and "8 of 8 runs are kept" in said
    assert (
        "--arms vanilla input_x_gradient guided_backprop gradcam guided_gradcam none random --folds 1 --seeds 0" in said
    )
    assert (kept / "baseline-1-0.zip").is_file()
    assert python(project, COUNT)[0] == 0
    assert "| phantom-smoke | 8 | 8 | 8.0 |" in (project / "docs" / "costs.md").read_text()
    assert python(project, KEEP, "back")[0] == 0


def test_what_is_of_another_profile_or_damaged_is_one_line(project):
    kept = make_runs(project, standard_epochs=100)
    code, said, errors = python(project, KEEP)
    assert (code, said) == (1, "") and len(errors.splitlines()) == 1 and "is of another study" in errors
    assert not kept.exists()
    kept.mkdir(parents=True)
    (kept / "none-1-0.zip").write_bytes(b"PK")
    for words in ([KEEP], [KEEP, "back"], [COUNT]):
        code, said, errors = python(project, *words)
        assert (code, said) == (1, "") and len(errors.splitlines()) == 1 and "none-1-0.zip: is damaged" in errors


@pytest.mark.parametrize("words", [["foo"], ["back", "foo"], ["Back"]], ids=" ".join)
def test_unknown_words_are_refused(project, words):
    kept = make_runs(project)
    code, said, errors = python(project, KEEP, *words)
    assert (code, said) == (1, "") and errors.startswith(f"{' '.join(words)}: unknown") and not kept.exists()
