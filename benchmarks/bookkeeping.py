"""What a stage costs that does nothing: a graph of 364 of them, made up, run by the engine with two at a time.

Prints the head's processor time and the time that passes, for each stage; docs/more_machines.md names the last result.
"""

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from ada_repro.core import ROOT
from ada_repro.pipeline.engine import run_changed
from ada_repro.pipeline.locks import held
from ada_repro.pipeline.start import LOCK

RUNS = 180
CODE = "data/code/a.txt"


def stage(
    to: str,  # Folder that it makes, with a file in it
    *deps,  # What it takes
) -> dict:
    "A stage of the shape of ours, with hardly anything in it."
    return {"cmd": f"mkdir -p {to} && echo {to} > {to}/w", "deps": list(deps), "outs": [to]}


def graph() -> dict:
    "Stages like those of the study: a baseline, many runs, each of them scored, and a figure of all."
    stages = {"check": {"cmd": f"mkdir -p data/code && cp in {CODE}", "deps": ["in"], "outs": ["data/code"]}}
    stages["baseline"] = stage("data/runs/baseline", CODE)
    for i in range(RUNS):
        stages[f"ada{i}"] = stage(f"data/runs/{i}", CODE, "data/runs/baseline/w")
        stages[f"robustness{i}"] = stage(f"data/scores/{i}", CODE, f"data/runs/{i}/w")
    stages["iou"] = stage("data/iou", "data/runs")
    stages["figures"] = stage("figures", "data/scores", "data/runs", "data/iou")
    return stages


def main():
    stages, home = graph(), Path.cwd()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        LOCK.parent.mkdir(parents=True)
        Path(".dvc", "config").write_text((ROOT / ".dvc" / "config").read_text())
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
        Path("in").write_text("1")
        began, worked = time.perf_counter(), time.process_time()
        with held(LOCK):
            failed = run_changed([], 2, LOCK)
        passed, worked = time.perf_counter() - began, time.process_time() - worked
        os.chdir(home)
    many = len(stages)
    print(
        f"{many} stages: {worked / many:.3f} s of the head's processor time each, {passed / many:.2f} s from end to end"
    )
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
