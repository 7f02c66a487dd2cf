from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import HOSTILE_NAMES
from sklearn.metrics import f1_score
from test_metrics import random_case

from mlworkbench import Thresholds, WorkbenchError, tune_thresholds
from mlworkbench.text import number
from mlworkbench.views import tuner
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


def do(tuner, what, c, *values):
    """As the page would."""
    tuner._take({"do": what, "class": c, "with": values, "token": f"{what} {c} {values}"})


def both(case, c, threshold):
    known = case.labels[:, c] >= 0
    return case.labels[known, c], case.probabilities[known, c] >= np.float32(threshold)


def test_everything_follows_a_move_and_no_other_class_does(case, its):
    t = its.tuner
    t.choose(1)
    before = t.state
    do(t, "move", 1, 0.25)
    now = t.state
    assert t.values[1] == 0.25 == now["values"][1] and now["heard"] == "move 1 (0.25,)" and now["chosen"] == 1
    assert now["f1"] == [f1_score(*both(case, c, t.values[c])) for c in range(3)]
    for what in ("values", "f1", "unmet"):
        assert [c for c in range(3) if now[what][c] != before[what][c]] in ([1], [])
    assert now["order"] == before["order"]  # a list that jumps cannot be walked
    assert "Not saved: 1 threshold changed." in now["message"] and t.thresholds.objective == "by hand"
    assert t.fixed["macro"] == pytest.approx(np.mean(before["f1"]))


def test_a_class_comes_with_its_sorted_probabilities_and_a_move_with_none(case, its):
    t, sent = its.tuner, []
    t.observe(lambda change: sent.append(change["name"]), ["fixed", "state", "curve", "images"])
    do(t, "choose", 2)
    known, present = (np.frombuffer(t.curve[name], "<f4") for name in ("known", "present"))
    p = case.probabilities[:, 2]
    assert (known == np.sort(p)).all() and (present == np.sort(p[case.labels[:, 2] == 1])).all()
    assert t.curve["class"] == 2 and sent == ["curve", "state"]
    do(t, "move", 2, 0.31)
    assert sent == ["curve", "state", "state"]


def test_values_stay_exact(case):
    values = np.array([0.44967, 1e-6, 1 - 2**-24], np.float32)
    t = ThresholdTuner(case, Thresholds.default(case.class_names).with_values(values))
    for c in range(3):
        do(t, "choose", c)
        assert t.state["values"][c] == values[c]
    assert (t.values == values).all() and "No changes" in t.state["message"]
    do(t, "move", 2, 1e-5)
    assert t.values[2] == np.float32(1e-5)
    assert [number(v) for v in (0.0, 3e-7, 0.0004, 0.25, 0.99972, 0.9999999, 1.0)] == [
        "0.000", "3e-07", "0.0004", "0.250", "0.9997", "1−1e-07", "1.000"
    ]  # fmt: skip


@pytest.mark.parametrize("objective, target", [(o, tuner.RULES[o][2] or None) for o in tuner.RULES])
def test_a_rule_for_all_gives_what_tuning_gives(case, its, objective, target):
    t = its.tuner
    do(t, "apply", 0, objective, target, True)
    wanted = (
        Thresholds.default(case.class_names) if objective == "default" else tune_thresholds(case, objective, target)
    )
    assert (t.thresholds.values == wanted.values).all()
    assert (t.thresholds.objective, t.thresholds.target) == (objective, target)
    if wanted.met is not None:
        assert (t.thresholds.met == wanted.met).all()
    t.undo()
    assert (t.thresholds.values == tune_thresholds(case).values).all() and t.thresholds.objective == "f1"


def test_the_page_offers_every_rule_with_a_target_that_it_takes(case, its):
    for objective, _, label, first, step, _, most in its.tuner.fixed["rules"]:
        assert not label or 0 < step <= first <= most
        do(its.tuner, "apply", 0, objective, first if label else None, False)
        assert its.tuner._how[0][0] == objective


def test_a_rule_for_one_class_leaves_the_others_and_drops_the_name_of_the_objective(case, its):
    t = its.tuner
    do(t, "apply", 2, "recall", 0.9, False)
    own, kept = tune_thresholds(case, "recall", 0.9).values, tune_thresholds(case).values
    assert t.values.tolist() == [kept[0], kept[1], own[2]]
    assert t.thresholds.objective == "by hand" and t.thresholds.met is None
    do(t, "apply", 2, "f1", None, False)
    assert t.thresholds.objective == "f1" and (t.values == kept).all()


def test_undo_takes_back_every_step_and_goes_to_its_class(its):
    t = its.tuner
    start, states = t.values.copy(), []
    t.choose(0)
    for act in (
        lambda: t.move(0.9),
        lambda: t.choose(1) or t.move(0.123),
        lambda: t.apply("precision", 0.7, to_all=True),
        lambda: t.apply("default"),
    ):
        states.append((t.values.copy(), t.thresholds.objective))
        act()
    for values, objective in states[::-1]:
        do(t, "undo", 2)
        assert (t.values == values).all() and t.thresholds.objective == objective
        assert (
            t.state["values"] == values.tolist()
            and t.state["undoes"] == (len(t._past) > 0)
            and t.curve["class"] == t.state["chosen"]
        )
    assert (t.values == start).all() and t.state["chosen"] == 0 and "Not saved" not in t.state["message"]
    t.undo()
    assert "Nothing to undo" in t.state["message"]


