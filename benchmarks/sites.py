"""Each site of the real scans held out once, so that each of the five people is judged: `make sites RAW=folder`.

The evidence profile, its first seed, a few arms. Runs are kept in data/sites: an interrupted call goes on. Writes benchmarks/sites.csv.
"""
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path

import pandas as pd
import torch
import yaml

from ada_repro.compare import gap
from ada_repro.core import DATA, ROOT, DataError, best_device, whole_file
from ada_repro.data import list_subjects, load_slices, prepare
from ada_repro.evidence import bootstrap_interval, per_slice, read_arms
from ada_repro.figures import arm_name
from ada_repro.robustness import evaluate_run
from ada_repro.runs import fit, parent_state
from ada_repro.training import new_state

ARMS, SEED = ('vanilla', 'gradcam', 'none', 'random'), 0


def train_site(
    site:str,      # Held out
    raw:Path,      # Folder of the gm_challenge data
    profile:dict,  # Of params.yaml
):
    'The baseline and all arms without this site, scored on it; what is there already is kept.'
    torch.set_num_threads(1)
    home, p = DATA/'sites'/site, profile
    told = dict(seed=SEED, augmentation=p['augment']) | p['train']
    if not (home/'slices').exists(): prepare('gm_challenge', raw, home/'slices', **p['prepare'] | dict(held_out=site))
    validation = load_slices(home/'slices').subset('val').to(best_device())
    def score(name):
        if not (home/'scores'/name).exists():
            evaluate_run(home/'runs'/name, home/'scores'/name, validation, p['model']['width'], p['ada']['size'], **p['robustness'], threshold=p['train']['threshold'])
    if not (parent := home/'runs'/f'baseline-{SEED}').exists():
        fit(parent, new_state(**p['model'], seed=SEED, **p['optimizer']), home/'slices', keep_state=True, arm='none', cycles=0, ada_epochs=0, size=1, **told)
    score(parent.name)
    for arm in ARMS:
        if not (run := home/'runs'/f'{arm}-{SEED}').exists(): fit(run, parent_state(new_state(**p['model'], seed=SEED), parent), home/'slices', arm=arm, **told, **p['ada'])
        score(run.name)


def table(
    scores:pd.DataFrame,  # Of all sites, best weights; a person is a subject
)->pd.DataFrame:          # A row per arm and table: mean DSC, and minus No hole, with intervals over people; the least and the greatest difference of a person
    'What each arm reaches on people of sites it has not seen.'
    rows = []
    for number, each in ((3, per_slice(scores, ['original'])), (4, per_slice(scores))):
        for arm in ('baseline', *ARMS):
            ahead = gap(each, [arm], ['none'])
            people = ahead.groupby('subject').DSC.mean()
            rows.append(dict(table=number, arm=arm_name(arm), **bootstrap_interval(each[each.arm == arm], 'DSC'),
                **bootstrap_interval(ahead, 'DSC', 'minus_none'), person_least=people.min(), person_most=people.max(), people=len(people)))
    return pd.DataFrame(rows)


def main(
    raw:Path=DATA/'raw'/'gm_challenge',  # Folder of the gm_challenge data
):
    'Write benchmarks/sites.csv and print it.'
    subjects = list_subjects('gm_challenge', Path(raw))
    sites, person = list(dict.fromkeys(s.site for s in subjects)), {s.subject: s.person for s in subjects}
    profile = yaml.safe_load((ROOT/'params.yaml').read_text())['evidence']
    with ProcessPoolExecutor(cpu_count(), get_context('spawn')) as pool: list(pool.map(train_site, sites, [Path(raw)] * len(sites), [profile] * len(sites)))
    scores = pd.concat(read_arms(DATA/'sites'/site/'scores', 'scores.csv', ('baseline', *ARMS), [SEED]) for site in sites)
    best = scores[scores.weights == 'best'].assign(slice=lambda t: t.subject + t.slice.astype(str), subject=lambda t: t.subject.map(person))    # a person may have come twice
    found = table(best).round(2)
    with whole_file(ROOT/'benchmarks'/'sites.csv') as to: found.to_csv(to, index=False)
    print(found.to_string(index=False))


if __name__ == '__main__':
    try: main(*sys.argv[1:])
    except DataError as e: sys.exit(f'sites: {e}')
