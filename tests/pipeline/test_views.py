"DVC's own views of a run, as its users call them: metrics, plots, experiments, on the smoke profile."

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML
from sharing import ENV, copy_of, python, run

from ada_repro.core import ROOT
from ada_repro.method.arms import arm_name

ARMS = ["vanilla", "input_x_gradient", "guided_backprop", "gradcam", "guided_gradcam", "baseline", "none", "random"]
TOLD = ["-S", "profile.study.arms=[gradcam,none]", "-S", "profile.ada.size=6"]


def git(folder, *words):
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, env=ENV, check=True, capture_output=True)


def dvc(folder, *words):
    "What DVC prints."
    code, output, errors = python(folder, "-m", "dvc", *words)
    assert code == 0, output[-3000:] + errors[-3000:]
    return output


def values(folder):
    "What params.yaml says, aliases resolved."
    return YAML(typ="safe").load((folder / "params.yaml").read_text())


@pytest.fixture(scope="module")
def committed(finished, tmp_path_factory):
    "The finished run, committed, with DVC told that there is git, as `make` does. Copy it before you change it."
    folder = copy_of(finished, tmp_path_factory.mktemp("views") / "ada_repro")
    dvc(folder, "config", "--local", "core.no_scm", "false")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "the run")
    return folder


def test_metrics_are_a_few_numbers_of_both_tables(committed):
    shown = json.loads(dvc(committed, "metrics", "show", "--json"))[""]["data"]["data/views/numbers.json"]["data"]
    assert list(shown) == ["table3", "table4"]
    for table, numbers in shown.items():
        assert set(numbers) == {"baseline", "none", "random", "methods"}
        rows = csv.DictReader((committed / "figures" / "phantom-smoke" / f"{table}.csv").open())
        whole = {row["arm"]: float(row["DSC"]) for row in rows}
        assert numbers["none"] == pytest.approx(whole["none"], abs=0.006)
        assert numbers["methods"] == pytest.approx(sum(whole[arm] for arm in ARMS[:5]) / 5, abs=0.006)


def test_plots_are_convergence_and_table_4(committed):
    assert "index.html" in dvc(committed, "plots", "show")
    page = (committed / "dvc_plots" / "index.html").read_text()
    drawn = [json.loads(found) for found in re.findall(r"var spec = (\{.*?\});\n", page)]
    assert [one["title"]["text"].split()[0] for one in drawn] == ["Validation", "DSC"]
    for one in drawn:
        assert {arm_name(arm) for arm in ARMS} <= {row["arm"] for row in one["data"]["values"]}
        assert "DVC_METRIC" not in json.dumps(one)
    shutil.rmtree(committed / "dvc_plots")


def test_a_number_is_tried_and_shown_beside_the_run(committed, tmp_path):
    folder = copy_of(committed, tmp_path / "ada_repro")
    before = values(folder)
    dvc(folder, "exp", "run", *TOLD)
    after = values(folder)
    assert after["profile"]["ada"] == {**before["profile"]["ada"], "size": 6}
    assert {name for name in before if before[name] != after[name]} == {"smoke", "profile"}

    changes = json.loads(dvc(folder, "metrics", "diff", "--json"))["data/views/numbers.json"]
    assert {"table4.none", "table4.baseline", "table4.methods"} <= set(changes)
    command = re.search(r"dvc (exp show .*)'(.+)'", (ROOT / "Makefile").read_text())
    table = dvc(folder, *command[1].split(), command[2], "--csv")
    heads, *rows = csv.reader(table.strip().splitlines())
    shown = set(heads) - {"Experiment", "rev", "typ", "Created", "parent", "State"}
    assert {"profile.ada.size", "profile.study.arms", "table4.none"} <= shown
    assert all(re.match(r"profile\.|table[34]\.", name) for name in shown) and len(shown) <= 10
    assert [row[heads.index("profile.ada.size")] for row in rows] == ["6", "5", "6"]


def test_a_profile_is_tried_by_name(committed, tmp_path):
    folder = copy_of(committed, tmp_path / "ada_repro")
    before = values(folder)
    assert "--profile laptop" in dvc(folder, "exp", "run", "-S", "profile=${laptop}", "check")
    after = values(folder)
    assert after["profile"] == before["laptop"]
    assert {name for name in before if before[name] != after[name]} == {"smoke", "profile"}


@pytest.mark.parametrize("told", ["profile.ada.size=6", "profile.study.arms=[none]", "profile=${smoke}"])
@pytest.mark.parametrize("profile", ["laptop", "smoke", "evidence", "schedule", "paper"])
def test_what_dvc_makes_of_the_parameters_can_be_read(tmp_path, profile, told):
    path = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    path.write_text(re.sub(r"(?m)^profile: \*\w+", f"profile: *{profile}", path.read_text()))
    apply_overrides(path, [told])  # its writer stumbles over an aliased list of mappings in a section
    assert values(tmp_path)["profile"]["ada"]["size"] > 0 and values(tmp_path)["variants"]


@pytest.mark.parametrize("dataset", ["scgm", "gm_challenge", "bids"])
def test_a_data_set_is_tried_by_name(committed, tmp_path, dataset):
    path = Path(shutil.copy(committed / "params.yaml", tmp_path))
    before = values(tmp_path)
    apply_overrides(path, [f"data=${{datasets.{dataset}}}"])
    assert values(tmp_path)["data"] == before["datasets"][dataset]


def test_without_git_it_still_runs(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "ada_repro")
    shutil.rmtree(folder / ".git")
    assert "up to date" in run(folder, "dvc", "repro")[1]
