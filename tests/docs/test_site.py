"The site as a reader meets it: built once, every link followed, and looked at in headless Chromium."

import html
import re
import shutil
import subprocess
import sys
from urllib.parse import unquote

import pytest
from sharing import ROOT, built_once

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
LEFT = ("net::ERR_ABORTED",)  # asked by a page that has been left
SIZES = [(400, "light"), (400, "dark"), (1400, "light"), (1400, "dark")]
PUBLISHED = "figures/published/phantom-evidence"
LOOKED_AT = [
    *("index", "what-stands", "what-came-out", "nbs/index", "nbs/2_method/03_saliency", "nbs/4_measure/01_metrics"),
    *("api", "api/method.saliency", "docs/what_stands", "docs/promises", "docs/benchmarks", "studies", "CONTRIBUTING"),
    *("genindex", "nbs/experiments/look", f"{PUBLISHED}/contents", f"{PUBLISHED}/figure3", f"{PUBLISHED}/table11"),
    *("nbs/tutorials/own_loop", "nbs/tutorials/your_scans", "nbs/tutorials/add_a_method", "nbs/3_train/01_augment"),
]
SOUGHT_PAGES = {
    "dice": "nbs/4_measure/01_metrics",
    "hausdorff": "nbs/4_measure/01_metrics",
    "your own scans": "nbs/tutorials/your_scans",
    "table 4": "figures/published/",
    "figure 6": "figures/published/",
    "rescan": "rescan",
}
SOUGHT = [
    *("saliency_map", "guided_backprop", "build_mask", "occlude", "ada_copies", "train", "dice_score", "UNet"),
    *("load_slices", "write_report", "crossed_interval", "gradcam", "load_weights"),
]


def build(folder):
    done = subprocess.run([sys.executable, ROOT / "docs" / "build.py", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def site(shared_folder):
    "The folder of the pages; a build with a warning fails."
    return built_once(shared_folder / "site", build) / "html"


@pytest.fixture(scope="module")
def browser():
    "A browser without a window."
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with driver.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


def open_page(browser, width=1400, scheme="light"):
    "A page, and the list that whatever goes wrong in it is put in."
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    faults = []
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda asked: None if asked.failure in LEFT else faults.append(f"failed: {asked.url}"))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else faults.append(asked.url))
    return page, faults


# Files
def pages_of(site):
    return [path for path in site.rglob("*.html") if "_static" not in path.parts]


def text_of(path):
    "A page without its code."
    return re.sub(r"<pre>.*?</pre>", "", path.read_text(), flags=re.S)


def test_every_local_link_resolves(site):
    broken, anchors = set(), {}
    for path in pages_of(site):
        anchors[path] = set(re.findall(r'\bid="([^"]+)"', path.read_text()))
    for path in anchors:
        for link in re.findall(r'\b(?:href|src)="([^"]+)"', text_of(path)):
            link = unquote(html.unescape(link))
            if re.match(r"[a-z]+:|//", link):
                continue
            file, _, anchor = link.partition("#")
            to = (path.parent / file.split("?")[0]).resolve() if file else path
            if not to.is_file() or (anchor and to in anchors and anchor not in anchors[to]):
                broken.add(f"{path.relative_to(site)}: {link}")
    assert sorted(broken)[:10] == []


def test_nothing_is_fetched_from_elsewhere(site):
    for path in pages_of(site):
        asked = re.findall(
            r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//[^"]+|<link[^>]+href="https?:[^"]+', path.read_text()
        )
        assert asked == [], path


def test_formulas_are_mathml(site):
    text = (site / "nbs" / "4_measure" / "01_metrics.html").read_text()
    assert "<math" in text and not re.search(r"<script[^>]*mathjax", text, re.I)


def test_every_picture_has_an_alt_text(site):
    for path in pages_of(site):
        for picture in re.findall(r"<img[^>]*>", text_of(path)):
            assert re.search(r'alt="[^"]{10,}"', picture), f"{path.name}: {picture[:100]}"


def test_a_name_in_backticks_leads_to_its_entry(site):
    linked = [
        path for path in site.glob("nbs/**/*.html") if re.search(r'href="[^"]*api/[^"]*#ada_repro\.', text_of(path))
    ]
    assert len(linked) > 15


def test_a_stage_stands_with_its_parameters_and_its_outputs(site):
    for path in [*site.glob("figures/**/notebooks/*.html"), *site.glob("nbs/experiments/*.html")]:
        text = path.read_text()
        assert 'class="output' in text or "It shows nothing" in text, path.name
        assert "# Parameters" in re.sub("<[^>]+>", "", text), path.name


def test_no_page_has_a_heading_twice(site):
    for path in pages_of(site):
        article = text_of(path).partition("<article")[2]
        headings = re.findall(r"<h([1-3])>(.*?)</h\1>", article, flags=re.S)
        texts = [re.sub("<[^>]+>", "", text).strip("# \n") for _, text in headings]
        assert len(set(texts)) == len(texts), (path.name, texts)


def test_no_two_pages_have_the_same_title(site):
    titles = {}
    for path in pages_of(site):
        title = re.search(r"<title>(.*?)</title>", path.read_text(), re.S)[1].strip()
        titles.setdefault(title, []).append(path.relative_to(site).as_posix())
    assert {title: paths for title, paths in titles.items() if len(paths) > 1} == {}


