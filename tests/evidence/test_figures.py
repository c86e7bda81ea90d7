"Figures: drawn from tables alone, the same bytes twice, an arm one colour; and both notebooks on made-up runs."

import json
import shutil
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import papermill
import pytest
from matplotlib.colors import to_rgb
from test_scores import made_up_scores

from ada_repro.core import ROOT
from ada_repro.evidence.figures import (
    CAPTIONS,
    arm_colors,
    best_method,
    choice_name,
    context_slice,
    figure_style,
    plot_context,
    plot_convergence,
    plot_iou,
    plot_look,
    plot_occlusion,
    plot_sensitivity,
    plot_stress,
    save_figure,
    stress_name,
)
from ada_repro.evidence.pages import write_table
from ada_repro.measure.sensitivity import CHOICES
from ada_repro.measure.stress import STRESS
from ada_repro.method.arms import NAMES, REFERENCES, arm_name, is_control
from ada_repro.method.saliency import SALIENCY

METHODS = list(SALIENCY)[:5]
MANY = [*METHODS, "deconvnet", "smooth_grad", "shuffled", "none", "random"]
N = 20


@pytest.fixture(autouse=True)
def style():
    figure_style()
    yield
    plt.close("all")


def history(arms, seeds=(0,), standard=6, cycles=2, epochs=3):
    "A row per arm, seed and epoch, with a random DSC."
    rows = []
    for arm, seed in product(arms, seeds):
        ada = [(standard + i, 1 + (i - 1) // epochs) for i in range(1, 1 + cycles * epochs)]
        mine = [(e, 0) for e in range(1, standard + 1)] if arm == "baseline" else ada
        rows += [(arm, seed, epoch, cycle, 0.3) for epoch, cycle in mine]
    table = pd.DataFrame(rows, columns=["arm", "seed", "epoch", "cycle", "loss"])
    return table.assign(fold="paper", DSC=80 + np.random.default_rng(0).normal(size=len(table)))


def example(arms):
    rng = np.random.default_rng(0)
    target = np.zeros((N, N), bool)
    target[8:12, 6:14] = True
    masks = np.ones((len(arms), N, N), bool)
    for mask in masks:
        r, c = rng.integers(0, N - 5, 2)
        mask[r : r + 5, c : c + 5] = False
    maps = rng.random((len(arms), N, N)).astype("float32") * np.array([[[a != "random"]] for a in arms])
    return {
        "image": rng.normal(size=(N, N)).astype("float32"),
        "target": target,
        "maps": maps,
        "masks": masks,
        "arms": np.array(arms),
        "iou": np.eye(len(arms)),
    }


def iou(arms, seeds=(0,)):
    return pd.DataFrame(
        [(s, a, b, float(a == b), 9) for s, a, b in product(seeds, arms, arms)],
        columns=["seed", "arm_a", "arm_b", "iou", "slices"],
    )


def context(arms):
    x = example(arms)
    return plot_context(
        x["image"],
        x["target"],
        {a: {"original": x["target"][None], "context": np.zeros((1, N, N), bool)} for a in arms},
        0,
    )


FIGURES = {
    "context": lambda: context(["baseline", "gradcam"]),
    "convergence": lambda: plot_convergence(history(["baseline", *MANY], (0, 1, 2))),
    "occlusion": lambda: plot_occlusion(example([*METHODS, "random"])),
    "iou": lambda: plot_iou(iou(METHODS), 0.01),
}


@pytest.mark.parametrize("name", FIGURES)
def test_same_input_same_bytes(name, tmp_path):
    for copy in "ab":
        (tmp_path / copy).mkdir()
        save_figure(FIGURES[name](), tmp_path / copy, name, ["Made up.", "word " * 60])
    for kind in ("svg", "png"):
        a, b = ((tmp_path / copy / f"{name}.{kind}").read_bytes() for copy in "ab")
        assert a == b and 1000 < len(a) < 1_000_000
    assert b"Made up." in (tmp_path / "a" / f"{name}.svg").read_bytes()


PAPER = pd.read_csv(ROOT / "figures" / "paper" / "figure2.csv")
VARIANTS = ["gradcam.forbid", "gradcam.bare", "none.again", "least"]


def named(ax):
    "The names beside the lines of a panel, from below."
    return [text.get_text() for text in sorted(ax.texts, key=lambda text: text.xyann[1])]


@pytest.mark.parametrize(
    "arms",
    [["baseline"], ["baseline", "none"], ["baseline", *METHODS], ["baseline", *MANY], [*MANY, *VARIANTS, "baseline"]],
)
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2), range(5)])
def test_convergence_takes_any_arms_and_seeds(arms, seeds):
    axes = plot_convergence(history(arms, seeds), PAPER).axes
    shown = [a for a in arms if a != "baseline"] or arms
    variants = [a for a in shown if "." in a and not is_control(a)]
    groups = [[a for a in shown if not is_control(a) and a not in variants], [a for a in shown if is_control(a)]]
    groups += [["gradcam", *variants]] * bool(variants)
    groups = [group for group in groups if group]
    kinds = len(axes) // len(groups)
    assert len(axes) == kinds * len(groups) and kinds in (1, 2)
    for group, closer in zip(groups, axes[kinds - 1 :: kinds], strict=True):
        assert sorted(named(closer)) == sorted(map(arm_name, group))
        first = {line.get_xdata()[0] for line in closer.lines}
        assert first == ({6} if len(arms) > 1 else {1}), "every arm leaves from the last epoch of the baseline"
        assert len({line.get_color() for line in closer.lines}) == len(group), "and by its colour"
    if kinds == 2:
        for group, whole in zip(groups, axes[::2], strict=True):
            assert sorted(named(whole)) == sorted(map(arm_name, group))


