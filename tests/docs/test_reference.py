"The pages that docs/making writes: the reference, lessons, results, links and formulas."

import ast
import re
import sys
import tomllib

import nbformat
import pytest
from sharing import ROOT

sys.path.insert(0, str(ROOT / "docs"))

from making.api import Module, Parameter, defined, errors, full_names, module_page, modules, parameters  # noqa: E402
from making.links import target_of  # noqa: E402
from making.notebooks import WRITTEN, describe_pictures, folded_as, has_picture, lesson, shortened  # noqa: E402
from making.results import caption_of, place, run_of, stages, studies, verdict_cards, write_studies  # noqa: E402

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
    assert "{py:data} LIMIT_PX" in page and "@thing\ndef blur(" in page
    assert "| `how` | `str \\| None` | `None` |" in page and "**Returns** `Tensor`: The same shape" in page
    assert "(../nbs/2_method/99_toy.ipynb)" in page


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


# Lessons
def test_imports_and_assertions_are_folded_and_nothing_else():
    assert folded_as("import a\nfrom b import c") == "Imports"
    assert folded_as("assert a\nassert b") == "What must hold"
    assert not any(map(folded_as, ("import a\na.b()", "x = 1", "", "%matplotlib inline")))


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


def test_a_verdict_escapes_its_words():
    row = {"says": "a < b", "measure": "m", "verdict": "stands", "value": "1", "low": "0.5", "high": ""}
    cards = verdict_cards({"C1": [("simulated", row | {"high": "2"})]})
    assert "a &lt; b" in cards and '<b class="good">stands</b><span>1.00 [0.50, 2.00]</span>' in cards


def test_each_stage_has_a_title_and_a_place_among_those_of_a_run():
    told = tomllib.loads((ROOT / "docs" / "order.toml").read_text())["stages"]
    assert set(told) == {path.stem for path in (ROOT / "nbs" / "experiments").glob("*.ipynb")}


def test_each_table_and_figure_of_the_graph_has_a_title():
    told = tomllib.loads((ROOT / "docs" / "order.toml").read_text())["results"]
    graph = (ROOT / "dvc.yaml").read_text() + (ROOT / "evidence" / "dvc.yaml").read_text()
    made = set(re.findall(r"figures/\S+/(\w+)\.(?:md|png):", graph))
    assert {"table3", "figure1", "rules"} < made <= set(told)


def test_the_notebooks_of_a_run_stand_in_its_order_and_say_which_run_they_show(tmp_path):
    study = tmp_path / "figures" / "published" / "phantom-smoke"
    (study / "notebooks").mkdir(parents=True)
    (study / "table3.csv").write_text("arm,DSC\nnone,1\n")
    told = nbformat.v4.new_code_cell("arm = 'none'\nseed = 0\n", metadata={"tags": ["injected-parameters"]})
    for name in ("ada", "claims", "prepare"):
        cells = [nbformat.v4.new_markdown_cell(f"# {name}"), *([told] if name == "ada" else [])]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), study / "notebooks" / f"{name}.ipynb")
    assert run_of(study / "notebooks" / "ada.ipynb") == "arm none, seed 0"
    for graph in ("dvc.yaml", "evidence/dvc.yaml"):
        (tmp_path / graph).parent.mkdir(exist_ok=True)
        (tmp_path / graph).write_text("stages: {}\n")
    write_studies(tmp_path, tmp_path / "site", {}, {"prepare": "First", "ada": "Then", "claims": "Last"})
    at = tmp_path / "site" / "figures" / "published" / "phantom-smoke"
    contents = (at / "contents.md").read_text()
    assert re.findall("notebooks/(.+)", contents) == ["prepare", "ada", "claims"]
    assert nbformat.read(at / "notebooks" / "ada.ipynb", 4).cells[0].source == "# Then (arm none, seed 0)"
