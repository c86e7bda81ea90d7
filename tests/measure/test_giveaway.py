"Copies counted by hand, what each reading may change, and the study against its parts."

from itertools import product

import numpy as np
import pandas as pd
import papermill
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ada_repro.core import ROOT
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.measure import giveaway as module
from ada_repro.measure.giveaway import COLUMNS, giveaway, giveaway_arms, giveaway_example, own_copies
from ada_repro.measure.metrics import dice_score
from ada_repro.method.mask import PROTECT
from ada_repro.train.training import cpu_weights, predict
from ada_repro.train.weights import load_weights

METHODS = ["vanilla", "gradcam", "random"]


@pytest.fixture(scope="module")
def slices():
    images, targets = phantom_slices(12, px=80, spacing_mm=0.5, seed=7)
    table = pd.DataFrame(
        {
            "site": "1",
            "subject": [f"s{i // 3}" for i in range(12)],
            "slice": range(12),
            "spacing_mm": 0.5,
            "native_mm": 0.5,
            "slice_mm": 5.0,
            "split": ["train"] * 6 + ["val"] * 6,
        }
    )
    return Slices(images, targets, table.assign(person=table.subject))


@pytest.fixture(scope="module")
def model():
    return load_weights("baseline")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("giveaway") / "runs"
    for arm in ("baseline", "gradcam", "none"):
        (folder / f"{arm}-paper-2").mkdir(parents=True)
        save_file(cpu_weights(load_weights(arm)), folder / f"{arm}-paper-2" / "last.safetensors")
    return folder


class Brightness(nn.Module):
    "Whatever is bright is grey matter."

    def forward(self, x):
        return x - 0.5


def test_counted_by_hand(monkeypatch):
    """Four pixels of grey matter in a row, three other bright ones. The window holds two of the four and of the three,
    or the third alone where it must not touch the grey matter. Right and wrong: 4 and 3; 4 and 1; 4 and 2; 2 and 1."""
    image, target = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    target[..., 3, 1:5] = True
    image[target] = 1
    image[..., 2, 4] = image[..., 4, 5] = image[..., 7, 7] = 1
    one = Slices(image, target, pd.DataFrame({"subject": ["s"], "slice": [5]}))

    def windows(method, model, slices, size, generator, protect):
        return torch.tensor([[5, 5] if protect == "forbid" else [2, 3]]), torch.tensor([False])

    monkeypatch.setattr(module, "arm_windows", windows)
    scores = giveaway(Brightness(), one, ["any"], size=3, seed=0).set_index("protect")
    assert scores.DSC_original.tolist() == pytest.approx([100 * 8 / 11] * 3)
    assert scores.DSC_copy.to_dict() == pytest.approx({"keep": 800 / 9, "forbid": 800 / 10, "none": 400 / 7})
    assert scores.subject.tolist() == ["s"] * 3 and scores.slice.tolist() == [5] * 3


@pytest.mark.parametrize("method", METHODS)
def test_what_each_reading_may_change(model, slices, method):
    target = slices.consensus[:, None]
    copies = {protect: own_copies(model, slices, method, protect, size=10, seed=0) for protect in PROTECT}
    assert torch.equal(copies["keep"], torch.where(target, slices.images, copies["none"]))
    assert torch.equal(copies["forbid"][target], slices.images[target])
    for copy in copies.values():
        changed = copy != slices.images
        assert (copy[changed] == 0).all() and changed.flatten(1).sum(1).max() <= 100
    assert ((copies["forbid"] != slices.images).flatten(1).sum(1) == 100).all()


def test_random_windows_are_those_of_the_seed(model, slices):
    other = load_weights("none")
    a, b, c = (own_copies(m, slices, "random", "keep", 10, seed) for m, seed in ((model, 0), (other, 0), (model, 1)))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_scores_one_by_one(model, slices):
    before, random = cpu_weights(model), torch.get_rng_state()
    scores = giveaway(model, slices, METHODS, size=10, seed=0, threshold=0.6)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(weights, before[name]) for name, weights in model.state_dict().items())
    assert list(scores) == ["method", "protect", "subject", "person", "slice", "DSC_original", "DSC_copy"]
    each = dict.fromkeys(product(METHODS, PROTECT), 12)
    assert scores.groupby(["method", "protect"], sort=False).size().to_dict() == each
    for row in scores.itertuples():
        one = slices.images[row.slice : row.slice + 1]
        copy = own_copies(model, slices, row.method, row.protect, 10, 0)[row.slice : row.slice + 1]
        target = slices.consensus[row.slice]
        assert row.DSC_original == pytest.approx(dice_score(predict(model, one, 0.6)[0], target))
        assert row.DSC_copy == pytest.approx(dice_score(predict(model, copy, 0.6)[0], target))


