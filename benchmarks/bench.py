"""Ours against peers: the same work on the same inputs, compared before it is timed.

`make bench` writes results.csv, growth.csv and docs/benchmarks.md.
`python benchmarks/bench.py NAME ...` tries single functions and writes nothing.
"""

import os
import sys
import warnings
from functools import partial
from itertools import chain
from unittest.mock import patch

import growth
import numpy as np
import pandas as pd
import peers
import shares
import torch
from harness import DEVICE, baseline, first, matrix_peak, one_thread, rows, seconds, simulated, training_flop, wide

from ada_repro.core import ROOT, named_generator, named_rng
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.tables import read_table, save_table
from ada_repro.evidence.scores import per_slice
from ada_repro.measure.metrics import hausdorff_distance
from ada_repro.measure.robustness import evaluate
from ada_repro.method.arms import METHODS, arm_windows, kept
from ada_repro.method.compiled import compiler_fault
from ada_repro.method.mask import build_mask, occlude
from ada_repro.pipeline.kernel import numerics
from ada_repro.train.augment import augment, draw
from ada_repro.train.training import fast_bf16, new_state, predict, train_epoch

warnings.filterwarnings("ignore")  # Captum's and MONAI's, at every call

LAST = torch.channels_last
FAST = torch.bfloat16 if fast_bf16(DEVICE) else torch.float32
PRECISION = str(FAST).removeprefix("torch.")


def equal(ours, theirs, tolerance, what):
    "Stop unless both have done the same."
    ours, theirs = (torch.as_tensor(np.asarray(v)).double() for v in (ours, theirs))
    assert ours.shape == theirs.shape and (ours - theirs).abs().max() <= tolerance, (
        f"{what}: up to {(ours - theirs).abs().max():.3g} apart"
    )


def same_logits(ours, theirs, slices):
    "Two networks of equal weights say the same, up to the precision that ours trains in."
    with torch.no_grad(), torch.autocast(DEVICE, torch.bfloat16, enabled=torch.bfloat16 == FAST):
        mine = ours.eval()(slices.images[:2].contiguous(memory_format=LAST))
    with torch.no_grad():
        other = theirs.eval()(slices.images[:2])
    equal(mine.float().cpu(), other.cpu(), 0.05 * max(1, other.abs().max().item()), "logits")


# Training
def training_width_64():
    "Width 64 at 200 x 200, batch 16, augmentation included."
    n = 16 if DEVICE == "cpu" else 256
    slices, ours = simulated(n, 200, 0.25), new_state(64, 0.5, 0.4, 0, 0.001)
    model = peers.PlainUNet(64).to(DEVICE)
    model.load_state_dict(ours.model.state_dict())
    same_logits(ours.model, model, slices)
    optimizer, loader = torch.optim.Adam(model.parameters(), lr=0.001), peers.ancestor_loader(slices, 16)

    def theirs():
        for _ in range(n // 16):
            peers.plain_step(model.train(), optimizer, *(t.to(DEVICE) for t in next(loader)))

    limit_ms = 1e3 * training_flop(64, 200, n) / matrix_peak(FAST)
    mine = {f"train_epoch, {PRECISION}": lambda: train_epoch(ours, slices, None, 0, 16, {}, "off")}
    yield from rows(
        f"training, width 64, 200 x 200, {n} images", mine, {"the ancestor's loop, float32": theirs}, limit_ms, rest_s=3
    )


def compiled_epoch(state, slices):
    "An epoch with `machine: {compile: true}`."
    with patch.dict(os.environ, numerics(threads=0, compile=True)):
        train_epoch(state, slices, None, 0, 8, {}, "off")


def training_narrow(width):
    "The shape of the laptop profile, in any width."
    slices, ours = simulated(64, 80, 0.5), new_state(width, 0.05, 0.4, 0, 0.005)
    model = peers.PlainUNet(width, 0.05).to(DEVICE)
    model.load_state_dict(ours.model.state_dict())
    same_logits(ours.model, model, slices)
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=0.005), named_generator(0, "plain")

    def theirs():
        for i in torch.randperm(64, generator=generator).split(8):
            x, y = augment(slices.images[i], slices.targets[i, :1], draw(8, 80, generator, 0.5))
            peers.plain_step(model.train(), optimizer, x, y)

    limit_ms = 1e3 * training_flop(width, 80, 64) / matrix_peak(FAST)
    mine = {f"train_epoch, {PRECISION}": lambda: train_epoch(ours, slices, None, 0, 8, {}, "off")}
    if not compiler_fault():
        mine[f"train_epoch, {PRECISION}, compiled"] = partial(
            compiled_epoch, new_state(width, 0.05, 0.4, 0, 0.005), slices
        )
    work = f"training, width {width}, 80 x 80, batch 8, 64 images, one thread"
    yield from rows(work, mine, {"plain eager float32": theirs}, limit_ms)


