"The README is true: its numbers are those of the committed tables, its links and commands exist."

import re

import pandas as pd
import pytest

from ada_repro.core import ROOT
from ada_repro.method.arms import arm_name

README = (ROOT / "README.md").read_text()
STUDIES = ("phantom-evidence", "gm_challenge-evidence")


def cells(line):
    return [c.strip() for c in line.strip("|").split("|")]


def columns():
    for k in (3, 4):
        for name in STUDIES:
            table = pd.read_csv(ROOT / "figures" / name / f"table{k}.csv").set_index("arm")
            if name == STUDIES[0]:
                yield {arm_name(a): "–" if pd.isna(x) else f"{x:.2f}" for a, x in table.DSC_paper.items()}
            yield {arm_name(a): f"{r.DSC:.2f} [{r.DSC_low:.2f}, {r.DSC_high:.2f}]" for a, r in table.iterrows()}


def test_the_table_is_that_of_the_figures_folder():
    rows = {c[0]: c[1:] for line in README.splitlines() if len(c := cells(line)) == 7}
    expected = list(columns())
    for arm in expected[0]:
        assert rows[arm] == [column.get(arm, "–") for column in expected]


def test_the_verdicts_are_those_of_the_figures_folder():
    rows = {
        c[0]: c[3:] for line in README.splitlines() if len(c := cells(line)) == 5 and re.fullmatch(r"[CS]\d[ab]?", c[0])
    }
    for column, name in enumerate(STUDIES):
        claims = pd.read_csv(ROOT / "figures" / name / "claims.csv")
        assert list(rows) == claims.claim.tolist()
        for r in claims.itertuples():
            assert rows[r.claim][column].startswith(f"**{r.verdict}** {r.value:.2f}")


@pytest.mark.parametrize("link", sorted({l for l in re.findall(r"\]\(([^)#]+)\)", README) if not l.startswith("http")}))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make (\w+)", README))))
def test_make_knows_the_command(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
