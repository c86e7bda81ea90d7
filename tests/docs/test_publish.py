"A run is published whole, clean, and only under its own name."

import json
import sys

import nbformat
import pytest
from sharing import ROOT

sys.path.insert(0, str(ROOT / "docs"))

import publish  # noqa: E402


@pytest.fixture
def finished_run(tmp_path):
    "A made-up run of two arms."
    executed, figures = tmp_path / "data" / "executed", tmp_path / "figures" / "phantom-smoke"
    executed.mkdir(parents=True)
    figures.mkdir(parents=True)
    for name in ("table3.csv", "figure1.svg", "report.html"):
        (figures / name).write_text(name)
    noise = nbformat.v4.new_output("stream", name="stderr", text="50% 3it/s")
    said = nbformat.v4.new_output("stream", text=f"{ROOT}/data/slices")
    for name in ("figures", "ada-gradcam-paper-0", "ada-vanilla-paper-0"):
        given = nbformat.v4.new_code_cell(
            'name = "phantom-smoke"\n', metadata={"tags": ["parameters"], "papermill": {}}
        )
        cells = [given, nbformat.v4.new_code_cell("work()", outputs=[said, noise], execution_count=3)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), executed / f"{name}.ipynb")
        (executed / f"{name}.json").write_text('{"seconds": 10.2, "peak_memory_mb": 500}')
    return tmp_path


def test_tables_figures_and_one_notebook_a_stage(finished_run):
    assert publish.publish("phantom-smoke", finished_run) == []
    to = finished_run / "figures" / "published" / "phantom-smoke"
    files = sorted(path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file())
    assert files == ["cost.json", "figure1.svg", "notebooks/ada.ipynb", "notebooks/figures.ipynb", "table3.csv"]
    assert json.loads((to / "cost.json").read_text()) == {"seconds": 20, "peak_memory_mb": 500}  # of both trainings
    notebook = nbformat.read(to / "notebooks" / "ada.ipynb", 4)
    given, cell = notebook.cells
    assert given.metadata == {"tags": ["parameters"]} and cell.execution_count is None
    assert [output.text for output in cell.outputs] == ["data/slices"]


def test_a_picture_that_a_cell_ends_with_is_published_once():
    picture = {"data": {"image/png": "aa"}}
    outputs = [picture, {"text": "words"}, dict(picture), {"data": {"image/png": "bb"}}, {"text": "words"}]
    assert publish.once(outputs) == [outputs[0], outputs[1], outputs[3], outputs[4]]


def test_notebooks_of_another_run_are_refused(finished_run):
    with pytest.raises(SystemExit, match="those of .*phantom-smoke.*, not of phantom-laptop"):
        publish.publish("phantom-laptop", finished_run)
    with pytest.raises(SystemExit, match=r"has no figures\.ipynb"):
        publish.publish("phantom-smoke", finished_run / "figures")
