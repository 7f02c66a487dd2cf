"""The page for trying a run out in Chromium, in JupyterLab and by Voilà: images dropped, pasted, chosen, keys."""

import base64
import io
import os
import signal
import subprocess
import sys
import urllib.request
from urllib.error import HTTPError

import lab
import numpy as np
import psutil
import pytest
from helpers import blocks, untrained_run

from mlworkbench import predict

pytestmark = pytest.mark.skipif(lab.chromium() is None, reason="needs Chromium (apt-get install chromium)")
HOSTILE = ["<img src=x onerror=alert(1)>", "$x^2$", "=1+1", "a/b", "two\nlines", "图 ж 🐟", "<b>bold</b>"]
NAMES = [*HOSTILE, *(f"class {i}" for i in range(593))]
# An image file in the hands of a person: (bytes, name, type) as a DataTransfer.
HELD = """([files]) => {
  const held = new DataTransfer();
  for (const [text, name] of files) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    held.items.add(new File([bytes], name, { type: 'image/png' }));
  }
  return held;
}"""
PASTE = """(held) => document.activeElement.dispatchEvent(
  new ClipboardEvent('paste', { clipboardData: held, bubbles: true, cancelable: true }))"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 600 classes, of which some twenty are present in its first test image."""
    run = untrained_run(tmp_path_factory.mktemp("app") / "run", NAMES, size=64)
    p = np.sort(run.predict(["0.png"], run.root).probabilities[0])
    run.save_thresholds(float(p[-20]))
    return run


@pytest.fixture(scope="module")
def book(run, tmp_path_factory):
    source = f"from mlworkbench import deploy\ndeploy.try_out({str(run.folder)!r})"
    with lab.opened_cell(tmp_path_factory.mktemp("lab"), source) as book:
        yield book


@pytest.fixture
def page(book):
    page = Page(book.page)
    yield page
    assert book.problems == []


class Page:
    """What a person sees of it, and does."""

    def __init__(self, page):
        self.page, self.box = page, page.locator(".mlw-app")
        self.page.wait_for_selector(".mlw-app[data-shown]", timeout=120_000)
        self.box.focus()

    def does(self, act):
        """Do something, and wait for the kernel's answer."""
        at = self.box.get_attribute("data-at")
        act()
        self.page.wait_for_selector(f".mlw-app:not([data-at='{at}'])")
        self.page.wait_for_function(
            """() => { const { shown, at } = document.querySelector('.mlw-app').dataset;
            return shown === at || document.querySelector('.mlw-fault').textContent }"""
        )

    def held(self, *files):
        return self.page.evaluate_handle(HELD, [[(base64.b64encode(data).decode(), name) for data, name in files]])

    def drop(self, *files):
        held = self.held(*files)
        for what in ("dragenter", "dragover"):
            self.box.dispatch_event(what, {"dataTransfer": held})
        assert "mlw-over" in self.box.get_attribute("class")
        self.does(lambda: self.box.dispatch_event("drop", {"dataTransfer": held}))
        assert "mlw-over" not in self.box.get_attribute("class")

    @property
    def name(self):
        return self.box.locator(".mlw-name").inner_text()

    @property
    def fault(self):
        return self.box.locator(".mlw-fault").inner_text()

    @property
    def rows(self):
        """Of each class in sight its name, p, and whether it is called present."""
        return [
            (row.get_attribute("title").rpartition(": p ")[0], row.locator(".mlw-p").inner_text(), bool(row.locator(
                ".mlw-verdict").inner_text()))
            for row in self.box.locator("li button").all()
        ]  # fmt: skip

    @property
    def lit(self):
        """The class that is shown in the image, once it is."""
        self.page.wait_for_selector(".mlw-zone img:nth-child(2):visible")
        return self.box.locator(".mlw-zone img").nth(1).get_attribute("alt")


def image(seed, size=(50, 40), form="PNG"):
    buffer = io.BytesIO()
    blocks(size, seed).save(buffer, form)
    return buffer.getvalue()


def expected(run, data, folder):
    """What `predict` says of each class: p, and whether it is present."""
    file = folder / "same.png"
    file.write_bytes(data)
    frame, _ = predict(run, file)
    p, present = np.split(frame.iloc[0, 1:].to_numpy(np.float64), 2)
    return {name: (p[c], bool(present[c])) for c, name in enumerate(run.class_names)}


