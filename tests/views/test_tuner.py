import asyncio
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score
from test_metrics import random_case

from mlworkbench import Thresholds, WorkbenchError, tune_thresholds
from mlworkbench.scoring.thresholds import Curves
from mlworkbench.text import number
from mlworkbench.views import tuner, tuner_picture
from mlworkbench.views.tuner import ThresholdTuner


@pytest.fixture
def case():
    return random_case(np.random.default_rng(0), c=3)


@pytest.fixture
def its(case):
    saved = []
    return SimpleNamespace(
        saved=saved, tuner=ThresholdTuner(case, tune_thresholds(case), save=lambda t: saved.append(t) or "here.json")
    )


def text_of(widget):
    return re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", " ", widget.value, flags=re.DOTALL)).strip()


def test_everything_follows_a_move_and_no_other_class_does(case, its):
    t = its.tuner
    t.classes.value = 1
    before, rows = t.values.copy(), dict(zip(t.classes._options_values, t.classes._options_labels, strict=True))
    t.slider.value = 0.25
    known = case.labels[:, 1] >= 0
    y, called = case.labels[known, 1], case.probabilities[known, 1] >= 0.25
    numbers = text_of(t._layer)
    for score in (precision_score, recall_score, f1_score):
        assert f"{score(y, called):.3f}" in numbers
    for truth, said, what in ((1, 1, "found"), (1, 0, "missed"), (0, 1, "false alarms"), (0, 0, "rightly")):
        assert f" {((y == truth) & (called == said)).sum()} {what}" in numbers
    macro = [f1_score(*both(case, c, t.values[c])) for c in range(3)]
    assert f"{np.mean(macro):.4f}" in numbers and f"was {t._macro:.4f}" in numbers
    assert t.field.value == 0.25 and t.values[1] == 0.25 and (np.delete(t.values, 1) == np.delete(before, 1)).all()
    now = dict(zip(t.classes._options_values, t.classes._options_labels, strict=True))
    assert [c for c in range(3) if now[c] != rows[c]] == [1] and "0.250" in now[1]
    assert "Not saved: 1 threshold changed." in t._status.value and t.thresholds.objective == "by hand"


def both(case, c, threshold):
    known = case.labels[:, c] >= 0
    return case.labels[known, c], case.probabilities[known, c] >= np.float32(threshold)


def test_a_move_sends_the_layer_and_the_two_paired_controls_alone(its, monkeypatch):
    t, sent = its.tuner, []
    monkeypatch.setattr(t, "_later", lambda: None)  # what waits until the slider rests
    for widget in (t, t.classes, t.slider, t.field, t._background, t._layer, t._images, t._status):
        widget.observe(lambda change: sent.append((change["owner"], change["name"])))
    t.slider.value = 0.31
    assert {widget for widget, _ in sent} == {t.slider, t.field, t._layer}
    assert len(t._layer.value) < 3000


def test_values_stay_exact_though_the_slider_shows_steps(case):
    values = np.array([0.44967, 1e-6, 1 - 2**-24], np.float32)
    t = ThresholdTuner(case, Thresholds.default(case.class_names).with_values(values))
    for c in range(3):
        t.classes.value = c
        assert t.slider.value == round(t.slider.value, 2) and abs(t.field.value - values[c]) < 1e-5
    assert (t.values == values).all() and "No changes" in t._status.value
    t.field.value = 1e-5
    assert t.values[2] == np.float32(1e-5) and t.slider.value == 0
    assert [number(v) for v in (0.0, 1e-6, 0.25, 0.9999999, 1.0)] == [
        "0.000", "1e-06", "0.250", "1−1e-07", "1.000"
    ]  # fmt: skip


@pytest.mark.parametrize("objective, target", [(o, tuner.RULES[o][2] or None) for o in tuner.RULES])
def test_a_rule_for_all_gives_what_tuning_gives(case, its, objective, target):
    t = its.tuner
    t.scope.value = True
    t.buttons[objective].click()
    wanted = (
        Thresholds.default(case.class_names) if objective == "default" else tune_thresholds(case, objective, target)
    )
    assert (t.thresholds.values == wanted.values).all()
    assert (t.thresholds.objective, t.thresholds.target) == (objective, target)
    if wanted.met is not None:
        assert (t.thresholds.met == wanted.met).all()
    t.undo()
    assert (t.thresholds.values == tune_thresholds(case).values).all() and t.thresholds.objective == "f1"


