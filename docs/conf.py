"The site: README and the notebooks as committed. Nothing is run, nothing is fetched."

import re

import nbformat

project = author = html_title = "ada_repro"
extensions = ["myst_nb"]
html_theme = "sphinx_book_theme"
html_static_path, html_css_files = ["wide.css"], ["wide.css"]
html_copy_source = False
root_doc = "README"
include_patterns = [
    "README.md",
    "data/README.md",
    "docs/*.md",
    "figures/**/table*.md",
    "figures/**/claims.md",
    "nbs/**.ipynb",
]
exclude_patterns = [".*", "_docs", "nbs/.*", "nbs/experiments/.*"]
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "dollarmath"]
suppress_warnings = ["myst.header"]

CONTENTS = """

```{toctree}
:hidden:
:glob:
:caption: Library
nbs/*
```

```{toctree}
:hidden:
:glob:
:caption: Experiments
nbs/experiments/*
data/README
docs/*
```

```{toctree}
:hidden:
:glob:
:caption: Verdicts and tables
figures/*/claims
figures/*/table*
```
"""


def readable(app, page, source):
    "README gets the table of contents; tables get a title; notebooks lose the directives meant for nbdev."
    if page == root_doc:
        source[0] += CONTENTS
    if page.startswith("figures/"):
        source[0] = f"# {page.removeprefix('figures/')}\n\n" + source[0]
    if not page.startswith("nbs/"):
        return
    notebook = nbformat.reads(source[0], 4)
    notebook.cells = [c for c in notebook.cells if not c.source.startswith("#| default_exp")]
    for c in notebook.cells:
        c.source = re.sub(r"(?m)^#\|.*\n?", "", c.source)
    source[0] = nbformat.writes(notebook)


def setup(app):
    app.connect("source-read", readable)
