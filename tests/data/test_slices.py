"""Resampling checked by hand; prepared slices that are broken are refused."""

import numpy as np
import pandas as pd
import pytest
from scans import SIDE, arrays

from ada_repro.core import DataError
from ada_repro.data.datasets import prepare
from ada_repro.data.slices import load_slices, read_table, sampling_matrix, save_table


@pytest.mark.parametrize("spacing_mm", [0.25, 0.4, 0.5, 0.7, 1.0])
def test_area_in_mm2_is_kept(spacing_mm, challenge, tmp_path):
    s = prepare("scgm", challenge, tmp_path / "s", spacing_mm, int(32 / spacing_mm))
    before = (arrays()[1][..., 1] == 1).sum() * 0.25
    after = s.targets.sum((2, 3)).numpy() * spacing_mm**2
    assert abs(after / before - 1).max() < 0.05


def test_same_grid_changes_nothing_and_the_front_is_up(challenge, tmp_path):
    s = prepare("scgm", challenge, tmp_path / "s", 0.5, SIDE)
    image, mask, _ = arrays(seed=0)
    a = np.rot90(image[..., 1])
    assert np.allclose(s.images[0, 0], (a - a.mean()) / a.std(), atol=1e-4)
    assert np.array_equal(s.targets[0, 0], np.rot90(mask[..., 1] == 1))


def test_beyond_the_scan_is_the_mean(challenge, tmp_path):
    s = prepare("scgm", challenge, tmp_path / "s", 0.5, SIDE + 20)
    assert (
        (s.images[:, :, :10] == 0).all()
        and (s.images[:, :, :, -10:] == 0).all()
        and (s.images[:, :, 10:-10, 10:-10] != 0).all()
    )


def test_a_line_stays_a_line():
    m = sampling_matrix(40, 19.5, 0.5, 0.2, 60)
    assert np.allclose(m @ (np.arange(40) * 0.5), 19.5 * 0.5 + (np.arange(60) - 29.5) * 0.2, atol=1e-5)
    stripes = np.arange(40) % 2.0
    assert np.abs(sampling_matrix(40, 19.5, 0.5, 2.0, 8) @ stripes - 0.5).max() < 0.01


def test_broken_slices_are_refused(challenge, tmp_path):
    with pytest.raises(DataError, match="prepare"):
        load_slices(tmp_path / "none")
    for name, spoiler in {
        "images.npy": lambda p: p.write_bytes(p.read_bytes()[:-9]),
        "slices.csv": lambda p: p.write_text("a,b\n1,2\n"),
        "targets.npy": lambda p: np.save(p, np.array([{}], dtype=object)),
        "report.json": None,
    }.items():
        prepare("scgm", challenge, tmp_path / "s", 0.5, 40)
        if not spoiler:
            continue
        spoiler(tmp_path / "s" / name)
        with pytest.raises(DataError, match="slices"):
            load_slices(tmp_path / "s")


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


@pytest.mark.parametrize("person", ["", "  ", None, np.nan])
def test_a_missing_person_is_a_fault(person, challenge, tmp_path):
    prepare("scgm", challenge, tmp_path / "s", 0.5, 40)
    table = read_table(tmp_path / "s" / "slices.csv")
    table.loc[3, "person"] = person
    save_table(table, tmp_path / "s" / "slices.csv")
    with pytest.raises(DataError, match="names no person in 1 of 80 rows"):
        load_slices(tmp_path / "s")


def test_people_called_like_numbers_and_nothing(challenge, tmp_path):
    prepare("scgm", challenge, tmp_path / "s", 0.5, 40)
    table = read_table(tmp_path / "s" / "slices.csv")
    names = dict(zip(table.person.unique(), ["001", "NA", "null", "1", "1.0", "nan"], strict=False))
    table["person"] = table["subject"] = table.person.map(lambda p: names.get(p, p))
    save_table(table, tmp_path / "s" / "slices.csv")
    again = load_slices(tmp_path / "s").table
    assert again.person.tolist() == table.person.tolist() == again.subject.tolist()
    assert again.person.nunique() == 40