def test_a_message_is_about_its_class_whatever_is_chosen(case, its):
    t = its.tuner
    start = t.values.copy()
    do(t, "choose", 0)
    t.choose(2)  # from another cell, while the page still shows the first class
    do(t, "move", 0, 0.9)
    assert t.values.tolist() == [np.float32(0.9), *start[1:]] and t.state["chosen"] == 0
    t.choose(2)
    do(t, "apply", 1, "recall", 0.9, False)
    assert (t.values[[0, 2]] == [np.float32(0.9), start[2]]).all() and t.state["chosen"] == 1
    t.choose(2)
    t._take({"do": "look", "class": 1})
    assert t.state["chosen"] == 2 and t.images["class"] == 1  # looking changes nothing


def test_save_hands_over_what_stands_and_says_where_or_why_not(case, its):
    t = its.tuner
    c = t.state["chosen"]
    do(t, "move", c, 0.75)
    do(t, "save", c)
    (saved,) = its.saved
    assert saved.values[c] == 0.75 and saved.split == "test" and len(saved.tuned_paths) == 200
    assert "Saved to here.json." in t.state["message"] and "Not saved" not in t.state["message"]
    assert (saved.positives == (case.labels == 1).sum(0)).all()

    def locked(_):
        raise WorkbenchError("the run is being written by <process 7>")

    refused = ThresholdTuner(case, saved, save=locked)
    refused.move(0.5)
    refused.save()
    assert "Not saved: the run is being written by <process 7>" in refused.state["message"]
    assert its.tuner.fixed["saves"] and not ThresholdTuner(case, saved).fixed["saves"]


def test_a_fault_is_told_to_the_page_and_to_the_log(case):
    def broken(_):
        raise RuntimeError("a fault of ours")

    t = ThresholdTuner(case, tune_thresholds(case), save=broken)
    with pytest.raises(RuntimeError, match="ours"):
        do(t, "save", 1)
    assert t.state["message"] == "Not done: a fault of ours." and t.state["heard"] == "save 1 ()"


def test_the_saved_thresholds_keep_the_calibration_they_were_chosen_with(case):
    calibration = np.array([[0.5, 1, 2], [0.1, 0, -0.3]])
    tuned = tune_thresholds(replace(case, calibration=calibration))
    t = ThresholdTuner(case, tuned)
    assert (t.thresholds.calibration == calibration).all()
    assert t.state["f1"] == [
        f1_score(*both(replace(case, calibration=calibration), c, tuned.values[c])) for c in range(3)
    ]


def test_a_target_out_of_reach_is_said_and_stands_first(case):
    y = case.labels.copy()
    y[:, 1] = 0
    y[:5, 1] = 1
    t = ThresholdTuner(replace(case, y=y), tune_thresholds(replace(case, y=y)))
    t.apply("guarantee", 0.01, to_all=True)
    assert "Bound misses, 0.01, cannot be met for" in t.state["message"] and t.state["unmet"][t.state["order"][0]]
    for target in (0.0, None):
        do(t, "apply", 0, "precision", target, False)
        assert "needs as target the precision to hold" in t.state["message"]


def test_the_list_begins_with_what_needs_attention():
    rng = np.random.default_rng(1)
    y = (rng.random((400, 4)) < [0.3, 0.3, 0.3, 0]).astype(np.int8)
    logits = rng.normal((y * 2 - 1) * [0.5, 3, 1.5, 1], 1).astype(np.float32)
    case = type(random_case(rng, c=1))(np.arange(400).astype(str).astype(object), list("abcd"), logits, y, "val")
    thresholds = tune_thresholds(case)
    t = ThresholdTuner(case, thresholds)
    assert t.state["order"] == [0, 2, 1, 3]  # by F1; without a positive nothing can be done
    assert t.state["f1"][3] is None and t.fixed["positives"][3] == 0
    t = ThresholdTuner(case, replace(thresholds, met=np.array([True, False, True, False])))
    assert t.state["order"] == [1, 0, 2, 3] and t.state["unmet"] == [False, True, False, True]
    t.choose(0)
    t.move(0.9)
    t.choose(1)
    t.apply("f1")  # which is met
    assert t.state["order"] == [1, 0, 2, 3] and not t.state["unmet"][1]
    t.apply("default", to_all=True)
    assert t.state["unmet"] == 4 * [False] and t.state["order"][-1] == 3


def test_the_nearest_images_stand_in_the_order_of_p(picture, tmp_path):
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
    assert not t.images  # nobody looks yet
    t._take({"do": "look", "class": 0})
    below, above = t.images["below"], t.images["above"]
    assert [path for path, *_ in below] == ["9.jpg", "8.jpg", "7.jpg", "6.jpg"]
    assert [path for path, *_ in above] == ["5.jpg", "4.jpg", "3.jpg", "2.jpg"]
    assert [y for _, _, y, _ in below + above] == [0, 0, -1, 1, 0, -1, 1, 1]
    assert [p for _, p, _, _ in below + above] == sorted(predictions.probabilities[2:10, 0].tolist())
    shown = {path: uri for path, _, _, uri in below + above}
    assert shown.pop("4.jpg") == "" and all(uri.startswith("data:image/jpeg") for uri in shown.values())
    t.move(float(predictions.probabilities[7, 0]))  # what stands at the threshold is called present
    t._take({"do": "look", "class": 0})
    assert t.images["above"][0][0] == "7.jpg"
    t.move(0.94)
    t._take({"do": "look", "class": 0})
    assert [path for path, *_ in t.images["above"]] == ["0.jpg"]


def test_names_are_sent_as_they_are_and_not_endless(case):
    names = [HOSTILE_NAMES[2], "long" * 100, "c"]
    t = ThresholdTuner(replace(case, class_names=names), Thresholds.default(names))
    assert t.fixed["names"][0] == names[0] and len(t.fixed["names"][1]) == 200 and t.names == names
    assert len(repr(t)) < 110 and "picture below" in repr(t)  # what stands where no kernel runs
