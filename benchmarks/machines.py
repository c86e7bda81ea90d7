"""How far another kind of arithmetic moves a result, everything else being equal.

`python benchmarks/machines.py` writes benchmarks/machines.csv.
"""

import hashlib
import json
import os
import subprocess
import sys

import pandas as pd
import torch

from ada_repro.core import ROOT, whole_file
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.data.tables import save_table
from ada_repro.train import training

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}  # of PyTorch's own loops, of its convolutions
KINDS = {  # name -> what the process is told
    "one thread": {},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "float32": {"FLOAT32": "1"},
    "AVX2, float32": AVX2 | {"FLOAT32": "1"},
}  # where there is no AVX-512 there is no fast bfloat16
SEEDS, TRAIN, VALIDATE, EPOCHS = (0, 1, 2), 96, 48, 20


def history(
    seed: int,  # Of the weights and of all draws; the slices are always the same
) -> dict:  # DSC of the last epoch, and a hash of the weights
    "The laptop profile's baseline on fewer slices, for fewer epochs."
    images, targets = phantom_slices(TRAIN + VALIDATE, px=80, spacing_mm=0.5, seed=0)
    table = pd.DataFrame({"split": ["train"] * TRAIN + ["val"] * VALIDATE, "spacing_mm": 0.5})
    data, validation = (Slices(images, targets, table).subset(split) for split in ("train", "val"))
    state = training.new_state(width=8, dropout=0.05, bn_momentum=0.4, seed=seed, lr=0.005)
    *_, last = training.train(
        state, data, validation, "none", seed, EPOCHS, cycles=0, ada_epochs=0, size=10, batch_size=8
    )
    weights = b"".join(tensor.numpy().tobytes() for tensor in training.cpu_weights(state.model).values())
    return {"DSC": last["DSC"], "weights": hashlib.sha256(weights).hexdigest()[:8]}


def never(
    device,  # Whichever
) -> bool:  # False
    "No device is fast in bfloat16."
    return False


def child(
    seed: str,  # A number
):
    "Train in this process, and print the outcome."
    if os.environ.get("FLOAT32"):
        training.fast_bf16 = never
    how = {
        "isa": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "bfloat16": training.fast_bf16("cpu"),
    }
    print(json.dumps(history(int(seed)) | how))


def main():
    "A process for each kind and seed; print how far each is from one thread."
    rows = []
    for kind, told in KINDS.items():
        for seed in SEEDS:
            env = os.environ | {"OMP_NUM_THREADS": "1"} | told
            done = subprocess.run(
                [sys.executable, __file__, str(seed)], env=env, stdout=subprocess.PIPE, text=True, check=True
            )
            rows.append(dict(kind=kind, seed=seed, **json.loads(done.stdout)))
            print(*rows[-1].values(), flush=True)
    table = pd.DataFrame(rows)
    first = table[table.kind == "one thread"].set_index("seed")
    table["moved"] = (table.DSC - table.seed.map(first.DSC)).round(3)
    with whole_file(ROOT / "benchmarks" / "machines.csv") as tmp:
        save_table(table.round(3), tmp)
    moved = table.assign(far=table.moved.abs()).groupby("kind", sort=False).far.agg(["mean", "max"])
    print("\nHow far the DSC of the last epoch is from that of one thread", moved.round(2).to_string(), sep="\n")
    print(f"Over seeds it lies between {first.DSC.min():.2f} and {first.DSC.max():.2f}")


if __name__ == "__main__":
    if sys.argv[1:]:
        child(*sys.argv[1:])
    else:
        main()
