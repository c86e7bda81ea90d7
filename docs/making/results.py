"Published studies as pages: one for each figure, table and list of verdicts, with what made it."

import csv
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path

import nbformat
import yaml
from making.notebooks import write_lesson

KINDS = {"phantom": "simulated scans"}
COLOURS = {"stands": "good", "does not stand": "bad", "cannot be told": "open"}
PROFILES = {
    "laptop": "One training of each arm: what `make repro` makes on a laptop. It decides nothing.",
    "evidence": "Several trainings of each arm and all controls, for verdicts with intervals: `make evidence`.",
    "schedule": "The paper's epochs, cycles and learning rate at the laptop's size, as far as trainings have come.",
}
CAPTION_PT = 7  # from the first line of a drawn caption up to above its letters
ALL_THE_WIDTH = ["---", "html_theme.sidebar_secondary.remove: true", "---", ""]
PARAMETERS = ("size", "batch_size", "standard_epochs", "cycles", "ada_epochs")


@dataclass(frozen=True)
class Study:
    "A folder of published figures and tables."

    folder: Path

    @property
    def name(self):
        return self.folder.name

    @property
    def profile(self):
        return self.name.rpartition("-")[2]

    @property
    def kind(self):
        "What it was run on, and how large."
        dataset = self.name.rpartition("-")[0]
        return f"{KINDS.get(dataset, f'real scans ({dataset})')}, {self.profile} profile"

    @property
    def title(self):
        return self.kind[0].upper() + self.kind[1:]

    @property
    def all_items(self):
        "Names of its verdicts, tables and figures, each in order."
        found = {path.stem for path in self.folder.glob("*.md")} | {path.stem for path in self.folder.glob("*.svg")}
        return sorted(found, key=place)

    @property
    def items(self):
        "Names of its pages: all that have something to show."
        return [item for item in self.all_items if not self.is_empty(item)]

    def is_empty(self, item):
        "Whether a table has heads and no row: nothing was measured for it."
        path = self.folder / f"{item}.csv"
        return path.is_file() and len(path.read_text().splitlines()) < 2


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
def outs(root):
    "What each stage writes."
    written = {}
    for graph in (root / "dvc.yaml", root / "evidence" / "dvc.yaml"):
        for stage, told in yaml.safe_load(graph.read_text())["stages"].items():
            written[stage] = [out if isinstance(out, str) else next(iter(out)) for out in told.get("outs", [])]
    return written


def stages(root):
    "The name of the stage that writes each file of a study."
    makers = {}
    for stage, paths in outs(root).items():
        makers |= {Path(path).name: stage for path in paths if path.startswith("figures/")}
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


def executed(root):
    "Of each stage the executed notebook that stands for it: that of the first study which published one."
    found = {}
    for study in studies(root):
        for path in study.folder.glob("notebooks/*.ipynb"):
            found.setdefault(path.stem, (study, path))
    return found


def of_its_own(study, root):
    "The executed notebooks of a study that do not stand for their stage already."
    stand = {path for _, path in executed(root).values()}
    return [path for path in study.folder.glob("notebooks/*.ipynb") if path not in stand]


def origin(root, study, item, makers):
    "Where an item comes from, as a table and the code that made it."
    files = [study.folder / f"{item}{ending}" for ending in (".csv", ".svg", ".png")]
    there = [path for path in files if path.is_file()]
    links = ", ".join(f"[{path.suffix[1:]}]({path.name})" for path in there)
    rows = [["files", links]]
    stage = makers.get(there[0].name)
    if stage:
        ran = [path.stem for path in of_its_own(study, root)]
        as_it_ran = f", [as it ran here](notebooks/{stage}.ipynb)" if stage in ran else ""
        rows.append(["stage", f"[{stage}](<root>nbs/experiments/{stage}.ipynb){as_it_ran}"])
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
    return unescape(found[1].strip()) if found else ""


def without_caption(svg):
    "A figure's file, cut above the caption that is drawn at its foot: a page has the words as text."
    text = svg.read_text()
    begin = r"<!-- " + re.escape(caption_of(svg).partition("\n")[0][:30])
    found = re.search(rf'<g id="text_\d+">\s*{begin}.*?<g [^>]*transform="translate\([\d.]+ ([\d.]+)\)', text, re.S)
    if not found:
        return text
    height = float(found[1]) - CAPTION_PT
    text = text[: found.start()] + text[text.index("\n  </g>\n", found.end()) + len("\n  </g>\n") :]
    text = re.sub(r'(<svg [^>]*?height=")[\d.]+pt', rf"\g<1>{height}pt", text, count=1)
    return re.sub(r'(viewBox="[\d.]+ [\d.]+ [\d.]+ )[\d.]+', rf"\g<1>{height}", text, count=1)


def raw(html):
    "Html that stands as it is."
    return ["```{raw} html", html, "```", ""]


def without_machine(lines):
    "A caption without the line that the table of its origin says again."
    return [line for line in lines if not line.startswith("Machine: ")]


def unwrapped(about):
    "The lines of an origin, which a figure breaks to its own width."
    return [" ".join(line.split()) for line in re.split(r"\n(?=Validation: |Machine: )", about)]


