"A run is published whole, clean, and only under its own name."

import json
import shutil
import sys

import nbformat
import pytest
from sharing import ROOT, python

from ada_repro.core import DataError
from ada_repro.evidence.keeping import studies_of
from ada_repro.pipeline.params import read_params

sys.path.insert(0, str(ROOT / "docs"))

import publish  # noqa: E402

ARMS = ["gradcam", "vanilla"]
WHOLE = {"name": "phantom-smoke", "dataset": "phantom", "profile": "smoke"}


def execute(root, called, seconds=None, **given):
    "A notebook that ran, and what it took."
    noise = nbformat.v4.new_output("stream", name="stderr", text="50% 3it/s")
    said = nbformat.v4.new_output("stream", text=f"{ROOT}/data/slices")
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items())
    told = nbformat.v4.new_code_cell(text, metadata={"tags": ["parameters"], "papermill": {}})
    cells = [told, nbformat.v4.new_code_cell("work()", outputs=[said, noise], execution_count=3)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "data" / "executed" / f"{called}.ipynb")
    if seconds:
        record = {"seconds": seconds, "core_seconds": seconds / 2, "peak_memory_mb": 500}
        (root / "data" / "executed" / f"{called}.json").write_text(json.dumps(record))


@pytest.fixture
def finished_run(tmp_path):
    "A made-up run of two arms, after one of another study."
    figures = tmp_path / "figures" / "phantom-smoke"
    figures.mkdir(parents=True)
    (tmp_path / "data" / "executed").mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for name in ("table3.csv", "figure1.svg", "report.html"):
        (figures / name).write_text(name)
    execute(tmp_path, "figures", **WHOLE, arms=ARMS, folds=["paper"], seeds=[0])
    execute(tmp_path, "prepare", dataset="phantom", crop_px=40)
    execute(tmp_path, "baseline-paper-0", 5, fold="paper", seed=0, standard_epochs=2)
    for arm in ARMS:
        execute(tmp_path, f"ada-{arm}-paper-0", 10.2, arm=arm, kept_in="data", fold="paper", seed=0, ada_epochs=1)
    execute(tmp_path, "ada-vanilla-CEITEC-0", 7000, arm="vanilla", kept_in="data", fold="CEITEC", seed=0, ada_epochs=30)
    execute(tmp_path, "claims", name="phantom-laptop")
    return tmp_path


def files_of(folder):
    "Bytes of all files in a folder, by their place in it."
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_tables_figures_and_one_notebook_a_stage(finished_run):
    to = finished_run / "figures" / "published" / "phantom-smoke"
    (to / "runs").mkdir(parents=True)
    (to / "runs" / "kept.zip").write_bytes(b"kept")
    (to / "old.md").write_text("of the study before")
    assert publish.publish("phantom-smoke", finished_run) == []
    notebooks = [f"notebooks/{stage}.ipynb" for stage in ("ada", "baseline", "figures", "prepare")]
    assert sorted(files_of(to)) == ["cost.json", "figure1.svg", *notebooks, "runs/kept.zip", "table3.csv"]
    assert [path.name for path in to.parent.iterdir()] == ["phantom-smoke"]
    assert json.loads((to / "cost.json").read_text()) == {"seconds": 25, "core_seconds": 13, "peak_memory_mb": 500}
    notebook = nbformat.read(to / "notebooks" / "ada.ipynb", 4)
    given, cell = notebook.cells
    assert 'arm = "vanilla"' in given.source and 'fold = "paper"' in given.source
    assert given.metadata == {"tags": ["parameters"]} and cell.execution_count is None
    assert [output.text for output in cell.outputs] == ["data/slices"]


def test_of_how_many_trainings_the_cost_is_known_is_told(finished_run):
    (finished_run / "data" / "executed" / "ada-gradcam-paper-0.json").unlink()
    publish.publish("phantom-smoke", finished_run)
    told = json.loads((finished_run / "figures" / "published" / "phantom-smoke" / "cost.json").read_text())
    assert told == {"seconds": 15, "core_seconds": 8, "peak_memory_mb": 500, "trainings": 2}


def test_a_picture_that_a_cell_ends_with_is_published_once():
    picture = {"data": {"image/png": "aa"}}
    outputs = [picture, {"text": "words"}, dict(picture), {"data": {"image/png": "bb"}}, {"text": "words"}]
    assert publish.once(outputs) == [outputs[0], outputs[1], outputs[3], outputs[4]]


def lose_tables(root):
    shutil.rmtree(root / "figures" / "phantom-smoke")


def lose_figures(root):
    (root / "data" / "executed" / "figures.ipynb").unlink()


def show_another(root):
    execute(root, "figures", **WHOLE | {"name": "phantom-laptop"}, arms=ARMS, folds=["paper"], seeds=[0])


def train_another(root):
    execute(root, "baseline-paper-0", 5, fold="paper", seed=0, standard_epochs=40)


def prepare_another(root):
    execute(root, "prepare", dataset="scgm", crop_px=40)


def lose_costs(root):
    for path in (root / "data" / "executed").glob("*.json"):
        path.unlink()


def cut_notebook(root):
    (root / "data" / "executed" / "baseline-paper-0.ipynb").write_text("{")


REFUSED = {
    lose_tables: "phantom-smoke: is not there",
    lose_figures: r"executed: has no figures\.ipynb",
    show_another: r"figures\.ipynb: is of phantom-laptop, not of phantom-smoke",
    train_another: r"baseline-paper-0\.ipynb: is of another study .*standard_epochs is 40 and not 2",
    prepare_another: r"prepare\.ipynb: is of another study .*dataset is 'scgm' and not 'phantom'",
    lose_costs: "executed: has no record of what the trainings took",
    cut_notebook: r"baseline-paper-0\.ipynb: is no notebook",
}


@pytest.mark.parametrize("harm", REFUSED, ids=lambda harm: harm.__name__)
def test_what_cannot_be_published_leaves_what_is(finished_run, harm):
    publish.publish("phantom-smoke", finished_run)
    before = files_of(finished_run / "figures" / "published")
    harm(finished_run)
    with pytest.raises(DataError, match=REFUSED[harm]):
        publish.publish("phantom-smoke", finished_run)
    assert files_of(finished_run / "figures" / "published") == before


def test_no_study_is_refused_in_one_line(finished_run):
    with pytest.raises(DataError, match=r"\.\./phantom-smoke: is no study of params\.yaml"):
        publish.publish("../phantom-smoke", finished_run)
    code, said, errors = python(ROOT, "docs/publish.py", "phantom-nothing")
    assert (code, said) == (1, "") and len(errors.splitlines()) == 1


@pytest.mark.parametrize("folder", sorted((ROOT / "figures" / "published").iterdir()), ids=lambda folder: folder.name)
def test_published_notebooks_are_of_their_study(folder):
    study = studies_of(read_params(ROOT / "params.yaml"))[folder.name]
    folds = publish.read_told(folder / "notebooks" / "figures.ipynb")["folds"]
    for path in (folder / "notebooks").iterdir():
        assert publish.differences(publish.read_told(path), publish.asked_of(path.stem, study, folds)) == []
