"The site: README and the notebooks as committed. Nothing is run, nothing is fetched."

import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
project = author = html_title = "ada_repro"
extensions = ["myst_nb"]
html_theme = "sphinx_book_theme"
html_static_path, html_css_files = ["wide.css"], ["wide.css"]
html_copy_source = False
root_doc = "README"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "data/README.md",
    "docs/*.md",
    "figures/published/**/table*.md",
    "figures/published/**/claims.md",
    "figures/published/**/needed.md",
    "nbs/*.ipynb",
    "nbs/*/*.ipynb",
]
exclude_patterns = [".*", "_docs", "nbs/**/.*"]
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "dollarmath"]
suppress_warnings = ["myst.header"]

CHAPTERS = {
    "The idea": ["nbs/index", "nbs/00_core"],
    "1 Data": ["nbs/1_data/*"],
    "2 Method": ["nbs/2_method/*"],
    "3 Training": ["nbs/3_train/*"],
    "4 Measuring": ["nbs/4_measure/*"],
    "5 Evidence": ["nbs/5_evidence/*"],
    "6 Pipeline": ["nbs/6_pipeline/*"],
    "Experiments": ["nbs/experiments/*", "data/README", "docs/*"],
    "Working on it": ["CONTRIBUTING", "CHANGELOG"],
    "Verdicts and tables": ["figures/published/*/claims", "figures/published/*/table*", "figures/published/*/needed"],
}
OPTIONAL = {"Tutorials": ["nbs/tutorials/*"]}


def contents():
    "The table of contents, chapter by chapter."
    chapters = CHAPTERS | (OPTIONAL if (ROOT / "nbs" / "tutorials").is_dir() else {})
    parts = []
    for caption, pages in chapters.items():
        parts.append("\n".join(["```{toctree}", ":hidden:", ":glob:", f":caption: {caption}", *pages, "```"]))
    return "\n\n".join(["", *parts, ""])


def readable(app, page, source):
    "README gets the table of contents; tables get a title; notebooks lose the directives meant for nbdev."
    if page == root_doc:
        source[0] += contents()
    if page.startswith("figures/"):
        source[0] = f"# {page.removeprefix('figures/published/')}\n\n" + source[0]
    if not page.startswith("nbs/"):
        return
    notebook = nbformat.reads(source[0], 4)
    notebook.cells = [cell for cell in notebook.cells if not cell.source.startswith("#| default_exp")]
    for cell in notebook.cells:
        cell.source = re.sub(r"(?m)^#\|.*\n?", "", cell.source)
    source[0] = nbformat.writes(notebook)


def setup(app):
    app.connect("source-read", readable)
