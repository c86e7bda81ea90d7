"""Do processors of two makers compute the same bits, and if not, which operation parts first?

`python benchmarks/exact.py` hashes what each operation of a training step gives, in float32 on one thread with AVX2
kernels, and adds a column for this machine to benchmarks/exact.csv. MKL's own switch is tried with two values.
"""

import hashlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

KERNELS = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"}
SWITCHES = ("AVX2", "COMPATIBLE")  # of MKL_CBWR
TABLE = Path(__file__).with_suffix(".csv")


def digest(*tensors):
    "Twelve hexadecimal digits for the bits of some tensors."
    content = b"".join(value.detach().contiguous().numpy().tobytes() for value in tensors)
    return hashlib.sha256(content).hexdigest()[:12]


def operations():
    "Name of each operation of a step, in the order of a step -> what it gives for inputs drawn once."
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(8, 8, 80, 80).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(16, 8, 3, 3, requires_grad=True)
    noise, spread = torch.randn(8, 40, 40), torch.randn(80, 40)
    grid = torch.rand(8, 80, 80, 2) * 2 - 1
    yield "random numbers", (x, weight, noise, grid)
    yield "matrix product (elastic field)", (spread @ noise @ spread.T,)
    yield "grid sampling (augmentation)", (F.grid_sample(x.detach(), grid, align_corners=False),)
    convolved = F.conv2d(x, weight, padding=1)
    yield "convolution", (convolved,)
    yield "convolution, backward", torch.autograd.grad(convolved, (x, weight), convolved.detach())
    norm = torch.nn.BatchNorm2d(8)
    normed = norm(x)
    yield "batch norm", (normed, norm.running_mean, norm.running_var)
    yield "batch norm, backward", torch.autograd.grad(normed, (x, norm.weight), normed.detach() ** 2)
    larger = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    yield "upsampling", (larger,)
    yield "upsampling, backward", torch.autograd.grad(larger, x, larger.detach())
    yield "sigmoid", (x.sigmoid(),)
    yield "sum", (x.sum(),)
    parameter = torch.nn.Parameter(torch.randn(1000))
    parameter.grad = torch.randn(1000)
    torch.optim.Adam([parameter], lr=0.01, fused=True).step()
    yield "Adam", (parameter,)


def processor():
    "What the processor calls itself."
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return named[1] if named else platform.processor()


def column(switch):
    "The hashes of this machine, in a process that had the switches before anything was imported."
    env = os.environ | KERNELS | {"MKL_CBWR": switch}
    done = subprocess.run([sys.executable, __file__, "hashes"], env=env, capture_output=True, text=True, check=True)
    return dict(line.split("\t") for line in done.stdout.splitlines())


def main():
    import pandas as pd

    from ada_repro.data.tables import read_table, save_table

    table = read_table(TABLE, text=None).set_index("operation") if TABLE.exists() else pd.DataFrame()
    columns = pd.DataFrame({f"{processor()}, MKL_CBWR={switch}": column(switch) for switch in SWITCHES})
    columns.index.name = "operation"
    others = [name for name in table if name not in columns]
    table = table[others].join(columns, how="outer").loc[columns.index] if others else columns
    save_table(table.reset_index(), TABLE)
    print(table.to_string())


if __name__ == "__main__":
    if sys.argv[1:] == ["hashes"]:
        for name, tensors in operations():
            print(name, digest(*tensors), sep="\t")
    else:
        main()
