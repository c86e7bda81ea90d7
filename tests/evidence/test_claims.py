"Every claim can come out either way, at the numbers its rule names; what is computed exactly is computed again."

import re
from itertools import combinations, product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ada_repro.core import ROOT, named_rng
from ada_repro.evidence.claims import CLAIMS, DIRECTIONS, all_of, any_of, effect
from ada_repro.evidence.judging import evidence_of, judge
from ada_repro.evidence.scores import CELLS
from ada_repro.evidence.verdicts import FALLS, OPEN, STANDS, TOLERANCE
from ada_repro.method.arms import METHODS, OTHERS, arm_name

CELL_COUNT = {"touching": 4, "near": 10, "far": 50}
ARMS = [*METHODS, "baseline", "none", "none.again", "random"]
OVER_SEEDS = {"C2", "C5", "S2", "S6a", "S7"}
ALL, ABOVE_PARENT = dict.fromkeys(METHODS, 1.0), dict.fromkeys([*METHODS, "none", "random"], 1.0)


def times(x, those=ALL):
    return {arm: x * v for arm, v in those.items()}


def signs(t, column):
    return 1 - 2 * (t[column] % 2)


def made_up_scores(seeds, subjects, noise, told):
    "All alike, but for what is told; a wobble is added for every other subject and taken away for the rest."
    keys = list(
        product(ARMS, range(seeds), ("best", "last", "chosen"), range(subjects), range(2), ("original", *CELLS))
    )
    t = pd.DataFrame(keys, columns=["arm", "seed", "weights", "subject", "slice", "group"])

    def of(what):
        return t.arm.map(told.get(what, {})).fillna(0)

    whole = of("whole") + of("wobble_whole") * signs(t, "subject")
    hidden = of("hidden") + of("wobble_hidden") * signs(t, "subject")
    cost = t.group.map(told.get("cost", {})).fillna(0)
    random = named_rng("claims", noise).normal(0, 1, len(t)) * noise
    lift = told.get("lift", 0) + told.get("wobble_lift", 0) * signs(t, "subject")
    lift = (lift * (t.weights == "chosen")).astype(float)
    t["DSC"] = 80 + whole.where(t.group == "original", hidden) - cost + of("drift") * t.seed + random - lift
    t["TPR"] = 90 + of("TPR") + of("wobble_TPR") * signs(t, "subject")
    t["PPV"] = 90 + of("PPV")
    cells = t.group.map(CELL_COUNT).fillna(1).astype(int)
    return t.assign(cells=cells, empty=0, HSD=1.0, HSD_rows=1.0, TNR=99.9, DSC_raters=np.nan)


def made_up_history(seeds, first, wobble):
    "All alike, but for the first epoch of ADA, the second of all."
    epochs = [(1, 0), (2, 1), (3, 1), (4, 2)]
    rows = [(a, s, n, c) for a, s, (n, c) in product(ARMS, range(seeds), epochs) if (a == "baseline") == (c == 0)]
    t = pd.DataFrame(rows, columns=["arm", "seed", "epoch", "cycle"])
    more = t.arm.map(first).fillna(0) + wobble * signs(t, "seed") * (t.arm == "gradcam")
    return t.assign(DSC=70 + t.epoch + more.where(t.epoch == 2, 0))


def made_up_iou(seeds, own, other, wobble):
    "The methods agree alike, but for GradCam; nobody agrees with a random window."
    arms = [*METHODS, "random"]
    t = pd.DataFrame(product(range(seeds), arms, arms), columns=["seed", "arm_a", "arm_b"])
    with_random = (t.arm_a == "random") | (t.arm_b == "random")
    with_gradcam = (t.arm_a == "gradcam") | (t.arm_b == "gradcam")
    iou = np.where(with_random, 0.0, other)
    iou = np.where(with_gradcam, own + wobble * signs(t, "seed"), iou)
    return t.assign(iou=np.where(t.arm_a == t.arm_b, 1.0, iou))


