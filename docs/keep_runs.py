"""Keep what tables and figures are made of: `python docs/keep_runs.py` writes a file for each finished run of the study
that params.yaml names into figures/published/<name>/runs; `python docs/keep_runs.py back` makes data/runs and
data/scores from them, but for the weights.
"""

import sys

from ada_repro.core import DATA, FIGURES, ROOT
from ada_repro.evidence.keeping import complete_arms, keep_runs, runs_of, take_back
from ada_repro.pipeline.params import read_params


def study(params):
    "Name and runs of the study."
    data, profile = params["data"], params["profile"]
    runs = runs_of(profile["study"]["arms"], data["repeat"]["folds"], profile["repeat"]["seeds"])
    return f"{data['dataset']}-{profile['name']}", runs


def commands(params, arms, seeds):
    "How the tables and figures of some arms and seeds are made."
    data, profile = params["data"], params["profile"]
    folds, names = " ".join(data["repeat"]["folds"]), " ".join(arms)
    which = f"--arms {names} --folds {folds} --seeds {' '.join(map(str, seeds))} --size {profile['ada']['size']}"
    who = f"--name {data['dataset']}-{profile['name']} --dataset {data['dataset']} --profile {profile['name']}"
    stage = "python -m ada_repro.pipeline.stage"
    return [f"{stage} iou {which}", f"{stage} figures {who} {which}"]


def main(words):
    "Keep, or take back."
    params = read_params(ROOT / "params.yaml")
    name, runs = study(params)
    folder = FIGURES / "published" / name / "runs"
    if words == ["back"]:
        print(f"{len(take_back(folder, DATA))} runs of {name} are back in data/runs and data/scores")
        return
    left = keep_runs(runs, DATA, folder)
    print(f"{name}: {len(runs) - len(left)} of {len(runs)} runs are kept in {folder.relative_to(ROOT)}")
    print("Still to come:", ", ".join(run.name for run in left) or "none")
    for seeds in (params["profile"]["repeat"]["seeds"][:1], params["profile"]["repeat"]["seeds"]):
        arms = complete_arms(runs, left, seeds)
        if arms:
            print(f"Tables and figures of seeds {seeds}:", *commands(params, arms, seeds), sep="\n  ")


if __name__ == "__main__":
    main(sys.argv[1:])
