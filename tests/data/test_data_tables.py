"""Tables are read as they were written, whatever names look like."""

import re

import numpy as np
import pandas as pd

from ada_repro.core import ROOT
from ada_repro.data.tables import read_table, save_table


def test_names_stay_text(tmp_path):
    words = ["001", "NA", "null", "1e5", "nan", "", "None", "TRUE", " x ", 'a"b', "a,b", "a\nb", "Zürich", "-0", "#"]
    words += ["\ufeffx", "0x10", "1_000", "-inf", "+5", "1e400", "N/A", "<NA>", "2020-01-01", "0.10"]
    words += ["\x1a", "'", "\tT\t", '""']
    table = pd.DataFrame({"subject": words, "site": words[::-1], "person": words, "DSC": np.arange(len(words)) / 3})
    table.loc[2, "DSC"] = np.nan
    save_table(table, tmp_path / "t.csv")
    again = read_table(tmp_path / "t.csv")
    assert again.subject.tolist() == words and again.site.tolist() == words[::-1]
    assert again.DSC.equals(table.DSC)
    save_table(again, tmp_path / "u.csv")
    assert (tmp_path / "t.csv").read_bytes() == (tmp_path / "u.csv").read_bytes()


def test_a_table_may_be_text_alone(tmp_path):
    hashes = pd.DataFrame({"operation": ["a", "b"], "here": ["12e456789012", "093666817012"]})
    save_table(hashes, tmp_path / "table.csv")
    assert read_table(tmp_path / "table.csv", text=None).equals(hashes)


def test_numbers_may_be_written_short(tmp_path):
    save_table(pd.DataFrame({"x": [1 / 3, 2e5]}), tmp_path / "table.csv", "%.3g")
    assert (tmp_path / "table.csv").read_bytes() == b"x\n0.333\n2e+05\n"


def test_there_is_one_reader_and_one_writer():
    paths = [*ROOT.glob("ada_repro/**/*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("docs/*.py")]
    paths += ROOT.glob("nbs/experiments/*.ipynb")
    found = {p.relative_to(ROOT).as_posix() for p in paths if re.search(r"read_csv\(|to_csv\(", p.read_text("utf-8"))}
    assert found == {"ada_repro/data/tables.py"}