@pytest.mark.parametrize("cycles, ada_epochs, kinds", [(3, 3, 1), (31, 30, 2), (1, 10, 1), (2, 8, 2)])
def test_what_shows_all_epochs_has_no_closer_look(cycles, ada_epochs, kinds):
    axes = plot_convergence(history(["baseline", "gradcam", "none"], (0,), 40, cycles, ada_epochs)).axes
    assert len(axes) == 2 * kinds
    assert axes[kinds - 1].lines[0].get_xdata()[[0, -1]].tolist() == [
        40,
        40 + max(min(10, cycles * ada_epochs), ada_epochs),
    ]


def test_an_arm_looks_alike_in_all_panels():
    axes = plot_convergence(history(["baseline", *MANY, *VARIANTS], (0, 1), 100, 31, 30), PAPER).axes
    looks = {}
    for ax in axes:
        for line in ax.lines:
            if len(line.get_xdata()) > 2:
                looks.setdefault(line.get_color(), set()).add(str(line._unscaled_dash_pattern))
    assert all(len(dashes) == 1 for dashes in looks.values()) and len(looks) == len({*MANY, *VARIANTS}) + 1


@pytest.mark.parametrize("arms", [["baseline", *MANY], [*MANY, *VARIANTS, "baseline"]])
def test_names_stand_in_the_order_of_the_ends_and_apart(arms):
    fig = plot_convergence(history(arms, (0, 1)))
    fig.draw_without_rendering()
    for ax in fig.axes:
        ends = {text.get_text(): text.xy[1] for text in ax.texts}
        assert named(ax) == sorted(ends, key=ends.get)
        at = np.array(sorted(text.xyann[1] for text in ax.texts))
        assert at[0] >= -1e-9 and at[-1] <= 1 + 1e-9
        apart = np.diff(at) * ax.get_window_extent().height / fig.dpi * 72  # points, of letters of 7 points
        assert (apart > 6.5).all()


