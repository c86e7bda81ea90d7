"""Publish a run: `python docs/publish.py NAME` copies figures/NAME and its notebooks to figures/published/NAME.

Of the stages that run many times, the first is shown. What is larger than a megabyte stays where it is. data/executed
keeps notebooks of every study: those are taken that are called after this one's runs and were told what it asks.
"""

import ast
import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat

from ada_repro.core import DataError, write_json
from ada_repro.evidence.keeping import runs_of, studies_of
from ada_repro.evidence.kept import COST, core_seconds, place_of
from ada_repro.evidence.reproduced import publish as publish_study
from ada_repro.pipeline.params import read_params
from ada_repro.train.choices import TRAINING, differences

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 1_000_000
NOT_SHOWN = re.compile(re.escape(str(ROOT)) + r"/?")
MADE_FROM = ("prepare", "baseline", "ada", "robustness", "iou")  # what the tables are made from
LATER = "Run `make repro` again, or remove it if it is older than the figures"


def told(notebook):
    "The values that a notebook was given, by name."
    tags = {"parameters", "injected-parameters"}  # the defaults, and below them what papermill was told
    cells = [cell.source for cell in notebook.cells if tags & set(cell.metadata.get("tags", []))]
    values = {}
    for name, text in re.findall(r"(?m)^(\w+)(?::[^=\n]+)? = (.+?)(?:  #.*)?$", "\n".join(cells)):
        with suppress(ValueError, SyntaxError):
            values[name] = ast.literal_eval(text)
    return values


def read_told(path):
    "The same of a file; one line for a file that is no notebook."
    try:
        return told(nbformat.read(path, 4))
    except (ValueError, KeyError, AttributeError, nbformat.ValidationError):
        raise DataError(path, "is no notebook", LATER) from None


def stage_of(path):
    "The stage that ran a notebook: the beginning of its name."
    return path.stem.partition("-")[0]


def asked_of(stage, study, folds):
    "What a study asks of a stage, arms and seeds aside: tables of an unfinished one are of some."
    asked = {"dataset": study.dataset, "profile": study.profile["name"], "name": study.name, "kept_in": "data"}
    for section in (*TRAINING, "ada", stage):
        asked |= study.profile.get(section, {})
    return asked | {"folds": folds}


def notebooks_of(executed, study, runs):
    "Of a study's executed notebooks the stage and the place, in the order in which the first is shown."
    rests = [*(run.name for run in runs), *(f"{run.fold}-{run.seed}" for run in runs)]
    order = {rest: i for i, rest in enumerate(["", *dict.fromkeys(rests)])}
    paths = [path for path in executed.glob("*.ipynb") if path.stem.partition("-")[2] in order]
    if study.dataset != "phantom":
        paths = [path for path in paths if path.stem != "phantom"]
    paths.sort(key=lambda path: ("vanilla" not in path.stem, order[path.stem.partition("-")[2]], path.stem))
    folds = [*dict.fromkeys(run.fold for run in runs)]
    for path in paths:
        other = differences(read_told(path), asked_of(stage_of(path), study, folds))
        if not other:
            yield stage_of(path), path
        elif stage_of(path) in MADE_FROM:
            raise DataError(path, f"is of another study than {study.name}: {', '.join(other[:3])}", LATER)


def first_of_each(notebooks):
    "For each stage the first of its notebooks; of an arm the first that looks."
    found = {}
    for stage, path in notebooks:
        found.setdefault(stage, path)
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


def runs_shown(executed, name):
    "The runs that the tables are made of; one line unless they are of this study."
    path = executed / "figures.ipynb"
    if not path.is_file():
        raise DataError(executed, "has no figures.ipynb", "Run `make repro` first")
    values = read_told(path)
    if values.get("name") != name:
        raise DataError(path, f"is of {values.get('name')}, not of {name}", "Switch data and profile back, and run it")
    return runs_of(values["arms"], values["folds"], values["seeds"])


def cost(data, runs):
    "What the trainings took together; a stage notes it beside its executed notebook."
    told = []
    for run in runs:
        record = {}
        for path in (place_of("runs/run.json", run, data), place_of(COST, run, data)):
            record |= json.loads(path.read_text()) if path.is_file() else {}
        if core_seconds(record):
            told.append(record)
    if not told:
        raise DataError(data / "executed", "has no record of what the trainings took", "Run them, or take them back")
    taken = {"seconds": round(sum(one["seconds"] for one in told)), "core_seconds": round(sum(map(core_seconds, told)))}
    taken["peak_memory_mb"] = max(one["peak_memory_mb"] for one in told)
    return taken if len(told) == len(runs) else taken | {"trainings": len(told)}


def write_notebooks(found, to):
    "A notebook for each stage, cleaned; the names of what was too large."
    large = []
    to.mkdir()
    for stage, path in found.items():
        text = cleaned(nbformat.read(path, 4))
        if len(text.encode()) > LARGEST:
            large.append(path.name)
        else:
            (to / f"{stage}.ipynb").write_text(text, encoding="utf-8")
    return large


def publish(name, root=ROOT):
    "Copy tables, figures, notebooks and cost of a finished run; the names of what was too large."
    data, studies = root / "data", studies_of(read_params(root / "params.yaml"))
    if name not in studies:
        raise DataError(name, "is no study of params.yaml", f"These are: {', '.join(studies)}")
    runs = runs_shown(data / "executed", name)
    found = first_of_each(notebooks_of(data / "executed", studies[name], runs))
    with TemporaryDirectory() as more:
        write_json(Path(more) / "cost.json", cost(data, runs))
        large = write_notebooks(found, Path(more) / "notebooks")
        publish_study(name, root / "figures", Path(more))
    return large


def main(words):
    "Publish; what is wrong in one line."
    if len(words) != 1:
        sys.exit("Name the study: python docs/publish.py phantom-evidence")
    try:
        left = publish(*words)
    except (DataError, ValueError, OSError) as e:
        sys.exit(f"{e}")
    print(f"Published: figures/published/{words[0]}" + (f"; too large: {', '.join(left)}" if left else ""))


if __name__ == "__main__":
    main(sys.argv[1:])
