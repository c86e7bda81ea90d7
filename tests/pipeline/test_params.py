"Values from params.yaml to a notebook: any notation of a number, plain names, known parameters, choices and ranges."

import re
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from dvc.repo import Repo
from sharing import ENV

from ada_repro.core import ROOT
from ada_repro.measure.stress import STRESS
from ada_repro.pipeline import warm
from ada_repro.pipeline.params import (
    HOLES_MM,
    RUNNER,
    asked_by,
    asked_of,
    check_complete,
    check_evidence,
    check_shape,
    check_spelling,
    parse_words,
    read_params,
    read_project,
    stage_parameters,
    typed,
)
from ada_repro.train.choices import CHOICES, NUMBERS, check_params

SMALL = ["1e-05", "1e-5", "1E-05", "0.00001", ".00001", "1.0e-5", "+1e-5", "10e-6", "1.e-5", "1e-0005"]
LARGE = {".5": 0.5, "5.": 5, "1E3": 1000, "1e+3": 1000, "1_000": 1000, "+5": 5, "-.5": -0.5, "1_0.5": 10.5}
KNOWN = stage_parameters(ROOT / "nbs" / "experiments")
ASKED = asked_of(ROOT)


# Notations
@pytest.mark.parametrize("word", SMALL)
def test_a_number_in_any_notation(word, tmp_path):
    assert typed("lr", [word], "float") == 1e-5
    (tmp_path / "params.yaml").write_text(f"lr: {word}\n")
    assert read_params(tmp_path / "params.yaml") == {"lr": 1e-5}


def test_what_dvc_writes_is_read_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*SMALL, *LARGE, "1e22", "0.1", "-2"]
    (tmp_path / "params.yaml").write_text("values: [" + ", ".join(words) + "]\n")
    (tmp_path / "dvc.yaml").write_text("stages:\n  a:\n    foreach: ${values}\n    do:\n      cmd: echo ${item}\n")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], env=ENV, check=True)
    with Repo() as repo:
        words = [stage.cmd.split()[1] for stage in repo.index.stages]
    values = {typed("x", [word], "float") for word in words}
    assert values == {float(v) for v in read_params(tmp_path / "params.yaml")["values"]}
    assert values == {1e-5, 1e22, 0.1, -2, *LARGE.values()}


@pytest.mark.parametrize(
    "words, kind, value",
    [
        (["001"], "str", "001"),
        (["1e5"], "str", "1e5"),
        (["none"], "str", "none"),
        (["yes"], "str", "yes"),
        (["5"], "float", 5.0),
        (["0", "1"], "list", [0, 1]),
        (["gradcam"], "list", ["gradcam"]),
        (["none", "no", "null"], "list", ["none", "no", "null"]),
        (["-3"], "int", -3),
        (["001", "1e5", "2"], "list[str]", ["001", "1e5", "2"]),
    ],
)
def test_words_become_values(words, kind, value):
    assert typed("x", words, kind) == value and type(typed("x", words, kind)) is type(value)


@pytest.mark.parametrize(
    "words, kind",
    [(["forty"], "int"), (["0.5"], "int"), (["1e3"], "int"), (["true"], "int"), (["x"], "float"), (["nan"], "float")]
    + [(["inf"], "float"), (["1", "2"], "int"), (["a", "b"], "str"), ([], "str"), ([], "int")],
)
def test_what_is_of_another_type_is_refused(words, kind):
    with pytest.raises(ValueError, match=f"Parameter x must be of type {kind}, not '{' '.join(words)}'"):
        typed("x", words, kind)


def test_words_after_names():
    assert parse_words(["--a", "1", "--b", "--c", "x", "y"]) == {"a": ["1"], "b": [], "c": ["x", "y"]}


@pytest.mark.parametrize("words", [["foo"], ["foo", "--a", "1"], ["-a", "1"], [""]])
def test_a_word_before_the_first_name(words):
    with pytest.raises(ValueError, match=f"^{words[0]!r} belongs to no parameter. Write --name {words[0]}; "):
        parse_words(words)


