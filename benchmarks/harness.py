"How time is taken, what the limit is, and the slices and networks that all rows work on."

import ctypes
import gc
import os
import platform
import time
from datetime import date
from functools import cache
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from ada_repro.core import best_device
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.method.unet import UNet
from ada_repro.pipeline.kernel import PLAIN
from ada_repro.train.training import new_state, train_epoch
from ada_repro.train.weights import load_weights

DEVICE, REPEATS = best_device(), int(os.environ.get("REPEATS", 5))
COLUMNS = ["work", "ours", "peer", "ours_ms", "peer_ms", "ratio", "limit_ms", "share_of_limit", "machine", "date"]
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of mallopt, malloc.h
THEIR_MMAP, THEIR_TRIM = 32 * 2**20, 64 * 2**20  # what glibc's own thresholds grow to


# Time
def finished():
    "Wait for the device."
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(f):
    "Seconds that a call takes."
    finished()
    start = time.perf_counter()
    f()
    finished()
    return time.perf_counter() - start


def machine():
    "The machine, in words."
    if DEVICE == "cuda":
        return torch.cuda.get_device_name()
    cpus = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in cpus.splitlines() if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{name} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def keep_memory(as_a_stage):
    "Keep freed memory as a stage does, or as any other process; where the C library is not glibc, both are alike."
    if platform.libc_ver()[0] == "glibc":
        ours = int(PLAIN["MALLOC_MMAP_THRESHOLD_"])
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, ours if as_a_stage else THEIR_MMAP)
        ctypes.CDLL(None).mallopt(TRIM_THRESHOLD, ours if as_a_stage else THEIR_TRIM)


def timed(calls, as_a_stage):
    "Milliseconds of each call, by name."
    keep_memory(as_a_stage)
    return {name: 1e3 * seconds(f) for name, f in calls.items()}


def rows(work, ours, theirs, limit_ms=np.nan, rest_s=0):
    """A row for each of ours beside each peer, both by name.

    The medians of alternating calls, after one call of each that does not count.
    """
    times = []
    for _ in range(REPEATS + 1):
        gc.collect()
        times.append(timed(ours, True) | timed(theirs, False))
        time.sleep(rest_s)  # a peer's worker may still be busy
    ms = {name: median(t[name] for t in times[1:]) for name in times[0]}
    for mine, peer in product(ours, theirs):
        ratio, share = ms[peer] / ms[mine], limit_ms / ms[mine]
        row = (work, mine, peer, ms[mine], ms[peer], ratio, limit_ms, share, machine(), str(date.today()))
        values = dict(zip(COLUMNS, row, strict=True))
        print(*(f"{v:.4g}" if isinstance(v, float) else v for v in values.values()), sep=" | ", flush=True)
        yield values


def one_thread(work):
    "A benchmark on one thread, as a stage of the laptop profile runs."

    def on_one(*args):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield from work(*args)
        finally:
            torch.set_num_threads(threads)

    on_one.__name__ = work.__name__
    return on_one


# The limit
def matrix_peak(dtype):
    "Operations a second in the best of ten large matrix products."
    n = 8192 if DEVICE == "cuda" else 3072
    a, b = torch.randn(2, n, n, device=DEVICE).to(dtype)
    return 2 * n**3 / min(seconds(lambda: a @ b) for _ in range(10))


def training_flop(width, px, batch):
    "Operations of one training step."
    with torch.device("meta"):
        model, x = UNet(width), torch.empty(batch, 1, px, px)
    with FlopCounterMode(display=False) as count:
        model(x).sum().backward()
    return count.get_total_flops()


# What all rows work on
def simulated(n, px, spacing_mm):
    "Slices of the phantom."
    images, targets = phantom_slices(n, px, spacing_mm, seed=0)
    subjects = [f"s{i // 4}" for i in range(n)]
    table = pd.DataFrame(
        {
            "site": "1",
            "subject": subjects,
            "person": subjects,
            "slice": range(n),
            "spacing_mm": spacing_mm,
            "split": "train",
        }
    )
    return Slices(images.to(DEVICE), targets.to(DEVICE), table)


def trained(width, slices, steps, batch):
    "A network that has learned enough to draw a spot where grey matter is."
    state = new_state(width, 0.0, 0.4, 0, 0.01)
    for _ in range(steps * batch // len(slices.images)):
        train_epoch(state, slices, None, 0, batch, {}, "off")
    return state.model.eval()


@cache
def wide():
    "A network of the paper's width that has learned as much, and its slices."
    slices = simulated(32 if DEVICE == "cpu" else 64, 200, 0.25)
    return trained(64, slices, 32 if DEVICE == "cpu" else 200, 2), slices


@cache
def baseline():
    "The published baseline, and slices of the phantom."
    return load_weights("baseline").to(DEVICE), simulated(48, 80, 0.5)


def first(slices, n):
    "The first n of them."
    return Slices(slices.images[:n], slices.targets[:n], slices.table.iloc[:n])
