"Published studies as pages: one for each figure, table and list of verdicts, with what made it."

import csv
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import escape
from pathlib import Path

import nbformat
import yaml
from making.notebooks import write_lesson

KINDS = {"phantom": "simulated scans"}
COLOURS = {"stands": "good", "does not stand": "bad", "cannot be told": "open"}
PARAMETERS = ("size", "batch_size", "standard_epochs", "cycles", "ada_epochs")


@dataclass(frozen=True)
class Study:
    "A folder of published figures and tables."

    folder: Path

    @property
    def name(self):
        return self.folder.name

    @property
    def title(self):
        dataset, _, profile = self.name.rpartition("-")
        return f"{KINDS.get(dataset, f'real scans ({dataset})').capitalize()}, {profile} profile"

    @property
    def items(self):
        "Names of its pages: verdicts, tables, figures, each in order."
        found = {path.stem for path in self.folder.glob("*.md")} | {path.stem for path in self.folder.glob("*.svg")}
        return sorted(found, key=place)


def place(item):
    "Verdicts, then tables by number, then figures by number, then the rest."
    kind, number = re.fullmatch(r"(\D+)(\d*)", item).groups()
    order = ["claims", "table", "figure"]
    return (order.index(kind) if kind in order else len(order), int(number or 0), item)


def studies(root):
    "The published studies; before any was published apart, those that are committed."
    folder = root / "figures" / "published"
    folder = folder if folder.is_dir() else root / "figures"
    found = [Study(path) for path in sorted(folder.iterdir(), reverse=True) if (path / "table3.csv").is_file()]
    return sorted(found, key=lambda study: not study.name.endswith("evidence"))


# What made it
def stages(root):
    "The name of the stage that writes each file of a study."
    makers = {}
    for graph in (root / "dvc.yaml", root / "evidence" / "dvc.yaml"):
        for stage, told in yaml.safe_load(graph.read_text())["stages"].items():
            for out in told.get("outs", []):
                path = out if isinstance(out, str) else next(iter(out))
                if path.startswith("figures/"):
                    makers[Path(path).name] = stage
    return makers


def maker_cells(root, stage, item):
    "The cells of a stage's notebook that make an item."
    notebook = nbformat.read(root / "nbs" / "experiments" / f"{stage}.ipynb", 4)
    variable = item.replace("table", "t") if item.startswith("table") else item
    pattern = rf"(?m)^[\w, ]*\b{variable}\b[\w, ]* = "
    return [cell.source for cell in notebook.cells if cell.cell_type == "code" and re.search(pattern, cell.source)]


def commit_of(root, path):
    "The commit that brought a file, with its date; '' outside a git checkout."
    words = ["git", "log", "-1", "--format=%h of %cs", "--", path.relative_to(root).as_posix()]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def cost(study, record):
    "What the runs of a study took together; '' where nobody noted it."
    path = study.folder / "cost.json"
    told = json.loads(path.read_text()) if path.is_file() else record  # before 2026-11-26 it stood in the record
    if "seconds" not in told:
        return ""
    return f", {told['seconds']} s together, at most {told['peak_memory_mb']} MB"


def facts(study):
    "Parameters and machine, out of provenance.json."
    path = study.folder / "provenance.json"
    if not path.is_file():
        return []
    record = json.loads(path.read_text())
    data, runs = record["data"], record["runs"]
    arm = next((run for run in runs.values() if run["params"]["cycles"]), next(iter(runs.values())))
    told = ", ".join(f"`{key}` {arm['params'][key]}" for key in PARAMETERS)
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    slices = f"{data['slices']} slices of {data['crop_px']} px at {data['spacing_mm']} mm"
    return [
        ["data", f"{data['dataset']}, {slices}, manifest `{data['manifest_sha256'][:12]}`"],
        ["parameters", f"{told} ([provenance.json](provenance.json) has all)"],
        ["runs", f"{len(runs)}{cost(study, record)}"],
        ["machine", f"{record['device']} {record['isa']}, {record['threads']} thread; {versions}"],
    ]


def has_notebook(study, stage):
    "Whether the executed notebook of a stage was published with a study."
    return (study.folder / "notebooks" / f"{stage}.ipynb").is_file()


def origin(root, study, item, makers):
    "Where an item comes from, as a table and the code that made it."
    files = [study.folder / f"{item}{ending}" for ending in (".csv", ".svg", ".png")]
    there = [path for path in files if path.is_file()]
    links = ", ".join(f"[{path.suffix[1:]}]({path.name})" for path in there)
    rows = [["files", links]]
    stage = makers.get(there[0].name)
    if stage:
        executed = f", [as it ran](notebooks/{stage}.ipynb)" if has_notebook(study, stage) else ""
        rows.append(["stage", f"[{stage}](<root>nbs/experiments/{stage}.ipynb){executed}"])
    if commit := commit_of(root, there[0]):
        rows.append(["commit", commit])
    rows += facts(study)
    lines = ["", "## Where it comes from", "", "| what | |", "| --- | --- |"]
    lines += [f"| {what} | {value} |" for what, value in rows]
    cells = maker_cells(root, stage, item) if stage else []
    for code in cells:
        lines += ["", "The cell that made it:", "", "```python", code, "```"]
    return lines