@pytest.mark.parametrize(
    "text", ["a: [", "just text", "a: !!python/name:os.system", "a: 1\na: 2", "a: 'x y'", "\udcff"]
)
def test_a_file_that_cannot_be_read_is_one_line(text, tmp_path):
    (tmp_path / "params.yaml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match="^params.yaml") as e:
        read_params(tmp_path / "params.yaml")
    assert "\n" not in str(e.value)


# Choices and ranges
def params_of(profile):
    params = read_params(ROOT / "params.yaml")
    return params | {"profile": params[profile]}


def sections(params):
    return [*(s for s in params["profile"].values() if isinstance(s, dict)), *params["variants"]]


@pytest.mark.parametrize("profile", ["paper", "laptop", "smoke", "evidence", "schedule"])
def test_each_profile_is_accepted(profile):
    params = params_of(profile)
    check_params(params)
    check_spelling(params, KNOWN)


def test_the_schedule_is_the_papers_at_the_laptops_size():
    paper, laptop, schedule = (params_of(name)["profile"] for name in ("paper", "laptop", "schedule"))
    assert schedule["ada"] == paper["ada"] | {"size": laptop["ada"]["size"]}
    assert schedule["train"] == paper["train"] | {"batch_size": laptop["train"]["batch_size"]}
    assert schedule["optimizer"] == paper["optimizer"]
    for section in ("model", "prepare", "augment", "robustness", "machine"):
        assert schedule[section] == laptop[section]
    last = schedule["train"]["standard_epochs"] + schedule["ada"]["cycles"] * schedule["ada"]["ada_epochs"]
    assert last == 1030 and len(schedule["study"]["arms"]) == 12


def test_every_number_has_a_range_and_every_word_its_choices():
    names = {}
    for section in sections(params_of("paper")):
        names |= section
    numbers = {name for name, value in names.items() if isinstance(value, (int, float))}
    words = {name for name, value in names.items() if isinstance(value, str)}
    assert numbers - set(NUMBERS) == set()
    assert words - set(CHOICES) == {"arm"}


def spoilt(section, **wrong):
    params = deepcopy(params_of("smoke"))
    target = params["profile"].setdefault(section, {}) if section != "variants" else params["variants"][0]
    target |= wrong
    return params


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["abs", "", 1])
def test_a_wrong_word_is_refused(name, value):
    for section in ("ada", "variants"):
        with pytest.raises(ValueError, match=rf"^params.yaml: .*{name} must be one of .*not {re.escape(repr(value))}$"):
            check_params(spoilt(section, **{name: value}))


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_range_is_refused(name):
    low, high, whole, ends = NUMBERS[name]
    wrong = ["forty", True, float("nan"), float("inf"), low - 1, high + 1, [1]]
    wrong += [low] * (ends[0] == "(") + [high] * (ends[1] == ")") + [low + 0.5] * whole
    for value in wrong:
        with pytest.raises(ValueError, match=rf"^params.yaml: any\.{name} "):
            check_params(spoilt("any", **{name: value}))
    if ends[0] == "[":
        check_params(spoilt("any", **{name: low}))


@pytest.mark.parametrize(
    "section, wrong, words",
    [
        ("repeat", {"seeds": [0, -1]}, "seeds"),
        ("repeat", {"seeds": ["a"]}, "seeds"),
        ("look", {"methods": ["gradcam", "grdcam"]}, "'grdcam'"),
        ("study", {"arms": ["none", "grdcam"]}, "'grdcam'"),
        ("ada", {"size": 41}, "size"),
        ("prepare", {"crop_px": 44}, "multiple of 8"),
        ("repeat", {"seeds": [0, 0]}, "nothing twice"),
        ("repeat", {"seeds": []}, "at least one"),
        ("repeat", {"seeds": 0}, "must be a list"),
        ("study", {"arms": []}, "at least one"),
        ("study", {"arms": "none"}, "must be a list"),
        ("study", {"arms": ["none", None]}, "must name arms, not None"),
        ("study", {"arms": ["none", "random", "none"]}, "nothing twice"),
        ("look", {"methods": "gradcam"}, "must be a list"),
    ],
)
def test_lists_and_what_must_fit_together(section, wrong, words):
    with pytest.raises(ValueError, match=words):
        check_params(spoilt(section, **wrong))


