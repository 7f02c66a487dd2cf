"""Scores at another prevalence, held against scikit-learn's with weights, and against data drawn at that prevalence."""

import json
import math

import numpy as np
import pytest
from helpers import finished_run
from scipy.stats import binom
from simulated import World
from sklearn import metrics as oracle
from test_metrics import random_case

from mlworkbench import Predictions, WorkbenchError, evaluate
from mlworkbench.cli import main
from mlworkbench.exceptions import LabelFaults
from mlworkbench.scoring import at_prevalence, read_prevalence
from mlworkbench.scoring.metrics import class_scores

SHOWN = ("ap", "precision", "recall", "f1")


@pytest.mark.parametrize("unknown", [False, True])
def test_scores_are_those_of_weighted_labels(rng, unknown):
    predictions, asked = random_case(rng, unknown=unknown), {"c1": 0.01, "c3": 0.7}
    y, decided = predictions.labels, predictions.logits >= 0.3
    found = at_prevalence(predictions, decided, asked, resamples=20)
    for c, (name, its) in enumerate(found["classes"].items()):
        known = y[:, c] >= 0
        truth, here = y[known, c], np.mean(y[known, c])
        then = asked.get(name, here)
        weights = np.where(truth == 1, then / here, (1 - then) / (1 - here))
        precision, recall, f1, _ = oracle.precision_recall_fscore_support(
            truth, decided[known, c], labels=[1], sample_weight=weights
        )
        ap = oracle.average_precision_score(truth, predictions.logits[known, c], sample_weight=weights)
        expected = {"precision": precision[0], "recall": recall[0], "f1": f1[0], "ap": ap}
        assert {key: its[key] for key in SHOWN} == pytest.approx(expected, rel=1e-5)
        assert (its["here"], its["prevalence"]) == pytest.approx((here, then))
        ends = found["intervals"]["classes"][name]
        assert all(ends[key]["low"] <= its[key] <= ends[key]["high"] for key in ("precision", "f1"))
    for mean, key in (("map", "ap"), ("f1_macro", "f1"), ("precision_macro", "precision"), ("recall_macro", "recall")):
        assert found[mean] == pytest.approx(np.mean([its[key] for its in found["classes"].values()]))
        assert mean == "map" or found["intervals"][mean]["low"] <= found[mean] <= found["intervals"][mean]["high"]


def test_tuned_at_a_tenth_and_used_at_a_hundredth():
    """Precision falls as it does on images drawn at that prevalence, here from .59 to .12."""
    tenth, hundredth = (World(np.full(3, its), np.full(3, 2.0)) for its in (0.1, 0.01))
    before, after = tenth.truth(), hundredth.truth(400_000, seed=1)
    cut = -0.9
    found = at_prevalence(before, before.logits >= cut, dict.fromkeys(before.class_names, 0.01), resamples=2)
    # The logits of `World` hold its prevalence; the network that was tuned does not know of the other.
    moved = after.logits - np.log(0.01 / 0.99) + np.log(0.1 / 0.9)
    drawn = class_scores(after.labels, moved >= cut)
    assert class_scores(before.labels, before.logits >= cut)["precision"].mean() == pytest.approx(0.59, abs=0.01)
    for key in ("precision", "recall", "f1"):
        mean = np.mean([its[key] for its in found["classes"].values()])
        assert mean == pytest.approx(drawn[key].mean(), rel=0.03)
    assert found["precision_macro"] == pytest.approx(0.12, abs=0.01)


@pytest.mark.parametrize("size", [1, 6, 20])
def test_intervals_cover_the_score_at_that_prevalence(size):
    world, rng, draws = World(np.full(4, 0.1), np.full(4, 2.0), size=size), np.random.default_rng(3), 100
    truth, asked = world.truth(), dict.fromkeys(["c0", "c1", "c2", "c3"], 0.01)
    right = at_prevalence(truth, truth.logits >= -0.9, asked, resamples=2)
    held, shown = np.zeros(4, int), np.zeros(4, int)
    for _ in range(draws):
        drawn = world.draw(rng, 600)[0]
        found = at_prevalence(drawn, drawn.logits >= -0.9, asked, resamples=100)
        ends = [(found["intervals"][name], right[name]) for name in ("precision_macro", "f1_macro")]
        ends += [(found["intervals"]["classes"]["c0"][k], right["classes"]["c0"][k]) for k in ("precision", "f1")]
        shown += [not math.isnan(its["low"]) for its, _ in ends]
        held += [its["low"] <= value <= its["high"] for its, value in ends]
    assert (shown > (draws / 2 if size < 20 else 10)).all()  # few groups of 20 leave a class too few
    assert (held >= binom.ppf(0.01, shown, 0.93)).all(), (held, shown)


