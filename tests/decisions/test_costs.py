import numpy as np
import pytest
from scipy.stats import binom
from simulated import World

from mlworkbench import Predictions, evaluate, tune_thresholds
from mlworkbench.decisions import decision_costs


def test_by_hand():
    y = np.array([[1, 0], [1, 1], [0, 0], [0, -1]], np.int8)
    decided = np.array([[1, 1], [0, 1], [1, 0], [0, 1]], bool)
    said = Predictions(np.arange(4).astype(object), ["a", "b"], np.zeros((4, 2), np.float32), y)
    found = decision_costs(said, decided, 5)
    # a: one found, one missed, one false alarm, of four; b: one found, one false alarm, of three
    assert found["total"]["value"] == pytest.approx(5 * 1 + 1 + 1) and found["price"] == 5
    benefit = {name: its["net_benefit"]["value"] for name, its in found["classes"].items()}
    assert benefit == pytest.approx({"a": 1 / 4 - 1 / 4 / 5, "b": 1 / 3 - 1 / 3 / 5})
    assert found["net_benefit"]["value"] == pytest.approx(np.mean([*benefit.values()]))
    assert found["classes"]["a"]["total"] == 6 and found["classes"]["b"]["total"] == 1
    assert np.isnan(found["classes"]["a"]["net_benefit"]["low"])  # of two positives


@pytest.mark.parametrize("size", [1, 6, 20])
def test_intervals_cover_what_is_so_in_the_long_run(size):
    world, rng, draws = World(np.full(3, 0.15), np.full(3, 2.0), size=size), np.random.default_rng(2), 150
    truth = world.truth()
    right = decision_costs(truth, truth.logits >= -1.5, 4)
    held, shown = np.zeros(3, int), np.zeros(3, int)
    for _ in range(draws):
        drawn = world.draw(rng, 600)[0]
        found = decision_costs(drawn, drawn.logits >= -1.5, 4)
        ends = [(found["total"], right["total"]["value"] * 600 / len(truth))]
        ends += [(found["net_benefit"], right["net_benefit"]["value"])]
        ends += [(found["classes"]["c0"]["net_benefit"], right["classes"]["c0"]["net_benefit"]["value"])]
        held += [its["low"] <= value <= its["high"] for its, value in ends]
        shown += [not np.isnan(its["low"]) for its, _ in ends]
    assert (shown > (draws / 2 if size < 20 else draws / 4)).all()  # few groups of 20 leave a class too few
    assert (held >= binom.ppf(0.01, shown, 0.93)).all(), (held, shown)


def test_they_stand_among_the_scores_where_thresholds_were_chosen_by_cost(rng):
    val, test = (World(np.full(3, 0.2), np.full(3, 2.0)).draw(rng, 300)[0] for _ in range(2))
    test = Predictions(np.array([f"t{i}" for i in range(300)], object), test.class_names, test.logits, test.y, "test")
    by_cost = tune_thresholds(val, "cost", 3)
    scores = evaluate(test, by_cost)
    assert scores["costs"] == decision_costs(test, by_cost.decide(test), 3)
    assert "costs" not in evaluate(test, tune_thresholds(val, "f1"))
