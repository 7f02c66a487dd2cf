"""The page of the threshold tuner alone, in Chromium: its kernel answers and its clock runs when the test says so."""

import base64
import json
import re
from dataclasses import replace

import lab
import numpy as np
import pytest
from conftest import HOSTILE_NAMES
from test_metrics import random_case

from mlworkbench import Thresholds, tune_thresholds
from mlworkbench.decisions.tuning import Curves
from mlworkbench.scoring.metrics import mean_defined, wilson
from mlworkbench.scoring.predictions import Predictions
from mlworkbench.text import number, shown
from mlworkbench.views.tuner import ThresholdTuner

pytestmark = pytest.mark.skipif(lab.chromium() is None, reason="needs Chromium (apt-get install chromium)")
TRAITS = ("fixed", "curve", "images", "state")
# A stand-in for what Jupyter has in the page: bytes as views, beginning where no number may.
OPEN = """async ([source, css, traits]) => {
  const view = (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)), all = new Uint8Array(bytes.length + 1);
    all.set(bytes, 1);
    return new DataView(all.buffer, 1);
  };
  const revive = (text) => JSON.parse(text, (_, value) => value?.bytes === undefined ? value : view(value.bytes));
  const store = revive(traits), listeners = {};
  window.sent = [];
  window.put = (text) => {
    const changed = revive(text);
    Object.assign(store, changed);
    for (const name of Object.keys(changed)) listeners[`change:${name}`]?.forEach((listener) => listener());
  };
  const model = { get: (name) => store[name], on: (what, listener) => (listeners[what] ??= []).push(listener),
    send: (message) => window.sent.push(message) };
  document.head.append(Object.assign(document.createElement('style'), { textContent: css }));
  const page = await import(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })));
  window.close = page.default.render({ model, el: document.body });
}"""
SET = """([field, values]) => values.map((value) => {
  field.value = value;
  for (const what of ['input', 'change']) field.dispatchEvent(new Event(what));
  return [...document.querySelectorAll('.mlw-counts span, .mlw-scores :is(span, small), tspan.mlw-bold')]
    .map((element) => element.textContent);
})"""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=lab.chromium(), args=[f"--{option}" for option in lab.QUIET]
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Open a tuner in a page of its own; afterwards no error may have been met."""
    problems, pages = [], []

    def open_page(t, width=1280):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        pages.append(page)
        return Opened(t, page)

    yield open_page
    for page in pages:
        page.close()
    assert problems == []


class Opened:
    """A tuner and its page, with what passes between them in the test's hands."""

    def __init__(self, t, page):
        self.t, self.page = t, page
        self.gone = {name: getattr(t, name) for name in TRAITS}
        page.clock.install(time=0)
        page.clock.pause_at(3600)  # it ran until here: no busy machine takes an hour for that
        page.set_content("<!doctype html><body style='margin: 0'></body>")
        page.evaluate(OPEN, [t._esm, t._css, json_of(self.gone)])
        self.list, self.field = page.get_by_role("listbox"), page.get_by_label("Threshold value")
        self.slider = page.get_by_role("slider")

    @property
    def sent(self):
        """What the page has sent and the kernel has not heard, in short."""
        return [(m["do"], m["class"], *m.get("with", [])) for m in self.page.evaluate("sent") if m["do"] != "look"]

    def answer(self, messages=100, looks=False):
        """Let the kernel hear the next messages, and the page its answer to each."""
        for message in self.page.evaluate("n => sent.splice(0, n)", messages):
            if message["do"] != "look" or looks:
                self.t._take(message)
                self.put()

    def put(self):
        now = {name: getattr(self.t, name) for name in TRAITS}
        changed = {name: value for name, value in now.items() if value is not self.gone[name]}
        self.gone = now
        self.page.evaluate("text => put(text)", json_of(changed))

    def rest(self):
        self.page.clock.run_for(300)

    def set(self, *values):
        """Type thresholds; for each the counts tp, fn, fp, tn, and all else that is written."""
        texts = self.page.evaluate(SET, [self.field.element_handle(), list(values)])
        return [([int(text.replace(",", "")) for text in row[8:12]], row[:8], row[12]) for row in texts]

    def choose(self, c):
        self.list.select_option(value=str(c))

    def press(self, *keys):
        for key in keys:
            self.slider.press(key)

    def button(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    @property
    def shows(self):
        return float(self.field.input_value())

    @property
    def says(self):
        return self.page.get_by_role("status").inner_text()

    @property
    def rows(self):
        return [text.replace("\u00a0", " ") for text in self.list.locator("option").all_text_contents()]


def json_of(traits):
    def told(value):
        return {"bytes": base64.b64encode(value).decode()}

    return json.dumps(traits, default=told)


@pytest.fixture
def case():
    return random_case(np.random.default_rng(0), c=3)


@pytest.fixture
def its(case, opened):
    saved = []
    it = opened(ThresholdTuner(case, tune_thresholds(case), save=lambda t: saved.append(t) or "here.json"))
    it.saved = saved
    it.choose(0)
    it.answer()
    return it


def test_the_page_counts_as_the_kernel_does_at_every_threshold(opened):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        case = random_case(rng, n=1500, c=2, unknown=True)  # with ties
        t = ThresholdTuner(case, tune_thresholds(case))
        it, curves = opened(t), Curves(case.labels, case.probabilities)
        for c in range(2):
            it.choose(c)
            it.answer()
            on = rng.choice(curves.scores[c], 150).astype(float)
            beside = [np.nextafter(on, 0), np.nextafter(on, 1), on + 1e-9]  # in float64, which float32 does not see
            grid = [np.round(np.arange(101) / 100, 2), rng.random(100), curves.cuts(c)[[0, -1]].astype(float)]
            for threshold, (counts, scores, limit) in zip(
                thresholds := np.concatenate([on, *beside, *grid]).tolist(), it.set(*thresholds), strict=True
            ):
                n = curves.at(c, threshold)
                assert counts == [n["tp"], n["fn"], n["fp"], n["tn"]], threshold
                assert limit == number(float(np.float32(threshold)))
                with_it = [n["f1"] if i == c else curves.at(i, t.values[i])["f1"] for i in range(2)]
                expected = n["precision"], n["recall"], n["f1"], mean_defined(np.array(with_it))
                for text, value, digits in zip(scores[::2], expected, (3, 3, 3, 4), strict=True):
                    assert text == shown(value, digits) or abs(float(text) - value) <= 0.5001 * 10**-digits
                ranges = [wilson(n["tp"], n["tp"] + n[other]) for other in ("fp", "fn")]
                assert scores[1:4:2] == ["–" if np.isnan(low) else f"{low:.2f} to {high:.2f}" for low, high in ranges]
            assert it.sent == [] and t.values[c] == tune_thresholds(case).values[c]


def test_numbers_are_written_as_everywhere(its):
    values = [0.0, 1e-6, 3.4e-12, 0.0004, 0.0005, 0.25, 0.9994, 0.9996, 0.999999, 1.0]
    assert [limit for *_, limit in its.set(*values)] == [number(float(np.float32(value))) for value in values]


def test_nothing_is_sent_until_a_move_rests_and_a_series_is_one_step(its):
    start = its.shows
    its.press("End", "ArrowLeft", "ArrowLeft")
    its.page.clock.run_for(290)
    its.press("ArrowLeft")
    its.page.clock.run_for(290)
    assert its.shows == 0.97 and its.sent == []
    its.rest()
    assert its.sent == [("move", 0, pytest.approx(0.97))]
    its.answer()
    its.press("ArrowLeft")
    its.rest()
    its.answer()
    assert its.t.values[0] == np.float32(0.96) and len(its.t._past) == 2
    its.button("Undo")
    its.answer()
    assert its.shows == 0.97
    its.button("Undo")
    its.answer()
    assert its.shows == pytest.approx(start, abs=1e-5) and "No changes" not in its.says and "Taken back." in its.says
    its.rest()
    assert its.sent == []  # what the kernel sets is no person's move


def test_a_move_is_told_before_whatever_else_is_asked(its):
    its.press("End", "ArrowLeft")
    its.button("Save")
    assert [what for what, *_ in its.sent] == ["move", "save"]
    its.answer()
    assert its.saved[0].values[0] == np.float32(0.99) and its.says == "Saved to here.json."
    its.press("ArrowLeft")
    its.button("Undo")
    its.answer()
    assert its.t.values[0] == np.float32(0.99) and its.shows == 0.99
    its.press("ArrowLeft")
    its.page.get_by_label("all classes").check()
    its.button("Hold recall")
    assert its.says == "working …"
    its.answer()
    assert len(its.t._past) == 3 and its.t.thresholds.objective == "recall"


def test_what_is_done_on_the_way_to_another_class_is_of_the_class_that_was_chosen(its):
    start = its.t.values.copy()
    its.press("End", "ArrowLeft")  # of class 0
    its.choose(1)
    its.press("Home", "ArrowRight")  # of class 1, before its curve has come
    assert its.page.get_by_role("heading", name="c0").is_visible()
    its.answer(1)
    assert its.shows == 0.01 and its.t.state["chosen"] == 0
    its.answer(1)
    assert its.shows == 0.01 and its.page.get_by_role("heading", name="c1").is_visible()  # its curve, and the move
    its.choose(0)
    its.choose(2)
    its.answer()
    assert its.t.values.tolist() == [np.float32(0.99), np.float32(0.01), start[2]]
    assert its.shows == pytest.approx(start[2], abs=1e-5) and len(its.t._past) == 2
    its.choose(0)
    its.choose(2)  # and back, before the other's curve has come
    its.press("Home", "ArrowRight")
    assert its.page.locator("tspan").first.text_content() == "0.010"
    its.answer(1)
    assert its.page.locator("tspan").first.text_content() == "0.010"
    its.rest()
    its.answer()
    assert its.t.values.tolist() == np.float32([0.99, 0.01, 0.01]).tolist() and its.t.state["chosen"] == 2


def test_an_answer_to_what_was_does_not_undo_what_is(its):
    its.press("End", "ArrowLeft")
    its.rest()
    its.press("ArrowLeft")
    its.answer()  # to 0.99
    assert its.shows == 0.98
    its.rest()
    its.answer()
    assert its.t.values[0] == np.float32(0.98)
    its.press("ArrowLeft")
    its.rest()
    its.press("ArrowLeft")
    its.rest()
    its.answer(1)  # to 0.97, while 0.96 is on its way
    assert its.shows == 0.96
    its.answer()
    its.button("Undo")
    its.button("Undo")
    its.answer(1)
    its.press("End")  # before the second answer
    its.answer()
    assert its.shows == 1
    its.rest()
    its.answer()
    assert its.t.values[0] == 1 and "Not saved: 1 threshold changed." in its.says


def test_the_python_side_is_seen_at_once(its):
    its.t.choose(2)
    its.t.move(0.123)
    its.put()
    assert its.shows == 0.123 and its.page.get_by_role("heading", name="c2").is_visible()
    assert its.rows[its.t.state["order"].index(2)].split()[1:2] == ["0.123"]


def test_a_move_is_told_when_the_focus_goes_elsewhere_or_the_page_ends(its):
    its.press("End")
    its.slider.evaluate("slider => slider.blur()")
    assert its.sent == [("move", 0, 1)]
    its.press("ArrowLeft")
    its.page.evaluate("close()")
    its.answer()
    assert its.t.values[0] == np.float32(0.99)


def test_an_answer_leaves_alone_what_is_being_typed(its):
    its.press("End")
    its.field.select_text()
    its.page.keyboard.type("0.6")
    its.rest()
    its.answer()
    its.page.keyboard.type("172")
    its.page.keyboard.press("Enter")
    assert its.shows == 0.6172
    its.rest()
    its.answer()
    assert its.t.values[0] == np.float32(0.6172)
    its.t.move(0.123456789)
    its.put()
    its.page.keyboard.press("Enter")  # nothing was typed, though five digits are shown
    its.page.keyboard.press("Tab")
    its.rest()
    assert its.sent == [] and its.shows == 0.12346


def test_a_silent_kernel_is_told_of_until_it_answers(its):
    its.press("End")
    its.page.clock.run_for(5200)
    assert "working" not in its.says and "does not answer" not in its.says
    its.page.clock.run_for(200)
    assert "The kernel does not answer" in its.says
    its.answer()
    assert its.says == "Not saved: 1 threshold changed."
    its.page.clock.run_for(6000)
    assert its.says == "Not saved: 1 threshold changed."


def test_values_stay_exact_though_the_slider_shows_steps(case, opened):
    values = np.array([0.44967, 1e-6, 1 - 2**-24], np.float32)
    it = opened(ThresholdTuner(case, Thresholds.default(case.class_names).with_values(values)))
    for c in range(3):
        it.choose(c)
        it.answer()
        assert float(it.slider.input_value()) == round(float(values[c]), 2) and abs(it.shows - values[c]) < 1e-5
    it.rest()
    assert it.sent == [] and "No changes" in it.says
    it.set(1e-5)
    assert float(it.slider.input_value()) == 0
    it.set(7)
    assert it.shows == 1
    it.set("")
    assert it.shows == 1
    it.rest()
    assert it.sent == [("move", 2, 1)]


def test_the_list_marks_what_needs_attention_and_stays_where_it_is(opened):
    rng = np.random.default_rng(1)
    case = random_case(rng, n=400, c=40)
    y = case.labels.copy()
    y[:, 7] = case.logits[:, 7] >= np.sort(case.logits[:, 7])[-8]  # few, and learnt all the same
    y[:, 8] = 0
    case = replace(case, y=y)
    t = ThresholdTuner(case, replace(tune_thresholds(case), met=np.arange(40) != 3))
    it = opened(t)
    rows = dict(zip(t.state["order"], it.rows, strict=True))
    assert it.rows[0] == rows[3] and rows[3].startswith("! ") and rows[7].startswith("· ") and rows[8].startswith("· ")
    assert it.rows[-1] == rows[8] and f" – {number(t.values[8]):>9}       0  c8" in rows[8]
    assert re.fullmatch(rf"  {t.state['f1'][0]:.3f} +{number(t.values[0])} +{y[:, 0].sum()}  c0", rows[0])
    it.choose(t.state["order"][25])
    it.answer()
    place = it.list.evaluate("list => list.scrollTop = 300")
    it.press("End")
    assert "1.000" in it.rows[25]
    it.rest()
    it.answer()
    assert it.list.evaluate("list => list.scrollTop") == place and it.rows[0].startswith("! ")


def test_the_list_is_searched_by_any_words_of_a_name(case, opened):
    names = ["Keel-billed toucan, adult", "Toucán (young)", "c"]
    t = ThresholdTuner(replace(case, class_names=names), Thresholds.default(names))
    it = opened(t)
    it.choose(2)
    it.answer()
    search = it.page.get_by_label("Search classes")

    def listed():
        return [option.get_attribute("title") for option in it.list.locator("option").all()]

    search.fill("toucan")  # whatever case and accents
    assert sorted(listed()) == names[:2] and it.sent == []
    search.fill("adult toucan")
    assert listed() == names[:1]
    search.press("Enter")
    assert it.sent == [("choose", 0)] and it.list.input_value() == "0"
    it.answer()
    assert listed() == names[:1] and it.page.get_by_role("heading", name=names[0]).is_visible()
    search.fill("zebra")
    search.press("Enter")  # nothing is found, nothing is chosen
    assert listed() == [] and it.sent == []
    search.press("Escape")
    assert sorted(listed()) == sorted(names) and search.input_value() == "" and it.list.input_value() == "0"
    search.press("ArrowDown")
    assert it.page.evaluate("document.activeElement.ariaLabel") == "Class"


def test_undo_is_grey_while_there_is_nothing_to_take_back(its):
    undo = its.page.get_by_role("button", name="Undo")

    def grey():
        return undo.get_attribute("aria-disabled")

    before = undo.evaluate("b => getComputedStyle(b).color")
    assert grey() == "true"
    its.press("End")
    assert grey() == "false" and undo.evaluate("b => getComputedStyle(b).color") != before
    its.rest()
    its.answer()
    assert grey() == "false"
    its.button("Undo")
    its.answer()
    assert grey() == "true" and undo.evaluate("b => b === document.activeElement")


def test_keys_are_listed_by_a_button_and_by_a_question_mark(its):
    keys, press = its.page.get_by_role("dialog", name="Keys"), its.page.keyboard.press
    its.slider.focus()
    press("?")
    assert keys.is_visible() and "another class" in keys.inner_text()
    press("Escape")
    assert not keys.is_visible() and its.page.evaluate("document.activeElement.ariaLabel") == "Threshold"
    press("?")
    press("?")
    assert not keys.is_visible()
    button = its.page.get_by_role("button", name="Keys")
    button.click()
    assert keys.is_visible() and button.get_attribute("aria-expanded") == "true"
    button.click()
    assert not keys.is_visible() and button.get_attribute("aria-expanded") == "false"
    its.page.get_by_label("Search classes").focus()
    press("?")
    assert not keys.is_visible() and its.page.get_by_label("Search classes").input_value() == "?"
    assert its.sent == []


def test_list_rules_and_curve_stand_side_by_side_in_a_common_window(opened):
    case = random_case(np.random.default_rng(0), c=40)
    it = opened(ThresholdTuner(case, Thresholds.default(case.class_names), save=print), 1000)
    places = [it.page.locator(f".mlw-{part}").bounding_box() for part in ("classes", "rules", "one")]
    listed, rules, one = places
    assert max(place["y"] + place["height"] for place in places) < 770
    assert listed["x"] == rules["x"] and rules["y"] > listed["y"] and one["x"] > listed["x"] + listed["width"]
    assert one["y"] == listed["y"]
    it.t.move(0.44967)
    it.put()
    it.field.focus()
    assert it.field.evaluate("field => field.scrollWidth <= field.clientWidth") and it.shows == 0.44967


def test_a_class_without_positives_has_no_curve_and_no_scores(case, opened):
    y = case.labels.copy()
    y[:, 1] = 0
    it = opened(ThresholdTuner(replace(case, y=y), Thresholds.default(case.class_names)))
    it.choose(1)
    it.answer()
    ((counts, scores, _),) = it.set(0)
    assert counts == [0, 0, 200, 0] and scores[:6] == ["0.000", "0.00 to 0.02", "–", "–", "–", "this class"]
    assert it.page.get_by_text("no positive, no curve").is_visible() and not it.page.locator(".mlw-point").is_visible()


def test_one_image_and_unknown_labels_alone_are_drawn(opened):
    for label in (1, 0, -1):
        case = Predictions(
            np.array(["a"], object), ["x"], np.array([[0.3]], np.float32), np.array([[label]], np.int8), "val"
        )
        it = opened(ThresholdTuner(case, Thresholds.default(["x"])))
        for value in (0, 0.57, 1):
            it.set(value)
            assert "nan" not in it.page.locator(".mlw-tuner").evaluate("box => box.outerHTML").lower()


def test_the_operating_point_lies_on_its_curve_with_its_interval(its):
    line = its.page.locator(".mlw-curve").get_attribute("d")
    corners = np.array(re.findall(r"H([\d.]+)V([\d.]+)", line), float)
    for threshold in (0.1, 0.5, 0.9):
        its.set(threshold)
        point = its.page.locator(".mlw-point")
        x, y = float(point.get_attribute("cx")), float(point.get_attribute("cy"))
        beside = corners[np.abs(corners[:, 0] - x) < 0.6, 1]  # steps closer than half a pixel are one
        assert beside.min() - 0.1 <= y <= beside.max() + 0.1
        left, _, right, _, low, high = map(float, re.search(
            r"^M([\d.]+) ([\d.]+)H([\d.]+)M([\d.]+) ([\d.]+)V([\d.]+)",
            its.page.locator(".mlw-interval").get_attribute("d")).groups())  # fmt: skip
        assert left <= x <= right and high <= y <= low and right - left > 5 and low - high > 5
    its.set(0.5)
    half = float(re.match(r"M([\d.]+)", its.page.locator(".mlw-half").last.get_attribute("d"))[1])
    assert half == pytest.approx(float(point.get_attribute("cx")))


def test_the_histograms_hold_every_image_and_stand_over_the_slider(its, case):
    y, p = case.labels[:, 0] == 1, case.probabilities[:, 0]
    for name, its_p in (("present", p[y]), ("absent", p[~y])):
        bars = its.page.locator(f"rect.mlw-{name}")
        heights = np.array(bars.evaluate_all("all => all.map(bar => Number(bar.getAttribute('height')))"))
        counts = np.histogram(its_p, np.linspace(0, 1, 51))[0]
        assert heights == pytest.approx(66 * np.sqrt(counts[counts > 0] / counts.max()))
        places = bars.evaluate_all("all => all.map(bar => bar.getAttribute('x'))")
        assert [float(place[:-1]) for place in places] == pytest.approx(2 * np.flatnonzero(counts))
    for value in (0, 0.25, 1):
        its.set(value)
        line, track = its.page.locator(".mlw-line").bounding_box(), its.slider.bounding_box()
        handle = track["x"] + 8 + value * (track["width"] - 16)
        assert abs(line["x"] + line["width"] / 2 - handle) < 0.75


def test_the_nearest_images_are_asked_for_when_it_rests_and_wrong_ones_are_marked(picture, tmp_path, opened):
    paths = np.array([picture(f"{i}.jpg", seed=i) for i in range(12)], object)
    p = np.linspace(0.05, 0.95, 12)[::-1]
    y = (p > 0.5).astype(np.int8)
    y[5], y[6], y[7], y[4] = 0, 1, -1, -1  # a false alarm, a miss, two unknown
    logits = np.log(p / (1 - p)).astype(np.float32)
    case = Predictions(paths, ["x", "z"], np.stack([logits, -logits], 1), np.stack([y, y], 1), "val")
    (tmp_path / "4.jpg").unlink()
    t = ThresholdTuner(case, Thresholds.default(["x", "z"]), tmp_path)
    t.choose(0)
    it = opened(t)
    figures = it.page.locator("figure")
    it.page.clock.run_for(290)
    assert figures.count() == 0 and it.page.evaluate("sent") == []
    it.rest()
    assert it.page.evaluate("sent") == [{"do": "look", "class": 0}]
    it.answer(looks=True)
    images = it.page.locator("figure [role=img], figure img")
    told = [f"{image.get_attribute('alt') or image.get_attribute('aria-label')}" for image in images.all()]
    wanted = ["absent", "absent", "unknown", "present", "absent", "unknown", "present", "present"]
    assert told == [
        f"{i}.jpg: p {number(float(case.probabilities[i, 0]))}, label {label}, called {called}"
        for i, label, called in zip(range(9, 1, -1), wanted, ["absent"] * 4 + ["present"] * 4, strict=True)
    ]
    marks = [text.split("\n")[-1] for text in it.page.locator("figcaption").all_inner_texts()]
    assert marks == [
        f"{mark}{label}" for mark, label in zip(["✓ ", "✓ ", "", "✗ ", "✗ ", "", "✓ ", "✓ "], wanted, strict=True)
    ]
    assert figures.evaluate_all("all => all.map(f => f.className)") == [
        "",
        "",
        "",
        "mlw-wrong",
        "mlw-wrong",
        "",
        "",
        "",
    ]
    assert images.nth(5).inner_text() == "cannot be read" and it.page.locator("figure img").count() == 7
    assert it.page.locator(".mlw-strip > *").nth(4).evaluate("cut => cut.tagName") == "I"
    it.choose(1)
    it.answer()
    assert figures.count() == 0  # none of another class
    it.press("ArrowRight")
    it.rest()
    assert [m["do"] for m in it.page.evaluate("sent")] == ["move", "look"]
    it.answer(looks=True)
    assert figures.count() == 8
    it.rest()
    assert it.page.evaluate("sent") == []  # they are there


def test_names_and_paths_stay_text(case, opened, tmp_path):
    name = "<img src=x onerror=alert(1)> $x$ '\"&amp;"
    case = replace(
        case, class_names=[name, *HOSTILE_NAMES[2:]], paths=np.array([f"{name}{i}" for i in range(200)], object)
    )
    t = ThresholdTuner(case, Thresholds.default(case.class_names), tmp_path)
    it = opened(t)
    it.choose(0)
    it.answer()
    it.rest()
    it.answer(looks=True)
    t.apply("guarantee", 1e-9)
    it.put()
    assert it.page.get_by_role("heading", name=name, exact=True).is_visible()
    assert it.rows[t.state["order"].index(0)].endswith(name) and name[:29] in it.says
    assert it.page.locator("figure div").first.get_attribute("title").startswith(name)
    assert it.page.locator("body :is(script, img)").count() == 0
    assert {"tex2jax_ignore", "mathjax_ignore"} <= set(it.page.locator("section").get_attribute("class").split())


@pytest.mark.parametrize("width", [1280, 1050, 900, 640, 400])
def test_it_fits_where_it_stands(opened, picture, tmp_path, width):
    case = random_case(np.random.default_rng(0), n=40, c=3)
    case = replace(case, paths=np.array([picture(f"{i}.jpg", seed=i) for i in range(40)], object))
    it = opened(ThresholdTuner(case, Thresholds.default(case.class_names), tmp_path, print), width)
    it.rest()
    it.answer(looks=True)
    for value in (0, 0.4999, 0.5, 1):
        it.set(value)
        ends = it.page.locator(".mlw-tuner :is(text, td, button, input, figure, figcaption)").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect()).flatMap(b => [b.left, b.right])"
        )
        assert min(ends) >= -0.5 and max(ends) <= width + 0.5
    assert it.page.evaluate("document.documentElement.scrollWidth") == width