def made_up_look(seeds, rho):
    "All maps alike, but for the randomisation of guided backprop's."
    arms, measures = ("baseline", "none"), ("randomisation_rho", "share_far")
    t = pd.DataFrame(product(range(seeds), arms, METHODS, measures, "AB"))
    t.columns = ["seed", "arm", "method", "measure", "subject"]
    told = (t.arm == "baseline") & (t.method == "guided_backprop") & (t.measure == "randomisation_rho")
    return t.assign(value=np.where(told, rho, 0.4))


def made_up_windows(seeds, functional, corner):
    "No choice moves anything, but for functional ReLUs and the sibling's reading of GradCam."
    choices = ("default", "sibling", "functional_relu")
    t = pd.DataFrame(product(range(seeds), METHODS, choices), columns=["seed", "method", "choice"])
    sibling = (t.choice == "sibling") & (t.method == "gradcam")
    return t.assign(iou_vanilla=np.where(t.choice == "functional_relu", functional, 0.2), corner=corner * sibling)


def made_up_giveaway(seeds, subjects, noise, gain, wobble):
    "Copies with grey matter kept are easier by the gain, for the methods' windows."
    keys = product(
        ["baseline", *METHODS],
        range(seeds),
        [*METHODS, "random"],
        ("keep", "forbid", "none"),
        ("train", "val"),
        range(subjects),
    )
    t = pd.DataFrame(keys, columns=["arm", "seed", "method", "protect", "split", "subject"])
    easier = (t.protect == "keep") & (t.method != "random") & (t.arm == "baseline") & (t.split == "val")
    random = named_rng("giveaway").normal(0, 1, len(t)) * noise
    copy = 80 + (gain + wobble * signs(t, "subject")) * easier + random
    return t.assign(slice=0, DSC_original=80.0, DSC_copy=copy)


def made_up_rescan(seeds, subjects, noise, pair, wobble):
    "All arms find the same in a rescan alike, but for what is told."
    t = pd.DataFrame(
        product(ARMS, range(seeds), range(subjects), range(2)), columns=["arm", "seed", "subject", "slice"]
    )
    random = named_rng("rescan").normal(0, 1, len(t)) * noise
    more = t.arm.map(pair).fillna(0) + t.arm.map(wobble).fillna(0) * signs(t, "subject")
    return t.assign(DSC_pair=90 + more + random)


USUAL = {"gain": 4.0, "wobble_gain": 0.0, "pair": {}, "wobble_pair": {}}
USUAL |= {"first": {}, "wobble_first": 0.0, "own_iou": 0.2, "other_iou": 0.2, "wobble_iou": 0.0}
USUAL |= {"functional": 1.0, "corner": 0.3, "rho": 0.7}


def evidence(seeds=4, subjects=8, noise=0.0, **told):
    "Evidence in which everything is alike, but for what is told."
    told = USUAL | told
    return evidence_of(
        made_up_scores(seeds, subjects, noise, told),
        history=made_up_history(seeds, told["first"], told["wobble_first"]),
        iou=made_up_iou(seeds, told["own_iou"], told["other_iou"], told["wobble_iou"]),
        look=made_up_look(seeds, told["rho"]),
        sensitivity=made_up_windows(seeds, told["functional"], told["corner"]),
        giveaway=made_up_giveaway(seeds, subjects, noise, told["gain"], told["wobble_gain"]),
        rescan=made_up_rescan(seeds, subjects, noise, told["pair"], told["wobble_pair"]),
    )


def found(key, level=0.95, **told):
    return CLAIMS[key][1](evidence(**told), level)


@pytest.mark.parametrize("key, method", [("S1", "guided_backprop"), ("S2", "gradcam"), ("S6a", "guided_backprop")])
@pytest.mark.parametrize("fold", [{}, {"fold": "paper"}])
def test_a_method_that_nobody_asked_for_is_not_measured(key, method, fold):
    all_of_it = evidence()
    parts = {name: getattr(all_of_it, name) for name in ("sensitivity", "look")}
    less = {name: table[table.method != method].assign(**fold) for name, table in parts.items()}
    judged = CLAIMS[key][1](SimpleNamespace(**vars(all_of_it) | less), 0.95)
    assert judged["verdict"] == OPEN and np.isnan(judged["value"]) and "Not measured in this study" in judged["why"]


def verdict(key, **told):
    return found(key, **told)["verdict"]


