"""The threshold tuner of notebook 03 in a real JupyterLab in Chromium: by mouse, by key, and what comes of it."""

import json
import re
import shutil

import lab
import nbformat
import numpy as np
import pytest
from conftest import HOSTILE_NAMES as NAMES
from conftest import PROJECT

from mlworkbench import tune_thresholds
from mlworkbench.runs import folder as folder_of

pytestmark = pytest.mark.skipif(lab.chromium() is None, reason="needs Chromium (apt-get install chromium)")


@pytest.fixture(scope="module")
def book(handmade_run, tmp_path_factory):
    home = tmp_path_factory.mktemp("lab")
    notebooks = home / "notebooks"
    notebooks.mkdir()
    shutil.copy(PROJECT / "notebooks/03_tune_thresholds.ipynb", notebooks)
    file = notebooks / "03_tune_thresholds.ipynb"
    content = nbformat.read(file, as_version=4)
    cell = next(cell for cell in content.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source += f"\nrun_dir = {str(handmade_run.folder)!r}"
    nbformat.write(content, file)
    with lab.opened(home, notebooks, file.name) as book:
        book.run()
        yield book


@pytest.fixture
def tuner(book, handmade_run, tmp_path):
    """The tuner with the thresholds as tuned and saved, on the first class; afterwards a look at the page."""
    page = book.page
    tuner = Tuner(page, page.locator(".mlw-tuner"))
    tuner.box.scroll_into_view_if_needed()
    tuner.box.get_by_role("radio", name="all classes").check()
    tuner.press("Best F1")
    tuner.box.get_by_role("radio", name="this class").check()
    rows = tuner.list.locator("option").all_inner_texts()
    tuner.list.select_option(index=next(i for i, row in enumerate(rows) if row.strip()[0] != "?"))  # ?: not learnt
    tuner.press("Save")
    tuner.says("Saved to")
    yield tuner
    page.wait_for_timeout(800)  # the images follow when the slider rests
    page.screenshot(path=tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000
    assert book.problems == []


class Tuner:
    """What a person sees of it."""

    def __init__(self, page, box):
        self.page, self.box = page, box
        self.list = box.get_by_role("listbox", name="Class")
        self.slider = box.get_by_role("slider", name="Threshold")
        self.field = box.get_by_role("spinbutton", name="Threshold value")

    def press(self, name):
        self.box.get_by_role("button", name=name, exact=True).click()

    def says(self, text):
        self.box.get_by_role("status").filter(has_text=text).wait_for()

    def shows(self, threshold):
        self.box.locator(f"tspan:text-is('{threshold}')").wait_for()

    @property
    def numbers(self):
        return self.box.locator(".mlw-scores").inner_text() + self.box.locator(".mlw-counts").inner_text()

    @property
    def point(self):
        point = self.box.locator(".mlw-point")
        return point.get_attribute("cx"), point.get_attribute("cy")

    @property
    def track(self):
        """Where the middle of the handle goes: left end, width and height in the page."""
        box = self.slider.bounding_box()
        return box["x"] + 8, box["width"] - 16, box["y"] + box["height"] / 2

    def wait_numbers(self, run, c, threshold):
        """Until the page shows the counts that this threshold gives on validation."""
        val = run.predictions("val")
        y, called = val.y[:, c] == 1, val.probabilities[:, c] >= np.float32(threshold)
        for count, what in (((y & called).sum(), "found"), ((~y & called).sum(), "false alarms")):
            self.box.locator(".mlw-counts td").filter(has_text=re.compile(rf"^{count} {what}$")).wait_for()


def class_of(tuner):
    return NAMES.index(tuner.list.locator("option:checked").inner_text().replace("\xa0", " ").split("  ")[-1].strip())


def saved(run):
    return json.loads((run.folder / folder_of.THRESHOLDS).read_text())


def test_the_page_shows_what_the_kernel_says(tuner, handmade_run):
    c = class_of(tuner)
    tuner.wait_numbers(handmade_run, c, handmade_run.thresholds().values[c])
    tuner.box.locator("figure img").nth(7).wait_for()
    assert tuner.box.locator("figure img").count() == 8
    assert all(tuner.box.locator("figure img").evaluate_all("all => all.map(i => i.naturalWidth > 0)"))
    inside = tuner.box.evaluate(
        "box => [...box.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1"
        " && /auto|scroll/.test(getComputedStyle(e).overflowX)).map(e => e.className)"
    )
    assert inside == [], "something has a scroll bar"
    (left, width, _), axis = tuner.track, tuner.box.locator(".mlw-axis").first.bounding_box()
    assert abs(left - axis["x"]) < 1.5 and abs(width - axis["width"]) < 1.5


def test_the_picture_in_its_place_is_hidden_where_it_runs(tuner):
    tuner.page.wait_for_selector(".jp-OutputArea-child:has(.mlw-live)")
    picture = tuner.page.locator(".jp-OutputArea-child:has(.mlw-live) + .jp-OutputArea-child")
    assert picture.locator(".jp-RenderedImage").count() == 1 and not picture.is_visible()
    saved = tuner.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells")
    (cell,) = [cell for cell in saved if "ThresholdTuner" in "".join(cell["source"])]
    assert len(cell["outputs"][1]["data"]["image/png"]) > 10_000  # what is saved has it


def test_the_mouse_moves_it_and_the_numbers_follow(tuner, handmade_run):
    c, before = class_of(tuner), tuner.point
    left, width, y = tuner.track
    tuner.page.mouse.move(left + float(tuner.slider.input_value()) * width, y)
    tuner.page.mouse.down()
    tuner.page.mouse.move(left + 0.7 * width, y, steps=12)
    tuner.page.mouse.up()
    tuner.says("Not saved: 1 threshold changed.")
    value = float(tuner.field.input_value())
    assert abs(value - 0.7) <= 0.02
    tuner.shows(f"{value:.3f}")
    tuner.wait_numbers(handmade_run, c, value)
    assert tuner.point != before
    tuner.press("Undo")  # a whole drag is one step
    tuner.says("Taken back.")
    assert tuner.point == before


def test_keys_alone_choose_move_apply_undo_and_save(tuner, handmade_run):
    page, press = tuner.page, tuner.page.keyboard.press
    before = saved(handmade_run)["classes"]
    tuner.list.focus()
    press("ArrowDown")
    tuner.box.get_by_role("heading", name=NAMES[class_of(tuner)]).wait_for()
    c = class_of(tuner)
    press("Tab")
    assert page.evaluate("() => document.activeElement.ariaLabel") == "Threshold"
    press("Home")
    tuner.shows("0.000")
    for _ in range(3):
        press("ArrowRight")
    tuner.shows("0.030")
    tuner.wait_numbers(handmade_run, c, 0.03)
    press("Tab")
    page.keyboard.press("Control+a")
    page.keyboard.type("0.6172")
    press("Enter")
    tuner.shows("0.617")
    tuner.wait_numbers(handmade_run, c, 0.6172)
    names = []
    for _ in range(30):
        press("Tab")
        names.append(page.evaluate("() => document.activeElement.innerText || document.activeElement.type"))
        if names[-1] == "Hold recall":
            break
    assert names[:3] == ["radio", "Best F1", "Best F-beta"]  # within a group of radio buttons arrow keys go
    press("Space")
    tuner.says("Not saved")
    value = tune_thresholds(handmade_run.predictions("val"), "recall", 0.9).values[c]
    tuner.shows(f"{value:.3f}")
    while page.evaluate("() => document.activeElement.innerText") != "Undo":
        press("Tab")
    press("Enter")
    tuner.shows("0.617")
    press("Tab")
    press("Enter")
    tuner.says("Saved to")
    after = saved(handmade_run)
    assert after["classes"][NAMES[c]]["threshold"] == pytest.approx(0.6172) and after["objective"] == "by hand"
    others = [name for name in NAMES if name != NAMES[c]]
    kept = [after["classes"][name] | {"met": before[name]["met"]} for name in others]
    assert kept == [before[name] for name in others]


def test_a_rule_for_all_reaches_the_file_and_undo_the_page(tuner, handmade_run):
    before = saved(handmade_run)
    c, shown = class_of(tuner), tuner.numbers
    tuner.box.get_by_role("radio", name="all classes").check()
    tuner.box.get_by_role("spinbutton", name="precision ≥").fill("0.7")
    tuner.press("Hold precision")
    wanted = tune_thresholds(handmade_run.predictions("val"), "precision", 0.7)
    old = [before["classes"][name]["threshold"] for name in NAMES]
    changed = f"Not saved: {int((np.float32(old) != wanted.values).sum())} thresholds changed."
    tuner.says(changed)
    tuner.wait_numbers(handmade_run, c, wanted.values[c])
    tuner.press("Save")
    tuner.says("thresholds.json")
    assert saved(handmade_run) == wanted.to_dict() | {"run": "run"}
    tuner.press("Undo")
    tuner.says(f"Taken back. {changed}")
    assert tuner.numbers == shown
    tuner.press("Save")
    tuner.says("Saved to")
    assert saved(handmade_run) == before


def test_fast_keys_through_the_classes_change_no_threshold(tuner, handmade_run):
    before = saved(handmade_run)
    tuner.list.focus()
    for key in ["ArrowDown"] * 3 + ["ArrowUp"] * 2 + ["ArrowDown"]:
        tuner.page.keyboard.press(key)
    assert tuner.list.locator("option").nth(2).evaluate("option => option.selected")
    tuner.box.get_by_role("heading", name=NAMES[class_of(tuner)]).wait_for()
    tuner.page.wait_for_timeout(1000)
    tuner.press("Save")
    tuner.says("Saved to")
    assert saved(handmade_run) == before


def test_every_control_has_a_name_and_class_names_are_text(tuner):
    tuner.box.locator("figure img").nth(7).wait_for()
    controls = [
        line.strip()
        for line in tuner.box.aria_snapshot().splitlines()
        if re.match(r"\s*- '?(button|slider|spinbutton|listbox|radio|combobox|textbox|img|option)\b", line)
    ]
    assert len(controls) > 25 and not [line for line in controls if '"' not in line]
    assert len({line for line in controls if "spinbutton" in line}) == 6
    tuner.list.select_option(
        index=next(i for i in range(4) if "script" in tuner.list.locator("option").nth(i).inner_text())
    )
    tuner.box.get_by_role("heading", name=NAMES[2]).wait_for()
    assert tuner.page.locator(".mlw-tuner script, .mlw-tuner mjx-container").count() == 0
