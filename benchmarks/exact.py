"""Does this machine compute the bits that ours did? `make exact`.

Runs the smoke profile with `machine: {exact: true}` in a fresh copy of the checkout, and holds the weights of its
networks and Tables 3 and 4 against benchmarks/exact.csv, line by line. First come the operations of a training step,
each by itself: if bits differ, they say where. `python benchmarks/exact.py write` makes the file anew.
"""

import hashlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from repro import copy_of

from ada_repro.core import ROOT
from ada_repro.data.tables import read_table, save_table
from ada_repro.pipeline.kernel import numerics

TABLE = Path(__file__).with_suffix(".csv")
ON_SMOKE = {r"profile: \*\w+": "profile: *smoke", r"data: \*\w+": "data: *phantom", "exact: false": "exact: true"}


def digits(content):
    "Twelve hexadecimal digits for some bytes."
    return hashlib.sha256(content).hexdigest()[:12]


def digest(*tensors):
    "The same for the bits of some tensors."
    return digits(b"".join(value.detach().contiguous().numpy().tobytes() for value in tensors))


def operations():
    "Name of each operation of a step, in the order of a step -> what it gives for inputs drawn once."
    import torch
    from torch.nn import functional as F

    from ada_repro.train.augment import product, spread_matrix

    torch.manual_seed(0)
    x = torch.randn(8, 8, 80, 80).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(16, 8, 3, 3, requires_grad=True)
    spread = spread_matrix(80, 2)
    noise = torch.randn(8, spread.shape[1], spread.shape[1])
    grid = torch.rand(8, 80, 80, 2) * 2 - 1
    yield "random numbers", (x, weight, noise, grid)
    yield "elastic field", (spread, product(product(spread, noise), spread.T))
    yield "grid sampling", (F.grid_sample(x.detach(), grid, align_corners=False),)
    convolved = F.conv2d(x, weight, padding=1)
    yield "convolution", (convolved,)
    yield "convolution, backward", torch.autograd.grad(convolved, (x, weight), convolved.detach())
    norm = torch.nn.BatchNorm2d(8)
    normed = norm(x)
    yield "batch norm", (normed, norm.running_mean, norm.running_var)
    yield "batch norm, backward", torch.autograd.grad(normed, (x, norm.weight), normed.detach() ** 2)
    yield "dropout", (F.dropout2d(x, 0.5),)
    larger = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    yield "upsampling", (larger,)
    yield "upsampling, backward", torch.autograd.grad(larger, x, larger.detach())
    yield "sigmoid", (x.sigmoid(),)
    yield "sum", (x.sum(),)
    parameter = torch.nn.Parameter(torch.randn(1000))
    parameter.grad = torch.randn(1000)
    torch.optim.Adam([parameter], lr=0.01, fused=True).step()
    yield "Adam", (parameter,)


def of_operations():
    "What -> digits, from a process that had the switches before anything was imported."
    env = os.environ | numerics(threads=1, exact=True)
    command = [sys.executable, __file__, "operations"]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return dict(line.split("\t") for line in done.stdout.splitlines())


def of_smoke_run(folder):
    "What -> digits, from a run of the whole graph in a fresh copy of the checkout."
    copy_of(ROOT, folder)
    params = folder / "params.yaml"
    text = params.read_text()
    for old, new in ON_SMOKE.items():
        text = re.sub(old, new, text)
    params.write_text(text)
    command = [sys.executable, "-m", "ada_repro.pipeline.start"]
    subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, stdout=sys.stderr, check=True)
    made = [*folder.glob("data/slices/*.npy"), *folder.glob("data/runs/*/last.safetensors")]
    made += folder.glob("figures/phantom-smoke/table[34].csv")
    return {path.relative_to(folder).as_posix(): digits(path.read_bytes()) for path in sorted(made)}


def processor():
    "What the processor calls itself."
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return named[1] if named else platform.processor()


def compare(made):
    "In words, whether all digits are those of the file; 1 if not."
    ours = read_table(TABLE).set_index("what")
    differ = [what for what in ours.index if made.get(what) != ours.digits[what]]
    there = ours.machine.iloc[0]
    if not differ:
        print(f"Equal to the last bit: {len(ours)} of {len(ours)}, here ({processor()}) and there ({there})")
        return 0
    print(f"{len(differ)} of {len(ours)} differ, here ({processor()}) and there ({there}): {', '.join(differ)}")
    return 1


def main(words):
    if words == ["operations"]:
        for name, tensors in operations():
            print(name, digest(*tensors), sep="\t")
        return 0
    made = of_operations()
    with TemporaryDirectory() as tmp:
        made |= of_smoke_run(Path(tmp) / "copy")
    if words == ["write"]:
        rows = [(what, told, processor()) for what, told in made.items()]
        save_table(pd.DataFrame(rows, columns=["what", "digits", "machine"]), TABLE)
    return compare(made)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
