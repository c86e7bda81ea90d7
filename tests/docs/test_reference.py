"The pages that docs/making writes: the reference, lessons, results, links and formulas."

import ast
import re
import sys
import tomllib
from itertools import chain
from xml.etree import ElementTree

import nbformat
import pytest
from sharing import ROOT

sys.path.insert(0, str(ROOT / "docs"))

from making.api import Module, Parameter, defined, errors, full_names, module_page, modules, parameters  # noqa: E402
from making.links import page_of, target_of  # noqa: E402
from making.notebooks import WRITTEN, describe_pictures, folded_as, has_picture, lesson, shortened  # noqa: E402
from making.results import (  # noqa: E402
    caption_of,
    figure_lines,
    place,
    run_of,
    stages,
    studies,
    verdict_cards,
    without_caption,
    write_stages,
    write_studies,
)

SOURCE = '''"""What it is"""
# File to edit: ../../nbs/2_method/99_toy.ipynb.
__all__ = ["LIMIT_PX", "blur", "Kept", "thing"]
LIMIT_PX = 4  # Largest side, in pixels


@thing
def blur(
    image: Tensor,  # Images (B, 1, H, W)
    width_mm: float = 0.5,  # Of the kernel
    *rest,
    how: str | None = None,  # A word, or `None`
    **options,  # Of `other`
) -> Tensor:  # The same shape
    "Blur images."
    check_number("width_mm", width_mm)
    raise KeyError(how)


class Kept:
    "Something kept."

    where: int  # In pixels
    name: str = "x"  # Its name

    def show(self, big: bool = False) -> str:  # A text
        "Show it."

    @property
    def size(self):  # How large it is
        return 1
'''
TOY = Module("ada_repro.method.toy", SOURCE)
NAMES = full_names(modules(ROOT))


# The reference
def test_parameters_are_read_with_type_default_comment_and_unit():
    found = parameters(defined(TOY)["blur"], TOY.comments)
    assert found == [
        Parameter("image", "Tensor", "", "Images (B, 1, H, W)"),
        Parameter("width_mm", "float", "0.5", "Of the kernel"),
        Parameter("*rest", "", "", ""),
        Parameter("how", "str | None", "None", "A word, or `None`"),
        Parameter("**options", "", "", "Of `other`"),
    ]
    assert [one.unit for one in found[:2]] == ["", "mm"]
    assert Parameter("size", "int", "", "Side of the window, in pixels").unit == "pixels"


def test_what_a_function_raises_is_what_it_raises_and_what_it_checks_with():
    assert errors(defined(TOY)["blur"]) == ["KeyError", "ValueError"]


def test_a_page_has_each_exported_name_and_its_source():
    page = module_page(TOY)
    assert "{py:function} blur(image, width_mm=0.5, *rest, how=None, **options)" in page
    assert '{py:class} Kept(where, name="x")' in page.replace("'", '"') and "{py:method} show(big=False)" in page
    assert re.search(r"\{py:property\} size\n+How large it is", page)
    assert "{py:data} LIMIT_PX" in page and "@thing\ndef blur(" in page
    assert "| `how` | `str \\| None` | `None` |" in page and "**Returns** `Tensor`: The same shape" in page
    assert "(../nbs/2_method/99_toy.ipynb)" in page


def test_every_method_says_what_it_does():
    silent = []
    for module in modules(ROOT):
        kinds = [kind for kind in defined(module).values() if isinstance(kind, ast.ClassDef)]
        for node in chain.from_iterable(kind.body for kind in kinds):
            is_open = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
            if is_open and not ast.get_docstring(node) and node.lineno not in module.comments:
                silent.append(node.name)
    assert silent == []


def test_every_exported_name_has_an_entry():
    for module in modules(ROOT):
        passed_on = set()
        for node in module.tree.body:
            if isinstance(node, ast.ImportFrom):
                passed_on |= {one.name for one in node.names}
        assert set(module.exported) - passed_on == set(defined(module)), module.name


# Links
@pytest.mark.parametrize(
    "text, module",
    [
        ("saliency_map", "method.saliency"),
        ("saliency_map(model, x, y, 'vanilla')", "method.saliency"),
        ("saliency.guided_backprop", "method.saliency"),
        ("core.check_choice", "core"),
    ],
)
def test_names_are_known(text, module):
    assert target_of(text, NAMES).startswith(f"ada_repro.{module}.")


@pytest.mark.parametrize("text", ["params.yaml", "other.saliency_map", "make repro", "none", "a + b", ""])
def test_other_words_are_left_alone(text):
    assert target_of(text, NAMES) is None