# Pages
def caption_of(svg):
    "What a figure's file says about itself."
    found = re.search(r"<dc:description>(.*?)</dc:description>", svg.read_text(), re.S)
    return found[1].strip() if found else ""


def figure_lines(study, item, title):
    "A figure with caption and alt text."
    caption = caption_of(study.folder / f"{item}.svg")
    first, _, rest = caption.partition("\nData: ")
    words = " ".join(first.split())
    alt = f"{title}. {words}".replace("\n", " ")
    return [
        f"```{{image}} {item}.svg",
        f":alt: {alt}",
        ":class: data",
        "```",
        "",
        words,
        "",
        f"Data: {rest}" if rest else "",
    ]


def verdict_cards(tables):
    "Verdicts as html that a phone can show: a card for each claim, a line for each kind of data."
    cards = []
    for key, rows in tables.items():
        says, measure = rows[0][1]["says"], rows[0][1]["measure"]
        lines = [f"<li><h3><b>{escape(key)}</b> {escape(says)}</h3><p>{escape(measure)}</p>"]
        for data, row in rows:
            span = f"{float(row['value']):.2f}" if row["value"] else "–"
            if row["low"] and row["low"] != row["high"]:
                span += f" [{float(row['low']):.2f}, {float(row['high']):.2f}]"
            colour = COLOURS.get(row["verdict"], "open")
            verdict = f'<b class="{colour}">{escape(row["verdict"])}</b>'
            lines.append(f"<div><span>{data}</span>{verdict}<span>{span}</span></div>")
        cards.append("".join([*lines, "</li>"]))
    return "\n".join(["```{raw} html", '<ul class="cards">', *cards, "</ul>", "```"])


def read_verdicts(found):
    "For each claim its row in each evidence study."
    tables = {}
    for study in found:
        path = study.folder / "claims.csv"
        if path.is_file():
            kind = study.title.split()[0].lower()
            for row in csv.DictReader(path.open()):
                tables.setdefault(row["claim"], []).append((kind, row))
    return tables


def item_page(root, study, item, titles, makers):
    "The page of a figure, a table or verdicts."
    title = titles.get(item, item.replace("table", "Table ").replace("figure", "Figure ").capitalize())
    lines = [f"# {title}", "", f"*{study.title}*", ""]
    if (study.folder / f"{item}.svg").is_file():
        lines += figure_lines(study, item, title)
    else:
        lines += [(study.folder / f"{item}.md").read_text()]
    if (study.folder / f"{item}.csv").is_file() or (study.folder / f"{item}.svg").is_file():
        lines += origin(root, study, item, makers)
    depth = len(study.folder.relative_to(root).parts)
    return "\n".join(lines).replace("<root>", "../" * depth) + "\n"


def in_order(paths, names):
    "Files in the order of these names; others come last."
    names = list(names)
    return sorted(paths, key=lambda path: (names.index(path.stem) if path.stem in names else len(names), path.stem))


def run_of(path):
    "Which run of its stage a published notebook shows, as it was told; '' for a stage that runs once."
    told = {}
    for cell in nbformat.read(path, 4).cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            told = dict(re.findall(r"(?m)^(arm|fold|seed) = ['\"]?([\w.]+)", cell.source))
    return ", ".join(f"{name} {value}" for name, value in told.items())


def write_notebooks(study, to, titles):
    "The executed notebooks that were published with a study; the names of their pages."
    pages = []
    for path in in_order(study.folder.glob("notebooks/*.ipynb"), titles):
        run = run_of(path)
        title = titles.get(path.stem, "") + (f" ({run})" if run else "")
        write_lesson(path, to / "notebooks" / path.name, title, path.stem)
        pages.append(f"notebooks/{path.stem}")
    return pages


def write_study(root, study, to, titles, stage_titles):
    "Write all pages of a study and its contents."
    makers = stages(root)
    to.mkdir(parents=True, exist_ok=True)
    for path in study.folder.iterdir():
        if path.suffix in (".csv", ".svg", ".png", ".json"):
            shutil.copy2(path, to)
    for item in study.items:
        (to / f"{item}.md").write_text(item_page(root, study, item, titles, makers))
    pages = [*study.items, *write_notebooks(study, to, stage_titles)]
    toctree = ["```{toctree}", ":maxdepth: 1", *pages, "```", ""]
    (to / "contents.md").write_text("\n".join([f"# {study.title}", "", *toctree]))


def write_studies(root, to, titles, stage_titles):
    "Write all studies and the page that lists them."
    found = studies(root)
    for study in found:
        write_study(root, study, to / study.folder.relative_to(root), titles, stage_titles)
    pages = [f"{study.folder.relative_to(root)}/contents" for study in found]
    words = "Each table and figure with its caption, its files, and what made it: stage, parameters, machine, commit."
    toctree = ["```{toctree}", ":maxdepth: 2", *pages, "```", ""]
    (to / "studies.md").write_text("\n".join(["# All tables and figures", "", words, "", *toctree]))
