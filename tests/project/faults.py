"""The long fault suite, `make faults`.

The graph of the smoke profile, with three arms, killed, crowded and starved, must end with the bits of an undisturbed
run. Writes faults.csv (fault, tried, survived) and the table of docs/promises.md. `--share 0.1` tries a tenth of
everything and writes nothing; `--only kills starts` runs parts again and replaces their rows.
"""

import argparse
import contextlib
import csv
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from hostile import CRAFTED, is_refused
from sharing import ENV, ROOT, copy_checkout, copy_of, hashes, memory_grown_mb

CSV, PAGE = ROOT / "tests" / "project" / "faults.csv", ROOT / "docs" / "promises.md"
ARMS = ["gradcam", "guided_backprop", "random"]
FIRST = re.compile(r"Running stage '(.+?)'")
IS_BUSY = r"repro: \S+ is already running, as process \d+\. Wait for it, or stop it\n"
MADE = ["data/arms", "data/raw", "data/slices", "data/runs", "data/scores", "data/iou", "figures/phantom-smoke"]
LOOPBACK = """
import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 1))
os.execv(sys.argv[1], sys.argv[1:])
"""  # brings up the network of one process

# Found by every Python process of a run. A kernel kills itself, and at times its runner, at the first checkpoint it
# writes; a stage has too little of something.
SITE = r"""
import os, resource, signal, sys
at, runner, limit = (os.environ.get(name) for name in ('CUT_AT', 'CUT_RUNNER', 'LIMIT'))
what = ' '.join(sys.orig_argv)
if limit and ('ada_repro.pipeline.kernel' in what or 'ada_repro.pipeline.stage' in what):
    kind, size = limit.split()
    resource.setrlimit(getattr(resource, kind), (int(size),)*2)
if at and 'ada_repro.pipeline.kernel' in what:
    from pathlib import Path
    write, sync, rename = Path.write_bytes, os.fsync, os.replace
    def die():
        open(os.environ['CUT_SAID'], 'a').write(at + '\n')
        if runner: os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    def is_checkpoint(path): return '/data/checkpoints/' in str(path)
    def cut(path, content):
        if not is_checkpoint(path): return write(path, content)
        if at[0] in '01': write(path, content[:int(float(at)*len(content))]); die()
        write(path, content)
        if at == 'sync': os.fsync = lambda fd: die()
        if at == 'rename': os.replace = lambda a, b: die()
        if at == 'renamed': os.replace = lambda a, b: (rename(a, b), die())
    Path.write_bytes = cut
"""


def clone(to):
    "What a fresh clone holds, on the smoke profile with three arms."
    copy_checkout(to)
    for lock in to.rglob("dvc.lock"):
        lock.unlink()
    shutil.rmtree(to / "figures" / "phantom-smoke", ignore_errors=True)
    subprocess.run(["git", "init", "-q"], cwd=to, check=True)
    params = to / "params.yaml"
    text, n = re.subn(r"(?m)^profile: \*\w+", "profile: *smoke", params.read_text())
    before, smoke = text.split("\nsmoke: ")
    smoke, m = re.subn(r"study: {arms: \*arms}", f"study: {{arms: [{', '.join(ARMS)}]}}", smoke, count=1)
    assert n == m == 1
    params.write_text(f"{before}\nsmoke: {smoke}")


def copy_of_checkout(to):
    "A clone, taken once, so that nobody can change it meanwhile."
    once = to.parent / "clone"
    if not once.exists():
        clone(once)
    return copy_of(once, to)


def outputs(folder):
    "SHA-256 of everything the graph makes."
    made = {}
    for part in MADE:
        for name, digest in hashes(folder / part).items():
            if not name.endswith(".gitignore"):  # DVC's
                made[f"{part}/{name}"] = digest
    assert len(made) > 50, sorted(made)
    return made


def same(made, expected):
    "Whether the bits are the same; if not, which files differ."
    if parted := sorted(k for k in made.keys() | expected.keys() if made.get(k) != expected.get(k)):
        print("DIFFERENT", *parted, sep="\n  ", flush=True)
    return not parted