def test_lines_are_means_over_folds_and_seeds_and_bands_reach_over_all_seeds():
    parts = [history(["baseline", "none"], seeds=(0, 1, 2)).assign(fold=fold) for fold in "AB"]
    parts[1]["DSC"] += 3 * parts[1].seed + 5
    h = pd.concat(parts, ignore_index=True)
    ax = plot_convergence(h).axes[-1]
    rows = h[h.arm == "none"]
    seeds = [rows[rows.seed == seed].groupby("epoch").DSC.mean() for seed in (0, 1, 2)]
    assert np.allclose(ax.lines[0].get_ydata()[1:], sum(seeds) / 3)
    band = ax.collections[0].get_paths()[0].vertices
    for epoch in seeds[0].index:
        at, each = band[band[:, 0] == epoch, 1], [seed[epoch] for seed in seeds]
        assert at.min() == pytest.approx(min(each)) and at.max() == pytest.approx(max(each))


@pytest.mark.parametrize("standard, drawn", [(100, True), (40, False)])
def test_the_papers_reading_is_drawn_at_the_papers_epochs_only(standard, drawn):
    arms = ["baseline", "gradcam", "vanilla", "none"]
    methods, controls = plot_convergence(history(arms, (0, 1), standard, 31, 30), PAPER).axes[1::2]
    assert controls.get_legend() is None
    if not drawn:
        assert methods.get_legend() is None
        return
    assert [t.get_text() for t in methods.get_legend().get_texts()] == [f"paper: {says}" for says in PAPER.says]
    methods.figure.canvas.draw()
    words = methods.get_legend().get_window_extent()
    assert not any(words.overlaps(ax.bbox) for ax in methods.figure.axes), "the words cover no line"
    marks = {(line.get_xdata()[0], line.get_ydata()[0]) for line in methods.lines if len(line.get_xdata()) == 1}
    assert marks == {(101, 80), (101, 79)}
    low, high = methods.get_ylim()
    assert low < 79 and high > 80 and methods.get_xlim()[0] < 101 and methods.get_xlim()[1] > 123


def test_names_for_people():
    for name in [*map(stress_name, STRESS), *map(choice_name, CHOICES), *map(arm_name, [*MANY, *VARIANTS])]:
        assert "_" not in name and name == name.strip()
    assert stress_name("hole_2_5mm") == "hole 2.5 mm" and stress_name("noise_mild") == "noise, mild"
    assert len(set(map(stress_name, STRESS))) == len(STRESS) and len(set(map(choice_name, CHOICES))) == len(CHOICES)


def made_up_looks():
    measures = ["share_inside", "share_far", "deletion", "deletion_random", "randomisation_rho"]
    pairs = [("baseline", "vanilla"), ("baseline", "gradcam"), ("gradcam", "gradcam"), ("none", "vanilla")]
    rows = [(a, m, i, what) for (a, m), i, what in product(pairs, range(4), measures)]
    table = pd.DataFrame(rows, columns=["arm", "method", "slice", "measure"])
    return table.assign(seed=0, subject="A", value=np.random.default_rng(0).random(len(table)))


def made_up_stress():
    rows = product(["baseline", *METHODS], range(2), "AB", range(2), ["original", *STRESS])
    table = pd.DataFrame(rows, columns=["arm", "seed", "subject", "slice", "stress"])
    return table.assign(DSC=np.random.default_rng(0).uniform(60, 95, len(table)))


def made_up_choices():
    table = pd.DataFrame(product(METHODS, CHOICES, range(2)), columns=["method", "choice", "seed"])
    return table.assign(iou=np.random.default_rng(0).random(len(table)))


OURS = {
    "look": lambda: plot_look(made_up_looks()),
    "stress": lambda: plot_stress(made_up_stress()),
    "sensitivity": lambda: plot_sensitivity(made_up_choices()),
}


@pytest.mark.parametrize("name", [*FIGURES, *OURS])
def test_no_variable_name_is_written_into_a_figure(name):
    fig = (FIGURES | OURS)[name]()
    fig.draw_without_rendering()
    texts = [text.get_text() for text in fig.findobj(plt.Text)]
    assert any(texts) and not [text for text in texts if "_" in text]


def test_circles_and_squares_of_figure_5_are_the_means():
    looks = made_up_looks()
    left = plot_look(looks).axes[0]
    of_arms = looks[(looks.measure == "share_inside") & (looks.arm != "baseline")]
    shown = []
    for line in left.lines:
        if line.get_marker() == "s":
            shown += list(np.atleast_1d(line.get_xdata()))
    assert sorted(x for x in shown if np.isfinite(x)) == pytest.approx(sorted(of_arms.groupby("arm").value.mean()))


