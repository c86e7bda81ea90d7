"""Keep what tables and figures are made of: `python docs/keep_runs.py` writes a file for each finished run of the study
that params.yaml names into figures/published/<name>/runs; `python docs/keep_runs.py back` makes data/runs,
data/scores and what the trainings took from them, but for the weights.
"""

import sys

from ada_repro.core import DATA, FIGURES, ROOT, DataError
from ada_repro.evidence.keeping import complete_arms, keep_runs, study_of, take_back
from ada_repro.pipeline.params import check_complete, read_params


def commands(study, arms, seeds):
    "How the tables and figures of some arms and seeds are made."
    folds, size = dict.fromkeys(run.fold for run in study.runs), study.profile["ada"]["size"]
    which = f"--arms {' '.join(arms)} --folds {' '.join(folds)} --seeds {' '.join(map(str, seeds))} --size {size}"
    who = f"--name {study.name} --dataset {study.dataset} --profile {study.profile['name']}"
    stage = "python -m ada_repro.pipeline.stage"
    return [f"{stage} iou {which}", f"{stage} figures {who} {which}"]


def keep_study(study, folder):
    "Keep all that has ended, and say what is to come and what can be made."
    left, seeds = keep_runs(study, DATA, ROOT / folder), study.profile["repeat"]["seeds"]
    print(f"{study.name}: {len(study.runs) - len(left)} of {len(study.runs)} runs are kept in {folder}")
    print("Still to come:", ", ".join(run.name for run in left) or "none")
    for some in (seeds[:1], seeds):
        if arms := complete_arms(study.runs, left, some):
            print(f"Tables and figures of seeds {some}:", *commands(study, arms, some), sep="\n  ")


def main(words):
    "Keep, or take back; what is wrong in one line."
    if words not in ([], ["back"]):
        sys.exit(f"{' '.join(words)}: unknown. Say nothing to keep what has ended, or back to take it back")
    try:
        params = read_params(ROOT / "params.yaml")
        check_complete(params)
        study = study_of(params["data"], params["profile"])
        folder = (FIGURES / "published" / study.name / "runs").relative_to(ROOT)
        if words:
            back = take_back(ROOT / folder, DATA, study)
            print(f"{len(back)} runs of {study.name} are back in data/runs and data/scores")
        else:
            keep_study(study, folder)
    except (DataError, ValueError, OSError) as e:
        sys.exit(f"{e}")


if __name__ == "__main__":
    main(sys.argv[1:])