# The data set
def own(folds=("paper",), **bids):
    "Parameters of a data set of one's own."
    params = deepcopy(params_of("smoke"))
    params["bids"] |= bids
    return params | {"data": {"dataset": "bids", "repeat": {"folds": list(folds)}}}


@pytest.mark.parametrize("folds", [["paper"], ["001", "NA"], [1, 2], ["Mount_Sinai"]])
def test_folds_that_may_be_sites(folds):
    check_params(own(folds))


@pytest.mark.parametrize("folds", [[], [None], [1.5], [True], ["paper", "paper"], [1, "1"], [["paper"]]])
def test_folds_that_name_nothing(folds):
    with pytest.raises(ValueError, match="^params.yaml: datasets.folds must"):
        check_params(own(folds))


@pytest.mark.parametrize(
    "wrong",
    [{"orientation": "gird"}, {"image_suffix": 1}, {"label_suffix": "a/b"}, {"cord_suffix": None}, {"val_share": 1.1}]
    + [{"area_mm2": "all"}, {"area_mm2": [50, 2]}, {"width_to_depth": -1}, {"outside_cord": 2}, {"off_centre": 0.6}]
    + [{"contrast": "bright"}, {"val_share": "half"}, {"off_centre": True}],
)
def test_each_word_of_a_data_set_is_checked_by_the_first_stage(wrong):
    with pytest.raises(ValueError, match=rf"^params.yaml: bids\.{next(iter(wrong))} ") as e:
        check_params(own(**wrong))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("right", [{"area_mm2": "none"}, {"area_mm2": ["none"]}, {"val_share": 1}, {"contrast": "any"}])
def test_words_of_a_data_set_as_people_write_them(right):
    check_params(own(**right))


def test_a_misspelt_word_of_a_data_set():
    with pytest.raises(ValueError, match="no stage knows val_shar, which stands in bids. Did you mean val_share"):
        check_spelling(own(val_shar=1), KNOWN)
    with pytest.raises(ValueError, match="a name in bids must be one of"):
        check_params(own(width=8))


def test_what_the_sites_are_called_is_kept(tmp_path):
    "A number without quotes is the number to YAML; its digits then name the site."
    (tmp_path / "params.yaml").write_text("folds: [1, '001', 1e5, NA, '1e5', no]\n")
    folds = read_params(tmp_path / "params.yaml")["folds"]
    assert typed("folds", list(map(str, folds)), "list[str]") == ["1", "001", "100000.0", "NA", "1e5", "no"]
    with pytest.raises(ValueError, match="must name paper or sites, not 100000.0; write a name in quotes"):
        check_params(own(folds))


@pytest.mark.parametrize(
    "text, words",
    [("profile: smoke", "Write profile: *smoke"), ("data: bids", "Write data: *bids"), ("variants: null", "variants")]
    + [("variants: [{protect: forbid}]", "variants"), ("variants: {arm: gradcam}", "variants")]
    + [("profile:", "profile must point"), ("profile: 3", "profile must point"), ("data: [a]", "data must point")]
    + [("a: {lr: 0,005}", "5 stands where a name should"), ("a: {null: 1}", "None stands where a name should")],
)
def test_what_does_not_point_to_a_section(text, words, tmp_path):
    (tmp_path / "params.yaml").write_text(text + "\n")
    with pytest.raises(ValueError, match=re.escape(words)) as e:
        read_params(tmp_path / "params.yaml")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "section, name, meant", [("prepare", "crop_pixels", "crop_px"), ("ada", "protec", "protect"), ("ada", "zzz", None)]
)
def test_a_misspelt_name_is_named(section, name, meant):
    with pytest.raises(
        ValueError, match=f"{name}, which stands in {section}. {f'Did you mean {meant}' if meant else 'Corr'}"
    ):
        check_spelling(spoilt(section, **{name: 1}), KNOWN)


