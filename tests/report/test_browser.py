"""The page in a real browser: everything is drawn, nothing is complained of, nothing is fetched, no width is too small.

Needs Chromium (`apt-get install chromium`) and Playwright, which drives it (extra `browser`); skipped without them.
"""

import shutil

import pytest

from pplemd.report import ReportData, page, subjects

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install 'pplemd[browser]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")]
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WIDTHS = {"phone": 390, "desktop": 1280}
DRAWN = """() => [...document.querySelectorAll("svg.chart")].filter(chart => {
  const boxes = [...chart.querySelectorAll("path.curve, path.path, path.dots, path.area")].map(p => p.getBBox());
  return chart.getBoundingClientRect().width > 200 && boxes.some(box => box.width + box.height > 1);
}).length"""
OVERFLOWING = """() => [...document.querySelectorAll("main *")].filter(one => {
  const inside = one.parentElement.closest(".wide, .numbers, details:not([open]), svg");
  return !inside && one.getBoundingClientRect().right > innerWidth + 1;
}).map(one => one.tagName + "." + one.className)"""


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


class Window:
    """A page that is open, and what was told of it.

    Args:
        browser: Chromium.
        path: the file.
        width: of the window, in pixels.
    """

    def __init__(self, browser, path, width):
        self.complaints, self.requests = [], []
        self.page = browser.new_page(viewport={"width": width, "height": 800})
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())


@pytest.fixture
def opened(chromium):
    windows = []

    def open_page(path, width):
        windows.append(Window(chromium, path, width))
        return windows[-1]

    yield open_page
    for window in windows:
        window.page.close()


@pytest.fixture(params=[1, 3], ids=["one run", "three runs"])
def report(request, made, images, points, tmp_path):
    """A report of one run of points, or of three runs."""
    paths = [made("ring", diagnosed=True)]
    drawn = [points]
    if request.param == 3:
        paths += [made("digits", seed=1, student=0.8), made("a-run-with-quite-a-long-name-indeed", judged=False)]
        drawn += [images, ReportData()]
    target = tmp_path / "report.html"
    target.write_bytes(page(subjects(paths, drawn), "pplemd report ring", "0"))
    return target


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_everything_is_drawn_and_nothing_complained_of(report, opened, width):
    window = opened(report, width)
    window.page.evaluate("() => document.querySelectorAll('details').forEach(one => one.open = true)")
    charts = window.page.locator("svg.chart").count()
    assert charts > 20
    assert window.page.evaluate(DRAWN) == charts
    assert window.page.evaluate("() => [...document.images].every(one => !one.src || one.naturalWidth > 0)")
    assert window.complaints == []
    assert {url.split(":")[0] for url in window.requests} <= {"file", "data"}


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_page_is_as_wide_as_its_window(report, opened, width):
    window = opened(report, width)
    assert window.page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert window.page.evaluate(OVERFLOWING) == []


def test_values_under_the_pointer(report, opened):
    window = opened(report, 1280)
    figure = window.page.locator("#curves figure").first
    before = figure.locator(".readout").inner_text()
    figure.locator("svg").hover()
    told = figure.locator(".readout").inner_text()
    assert told != before
    assert told.startswith("100:") or told.startswith("110:")  # the middle of 200 steps
    window.page.mouse.move(0, 0)
    assert figure.locator(".readout").inner_text() == before
    assert window.complaints == []


def test_pictures_are_looked_at_closely(made, images, opened, tmp_path):
    target = tmp_path / "report.html"
    target.write_bytes(page(subjects([made()], [images]), "pplemd report ring", "0"))
    window = opened(target, 390)
    window.page.locator("button.zoom").first.click()
    large = window.page.locator("dialog[open] img")
    width = large.bounding_box()["width"]
    assert 300 < width <= 390
    window.page.get_by_role("button", name="+").click()
    assert large.bounding_box()["width"] == pytest.approx(2 * width, abs=1)
    window.page.keyboard.press("Escape")
    assert window.page.locator("dialog[open]").count() == 0
    assert window.complaints == []
