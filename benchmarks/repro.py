"""How long the whole takes: `make repro` on a fresh copy of the checkout, then `dvc repro` when there is nothing to do.

Writes benchmarks/repro.csv, with what each stage recorded; `make bench` puts it into the page.
The environment is this one's. Alone on the machine, please.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pandas as pd

from ada_repro.core import ROOT, whole_file
from ada_repro.data.tables import save_table


def copy_of(
    root: Path,  # The checkout
    to: Path,  # Where the copy goes
):
    "The committed files, and the same environment."
    subprocess.run(["git", "clone", "-q", root, to], check=True)
    (to / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != "stamp":
            (to / ".venv" / part.name).symlink_to(part)
    (to / ".venv" / "stamp").touch()


def timed(
    command: list,  # Words
    folder: Path,  # Where it runs
):  # Seconds, and the peak memory of the largest process, MB
    "Run a command to its end."
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, stdout=sys.stderr)
    _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main():
    with TemporaryDirectory() as tmp:
        folder = Path(tmp) / "copy"
        copy_of(ROOT, folder)
        seconds, mb = timed(["make", "repro"], folder)
        idle_seconds, idle_mb = zip(
            *(timed([sys.executable, "-m", "dvc", "repro", "-q"], folder) for _ in range(5)), strict=True
        )
        rows = [("make repro", seconds, mb), ("dvc repro, nothing to do", median(idle_seconds), max(idle_mb))]
        for path in sorted((folder / "data" / "executed").glob("*.json")):
            rows.append((path.stem, *json.loads(path.read_text()).values()))
    table = pd.DataFrame(rows, columns=["what", "seconds", "peak_memory_mb"]).round(1)
    with whole_file(ROOT / "benchmarks" / "repro.csv") as to:
        save_table(table, to)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