def test_a_rule_for_one_class_leaves_the_others_and_drops_the_name_of_the_objective(case, its):
    t = its.tuner
    t.classes.value = 2
    t.buttons["recall"].click()
    own, kept = tune_thresholds(case, "recall", 0.9).values, tune_thresholds(case).values
    assert t.values.tolist() == [kept[0], kept[1], own[2]]
    assert t.thresholds.objective == "by hand" and t.thresholds.met is None
    t.buttons["f1"].click()
    assert t.thresholds.objective == "f1" and (t.values == kept).all()


def test_undo_takes_back_every_step_and_goes_to_its_class(its):
    t = its.tuner
    start, states = t.values.copy(), []
    t.classes.value = 0
    for act in (
        lambda: setattr(t.slider, "value", 0.9),
        lambda: setattr(t.classes, "value", 1) or setattr(t.field, "value", 0.123),
        lambda: t.apply("precision", 0.7, to_all=True),
        lambda: t.apply("default"),
    ):
        states.append((t.values.copy(), t.thresholds.objective))
        act()
    t.classes.value = 2
    for values, objective in states[::-1]:
        t.buttons["undo"].click()
        assert (t.values == values).all() and t.thresholds.objective == objective
    assert (t.values == start).all() and t.classes.value == 0 and "Not saved" not in t._status.value
    t.undo()
    assert "Nothing to undo" in t._status.value


def test_moves_without_a_rest_are_one_step_and_images_wait_for_the_rest(its, monkeypatch):
    t, drawn = its.tuner, []
    monkeypatch.setattr(tuner, "REST", 0.05)
    monkeypatch.setattr(t, "_nearest", lambda: drawn.append(1) or "")
    start = t.values.copy()

    async def drag():
        for value in (0.2, 0.3, 0.4):
            t.slider.value = value
            await asyncio.sleep(0)
        assert not drawn
        await asyncio.sleep(0.5)
        t.slider.value = 0.5
        await asyncio.sleep(0.5)

    asyncio.run(drag())
    assert len(drawn) == 2
    t.undo()
    assert t.values[t.classes.value] == np.float32(0.4)
    t.undo()
    assert (t.values == start).all()


def test_save_hands_over_what_stands_and_says_where_or_why_not(case, its):
    t = its.tuner
    t.slider.value = 0.75
    t.buttons["save"].click()
    (saved,) = its.saved
    assert saved.values[t.classes.value] == 0.75 and saved.split == "test" and len(saved.tuned_paths) == 200
    assert "Saved to here.json." in t._status.value and "Not saved" not in t._status.value
    assert (saved.positives == (case.labels == 1).sum(0)).all()

    def locked(_):
        raise WorkbenchError("the run is being written by <process 7>")

    refused = ThresholdTuner(case, saved, save=locked)
    refused.slider.value = 0.5
    refused.save()
    assert "Not saved: the run is being written by &lt;process 7&gt;" in refused._status.value


def test_the_saved_thresholds_keep_the_calibration_they_were_chosen_with(case):
    calibration = np.array([[0.5, 1, 2], [0.1, 0, -0.3]])
    tuned = tune_thresholds(replace(case, calibration=calibration))
    t = ThresholdTuner(case, tuned)
    assert (t.thresholds.calibration == calibration).all()
    assert t._f1.tolist() == [
        f1_score(*both(replace(case, calibration=calibration), c, tuned.values[c])) for c in range(3)
    ]


def test_a_target_out_of_reach_is_said_and_stands_first(case):
    y = case.labels.copy()
    y[:, 1] = 0
    y[:5, 1] = 1
    t = ThresholdTuner(replace(case, y=y), tune_thresholds(replace(case, y=y)))
    t.apply("guarantee", 0.01, to_all=True)
    assert "Bound misses, 0.01, cannot be met for" in t._status.value and t.classes.options[0][0].startswith("!")
    t.apply("precision", 0.0)
    assert "needs as target the precision to hold" in t._status.value


def test_the_list_begins_with_what_needs_attention():
    rng = np.random.default_rng(1)
    y = (rng.random((400, 4)) < [0.3, 0.3, 0.3, 0]).astype(np.int8)
    logits = rng.normal((y * 2 - 1) * [0.5, 3, 1.5, 1], 1).astype(np.float32)
    case = type(random_case(rng, c=1))(np.arange(400).astype(str).astype(object), list("abcd"), logits, y, "val")
    thresholds = tune_thresholds(case)
    t = ThresholdTuner(case, thresholds)
    assert [c for _, c in t.classes.options] == [0, 2, 1, 3]  # by F1; without a positive nothing can be done
    t = ThresholdTuner(case, replace(thresholds, met=np.array([True, False, True, False])))
    assert [c for _, c in t.classes.options] == [1, 0, 2, 3]
    assert "no positive, no curve" in tuner_picture.background(t.curves, 3, "d")
    t.classes.value = 3
    assert "–" in text_of(t._layer) and "NaN" not in t._layer.value and "nan" not in t._layer.value


