"""Health of a run on new images: levels and coverages by simulation, each estimate by another way, and the command."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import binom
from simulated import World
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from mlworkbench import Predictions, Run, WorkbenchError, tune_thresholds
from mlworkbench.analysis import check_health, compare_images
from mlworkbench.analysis import health as its
from mlworkbench.cli import main
from mlworkbench.scoring.calibration import calibrate
from mlworkbench.scoring.groups import numbered

PREVALENCE = np.array([0.03, 0.05, 0.1, 0.2, 0.3])


def at_most(hits, draws, share):
    """Whether so many hits are no sign, at 1 %, of more than this share."""
    return hits <= binom.ppf(0.99, draws, share)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(its, "PERMUTATIONS", 199)
    monkeypatch.setattr(its, "RESAMPLES", 100)
    monkeypatch.setattr(its, "FITS", 100)


@pytest.mark.parametrize("size", [1, 6, 20])
def test_unchanged_images_are_found_unchanged(size, quick):
    world, rng, draws = World(PREVALENCE, np.full(5, 2.0), size=size), np.random.default_rng(4), 60
    flagged, outside, missed, estimated = 0, 0, 0, 0
    for _ in range(draws):
        val, new = world.draw(rng, 600)[0], world.draw(rng, 300)[0]
        found = compare_images(val, replace(new, y=None), tune_thresholds(val)).classes
        flagged += found.changed.any()
        outside += int(((found.now < found.low - 1e-9) | (found.now > found.high + 1e-9)).sum())
        known = found.estimated.notna().to_numpy()
        estimated += known.sum()
        missed += int((known & ((found.estimated_low > PREVALENCE) | (found.estimated_high < PREVALENCE))).sum())
    assert at_most(flagged, draws, 0.05)
    # Classes of one draw depend on each other a little, so that the bound is lenient by a few.
    assert at_most(outside, 5 * draws, 0.05) and at_most(missed, estimated, 0.07) and estimated > 2 * draws


def test_a_class_that_has_become_frequent_is_found_and_how_frequent_it_is(quick):
    world, rng = World(PREVALENCE, np.full(5, 2.0)), np.random.default_rng(5)
    val, many = world.draw(rng, 600)[0], world.draw(rng, 20_000)[0]
    there = many.labels[:, 2] == 1
    rows = np.concatenate([rng.choice(np.flatnonzero(there), 400), rng.choice(np.flatnonzero(~there), 600)])
    new = replace(many, y=None).take(rows)
    found = compare_images(val, new, tune_thresholds(val))
    row = found.classes.loc["c2"]
    assert row.changed and found.classes.changed.sum() == 1 and row.now > row.high
    assert row.estimated_low <= 0.4 <= row.estimated_high and abs(row.estimated - 0.4) < 0.1
    decided = tune_thresholds(val).decide(new)[:, 2]
    assert row.now == pytest.approx(decided.mean()) and row.then > row.precision
    assert abs(row.then - (decided[:400].sum() / decided.sum())) < 0.1
    told = " ".join(found.said)
    assert (
        "1 of 5 classes are called present more or less often" in told and "c2" in told and "Precision at the" in told
    )
    lines = str(found).splitlines()
    assert lines[0].split()[:3] == ["class", "called", "present"] and "yes" in lines[3] and "yes" not in lines[1]


def test_the_estimate_is_where_saerens_steps_end(rng):
    world = World(np.array([0.2, 0.3]), np.full(2, 2.0))
    val, new = world.draw(rng, 500)[0], World(np.array([0.5, 0.1]), np.full(2, 2.0)).draw(rng, 400)[0]
    found = its.new_prevalence(val, new)
    scale, shift = calibrate(val).calibration
    p, here = expit(scale * new.logits + shift), (val.labels == 1).mean(0)
    here = ((val.labels == 1).sum(0) + 0.5) / (len(val) + 1)
    now = here
    for _ in range(3000):  # each step: the mean of probabilities moved to the prevalence of the step before
        odds = p / (1 - p) * (now / (1 - now)) / (here / (1 - here))
        now = (odds / (1 + odds)).mean(0)
    np.testing.assert_allclose(found[0], now, atol=2e-3)
    assert (found[1] <= found[0]).all() and (found[0] <= found[2]).all()


def test_of_too_few_positives_no_prevalence_is_estimated(rng):
    val = World(np.array([0.3]), np.full(1, 2.0)).draw(rng, 200)[0]
    val.y[np.flatnonzero(val.y[:, 0] == 1)[7:]] = 0
    found = compare_images(val, replace(val, y=None), tune_thresholds(val))
    assert found.classes[["estimated", "estimated_low", "estimated_high", "then"]].isna().all(None)
    assert "– (– to –)" in str(found) and not found.drift


@pytest.mark.parametrize(("images", "size", "most"), [(4, 1, 0.383), (120, 1, 0.0159), (120, 10, 0.148)])
def test_that_no_image_shows_a_class_does_not_say_that_it_is_nowhere(rng, images, size, most):
    """The end of the interval is where (1 - prevalence) ** images, or groups, is exp(-1.92): half of chi squared's."""
    val = World(np.array([0.3]), np.full(1, 9.0)).draw(rng, 400)[0]
    logits = np.full((images, 1), val.logits.min())
    new = Predictions(np.arange(images).astype(object), ["c0"], logits, None, groups=np.arange(images) // size)
    found = np.ravel(its.new_prevalence(val, new))
    assert found[:2] == pytest.approx(0, abs=1e-4) and found[2] == pytest.approx(most, rel=0.03)


def test_of_a_class_that_is_not_learnt_no_prevalence_is_estimated(rng):
    val, new = (World(np.array([0.3, 0.3]), np.array([2.0, 0.0])).draw(rng, 300)[0] for _ in range(2))
    estimated = its.new_prevalence(val, replace(new, y=None))[0]
    assert abs(estimated[0] - 0.3) < 0.1 and np.isnan(estimated[1])


def features_of(rng, images, size, moved=0.0, width=12):
    """Features whose groups have most in common, and their groups."""
    groups = np.arange(images) // size
    x = rng.normal(size=(groups[-1] + 1, width))[groups] + 0.5 * rng.normal(size=(images, width))
    x[:, 0] += moved
    return x.astype(np.float32), groups


@pytest.mark.parametrize("size", [1, 6])
def test_a_drift_of_features_is_found_where_there_is_one(size, quick):
    rng, draws, found, chance = np.random.default_rng(6), 60, 0, 0
    for _ in range(draws):
        val, same = features_of(rng, 240, size), features_of(rng, 180, size)
        chance += its.drift(*val, *same)["p"] <= 0.05
        other = features_of(rng, 180, size, moved=1.5)
        found += its.drift(*val, *other)["p"] <= 0.05
    assert at_most(chance, draws, 0.05) and found > 0.9 * draws


def test_the_area_is_that_of_scikit_learns_discriminant(rng, quick):
    (val, groups), (new, others) = features_of(rng, 300, 1), features_of(rng, 200, 1, moved=1.0)
    told = its.drift(val, groups, new, others)
    x, is_new = np.concatenate([val, new]), np.repeat([0, 1], [300, 200])
    order = rng.permutation(500)
    score = cross_val_predict(LinearDiscriminantAnalysis(), x[order], is_new[order], method="decision_function")
    assert told["auc"] == pytest.approx(roc_auc_score(is_new[order], score), abs=0.03) and told["p"] < 0.01


@pytest.mark.parametrize(("objective", "target"), [("guarantee", 0.3), ("recall", 0.8), ("f1", None)])
def test_it_says_what_no_longer_stands(rng, quick, objective, target):
    val, new = (World(PREVALENCE, np.full(5, 2.0)).draw(rng, 400)[0] for _ in range(2))
    thresholds = tune_thresholds(val, objective, target)
    same, moved = (features_of(rng, 400, 1, moved=by)[0] for by in (0, 3))
    fine, broken = (
        " ".join(compare_images(val, new, thresholds, (same, x)).said) for x in (features_of(rng, 400, 1)[0], moved)
    )
    assert ("no longer stands" in broken) == (objective != "f1") and "no longer stands" not in fine
    assert ("nothing here speaks against it" in fine) == (objective != "f1")
    assert "they look different" in broken and "label some of the new ones" in broken
    assert "No class is called present more or less often" in fine and "no difference was found" in fine


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy, since the comparison is kept in the run folder."""
    return Run(shutil.copytree(tiny_run.folder, tmp_path / "run"))


def test_validation_images_themselves_are_as_expected(run, quick):
    found = check_health(run, run.predictions("val").paths, run.root)
    np.testing.assert_allclose(found.classes.now, found.classes.share)
    assert (found.classes.p > 0.9).all() and not found.classes.changed.any()
    assert found.images == len(run.predictions("val")) and not found.aside
    kept = its.kept_health(run)
    pd.testing.assert_frame_equal(kept.classes, found.classes.astype(float), check_names=False, check_index_type=False)
    assert kept.said == found.said
    (run.folder / its.FILE).write_text("{}")
    with pytest.raises(WorkbenchError, match=r"health.json is damaged"):
        its.kept_health(run)


def test_the_command(run, demo_labels, tmp_path, capsys, quick):
    folder, out = demo_labels.parent / "images", tmp_path / "h.json"
    assert main(["health", str(run.folder), str(folder), "--json", str(out)]) == 0
    captured = capsys.readouterr()
    found = json.loads(out.read_text())
    assert list(found) == ["images", "groups", "classes", "drift", "said", "set_aside"]
    assert found["images"] == 77 and len(found["set_aside"]) == 3 and "not_an_image.jpg" in captured.err
    assert list(found["classes"]) == run.class_names and found["said"][0] in captured.out
    # A column says which images belong together: all of one group are one.
    paths = [f"images/{file.name}" for file in sorted(folder.iterdir())]
    table = demo_labels.parent / "together.csv"
    pd.DataFrame({"image_path": paths, "group": ["a"] * 30 + ["b"] * (len(paths) - 30)}).to_csv(table, index=False)
    assert main(["health", str(run.folder), str(table), "--json", str(out)]) == 0
    assert found["groups"] > 50 and json.loads(out.read_text())["groups"] <= 2  # near duplicates may join the two
    assert main(["health", str(run.folder), str(tmp_path / "nothing.csv")]) == 2
    (tmp_path / "no.jpg").write_text("x")
    assert main(["health", str(run.folder), str(tmp_path / "no.jpg")]) == 2
    assert "no image to compare" in capsys.readouterr().err


def test_where_the_runs_own_images_are_gone_the_rest_is_told(run, demo_labels, tmp_path, quick):
    run.write_state(image_root=str(tmp_path / "gone"))
    paths = [f"images/{file.name}" for file in sorted((demo_labels.parent / "images").iterdir())]
    found = check_health(run, paths, demo_labels.parent)
    assert not found.drift and "Whether they look different was not asked" in found.said[-1] and found.images == 77


def test_ranges_count_groups(rng):
    val = World(np.full(2, 0.2), np.full(2, 2.0), size=10).draw(rng, 600)[0]
    decided, groups = val.labels == 1, numbered(val.groups, 600)
    low, high = its.expected_shares(decided, groups, np.arange(300) // 10)
    alone = its.expected_shares(decided, np.arange(600), np.arange(300))
    assert (high - low > 1.3 * (alone[1] - alone[0])).all()