def test_the_file_of_a_notebook_is_known_as_a_page():
    pages = {"nbs/2_method/04_mask", "docs/04_mask", "nbs/index"}
    for written in ("nbs/2_method/04_mask", "2_method/04_mask.ipynb", "04_mask"):
        assert page_of(written, pages) == "nbs/2_method/04_mask"
    assert not any(page_of(other, pages) for other in ("index", "mask", "4_mask", "data/raw", "2_method/05_arms"))


# Lessons
def test_imports_and_assertions_are_folded_and_nothing_else():
    assert folded_as("import a\nfrom b import c") == "Imports"
    assert folded_as("assert a\nassert b") == "What must hold"
    assert not any(map(folded_as, ("import a\na.b()", "x = 1", "", "%matplotlib inline")))
    sources = ("#| default_exp a.b", "#| export\nimport a", "import b")
    cells = lesson(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in sources])).cells
    shown = [cell.metadata["mystnb"]["code_prompt_show"] for cell in cells]
    assert shown == ["Imports", "Imports of the examples"]


def pictures(page):
    "The cells of a notebook that show a picture."
    notebook = nbformat.read(ROOT / "nbs" / f"{page}.ipynb", 4)
    return {cell.id for cell in notebook.cells if has_picture(cell)}


def test_each_picture_has_a_caption_of_its_own():
    pages = [path.relative_to(ROOT / "nbs").with_suffix("").as_posix() for path in (ROOT / "nbs").rglob("*.ipynb")]
    drawn = {page: pictures(page) for page in pages if ".ipynb_checkpoints" not in page}
    written = {page: set(captions) for page, captions in WRITTEN["notebooks"].items()}
    assert {page: ids for page, ids in drawn.items() if ids} == written, "docs/captions.toml says what each shows"
    assert all(captions for captions in WRITTEN["stages"].values())


def test_what_was_written_is_caption_and_alt_text():
    output = nbformat.v4.new_output("display_data", data={"image/png": ""})
    cells = [nbformat.v4.new_code_cell("x", outputs=[output], id=name) for name in ("c17", "other")]
    cells.insert(0, nbformat.v4.new_markdown_cell("# Words"))
    describe_pictures(cells, "4_measure/01_metrics")
    captions = [cell.metadata["mystnb"]["figure"]["caption"] for cell in cells[1:]]
    assert captions == ["A disc, and the pixels of its boundary.", "Words"]
    assert cells[1].metadata["mystnb"]["image"]["alt"] == captions[0]


def test_a_picture_gets_a_caption_and_an_alt_text():
    cells = [
        nbformat.v4.new_markdown_cell("# old\n\nAbout."),
        nbformat.v4.new_code_cell("#| default_exp a.b"),
        nbformat.v4.new_markdown_cell("## 2. A **bold** head\n\nWords, with `code` and a [link](x.md)."),
        nbformat.v4.new_code_cell(
            "#| export\nplot()", outputs=[nbformat.v4.new_output("display_data", {"image/png": "aa"})]
        ),
    ]
    first, _, drawn = lesson(nbformat.v4.new_notebook(cells=cells), "New: a title").cells
    assert first.source == "# New: a title\n\nAbout." and drawn.source == "plot()"
    shown = drawn.metadata["mystnb"]
    assert shown["figure"] == {"caption": "A bold head"}
    assert shown["image"] == {"alt": "A bold head: Words, with code and a link."}


def test_long_words_end_in_an_ellipsis():
    assert shortened("a b", 5) == "a b" and shortened("one two three", 9) == "one two ..."


# Results
def test_verdicts_then_tables_then_figures_by_number():
    assert sorted(["figure2", "table10", "table3", "claims", "needed"], key=place) == [
        *("claims", "table3", "table10", "figure2", "needed")
    ]


def test_each_published_item_has_a_stage_and_each_figure_a_caption():
    makers = stages(ROOT)
    for study in studies(ROOT):
        for item in study.items:
            assert f"{item}.md" in makers or f"{item}.svg" in makers, item
        for svg in study.folder.glob("*.svg"):
            assert "Data: " in caption_of(svg)


def test_a_figure_is_shown_without_the_words_below_it():
    for study in studies(ROOT):
        for svg in study.folder.glob("*.svg"):
            whole, shown = svg.read_text(), without_caption(svg)
            heights = [float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)', text)[1]) for text in (whole, shown)]
            assert 0.5 < heights[1] / heights[0] < 0.98 and "<!-- Data: " in whole, svg
            assert "<!-- Data: " not in shown and shown.count("<g ") > 10 and shown.endswith("</svg>\n")
            ElementTree.fromstring(shown)


def test_a_caption_names_no_machine_and_breaks_in_no_sentence():
    for study in studies(ROOT):
        for svg in study.folder.glob("*.svg"):
            about = "\n".join(figure_lines(study, svg.stem, "Figure 0: title")).partition("Data: ")[2].split("\n\n")[0]
            assert (
                about and "nibabel" not in about and all(line.rstrip("\\").endswith(".") for line in about.splitlines())
            )