def site(work):
    "A folder for PYTHONPATH."
    (work / "site").mkdir(exist_ok=True)
    (work / "site" / "sitecustomize.py").write_text(SITE)
    return str(work / "site")


def no_litter(folder):
    return not list(folder.rglob("*.part")) and not list((folder / "data" / "checkpoints").glob("*/*"))


class Run:
    "A `dvc repro`, or what `make repro` runs, and when each of its stages began."

    def __init__(self, folder, *words, env=None, prefix=(), **kwargs):
        command = [*prefix, sys.executable, "-m", *(words or ("dvc", "repro"))]
        self.folder, self.lines, self.began = folder, [], []
        env = env or {}
        path = [env["PYTHONPATH"]] if "PYTHONPATH" in env else []
        path.append(str(folder))  # its own package, no other
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=ENV | env | {"PYTHONPATH": os.pathsep.join(path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **kwargs,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            if found := FIRST.search(line):
                self.began.append((time.time(), found[1]))

    @property
    def output(self):
        return "".join(self.lines)

    def stage(self):
        return self.began[-1][1] if self.began else None

    def wait(self):
        code = self.process.wait()
        self.reader.join(5)
        return code

    def at_work(self):
        "Whether a stage has begun: plain DVC says so, `make repro` notes what its command says."
        return self.began or any((self.folder / "data" / "logs").glob("*.log"))

    def wait_stage(self, patience_s=120):
        "Until a stage begins, or the run ends."
        end = time.time() + patience_s
        while not self.at_work() and self.process.poll() is None and time.time() < end:
            time.sleep(0.02)

    def tree(self):
        "dvc, the runner, the kernel, where they are there."
        found = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            found["dvc"] = [root]
            for process in root.children(recursive=True):
                words = " ".join(process.cmdline())
                if "-m ada_repro.pipeline.stage" in words:
                    found["runner"] = [process]
                if "-m ada_repro.pipeline.kernel" in words:
                    found["kernel"] = [process]
        return found


def kill(processes):
    for p in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            p.kill()
    psutil.wait_procs(processes, timeout=10)


def living(folder):
    "All that works in a checkout, whoever began it."
    return [
        p
        for p in psutil.process_iter(["cwd", "status"])
        if p.info["cwd"] == str(folder) and p.info["status"] != "zombie"
    ]


def kill_all(folder):
    "Whatever was begun while others were killed is killed too."
    while found := living(folder):
        kill(found)


class Book:
    "What was tried, what was survived, and how long the rest may take."

    def __init__(self, expected_s):
        self.rows, self.started, self.expected = {}, time.time(), expected_s

    def add(self, fault, survived, what=""):
        tried, kept = self.rows.get(fault, (0, 0))
        self.rows[fault] = tried + 1, kept + bool(survived)
        left = max(0.0, self.started + self.expected - time.time())
        counts = f"{tried + 1} tried, {kept + bool(survived)} survived {what}"
        spent = time.time() - self.started
        print(f"{spent:5.0f} s  {fault}: {counts}  (about {left / 60:.0f} min left)", flush=True)

    def keep(self, fault, fine):
        if fault in self.rows:  # of a small share not every kind is tried
            tried, survived = self.rows[fault]
            self.rows[fault] = tried, survived if fine else 0


def mended(folder, book, run):
    "Where DVC cannot read its own file, a look by what `make repro` runs makes it anew."
    if run.process.poll() in (None, 0) or not re.search("corrupted|dvc.lock|rwlock", run.output):
        return False
    look = Run(folder, "ada_repro.pipeline.start", "--dry")
    code = look.wait()
    book.add("DVC's own file cut off by a kill, mended by `make repro`", "made again" in look.output and code == 0)
    return True


def resume(folder, book, why, *words, tries=8):
    "Until it is done, by `dvc repro` or what else is named."
    for _ in range(tries):
        run = Run(folder, *words)
        if run.wait() == 0:
            return True
        mended(folder, book, run)
        time.sleep(1)
    print(why, run.output[-2000:])
    return False


def offline():
    "What puts a process into a network that holds nothing but itself; nothing where that is not permitted."
    prefix = ("unshare", "-rn", sys.executable, "-c", LOOPBACK)
    tried = subprocess.run([*prefix, sys.executable, "-c", ""], capture_output=True)
    return prefix if tried.returncode == 0 else ()


# Faults
def undisturbed(work, book):
    "The bits to end with, and how long each stage takes. Without a network, where that can be had."
    folder, prefix = copy_of_checkout(work / "undisturbed"), offline()
    run = Run(folder, prefix=prefix)
    assert run.wait() == 0, run.output[-3000:]
    if prefix:
        book.add("no network at all", True)
    began = [at for at, _ in run.began]
    ended = [*began[1:], time.time()]
    seconds = {}
    for (at, name), end in zip(run.began, ended, strict=True):
        seconds[name] = end - at
    return outputs(folder), seconds


def kills(work, book, expected, seconds, many, rng):
    "At a random moment of each stage in turn: everything at once, dvc alone, the runner alone, the kernel alone."
    folder, names = copy_of_checkout(work / "kills"), list(seconds)
    aims = sorted(i % len(names) for i in range(many))
    for n, aim in enumerate(aims):
        kind = ("everything", "dvc", "runner", "kernel")[n % 4]
        run = Run(folder)
        while run.process.poll() is None and (run.stage() is None or names.index(run.stage()) < aim):
            time.sleep(0.02)
        if mended(folder, book, run):
            run = Run(folder)
            run.wait_stage()
        time.sleep(rng.random() * seconds[names[aim]] * 0.95)
        alive, tree, at = run.process.poll() is None, run.tree(), run.stage()
        if not tree.get(kind):
            kind = "everything"
        if kind == "everything":
            kill_all(folder)
        else:
            kill(tree[kind])
        if kind == "dvc" and alive:
            orphan(folder, book)
        run.wait()
        book.add(f"kill -9 of {kind}", alive, f"in {at}")
    fine = resume(folder, book, "after kills") and same(outputs(folder), expected) and no_litter(folder)
    for kind in ("everything", "dvc", "runner", "kernel"):
        book.keep(f"kill -9 of {kind}", fine)


def orphan(folder, book):
    "dvc was killed, its stage works on: a second start names it; then it is left to end."
    second = Run(folder, "ada_repro.pipeline.start", "--dry")
    if second.wait() == 1:  # else its lock is not taken yet, and DVC speaks
        book.add("start beside an orphaned stage", is_busy(second.output), second.output)
    end = time.time() + 120
    while living(folder) and time.time() < end:
        time.sleep(0.1)


def is_busy(output):
    "Whether it is one line that names a process."
    return re.fullmatch(IS_BUSY, output) is not None


def start_kills(work, book, expected, seconds, many, rng):
    """Stages side by side. At a random moment everything is killed; or the start alone.

    Then the next one names who works on, or goes on itself.
    """
    folder, run = copy_of_checkout(work / "starts"), None
    for n in range(many):
        kind = ("everything, side by side", "the start, side by side")[n % 2]
        run = run or Run(folder, "ada_repro.pipeline.start")
        time.sleep(rng.uniform(0.1, 1.3) * sum(seconds.values()) / many)
        alive, at = run.process.poll() is None, ", ".join(sorted({stage for _, stage in run.began[-2:]}))
        if "every" in kind:
            kill_all(folder)
        else:
            run.process.kill()
        run.wait()
        fine, run = alive or is_busy(run.output), None  # orphans of the kill before may have kept it from starting
        if "every" not in kind:
            second = Run(folder, "ada_repro.pipeline.start")
            with contextlib.suppress(subprocess.TimeoutExpired):
                second.process.wait(20)
            if second.process.poll() is None:
                run = second  # it goes on, and is the next to be killed
            else:
                second.wait()
                fine = fine and (second.process.returncode == 0 or is_busy(second.output))
                if second.process.returncode:
                    book.add("start beside orphaned stages", is_busy(second.output), second.output.strip())
                while living(folder) and n % 4 == 1:
                    time.sleep(0.1)  # or it is killed with its orphans still there
        book.add(f"kill -9 of {kind}", fine, f"in {at}")
    if run:
        run.wait()
    while living(folder):
        time.sleep(0.1)
    fine = (
        resume(folder, book, "after kills of starts", "ada_repro.pipeline.start")
        and same(outputs(folder), expected)
        and no_litter(folder)
    )
    for kind in ("everything, side by side", "the start, side by side"):
        book.keep(f"kill -9 of {kind}", fine)


def checkpoint_kills(work, book, expected, many, rng):
    "The first checkpoint of a start is cut at a random byte, before it is synced, before and after it is renamed."
    folder, said = copy_of_checkout(work / "cuts"), work / "said"
    for n in range(many):
        at = rng.choice(["sync", "rename", "0", "1.0", *(f"{rng.random():.6f}" for _ in range(4))])
        if n % 5 == 1:
            at = "renamed"  # then the epoch is done
        env = {"PYTHONPATH": site(work), "CUT_AT": at, "CUT_SAID": str(said), "CUT_RUNNER": "1" if n % 3 == 0 else ""}
        run = Run(folder, env=env)
        code = run.wait()
        killed = said.exists() and said.read_text().split() == [at]
        said.unlink(missing_ok=True)
        book.add("kill -9 inside a checkpoint's writing", killed and code != 0, f"at {at} in {run.stage()}")
    fine = resume(folder, book, "after checkpoint kills") and same(outputs(folder), expected) and no_litter(folder)
    fault = "kill -9 inside a checkpoint's writing"
    book.keep(fault, fine and book.rows[fault] == (many, many))


def crowds(work, book, expected, many, seconds, rng):
    "Starts beside a running one, which runs stages side by side where the undisturbed one did not."
    folder = copy_of_checkout(work / "crowd")
    first = Run(folder, "ada_repro.pipeline.start", env={"PYTHONHASHSEED": "7"})
    first.wait_stage()
    for _ in range(many):
        time.sleep(sum(seconds.values()) / (many + 2) * rng.uniform(0.1, 0.5))
        if first.process.poll() is not None:
            break
        second = Run(folder, "ada_repro.pipeline.start")
        code = second.wait()
        told = f"repro: repro is already running, as process {first.process.pid}. Wait for it, or stop it\n"
        book.add("second start", code == 1 and second.output == told)
    fine = first.wait() == 0 and same(outputs(folder), expected) and no_litter(folder)
    book.add("run again, side by side, fresh processes, in another folder", fine)
    book.keep("second start", fine and book.rows["second start"] == (many, many))


@contextlib.contextmanager
def small_disk(folder):
    "A disk of its own for data/, with 300 MB; nothing where mounting is not permitted."
    (folder / "data").mkdir(exist_ok=True)
    kept = {p.name: p.read_bytes() for p in (folder / "data").iterdir() if p.is_file()}
    mount = ["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", folder / "data"]
    fine = subprocess.run(mount, capture_output=True).returncode == 0
    for name, content in kept.items():
        (folder / "data" / name).write_bytes(content)
    try:
        yield fine
    finally:
        if fine:
            subprocess.run(["umount", "-l", folder / "data"], check=True)


WANT = ("disk full while a stage works", "too little room to begin", "too little memory", "file size limited")


def starved(work, book, expected):
    """Want of everything.

    The disk fills up while a stage works; there is too little room for it to begin; a file may not grow; there is too
    little address space.
    """
    folder = copy_of_checkout(work / "starved")
    with small_disk(folder) as mounted:
        for aim in ("prepare", "baseline@paper-0", "robustness@random-paper-0"):
            if aim == "baseline@paper-0":
                limited(folder, work, book)
            if mounted:
                full(folder, book, aim)
        fine = resume(folder, book, "after want of disk and memory") and same(outputs(folder), expected)
        fine = fine and no_litter(folder)
        for fault in WANT:
            if fault in book.rows:
                tried, survived = book.rows[fault]
                book.keep(fault, fine and tried == survived)


def full(folder, book, aim):
    "A stage, and the next start, on a full disk."
    run = Run(folder)
    while run.process.poll() is None and run.stage() != aim:
        time.sleep(0.02)
    while not run.tree().get("kernel") and run.process.poll() is None:
        time.sleep(0.02)  # the runner has looked at the room
    ballast = folder / "data" / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", 0) as file:
        while True:
            file.write(bytes(4096))
    code = run.wait()
    book.add(
        "disk full while a stage works",
        code != 0 and "No space left" in run.output and "Traceback" not in run.output,
        f"in {run.stage()}",
    )
    run = Run(folder)
    code = run.wait()
    book.add("too little room to begin", code != 0 and "Free at least" in run.output and "Traceback" not in run.output)
    ballast.unlink()


def limited(folder, work, book):
    "The first training has too little address space, or may not write a file of the size of a checkpoint."
    Run(folder, "dvc", "repro", "prepare").wait()
    for fault, kind, sizes in (
        ("too little memory", "RLIMIT_AS", [900, 1400]),
        ("file size limited", "RLIMIT_FSIZE", [0.02, 0.1]),
    ):
        for mb in sizes:
            run = Run(folder, env={"PYTHONPATH": site(work), "LIMIT": f"{kind} {int(mb * 2**20)}"})
            code = run.wait()
            said = [line for line in run.output.splitlines() if line.startswith("baseline: ")]
            book.add(fault, code != 0 and len(said) == 1 and "Traceback" not in run.output, f"{mb} MB: {said[:1]}")


def crafted(work, book):
    for name in CRAFTED:
        book.add("crafted file or name", is_refused(name, work / "crafted" / name), name)


def attributions(book, many):
    grown = memory_grown_mb(many)
    book.add(f"{many} attributions, peak memory grows by less than 8 MB", grown < 8, f"{grown:.1f} MB")


# The record
def write(book):
    with CSV.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["fault", "tried", "survived"])
        rows.writerows((fault, *counts) for fault, counts in book.rows.items())
    lines = [f"| {fault} | {tried} | {survived} |" for fault, (tried, survived) in book.rows.items()]
    table = "\n".join(["| fault | tried | survived |", "| --- | ---: | ---: |", *lines])
    page = PAGE.read_text()
    PAGE.write_text(re.sub(r"(?s)(<!-- faults -->\n).*(<!-- end -->)", lambda m: f"{m[1]}{table}\n{m[2]}", page))


def earlier():
    "Rows of the last run."
    with CSV.open(newline="") as file:
        _, *rows = csv.reader(file)
    return {fault: (int(tried), int(survived)) for fault, tried, survived in rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of everything, in (0, 1]")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="+", help="parts")
    told = parser.parse_args()

    def many(n):
        return max(1, round(n * told.share))

    rng, book = random.Random(told.seed), Book(expected_s=1500)
    with tempfile.TemporaryDirectory(prefix="faults-") as work:
        work = Path(work)
        expected, seconds = undisturbed(work, book)
        parts = {
            "crowds": lambda: crowds(work, book, expected, many(20), seconds, rng),
            "starts": lambda: start_kills(work, book, expected, seconds, many(12), rng),
            "starved": lambda: starved(work, book, expected),
            "kills": lambda: kills(work, book, expected, seconds, many(24), rng),
            "checkpoints": lambda: checkpoint_kills(work, book, expected, many(20), rng),
            "crafted": lambda: crafted(work, book),
            "attributions": lambda: attributions(book, many(1000)),
        }
        book.expected = time.time() - book.started + sum(seconds.values()) * (5 + 4 * told.share) + 400 * told.share
        for name in told.only or parts:
            parts[name]()
    lost = {fault: (tried, survived) for fault, (tried, survived) in book.rows.items() if tried != survived}
    if told.only:
        book.rows = earlier() | book.rows
    if told.share == 1.0:
        write(book)
    tried, survived = map(sum, zip(*book.rows.values(), strict=True))
    print(f"{tried} tried, {survived} survived", *[f"LOST {fault}: {c}" for fault, c in lost.items()], sep="\n")
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
