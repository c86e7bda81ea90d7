"""Publish a run: `python docs/publish.py NAME` copies figures/NAME and its notebooks to figures/published/NAME.

Of the stages that run many times, the first is shown. What is larger than a megabyte stays where it is.
"""

import json
import re
import sys
from pathlib import Path

import nbformat

from ada_repro.core import write_json
from ada_repro.evidence.reproduced import publish as publish_study

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 1_000_000
NOT_SHOWN = re.compile(re.escape(str(ROOT)) + r"/?")


def told(notebook):
    "The values that a notebook was given, by name."
    tags = {"parameters", "injected-parameters"}  # the defaults, and below them what papermill was told
    cells = [cell.source for cell in notebook.cells if tags & set(cell.metadata.get("tags", []))]
    return dict(re.findall(r"(?m)^(\w+)(?::[^=\n]+)? = (.+?)(?:  #.*)?$", "\n".join(cells)))


def stage_of(path):
    "The stage that ran a notebook: the beginning of its name."
    return path.stem.partition("-")[0]


def first_of_each(executed):
    "For each stage the first of its notebooks; of an arm the first that looks."
    found = {}
    for path in sorted(executed.glob("*.ipynb"), key=lambda path: ("vanilla" not in path.stem, path.stem)):
        found.setdefault(stage_of(path), path)
    return found


def once(outputs):
    "Outputs, each picture once: a cell that ends with a figure shows it, and Jupyter draws it again."
    kept, seen = [], set()
    for output in outputs:
        picture = output.get("data", {}).get("image/png")
        if picture is None or picture not in seen:
            kept.append(output)
        seen.add(picture)
    return kept


def cleaned(notebook):
    "A notebook without what differs from machine to machine."
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = once(output for output in cell.outputs if output.get("name") != "stderr")
            for output in cell.outputs:
                output.pop("execution_count", None)
    notebook.metadata = {"kernelspec": notebook.metadata.get("kernelspec", {})}
    text = nbformat.writes(notebook)
    return NOT_SHOWN.sub("", text)


def check_run(executed, name):
    "End with one line unless the notebooks are those of this study."
    path = executed / "figures.ipynb"
    if not path.is_file():
        sys.exit(f"{executed} has no figures.ipynb: run `make repro` first")
    values = told(nbformat.read(path, 4))
    if values.get("name", "").strip("'\"") != name:
        sys.exit(f"The executed notebooks are those of {values.get('name')}, not of {name}: switch the profile back")


def cost(executed):
    "What all trainings took together; a stage notes it beside its executed notebook."
    paths = [*executed.glob("baseline-*.json"), *executed.glob("ada-*.json")]
    told = [json.loads(path.read_text()) for path in paths]
    seconds = round(sum(one["seconds"] for one in told))
    return {"seconds": seconds, "peak_memory_mb": max(one["peak_memory_mb"] for one in told)}


def publish(name, root=ROOT):
    "Copy tables, figures, notebooks and cost of a finished run; the names of what was too large."
    executed = root / "data" / "executed"
    check_run(executed, name)
    publish_study(name, root / "figures")
    to, large = root / "figures" / "published" / name, []
    (to / "report.html").unlink(missing_ok=True)  # it speaks of a run, and is large
    write_json(to / "cost.json", cost(executed))
    (to / "notebooks").mkdir()
    for stage, path in first_of_each(executed).items():
        notebook = nbformat.read(path, 4)
        text = cleaned(notebook)
        if len(text.encode()) > LARGEST:
            large.append(path.name)
        else:
            (to / "notebooks" / f"{stage}.ipynb").write_text(text, encoding="utf-8")
    return large


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Name the study: python docs/publish.py phantom-evidence")
    left = publish(sys.argv[1])
    print(f"Published: figures/published/{sys.argv[1]}" + (f"; too large: {', '.join(left)}" if left else ""))
