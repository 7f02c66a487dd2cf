"""The report in Chromium: silent, whole in itself, readable in light and dark, on narrow screens and by keyboard."""

import lab
import pytest
from helpers import WILD_NAMES, finished_run

from mlworkbench import report

pytestmark = pytest.mark.skipif(lab.chromium() is None, reason="needs Chromium (apt-get install chromium)")
# Each text with its colour and what lies behind it, as the page has them.
COLOURS = """() => [...document.querySelectorAll('h1,h2,p,a,dt,dd,.ends,caption,th,td,summary,small,code,footer')]
  .map(element => { let behind = element;
    while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
    return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]; })"""
TEXTS = "[...document.querySelectorAll('tbody th')].map(cell => cell.textContent)"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    run = finished_run(tmp_path_factory.mktemp("page"), WILD_NAMES)
    run.evaluate("test")
    return report(run)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = [f"--{option}" for option in lab.QUIET]
        browser = playwright.chromium.launch(executable_path=lab.chromium(), args=options)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, file):
    """Open the page; at the end nothing may have been said in its console, or asked for."""
    told, pages = [], []

    def open_it(width=1440, scheme="light", content=None):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: told.append(request.url) if request.url[:5] not in ("file:", "data:") else 0)
        page.goto(f"file://{file}")
        pages.append(page)
        return page

    yield open_it
    assert not told
    for page in pages:
        page.close()


def luminance(colour):
    """Relative luminance of `rgb(r, g, b)`, as WCAG defines it."""
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_and_every_name_is_text(opened, scheme):
    page = opened(scheme=scheme)
    found = page.evaluate(COLOURS)
    light = [sorted((luminance(text), luminance(behind))) for text, behind in found]
    assert len(found) > 100 and min((high + 0.05) / (low + 0.05) for low, high in light) >= 4.5
    assert (luminance(found[0][1]) < 0.1) == (scheme == "dark")
    assert set(WILD_NAMES) <= set(page.evaluate(TEXTS)) and page.locator("script, button, [onerror]").count() == 0
    broken = "[...document.images].filter(image => !(image.complete && image.naturalWidth)).length"
    assert page.evaluate(broken) == 0


def test_a_figure_in_the_dark_has_the_colour_of_the_page(opened, tmp_path):
    from PIL import Image

    page = opened(scheme="dark")
    page.locator("img.drawn").first.screenshot(path=tmp_path / "figure.png")
    picture = Image.open(tmp_path / "figure.png").convert("RGB")
    assert max(abs(part - 0x12) for part in picture.getpixel((3, 3))) <= 1
    assert max(high for _, high in picture.getextrema()) > 200


@pytest.mark.parametrize("width", [1440, 1024, 640, 400])
def test_it_is_as_wide_as_the_screen(opened, width):
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_it_is_read_by_keyboard_and_printed_whole(opened):
    page = opened(400)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Summary"
    fold = page.locator("summary").first
    fold.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.get_attribute("open") is not None
    card = page.locator(".cards summary").first
    small = card.locator("img").bounding_box()["height"]
    card.focus()
    page.keyboard.press("Enter")
    assert card.locator("img").bounding_box()["height"] > 2 * small
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("details").last.locator("td").first.is_visible() and not page.locator("nav").is_visible()


def test_even_a_name_that_was_let_through_would_do_nothing(browser, file, tmp_path):
    """The policy itself: the page with a script, a handler and pictures put into it."""
    ran = "document.title = 'ran'"
    hostile = f'<script>{ran}</script><img src=x onerror="{ran}"><img src=http://127.0.0.1:9/x>'
    spoiled = tmp_path / "spoiled.html"
    spoiled.write_text(file.read_text(encoding="utf-8").replace("</main>", f"{hostile}</main>"), encoding="utf-8")
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request))
    page.goto(f"file://{spoiled}")
    others = [request for request in asked if not request.url.startswith(("data:", spoiled.as_uri()))]
    assert page.title() == "Run run" and [request.failure for request in others] == ["csp", "csp"]
    page.close()