def test_what_a_profile_lacks_is_said_before_anything_runs():
    check_complete(params_of("smoke"))
    for section in ("optimizer", "ada", "name"):
        for wrong in (None, 5, []):
            lacking = deepcopy(params_of("smoke"))
            lacking["profile"][section] = wrong
            with pytest.raises(ValueError, match=f"the profile's {section} is missing, or not what"):
                check_complete(lacking)
    lacking = deepcopy(params_of("smoke"))
    del lacking["profile"]["optimizer"]["lr"]
    with pytest.raises(ValueError, match="optimizer has no lr"):
        check_complete(lacking)


# The shape
@pytest.mark.parametrize("profile", ["paper", "laptop", "smoke", "evidence", "schedule"])
@pytest.mark.parametrize("data", ["phantom", "scgm", "gm_challenge", "bids"])
def test_each_profile_on_each_data_set_has_the_shape(profile, data):
    params = params_of(profile)
    check_shape(params | {"data": params["datasets"][data]}, ASKED, KNOWN)


def test_the_graphs_say_what_is_asked():
    assert read_project(ROOT)["profile"]["name"] == "laptop"
    assert {ASKED[name] for name in ("profile.machine", "bids", "data.repeat", "profile.again.variants.*")} == {
        "section"
    }
    assert {ASKED[name] for name in ("data.repeat.folds", "profile.repeat.seeds", "profile.again.variants")} == {"list"}
    assert ASKED["profile.name"] == ASKED["profile.again.variants.*.arm"] == "value"


def test_a_profile_of_ones_own_may_say_more_and_the_file_too():
    params = deepcopy(params_of("smoke"))
    params["profile"] |= {"note": "own", "mine": {"a": [1]}}
    del params["profile"]["machine"]["exact"]
    params["profile"]["again"]["variants"] = []
    params |= {"own": None, "variants": []}
    params["bids"] |= {"area_mm2": "none"}
    check_shape(params, ASKED, KNOWN)


MISTAKES = [
    (["profile", "repeat", "seeds"], 0, "profile.repeat.seeds must be a list, not 0. Write seeds: [0]"),
    (["profile", "repeat", "seeds"], [[0]], "profile.repeat.seeds[0] must be one word or number, not [0]"),
    (["profile", "repeat", "seeds"], None, "profile.repeat.seeds must be a list, empty. Write seeds: [...]"),
    (["profile", "repeat"], [0], "profile.repeat must be a section, not [0]"),
    (["data", "repeat", "folds"], "paper", "data.repeat.folds must be a list, not 'paper'. Write folds: [paper]"),
    (["profile", "study", "arms"], "none", "profile.study.arms must be a list, not 'none'. Write arms: [none]"),
    (["profile", "again", "variants"], "none", "profile.again.variants must be a list, not 'none'"),
    (["profile", "again", "variants"], ["gradcam.forbid"], "profile.again.variants[0] must be a section, not"),
    (["profile", "again", "variants"], [{"protect": "forbid"}], "profile.again.variants[0] has no arm"),
    (["profile", "machine", "threads"], "two", "profile.machine.threads must be a number (int), not 'two'"),
    (["profile", "machine", "threads"], True, "profile.machine.threads must be a number (int), not True"),
    (["profile", "machine"], [1], "profile.machine must be a section, not [1]. Write machine: {name: value}"),
    (["profile", "machine"], None, "profile.machine must be a section, empty"),
    (["profile", "look", "methods"], 5, "profile.look.methods must be a list, not 5"),
    (["profile", "model", "width"], None, "profile.model.width must be one word or number, empty"),
    (["profile", "ada", "fill"], {"a": 1}, "profile.ada.fill must be one word or number"),
    (["profile"], {"dataset": "phantom", "repeat": {"folds": ["paper"]}}, "profile has no ada. Write profile: *laptop"),
    (["data"], {"name": "laptop"}, "data has no dataset. Write data: *phantom"),
    (["bids"], None, "bids must be a section, empty"),
    (["bids"], "own", "bids must be a section, not 'own'"),
    (["bids", "cord_suffix"], None, "bids.cord_suffix must be one word or number, empty"),
]


