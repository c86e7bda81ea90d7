"""Put the numbers of the published studies into README.md and docs/what_stands.md: `python docs/fill_readme.py`.

A part is put between `<!-- its name -->` and `<!-- end -->`, wherever a page has these lines.
"""

from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from ada_repro.core import FIGURES, ROOT
from ada_repro.data.tables import read_table
from ada_repro.evidence.keeping import complete_arms, studies_of, take_back
from ada_repro.evidence.pages import shown_number
from ada_repro.evidence.scores import read_arms
from ada_repro.evidence.tables import needed_line, table3, table4
from ada_repro.evidence.verdicts import STANDS
from ada_repro.method.arms import arm_name
from ada_repro.pipeline.params import read_params

PAGES = (ROOT / "README.md", ROOT / "docs" / "what_stands.md")
STUDIES = {"simulated": "phantom-evidence", "real": "gm_challenge-evidence"}
TO_THE_LEFT = ("", "Arm", "Arm, real", "Arm, simulated", "claim", "measured")
YARDSTICK = " A/A"


def read(study, file):
    "A table of a published study."
    return read_table(FIGURES / "published" / STUDIES[study] / file)


def with_ends(value, low, high):
    "A value and its interval, if it has one."
    if pd.isna(low) or low == high:
        return shown_number(value)
    return f"{shown_number(value)} [{shown_number(low)}, {shown_number(high)}]"


def markdown(heads, rows):
    "A table; all but the first columns to the right."
    align = ["---" if head in TO_THE_LEFT else "---:" for head in heads]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, align, *rows))


def dice_cells(arm, tables):
    "The DSC of an arm in the paper's table and in that of each study."
    paper = next(iter(tables.values())).DSC_paper.get(arm)
    cells = ["–" if pd.isna(paper) else f"{paper:.2f}"]
    for table in tables.values():
        dice = table[["DSC", "DSC_low", "DSC_high"]]
        cells.append(with_ends(*dice.loc[arm]) if arm in table.index else "–")
    return cells


def results():
    "Mean DSC of Tables 3 and 4, beside the paper."
    table3, table4 = ({study: read(study, f"table{n}.csv").set_index("arm") for study in STUDIES} for n in (3, 4))
    heads = ["Arm"]
    for number in (3, 4):
        heads += [f"Table {number}, {source}" for source in ("paper", *STUDIES)]
    arms = table4["simulated"].index
    return markdown(heads, [[arm_name(arm), *dice_cells(arm, table3), *dice_cells(arm, table4)] for arm in arms])


def judged():
    "For each study its claims and its yardsticks."
    tables = [read(study, "claims.csv").set_index("claim") for study in STUDIES]
    is_yardstick = [table.index.str.endswith(YARDSTICK) for table in tables]
    claims = [table[~those] for table, those in zip(tables, is_yardstick, strict=True)]
    return claims, [table[those] for table, those in zip(tables, is_yardstick, strict=True)]


def verdict_cell(table, key):
    "A verdict, its value and interval; a dash where a study is older than the claim."
    if key not in table.index:
        return "–"
    one = table.loc[key]
    return f"**{one.verdict}** {with_ends(one.value, one.low, one.high)}"


def verdicts():
    "Every claim, judged on each data."
    claims, _ = judged()
    rows = []
    for key, claim in claims[0].iterrows():
        rows.append([key, claim.says, claim.measure, *(verdict_cell(table, key) for table in claims)])
    return markdown(["", "claim", "measured", *STUDIES], rows)


SCALES = {  # profile -> what its columns are called
    "evidence": "40 + 3 x 3 epochs",
    "schedule": "the paper's 100 + 31 x 30 epochs, small",
    "paper": "the paper's own size",
}
KINDS = {"phantom": "simulated", "gm_challenge": "real"}


def short_verdict(table, key):
    "A verdict and its value, without the interval."
    if key not in table.index:
        return "–"
    one = table.loc[key]
    return f"**{one.verdict}**" if pd.isna(one.value) else f"**{one.verdict}** {shown_number(one.value)}"


def scales():
    "Every claim at every scale that is published."
    tables, says = {}, {}
    for (profile, scale), (data, kind) in product(SCALES.items(), KINDS.items()):
        path = FIGURES / "published" / f"{data}-{profile}" / "claims.csv"
        if path.is_file():
            table = read_table(path).set_index("claim")
            tables[f"{scale}, {kind}"] = table
            says |= table.says.to_dict()
    claims = [key for key in says if not key.endswith(YARDSTICK)]
    rows = [[key, says[key], *(short_verdict(table, key) for table in tables.values())] for key in claims]
    return markdown(["", "claim", *tables], rows)