def close(found, wanted):
    """Of each class the same p as it is written, the present first, then the likely."""
    values = [1 - float(text[2:]) if text.startswith("1−") else float(text) for _, text, _ in found]
    np.testing.assert_allclose(values, [wanted[name][0] for name, *_ in found], atol=0.0006)
    assert [present for *_, present in found] == [wanted[name][1] for name, *_ in found]
    there = sum(present for _, present in wanted.values())
    assert len(found) == max(12, there) and [present for *_, present in found] == [i < there for i in range(len(found))]
    assert values[:there] == sorted(values[:there], reverse=True) and values[there:] == sorted(
        values[there:], reverse=True
    )


# First, since two of Playwright's loops cannot be open at once, and `book` keeps one.
def test_the_same_page_for_others_answers_alike_and_ends_cleanly(run, tmp_path):
    pytest.importorskip("voila", reason="the page for others is Voilà's")
    from playwright.sync_api import sync_playwright

    server = subprocess.Popen(
        [sys.executable, "-m", "mlworkbench", "app", str(run.folder), "--no-browser"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(lab.PROJECT)}, start_new_session=True,
    )  # fmt: skip
    problems, data = [], image(4)
    try:
        address = server.stdout.readline().strip()
        here, _, token = address.partition("/?token=")
        assert here.startswith("http://127.0.0.1:")
        for path in ("/voila/files/page.ipynb", "/voila/files/x.png", f"{run.folder}/run.json"):
            with pytest.raises(HTTPError, match="403"):
                urllib.request.urlopen(f"{here}{path}?token={token}")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=lab.chromium(), args=[f"--{option}" for option in lab.QUIET]
            )
            stranger = browser.new_page()
            stranger.goto(here)
            assert "/login" in stranger.url and stranger.locator(".mlw-app").count() == 0
            context = browser.new_context(color_scheme="dark")
            context.route(lambda url: not url.startswith((here, "data:", "blob:")), lambda route: (
                problems.append(f"asked for {route.request.url}"), route.abort()))  # fmt: skip
            tab = context.new_page()
            tab.on("pageerror", lambda error: problems.append(str(error)))
            tab.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
            tab.goto(address, timeout=180_000)
            page = Page(tab)
            page.drop((data, "a.png"))
            close(page.rows, expected(run, data, tmp_path))
            page.box.locator("li button").first.hover()
            assert page.lit
            assert tab.locator(".jp-InputArea").count() == 0 and "try_out" not in tab.locator("body").inner_text()
            paper = page.box.evaluate("box => getComputedStyle(box).backgroundColor")
            assert max(map(int, paper[4:-1].split(","))) < 80
            browser.close()
        kernels = psutil.Process(server.pid).children(recursive=True)
        assert kernels
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        gone, alive = psutil.wait_procs(kernels, 20)
        assert not alive and len(gone) == len(kernels)
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
    assert problems == []


def test_an_image_dropped_or_pasted_gets_the_numbers_of_predict(page, run, tmp_path):
    first, second = image(1), image(2, (1400, 1100), "BMP")  # the second goes in three pieces
    assert len(second) > 2 * 2**21
    page.drop((first, "a.png"), (second, "b.png"))
    assert page.name == "a.png"
    close(page.rows, expected(run, first, tmp_path))
    page.does(lambda: page.page.evaluate(PASTE, page.held((second, "image.png"))))
    close(page.rows, expected(run, second, tmp_path))
    page.drop((first, "a.png"))
    with page.page.expect_file_chooser() as chooser:
        page.box.press("o")
    chosen = {"name": "c.png", "mimeType": "image/png", "buffer": second}
    page.does(lambda: chooser.value.set_files(chosen))
    assert page.name == "c.png"


def test_what_is_no_image_is_told_and_the_next_one_is_taken(page):
    page.drop((image(3), "good.png"))
    page.drop((b"<svg/>", "<b>bad</b>.png"))
    assert page.fault == "<b>bad</b>.png: not an image that Pillow can read: SVG or other XML; save it as PNG"
    assert page.name == "good.png" and page.box.locator("h3 b").count() > 0
    page.box.dispatch_event("drop", {"dataTransfer": page.page.evaluate_handle("() => new DataTransfer()")})
    assert page.fault == "Only the file of an image can be dropped; save it first."
    field = page.box.get_by_label("Path of an image")
    field.fill("../run.json")
    page.does(lambda: field.press("Enter"))
    assert page.fault.startswith("../run.json: outside the image root")
    field.fill("1.png")
    page.does(lambda: field.press("Enter"))
    assert page.fault == "" and page.name == "1.png"


