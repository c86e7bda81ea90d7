"A lesson as a page: a title for people, imports and assertions folded, each picture with a caption and an alt text."

import ast
import re
import tomllib
from pathlib import Path

import nbformat

FOLDED = {"Imports": (ast.Import, ast.ImportFrom), "What must hold": (ast.Assert,)}
DIRECTIVE = re.compile(r"(?m)^#\|.*\n?")
LONGEST_ALT = 300
WRITTEN = tomllib.loads((Path(__file__).parents[1] / "captions.toml").read_text(encoding="utf-8"))


def folded_as(source):
    "What a cell holds that has nothing but imports, or nothing but assertions; '' for any other."
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a magic
        return ""
    for name, kinds in FOLDED.items():
        if statements and all(isinstance(one, kinds) for one in statements):
            return name
    return ""


def fold(cell, exported):
    "Fold a cell if it only prepares or only checks; examples may need imports that the module does not."
    if name := folded_as(cell.source):
        if name == "Imports" and not exported:
            name = "Imports of the examples"
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
        cell.metadata["mystnb"] = {"code_prompt_show": name, "code_prompt_hide": name}


def plain(markdown):
    "The words of a paragraph, without its marks."
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    text = re.sub(r"[*`$>#|]", "", text)
    return " ".join(text.split())


def shortened(text, longest=LONGEST_ALT):
    "The text, or its first words with an ellipsis."
    if len(text) <= longest:
        return text
    return text[:longest].rsplit(" ", 1)[0] + " ..."


def last_heading(markdown, before):
    "The heading under which what follows stands."
    found = re.findall(r"(?m)^#+ +(.+)$", markdown)
    return re.sub(r"^\d+\. ", "", plain(found[-1])) if found else before


def last_paragraph(markdown, before):
    "The words right above what follows."
    paragraphs = [part for part in markdown.split("\n\n") if part.strip() and not part.lstrip().startswith("#")]
    return plain(paragraphs[-1]) if paragraphs else before


def has_picture(cell):
    "Whether a cell shows a picture."
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def captions_of(page, cells):
    "The captions written for a notebook: cell id -> what its picture shows. Those of a stage come by their order."
    if by_id := WRITTEN["notebooks"].get(page):
        return by_id
    drawn = [cell.id for cell in cells if has_picture(cell)]
    return dict(zip(drawn, WRITTEN["stages"].get(page, []), strict=False))


def describe_pictures(cells, page=""):
    "A caption and an alt text for each picture: what was written for it, else the section and the prose above it."
    written = captions_of(page, cells)
    heading, words = "", ""
    for cell in cells:
        if cell.cell_type == "markdown":
            heading = last_heading(cell.source, heading)
            words = last_paragraph(cell.source, words)
        elif has_picture(cell):
            caption = written.get(cell.id, heading)
            alt = caption if cell.id in written else f"{heading}: {words}"
            cell.metadata["mystnb"] = {"image": {"alt": shortened(alt)}, "figure": {"caption": caption}}


def titled(text, title):
    "A page under another title; without one, its own with a capital."
    return re.sub(r"\A\s*# (.)(.*)", lambda own: f"# {title or own[1].upper() + own[2]}", text, count=1)


def lesson(notebook, title="", page="", about=""):
    "A notebook as it stands in the site, perhaps with a sentence about it; what is meant for nbdev is gone."
    is_module = any(cell.source.startswith("#| default_exp") for cell in notebook.cells)
    cells = [cell for cell in notebook.cells if not cell.source.startswith("#| default_exp")]
    if cells and cells[0].cell_type == "markdown":
        cells[0].source = titled(cells[0].source, title) + (f"\n\n*{about}*" if about else "")
    for cell in cells:
        exported = cell.source.startswith("#| export") or not is_module
        cell.source = DIRECTIVE.sub("", cell.source)
        if cell.cell_type == "code":
            fold(cell, exported)
    describe_pictures(cells, page)
    notebook.cells = cells
    return notebook


def write_lesson(source, to, title="", page="", about=""):
    "Write the page of a notebook; the page is its name in captions.toml."
    to.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(lesson(nbformat.read(source, 4), title, page, about), to)
