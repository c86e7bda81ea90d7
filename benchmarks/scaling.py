"""How far the study scales, on paper: it is played through for 1 to 1000 workers with measured times of stages.

Writes the table of docs/more_machines.md. No stage is run; times are of one thread of the machine named there.
"""

from itertools import product

from ada_repro.core import ROOT
from ada_repro.pipeline.engine import first_things_first
from ada_repro.pipeline.params import read_params
from ada_repro.pipeline.progress import in_words, play_through

PAGE = ROOT / "docs" / "more_machines.md"
PARAMS = read_params(ROOT / "params.yaml")
ARMS, SEEDS = len(PARAMS["schedule"]["study"]["arms"]), len(PARAMS["schedule"]["repeat"]["seeds"])
FOLDS = {data: PARAMS["datasets"][data]["repeat"]["folds"] for data in ("phantom", "gm_challenge")}
FIRST_S = {"check": 5, "phantom": 19, "prepare": 16}
SECONDS = {  # profile schedule: 100 epochs, then 31 x 30 of twice as many images
    "phantom": {"baseline": 60, "ada": 750, "robustness": 8},
    "gm_challenge": {"baseline": 50, "ada": 960, "robustness": 12},
}
LAST_S = {"iou": 10, "figures": 20}
START_S = 4.0  # of a stage on a machine without a warm process
HEAD_S = 0.12  # the head's own work for a stage, one after another
WORKERS = (1, 2, 10, 100, 1000)


def study(
    data: str,  # Name of the data set
):  # Stages -> those before them, and how long each takes
    "The graph of a study on one data set."
    needs, seconds = {}, {}

    def add(name, before, took_s):
        needs[name], seconds[name] = set(before), took_s + START_S

    before = []
    for stage, took_s in FIRST_S.items():
        if stage != "phantom" or data == "phantom":
            add(f"{stage}@{data}", before, took_s)
            before = [f"{stage}@{data}"]
    for fold, seed in product(FOLDS[data], range(SEEDS)):
        baseline = f"baseline@{data}-{fold}-{seed}"
        add(baseline, before, SECONDS[data]["baseline"])
        add(f"robustness@baseline-{data}-{fold}-{seed}", [baseline], SECONDS[data]["robustness"])
        for arm in range(ARMS):
            run = f"{arm}-{data}-{fold}-{seed}"
            add(f"ada@{run}", [baseline], SECONDS[data]["ada"])
            add(f"robustness@{run}", [f"ada@{run}"], SECONDS[data]["robustness"])
    add(f"iou@{data}", [name for name in needs if name.startswith("ada")], LAST_S["iou"])
    add(f"figures@{data}", [name for name in needs if name.startswith(("robustness", "iou"))], LAST_S["figures"])
    return needs, seconds


def row(
    workers: int,  # How many
) -> str:
    "A line of the table: for each data set how long it takes, how much faster that is, and the head's share."
    cells = [f"{workers}"]
    for data in FOLDS:
        needs, seconds = study(data)
        alone, head = sum(seconds.values()), len(needs) * HEAD_S
        took = max(play_through(first_things_first(needs), seconds, [], workers), head)
        cells += [in_words(took), f"{alone / took:.1f}", f"{head / took:.1%}"]
    return f"| {' | '.join(cells)} |"


def main():
    heads = [f"{data}, {len(study(data)[0])} stages | times as fast | head at work" for data in FOLDS]
    lines = [f"| workers | {' | '.join(heads)} |", "| ---: " * 7 + "|", *map(row, WORKERS)]
    text = "\n".join(lines)
    print(text)
    before, rest = PAGE.read_text().split("<!-- scaling -->\n")
    _, after = rest.split("<!-- end -->", 1)
    PAGE.write_text(f"{before}<!-- scaling -->\n{text}\n<!-- end -->{after}")


if __name__ == "__main__":
    main()