def test_a_class_without_a_false_alarm_is_not_taken_to_have_none_ever(rng):
    y = np.repeat([1, 0], [20, 200]).astype(np.int8)[:, None]
    predictions = Predictions(np.arange(220).astype(object), ["a"], y.astype(np.float32), y)
    found = at_prevalence(predictions, y == 1, {"a": 0.001}, resamples=20)
    ends = found["intervals"]["classes"]["a"]
    assert found["classes"]["a"]["precision"] == 1 and ends["precision"]["high"] == 1 and ends["precision"]["low"] < 0.2
    few = at_prevalence(predictions.take(np.arange(13, 220)), (y == 1)[13:], {}, resamples=20)
    assert few["classes"]["a"]["f1"] == 1 and math.isnan(few["intervals"]["classes"]["a"]["f1"]["low"])


def test_what_cannot_be_is_refused(rng):
    predictions = random_case(rng)
    decided = predictions.logits >= 0
    predictions.y[:, 2] = 0
    predictions.y[:, 3] = 1
    for asked, said in (
        ({"dog": 0.1}, "class 'dog', which is none of c0, c1"),
        ({"c0": 0.0}, "class 'c0' is 0.0; expected above 0 and below 1"),
        ({"c0": 1.0}, "below 1"),
        ({"c2": 0.1}, "class 'c2' has no positive here"),
        ({"c3": 0.1}, "class 'c3' has no negative here"),
    ):
        with pytest.raises(WorkbenchError, match=said):
            at_prevalence(predictions, decided, asked)
    found = at_prevalence(predictions, decided, {"c0": 0.1}, resamples=20)
    assert math.isnan(found["classes"]["c2"]["f1"]) and found["left_out"]["f1_macro"] == 1


def test_the_file_is_read_and_every_fault_told_with_its_line(tmp_path):
    file = tmp_path / "p.csv"
    file.write_text('class,prevalence\n"two\nlines",0.5\n\'=1+1,1e-3\nN/A, .25\n', encoding="utf-8-sig")
    assert read_prevalence(file) == {"two\nlines": 0.5, "=1+1": 0.001, "N/A": 0.25}
    file.write_text("class,prevalence\na,0\nb,x\nc\nd,.5\nd,.5\ne,nan\n")
    with pytest.raises(LabelFaults) as told:
        read_prevalence(file)
    assert [line for line, _ in told.value.faults] == [2, 3, 4, 6, 7] and f"{file}:6: class 'd' stands" in str(
        told.value
    )
    for content in ("", "class,prevalence\n", "name,share\na,.1\n"):
        file.write_text(content)
        with pytest.raises(WorkbenchError, match="expected"):
            read_prevalence(file)
    for content in (b"\xff\xfe\x00", b'class,prevalence\n"a,.1'):
        file.write_bytes(content)
        with pytest.raises(WorkbenchError):
            read_prevalence(file)
    with pytest.raises(WorkbenchError, match="No such file"):
        read_prevalence(tmp_path / "none.csv")


def test_the_command_says_at_which_prevalence_and_keeps_the_scores_of_the_split(tmp_path, capsys):
    run, file, out = finished_run(tmp_path, ["a", "b", "c"]), tmp_path / "p.csv", tmp_path / "s.json"
    file.write_text("class,prevalence\na,0.01\n")
    assert main(["evaluate", str(run.folder), "--prevalence", str(file), "--json", str(out)]) == 0
    found, kept = json.loads(out.read_text()), json.loads((run.folder / "metrics/test.json").read_text())
    scores = found.pop("at_prevalence")
    assert found == kept and scores["classes"]["a"]["prevalence"] == 0.01
    assert scores["classes"]["a"]["precision"] < found["classes"]["a"]["precision"]
    assert scores["classes"]["c"]["precision"] == pytest.approx(found["classes"]["c"]["precision"])
    said = capsys.readouterr().out
    assert f"at the prevalences of {file}" in said and f"{scores['classes']['a']['precision']:.4f}" in said
    assert "1 of 3 classes undefined" in said
    assert scores == json.loads(
        json.dumps(evaluate(run.predictions("test"), run.thresholds(), {"a": 0.01})["at_prevalence"]).replace(
            "NaN", "null"
        )
    )
    file.write_text("class,prevalence\nb,0.01\n")  # which has no positive in test
    assert main(["evaluate", str(run.folder), "--prevalence", str(file)]) == 2
    assert "has no positive here" in capsys.readouterr().err