# Both ways
CASES = {
    "C1": [
        (STANDS, {}),
        (FALLS, {"whole": {"gradcam": 3}}),
        (FALLS, {"whole": {"vanilla": -3}}),
        (OPEN, {"wobble_whole": {"vanilla": 5}}),
    ],
    "C2": [
        (STANDS, {"first": {"gradcam": 3}}),
        (FALLS, {}),
        (FALLS, {"first": times(2, dict.fromkeys(OTHERS, 1))}),
        (OPEN, {"wobble_first": 5}),
    ],
    "C3": [
        (STANDS, {"hidden": {"gradcam": 2}}),
        (FALLS, {}),
        (FALLS, {"hidden": {"gradcam": 2, "vanilla": 4}}),
        (OPEN, {"wobble_hidden": {"gradcam": 5}}),
    ],
    "C4": [
        (STANDS, {"TPR": {"gradcam": 2}, "PPV": {"gradcam": -2}}),
        (FALLS, {}),
        (FALLS, {"TPR": {"gradcam": 2}, "PPV": {"gradcam": 2}}),
        (FALLS, {"TPR": {"gradcam": 2}}),
        (OPEN, {"wobble_TPR": {"gradcam": 5}, "PPV": {"gradcam": -2}}),
    ],
    "C5": [(STANDS, {"other_iou": 0.4}), (FALLS, {}), (FALLS, {"own_iou": 0.4}), (OPEN, {"wobble_iou": 0.19})],
    "C6": [
        (STANDS, {"hidden": times(2)}),
        (FALLS, {}),
        (FALLS, {"hidden": times(-2)}),
        (FALLS, {"hidden": times(5, ABOVE_PARENT)}),
        (OPEN, {"wobble_hidden": times(5)}),
    ],
    "C7": [
        (STANDS, {}),
        (STANDS, {"whole": times(3)}),
        (FALLS, {"whole": times(-3)}),
        (OPEN, {"wobble_whole": times(5)}),
    ],
    "S1": [(STANDS, {}), (FALLS, {"functional": 0.99})],
    "S2": [(STANDS, {}), (FALLS, {"corner": 0.01}), (OPEN, {"seeds": 1})],
    "S3": [
        (STANDS, {"cost": {"touching": 14}}),
        (FALLS, {"cost": {"touching": 14, "near": 5, "far": 5}}),
        (OPEN, {"wobble_hidden": times(5)}),
        (OPEN, {"hidden": times(2)}),
    ],
    "S4": [
        (STANDS, {"hidden": times(3, ABOVE_PARENT)}),
        (FALLS, {}),
        (FALLS, {"hidden": dict(none=3, **times(5))}),
        (FALLS, {"hidden": times(3)}),
        (OPEN, {"wobble_hidden": {"none": 5}}),
    ],
    "S6a": [(STANDS, {}), (FALLS, {"rho": 0.3}), (OPEN, {"seeds": 1})],
    "S6b": [
        (STANDS, {}),
        (STANDS, {"hidden": {"random": 2}}),
        (FALLS, {"hidden": {"vanilla": 2}}),
        (OPEN, {"wobble_hidden": {"vanilla": 5}}),
    ],
    "S7": [
        (STANDS, {"drift": dict.fromkeys(ARMS, 1)}),
        (FALLS, {}),
        (OPEN, {"drift": {"none": 1}}),
        (OPEN, {"seeds": 1, "drift": dict.fromkeys(ARMS, 1)}),
    ],
    "S8": [
        (STANDS, {}),
        (FALLS, {"gain": -4}),
        (FALLS, {"gain": 0}),
        (OPEN, {"wobble_gain": 9}),
        (OPEN, {"seeds": 1}),
        (OPEN, {"subjects": 1}),
    ],
    "S9": [
        (STANDS, {"lift": 2}),
        (STANDS, {"lift": 2, "whole": {"gradcam": 1}}),
        (FALLS, {"lift": 2, "whole": {"gradcam": 3}}),
        (FALLS, {"lift": 2, "whole": {"gradcam": -3}}),
        (OPEN, {"lift": 2, "wobble_lift": 5}),
        (OPEN, {"lift": 2, "seeds": 1}),
    ],
    "S10": [
        (STANDS, {"pair": {"gradcam": 2}}),
        (STANDS, {"pair": {"random": 2, "gradcam": -2}}),
        (FALLS, {}),
        (FALLS, {"pair": {"none": 2}}),
        (OPEN, {"wobble_pair": {"gradcam": 5}}),
        (OPEN, {"seeds": 1}),
    ],
}


