"The pages of all tables and of the claims: everything is there, under names for people."

from functools import cache
from itertools import chain, product

import numpy as np
import pandas as pd
import pytest
from test_claims import evidence
from test_epochs import PAPER as READING
from test_epochs import history
from test_scores import PAPER, made_up_scores
from test_tables import ARMS, KEYS, SLICES, made_up, made_up_look, made_up_stress

from ada_repro.evidence.claims import CLAIMS
from ada_repro.evidence.epochs import table13, table14
from ada_repro.evidence.intervals import Components
from ada_repro.evidence.judging import LATE, by_rules, judge
from ada_repro.evidence.pages import (
    CAPTIONS,
    CLAIM_CAPTION,
    HEADS,
    HEADS_OF,
    RULES,
    WEIGHTS,
    write_claims,
    write_rules,
    write_table,
)
from ada_repro.evidence.tables import (
    held_out,
    pair_components,
    table3,
    table4,
    table5,
    table6,
    table7,
    table8,
    table9,
    table10,
    table11,
    table12,
)
from ada_repro.evidence.verdicts import what_it_takes
from ada_repro.method.arms import arm_name


def made_up_copies():
    keys = product(("baseline", "gradcam"), ("gradcam", "random"), ("keep", "forbid", "none"), ("train", "val"), SLICES)
    rows = pd.DataFrame([(*key, *place) for *key, place in keys], columns=["arm", "method", "protect", "split", *KEYS])
    return rows.assign(DSC_original=80.0, DSC_copy=82.0)


def made_up_rescans():
    rows = pd.DataFrame([(arm, *key) for arm, key in product(ARMS, SLICES)], columns=["arm", *KEYS])
    return rows.assign(DSC_pair=90.0, DSC_rescan=80.0)


def page_of(path):
    "Heads, rows and the lines below of a markdown table."
    lines = path.read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    return cells[0], cells[2:], [line.strip() for line in lines if line and not line.startswith("|")]


@cache
def made_up_tables():
    scores = made_up_scores()
    scores = pd.concat([scores, scores[scores.weights == "best"].assign(weights="chosen")])
    t3, more = made_up(ARMS, {}, "pages"), made_up([*ARMS, "gradcam.forbid"], {}, "pages")
    halves = scores[["arm", "seed"]].drop_duplicates().assign(DSC_a=80.0, DSC_b=81.0)
    return {
        "table3": table3(scores, PAPER[3]).merge(held_out(halves), "left"),
        "table4": table4(scores, PAPER[4]),
        "table5": table5(scores),
        "table6": table6(t3, t3),
        "table7": table7(more, more, "gradcam"),
        "table8": table8(made_up_stress()),
        "table9": table9(made_up_look()),
        "table10": table10(made_up_look()),
        "table11": table11(made_up_copies()),
        "table12": table12(made_up_rescans(), made_up_rescans().assign(CV=2.0)),
        "table13": table13(history(schedule=(100, 31, 30))),
        "table14": table14(history(), READING),
        "needed": what_it_takes(pair_components(t3, ["vanilla", "gradcam"])),
    }


TABLES = [*[f"table{n}" for n in range(3, 15)], "needed"]


@pytest.mark.parametrize("name", TABLES)
def test_each_table_becomes_a_page(tmp_path, name):
    table = made_up_tables()[name]
    write_table(table, tmp_path, name, ["Made up."])
    again = pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(again, table.round(4), check_dtype=False)
    heads, rows, below = page_of(tmp_path / f"{name}.md")
    assert below == [*CAPTIONS[name], "Made up."]
    assert name == "needed" or below[0].startswith(name.replace("table", "Table "))
    assert {len(row) for row in rows} == {len(heads)} and len(rows) == len(table)
    text = [[arm_name(v) for v in row if isinstance(v, str)] for row in table.itertuples(index=False)]
    assert [row[: len(names)] for row, names in zip(rows, text, strict=True)] == text
    if name == "table7":
        assert rows[0][2] == "2", "a count is no decimal number"
    if name == "needed":
        cells = chain.from_iterable(row[1:] for row in rows)
        assert all(cell == "–" or cell.isdigit() for cell in cells)


@pytest.mark.parametrize("name", TABLES)
def test_heads_are_words_and_tell_the_columns_apart(tmp_path, name):
    write_table(made_up_tables()[name], tmp_path, name)
    heads, _, below = page_of(tmp_path / f"{name}.md")
    assert len(set(heads)) == len(heads) and not [h for h in heads if "_" in h or not h[0].isupper() and h[0] != "p"]
    assert not [line for line in below if "_" in line]


def test_the_page_of_rules_has_a_verdict_where_a_rule_applies(tmp_path):
    tables = {"best": judge(evidence(noise=0.02), "made up")}
    rules = by_rules(tables, history())
    write_rules(rules, tmp_path, ["Made up."])
    heads, rows, below = page_of(tmp_path / "rules.md")
    assert heads[2:] == list(RULES.values()) and [row[0] for row in rows] == list(CLAIMS) and below[-1] == "Made up."
    for (key, _, best, chosen, late), claim in zip(rows, tables["best"].itertuples(), strict=True):
        assert best.startswith(f"**{claim.verdict}**") and chosen == "–"
        assert (late == "–") == (key not in LATE)


def test_every_head_and_caption_is_of_some_table():
    tables = made_up_tables()
    columns = set().union(*tables.values())
    assert set(HEADS) <= columns and set(HEADS_OF) <= set(tables) and list(CAPTIONS) == list(tables)


@pytest.mark.parametrize("seeds, weights", [(1, "best"), (3, "chosen")])
def test_the_page_of_claims_has_a_row_per_claim(tmp_path, seeds, weights):
    table = judge(evidence(noise=0.02, seeds=seeds), "made up").assign(weights=weights)
    write_claims(table, tmp_path, ["First line.", "Second line."])
    heads, rows, below = page_of(tmp_path / "claims.md")
    assert {len(row) for row in rows} == {len(heads)} and [row[0] for row in rows] == list(CLAIMS)
    assert below == [*CLAIM_CAPTION, WEIGHTS[weights], "First line.", "Second line."]
    for (_, says, verdict, measure, shown, level, *rest), claim in zip(rows, table.itertuples(), strict=True):
        assert [says, verdict, measure] == [claim.says, f"**{claim.verdict}**", claim.measure]
        assert rest == [claim.rule, claim.why] and ("[" in shown) == (claim.low < claim.high)
        number = np.nan if shown == "–" else float(shown.split()[0])
        assert number == pytest.approx(claim.value, abs=0.0051, nan_ok=True)
        assert float(level.removesuffix(" %")) == pytest.approx(100 * claim.level, abs=0.051)
    again = pd.read_csv(tmp_path / "claims.csv")
    assert again.claim.tolist() == table.claim.tolist() and again.says.tolist() == table.says.tolist()
    assert np.allclose(again.value, table.value.round(4), equal_nan=True)


def test_a_table_without_rows_says_so(tmp_path):
    for empty in (pd.DataFrame(), what_it_takes(Components(0.0, 1.0, np.nan))):
        write_table(empty, tmp_path, "table7")
        assert (tmp_path / "table7.md").read_text().startswith("| This study has nothing to show here. |\n| --- |\n")
