"The site: `python docs/build.py [FOLDER]` lays the pages out in reading order and lets Sphinx make html of them."

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

from making.api import write_reference  # noqa: E402
from making.notebooks import titled, write_lesson  # noqa: E402
from making.results import in_order, read_verdicts, studies, verdict_cards, write_stages, write_studies  # noqa: E402

ORDER = tomllib.loads((DOCS / "order.toml").read_text())
PAGES = ["CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", *(f"docs/{path.name}" for path in DOCS.glob("*.md"))]
FILES = ["LICENSE", "CITATION.cff", "*.yaml", "evidence/dvc.yaml", "benchmarks/*.csv", "weights/*.json"]
EXPLORER_PAGE = DOCS / "explorer.html"
EXPLORER = '<a href="docs/explorer.html"><b>Try it</b>hide a square yourself, here</a>'


def slug(heading):
    "The file of a section of README.md."
    return re.sub(r"\W+", "-", heading.lower()).strip("-")


def sections(readme):
    "The sections of README.md, by heading."
    _, *parts = re.split(r"(?m)^## ", readme)
    found = {}
    for part in parts:
        heading, _, text = part.partition("\n")
        found[heading.strip()] = text
    return found


def described(found):
    "A figure without words: the title of its page as its alt text and, leading there, as its caption."
    path, study, item = found.groups()
    title = ORDER["results"].get(item, item)
    return f"![{title}, {study}]({path})<br>[{title}]({path.removesuffix('.png')}.md)"


def relinked(text, page):
    "Links to README.md lead to the front page, links to a figure's file to the figure's page; figures get a text."
    up = "../" * page.count("/")
    text = re.sub(r"\[docs/explorer\.html\]", "[the explorer]", text)
    text = re.sub(r"(?<!!)\[(?:nbs|docs|data)/[\w/]+(?:\.md)?\](\([^)]+\.(?:md|ipynb)\))", r"*[]\1*", text)  # its title
    text = re.sub(r"\[README\]\((?:\.\./)*README\.md\)", f"*[]({up}what-stands.md)*", text)
    text = re.sub(r"\[([^\]]*)\]\(((?:\.\./)*docs/explorer\.html)\)", r'<a href="\2">\1</a>', text)  # no page of Sphinx
    text = re.sub(r"!\[\]\(([^)]*?([\w-]+)/(figure\d+)\.png)\)", described, text)
    text = re.sub(r"\]\((?:\.\./)*README\.md(#[\w-]*)?\)", f"]({up}index.md)", text)
    return re.sub(r"(?<!!)(\[[^\]]*\]\([^)\s]*/figure\d+)\.(?:png|svg)\)", r"\1.md)", text)


def with_cards(text):
    "Verdicts as cards in the place of the wide table."
    before, rest = text.split("<!-- verdicts -->")
    _, after = rest.split("<!-- end -->", 1)
    return before + verdict_cards(read_verdicts(studies(ROOT))) + after


def with_verdicts(text):
    "Behind a sentence of the front page, in the place of <C1>, what became of that claim from several seeds."
    verdicts = read_verdicts(studies(ROOT))
    for claim, rows in verdicts.items():
        told = {data: row["verdict"] for data, row in rows if "," not in data}
        said = ", ".join(f"{verdict} ({data})" for data, verdict in told.items())
        if len(set(told.values())) == 1:
            said = next(iter(told.values()))
        text = text.replace(f"<{claim}>", f"[*{claim}: {said}*](what-stands.md)")
    return text


def section_page(heading, title, text):
    "A section of README.md as a page of its own."
    if "<!-- verdicts -->" in text:
        text = with_cards(text)
    return f"# {title or heading}\n{text}"


def existing(source, pages):
    "Those pages that are there, as Sphinx names them."
    names = []
    for page, _ in pages:
        name = slug(page.removeprefix("README#")) if page.startswith("README#") else page
        if any((source / f"{name}{ending}").is_file() for ending in (".md", ".ipynb")):
            names.append(name)
    return names


# Sources
def write_pages(source, titles):
    "Pages that are written by hand."
    for name in PAGES:
        to = source / name
        to.parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / name).read_text()
        to.write_text(relinked(titled(text, titles.get(name.removesuffix(".md"), "")), name))
    found = sections((ROOT / "README.md").read_text())
    for heading, text in found.items():
        page = section_page(heading, titles.get(f"README#{heading}", ""), text)
        (source / f"{slug(heading)}.md").write_text(relinked(page, ""))
    front = (DOCS / "front.md").read_text()
    explorer = EXPLORER if EXPLORER_PAGE.is_file() else ""
    (source / "index.md").write_text(with_verdicts(front).replace("<EXPLORER>", explorer) + contents(source))
    (source / "docs" / "front.md").unlink()


def module_of(page):
    "The module of a lesson, such as method.mask for nbs/2_method/04_mask."
    return ".".join(part.partition("_")[2] for part in page.split("/")[1:])


def write_notebooks(source, titles):
    "Lessons, tutorials and stages."
    write_stages(ROOT, source / "nbs" / "experiments", ORDER["stages"])
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        if not {".ipynb_checkpoints", "experiments"} & set(path.parts):
            name = path.relative_to(ROOT)
            page = name.with_suffix("").as_posix()
            title = titles.get(page) or titles.get(module_of(page), "")
            write_lesson(path, source / name, title, page.removeprefix("nbs/"))


def copy_files(source):
    "What pages link to and show as it is."
    for pattern in FILES:
        for path in ROOT.glob(pattern):
            to = source / path.relative_to(ROOT)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to)


# Contents
def toctree(caption, pages):
    "A part of the table of contents."
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def write_chapters(source):
    "A page for each chapter that lists its notebooks."
    for part in ORDER["part"]:
        for folder, title, *words in part.get("chapters", []):
            paths = in_order((source / folder).glob("*.ipynb"), ORDER["stages"])
            pages = [f"{Path(folder).name}/{path.stem}" for path in paths]
            lines = [f"# {title}", "", *words, "", "```{toctree}", ":maxdepth: 1", *pages, "```", ""]
            (source / f"{folder}.md").write_text("\n".join(lines))


def contents(source):
    "The table of contents, part by part."
    parts = []
    for part in ORDER["part"]:
        chapters = [folder for folder, *_ in part.get("chapters", [])]
        parts.append(toctree(part["name"], [*existing(source, part["pages"]), *chapters]))
    return "".join(parts)


def page_titles():
    "The title of each page that has one for people."
    titles = dict(ORDER["titles"])
    for part in ORDER["part"]:
        titles |= {page: title for page, title in part["pages"] if title}
    return titles


def write_sources(source):
    "Everything that Sphinx reads."
    titles = page_titles()
    write_notebooks(source, titles)
    copy_files(source)
    write_studies(ROOT, source, ORDER["results"], ORDER["stages"])
    write_reference(ROOT, source)
    write_chapters(source)
    write_pages(source, titles)


def build(folder):
    "Write the sources and the html; any warning is an error."
    source, html = folder / "source", folder / "html"
    for part in (source, html):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    write_sources(source)
    words = [sys.executable, "-m", "sphinx", "-qW", "--keep-going", "-d", folder / "doctrees", "-c", DOCS]
    done = subprocess.run([*words, source, html])
    if EXPLORER_PAGE.is_file():
        shutil.copy2(EXPLORER_PAGE, html / "docs")
    return done.returncode


if __name__ == "__main__":
    to = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "_docs"
    sys.exit(build(to.resolve()))