def test_each_claim_can_stand_and_fall():
    assert CASES.keys() == CLAIMS.keys() - {"S5"}  # which is arithmetic
    assert all({STANDS, FALLS} <= {v for v, _ in cases} for cases in CASES.values())


EACH_CASE = []
for claim, cases in CASES.items():
    EACH_CASE += [(claim, *case) for case in cases]


@pytest.mark.parametrize("key, expected, told", EACH_CASE, ids=str)
def test_verdict(key, expected, told):
    told = {"noise": 0.02} | told
    one = found(key, **told)
    assert one["verdict"] == expected and one["why"].endswith(".")
    if not np.isnan(one["low"]):
        assert one["low"] <= one["value"] <= one["high"]
    wide = found(key, 0.999999, **told)
    if key not in ("S1", "S5"):
        assert wide["verdict"] in (expected, OPEN) or expected == OPEN
        assert np.isnan(one["low"]) or wide["low"] <= one["low"] <= one["high"] <= wide["high"] or np.isnan(wide["low"])


EXACT = {"S1", "S5"}  # in each network; by arithmetic


def test_one_training_tells_nothing():
    table = judge(evidence(seeds=1, noise=0.02), "one seed").set_index("claim")
    assert (table.verdict.drop([*EXACT]) == OPEN).all() and table.low.drop([*EXACT]).isna().all()
    assert (table.verdict[[*EXACT]] == STANDS).all()


def test_one_subject_tells_nothing_where_subjects_are_the_sample():
    table = judge(evidence(subjects=1, noise=0.005), "one subject").set_index("claim")
    assert (table.verdict.drop([*OVER_SEEDS, *EXACT]) == OPEN).all()
    assert not (table.verdict[[*OVER_SEEDS]] == OPEN).any()


# The numbers of the rules
def number(key):
    return float((re.findall(r"\d+\.\d+", CLAIMS[key][0]["rule"]) or [{"S3": 0.5}.get(key, TOLERANCE)])[0])


def at(key, told, end):
    "What is told, made as large as puts the far end of the interval there."
    unit = found(key, **told(1.0))
    return told(end / max(abs(unit["low"]), abs(unit["high"])))


WIDE = {  # what makes the interval wide about 0, and the verdict inside the tolerance
    "C1": (lambda x: {"whole": {"vanilla": x / 10}, "wobble_whole": {"vanilla": x}}, STANDS),
    "C2": (lambda x: {"wobble_first": x}, FALLS),
    "C3": (lambda x: {"wobble_hidden": {"gradcam": x}}, FALLS),
    "C4": (lambda x: {"wobble_TPR": {"gradcam": x}, "PPV": {"gradcam": -2}}, FALLS),
    "C5": (lambda x: {"wobble_iou": x}, FALLS),
    "C6": (lambda x: {"wobble_hidden": times(x)}, FALLS),
    "S4": (lambda x: {"wobble_hidden": times(x, ABOVE_PARENT)}, FALLS),
    "S6b": (lambda x: {"wobble_hidden": {"vanilla": x}}, STANDS),
}


@pytest.mark.parametrize("key", WIDE)
def test_an_interval_decides_until_it_leaves_the_tolerance_of_the_rule(key):
    told, inside = WIDE[key]
    assert (
        verdict(key, **at(key, told, 0.99 * number(key))) == inside
        and verdict(key, **at(key, told, 1.01 * number(key))) == OPEN
    )


SHARP = {  # what puts the value there, and the verdicts just below and just above
    "C1": (lambda x: {"whole": {"gradcam": x}}, STANDS, FALLS),
    "C7": (lambda x: {"whole": times(-x)}, STANDS, FALLS),
    "S2": (lambda x: {"corner": x}, FALLS, STANDS),
    "S3": (lambda x: {"cost": {"touching": 40 / 3 / x}}, FALLS, STANDS),
    "S6a": (lambda x: {"rho": x}, FALLS, STANDS),
}


