"""Label budget: positives by hand and by drawing that many, the learning curve against data of twice the size."""

import shutil

import numpy as np
import pytest
from scipy.stats import binom
from simulated import World
from sklearn.linear_model import RidgeCV
from sklearn.metrics import average_precision_score

from mlworkbench import Predictions, Run, WorkbenchError, report
from mlworkbench.analysis import budget as its
from mlworkbench.analysis import label_budget, learning_curve, positives_needed
from mlworkbench.scoring.metrics import score

NAN = float("nan")


def test_positives_by_hand():
    ends = {"a": (0.5, 0.7), "b": (0.78, 0.82), "c": (NAN, NAN), "d": (0.3, 0.7)}
    own = {name: {key: {"low": low, "high": high} for key in ("ap", "f1")} for name, (low, high) in ends.items()}
    support = {"a": {"support": 20}, "b": {"support": 100}, "c": {"support": 2}, "d": {"support": 10}}
    found = positives_needed({"classes": support, "intervals": {"classes": own}})
    # 20 (.1 / .05)² = 80; 100 (.02 / .05)² = 16 are there; 10 (.2 / .05)² = 160; the median of 80, 16, 160 for c
    assert found["ap_more"].tolist() == [60, 0, 78, 150] and found["f1_more"].tolist() == [60, 0, 78, 150]
    assert found["ap_half"].tolist()[:2] == pytest.approx([0.1, 0.02]) and np.isnan(found["ap_half"]["c"])
    columns, rows = its.budget_rows(found)
    assert columns == ["class", "positives", "more for AP", "more for F1"] and rows[2] == ["c", "2", "78", "78"]


def test_with_so_many_more_the_intervals_are_as_narrow_as_promised(rng):
    """To a quarter in the middle, and each to a half."""
    world, cut = World(np.array([0.1, 0.2, 0.3]), np.full(3, 2.0)), np.full(3, 0.4)
    first = world.draw(rng, 500)[0]
    needed, reached = positives_needed(score(first, cut, 300)), []
    for name in first.class_names:
        wanted = needed.loc[name]
        for key in ("ap", "f1"):
            more = int(500 * (1 + wanted[f"{key}_more"] / wanted["positives"]))
            assert more < 8000
            then = score(world.draw(rng, more)[0], cut, 300)["intervals"]["classes"][name][key]
            reached.append((then["high"] - then["low"]) / 2 / its.WIDTH)
    assert 0.75 < np.median(reached) < 1.25 and min(reached) > 0.5 and max(reached) < 1.7, reached


DIRECTIONS = np.random.default_rng(7).normal(size=(24, 3)) * 0.4


def drawn(rng, images, size=1):
    """Features, labels that they tell something of, and groups."""
    groups = np.arange(images) // size
    x = rng.normal(size=(images, 24)) if size == 1 else rng.normal(size=(groups[-1] + 1, 24))[groups]
    x = x + (0 if size == 1 else 0.5 * rng.normal(size=x.shape))
    y = (x @ DIRECTIONS + rng.normal(size=(images, 3)) > [1.5, 1.0, 0.5]).astype(np.int8)
    return x, y, groups


def labels_of(y, groups=None):
    paths = np.arange(len(y)).astype(object)
    return Predictions(paths, ["a", "b", "c"], np.zeros(y.shape, np.float32), y, "val", groups=groups)


@pytest.mark.parametrize("size", [1, 4])
def test_what_twice_the_labels_raise_is_foretold(size, monkeypatch):
    monkeypatch.setattr(its, "ORDERS", 4)
    rng, draws, held, told = np.random.default_rng(8), 40, 0, []
    x, y, _ = drawn(rng, 20_000)

    def reached(images):
        own, labels, _ = drawn(rng, images, size)
        said = RidgeCV(its.PENALTIES, alpha_per_target=True).fit(own, labels.astype(float)).predict(x)
        return np.mean([average_precision_score(y[:, c], said[:, c]) for c in range(3)])

    right = np.mean([reached(400) for _ in range(20)]) - np.mean([reached(200) for _ in range(20)])
    for _ in range(draws):
        val_x, val_y, groups = drawn(rng, 200, size)
        found = learning_curve(*drawn(rng, 200, size), val_x, labels_of(val_y, groups if size > 1 else None))[1]
        gain, low, high = found.loc[its.MEAN]
        assert low <= gain <= high
        told.append(gain)
        held += low <= right <= high
    assert right > 0.01 and 0.5 * right < np.mean(told) < 2 * right
    assert held >= binom.ppf(0.01, draws, 0.9)


def test_the_curve_is_that_of_heads_on_parts(rng):
    x, y, groups = drawn(rng, 150)
    val_x, val_y, _ = drawn(rng, 100)
    val_y[:, 2] = 0
    curve, gains = learning_curve(x, y, groups, val_x, labels_of(val_y))
    whole = RidgeCV(its.PENALTIES, alpha_per_target=True).fit(x / x.std(), y.astype(float)).predict(val_x / x.std())
    expected = [average_precision_score(val_y[:, c], whole[:, c]) for c in range(2)]
    assert curve.shape == (4, 4) and curve[-1, :2] == pytest.approx(expected, abs=0.01)
    assert curve[-1, 3] == pytest.approx(curve[-1, :2].mean()) and np.isnan(curve[:, 2]).all()
    assert gains.loc["c"].isna().all() and gains.drop("c").notna().all(None)


def test_the_budget_of_a_run_is_kept_and_shown(tiny_run, tmp_path):
    run = Run(shutil.copytree(tiny_run.folder, tmp_path / "run"))
    page = report(run).read_text()
    assert "More labels" in page and "Notebook 04 also tells" in page and its.kept_budget(run) is None
    found = label_budget(run)
    assert found.split == "val" and found.images == 43 and list(found.classes.index) == run.class_names
    kept = its.kept_budget(run)
    np.testing.assert_array_equal(kept.classes.to_numpy(float), found.classes.to_numpy(float))
    assert str(kept) == str(found) and "43 training images" in str(found)
    page = report(run).read_text()
    assert str(found).split("(")[0].strip() in page.replace("&#43;", "+") and "Each class: more positives" in page
    (run.folder / its.FILE).write_text("[]")
    with pytest.raises(WorkbenchError, match=r"label_budget.json is damaged"):
        its.kept_budget(run)
