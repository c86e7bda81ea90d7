"Put the numbers of the committed studies into README.md: `python docs/fill_readme.py`, after `make evidence`."

import pandas as pd

from ada_repro.core import ROOT
from ada_repro.method.arms import arm_name

STUDIES = {"simulated": "phantom-evidence", "real": "gm_challenge-evidence"}
TO_THE_LEFT = ("", "Arm", "claim", "measured")


def read(study, file):
    "A table of a committed study."
    return pd.read_csv(ROOT / "figures" / STUDIES[study] / file)


def with_ends(value, low, high):
    "A value and its interval, if it has one."
    if pd.isna(low) or low == high:
        return f"{value:.2f}"
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


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
    heads = ["Arm", "Table 3, paper", *STUDIES, "Table 4, paper", *STUDIES]
    arms = table4["simulated"].index
    return markdown(heads, [[arm_name(arm), *dice_cells(arm, table3), *dice_cells(arm, table4)] for arm in arms])


def verdicts():
    "Every claim, judged on each data."
    judged = [read(study, "claims.csv").set_index("claim") for study in STUDIES]
    rows = []
    for key, claim in judged[0].iterrows():
        found = [table.loc[key] for table in judged]
        cells = [f"**{one.verdict}** {with_ends(one.value, one.low, one.high)}" for one in found]
        rows.append([key, claim.says, claim.measure, *cells])
    return markdown(["", "claim", "measured", *STUDIES], rows)


def filled(text, name, table):
    "The text with the table between its markers."
    before, rest = text.split(f"<!-- {name} -->\n")
    _, after = rest.split("\n<!-- end -->", 1)
    return f"{before}<!-- {name} -->\n{table}\n<!-- end -->{after}"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    text = readme.read_text()
    for part in (results, verdicts):
        text = filled(text, part.__name__, part())
    readme.write_text(text)