@pytest.mark.parametrize("key", SHARP)
def test_the_verdict_turns_at_the_number_of_the_rule(key):
    told, below, above = SHARP[key]
    x = number(key)
    assert verdict(key, **told(0.99 * x)) == below and verdict(key, **told(1.01 * x)) == above


def test_one_seed_is_noise_once_the_lower_end_is_above_the_number():
    def drifting(x):
        return {"drift": dict.fromkeys(ARMS, x / 3)}

    unit = found("S7", **drifting(1.0))
    for end, below, above in (("low", OPEN, STANDS), ("high", FALLS, OPEN)):
        turn = number("S7") / unit[end]
        assert [verdict("S7", **drifting(share * turn)) for share in (0.99, 1.01)] == [below, above]


def test_more_arms_of_the_same_seeds_make_the_range_no_surer():
    one, all_of_them = (found("S7", drift=dict.fromkeys(arms, 1.0)) for arms in (["none"], ARMS))
    assert one["high"] / one["low"] == pytest.approx(all_of_them["high"] / all_of_them["low"])


def test_what_is_told_of_the_most_alike_rescan_is_at_the_level_beside_it():
    e = evidence(noise=0.4, pair={"gradcam": 2})
    told = CLAIMS["S10"][1](e, 0.95)
    low, high = effect(e.rescan, ["gradcam"], ["none"], "DSC_pair").ends(0.95)
    wide = effect(e.rescan, ["gradcam"], ["none"], "DSC_pair").ends(1 - 0.05 / 6)  # five methods and Random window
    assert (told["low"], told["high"]) == (low, high)
    assert f"[{wide[0]:.2f}, {wide[1]:.2f}], as wide as 6 arms ask for" in told["why"]


def test_numbers_of_the_paper_are_the_papers():
    t3, t4 = (
        pd.read_csv(ROOT / "figures" / "paper" / f"table{n}.csv").set_index("method").loc[[*METHODS]] for n in (3, 4)
    )
    assert number("S7") == round(t3.DSC.max() - t3.DSC.min(), 2)
    whys = judge(evidence(), "x").set_index("claim").why
    assert f"{number('S7')} apart" in whys.C1
    rival = t4.DSC.drop("gradcam").idxmax()
    assert f"the paper's is {arm_name(rival)}, {t4.DSC.gradcam - t4.DSC[rival]:.2f} behind" in whys.C3
    more, less = (abs(t3[v].gradcam - t3[v].drop("gradcam").mean()) for v in ("TPR", "PPV"))
    assert f"TPR {more:.1f} higher and PPV {less:.1f} lower" in whys.C4


# The values
@pytest.mark.parametrize("seed", range(4))
def test_values_are_differences_of_means(seed):
    rng = named_rng("values", seed)

    def some():
        return dict(zip(ARMS, rng.normal(0, 2, len(ARMS)), strict=True))

    e = evidence(
        noise=0.5,
        whole=some(),
        hidden=some(),
        TPR=some(),
        PPV=some(),
        first=some(),
        cost={"touching": 30, "near": 3, "far": 2},
    )
    best = e.judged
    whole, hidden = best[best.group == "original"], best[best.group != "original"]
    w, tpr = ({a: whole[v][whole.arm == a].mean() for a in ARMS} for v in ("DSC", "TPR"))
    h = {a: np.average(part.DSC, weights=part.cells) for a, part in hidden.groupby("arm")}

    def mean(table, arms):
        return np.mean([table[a] for a in arms])

    after = {a: e.history.DSC[(e.history.arm == a) & (e.history.epoch == 2)].mean() for a in METHODS}
    slow = {
        "C1": max((w[a] - w[b] for a, b in combinations(METHODS, 2)), key=abs),
        "C2": after["gradcam"] - mean(after, OTHERS),
        "C3": min(h["gradcam"] - h[a] for a in OTHERS),
        "C4": tpr["gradcam"] - mean(tpr, OTHERS),
        "C6": mean(h, METHODS) - h["none"],
        "C7": mean(w, METHODS) - w["baseline"],
        "S4": h["none"] - h["baseline"],
        "S6b": max(h[a] - h["random"] for a in METHODS),
    }
    table = judge(e, "x").set_index("claim").value
    assert table[list(slow)].to_dict() == pytest.approx(slow)


