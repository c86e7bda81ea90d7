"The README is true: its numbers are those of the committed tables, its links and commands exist."

import re

import pandas as pd
import pytest

from ada_repro.core import FIGURES, ROOT
from ada_repro.method.arms import arm_name

README, CONTRIBUTING = ((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
STUDIES = ("phantom-evidence", "gm_challenge-evidence")


def cells(line):
    return [c.strip() for c in line.strip("|").split("|")]


def columns():
    "What stands under each head of the table of results: arm -> text."
    for k in (3, 4):
        for name in STUDIES:
            table = pd.read_csv(FIGURES / "published" / name / f"table{k}.csv").set_index("arm")
            if name == STUDIES[0]:
                yield {arm_name(arm): "–" if pd.isna(dsc) else f"{dsc:.2f}" for arm, dsc in table.DSC_paper.items()}
            measured = {}
            for row in table.itertuples():
                measured[arm_name(row.Index)] = f"{row.DSC:.2f} [{row.DSC_low:.2f}, {row.DSC_high:.2f}]"
            yield measured


def table_rows(width):
    "The rows of README's tables of that width."
    rows = [cells(line) for line in README.splitlines()]
    return [row for row in rows if len(row) == width]


def test_the_table_is_that_of_the_figures_folder():
    rows = {arm: numbers for arm, *numbers in table_rows(7)}
    expected = list(columns())
    for arm in expected[0]:
        assert rows[arm] == [column.get(arm, "–") for column in expected]


def test_the_verdicts_are_those_of_the_figures_folder():
    rows = {}
    for claim, _, _, *judged in table_rows(5):
        if re.fullmatch(r"[CS]\d+[ab]?", claim):
            rows[claim] = judged
    for column, name in enumerate(STUDIES):
        claims = pd.read_csv(FIGURES / "published" / name / "claims.csv")
        claims = claims[~claims.claim.str.endswith(" A/A")]
        assert [claim for claim in rows if rows[claim][column] != "–"] == claims.claim.tolist()
        for row in claims.itertuples():
            value = "–" if pd.isna(row.value) else f"{round(row.value, 2) + 0:.2f}"  # never -0.00
            assert rows[row.claim][column].startswith(f"**{row.verdict}** {value}")


LINKS = {link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")}


@pytest.mark.parametrize("link", sorted(LINKS))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


MAKEFILE = (ROOT / "Makefile").read_text()
NAMED = re.findall(r"`?make (\w+)", README) + re.findall(r"^make (\w+)", CONTRIBUTING, re.M)


@pytest.mark.parametrize("target", sorted(set(NAMED)))
def test_make_knows_the_command(target):
    assert re.search(rf"^{target}:", MAKEFILE, re.M)


def test_make_lists_all_that_it_makes():
    (targets,) = re.findall(r"^\.PHONY: (.+)", MAKEFILE, re.M)
    assert sorted(targets.split()) == sorted(re.findall(r"^(\w+):.*  ## \S", MAKEFILE, re.M))
