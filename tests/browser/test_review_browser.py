"""The label review in a real JupyterLab in Chromium, by keyboard: what was answered is there, whatever ends."""

import os
import signal

import lab
import psutil
import pytest
from conftest import HOSTILE_NAMES as NAMES

from mlworkbench.analysis.suspects import rank_labels
from mlworkbench.data.corrections import read_corrections

pytestmark = pytest.mark.skipif(lab.chromium() is None, reason="needs Chromium (apt-get install chromium)")
SOURCE = """
from mlworkbench import Run
from mlworkbench.analysis.suspects import Suspects, rank_labels
from mlworkbench.views.review import LabelReview
judge = Run({!r}).predictions("val")
LabelReview(Run({!r}), Suspects(rank_labels(judge), judge, "held out"))
"""


@pytest.fixture(scope="module")
def book(handmade_run, tmp_path_factory):
    with lab.opened_cell(tmp_path_factory.mktemp("lab"), SOURCE.format(*2 * [str(handmade_run.folder)])) as book:
        yield book


@pytest.fixture
def review(book, handmade_run, tmp_path):
    """The review with no answers yet; afterwards a look at the page."""
    (handmade_run.folder / "corrections.csv").unlink(missing_ok=True)
    book.run()
    yield Review(book.page)
    book.page.screenshot(path=tmp_path / "page.png")
    assert book.problems == []


class Review:
    """What a person sees of it."""

    def __init__(self, page):
        self.page, self.box = page, page.locator(".mlw-review")
        self.box.wait_for()
        self.settle()
        self.box.focus()

    def settle(self):
        self.page.wait_for_selector(".mlw-review[aria-busy=false] .mlw-picture :is(img, p)")

    def press(self, *keys):
        for key in keys:
            view = self.box.get_attribute("data-at")
            self.page.keyboard.press(key)
            self.page.wait_for_selector(f".mlw-review[aria-busy=false]:not([data-at='{view}'])")

    @property
    def label(self):
        return self.box.locator(".mlw-path").inner_text(), self.box.locator("h3 b").inner_text()

    @property
    def answers(self):
        return self.box.locator("li em").all_inner_texts()

    def says(self, text):
        self.box.locator(".mlw-progress").filter(has_text=text).wait_for()


def on_file(run):
    file = run.folder / "corrections.csv"
    return [(m.image_path, m.class_name, m.mark) for m in read_corrections(file)] if file.exists() else []


def ranked(run):
    return [tuple(row) for row in rank_labels(run.predictions("val"))[["image_path", "class"]].to_numpy()]


def test_marked_undone_closed_and_opened_again_nothing_is_lost_or_twice(review, book, handmade_run):
    labels = ranked(handmade_run)
    assert review.label == labels[0]
    review.press("w", "r", "u", "n", "w", "b", "b", "ArrowRight")
    expected = ((0, "wrong"), (1, "right"), (2, "unsure"), (4, "wrong"))
    assert on_file(handmade_run) == [(*labels[i], mark) for i, mark in expected]
    assert review.answers[:5] == ["wrong", "right", "unsure", "seen", "wrong"] and review.label == labels[4]
    review.press("z", "z")
    assert [row[:2] for row in on_file(handmade_run)] == labels[:2] and review.label == labels[2]
    book.page.reload()
    book.page.wait_for_selector(".jp-Notebook .jp-Cell")
    book.page.wait_for_function("() => window.jupyterapp")
    book.run()
    review = Review(book.page)
    review.says("2 of 480 labels answered: 1 wrong, 1 right, 0 unsure.")
    assert review.answers[:3] == ["wrong", "right", "seen"] and review.label == labels[2]
    review.press("r", "z", "z", "z", "z")
    assert on_file(handmade_run) == [] and review.label == labels[0]
    assert review.box.get_by_role("status").inner_text() == "Nothing to undo."