def test_the_share_of_counting_by_loop():
    e = evidence(noise=0.5, cost={"touching": 20, "near": 1, "far": 1})
    best = e.judged[e.judged.arm.isin(METHODS)]
    lost, counted = [], []
    for _, part in best.groupby(["arm", "seed", "subject", "slice"]):
        d = part.DSC[part.group == "original"].item()
        copies = [(n, x) for n, x in zip(part.cells, part.DSC, strict=True) if n > 1]
        lost.append(d - sum(n * x for n, x in copies) / 64)
        hit, n = (
            d / 100,
            CELL_COUNT["touching"],
        )  # DSC = 2 TP / (P + G), in units of (P + G) / 2: a cell takes 1/n of TP, and as much of P
        counted.append(100 * (hit - hit * (1 - 1 / n) / (1 - hit / n / 2)) * n / 64)
    one = CLAIMS["S3"][1](e, 0.95)
    assert one["value"] == pytest.approx(np.mean(counted) / np.mean(lost))
    assert one["low"] < one["value"] < one["high"]


def chance(n, size, low, high):
    "The mean IoU over every two corners: how often each overlap of two rows occurs, then rows by columns."
    overlaps = [max(0, size - abs(a - b)) for a, b in product(range(low, high + 1), repeat=2)]
    often = [overlaps.count(o) / len(overlaps) for o in range(size + 1)]
    return sum(
        p * q * (r * c) / (2 * size**2 - r * c) for (r, p), (c, q) in product(enumerate(often), enumerate(often))
    )


def test_iou_is_near_chance_by_enumeration():
    one = CLAIMS["S5"][1](None, 0.95)
    assert one["value"] == one["low"] == one["high"] == pytest.approx(chance(200, 20, 0, 180))
    assert one["verdict"] == STANDS
    a, b = np.zeros((2, 30, 30), bool)
    a[:20, :20] = b[5:25, 5:25] = True
    told = [chance(200, 20, 0, 180), chance(200, 20, 60, 120), (a & b).sum() / (a | b).sum()]
    said = re.findall(r"\d\.\d+", CLAIMS["S5"][0]["rule"])
    assert said == [f"{told[0]:.3f}", f"{told[1]:.3f}", f"{told[2]:.2f}"] and float(said[1]) == number("C5")


# The table
def test_a_claim_is_a_sentence_with_a_measure_and_a_rule():
    assert " ".join(CLAIMS) == "C1 C2 C3 C4 C5 C6 C7 S1 S2 S3 S4 S5 S6a S6b S7 S8 S9 S10"
    for said, judge_it in CLAIMS.values():
        assert all(said[part] for part in ("says", "measure", "rule")) and said["says"] == judge_it.__doc__
    assert set(DIRECTIONS) == {"C2", "C3", "C4", "C6", "S4", "S10"}


def test_data_without_rescans_or_chosen_epochs_leave_their_claims_open():
    e = evidence(noise=0.02)
    e.rescan, e.chosen3 = e.rescan[:0], e.chosen3[:0]
    for key in ("S9", "S10"):
        one = CLAIMS[key][1](e, 0.95)
        assert one["verdict"] == OPEN and np.isnan(one["value"]) and one["why"].endswith(".")


def test_an_arm_without_a_value_hides_no_other():
    e = evidence(noise=0.02, pair={"gradcam": 10})
    e.rescan.loc[e.rescan.arm == ARMS[0], "DSC_pair"] = np.nan
    one = CLAIMS["S10"][1](e, 0.95)
    assert one["verdict"] == STANDS and one["value"] == pytest.approx(10, abs=0.1) and "GradCam" in one["why"]


def test_a_claim_of_parts():
    for parts in product((STANDS, FALLS, OPEN), repeat=3):
        assert all_of(parts) == next(v for v in (FALLS, OPEN, STANDS) if v in parts)
        assert any_of(parts) == next(v for v in (STANDS, OPEN, FALLS) if v in parts)