def test_a_published_figure_has_its_number_its_caption_and_its_words_once(site):
    for path in site.glob("figures/published/*/figure*.html"):
        text = path.read_text()
        number = path.stem.replace("figure", "Figure ")
        caption = re.search(r"<figcaption>(.*?)</figcaption>", text, re.S)[1]
        assert f"<strong>{number}.</strong>" in caption and "Data: " in caption and "Machine: " not in text
        assert f'alt="{number}: ' in text


def test_pictures_are_counted_page_by_page(site):
    counted = re.findall(
        r'class="caption-number">Picture (\d+):', (site / "nbs" / "1_data" / "12_phantom.html").read_text()
    )
    assert counted == [str(i + 1) for i in range(len(counted))] and counted


def test_the_footer_says_version_licence_and_how_to_cite(site):
    text = (site / "index.html").read_text()
    assert re.search(r"ada_repro \d+\.\d+\.\d+", text) and 'href="LICENSE"' in text and 'href="CITATION.cff"' in text


# In a browser
@pytest.mark.parametrize("width, scheme", SIZES)
def test_pages_fit_and_nothing_goes_wrong(site, browser, width, scheme):
    page, faults = open_page(browser, width, scheme)
    studies = sorted(path.relative_to(site).with_suffix("").as_posix() for path in site.glob("figures/**/*5.html"))
    wide = []
    for name in [*LOOKED_AT, *studies[:3]]:
        page.goto((site / f"{name}.html").as_uri())
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(name)
    page.close()
    assert (wide, faults) == ([], [])


def test_code_of_120_characters_is_not_cut(site, browser):
    page, _ = open_page(browser)
    for name in ("nbs/2_method/03_saliency", "nbs/5_evidence/02_intervals"):
        page.goto((site / f"{name}.html").as_uri())
        cut = "[...document.querySelectorAll('.bd-article pre')].filter(p => p.scrollWidth > p.clientWidth + 1).length"
        assert page.evaluate(cut) == 0
        room = "(p => p.clientWidth / 7.23)(document.querySelector('.bd-article pre'))"  # 12 px of a fixed width
        assert page.evaluate(room) >= 110
    page.close()


def test_data_keep_their_greys_at_night(site, browser):
    page, _ = open_page(browser, 1400, "dark")
    page.goto((site / "nbs" / "2_method" / "03_saliency.html").as_uri())
    shown = "[...document.querySelectorAll('.bd-content img')].map(i => getComputedStyle(i).filter)"
    assert set(page.evaluate(shown)) == {"none"}
    page.close()


WIDE = f"{PUBLISHED}/table4"
PLACE = "t.closest('.pst-scrollable-table-container, .output.text_html')"
CUT = "[...document.querySelectorAll('.bd-article table')].filter(t => t.scrollWidth > t.parentElement.clientWidth + 1)"


def test_no_table_is_wider_than_a_phone(site, browser):
    page, _ = open_page(browser, 400)
    for name in (
        WIDE,
        "what-came-out",
        "docs/benchmarks",
        "docs/what_stands",
        "nbs/tutorials/add_a_method",
        "api/core",
        "api/data.volume",
    ):
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate(f"{CUT}.length") == 0, name
    page.close()


def test_a_row_of_a_wide_table_is_a_card_with_the_names_of_its_columns(site, browser):
    page, _ = open_page(browser, 400)
    page.goto((site / f"{WIDE}.html").as_uri())
    cells = page.locator("table.as-cards tbody tr").first.locator("td")
    assert cells.nth(0).get_attribute("data-head") == "Arm" and cells.nth(1).get_attribute("data-head") == "DSC, paper"
    assert cells.nth(1).evaluate("c => getComputedStyle(c, '::before').content") == '"DSC, paper"'
    page.set_viewport_size({"width": 1400, "height": 900})
    page.wait_for_function("!document.querySelector('table.as-cards')")
    page.close()


@pytest.mark.parametrize("width", [400, 800, 1400])
def test_a_table_that_goes_on_behind_the_edge_fades_there(site, browser, width):
    page, _ = open_page(browser, width)
    for name in (WIDE, "nbs/experiments/robustness", "nbs/1_data/04_volume"):
        page.goto((site / f"{name}.html").as_uri())
        faded = f"{CUT}.every(t => getComputedStyle({PLACE}).maskImage.includes('gradient'))"
        assert page.evaluate(faded), name
        page.evaluate(f"{CUT}.forEach(t => {PLACE}.scrollTo(10000, 0))")
        page.wait_for_function("!document.querySelector('.goes-on')")
    page.close()


@pytest.mark.parametrize("width", [400, 1400])
def test_there_is_one_search_box(site, browser, width):
    page, _ = open_page(browser, width)
    page.goto((site / "index.html").as_uri())
    assert page.locator(".search-button, .search-button-field").locator("visible=true").count() == 1
    page.close()


def test_what_is_sought_comes_first(site, browser):
    page, _ = open_page(browser)
    missed = {}
    for name in SOUGHT:
        page.goto((site / "search.html").as_uri() + f"?q={name}")
        page.wait_for_selector("#search-results ul.search li a")
        first = page.locator("#search-results ul.search li a").first.get_attribute("href")
        if not re.search(rf"api/[\w.]+\.html.*#ada_repro\.[\w.]+\.{name}$", first):
            missed[name] = first
    for words, begin in SOUGHT_PAGES.items():
        page.goto((site / "search.html").as_uri() + f"?q={words}")
        page.wait_for_selector("#search-results ul.search li a")
        first = page.locator("#search-results ul.search li a").first
        right = begin in first.get_attribute("href") and words in first.inner_text().lower()
        if not right:
            missed[words] = first.get_attribute("href")
    page.close()
    assert missed == {}