def figure_lines(study, item, title):
    "A figure with number, caption and alt text."
    first, _, rest = caption_of(study.folder / f"{item}.svg").partition("\nData: ")
    number, words = title.partition(":")[0], " ".join(first.split())
    about = without_machine(unwrapped(f"Data: {rest}")) if rest else []
    picture = [f"```{{image}} shown/{item}.svg", f":alt: {title}. {words}", ":class: data", "```", ""]
    caption = [f"**{number}.** {words}", "", "\\\n".join(about), ""]
    opening, between = '<figure class="published"><div class="picture">', "</div><figcaption>"
    return [*raw(opening), *picture, *raw(between), *caption, *raw("</figcaption></figure>")]


def table_lines(study, item):
    "A table with its caption."
    lines = (study.folder / f"{item}.md").read_text().splitlines()
    return without_machine(lines) if facts(study) else lines


def verdict_cards(tables):
    "Verdicts as html that a phone can show: a card for each claim, a line for each kind of data."
    cards = []
    for key, rows in tables.items():
        says, measure = rows[0][1]["says"], rows[0][1]["measure"]
        lines = [f"<li><h2><b>{escape(key)}</b> {escape(says)}</h2><p>{escape(measure)}</p>"]
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
    "For each claim its row in each study that judges; whose data, and its profile where that is not evidence."
    tables = {}
    for study in found:
        path = study.folder / "claims.csv"
        if path.is_file():
            kind = study.title.split()[0].lower()
            kind += "" if study.profile == "evidence" else f", {study.profile}"
            for row in csv.DictReader(path.open()):
                tables.setdefault(row["claim"], []).append((kind, row))
    return tables


def title_of(item, titles):
    "The title of an item for people."
    return titles.get(item, item.replace("table", "Table ").replace("figure", "Figure ").capitalize())


def item_page(root, study, item, titles, makers):
    "The page of a figure, a table or verdicts."
    title = title_of(item, titles)
    lines = [*ALL_THE_WIDTH, f"# {title} ({study.kind})", ""]
    if (study.folder / f"{item}.svg").is_file():
        lines += figure_lines(study, item, title)
    else:
        lines += table_lines(study, item)
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


def write_notebooks(root, study, to, titles):
    "The executed notebooks that were published with a study; the names of their pages."
    pages = []
    for path in in_order(of_its_own(study, root), titles):
        title = titles.get(path.stem, path.stem)
        about = run_of(path) if shows(path) else "It shows nothing."
        write_lesson(path, to / "notebooks" / path.name, f"{title} ({study.kind})", path.stem, about)
        pages.append(f"{title} <notebooks/{path.stem}>")
    return pages


def write_stages(root, to, titles):
    "Each stage as it ran in a published study, its parameters filled in; one that was not published as it is written."
    stand, written = executed(root), outs(root)
    for path in in_order((root / "nbs" / "experiments").glob("*.ipynb"), titles):
        study, ran = stand.get(path.stem, (None, path))
        about = f"As it ran: {', '.join(filter(None, [study.kind, run_of(ran)]))}." if study else ""
        if not shows(ran):
            made = ", ".join(f"`{out}`" for out in written.get(path.stem, []))
            about += (
                f" It shows nothing; it writes {made}."
                if made
                else " It shows nothing, and stops where something is wrong."
            )
        write_lesson(ran, to / path.name, titles.get(path.stem, ""), path.stem, about.strip())


def shows(path):
    "Whether a notebook has any output."
    return any(cell.get("outputs") for cell in nbformat.read(path, 4).cells)


def write_study(root, study, to, titles, stage_titles):
    "Write all pages of a study and its contents."
    makers = stages(root)
    to.mkdir(parents=True, exist_ok=True)
    (to / "shown").mkdir(exist_ok=True)
    for path in study.folder.iterdir():
        if path.suffix in (".csv", ".svg", ".png", ".json"):
            shutil.copy2(path, to)
        if path.suffix == ".svg":
            (to / "shown" / path.name).write_text(without_caption(path))
    for item in study.items:
        (to / f"{item}.md").write_text(item_page(root, study, item, titles, makers))
    items = [f"{title_of(item, titles)} <{item}>" for item in study.items]
    pages = [*items, *write_notebooks(root, study, to, stage_titles)]
    toctree = ["```{toctree}", ":maxdepth: 1", *pages, "```", ""]
    lines = [f"# {study.title}", "", PROFILES.get(study.profile, ""), "", *toctree]
    if empty := [title_of(item, titles) for item in study.all_items if study.is_empty(item)]:
        lines += [f"Nothing was measured in this study for: {', '.join(empty)}.", ""]
    (to / "contents.md").write_text("\n".join(lines))


def write_studies(root, to, titles, stage_titles):
    "Write all studies and the page that lists them."
    found = studies(root)
    for study in found:
        write_study(root, study, to / study.folder.relative_to(root), titles, stage_titles)
    pages = [f"{study.folder.relative_to(root)}/contents" for study in found]
    words = "Each table and figure with its caption, its files, and what made it: stage, parameters, machine, commit."
    toctree = ["```{toctree}", ":maxdepth: 2", *pages, "```", ""]
    (to / "studies.md").write_text("\n".join(["# All tables and figures", "", words, "", *toctree]))