def test_each_figure_has_its_caption(tmp_path):
    assert list(CAPTIONS) == [f"figure{n}" for n in range(1, 9)]
    for n, line in (("figure4", CAPTIONS["figure4"][0]), ("other", "Made up.")):
        save_figure(FIGURES["iou"](), tmp_path, n, ["Made up."])
        text = " ".join((tmp_path / f"{n}.svg").read_text().split())
        assert line in text and "Made up." in text


def test_an_arm_keeps_its_colour():
    colors = arm_colors(["baseline", *MANY])
    assert len({to_rgb(c) for c in colors.values()}) == len(colors)
    for some in (MANY[:3], MANY[::-1][:4], ["gradcam"]):
        known = [a for a in some if a in NAMES]
        assert {a: arm_colors(some)[a] for a in known} == {a: colors[a] for a in known}
    assert (
        set(SALIENCY) | set(REFERENCES) >= set(NAMES)
        and arm_name("my_method") == "My method"
        and arm_name("gradcam.layer_up") == "GradCam, layer of the decoder"
    )


def test_occlusion_shows_every_arm():
    fig = plot_occlusion(example(MANY[:8]))
    assert sum(ax.get_title() == "" for ax in fig.axes) >= 8 and len(fig.axes) == 1 + 2 * 8 + 1


def test_rules_pick_the_cases():
    scores = made_up_scores(["baseline", "none", "gradcam"], subjects=3, slices=3)
    slices = pd.DataFrame(product(("sub-2", "sub-0", "sub-1"), range(3)), columns=["subject", "slice"])
    best = scores[(scores.arm == "baseline") & (scores.weights == "best")].set_index(["group", "subject", "slice"]).DSC
    loss = [
        best["original", r.subject, r["slice"]] - best["context", r.subject, r["slice"]] for _, r in slices.iterrows()
    ]
    assert loss[context_slice(scores, slices, 0)] == np.median(loss)
    assert best_method(pd.DataFrame({"arm": ["gradcam", "my_method", "none"], "DSC": [80, 81, 90]})) == "my_method"
    others = ["gradcam", "least_vanilla", "shuffled.bare", "gradcam.bare", "random"]
    assert best_method(pd.DataFrame({"arm": others, "DSC": [80, 81, 82, 83, 84]})) == "gradcam"
    assert best_method(pd.DataFrame({"arm": ["baseline", "none", "counting"], "DSC": [91, 80, 90]})) == "none"


def test_table_pages(tmp_path):
    frame = pd.DataFrame(
        [
            {"arm": "gradcam", "DSC_paper": 86.15, "DSC": 86.12346, "DSC_low": 85.2, "DSC_high": 87.0},
            {"arm": "none", "DSC": 85.0, "DSC_low": np.nan},
        ]
    )
    write_table(frame, tmp_path, "table4", ["Data: phantom (simulated scans)."])
    page = (tmp_path / "table4.md").read_text()
    assert (
        "| GradCam | 86.15 | 86.12 [85.20, 87.00] |" in page
        and "| No hole | – | 85.00 |" in page
        and "simulated" in page
    )
    assert pd.read_csv(tmp_path / "table4.csv").DSC.tolist() == [86.1235, 85.0]