def test_one_image_and_unknown_labels_alone_are_drawn():
    one = type(random_case(np.random.default_rng(0), c=1))
    for label in (1, 0, -1):
        case = one(np.array(["a"], object), ["x"], np.array([[0.3]], np.float32), np.array([[label]], np.int8), "val")
        t = ThresholdTuner(case, Thresholds.default(["x"]))
        for value in (0, 0.57, 1):
            t.slider.value = value
        assert "nan" not in t._layer.value + t._background.value + t._images.value


def test_the_nearest_images_stand_in_the_order_of_p_with_wrong_ones_marked(picture, tmp_path):
    n = 12
    paths = np.array([picture(f"{i}.jpg", seed=i) for i in range(n)], object)
    p = np.linspace(0.05, 0.95, n)[::-1]
    y = (p > 0.5).astype(np.int8)
    y[5], y[6], y[7], y[4] = 0, 1, -1, -1  # a false alarm, a miss, two unknown
    predictions = type(random_case(np.random.default_rng(0), c=1))(
        paths, ["x"], np.log(p / (1 - p)).astype(np.float32)[:, None], y[:, None], "val"
    )
    (tmp_path / "4.jpg").unlink()
    t = ThresholdTuner(predictions, Thresholds.default(["x"]), tmp_path)
    shown = re.findall(r"(?:alt|aria-label)='(\d+).jpg: p ([\d.]+), label (\w+), called (\w+)'", t._images.value)
    assert [int(i) for i, *_ in shown] == [9, 8, 7, 6, 5, 4, 3, 2]
    assert [what for *_, what in shown] == ["absent"] * 4 + ["present"] * 4
    assert [label for _, _, label, _ in shown] == [
        "absent",
        "absent",
        "unknown",
        "present",
        "absent",
        "unknown",
        "present",
        "present",
    ]
    assert t._images.value.count("mlw-wrong") == 2 == t._images.value.count("✗ ") - t._images.value.count("✗ and")
    assert t._images.value.count("cannot be read") == 1 and t._images.value.count("data:image/jpeg") == 7
    t.move(float(predictions.probabilities[7, 0]))  # what stands at the threshold is called present
    assert "alt='7.jpg" in t._images.value.split("mlw-cut")[1]
    t.slider.value = 0.94
    assert re.findall(r"alt='(\d+).jpg", t._images.value)[-1] == "0"


NAME = "<img src=x onerror=alert(1)> $x$ '\"&amp;"


def test_names_and_paths_stay_text(tmp_path):
    case = random_case(np.random.default_rng(0), c=1)
    case = replace(case, class_names=[NAME], paths=np.array([f"{NAME}{i}" for i in range(len(case))], object))
    t = ThresholdTuner(case, Thresholds.default([NAME]), tmp_path)
    t.apply("guarantee", 1e-9)
    pages = [widget.value for widget in (t._background, t._layer, t._images, t._status)]
    assert all("tex2jax_ignore" in page and "<img" not in page.replace("<img alt=", "") for page in pages)
    assert "&lt;img src=x onerror=alert(1)&gt; $x$ &#x27;&quot;&amp;amp;" in t._background.value
    assert "&lt;img" in t._status.value and "&lt;img" in t._images.value


def test_the_operating_point_lies_on_its_curve_with_its_interval(case):
    curves = Curves(case.labels, case.probabilities)
    for threshold in (0.1, 0.5, 0.9):
        n = curves.at(0, threshold)
        layer = tuner_picture.moving(n, threshold, 0.5, 0.5)
        x, y = (float(v) for v in re.search(r"cx='([\d.]+)' cy='([\d.]+)'", layer).groups())
        line = re.findall(r"H([\d.]+)V([\d.]+)", tuner_picture.background(curves, 0, "x"))
        corners = np.array(line, float)
        beside = corners[np.abs(corners[:, 0] - x) < 0.6, 1]  # steps closer than half a pixel are one
        assert beside.min() - 0.1 <= y <= beside.max() + 0.1
        left, _, right, _, low, high = map(float, re.search(
            r"d='M([\d.]+) ([\d.]+)H([\d.]+)M([\d.]+) ([\d.]+)V([\d.]+)", layer).groups())  # fmt: skip
        assert left <= x <= right and high <= y <= low and right - left > 5 and low - high > 5
