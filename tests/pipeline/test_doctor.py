"What `make doctor` says of a sound project, of broken ones, and where nothing is installed."

import json
import os
import shutil
import subprocess

import pytest
from sharing import ENV, copy_of, edit, python

from ada_repro.core import ROOT
from ada_repro.pipeline.doctor import basis, last_figures, whole_time
from ada_repro.pipeline.locks import held
from ada_repro.pipeline.params import read_params
from ada_repro.pipeline.progress import growth

LOOKS = ["System", "Versions", "Threads", "GPU", "Memory", "Disk", "Checkout", "At work", "Asked for", "Data"]


@pytest.fixture
def project(fresh, tmp_path):
    "A fresh clone with a commit, DVC told that there is git. Do things to it."
    folder = copy_of(fresh, tmp_path / "ada_repro")
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "x"], cwd=folder, check=True, env=ENV)
    (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = false\n")
    return folder


def asked(folder, *options):
    "Exit code, what each look says, and the problems."
    code, output, errors = python(folder, *options, "-m", "ada_repro.pipeline.doctor")
    assert "Traceback" not in output + errors, output + errors
    looks, _, problems = output.partition("Problems\n")
    says = {line[:10].strip(): line[11:] for line in looks.splitlines()}
    found = [line.removeprefix("- ") for line in problems.splitlines()]
    assert code == (found != ["none"])
    return says, found


def test_a_sound_project_has_no_problem(project):
    files = {path: path.read_bytes() for path in project.glob("*") if path.is_file()}
    says, problems = asked(project)
    assert problems == ["none"] and list(says) == [*LOOKS, "Would run"]
    assert "profile smoke on phantom, 7 runs" in says["Asked for"] and "phantom-smoke" in says["Asked for"]
    assert "without git" not in says["Checkout"] and says["At work"] == "nobody"
    assert says["Would run"].startswith("22 stages (check, ") and " about " in says["Would run"]
    assert files == {path: path.read_bytes() for path in project.glob("*") if path.is_file()}


def broken_params(folder):
    (folder / "params.yaml").write_text("profile: {name: [laptop\n")


def misspelt(folder):
    edit(folder, size=("ada: {<<: *paper_ada, cycles: 1", "ada: {<<: *paper_ada, cylces: 1"))


def word(folder):
    edit(folder, profile=("profile: *smoke", "profile: smoke"))


def own_data(folder):
    edit(folder, data=("data: *phantom", "data: *bids"))


def broken_graph(folder):
    (folder / "dvc.yaml").write_text("stages: [\n")


def cut_lock(folder):
    lock = folder / "dvc.lock"
    lock.write_text(lock.read_text()[:5000])


def cut_second_lock(folder):
    (folder / "evidence" / "dvc.lock").write_text("schema: '2.0'\nstages:\n")


def emptied(folder):
    edit(folder, repeat=("repeat: {seeds: [0]}", "repeat: {seeds: 0}"))


def no_lock_file(folder):
    (folder / "requirements.lock").unlink()


def without_scm(folder):
    (folder / ".dvc" / "config.local").unlink()


@pytest.mark.parametrize(
    "broken, words",
    [
        (broken_params, ["params.yaml cannot be read"]),
        (misspelt, ["no stage knows cylces", "Did you mean cycles?"]),
        (word, ["params.yaml: profile", "profile: *smoke"]),
        (own_data, ["data/raw/bids is not there", "README.md"]),
        (broken_graph, ["dvc.yaml"]),
        (cut_lock, ["dvc.lock was cut off", "make repro"]),
        (cut_second_lock, ["evidence/dvc.lock was cut off", "make repro"]),
        (emptied, ["params.yaml: profile.repeat.seeds must be a list", "seeds: [0]"]),
        (no_lock_file, ["requirements.lock"]),
        (without_scm, ["dvc config --local core.no_scm false"]),
    ],
)
def test_a_broken_project_has_its_line(project, broken, words):
    broken(project)
    says, problems = asked(project)
    assert set(LOOKS) <= set(says)
    assert any(all(word in problem for word in words) for problem in problems), problems


def test_a_download_without_git(project):
    shutil.rmtree(project / ".git")
    (project / ".dvc" / "config.local").unlink()
    says, problems = asked(project)
    assert problems == ["none"] and "without git" in says["Checkout"]


def test_before_anything_is_installed(project):
    says, problems = asked(project, "-S")
    assert list(says) == LOOKS and says["GPU"] == "cannot be told without torch"
    assert len(problems) == 1 and "not installed" in problems[0] and "make repro" in problems[0]


def test_who_is_at_work_is_named(project):
    with held(project / "data" / "locks" / "ada-gradcam-paper-0.lock"):
        assert f"process {os.getpid()}" in asked(project)[0]["At work"]


def test_elsewhere(tmp_path):
    code, output, _ = python(tmp_path, "-m", "ada_repro.pipeline.doctor")
    assert code == 1 and "has no dvc.yaml" in output


# For how long
def test_it_is_said_whose_times_the_guess_rests_on(tmp_path):
    assert "docs/benchmarks.md" in basis(tmp_path, "phantom-smoke")
    (tmp_path / "data" / "executed").mkdir(parents=True)
    (tmp_path / "data" / "executed" / "iou.json").write_text(json.dumps({"seconds": 40.0}))
    (tmp_path / "dvc.lock").write_text("stages: {figures: {cmd: x --name phantom-smoke --dataset phantom}}\n")
    assert basis(tmp_path, "phantom-smoke") == "as in the last run"
    assert basis(tmp_path, "phantom-smok").endswith("another study")
    (tmp_path / "dvc.lock").unlink()
    assert basis(tmp_path, "phantom-smoke").endswith("another study")


@pytest.mark.parametrize("jobs, words", [(1, "about 2 min"), (2, "about 80 s")])
def test_the_whole_takes_as_long_as_its_longest_chain(tmp_path, jobs, words):
    (tmp_path / "data" / "executed").mkdir(parents=True)
    (tmp_path / "data" / "executed" / "iou.json").write_text(json.dumps({"seconds": 40.0}))
    assert whole_time({"iou": set(), "iou@b": {"iou"}, "iou@c": set()}, tmp_path, jobs, {}) == words
    assert whole_time({"figures": set()}, tmp_path, jobs, {}) == "about 40 s"  # as long as what is known
    assert "without figures, of which nothing is known" in whole_time({"figures": set()}, tmp_path / "new", jobs, {})


def test_a_longer_schedule_takes_longer(tmp_path):
    params = read_params(ROOT / "params.yaml")
    factors = growth(params | {"profile": params["schedule"]}, "laptop")
    assert factors == {"baseline": 100 / 40, "ada": 31 * 30 / 9, "retrain": 31 * 30 / 9}
    assert growth(params | {"profile": params["paper"]}, "laptop")["baseline"] == 100 / 40 * 8 * 2.5**2
    assert set(growth(params | {"profile": params["schedule"]}, "schedule").values()) == {1}
    assert growth(params, "of somebody else") == {}
    (tmp_path / "data" / "executed").mkdir(parents=True)
    (tmp_path / "data" / "executed" / "ada-none-paper-0.json").write_text('{"seconds": 10.0}')
    assert last_figures(tmp_path) == ""
    (tmp_path / "dvc.lock").write_text("stages: {figures: {cmd: x --profile schedule}}")
    assert last_figures(tmp_path) == "x --profile schedule"
    assert whole_time({"ada@none": set()}, tmp_path, 1, {"ada": 12.0}) == "about 2 min"