@pytest.fixture
def tree(tmp_path):
    "A project with results of made-up runs: 2 validation and 3 training subjects, 7 arms and the baseline, 2 seeds."
    arms, seeds, rng = [*METHODS, "none", "random"], [0, 1], np.random.default_rng(0)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    shutil.copytree(ROOT / "figures" / "paper", tmp_path / "figures" / "paper")
    splits = ((0, "val"), (1, "val"), (2, "train"), (3, "train"), (4, "train"))
    table = pd.DataFrame(
        [
            {
                "site": "s",
                "subject": f"sub-{s}",
                "person": f"sub-{s}",
                "slice": i,
                "spacing_mm": 0.5,
                "native_mm": 0.5,
                "slice_mm": 5.0,
                "split": split,
            }
            for (s, split), i in product(splits, range(2))
        ]
    )
    x, slices = example(arms), tmp_path / "data" / "slices"
    slices.mkdir(parents=True)
    np.save(slices / "images.npy", rng.normal(size=(10, 1, N, N)).astype("float32"))
    table.to_csv(slices / "slices.csv", index=False)
    np.save(slices / "targets.npy", np.broadcast_to(x["target"], (10, 1, N, N)))
    for (m, arm), seed in product(enumerate(["baseline", *arms], -1), seeds):
        run, out = (tmp_path / "data" / kind / f"{arm}-paper-{seed}" for kind in ("runs", "scores"))
        run.mkdir(parents=True), out.mkdir(parents=True)
        history([arm], [seed]).to_csv(run / "history.csv", index=False)
        (run / "run.json").write_text(json.dumps({"device": "made up", "versions": {"python": "3.x"}}))
        made_up_scores([arm], [seed], subjects=2, rng=np.random.default_rng([m + 1, seed])).to_csv(
            out / "scores.csv", index=False
        )
        np.savez(out / "preds.npz", **{k: rng.random((4, N, N)) < 0.3 for k in ("original", "context")})
        if arm in ("baseline", "none"):
            continue
        pd.DataFrame(
            [(arm, "paper", seed, c, i, *rng.integers(0, N - 5, 2), False) for c, i in product((1, 2), range(6))],
            columns=["arm", "fold", "seed", "cycle", "slice_index", "row", "col", "flat"],
        ).to_csv(run / "windows.csv", index=False)
        np.savez(run / "example.npz", image=x["image"], target=x["target"], map=x["maps"][m], mask=x["masks"][m])
    return tmp_path, arms, seeds


def test_both_notebooks_on_made_up_runs(tree):
    root, arms, seeds = tree
    told = {"name": "phantom-test", "dataset": "phantom", "profile": "test", "arms": arms, "seeds": seeds, "size": 5}
    told["folds"] = ["paper"]
    for stage, names in (("iou", ("arms", "folds", "seeds", "size")), ("figures", told)):
        papermill.execute_notebook(
            ROOT / "nbs" / "experiments" / f"{stage}.ipynb",
            root / f"{stage}.ipynb",
            {k: told[k] for k in names},
            cwd=root,
            progress_bar=False,
        )
    iou, shown = (
        pd.read_csv(root / "data" / "iou" / "iou.csv"),
        np.load(root / "data" / "iou" / "example.npz", allow_pickle=False),
    )
    assert len(iou) == 2 * 6 * 6 and (iou.slices == 6).all() and shown["arms"].tolist() == [*METHODS, "random"]
    made = {p.name for p in (root / "figures" / "phantom-test").iterdir()}
    tables = {f"table{n}.{kind}" for n, kind in product((3, 4, 5, 13, 14), ("csv", "md"))}
    figures = {f"figure{n}.{kind}" for n, kind in product((1, 2, 3, 4, 8), ("svg", "png"))}
    assert made == tables | figures | {"seeds.csv", "seeds.txt", "reproduced.csv", "reproduced.md", "report.html"}
    report = (root / "figures" / "phantom-test" / "report.html").read_text()
    assert "Did it reproduce?</h2><p>Nothing is published for this profile" in report and report.count("<img ") == 6
    assert len(pd.read_csv(root / "figures" / "phantom-test" / "seeds.csv")) == 8 * 2 * 2
    page = (root / "figures" / "phantom-test" / "reproduced.md").read_text()
    assert page.startswith("Nothing is published for this profile")
    page = (root / "figures" / "phantom-test" / "table4.md").read_text()
    assert "simulated" in page and "Seeds: 2 (0, 1)" in page and "2 subjects, 4 slices" in page and "made up" in page
    table = pd.read_csv(root / "figures" / "phantom-test" / "table4.csv")
    assert (
        table.arm.tolist() == [*METHODS, "baseline", "none", "random", "counting"] and table.DSC_paper[:5].notna().all()
    )