@one_thread
def training_laptop():
    yield from training_narrow(8)


@one_thread
def training_width_16():
    yield from training_narrow(16)


# Augmentation
def same_movement(images, targets):
    "scipy, told to move as ours does, moves alike."
    drawn = draw(16, 200, named_generator(0, "same"), elastic_p=0)
    x, y = augment(images, targets, drawn)
    for i in range(4):
        shift = drawn.shift[i].flip(0).numpy() * 200
        image, target = peers.scipy_move(
            images[i, 0].cpu().numpy(),
            targets[i, 0].cpu().numpy(),
            np.deg2rad(drawn.rotation[i].item()),
            drawn.scale[i].item(),
            shift,
        )
        equal(x[i, 0, 20:180, 20:180].cpu(), image[20:180, 20:180] + drawn.channel[i].item(), 0.01, "images moved")
        assert (y[i, 0].cpu().numpy() != target).mean() < 1e-4


def augmentation():
    "Table 2's augmentation, a batch of 16 at 200 x 200."
    slices, generator, rng = simulated(16, 200, 0.25), named_generator(0, "bench"), named_rng("bench")
    images, targets = slices.images, slices.targets[:, :1]
    same_movement(images, targets)
    cpu = [(x[0].numpy(), y[0].numpy()) for x, y in zip(images.cpu(), targets.cpu(), strict=True)]
    monai, kornia, floats = peers.monai_augment(), peers.kornia_augment(), targets.float()
    runs = {
        "scipy per image": lambda: [peers.scipy_augment(x, y, rng) for x, y in cpu],
        "MONAI": lambda: [monai(x, y) for x, y in zip(images.cpu(), floats.cpu(), strict=True)],
        "kornia": lambda: kornia(images, floats),
    }
    moved = [
        np.stack([y for _, y in runs["scipy per image"]()]),
        torch.stack([pair["target"][0] for pair in runs["MONAI"]()]),
        runs["kornia"]()[1][:, 0].cpu(),
    ]
    for y in moved:
        assert 0.9 < np.asarray(y).sum() / targets.sum().item() < 1.1, "a peer loses grey matter"
    yield from rows(
        "augmentation of 16 images, 200 x 200",
        {"augment": lambda: augment(images, targets, draw(16, 200, generator))},
        runs,
    )


# Windows
def windows():
    "Windows and holes for 64 maps."
    maps, images = (
        torch.rand(64, 200, 200, generator=named_generator(0, "maps")).to(DEVICE),
        torch.ones(64, 1, 200, 200, device=DEVICE),
    )

    def ours():
        return occlude(images, build_mask(maps, 20))

    theirs = {
        "Python-loop integral image": lambda: peers.loop_occlude(images, maps, 20),
        "avg_pool2d + argmax": lambda: peers.pooled_occlude(images, maps, 20),
    }
    for name, f in theirs.items():
        equal(ours().cpu(), f().cpu(), 0, name)
    yield from rows("windows and holes, 64 maps, 200 x 200, z = 20", {"build_mask, occlude": ours}, theirs)


