"Did it reproduce: every verdict, both ways; the sentence; and that publishing copies a study."

import numpy as np
import pandas as pd
import pytest

from ada_repro.core import named_rng
from ada_repro.evidence.reproduced import (
    IDENTICAL,
    OUTSIDE,
    UNKNOWN,
    WITHIN,
    by_seed,
    publish,
    published_folder,
    reproduced,
    reproduced_line,
    seed_values,
    write_reproduced,
    write_seeds,
)
from ada_repro.evidence.scores import made_up_scores, per_slice

ARMS = ["gradcam", "none", "random"]


def study(*name, seeds=5, arms=ARMS, folds=(None,)):
    "A DSC for every training."
    rng, rows = named_rng("study", *name), []
    for arm in arms:
        for seed in range(seeds):
            for fold in folds:
                for table in (3, 4):
                    rows.append({"arm": arm, "seed": seed, "fold": fold, "table": table, "slices": rng.integers(5, 9)})
    values = pd.DataFrame(rows).assign(DSC=lambda t: rng.normal(85, 1, len(t)))
    return values if folds != (None,) else values.drop(columns="fold")


def test_values_of_seeds_are_means_over_slices_of_the_best_epoch():
    scores = made_up_scores(ARMS, (0, 1))
    values = seed_values(scores)
    assert len(values) == 2 * len(ARMS) * 2 and not values.duplicated(["arm", "seed", "table"]).any()
    for row in values.itertuples():
        rows = per_slice(scores, ["original"]) if row.table == 3 else per_slice(scores)
        mine = rows[(rows.arm == row.arm) & (rows.seed == row.seed) & (rows.weights == "best")]
        assert mine.DSC.mean() == pytest.approx(row.DSC, rel=1e-14) and row.slices == len(mine)


def test_folds_are_put_together_by_their_slices():
    values = study("folds", folds=["site1", "site2"])
    found = by_seed(values)
    for (arm, table), row in found.iterrows():
        for seed, value in row.items():
            part = values[(values.arm == arm) & (values.table == table) & (values.seed == seed)]
            assert value == pytest.approx(np.average(part.DSC, weights=part.slices))


def test_the_range_is_that_of_one_more_training():
    published = study("range")
    table = reproduced(published[published.seed == 0].assign(seed=7), published).set_index(["arm", "table"])
    for (arm, number), row in table.iterrows():
        values = published.DSC[(published.arm == arm) & (published.table == number)]
        half = 2.7764451 * values.std() * (1 + 1 / 5) ** 0.5
        assert (row.published, row.published_low, row.published_high) == pytest.approx(
            (values.mean(), values.mean() - half, values.mean() + half)
        )
        assert row.verdict == (WITHIN if abs(row.gap) <= half else OUTSIDE) and row.seeds == 1


def test_trainings_of_the_same_kind_reproduce_and_others_do_not():
    verdicts = []
    for number in range(60):
        both = study("again", number, seeds=6)
        verdicts += reproduced(both[both.seed == 5], both[both.seed < 5]).verdict.tolist()
    assert 0.02 < np.mean([verdict == OUTSIDE for verdict in verdicts]) < 0.09
    published = study("other")
    for shift in (-9, 9):
        worse = published[published.seed == 0].assign(seed=5, DSC=lambda t, shift=shift: t.DSC + shift)
        table = reproduced(worse, published)
        assert (table.verdict == OUTSIDE).all()
        line = reproduced_line(table)
        assert line.startswith("Reproduced: 0 of 3 arms") and "GradCam in Table 3" in line and "versions" in line
        assert ("DSC below" in line) == (shift < 0) and ("DSC above" in line) == (shift > 0)