def test_what_was_answered_when_the_kernel_is_killed_is_there(review, book, handmade_run):
    labels = ranked(handmade_run)
    review.press("w", "w", "r")
    review.page.keyboard.press("u")  # and no waiting for what comes of it
    kernel = next(
        child
        for child in psutil.Process(book.lab.process.pid).children(recursive=True)
        if any("ipykernel" in word for word in child.cmdline())
    )
    os.kill(kernel.pid, signal.SIGKILL)
    kept = on_file(handmade_run)
    assert kept[:3] == [(*labels[0], "wrong"), (*labels[1], "wrong"), (*labels[2], "right")] and len(kept) <= 4
    book.page.locator(".jp-Dialog button").click()  # it says that the kernel has died
    if review.box.get_attribute("aria-busy") == "false":  # the last one came through
        review.box.press("w")
    review.box.get_by_role("status").filter(has_text="The kernel does not answer").wait_for()
    book.run()
    review = Review(book.page)
    review.says(f"{len(kept)} of 480 labels answered: 2 wrong, 1 right")
    assert on_file(handmade_run) == kept and review.label == labels[len(kept)]


def test_keys_in_a_hurry_answer_only_for_images_that_were_shown(review, handmade_run):
    labels = ranked(handmade_run)
    review.page.evaluate(
        """() => { for (let i = 0; i < 5; i++) document.activeElement.dispatchEvent(
        new KeyboardEvent('keydown', {key: 'w', bubbles: true})) }"""
    )
    review.says("1 of 480")
    review.box.get_by_role("button", name="Wrong").dblclick()
    review.says("2 of 480")
    review.page.wait_for_timeout(500)
    assert [row[:2] for row in on_file(handmade_run)] == labels[:2]


def test_keys_are_no_commands_of_jupyterlab_and_leave_lists_alone(review, book, handmade_run):
    cells = book.page.locator(".jp-CodeCell")
    review.press("b", "r", "z")
    review.box.get_by_role("button", name="Right").focus()
    for key in "addm":  # a new cell, a cell away
        review.page.keyboard.press(key)
    for name in ("Show", "Class"):
        review.box.get_by_role("combobox", name=name).focus()
        review.page.keyboard.press("r")  # in a list a letter looks for an entry; elsewhere it makes a cell raw
    review.page.wait_for_timeout(500)
    assert cells.count() == 1 and on_file(handmade_run) == []


def test_class_names_are_text_and_everything_has_a_name(review):
    search = review.box.get_by_role("combobox", name="Class")
    search.click()
    assert review.box.get_by_role("option").all_inner_texts()[:5] == ["all classes", *NAMES]
    review.page.keyboard.type("ALERT")
    assert review.box.get_by_role("option").all_inner_texts()[:1] == [NAMES[2]]
    review.page.keyboard.press("Escape")
    assert search.input_value() == "all classes" and not review.box.get_by_role("listbox").is_visible()
    review.page.keyboard.type("ALERT")
    review.page.keyboard.press("Enter")
    review.box.locator("h3 b").filter(has_text="<script>").wait_for()
    assert review.label[1] == NAMES[2]
    assert review.page.locator(".mlw-review :is(script, mjx-container)").count() == 0
    told = review.box.inner_text()
    for word in ("Label", "Truth", "Prediction", "Threshold", "Margin", "label", "p 0."):
        assert word in told
    names = review.box.get_by_role("button").evaluate_all("all => all.map(b => b.getAttribute('aria-keyshortcuts'))")
    assert names == ["?", *"WRUBNZM"]
    review.box.focus()
    review.page.keyboard.press("?")
    keys = review.box.get_by_role("dialog", name="Keys")
    assert keys.locator("dt").all_inner_texts()[:3] == ["W", "R", "U"]
    review.page.keyboard.press("Escape")
    assert not keys.is_visible() and review.page.evaluate("document.activeElement.className") == "mlw-review"