def our_images(method, model, slices, size):
    "New images of one cycle."
    corners, _ = arm_windows(method, model, slices, size, named_generator(0, "windows"), "none")
    return occlude(slices.images, kept(corners, size, slices.consensus, "none"))


def peers_images(method, model, slices, size):
    "The same, image by image."
    new = []
    for x, target in zip(slices.images, slices.consensus, strict=True):
        saliency = peers.captum_map(model, x[None].requires_grad_(), target[None, None].float(), method)
        new.append(peers.loop_occlude(x[None].detach(), saliency.float(), size))
    return torch.cat(new)


def new_images(model, slices, size, name):
    "ADA's new images of one cycle, each method."
    for method in METHODS:
        ours = partial(our_images, method, model, slices, size)
        theirs = partial(peers_images, method, model, slices, size)
        differ = (ours() != theirs()).flatten(1).any(1).float().mean().item()
        assert differ <= 0.1, f"{method}: {differ:.0%} of the holes lie elsewhere"
        yield from rows(
            f"new images of a cycle, {method}, {name}, {len(slices)} images",
            {"arm_windows": ours},
            {"Captum one by one, Python-loop windows": theirs},
        )


def new_images_width_64():
    model, slices = wide()
    yield from new_images(model, first(slices, 2 if DEVICE == "cpu" else 32), 20, "width 64, 200 x 200")


@one_thread
def new_images_laptop():
    model, slices = baseline()
    yield from new_images(model, first(slices, 16), 10, "width 8, 80 x 80, one thread")


# Robustness
def means(rows):
    "The means of Table 4."
    part = per_slice(rows.assign(arm="a", seed=0, weights="best"))
    return part[["DSC", "HSD", "TPR", "TNR", "PPV"]].mean()


def table4(model, slices, size, name):
    "All cells, all slices, all metrics; in both precisions."
    copies = slices.images[:1].expand(32, -1, -1, -1)
    batch = min((4, 16, 32), key=lambda b: seconds(lambda: predict(model, copies, 0.5, b)))

    def theirs():
        return peers.monai_table4(model, slices, size, 0.5, batch)

    mine, other = means(evaluate(model, slices, size, 5)[0]), theirs()
    equal(mine, [other[k] for k in mine.index], 1e-3, "Table 4")
    ours = {
        f"evaluate, {p}": lambda p=p: evaluate(model, slices, size, 5, precision=p) for p in ("float32", "bfloat16")
    }
    yield from rows(
        f"Table 4, {name}, slices: {len(slices)}", ours, {f"all copies at once in batches of {batch}, MONAI": theirs}
    )


def table4_width_64():
    model, slices = wide()
    yield from table4(model, first(slices, 1 if DEVICE == "cpu" else 16), 20, "width 64, 200 x 200, 100 cells")


@one_thread
def table4_laptop():
    model, slices = baseline()
    yield from table4(model, first(slices, 8), 10, "width 8, 80 x 80, 64 cells, one thread")


def bf16_effect():
    "What bfloat16 does to the means of Table 4."
    model, slices = baseline()
    size, both = slices.images.shape[-1] // 8, {}
    for precision in ("float32", "bfloat16"):
        scores, _ = evaluate(model, slices, size, 5, precision=precision)
        both[precision] = means(scores)
    return pd.DataFrame(both).T.assign(slices=len(slices)).rename_axis("precision").reset_index()


