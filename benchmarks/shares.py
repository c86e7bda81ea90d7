"""Where the time goes: the share of each kind of operation in a training step and in Table 4 of one slice.

`python benchmarks/shares.py` prints it and writes it into docs/benchmarks.md, as `make bench` does.
One thread, the laptop's shape. The profiler makes short operations look longer than they are.
"""

import pandas as pd
import torch
from harness import first, simulated, trained
from torch.profiler import ProfilerActivity, profile, record_function

from ada_repro.measure.robustness import evaluate
from ada_repro.train.training import new_state, train_epoch

KINDS = {  # of operations; what their names hold, the first that fits
    "convolution": ("conv",),
    "batch norm": ("batch_norm", "addcmul"),
    "ReLU": ("relu", "threshold", "clamp_min"),
    "dropout's draws": ("dropout", "bernoulli"),
    "pooling and upsampling": ("max_pool", "upsample"),
    "augmentation's resampling": ("grid_sampler", "affine_grid", "aten::mm", "aten::bmm"),
    "optimiser": ("adam",),
    "copies, cuts and joins": (
        "copy",
        "cat",
        "index",
        "clone",
        "contiguous",
        "fill",
        "zero",
        "gather",
        "repeat",
        "empty",
    ),
    "sums and products, dropout among them": (
        "mul",
        "add",
        "sub",
        "div",
        "sum",
        "mean",
        "sigmoid",
        "bitwise",
        "neg",
        "pow",
        "sqrt",
    ),
}
PYTHON = "Python"


def kind_of(
    name,  # Of an operation, as the profiler calls it
):
    "One of `KINDS`, or the rest."
    if name == PYTHON:
        return "Python, numpy and pandas"
    found = [kind for kind, words in KINDS.items() if any(word in name.lower() for word in words)]
    return found[0] if found else "all else"


def shares(
    work,  # A function
    times=5,  # How often it is done
):  # Kind -> share of the processor time, in percent
    "Where the time of some work goes."
    work()
    with profile(activities=[ProfilerActivity.CPU]) as seen, record_function(PYTHON):
        for _ in range(times):
            work()
    table = pd.DataFrame([(kind_of(op.key), op.self_cpu_time_total) for op in seen.key_averages()])
    each = table.groupby(0)[1].sum()
    return 100 * each / each.sum()


def table():
    "Both profiles, side by side."
    slices, state = simulated(8, 80, 0.5), new_state(8, 0.05, 0.4, 0, 0.005)
    model, one = trained(8, simulated(48, 80, 0.5), 90, 8), first(slices, 1)
    columns = {
        "training step, batch 8 (%)": shares(lambda: train_epoch(state, slices, None, 0, 8, {}, "off"), 20),
        "Table 4 of a slice, 64 cells (%)": shares(lambda: evaluate(model, one, 10, 5)),
    }
    both = pd.DataFrame(columns).fillna(0).sort_values(list(columns)[0], ascending=False)
    return both.round(1).rename_axis("kind of operation").reset_index()


if __name__ == "__main__":
    from bench import frame, publish

    torch.set_num_threads(1)
    both = table()
    publish({"shares": frame(both)})
    print(both.to_string(index=False))
