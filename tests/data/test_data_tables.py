"""Tables are read as they were written, whatever names look like."""

import numpy as np
import pandas as pd

from ada_repro.data.tables import read_table, save_table


def test_names_stay_text(tmp_path):
    words = ["001", "NA", "null", "1e5", "nan", "", "None", "TRUE", " x ", 'a"b', "a,b", "a\nb", "Zürich", "-0", "#"]
    table = pd.DataFrame({"subject": words, "site": words[::-1], "person": words, "DSC": np.arange(len(words)) / 3})
    table.loc[2, "DSC"] = np.nan
    save_table(table, tmp_path / "t.csv")
    again = read_table(tmp_path / "t.csv")
    assert again.subject.tolist() == words and again.site.tolist() == words[::-1]
    assert again.DSC.equals(table.DSC)
    save_table(again, tmp_path / "u.csv")
    assert (tmp_path / "t.csv").read_bytes() == (tmp_path / "u.csv").read_bytes()
