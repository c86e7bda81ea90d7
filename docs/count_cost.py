"""What the studies cost: `python docs/count_cost.py` writes docs/costs.md from the records of their trainings.

A training that is not there yet is taken to last as long as the median of its kind: baselines, and arms. Scoring and
the other stages are left out; at the paper's schedule they are less than a twentieth.
"""

import csv
import json
import sys
from statistics import median

from ada_repro.core import DATA, FIGURES, ROOT, DataError, Run, run_named
from ada_repro.evidence import kept
from ada_repro.evidence.keeping import studies_of
from ada_repro.pipeline.params import read_params

WORKERS = (1, 10, 100)
HEADS = ["study", "trainings", "done", "core hours spent", "core hours in all", *(f"on {n}" for n in WORKERS)]
TITLE = """# What a study costs

Core hours of the trainings of each study, one core a training, as their records tell; then how many hours the whole
study would take on so many cores at once, with each baseline before its arms. Below, the published studies whose runs
are not kept one by one. Of a training that was interrupted the last start counts. Older records hold the clock's
seconds alone: of those, trainings that shared a core are overcounted. One that is not there yet counts as the
median of its kind. Made by `python docs/count_cost.py`.
"""


def kept_records(folder):
    "The records of the trainings that are kept of a study, with what they took where that is known."
    records = {}
    for path in sorted(folder.glob("*.zip")):
        contents = kept.read_kept(path)
        cost = json.loads(contents.get(kept.COST, b"{}"))
        records[run_named(path.stem)] = kept.record_in(path, contents) | cost
    return records


def core_seconds(records):
    "Seconds of a core for each training whose record tells them."
    told = {run: kept.core_seconds(record) for run, record in records.items()}
    return {run: seconds for run, seconds in told.items() if seconds is not None}


def with_guesses(runs, seconds):
    "The same, and for trainings that are not there the median of those of their kind; none without any of it."
    full = {}
    for run in runs:
        kind = [s for other, s in seconds.items() if (other.arm == "baseline") == (run.arm == "baseline")]
        if run in seconds or kind:
            full[run] = seconds.get(run) or median(kind)
    return full


def whole_time(seconds, workers):
    "Seconds until all are done, at least: each arm waits for its baseline."
    ends = []
    for run, one in seconds.items():
        parent = Run("baseline", run.fold, run.seed)
        ends.append(one if run == parent else one + seconds.get(parent, 0))
    return max([sum(seconds.values()) / workers, *ends])


def row_of(name, runs, seconds):
    "A study as a row of the page."
    full = with_guesses(runs, seconds)
    hours = [whole_time(full, n) / 3600 for n in WORKERS]
    spent, whole = sum(seconds.values()) / 3600, sum(full.values()) / 3600
    return [name, str(len(runs)), str(len(seconds)), f"{spent:.1f}", f"{whole:.1f}", *(f"{h:.1f}" for h in hours)]


def studies(params):
    "Name and trainings of every study that has kept records."
    for name, study in studies_of(params).items():
        records = kept_records(FIGURES / "published" / name / "runs")
        if seconds := core_seconds(records):
            yield name, list(dict.fromkeys([*study.runs, *records])), seconds


def machines(folder):
    "On what the trainings that are kept were run, in a sentence."
    names = {}
    for path in sorted(folder.glob("*/runs")):
        told = kept_records(path).values()
        names |= {f"{record['device']} {record['isa']}": None for record in told if "isa" in record}
    return f"Trained one thread each on: {'; '.join(names)}." if names else ""


def published(folder):
    "What the trainings of each published study took, in a sentence each."
    for path in sorted(folder.glob("*/cost.json")):
        if (path.parent / "runs").is_dir():
            continue  # stands in the table
        cost = json.loads(path.read_text())
        hours, memory_mb = kept.core_seconds(cost) / 3600, cost["peak_memory_mb"]
        which = f"{cost['trainings']} of its trainings" if "trainings" in cost else "all its trainings"
        yield f"- {path.parent.name}: {hours:.1f} core hours for {which}, {memory_mb} MB at most at a time"


def energy():
    "What the starts of this checkout have cost, in a sentence."
    path = DATA / "spent.csv"
    rows = list(csv.DictReader(path.open())) if path.is_file() else []
    told = [float(row["joules"]) for row in rows if row["joules"]]
    hours = sum(float(row["core_seconds"]) for row in rows) / 3600
    if not told:
        return "The machine that this page was made on does not tell joules."
    return f"The {len(rows)} starts of `make repro` noted here: {hours:.1f} core hours, {sum(told) / 3.6e6:.2f} kWh."


def main():
    "Write the page; what is wrong in one line."
    try:
        rows = [row_of(*study) for study in studies(read_params(ROOT / "params.yaml"))]
        told = [*published(FIGURES / "published"), "", machines(FIGURES / "published")]
    except (DataError, ValueError, OSError) as e:
        sys.exit(f"{e}")
    heads = [HEADS, ["---", *["---:"] * (len(HEADS) - 1)]] if rows else []
    lines = ["| " + " | ".join(cells) + " |" for cells in [*heads, *rows]]
    (ROOT / "docs" / "costs.md").write_text("\n".join([TITLE, *lines, "", *told, "", energy(), ""]))


if __name__ == "__main__":
    main()