def test_the_same_digits_are_identical_and_one_other_digit_is_not():
    published = study("digits")
    mine = published[published.seed == 2]
    assert reproduced_line(reproduced(mine, published)) == "Identical to the last digit: 3 of 3 arms."
    moved = mine.copy()
    moved.iloc[0, moved.columns.get_loc("DSC")] = np.nextafter(moved.DSC.iloc[0], 100)
    table = reproduced(moved, published)
    assert (table.verdict == IDENTICAL).sum() == len(table) - 1
    line = reproduced_line(table.assign(verdict=table.verdict.replace(OUTSIDE, WITHIN)))
    assert line.startswith("Reproduced: 3 of 3 arms within the range in which one more training is expected; largest")


def test_one_published_seed_tells_identical_or_nothing():
    published = study("one", seeds=1)
    assert (reproduced(published, published).verdict == IDENTICAL).all()
    other = reproduced(published.assign(DSC=published.DSC + 1), published)
    assert (other.verdict == UNKNOWN).all() and "nothing to compare" in reproduced_line(other)
    assert "nothing to compare" in reproduced_line(reproduced(published, None))


def test_an_arm_of_ones_own_is_not_compared():
    published = study("own")
    mine = pd.concat([published[published.seed == 0], study("mine", seeds=1, arms=["my_method"])])
    table = reproduced(mine, published).set_index(["arm", "table"])
    assert (table.verdict["my_method"] == UNKNOWN).all() and (table.verdict["gradcam"] == IDENTICAL).all()
    assert reproduced_line(table.reset_index()) == "Identical to the last digit: 3 of 3 arms."


def test_several_seeds_are_compared_by_their_mean():
    both = study("several", seeds=9)
    table = reproduced(both[both.seed > 5], both[both.seed <= 5]).set_index(["arm", "table"])
    values = both.DSC[(both.arm == "none") & (both.table == 4)].to_numpy()
    half = 2.5705818 * values[:6].std(ddof=1) * (1 / 3 + 1 / 6) ** 0.5
    row = table.loc[("none", 4)]
    assert row.published_high - row.published == pytest.approx(half) and row.mine == pytest.approx(values[6:].mean())
    assert "the mean of 3 more trainings is expected" in reproduced_line(table.reset_index().assign(verdict=WITHIN))


@pytest.fixture
def figures(tmp_path):
    "A run of the evidence profile that was published."
    run = tmp_path / "phantom-evidence"
    run.mkdir()
    write_seeds(study("published"), run, ["Data: made up.", "Machine: there."])
    (run / "table3.md").write_text("A table.\n")
    (run / "reproduced.md").write_text("Of the run, not of the study.\n")
    publish("phantom-evidence", tmp_path)
    return tmp_path


def test_publishing_copies_a_study_and_replaces_the_one_before(figures):
    to = figures / "published" / "phantom-evidence"
    assert sorted(path.name for path in to.iterdir()) == ["seeds.csv", "seeds.txt", "table3.md"]
    (figures / "phantom-evidence" / "table3.md").unlink()
    publish("phantom-evidence", figures)
    assert sorted(path.name for path in to.iterdir()) == ["seeds.csv", "seeds.txt"]


def test_a_laptop_run_is_held_against_the_seeds_of_the_evidence_profile(figures):
    published = figures / "published"
    assert published_folder("phantom", "laptop", published) == published_folder("phantom", "evidence", published)
    assert published_folder("phantom", "smoke", published) is None
    assert published_folder("scgm", "laptop", published) is None


def test_every_digit_survives_the_file(figures):
    values, out = study("published"), figures / "mine"
    out.mkdir()
    for seed in (0, 3):
        mine = values[values.seed == seed]
        write_reproduced(mine, "phantom", "laptop", out, ["Machine: here."], figures / "published")
        page = (out / "reproduced.md").read_text()
        assert page.startswith("Identical to the last digit: 3 of 3 arms.\n")
        assert "Machine: here." in page and "Machine: there." in page and "_" not in page
    table = pd.read_csv(out / "reproduced.csv")
    assert len(table) == 6 and (table.verdict == IDENTICAL).all()
    write_reproduced(values, "phantom", "smoke", out, ["Machine: here."], figures / "published")
    page = (out / "reproduced.md").read_text()
    assert page.startswith("Nothing is published for this profile") and "nan" not in page
