"Put the numbers of the committed studies into README.md, between their markers: `python docs/fill_readme.py`, after `make evidence`."

import re

import pandas as pd

from ada_repro.core import ROOT
from ada_repro.method.arms import arm_name

STUDIES = {"simulated": "phantom-evidence", "real": "gm_challenge-evidence"}


def ends(value, low, high):
    "A value and its interval, if it has one."
    return f"{value:.2f}" + ("" if pd.isna(low) or low == high else f" [{low:.2f}, {high:.2f}]")


def markdown(heads, rows):
    "A table; all but the first columns to the right."
    return "\n".join(
        "| " + " | ".join(r) + " |"
        for r in [heads, ["---" if h in ("", "Arm", "claim", "measured") else "---:" for h in heads], *rows]
    )


def results():
    "Mean DSC of Tables 3 and 4, beside the paper."
    tables = {
        (k, name): pd.read_csv(ROOT / "figures" / folder / f"table{k}.csv").set_index("arm")
        for k in (3, 4)
        for name, folder in STUDIES.items()
    }

    def cells(arm, k):
        paper = tables[k, "simulated"].DSC_paper.get(arm)
        yield "–" if pd.isna(paper) else f"{paper:.2f}"
        for name in STUDIES:
            t = tables[k, name]
            yield ends(*t.loc[arm, ["DSC", "DSC_low", "DSC_high"]]) if arm in t.index else "–"

    heads = ["Arm", *(h for k in (3, 4) for h in (f"Table {k}, paper", *STUDIES))]
    return markdown(heads, [[arm_name(a), *cells(a, 3), *cells(a, 4)] for a in tables[4, "simulated"].index])


def verdicts():
    "Every claim, judged on each data."
    judged = {
        name: pd.read_csv(ROOT / "figures" / folder / "claims.csv").set_index("claim")
        for name, folder in STUDIES.items()
    }

    def cells(claim):
        return [f"**{r.verdict}** {ends(r.value, r.low, r.high)}" for t in judged.values() for r in [t.loc[claim]]]

    return markdown(
        ["", "claim", "measured", *STUDIES],
        [[r.Index, r.says, r.measure, *cells(r.Index)] for r in judged["simulated"].itertuples()],
    )


if __name__ == "__main__":
    text = (ROOT / "README.md").read_text()
    for part in (results, verdicts):
        text = re.sub(rf"(?s)(<!-- {part.__name__} -->\n).*?(\n<!-- end -->)", lambda m: m[1] + part() + m[2], text)
    (ROOT / "README.md").write_text(text)
