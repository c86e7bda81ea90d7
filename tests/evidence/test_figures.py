"""Figures: drawn from tables alone, the same bytes twice, an arm one colour; and both notebooks on a made-up tree of runs."""

import json
import shutil
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import papermill
import pytest
from matplotlib.colors import to_rgb
from test_evidence import made_up_scores

from ada_repro.core import ROOT
from ada_repro.evidence.figures import (
    arm_colors,
    best_method,
    context_slice,
    figure_style,
    plot_context,
    plot_convergence,
    plot_iou,
    plot_occlusion,
    save_figure,
)
from ada_repro.evidence.tables import write_table
from ada_repro.method.arms import NAMES, REFERENCES, arm_name
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
    rng, rows = np.random.default_rng(0), []
    for arm, seed in product(arms, seeds):
        at = range(1, standard + 1) if arm == "baseline" else range(standard + 1, standard + 1 + cycles * epochs)
        rows += [
            (arm, seed, e, 0 if e <= standard else 1 + (e - standard - 1) // epochs, 0.3, 80 + rng.normal()) for e in at
        ]
    return pd.DataFrame(rows, columns=["arm", "seed", "epoch", "cycle", "loss", "DSC"])


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


@pytest.mark.parametrize(
    "arms", [["baseline"], ["baseline", "none"], ["baseline", *METHODS, "none", "random"], ["baseline", *MANY]]
)
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_convergence_takes_any_arms_and_seeds(arms, seeds):
    fig = plot_convergence(history(arms, seeds))
    assert {t.get_text() for t in fig.legends[0].get_texts()} == {arm_name(a) for a in arms}
    first = {c.get_xdata()[0] for c in fig.axes[1].lines if len(c.get_xdata())}
    assert first == ({6} if len(arms) > 1 else {1}), "every arm leaves from the last epoch of the baseline"


def test_lines_are_means_over_seeds():
    h = history(["baseline", "none"], (0, 1, 2))
    line = next(c for c in plot_convergence(h).axes[1].lines if len(c.get_xdata()))
    assert np.allclose(line.get_ydata()[1:], h[h.arm == "none"].groupby("epoch").DSC.mean())


def test_an_arm_keeps_its_colour():
    colors = arm_colors(["baseline", *MANY])
    assert len({to_rgb(c) for c in colors.values()}) == len(colors)
    for some in (MANY[:3], MANY[::-1][:4], ["gradcam"]):
        known = [a for a in some if a in NAMES]
        assert {a: arm_colors(some)[a] for a in known} == {a: colors[a] for a in known}
    assert (
        set(SALIENCY) | set(REFERENCES) >= set(NAMES)
        and arm_name("my_method") == "My method"
        and arm_name("gradcam.layer_up") == "GradCam, layer up"
    )


def test_occlusion_shows_every_arm():
    fig = plot_occlusion(example(MANY[:8]))
    assert sum(ax.get_title() == "" for ax in fig.axes) >= 8 and len(fig.axes) == 1 + 2 * 8 + 1


def test_rules_pick_the_cases():
    scores = made_up_scores(["baseline", "none", "gradcam"], subjects=3, slices=3)
    slices = pd.DataFrame([(f"sub-{s}", i) for s in (2, 0, 1) for i in range(3)], columns=["subject", "slice"])
    best = scores[(scores.arm == "baseline") & (scores.weights == "best")].set_index(["group", "subject", "slice"]).DSC
    loss = [
        best["original", r.subject, r["slice"]] - best["context", r.subject, r["slice"]] for _, r in slices.iterrows()
    ]
    assert loss[context_slice(scores, slices, 0)] == np.median(loss)
    assert best_method(pd.DataFrame({"arm": ["gradcam", "my_method", "none"], "DSC": [80, 81, 90]})) == "my_method"


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
    "A project with the results of made-up runs: 2 validation and 3 training subjects, 7 arms and the baseline, 2 seeds."
    arms, seeds, rng = [*METHODS, "none", "random"], [0, 1], np.random.default_rng(0)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    shutil.copytree(ROOT / "figures" / "paper", tmp_path / "figures" / "paper")
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
            for s, split in ((0, "val"), (1, "val"), (2, "train"), (3, "train"), (4, "train"))
            for i in range(2)
        ]
    )
    x, slices = example(arms), tmp_path / "data" / "slices"
    slices.mkdir(parents=True)
    np.save(slices / "images.npy", rng.normal(size=(10, 1, N, N)).astype("float32"))
    table.to_csv(slices / "slices.csv", index=False)
    np.save(slices / "targets.npy", np.broadcast_to(x["target"], (10, 1, N, N)))
    for (m, arm), seed in product(enumerate(["baseline", *arms], -1), seeds):
        run, out = tmp_path / "data" / "runs" / f"{arm}-{seed}", tmp_path / "data" / "scores" / f"{arm}-{seed}"
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
            [(arm, seed, c, i, *rng.integers(0, N - 5, 2), False) for c in (1, 2) for i in range(6)],
            columns=["arm", "seed", "cycle", "slice_index", "row", "col", "flat"],
        ).to_csv(run / "windows.csv", index=False)
        np.savez(run / "example.npz", image=x["image"], target=x["target"], map=x["maps"][m], mask=x["masks"][m])
    return tmp_path, arms, seeds


def test_both_notebooks_on_made_up_runs(tree):
    root, arms, seeds = tree
    told = {"name": "phantom-test", "dataset": "phantom", "profile": "test", "arms": arms, "seeds": seeds, "size": 5}
    for stage, names in (("iou", ("arms", "seeds", "size")), ("figures", told)):
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
    assert made == {f"table{n}.{e}" for n in (3, 4, 5) for e in ("csv", "md")} | {
        f"figure{n}.{e}" for n in range(1, 5) for e in ("svg", "png")
    }
    page = (root / "figures" / "phantom-test" / "table4.md").read_text()
    assert "simulated" in page and "Seeds: 2 (0, 1)" in page and "2 subjects, 4 slices" in page and "made up" in page
    table = pd.read_csv(root / "figures" / "phantom-test" / "table4.csv")
    assert (
        table.arm.tolist() == [*METHODS, "baseline", "none", "random", "counting"] and table.DSC_paper[:5].notna().all()
    )