def test_by_keys_alone_and_no_key_is_a_command_of_jupyterlab(page, book):
    cells = book.page.locator(".jp-CodeCell").count()
    page.does(lambda: page.box.press("n"))
    names = [row[0] for row in page.rows]
    page.page.keyboard.press("ArrowDown")
    assert page.lit == f"where {names[0]} is seen"
    page.page.keyboard.press("ArrowDown")
    page.page.wait_for_function(
        f"() => document.querySelector('.mlw-zone img:nth-child(2)').alt.includes({names[1]!r})"
    )
    page.page.keyboard.press("Enter")  # stays when the focus goes
    assert page.box.locator("[aria-pressed=true]").get_attribute("title").startswith(names[1])
    page.box.focus()
    assert page.lit == f"where {names[1]} is seen"
    page.page.keyboard.press("Escape")
    page.page.wait_for_selector(".mlw-zone img:nth-child(2)", state="hidden")
    for key in "abdxmy":  # new cells, cells away, other kinds of cells
        page.page.keyboard.press(key)
    page.page.wait_for_timeout(300)
    assert book.page.locator(".jp-CodeCell").count() == cells
    status = page.box.get_by_role("status").inner_text()
    assert f" of {len(NAMES)} classes at or above the threshold" in status


def test_the_pointer_shows_where_and_a_search_finds_any_of_many_classes(page):
    row = page.box.locator("li button").nth(2)
    row.hover()
    assert page.lit in {f"where {name} is seen" for name, *_ in page.rows}
    page.box.locator(".mlw-name").hover()
    page.page.wait_for_selector(".mlw-zone img:nth-child(2)", state="hidden")
    search = page.box.get_by_label("Search classes")
    search.fill("CLASS 59")
    assert {name for name, *_ in page.rows} == {"class 59", "class 590", "class 591", "class 592"}
    search.fill("<")
    assert {name for name, *_ in page.rows} == {HOSTILE[0], HOSTILE[-1]}
    search.fill("no such class")
    assert page.rows == [] and "no class of this name" in page.box.inner_text()
    search.fill("")
    assert len(page.rows) >= 12


def test_names_are_text_and_everything_has_a_name(page):
    search = page.box.get_by_label("Search classes")
    for name in HOSTILE:
        search.fill(name.split("\n")[0])
        assert name in [row[0] for row in page.rows]
    assert page.box.locator("li :is(img, b b, script, mjx-container)").count() == 0
    search.fill("")
    label = page.box.locator("li button").first.get_attribute("aria-label")
    assert ": p " in label and ", threshold " in label and label.endswith("; show where")
    for name in ("Choose an image", "Another test image"):
        assert page.box.get_by_role("button", name=name).count() == 1
    assert page.box.locator(".mlw-zone img").first.get_attribute("alt").startswith("the image ")


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_it_can_be_read_in_both_themes_and_where_it_is_narrow(page, theme):
    page.page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', { theme: name })", theme)
    light = str(theme.endswith("Light")).lower()
    page.page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")
    page.page.wait_for_timeout(500)
    shown = page.box.evaluate(
        """box => ['.mlw-class', '.mlw-name', '.mlw-status', '.mlw-p'].map(what => {
        const colour = getComputedStyle(box.querySelector(what)).color;
        return [colour, getComputedStyle(box).backgroundColor].map(text => text.match(/[\\d.]+/g).map(Number)) })"""
    )
    for ink, paper in shown:
        assert contrast(ink, paper) >= 4.5
    for width in (1280, 700):
        page.page.set_viewport_size({"width": width, "height": 900})
        page.page.wait_for_timeout(200)
        inside = page.box.evaluate(
            """box => [...box.querySelectorAll('button, img, input, h3, p')].filter(e => e.offsetParent).every(e =>
            e.getBoundingClientRect().right <= box.getBoundingClientRect().right + 1)"""
        )
        assert inside
    page.page.set_viewport_size({"width": 1280, "height": 1100})


def contrast(ink, paper):
    """The ratio of WCAG 2, of a colour that may be transparent over one that is not."""
    alpha = ink[3] if len(ink) > 3 else 1
    mixed = [alpha * a + (1 - alpha) * b for a, b in zip(ink[:3], paper[:3], strict=True)]

    def luminance(colour):
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(mixed), luminance(paper[:3])))
    return (high + 0.05) / (low + 0.05)
