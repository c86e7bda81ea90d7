"What is published of runs."

import hashlib
import json
import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from ada_repro.core import ROOT, DataError
from ada_repro.method.unet import UNet
from ada_repro.train.training import cpu_weights, predict
from ada_repro.train.weights import WEIGHTS, load_weights, write_weights

ARMS = ("baseline", "vanilla", "input_x_gradient", "guided_backprop", "gradcam", "guided_gradcam", "none")


def write_study(folder, arms, width=4):
    "A finished study as far as the published weights ask for it: two epochs, one validation slice."
    report = {"dataset": "phantom", "simulated": True, "spacing_mm": 1.0, "crop_px": 40, "slices": 3}
    (folder / "slices").mkdir(parents=True)
    (folder / "slices" / "report.json").write_text(json.dumps(report))
    for n, arm in enumerate(arms):
        run, scores = (folder / kind / f"{arm}-paper-3" for kind in ("runs", "scores"))
        run.mkdir(parents=True)
        scores.mkdir(parents=True)
        torch.manual_seed(n)
        save_file(cpu_weights(UNet(width)), run / "best.safetensors")
        (run / "run.json").write_text(json.dumps({"code": "c0de", "data": "da7a"}))
        pd.DataFrame({"epoch": [1, 2, 3], "DSC": [10.0, 30.0 + n, 20.0]}).to_csv(run / "history.csv", index=False)
        rows = [("best", "original", 30.0 + n), ("best", "far", 1.0), ("last", "original", 2.0)]
        table = pd.DataFrame(rows, columns=["weights", "group", "DSC"]).assign(subject="s0")
        table.to_csv(scores / "scores.csv", index=False)
    return folder


@pytest.fixture
def written(tmp_path):
    study = write_study(tmp_path / "data", ["baseline", "gradcam"])
    write_weights(tmp_path / "weights", study, ["baseline", "gradcam"], "paper", 3, "tiny", 4, "c0ffee")
    return tmp_path


def test_weights_come_back_rounded_once(written):
    for arm in ("baseline", "gradcam"):
        run = load_file(written / "data" / "runs" / f"{arm}-paper-3" / "best.safetensors")
        model = load_weights(arm, written / "weights")
        assert not model.training and all(p.dtype == torch.float32 for p in model.parameters())
        for name, value in model.state_dict().items():
            expected = run[name].half().float() if run[name].is_floating_point() else run[name]
            assert torch.equal(value.cpu(), expected)


def test_the_card_says_what_the_files_are(written):
    card = json.loads((written / "weights" / "card.json").read_text())
    page = (written / "weights" / "README.md").read_text()
    assert card["arms"]["gradcam"]["epoch"] == 2 and card["arms"]["gradcam"]["DSC"] == 31
    assert card["fold"] == "paper" and card["seed"] == 3
    for arm, entry in card["arms"].items():
        content = (written / "weights" / f"{arm}.safetensors").read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"] and entry["sha256"] in page
    for word in ("simulated", "tiny", "seed 3", "c0ffee", "1 validation slices of 1 subjects", "31.00", "da7a"):
        assert word in page


def test_the_same_study_gives_the_same_bytes(written):
    write_weights(written / "again", written / "data", ["baseline", "gradcam"], "paper", 3, "tiny", 4, "c0ffee")
    files = sorted(path.name for path in (written / "weights").iterdir())
    assert files == sorted(path.name for path in (written / "again").iterdir())
    assert all((written / "weights" / name).read_bytes() == (written / "again" / name).read_bytes() for name in files)


def break_bit(folder):
    path = folder / "gradcam.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def swap_files(folder):
    (folder / "gradcam.safetensors").write_bytes((folder / "baseline.safetensors").read_bytes())


def remove_file(folder):
    (folder / "gradcam.safetensors").unlink()


def remove_card(folder):
    (folder / "card.json").unlink()


def spoil_card(folder):
    (folder / "card.json").write_text("<<<<<<< HEAD")


def change_card(**entries):
    "A fault: other values on the card, of the arm or of all."

    def fault(folder):
        card = json.loads((folder / "card.json").read_text())
        card["arms"]["gradcam"] |= {name: value for name, value in entries.items() if name != "width"}
        card |= {name: value for name, value in entries.items() if name == "width"}
        (folder / "card.json").write_text(json.dumps(card))

    return fault


def empty_entry(folder):
    card = json.loads((folder / "card.json").read_text())
    card["arms"]["gradcam"] = {}
    (folder / "card.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (break_bit, "gradcam.safetensors: is not the file its card describes"),
        (swap_files, "gradcam.safetensors: is not the file its card describes"),
        (remove_file, "gradcam.safetensors: is missing"),
        (remove_card, "card.json: is missing"),
        (spoil_card, "card.json: is not a card"),
        (empty_entry, "card.json: names no file of 'gradcam'"),
        (change_card(file=3), "card.json: names no file of 'gradcam'"),
        (change_card(sha256=None), "card.json: names no file of 'gradcam'"),
        (change_card(width="8"), "card.json: is not a card"),
        (change_card(width=5), "gradcam.safetensors: holds no network of width 5"),
    ],
)
def test_what_is_not_as_the_card_says_is_refused_in_one_line(written, fault, words):
    fault(written / "weights")
    with pytest.raises(DataError, match=words) as error:
        load_weights("gradcam", written / "weights")
    assert "\n" not in str(error.value) and "git checkout" in str(error.value)


def test_an_unknown_arm_is_told_the_known_ones(written):
    with pytest.raises(DataError, match="no weights of an arm 'grdcam'. Choose one of baseline, gradcam") as error:
        load_weights("grdcam", written / "weights")
    assert "\n" not in str(error.value)


def test_the_published_weights_are_those_of_the_paper_and_small():
    card = json.loads((WEIGHTS / "card.json").read_text())
    assert tuple(card["arms"]) == ARMS and card["dataset"] == "phantom" and card["profile"] == "laptop"
    assert (WEIGHTS / "README.md").read_text().count("`") % 2 == 0
    for arm in ARMS:
        assert (WEIGHTS / f"{arm}.safetensors").stat().st_size < 200_000
        assert predict(load_weights(arm), torch.zeros(1, 1, 80, 80)).shape == (1, 80, 80)
        assert card["arms"][arm]["DSC"] > 80


def test_they_are_found_from_any_folder(tmp_path):
    line = "from ada_repro.train.weights import load_weights; print(load_weights('none').training)"
    done = subprocess.run(
        [sys.executable, "-c", line],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "False\n", done.stderr


def test_weights_are_asked_for_as_people_do(tmp_path):
    assert isinstance(load_weights("gradcam", str(WEIGHTS)), UNet)
    for arm in (None, ["gradcam"]):
        with pytest.raises(DataError, match="holds no weights of an arm"):
            load_weights(arm)
    for card in ("[]", '{"arms": []}', '{"arms": {}}', "{"):
        (tmp_path / "card.json").write_text(card)
        with pytest.raises(DataError, match="is not a card that can be read"):
            load_weights("gradcam", str(tmp_path))