# Distances
def hausdorff():
    "The Hausdorff distance of 60 pairs of small masks at 200 x 200."
    _, targets = phantom_slices(60, 200, 0.25, seed=0)
    pairs = []
    for i, (first_rater, second_rater, *_) in enumerate(targets.numpy()):
        pairs.append((first_rater, np.roll(second_rater, (i % 3, i % 5), (0, 1))))

    def each(distance):
        return [distance(pred, target, (0.25, 0.25)) for pred, target in pairs]

    mine, theirs = each(hausdorff_distance), {}
    tolerances = {peers.monai_hausdorff: 1e-5, peers.medpy_hausdorff: 1e-5}
    tolerances[peers.surface_hausdorff] = 0.25  # it draws its boundary between the pixels
    for distance, tolerance in tolerances.items():
        values, name = each(distance), distance.__doc__.rstrip(".")
        equal(mine, values, tolerance, name)
        if differ := int((np.abs(np.subtract(mine, values)) > 1e-5).sum()):
            name += f" ({differ} values differ)"
        theirs[name] = partial(each, distance)
    ours = {"hausdorff_distance": partial(each, hausdorff_distance)}
    yield from rows("Hausdorff distance, 60 pairs, 200 x 200", ours, theirs)


# Tables
ROWS = [
    hausdorff,
    augmentation,
    windows,
    training_laptop,
    training_width_16,
    table4_laptop,
    new_images_laptop,
    new_images_width_64,
    training_width_64,
    table4_width_64,
]
GOALS = {  # at least this many times as fast as the peer
    "training, width 64": 3,
    "training, width 8": 2,
    "training, width 16": 2,
    "augmentation": 1.5,
    "windows and holes/Python": 200,
    "windows and holes/avg": 10,
    "new images/width 64": 1.5,
    "new images/width 8": 4,
    "Table 4/evaluate, float32": 2,
    "Table 4/evaluate, bfloat16": 4,
    "Hausdorff": 1,
}


def goal(r):
    "What the work was to reach."
    row = f"{r.work} {r.ours} {r.peer}"
    return next(factor for name, factor in GOALS.items() if all(part in row for part in name.split("/")))


def number(value, unit=""):
    "Three digits, or all before the point; nothing where it was not measured."
    if np.isnan(value):
        return ""
    return f"{value:.3g}{unit}" if value < 100 else f"{value:.0f}{unit}"


def readable(table):
    "The results as the page shows them."
    lines = [
        [
            r.work,
            r.ours,
            r.peer,
            number(r.ours_ms),
            number(r.peer_ms),
            number(r.ratio, " x"),
            f"{goal(r)} x",
            number(r.limit_ms),
            number(100 * r.share_of_limit, " %"),
        ]
        for r in table.itertuples()
    ]
    heads = ["work", "ours", "peer", "ours (ms)", "peer (ms)", "ratio", "at least", "limit (ms)", "share of limit"]
    return markdown(heads, lines) + f"\n\nMachine: {table.machine.iloc[0]}, {table.date.iloc[0]}."


def markdown(names, rows):
    "A table."
    return "\n".join("| " + " | ".join(map(str, r)) + " |" for r in [names, ["---"] * len(names), *rows])


def short(value):
    "Four digits of a number; anything else as it is."
    return f"{value:.4g}" if isinstance(value, float) else value


def frame(table):
    "A data frame as a table of the page."
    return markdown(table.columns, table.astype(object).map(short).values.tolist())


def publish(parts):
    "Write each part into the page, between its markers."
    page = ROOT / "docs" / "benchmarks.md"
    text = page.read_text()
    for name, part in parts.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        assert mark, f"docs/benchmarks.md has no place for {name}"
        _, end, after = rest.partition("<!-- end -->")
        text = f"{before}{mark}{part}\n{end}{after}"
    page.write_text(text)


def main(*names):
    chosen = [f for f in ROWS if not names or f.__name__ in names]
    table = pd.DataFrame(chain.from_iterable(f() for f in chosen))
    if names:
        return
    save_table(table, ROOT / "benchmarks" / "results.csv", "%.5g")
    slopes = growth.table()
    save_table(slopes, ROOT / "benchmarks" / "growth.csv", "%.4g")
    publish(
        {
            "results": readable(table),
            "growth": frame(slopes),
            "bf16": frame(bf16_effect()),
            "shares": frame(shares.table()),
            "stages": frame(read_table(ROOT / "benchmarks" / "repro.csv")),
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