@pytest.mark.parametrize("place, wrong, words", MISTAKES)
def test_what_has_another_shape_is_one_line(place, wrong, words):
    params = deepcopy(params_of("smoke"))
    at = params
    for name in place[:-1]:
        at = at[name]
    at[place[-1]] = wrong
    with pytest.raises(ValueError, match="^params.yaml: " + re.escape(words)) as e:
        check_shape(params, ASKED, KNOWN)
    assert "\n" not in str(e.value)


def test_a_file_without_a_section_is_one_line():
    params = params_of("smoke")
    del params["bids"]
    with pytest.raises(ValueError, match="^params.yaml: the file has no bids. Take the file from the repository again"):
        check_shape(params, ASKED, KNOWN)


def test_a_stage_that_runs_no_notebook_is_left_to_dvc():
    assert asked_by({"cmd": "sleep ${seconds}"}) == asked_by({"cmd": ["echo ${a}", "echo ${b}"]}) == asked_by({}) == {}


@pytest.mark.parametrize(
    "old, new", [("seeds: [0]", "seeds: 0"), ("bids:  ", "bids:\nown:  "), ("*laptop ", "*phantom ")]
)
def test_a_start_names_it_before_anything_else(old, new, tmp_path):
    "In a copy of what a start reads, without DVC."
    for name in ("params.yaml", "dvc.yaml", "evidence/dvc.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = (ROOT / name).read_text()
        (tmp_path / name).write_text(text.replace(old, new) if name == "params.yaml" else text)
    done = subprocess.run(
        [sys.executable, "-m", "ada_repro.pipeline.start"], cwd=tmp_path, env=ENV, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.startswith("repro: params.yaml: "), done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arm", [3, None, ["gradcam"], "grdcam.x", "gradcam.x-y", "gradcam.", ".x"])
def test_a_variant_is_called_after_an_arm(arm):
    params = deepcopy(params_of("smoke"))
    params["variants"] = [{"arm": arm, "sign": "signed"}]
    with pytest.raises(ValueError, match="must be called <arm>.<choice>|No arm is called"):
        check_params(params)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ([{"arm": "gradcam.forbid", "protect": "forbidd"}], "again.variants.gradcam.forbid.protect must be one of"),
        ([{"arm": "grdcam.zzz", "protect": "none"}], "No arm is called"),
        ([{"arm": "gradcam"}, {"arm": "gradcam"}], "nothing twice"),
        ([{"protect": "forbid"}], "again.variants must be a list of sections that name an arm"),
        (["gradcam.forbid"], "again.variants must be a list of sections that name an arm"),
        ("none", "again.variants must be a list of sections that name an arm"),
        ([{"arm": "gradcam.large", "size": 999}], "ada.size .* not 999"),
    ],
)
def test_what_is_trained_again_is_checked_as_variants_are(wrong, words):
    for place in ("variants", "again"):
        params = deepcopy(params_of("smoke"))
        if place == "variants":
            params["variants"] = wrong
        else:
            params["profile"]["again"]["variants"] = wrong
        with pytest.raises(ValueError, match=words if place == "again" else words.replace("again.", "")):
            check_params(params)


def test_a_misspelt_name_of_what_is_trained_again():
    params = deepcopy(params_of("smoke"))
    params["profile"]["again"]["variants"] = [{"arm": "gradcam.x", "protec": "none"}]
    with pytest.raises(ValueError, match="protec, which stands in again.variants.gradcam.x. Did you mean protect"):
        check_spelling(params, KNOWN)


