"How time and memory grow: each case in a process of its own, each quantity doubled twice."

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

CASES = {"slices": (2, 4, 8), "image side": (40, 80, 160), "width": (4, 8, 16), "cells": (16, 32, 64)}


def work(what, n):
    "Something to do, a function, with n of what is counted."
    from harness import simulated

    from ada_repro.measure.occluded import predict_occluded
    from ada_repro.measure.robustness import evaluate
    from ada_repro.method.mask import occlusion_grid
    from ada_repro.train.training import new_state, train_epoch

    told = {"slices": 8, "image side": 80, "width": 8, "cells": 64} | {what: n}
    side = told["image side"]
    slices, state = simulated(told["slices"], side, 40 / side), new_state(told["width"], 0.0, 0.4, 0, 0.01)
    if what == "slices":
        return lambda: evaluate(state.model, slices, 10, 5)
    if what == "cells":
        return lambda: predict_occluded(state.model, slices.images[:1], torch.tensor(occlusion_grid(80, 10)[:n]), 10)
    return lambda: train_epoch(state, slices, None, 0, 8, {}, "off")


def peak():
    "Megabytes that this process has held at most."
    status = Path("/proc/self/status")  # ru_maxrss begins with what the parent held
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(what, n):
    "Milliseconds, the median of five, and megabytes at the peak beyond what was there before."
    f = work(what, n)
    before, times = peak(), []
    for _ in range(6):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return {"ms": 1e3 * np.median(times[1:]), "mb": peak() - before}


def measured(what, n):
    "The same, in a process of its own."
    words = [sys.executable, __file__, what, str(n)]
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def exponent(values, measured):
    "The power with which a quantity grows."
    slope, _ = np.polyfit(np.log(values), np.log(np.maximum(measured, 1)), 1)
    return round(slope, 2)


def table():
    "A row per quantity: time and memory for each of three values, and the exponent fitted to each."
    rows = []
    for what, values in CASES.items():
        runs = [measured(what, n) for n in values]
        ms, mb = [r["ms"] for r in runs], [r["mb"] for r in runs]
        each = [" / ".join(f"{number:.4g}" for number in numbers) for numbers in (values, ms, mb)]
        rows.append([what, *each, exponent(values, ms), exponent(values, mb)])
    return pd.DataFrame(
        rows, columns=["what is doubled", "values", "ms", "memory_mb", "time_exponent", "memory_exponent"]
    )


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
