"""Each site of the real scans held out once, so that each of the five people is judged: `make sites RAW=folder`.

The evidence profile, its first seed, a few arms. Runs are kept in data/sites: an interrupted call goes on.
Writes benchmarks/sites.csv.
"""

import hashlib
import json
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path

import pandas as pd
import torch
import yaml

from ada_repro.core import DATA, ROOT, DataError, best_device, folder_hash, whole_file
from ada_repro.data.datasets import list_subjects, prepare
from ada_repro.data.slices import load_slices
from ada_repro.evidence.intervals import gap, interval
from ada_repro.evidence.scores import per_slice, read_arms
from ada_repro.measure.robustness import evaluate_run
from ada_repro.method.arms import arm_name
from ada_repro.pipeline.locks import Busy, held
from ada_repro.train.runs import fit, parent_state
from ada_repro.train.training import new_state

ARMS, SEED = ("vanilla", "gradcam", "none", "random"), 0


def train_site(
    home: Path,  # Holds `slices`, the split without this site; takes runs and scores
    profile: dict,  # Of params.yaml
):
    "The baseline and all arms without this site, scored on it; what is there already is kept."
    torch.set_num_threads(1)
    data = folder_hash(home / "slices")
    told = {"seed": SEED, "augmentation": profile["augment"]} | profile["train"]
    validation = load_slices(home / "slices").subset("val").to(best_device())

    def once(name, begin, **how):
        run, scores = (home / kind / f"{name}-{SEED}" for kind in ("runs", "scores"))
        if not run.exists() or json.loads((run / "run.json").read_text())["data"] != data:  # other raw files, perhaps
            shutil.rmtree(scores, ignore_errors=True)
            fit(run, begin(), home / "slices", **told, **how)
        if not scores.exists():
            evaluate_run(
                run,
                scores,
                validation,
                profile["model"]["width"],
                profile["ada"]["size"],
                **profile["robustness"],
                threshold=profile["train"]["threshold"],
            )
        return run

    parent = once(
        "baseline",
        lambda: new_state(**profile["model"], seed=SEED, **profile["optimizer"]),
        keep_state=True,
        arm="none",
        cycles=0,
        ada_epochs=0,
        size=1,
    )
    for arm in ARMS:
        once(arm, lambda: parent_state(new_state(**profile["model"], seed=SEED), parent), arm=arm, **profile["ada"])


def table(
    scores: pd.DataFrame,  # Of all sites, best weights; a person is a subject
) -> pd.DataFrame:  # A row per arm and table
    """What each arm reaches on people of sites it has not seen.

    Mean DSC, and minus No hole, with intervals over people; the least and the greatest difference of a person.
    """
    rows = []
    for number, each in ((3, per_slice(scores, ["original"])), (4, per_slice(scores))):
        for arm in ("baseline", *ARMS):
            ahead = gap(each, [arm], ["none"])
            people = ahead.groupby("subject").DSC.mean()
            rows.append(
                dict(
                    table=number,
                    arm=arm_name(arm),
                    **interval(each[each.arm == arm], "DSC"),
                    **interval(ahead, "DSC", "minus_none"),
                    person_least=people.min(),
                    person_most=people.max(),
                    people=len(people),
                )
            )
    return pd.DataFrame(rows)


def main(
    raw: Path = DATA / "raw" / "gm_challenge",  # Folder of the gm_challenge data
):
    "Write benchmarks/sites.csv and print it."
    subjects = list_subjects("gm_challenge", Path(raw))
    sites = list(dict.fromkeys(s.site for s in subjects))
    person = {s.subject: s.person for s in subjects}
    profile = yaml.safe_load((ROOT / "params.yaml").read_text())["evidence"]
    key = hashlib.sha256(json.dumps(profile).encode()).hexdigest()[:8]  # another profile is another study
    homes = [DATA / "sites" / key / site for site in sites]
    with held(DATA / "locks" / "sites.lock"):
        for site, home in zip(sites, homes, strict=True):
            told = profile["prepare"] | {"held_out": site}
            prepare("gm_challenge", raw, home / "slices", **told)  # checks every file
        with ProcessPoolExecutor(cpu_count(), get_context("spawn")) as pool:
            list(pool.map(train_site, homes, [profile] * len(homes)))
    scores = pd.concat(read_arms(home / "scores", "scores.csv", ("baseline", *ARMS), [SEED]) for home in homes)
    best = scores[scores.weights == "best"]
    sessions = best.subject + best.slice.astype(str)
    best = best.assign(slice=sessions, subject=best.subject.map(person))  # a person may have come twice
    found = table(best).round(2)
    with whole_file(ROOT / "benchmarks" / "sites.csv") as to:
        found.to_csv(to, index=False)
    print(found.to_string(index=False))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (DataError, Busy) as e:
        sys.exit(f"sites: {e}")