def yardsticks():
    "Whether a second training of No hole stands anywhere."
    _, tables = judged()
    said = []
    for study, table in zip(STUDIES, tables, strict=True):
        measured = table[table.value.notna()]
        if len(measured):
            names = ", ".join(measured.index[measured.verdict == STANDS])
            said.append(f"{study} {names or 'none'} of {len(measured)}")
    return f"False alarms among the yardsticks, where nothing can be ahead: {'; '.join(said)}."


def takes():
    "What it would take to tell the differences that the paper reports."
    there = [study for study in STUDIES if (FIGURES / "published" / STUDIES[study] / "needed.csv").is_file()]
    return "\n\n".join(f"On {study} scans: {needed_line(read(study, 'needed.csv'))}" for study in there)


def flips():
    "Verdicts that were others with the bootstrap intervals that stood here before."
    before = read_table(ROOT / "docs" / "verdicts_before.csv").set_index("claim")
    rows = []
    for study, table, yardstick in zip(STUDIES, *judged(), strict=True):
        if yardstick.empty:
            continue  # judged by the older intervals still
        for key in before.index:
            old, new = before[study][key], table.loc[key]
            if old != new.verdict:
                rows.append([key, new.says, study, old, new.verdict, with_ends(new.value, new.low, new.high)])
    return markdown(["", "claim", "data", "before", "now", "value now"], rows)


SCHEDULES = {"real": "gm_challenge-schedule", "simulated": "phantom-schedule"}


def schedule_columns(table3, table4):
    "What a study at the paper's schedule has, out of its tables: heading -> a cell for each arm."
    table3, table4 = table3.set_index("arm"), table4.set_index("arm")
    ends, lead = ["DSC", "DSC_low", "DSC_high"], ["DSC_minus_none", "DSC_minus_none_low", "DSC_minus_none_high"]
    columns = {
        "Table 3, paper": table3[["DSC_paper"]],
        "Table 3": table3[ends],
        "minus No hole": table3[lead],
        "epoch chosen on other people": table3[["DSC_chosen"]],
        "last epoch": table3[["DSC_last"]],
        "Table 4, paper": table4[["DSC_paper"]],
        "Table 4": table4[ends],
        "minus No hole, Table 4": table4[lead],
    }
    return {
        head: {arm: with_ends(*row, *[None] * (3 - len(row))) for arm, *row in part.itertuples()}
        for head, part in columns.items()
    }


def schedule_table(table3, table4, kind):
    "Both tables of a study in one, beside the paper."
    columns = schedule_columns(table3, table4)
    arms = [arm for arm in columns["Table 4"] if arm != "counting"]
    rows = [[arm_name(arm), *(cells[arm] for cells in columns.values())] for arm in arms]
    return markdown([f"Arm, {kind}", *columns], rows)


def schedule():
    "The studies at the paper's schedule, as far as they are published."
    folders = {kind: FIGURES / "published" / study for kind, study in SCHEDULES.items()}
    tables = [
        schedule_table(*(read_table(folder / f"table{n}.csv") for n in (3, 4)), kind)
        for kind, folder in folders.items()
        if (folder / "table4.csv").is_file()
    ]
    return "\n\n".join(tables)


def second_seed():
    "The same from two seeds, of the arms that have both in every fold, out of what is kept of their runs."
    study = studies_of(read_params(ROOT / "params.yaml"))[SCHEDULES["real"]]
    runs = study.runs
    folds, seeds = (list(dict.fromkeys(getattr(run, name) for run in runs)) for name in ("fold", "seed"))
    with TemporaryDirectory() as place:
        found = take_back(FIGURES / "published" / study.name / "runs", Path(place), study)
        arms = complete_arms(runs, [run for run in runs if run not in found], seeds)
        if not arms:
            return "No arm has a second seed in every fold yet."
        scores = read_arms(Path(place) / "scores", "scores.csv", ["baseline", *arms], folds, seeds)
    papers = [read_table(FIGURES / "paper" / f"table{n}.csv") for n in (3, 4)]
    return schedule_table(table3(scores, papers[0]), table4(scores, papers[1]), "real")


def filled(text, name, part):
    "The text with a part between its markers."
    before, rest = text.split(f"<!-- {name} -->\n")
    _, after = rest.split("<!-- end -->", 1)
    return f"{before}<!-- {name} -->\n{part}\n<!-- end -->{after}"


if __name__ == "__main__":
    for page in PAGES:
        text = page.read_text()
        for part in (results, schedule, second_seed, verdicts, scales, yardsticks, takes, flips):
            if f"<!-- {part.__name__} -->\n" in text:
                text = filled(text, part.__name__, part())
        page.write_text(text)
