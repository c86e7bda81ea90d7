"Runs: the folder that one leaves, which epochs it keeps, and who trains and validates in it."

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from ada_repro.core import STOP_AT, Run, TimeIsUp
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import load_slices, some_people
from ada_repro.method.arms import kept
from ada_repro.method.unet import UNet
from ada_repro.train import runs
from ada_repro.train.runs import first_record, fit, load_model, module_version, parent_state, run_key, run_record
from ada_repro.train.training import cpu_weights, new_state, predict, slice_dice, train

MODEL = {"width": 4, "dropout": 0.2, "bn_momentum": 0.4, "lr": 0.01, "seed": 0}
HOW = {"seed": 0, "standard_epochs": 3, "cycles": 1, "ada_epochs": 3, "size": 5, "batch_size": 8}
SITES = ["A", "B-2", "St. Mary's"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Prepared slices: three sites, two people each; one of them was scanned as two subjects; three slices a subject."
    images, targets = phantom_slices(27, px=40, spacing_mm=1.0, seed=0)
    people = [f"{site}{n}" for site, n in itertools.product(SITES, (0, 1, 1))]
    table = pd.DataFrame(
        {
            "site": np.repeat(SITES, 9),
            "subject": [f"s{i // 3}" for i in range(27)],
            "person": [people[i // 3] for i in range(27)],
            "slice": range(27),
            "spacing_mm": 1.0,
            "native_mm": 1.0,
            "slice_mm": 5.0,
            "split": ["val" if people[i // 3].endswith("1") else "train" for i in range(27)],
        }
    )
    folder = tmp_path_factory.mktemp("slices") / "slices"
    folder.mkdir()
    np.save(folder / "images.npy", images)
    np.save(folder / "targets.npy", targets)
    table.to_csv(folder / "slices.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    "The folder of a short run in which a site is held out."
    to = tmp_path_factory.mktemp("runs") / Run("gradcam", "B-2", 0).name
    fit(to, new_state(**MODEL), folder, arm="gradcam", **HOW)
    return to


def sides(folder, fold):
    slices = load_slices(folder, fold)
    return slices.subset("train"), slices.subset("val")


@pytest.mark.parametrize("fold", ["paper", *SITES])
def test_nobody_trains_and_validates(folder, fold):
    training, validation = sides(folder, fold)
    assert len(training) + len(validation) == 27 and len(training) and len(validation)
    assert not set(training.table.person) & set(validation.table.person)
    if fold != "paper":
        assert set(validation.table.site) == {fold} and fold not in set(training.table.site)


def test_two_sites_never_share_who_validates_and_together_judge_all(folder):
    people = {fold: set(sides(folder, fold)[1].table.person) for fold in SITES}
    for a, b in itertools.combinations(SITES, 2):
        assert not people[a] & people[b]
    assert set.union(*people.values()) == set(load_slices(folder).table.person)


@pytest.mark.parametrize("fold", ["paper", *SITES])
def test_the_epoch_is_chosen_on_people_who_train(folder, fold):
    training, validation = sides(folder, fold)
    choosing = some_people(training)
    people = list(dict.fromkeys(training.table.person))
    assert list(dict.fromkeys(choosing.table.person)) == people[::4]
    assert not set(choosing.table.person) & set(validation.table.person)
    for person in people[::4]:  # with all their slices
        assert (choosing.table.person == person).sum() == (training.table.person == person).sum()


def second_look(state, slices):
    "DSC after each epoch, and the weights, of a run that is watched from outside."
    model = UNet(4)
    dice, weights = [], []
    for epoch in state:
        weights.append(epoch)
        model.load_state_dict(epoch)
        values = [slice_dice(predict(model, x[None]), y[None]).item() for x, y in zip(*slices, strict=True)]
        dice.append(sum(values) / len(values))
    return dice, weights


def test_every_tenth_epoch_and_at_the_ends_the_context_is_removed(folder, tmp_path):
    how = HOW | {"standard_epochs": 8, "cycles": 2}
    history = fit(tmp_path / "none-B-2-0", new_state(**MODEL), folder, arm="none", **how).dropna(subset="DSC_context")
    assert history.epoch.tolist() == [8, 10, 11, 14]
    training, validation = sides(folder, "B-2")
    state, scored = new_state(**MODEL), {}
    for record in train(state, training, validation, arm="none", **how):
        target = validation.consensus
        alone = torch.where(target[:, None], validation.images, torch.zeros(()))
        scored[record["epoch"]] = slice_dice(predict(state.model, alone), target).mean().item()
    assert history.DSC_context.tolist() == pytest.approx([scored[epoch] for epoch in history.epoch])


def test_each_kept_epoch_is_the_best_by_a_second_look(folder, finished):
    training, validation = sides(folder, "B-2")
    state, epochs = new_state(**MODEL), []
    for _ in train(state, training, validation, arm="gradcam", **HOW):
        epochs.append(cpu_weights(state.model))
    history = pd.read_csv(finished / "history.csv")
    first = training.table.person.isin(training.table.person.unique()[::4]).to_numpy(copy=True)
    judged = {
        ("best", "DSC"): (validation.images, validation.consensus),
        ("chosen", "DSC_select"): (training.images[first], training.consensus[first]),
    }
    for (name, column), slices in judged.items():
        dice, weights = second_look(epochs, slices)
        assert history[column].tolist() == pytest.approx(dice, abs=1e-3)
        best, file = weights[int(np.argmax(dice))], load_file(finished / f"{name}.safetensors")
        assert all(torch.equal(best[key], value) for key, value in file.items()) and best.keys() == file.keys()
    last = load_file(finished / "last.safetensors")
    assert all(torch.equal(epochs[-1][key], value) for key, value in last.items())


def test_the_folder_says_which_run_it_is(finished):
    files = {"best.safetensors", "chosen.safetensors", "last.safetensors", "history.csv", "windows.csv"}
    assert {path.name for path in finished.iterdir()} == files | {"example.npz", "run.json"}
    for name, rows in (("history.csv", 6), ("windows.csv", 18)):
        table = pd.read_csv(finished / name)
        assert len(table) == rows
        assert set(zip(table.arm, table.fold, table.seed, strict=True)) == {("gradcam", "B-2", 0)}


def test_the_record_names_the_network_and_the_step():
    state = new_state(width=4, dropout=0.25, bn_momentum=0.4, seed=0, lr=0.03)
    told = {"width": 4, "dropout": 0.25, "bn_momentum": 0.4, "lr": 0.03}
    assert first_record(state, "", {})["network"] == told
    state.model = torch.nn.Conv2d(1, 1, 3)
    assert first_record(state, "", {})["network"] == {}


def test_the_example_shows_the_first_hole(folder, finished):
    "The hole in the picture is the window that the table says; grey matter in it is kept."
    training, _ = sides(folder, "B-2")
    example = np.load(finished / "example.npz", allow_pickle=False)
    (i,) = [i for i, image in enumerate(training.images) if np.array_equal(image[0], example["image"])]
    row = pd.read_csv(finished / "windows.csv").query(f"cycle == 1 and slice_index == {i}").iloc[0]
    expected = np.ones((40, 40), bool)
    expected[row.row : row.row + 5, row.col : row.col + 5] = False
    assert np.array_equal(example["mask"], expected | example["target"])
    corners = torch.tensor([[row.row, row.col]])
    assert np.array_equal(example["mask"], kept(corners, 5, training.consensus[i : i + 1])[0])


def test_the_fold_changes_who_trains_and_nothing_else(folder, tmp_path):
    how = HOW | {"standard_epochs": 1, "cycles": 0}
    for fold in ("A", "St. Mary's"):
        fit(tmp_path / Run("none", fold, 0).name, new_state(**MODEL), folder, arm="none", **how)
    a, b = (json.loads((tmp_path / f"none-{fold}-0" / "run.json").read_text()) for fold in ("A", "St. Mary's"))
    assert all(a[name] == b[name] for name in ("begin", "data", "code", "params", "versions"))
    losses = [pd.read_csv(tmp_path / f"none-{fold}-0" / "history.csv").loss[0] for fold in ("A", "St. Mary's")]
    assert losses[0] != losses[1]


def test_a_folder_that_names_no_run_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="'gradcam-0' names no run") as error:
        fit(tmp_path / "gradcam-0", new_state(**MODEL), folder, arm="gradcam", **HOW)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_an_arm_begins_where_the_baseline_ended(folder, tmp_path):
    how = HOW | {"standard_epochs": 2, "cycles": 0}
    parent = new_state(**MODEL)
    fit(tmp_path / "baseline-paper-0", parent, folder, keep_state=True, arm="none", **how)
    state = parent_state(new_state(**MODEL | {"seed": 5}), tmp_path / "baseline-paper-0")
    assert (state.epoch, state.history, state.best, state.chosen) == (2, [], {}, {})
    ended = cpu_weights(parent.model)
    assert all(torch.equal(value, ended[name]) for name, value in cpu_weights(state.model).items())


def test_a_run_is_read_as_it_was_written(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "best.safetensors"
    save_file(cpu_weights(UNet(4)), path)
    model, saved = load_model(path, 4), load_file(path)
    assert not model.training and all(torch.equal(v.cpu(), saved[k]) for k, v in model.state_dict().items())


def test_a_key_is_of_what_determines_a_run(monkeypatch):
    record = run_record({"seed": 0}, "-")
    assert run_key(record) == run_key(run_record({"seed": 0}, "-"))
    assert run_key(record) != run_key(run_record({"seed": 1}, "-"))
    monkeypatch.setattr(runs, "module_version", lambda name: "0")
    assert run_key(record) != run_key(run_record({"seed": 0}, "-"))


def test_a_record_names_what_is_imported():
    versions = run_record({}, "-")["versions"]
    assert versions["torch"] == torch.__version__ and versions["numpy"] == module_version("numpy") == np.__version__


def saved_epochs(monkeypatch, tmp_path, epoch_s, **how):
    "After which epochs a run keeps a checkpoint, each epoch taking so many seconds."
    saved, now = [], [0.0]

    def epochs(state, *_, **__):
        for _ in range(how["standard_epochs"] + how["cycles"] * how["ada_epochs"]):
            state.epoch += 1
            now[0] += epoch_s
            yield {"DSC": 0.0}

    monkeypatch.setattr(runs, "context_dice", lambda *_, **__: 0.0)
    monkeypatch.setattr(runs, "train", epochs)
    monkeypatch.setattr(runs, "save_checkpoint", lambda state, folder: saved.append(state.epoch))
    monkeypatch.setattr(runs.time, "monotonic", lambda: now[0])
    state = new_state(2, 0.1, 0.4, 0)
    runs.run_through(state, tmp_path, None, None, "run", how)
    return saved


def test_checkpoints_at_the_end_of_each_cycle_and_every_half_minute(monkeypatch, tmp_path):
    how = {"standard_epochs": 4, "cycles": 2, "ada_epochs": 3}
    assert saved_epochs(monkeypatch, tmp_path, 0.1, **how) == [4, 7, 10]
    assert saved_epochs(monkeypatch, tmp_path, 12, **how) == [3, 4, 7, 10]
    assert saved_epochs(monkeypatch, tmp_path, 31, **how) == list(range(1, 11))
    assert saved_epochs(monkeypatch, tmp_path, 0.1, standard_epochs=2, cycles=0, ada_epochs=0) == [2]


def test_when_the_time_is_up_a_run_stops_after_its_epoch_and_goes_on_to_the_same_bits(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "DATA", tmp_path)
    how, whole = HOW | {"arm": "gradcam"}, tmp_path / "whole" / "gradcam-B-2-0"
    fit(whole, new_state(**MODEL), folder, **how)
    part, stops = tmp_path / "part" / "gradcam-B-2-0", 0
    monkeypatch.setenv(STOP_AT, "0")
    for epoch in range(1, 6):
        with pytest.raises(TimeIsUp, match=f"after epoch {epoch}; run again to go on") as stopped:
            fit(part, new_state(**MODEL), folder, **how)
        assert "\n" not in str(stopped.value) and not part.exists()
        assert [path.name[:6] for path in sorted(tmp_path.rglob("*.pt"))][-1] == f"{epoch:06d}"
        stops += 1
    fit(part, new_state(**MODEL), folder, **how)  # of the last epoch there is nothing to stop
    assert stops == 5 and not list(tmp_path.rglob("*.pt"))
    for path in whole.iterdir():
        if path.name != "run.json":
            assert path.read_bytes() == (part / path.name).read_bytes(), path.name


def test_what_is_kept_while_a_run_goes_on_is_small():
    "At the end of the paper's schedule, at the laptop's width and number of slices, two checkpoints."
    state, n = new_state(8, 0.05, 0.4, 0), 400
    for weight in state.model.parameters():
        weight.grad = torch.ones_like(weight)
    state.optimizer.step()
    state.best, state.chosen = cpu_weights(state.model), cpu_weights(state.model)
    state.windows = [(torch.zeros(n, 2, dtype=torch.int64), torch.zeros(n, dtype=torch.bool)) for _ in range(31)]
    record = dict.fromkeys(("loss", "DSC", "DSC_a", "DSC_b", "DSC_select", "DSC_context"), 0.1)
    state.history = [
        {"epoch": epoch, "cycle": 1} | {name: value + epoch for name, value in record.items()} for epoch in range(930)
    ]
    assert 1e6 < 2 * len(runs.state_bytes(state)) < 16e6
