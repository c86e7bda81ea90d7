"The explorer: its JavaScript against torch, and its page as a reader uses it in Chromium."

import base64
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from ada_repro.core import ROOT
from ada_repro.measure.metrics import dice_score
from ada_repro.method.mask import build_mask, choose_windows, occlude, protect_target, touches, window_mask
from ada_repro.method.saliency import saliency_map
from ada_repro.train.weights import load_weights

HERE = Path(__file__).parent
PAGE = ROOT / "docs" / "explorer.html"
REAL = Path(os.environ.get("ADA_GM_CHALLENGE", ROOT.parent / "shared" / "data" / "gm-challenge"))
SIZE = 10
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def load_maker():
    "docs/make_explorer.py as a module."
    spec = importlib.util.spec_from_file_location("make_explorer", ROOT / "docs" / "make_explorer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load_maker()
SLICES = json.loads((maker.PARTS / "slices.json").read_text())


def bytes_of(text):
    return np.frombuffer(base64.b64decode(text), np.uint8)


def image_of(packed):
    "Image (1, 1, H, W) float32 of a slice of the page."
    values = packed["low"] + packed["step"] * bytes_of(packed["pixels"]).astype(np.float64)
    return torch.from_numpy(values.astype(np.float32)).reshape(1, 1, maker.SIDE_PX, maker.SIDE_PX)


def target_of(packed):
    "Target (1, H, W) bool of a slice of the page."
    return torch.from_numpy(np.unpackbits(bytes_of(packed["target"])).astype(bool)).reshape(
        1, maker.SIDE_PX, maker.SIDE_PX
    )


def hole_mask(square, target, protect):
    "What a square of the reader's leaves of the image."
    mask = window_mask(torch.tensor([[square["row"], square["column"]]]), square["size"], target.shape[1:])
    if protect == "forbid" and (~mask & target).any():
        return torch.ones_like(mask)
    return protect_target(mask, target, protect)


def seen(question):
    "The image a question is about, and its target."
    packed = SLICES[question["slice"]]
    image, target = image_of(packed), target_of(packed)
    if question["square"]:
        image = occlude(image, hole_mask(question["square"], target, question["protect"]))
    return image, target


def network_of(arm):
    return load_weights(arm).cpu()


def windows_of(model, image, target, protect="keep"):
    "The window of each method, as the page tells it."
    windows = {}
    for method in maker.METHODS:
        saliency = saliency_map(model, image, target[:, None], method)
        ((row, column),), _ = choose_windows(saliency, SIZE, target, protect)
        mask = build_mask(saliency, SIZE, target, protect)
        expected = protect_target(window_mask(torch.tensor([[row, column]]), SIZE, target.shape[1:]), target, protect)
        assert torch.equal(mask, expected)
        windows[method] = {"row": int(row), "column": int(column)}
    return windows


def dice_of(model, image, target):
    with torch.no_grad():
        return dice_score(model(image)[0, 0] > 0, target[0])


# The scripts, run by node
def test_no_layer_departs_from_its_definition():
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    subprocess.run(["node", "--test", HERE / "explorer_layers.test.mjs"], check=True, capture_output=True)


def all_questions():
    "Each slice and network with a hole under one of the rules; for the baseline also untouched."
    questions = []
    for i in range(len(SLICES)):
        for k, arm in enumerate(maker.ARMS):
            protect = ("keep", "none", "forbid")[(i + k) % 3]
            square = {"row": 26 + 2 * i, "column": 40 - 3 * k, "size": 6 + 2 * k}
            asked = {"slice": i, "network": arm, "size": SIZE, "protect": protect}
            questions.append(asked | {"square": square})
            if arm == "baseline":
                questions.append(asked | {"square": None})
    return questions


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    "What node answers to all questions."
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    asked = tmp_path_factory.mktemp("explorer") / "asked.json"
    asked.write_text(json.dumps({"data": maker.page_data(list(maker.ARMS)), "questions": all_questions()}))
    told = subprocess.run(["node", HERE / "explorer_answers.mjs", asked], check=True, capture_output=True, text=True)
    return json.loads(told.stdout)


def test_ten_slices_of_both_kinds():
    assert [s["kind"] for s in SLICES] == 5 * ["phantom"] + 5 * ["scan"]
    assert all(target_of(s).any() for s in SLICES)


@pytest.mark.parametrize("arm", maker.ARMS)
def test_weights_are_those_that_load_weights_reads(answered, arm):
    state, digest = network_of(arm).state_dict(), hashlib.sha256()
    for name in sorted(state):
        if state[name].is_floating_point():
            digest.update(state[name].numpy().astype("<f4").tobytes())
    assert answered["digests"][arm] == digest.hexdigest()


@pytest.mark.parametrize("arm", maker.ARMS)
def test_logits_windows_and_dice_are_those_of_torch(answered, arm):
    model = network_of(arm)
    pairs = zip(all_questions(), answered["answers"], strict=True)
    for question, answer in [(q, a) for q, a in pairs if q["network"] == arm]:
        image, target = seen(question)
        with torch.no_grad():
            logits = model(image)
        off = (torch.tensor(answer["logits"]) - logits.flatten()).abs().max()
        assert off < 1e-3 * (logits.max() - logits.min())
        assert answer["windows"] == windows_of(model, image, target, question["protect"]), question
        assert answer["dice"] == pytest.approx(dice_of(model, image, target))
        assert answer["untouched"] == pytest.approx(dice_of(model, *seen(question | {"square": None})))
        for name, protect in (("spared", "keep"), ("hidden", "none")):
            assert answer[name] == pytest.approx(dice_of(model, *seen(question | {"protect": protect})))


# The page and its parts
def test_the_committed_page_is_made_of_the_committed_parts():
    assert PAGE.read_text() == maker.build(list(maker.ARMS)), "run `python docs/make_explorer.py`"
    assert PAGE.stat().st_size < 1_000_000


def test_a_page_can_hold_any_arm():
    data = maker.page_data(["vanilla"])
    assert [n["name"] for n in data["networks"]] == ["vanilla"]
    assert 'value="vanilla"' in maker.build(["vanilla"])


def test_the_page_names_source_and_licence_and_asks_for_nothing():
    page = PAGE.read_text()
    words = " ".join(page.split())
    assert all(said in words for said in ("Cohen-Adad et al.", "10.1002/mrm.29249", "CC0", "Not for use on patients"))
    assert re.findall(r"(?:src|srcset|action)=", page) == []
    assert set(re.findall(r'href="([^"]{1,60})', page)) <= {
        "https://doi.org/10.1002/mrm.29249",
        "https://arxiv.org/abs/2102.12354",
        *re.findall(r'href="(data:[^"]{1,55})', page),
    }
    assert not re.search(r"fetch\(|XMLHttpRequest|importScripts|url\(http|@import", page)


def assert_same_slices(packed, drawn):
    "Equal up to a step of the greys, which another processor may round otherwise."
    for one, other in zip(packed, drawn, strict=True):
        assert one["name"] == other["name"]
        assert (image_of(one) - image_of(other)).abs().max() < 1.5 * one["step"]
        assert torch.equal(target_of(one), target_of(other))


def test_phantom_slices_are_drawn_by_the_phantom():
    assert_same_slices(SLICES[: maker.PHANTOMS], maker.phantoms())


@pytest.mark.skipif(not REAL.is_dir(), reason="the open scans are not here; ADA_GM_CHALLENGE may name their folder")
def test_slices_of_scans_are_prepared_by_prepare():
    assert_same_slices(SLICES[maker.PHANTOMS :], maker.scans(REAL))


# The page in a browser
@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("Chromium is not installed")
    driver = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with driver.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser):
    "Opens the page from its file; at the end nothing may have been asked for and no error said."
    contexts, faults = [], []

    def open_page(before="", **settings):
        context = browser.new_context(**({"viewport": {"width": 1400, "height": 950}} | settings))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if request.url.startswith("http") else None)
        page.add_init_script(before)
        page.goto(PAGE.as_uri())
        settled(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def settled(page):
    "The page once nothing is under way."
    page.wait_for_selector("#results[aria-busy=false]", timeout=60_000)
    return page


def dice(page):
    return settled(page).inner_text("#dice")


def shown_windows(page):
    "The windows that the maps show."
    windows = {}
    for method in maker.METHODS:
        row, column = settled(page).get_attribute(f"#map-{method}", "data-corner").split()
        windows[method] = {"row": int(row), "column": int(column)}
    return windows


def corner(page):
    "Row and column of the square."
    return page.evaluate("[state.row, state.column]")


def drag(page, x, y):
    "Takes the square by its middle and lets it go elsewhere; places are shares of the slice as shown."
    page.locator("#stage").scroll_into_view_if_needed()
    box = page.locator("#stage").bounding_box()
    middle = page.evaluate(
        "[state.column, state.row].map((at) => (at + state.size / 2 - state.view.first) / state.view.span)"
    )
    page.mouse.move(box["x"] + middle[0] * box["width"], box["y"] + middle[1] * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
    page.mouse.up()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_page_fits_and_dice_follows_the_square(visit, width, scheme):
    page = visit(viewport={"width": width, "height": 850}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.check("[value=none]", force=True)
    first = dice(page)
    drag(page, 0.8, 0.8)
    second = dice(page)
    assert corner(page) == [round(16 + 0.8 * 48 - 5)] * 2
    page.focus("#stage")
    for _ in range(14):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    third = dice(page)
    assert corner(page) == [35, 39]
    assert len({first, second, third}) == 3


def shot_within(page, place):
    "A picture of what is on screen, without the rounded corners through which the page shows."
    page.locator(place).scroll_into_view_if_needed()
    box = page.locator(place).bounding_box()
    return page.screenshot(clip={"x": box["x"] + 9, "y": box["y"] + 9, "width": 130, "height": 130})


def test_greys_are_the_same_in_light_and_dark(visit):
    pages = [visit(color_scheme=scheme) for scheme in ("light", "dark")]
    for place in ("#stage", "#map-vanilla canvas"):
        light, dark = (shot_within(page, place) for page in pages)
        assert light == dark


def test_windows_in_the_page_are_those_of_torch_on_ten_slices(visit):
    page, model = visit(), network_of("baseline")
    page.uncheck("#hides")
    for i, packed in enumerate(SLICES):
        page.check(f"[name=slice][value='{i}']", force=True)
        image, target = image_of(packed), target_of(packed)
        assert shown_windows(page) == windows_of(model, image, target)
        assert dice(page) == f"{dice_of(model, image, target):.1f}"
        assert packed["name"] in page.inner_text("body")


CHOICES = [
    ("baseline", "keep"),
    ("baseline", "forbid"),
    ("baseline", "none"),
    ("gradcam", "keep"),
    ("guided_backprop", "forbid"),
    ("none", "none"),
]


@pytest.mark.parametrize(("arm", "protect"), CHOICES)
def test_page_under_each_rule_and_network(visit, arm, protect):
    page, model = visit(), network_of(arm)
    page.select_option("#network", arm)
    page.check(f"[value={protect}]", force=True)
    row, column = corner(page)
    square = {"row": row, "column": column, "size": SIZE}
    image, target = seen({"slice": 0, "square": square, "protect": protect})
    assert shown_windows(page) == windows_of(model, image, target, protect)
    assert dice(page) == f"{dice_of(model, image, target):.1f}"
    assert touches(target, SIZE)[0, row, column]
    assert page.inner_text("#remark").startswith(f"With {protect}")
    current = {"keep": "bar-keep", "forbid": "bar-untouched", "none": "bar-none"}[protect]
    assert page.get_attribute("tr.current", "id") == current
    assert page.inner_text("#seen") == ("the untouched slice" if protect == "forbid" else "the slice with the hole")
    for name in ("keep", "none"):
        image, _ = seen({"slice": 0, "square": square, "protect": name})
        assert page.inner_text(f"#bar-{name} .value") == f"{dice_of(model, image, target):.1f}"


def test_keyboard_alone_does_everything(visit):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "stage"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    row, column = corner(page)
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert page.evaluate("state.size") == SIZE + 2 and corner(page) == [row - 1, column - 1]
    page.keyboard.press("-")
    assert page.evaluate("state.size") == SIZE + 1
    page.keyboard.press("Space")
    assert dice(page) == page.inner_text("#bar-untouched .value")
    assert page.inner_text("#seen") == "the untouched slice"
    page.wait_for_function("document.getElementById('spoken').textContent.startsWith('Dice ')")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    settled(page)
    assert page.is_checked("[value=forbid]")
    for _ in maker.METHODS:
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "map-guided_gradcam" and page.is_checked("#hides")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("state.slice") == 1
    controls = "[...document.querySelectorAll('input, select, button')]"
    assert page.evaluate(f"{controls}.filter((c) => !c.ariaLabel && !c.labels?.length && !c.innerText).length") == 0


def test_touch_moves_the_square_and_a_map_lends_its_window(visit):
    page = visit(viewport={"width": 400, "height": 850}, has_touch=True, is_mobile=True)
    first = corner(page)
    page.locator("#stage").tap(position={"x": 60, "y": 300})
    settled(page)
    assert corner(page) != first
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.locator("#map-vanilla").tap()
    settled(page)
    page.uncheck("#hides")
    window = shown_windows(page)["gradcam"]
    page.locator("#map-gradcam").tap()
    settled(page)
    assert corner(page) == [window["row"], window["column"]] and page.is_checked("#hides")


def test_square_stays_in_the_slice(visit):
    page = visit()
    page.uncheck("#zooms")
    page.focus("#stage")
    for _ in range(20):
        page.keyboard.press("Shift+ArrowUp")
        page.keyboard.press("Shift+ArrowLeft")
    assert corner(page) == [0, 0]
    drag(page, 0.99, 0.99)
    assert corner(page) == [maker.SIDE_PX - SIZE] * 2
    assert page.inner_text("#remark").startswith("No grey matter")
    assert len({settled(page).inner_text(f"#bar-{name} .value") for name in ("keep", "none")}) == 1


def test_without_workers_the_page_answers_itself(visit):
    here, there = visit(), visit(before="delete window.Worker")
    assert there.evaluate("helpers.maps.worker") is None and here.evaluate("helpers.maps.worker !== null")
    assert dice(here) == dice(there) and shown_windows(here) == shown_windows(there)


def test_a_file_of_weights_can_be_opened_and_another_is_refused(visit, tmp_path):
    page = visit()
    page.set_input_files("#file", ROOT / "weights" / "vanilla.safetensors")
    page.wait_for_function("state.network === 'vanilla.safetensors'")
    page.uncheck("#hides")
    image, target = image_of(SLICES[0]), target_of(SLICES[0])
    assert shown_windows(page) == windows_of(network_of("vanilla"), image, target)
    (tmp_path / "other.safetensors").write_bytes(b"not weights at all")
    page.set_input_files("#file", tmp_path / "other.safetensors")
    page.wait_for_function("document.getElementById('fault').textContent.includes('other.safetensors')")
    assert page.evaluate("state.network") == "vanilla.safetensors"
