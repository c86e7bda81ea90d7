"The site, from the sources that build.py has written. Nothing is run, nothing is fetched."

import subprocess
import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))

project = author = html_title = "ada_repro"
version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_nb", "making.formulas", "making.links"]
package_root = ROOT
exclude_patterns = [".*"]

nb_execution_mode = "off"
nb_number_source_lines = False
myst_enable_extensions = ["amsmath", "dollarmath"]
highlight_language = "none"
suppress_warnings = ["myst.header"]
numfig = True
numfig_format = {"figure": "Picture %s:"}
python_maximum_signature_line_length = 90
add_module_names = False

html_theme = "sphinx_book_theme"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["tables.js"]
html_favicon = "static/favicon.svg"
html_copy_source = False
html_extra_path = ["../CITATION.cff", "../LICENSE"]
templates_path = ["templates"]
html_sidebars = {"**": ["navbar-logo.html", "search-button-field.html", "sbt-sidebar-nav.html"]}
html_context = {"default_mode": "auto"}
html_search_scorer = str(DOCS / "static" / "scorer.js")


def commit():
    "The commit of this checkout and its date; '' where there is no git."
    words = ["git", "log", "-1", "--format=commit %h of %cs"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


html_context["facts"] = " · ".join(filter(None, [f"ada_repro {version}", commit()]))
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": False,
    "navbar_persistent": [],
    "show_navbar_depth": 1,
    "max_navbar_depth": 3,
    "footer_content_items": ["cite"],
}
