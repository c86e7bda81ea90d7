"""How well a network that has seen only phantoms finds grey matter in real cords.

`make realism RAW=folder`, after `make repro` on the phantom.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from safetensors.torch import load_file

from ada_repro.core import DATA, ROOT, DataError, Run, best_device, whole_file
from ada_repro.data.datasets import prepare
from ada_repro.data.tables import save_table
from ada_repro.evidence.intervals import seed_mean
from ada_repro.measure.metrics import dice_score
from ada_repro.train.runs import folder_hash, load_model
from ada_repro.train.training import predict


def phantom_run(
    run: Path,  # Folder of a finished run
    slices: Path,  # The slices it was trained on
) -> tuple:  # What the run was told, what the slices were made with
    "The records of a run that saw phantoms alone; `DataError` for any other."
    remedy = "Set `dataset: phantom` in params.yaml and run `make repro`"
    if not all((run / name).is_file() for name in ("run.json", "best.safetensors")):
        raise DataError(run, "holds no finished run", remedy)
    if not (slices / "report.json").is_file():
        raise DataError(slices, "holds no prepared slices", remedy)
    record, report = (json.loads(p.read_text()) for p in (run / "run.json", slices / "report.json"))
    if report["dataset"] != "phantom":
        raise DataError(slices, f"holds {report['dataset']} slices, not the phantom alone", remedy)
    if record["data"] != folder_hash(slices):
        raise DataError(run, f"was not trained on what is now in {slices}", remedy)
    return record["params"], report


def score_real(
    raw: Path,  # Folder of the gm_challenge data
    run: Path,  # Folder of a finished run
    slices: Path,  # The slices it was trained on
) -> pd.DataFrame:  # A row per slice, with its DSC
    "Every real slice, predicted by the run."
    told, report = phantom_run(run, slices)
    with TemporaryDirectory() as tmp:
        real = prepare("gm_challenge", raw, Path(tmp) / "slices", report["spacing_mm"], report["crop_px"])
    width = load_file(run / "best.safetensors")["head.weight"].shape[1]
    pred = predict(load_model(run / "best.safetensors", width), real.images.to(best_device()), told["threshold"]).cpu()
    print(
        f"\nTrained on simulated scans alone: width {width}, {report['crop_px']} px of {report['spacing_mm']} mm. "
        "Real scans: cropped around the manual cord mask, nothing else told."
    )
    return real.table.assign(seed=0, DSC=[dice_score(*pair) for pair in zip(pred, real.consensus, strict=True)])


def main(
    raw: Path = DATA / "raw" / "gm_challenge",  # Folder of the gm_challenge data
):
    "Write `benchmarks/realism.csv`, a row per session; print the means with their intervals by person."
    rows = score_real(Path(raw), DATA / "runs" / Run("baseline", "paper", 0).name, DATA / "slices")
    out = ROOT / "benchmarks" / "realism.csv"
    sessions = (
        rows.groupby("subject", sort=False)
        .agg(site=("site", "first"), slices=("slice", "size"), DSC=("DSC", "mean"))
        .reset_index()
        .round(2)
    )
    out.parent.mkdir(exist_ok=True)
    with whole_file(out) as tmp:
        save_table(sessions, tmp)
    print(sessions.to_string(index=False))
    people = rows.groupby("person").DSC.mean()
    low, high = seed_mean(people).ends()
    print(f"Mean DSC over {len(rows)} slices: {rows.DSC.mean():.1f}")
    print(f"Mean DSC over {len(people)} people: {people.mean():.1f}, 95 % interval over people {low:.1f} to {high:.1f}")
    print("One network was asked: the interval says nothing of other trainings, and little of the next scanner.")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except DataError as e:
        sys.exit(f"realism: {e}")
