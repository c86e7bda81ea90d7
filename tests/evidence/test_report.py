"The report: one file that asks nothing of a network, escapes what it is told, and shows the right slices."

import re

import numpy as np
import pandas as pd
import pytest

from ada_repro.core import FIGURES
from ada_repro.evidence.report import Predictions, interval, plot_extremes, rounded, slice_scores, write_report

PUBLISHED = sorted(path.parent for path in FIGURES.rglob("table3.csv") if path.parent.name != "paper")


def made_up():
    "Three slices with a square; arm a is right in the first and empty in the last, arm b the other way round."
    targets = np.zeros((3, 20, 20), bool)
    targets[:, 5:15, 5:15] = True
    right, half, none = targets[0], targets[0].copy(), np.zeros((20, 20), bool)
    half[5:10] = False
    preds = {"gradcam": np.stack([right, half, none]), "random": np.stack([none, half, right])}
    images = np.random.default_rng(0).normal(size=targets.shape)
    return Predictions(images, targets, ["s1", "s2", "s3"], preds)


def test_scores_are_those_of_the_slices():
    scores = slice_scores(made_up())
    assert scores.gradcam.tolist() == pytest.approx([100, 200 / 3, 0])
    assert scores.random.tolist() == pytest.approx([0, 200 / 3, 100])


def test_the_best_stands_above_the_worst():
    titles = [ax.get_title().split("\n") for ax in plot_extremes(made_up()).axes]
    assert [title[1] for title in titles] == ["s1", "s3", "s3", "s1"]
    assert [title[2] for title in titles] == ["DSC 100.0", "DSC 100.0", "DSC 0.0", "DSC 0.0"]


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_a_published_study_is_one_small_file_without_a_request(folder, tmp_path):
    for path in (*folder.glob("*.csv"), *folder.glob("*.svg")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "reproduced.md").write_text("All numbers < 1 apart.\n\n| more |\n")
    page = write_report(tmp_path, folder.name, ["Data: <made up> & more"], made_up())
    text = page.read_text()
    assert page.stat().st_size < 3_000_000
    assert re.findall(r"(?:src|href)=\"(?!data:|\.\./)", text) == [] and "<script" not in text
    assert "Data: &lt;made up&gt; &amp; more" in text and "@media print" in text
    assert "<p>All numbers &lt; 1 apart.</p>" in text
    for row in pd.read_csv(folder / "table4.csv").itertuples():
        assert f"<td>{row.DSC:.2f}</td>" in text
    assert text.count("<img ") == len(list(folder.glob("figure?.svg"))) + 1
    assert ("Verdicts</h2>" in text) == (folder / "claims.csv").is_file()


def test_its_links_lead_somewhere(tmp_path):
    text = write_report(tmp_path, "a", []).read_text()
    links = re.findall(r'<a href="([^"]+)"', text)
    assert "../../docs/explorer.html" in links
    for link in set(links) - {"../../data/executed/"}:  # there after a run
        assert (FIGURES / "phantom-laptop" / link).resolve().is_file(), link


def test_a_single_training_has_no_columns_of_intervals(tmp_path):
    table = pd.DataFrame({"arm": ["gradcam", "none"], "DSC_paper": [86.6, None], "DSC": [85.0, 86.0]})
    table.assign(DSC_low=float("nan"), DSC_high=float("nan")).to_csv(tmp_path / "table3.csv", index=False)
    text = write_report(tmp_path, "a", []).read_text()
    assert "<th>95 % interval</th>" not in text and "<td>GradCam</td><td>86.60</td><td>85.00</td>" in text


def test_an_interval_says_at_what_level_it_is(tmp_path):
    row = {"claim": "C4", "says": "s", "measure": "m", "value": 0.8, "low": -8.7, "high": 10.2, "verdict": "stands"}
    pd.DataFrame([row | {"level": 0.9967}]).to_csv(tmp_path / "claims.csv", index=False)
    assert "<td>-8.70 to 10.20 (99.7%)</td>" in write_report(tmp_path, "a", []).read_text()


def test_nine_arms_stand_four_in_a_row():
    nine = made_up().preds["gradcam"]
    preds = {f"arm{i}": nine for i in range(9)}
    shown = made_up()
    axes = plot_extremes(Predictions(shown.images, shown.targets, shown.names, preds)).axes
    assert len(axes) == 24 and sum(bool(ax.get_title()) for ax in axes) == 18


def test_the_same_input_gives_the_same_bytes(tmp_path):
    pages = [write_report(tmp_path, "a", [], made_up(), name).read_bytes() for name in ("one", "two")]
    assert pages[0] == pages[1]


def test_numbers_for_people():
    assert rounded(float("nan")) == "–" and rounded(1.005, 1) == "1.0"
    assert interval(pd.Series({"a_low": 1.0, "a_high": 2.5}), "a") == "1.00 to 2.50"
    assert interval(pd.Series({"a_low": 1.0, "a_high": 1.0}), "a") == interval(pd.Series(dtype=float), "a") == ""