def test_a_verdict_escapes_its_words():
    row = {"says": "a < b", "measure": "m", "verdict": "stands", "value": "1", "low": "0.5", "high": ""}
    cards = verdict_cards({"C1": [("simulated", row | {"high": "2"})]})
    assert "a &lt; b" in cards and '<b class="good">stands</b><span>1.00 [0.50, 2.00]</span>' in cards


def test_each_stage_has_a_title_and_a_place_among_those_of_a_run():
    told = tomllib.loads((ROOT / "docs" / "order.toml").read_text())["stages"]
    assert set(told) == {path.stem for path in (ROOT / "nbs" / "experiments").glob("*.ipynb")}


def test_each_lesson_has_a_title_for_people():
    told = tomllib.loads((ROOT / "docs" / "order.toml").read_text())["titles"]
    assert {module.name.removeprefix("ada_repro.") for module in modules(ROOT)} - {"core"} == set(told)


def test_each_table_and_figure_of_the_graph_has_a_title():
    told = tomllib.loads((ROOT / "docs" / "order.toml").read_text())["results"]
    graph = (ROOT / "dvc.yaml").read_text() + (ROOT / "evidence" / "dvc.yaml").read_text()
    made = set(re.findall(r"figures/\S+/(\w+)\.(?:md|png):", graph))
    assert {"table3", "figure1", "rules"} < made <= set(told)


TITLES = {"prepare": "First", "ada": "Then", "claims": "Last"}


@pytest.fixture
def two_studies(tmp_path):
    "A folder with two published studies of three notebooks each."
    told = nbformat.v4.new_code_cell("arm = 'none'\nseed = 0\n", metadata={"tags": ["injected-parameters"]})
    shown = nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("stream", text="1")])
    for profile in ("evidence", "smoke"):
        study = tmp_path / "figures" / "published" / f"phantom-{profile}"
        (study / "notebooks").mkdir(parents=True)
        (study / "table3.csv").write_text("arm,DSC\nnone,1\n")
        (study / "table12.csv").write_text("arm,DSC\n")
        (study / "table12.md").write_text("| Arm |\n")
        for name in TITLES:
            more = [told] if name == "ada" else []
            cells = [nbformat.v4.new_markdown_cell(f"# {name}"), *more, *([] if name == "prepare" else [shown])]
            nbformat.write(nbformat.v4.new_notebook(cells=cells), study / "notebooks" / f"{name}.ipynb")
    for graph in ("dvc.yaml", "evidence/dvc.yaml"):
        (tmp_path / graph).parent.mkdir(exist_ok=True)
        (tmp_path / graph).write_text("stages: {prepare: {outs: [data/slices]}}\n")
    (tmp_path / "nbs" / "experiments").mkdir(parents=True)
    for name in (*TITLES, "new"):
        cells = [nbformat.v4.new_markdown_cell(f"# {name}")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "nbs" / "experiments" / f"{name}.ipynb")
    return tmp_path


def first_cell(path):
    "What a page begins with."
    return nbformat.read(path, 4).cells[0].source


def test_the_notebooks_of_a_run_stand_in_its_order_and_say_which_run_they_show(two_studies):
    published = two_studies / "figures" / "published"
    assert run_of(published / "phantom-smoke" / "notebooks" / "ada.ipynb") == "arm none, seed 0"
    write_studies(two_studies, two_studies / "site", {"table12": "Table 12: twice"}, TITLES)
    at = two_studies / "site" / "figures" / "published" / "phantom-smoke"
    contents = (at / "contents.md").read_text()
    assert re.findall("(.+) <notebooks/(.+)>", contents) == [("First", "prepare"), ("Then", "ada"), ("Last", "claims")]
    assert "Nothing was measured in this study for: Table 12: twice." in contents and "<table12>" not in contents
    assert first_cell(at / "notebooks" / "ada.ipynb") == "# Then (simulated scans, smoke profile)\n\n*arm none, seed 0*"
    assert "notebooks/" not in (at.parent / "phantom-evidence" / "contents.md").read_text()  # they stand for the stages


def test_a_stage_is_shown_as_it_ran(two_studies):
    write_stages(two_studies, two_studies / "stages", TITLES)
    ran = {name: first_cell(two_studies / "stages" / f"{name}.ipynb") for name in (*TITLES, "new")}
    assert ran["ada"] == "# Then\n\n*As it ran: simulated scans, evidence profile, arm none, seed 0.*"
    assert ran["prepare"].endswith("profile. It shows nothing; it writes `data/slices`.*")
    assert ran["new"].startswith("# New\n\n*It shows nothing")