def test_what_stays_hidden_is_not_found_better(model, slices):
    "To hide grey matter is worse than to keep it, slice by slice, and worse than no hole in the mean."
    scores = giveaway(model, slices, ["vanilla"], size=10, seed=0).set_index("protect")
    assert (scores.DSC_copy["keep"].to_numpy() > scores.DSC_copy["none"].to_numpy()).all()
    assert scores.DSC_copy["none"].mean() < scores.DSC_original.mean() - 10


def test_the_example_is_the_slice_of_median_gain(model, slices):
    example = giveaway_example(model, slices, "vanilla", size=10, seed=0)
    scores = giveaway(model, slices, ["vanilla"], size=10, seed=0)
    keep = scores[scores.protect == "keep"]
    gains = (keep.DSC_copy - keep.DSC_original).tolist()  # each of these windows meets grey matter
    i = gains.index(sorted(gains)[6])
    assert example["names"] == ["original", *PROTECT]
    assert np.array_equal(example["images"][0], slices.images[i, 0])
    assert np.array_equal(example["target"], slices.consensus[i])
    for name, image, pred in zip(example["names"], example["images"], example["preds"], strict=True):
        assert np.array_equal(pred, predict(model, torch.from_numpy(image)[None, None])[0])
        if name != "original":
            found = scores[(scores.protect == name) & (scores.slice == i)].DSC_copy.item()
            assert dice_score(pred, example["target"]) == pytest.approx(found)


def test_an_example_without_a_window_on_grey_matter(model, slices, monkeypatch):
    corner = torch.zeros(12, 2, dtype=torch.int64)
    monkeypatch.setattr(module, "arm_windows", lambda *_, **__: (corner, corner[:, 0] > 0))
    example = giveaway_example(model, slices, "vanilla", size=4, seed=0)
    assert np.array_equal(example["images"][1], example["images"][3])


def test_the_study_against_its_parts(runs, slices):
    table = giveaway_arms(
        runs, slices, "paper", 2, ["gradcam", "none"], ["vanilla"], 8, 10, 0.5, at_most=3, sign="absolute"
    )
    assert (
        list(table) == COLUMNS
        and table.fold.eq("paper").all()
        and table.seed.eq(2).all()
        and table[["DSC_original", "DSC_copy"]].notna().all(axis=None)
    )
    asked = table[["arm", "method"]].drop_duplicates().to_records(index=False).tolist()
    assert asked == [
        ("baseline", "vanilla"),
        ("baseline", "random"),
        ("gradcam", "gradcam"),
        ("gradcam", "random"),
        ("none", "vanilla"),
        ("none", "random"),
    ]
    assert table.groupby("split").slice.unique().map(list).to_dict() == {"train": [0, 2, 4], "val": [6, 8, 10]}
    assert len(table) == 6 * len(PROTECT) * 2 * 3
    part = table[(table.arm == "gradcam") & (table.method == "gradcam") & (table.split == "val")]
    some = Slices(slices.images[6::2], slices.targets[6::2], slices.table[6::2].reset_index(drop=True))
    alone = giveaway(load_weights("gradcam"), some, ["gradcam"], 10, 2)
    assert np.allclose(part.DSC_copy, alone.DSC_copy) and part.slice.tolist() == alone.slice.tolist()


def test_the_notebook(runs, slices, tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "data" / "slices").mkdir(parents=True)
    (tmp_path / "data" / "runs").symlink_to(runs)
    np.save(tmp_path / "data" / "slices" / "images.npy", slices.images)
    np.save(tmp_path / "data" / "slices" / "targets.npy", slices.targets)
    slices.table.to_csv(tmp_path / "data" / "slices" / "slices.csv", index=False)
    told = {
        "fold": "paper",
        "seed": 2,
        "arms": ["none"],
        "methods": ["vanilla"],
        "width": 8,
        "size": 10,
        "threshold": 0.5,
        "at_most": 4,
    }
    told |= {"flat": "random", "explain": "target", "sign": "absolute", "layer": "bottleneck.5"}
    notebook = ROOT / "nbs" / "experiments" / "giveaway.ipynb"
    papermill.execute_notebook(notebook, tmp_path / "giveaway.ipynb", told, cwd=tmp_path, progress_bar=False)
    made = tmp_path / "data" / "giveaway" / "giveaway-paper-2"
    table = pd.read_csv(made / "giveaway.csv")
    assert list(table) == COLUMNS and table.arm.unique().tolist() == ["baseline", "none"]
    example = np.load(made / "example.npz", allow_pickle=False)
    assert example["names"].tolist() == ["original", *PROTECT] and example["preds"].shape == (4, 80, 80)