def test_what_is_trained_again_begins_where_a_baseline_ended():
    for seeds, retrained in (([0, 1], [1]), ([3], [3])):
        params = spoilt("repeat", seeds=seeds)
        params["profile"]["retrain"]["retrain_seeds"] = retrained
        check_evidence(params["profile"])
    with pytest.raises(ValueError, match=r"retrain_seeds must be some of repeat.seeds, \[0\], not 1"):
        check_evidence(spoilt("retrain", retrain_seeds=[0, 1])["profile"])
    check_params(spoilt("retrain", retrain_seeds=[0, 1]))  # nothing that `make repro` runs


def test_a_study_hides_something():
    for arms in (["none"], ["none.again", "none"]):
        with pytest.raises(ValueError, match="study.arms must hold an arm that hides something.* Add random, say$"):
            check_params(spoilt("study", arms=arms))
    for arms in (["random"], ["none", "least"], ["gradcam.bare"]):
        check_params(spoilt("study", arms=arms))


def test_the_holes_of_the_stress_stage_fit_the_slices():
    levels = [stress.keywords["level"] for name, stress in STRESS.items() if name.startswith("hole")]
    assert (min(levels), max(levels)) == HOLES_MM
    wrong = {"crop_px must be at least 20 at spacing_mm 0.5": (0.5, 16), "spacing_mm must be below 5, for": (6, 40)}
    for words, (spacing_mm, crop_px) in wrong.items():
        params = spoilt("prepare", spacing_mm=spacing_mm, crop_px=crop_px)
        with pytest.raises(ValueError, match=f"^params.yaml: prepare.{words}"):
            check_evidence(params["profile"])
    image = torch.zeros(1, 1, 24, 24)
    check_evidence(spoilt("prepare", spacing_mm=0.5, crop_px=24)["profile"])
    assert all(len(STRESS[f"hole_{mm}"](image, None, 0.5)) for mm in ("2_5mm", "10mm"))


def test_no_cycle_is_no_study():
    with pytest.raises(ValueError, match=r"^params.yaml: ada.cycles \(int\) must be a whole number of at least 1"):
        check_params(spoilt("ada", cycles=0))


def test_a_variant_hides_no_more_than_the_image():
    params = deepcopy(params_of("smoke"))
    params["variants"] = [{"arm": "gradcam.large", "size": 999}]
    with pytest.raises(ValueError, match="ada.size .* not 999"):
        check_params(params)


def test_a_misspelt_word_of_the_machine_is_left_to_the_first_stage(monkeypatch):
    monkeypatch.setattr(warm, "LONGEST", 10_000)
    monkeypatch.delenv(warm.WARM, raising=False)
    with warm.warm_process({"profile": {"machine": {"threads": 1, "exat": True}}}):
        pass
    with pytest.raises(ValueError, match="Did you mean exact"):
        check_spelling({"profile": {"machine": {"threads": 1, "exat": True}}}, set(RUNNER))


@pytest.mark.parametrize("name, value", [("seed", 3), ("fold", "x"), ("kept_in", "data"), ("width", 16)])
def test_a_variant_is_the_same_run_of_the_same_network(name, value):
    params = deepcopy(params_of("smoke"))
    params["variants"] = [{"arm": "gradcam.forbid", "protect": "forbid", name: value}]
    with pytest.raises(ValueError, match=f"variants.gradcam.forbid.{name} would make it another run or network"):
        check_params(params)


@pytest.mark.parametrize(
    "section, name, wrong", [("phantom", "subjects", 1), ("machine", "exact", 0), ("machine", "compile", 0)]
)
def test_what_would_leave_nobody_to_validate_or_be_taken_for_true(section, name, wrong):
    params = deepcopy(params_of("smoke"))
    params["profile"][section][name] = wrong
    with pytest.raises(ValueError, match=f"^params.yaml: {section}.{name}"):
        check_params(params)
