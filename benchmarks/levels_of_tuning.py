"""Does what `tune` promises hold? Simulations of which the truth is known: learnt classes, gains, guarantees.

Every share is printed beside what is promised; docs/numbers.md quotes them.
"""

import argparse
from dataclasses import replace

import numpy as np
from scipy.stats import norm
from simulated import World

from mlworkbench import Predictions, tune_thresholds
from mlworkbench.decisions.gain import tuning_gain
from mlworkbench.decisions.thresholds import Thresholds
from mlworkbench.decisions.tuning import Curves, served, tune_class
from mlworkbench.scoring.metrics import class_scores, mean_defined
from mlworkbench.scoring.predictions import decide, probabilities


def eighty(rng: np.random.Generator, images: int, learnt: int, least: int = 1) -> Predictions:
    """80 classes with up to 5 positives among 40 images, of which the first few are learnt, the others not at all."""
    y, z = np.zeros((images, 80), np.int8), rng.normal(-3.9, 0.15, (images, 80))
    for c in range(80):
        y[rng.choice(images, rng.integers(least, 6) * images // 40, replace=False), c] = 1
    z[:, :learnt] = rng.normal(-3.9, 0.4, (images, learnt)) + 1.6 * y[:, :learnt]
    paths = np.array([f"{rng.integers(2**62)}.jpg" for _ in range(images)], object)
    return Predictions(paths, [f"c{c}" for c in range(80)], z.astype(np.float32), y, "val")


def learnt_classes(draws: int) -> None:
    found, called, right, false, gained = [], [], [], [], []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        tuned, new = tune_thresholds(eighty(rng, 40, 0)), eighty(rng, 400, 0)
        found.append(True in tuned.learnt)
        called.append(tuned.decide(new).any())
        some = eighty(rng, 40, 10, least=2)
        tuned, new = tune_thresholds(some), eighty(rng, 400, 10)
        right.append(sum(its is True for its in tuned.learnt[:10]))
        false.append(sum(its is True for its in tuned.learnt[10:]))
        f1 = [class_scores(new.labels, its.decide(new))["f1"][:10].mean() for its in (tuned, half(new))]
        gained.append(f1[0] - f1[1])
    print(
        f"80 classes, none learnt: one called learnt in {np.mean(found):.3f} of {draws} draws (0.01 promised), "
        f"anything called present on new images in {np.mean(called):.3f}"
    )
    print(
        f"80 classes, 10 learnt, with 2 to 5 positives: {np.mean(right):.1f} of these found and {np.mean(false):.1f} "
        f"others; F1 of the 10 on new images over 0.5 {np.mean(gained):+.3f}"
    )


def half(predictions: Predictions) -> Thresholds:
    return Thresholds.default(predictions.class_names)


def chance(draws: int) -> None:
    """How often a class whose ranking is chance passes the test alone (level 0.05), in groups."""
    from mlworkbench.decisions.tuning import LEVEL, _chance

    for size in (1, 3, 6, 12, 20):
        world, passed = World(np.full(20, 0.1), np.full(20, 1e-3), size), []
        for seed in range(draws // 20):
            new = world.draw(np.random.default_rng(seed), 240)[0]
            passed += [_chance(new.labels[:, c], new.logits[:, c], new.groups) <= LEVEL for c in range(20)]
        print(f"a ranking by chance passes, groups of {size}: {np.mean(passed):.3f} (0.05 allowed)")


def gains(draws: int) -> None:
    prevalence = np.geomspace(0.05, 0.25, 10)
    for objective, target in (("f1", None), ("cost", 5.0)):
        for images, size, bias in ((450, 1, 0.0), (450, 1, 1.0), (150, 1, 0.5), (450, 6, 0.5), (150, 6, 0.5)):
            held, pays, truths, estimates = [], [], [], []
            for seed in range(draws):
                rng = np.random.default_rng(seed)
                apart, bent = rng.uniform(1.5, 3.5, 10), rng.normal(0, bias, 10).astype(np.float32)
                val = World(prevalence, apart, size).draw(rng, images)[0]
                new = World(prevalence, apart).draw(rng, 5000)[0]
                val, new = (replace(its, logits=its.logits + bent) for its in (val, new))
                tuned = tune_thresholds(val, objective, target)
                classes = np.flatnonzero(tuned.met)
                if not len(classes):
                    continue
                gain = tuning_gain(val, objective, target, classes=classes.tolist())
                worth = [
                    worth_of(new, values, objective, target)[classes] for values in (tuned.values, np.full(10, 0.5))
                ]
                truth = float(mean_defined(worth[0] - worth[1]))
                held.append(gain.low <= truth <= gain.high)
                pays.append(gain.pays)
                truths.append(truth)
                estimates.append(gain.value)
            pays, truths = np.array(pays), np.array(truths)
            won = truths > 0
            print(
                f"{objective}, {images} images, groups of {size}, biased by {bias:g}: interval holds "
                f"{np.mean(held):.3f}, estimate {np.mean(estimates):+.4f}, truth {truths.mean():+.4f}; tuned and won "
                f"{(pays & won).mean():.2f}, tuned and lost {(pays & ~won).mean():.3f}, 0.5 kept where tuning loses "
                f"{(~pays & ~won).mean():.2f}, where it wins {(~pays & won).mean():.2f} (by "
                f"{mean_defined(truths[~pays & won]):.3f})",
                flush=True,
            )


def worth_of(predictions: Predictions, values: np.ndarray, objective: str, target: float | None) -> np.ndarray:
    n = class_scores(predictions.labels, decide(predictions.probabilities, values))
    worth = served(n, objective, 1.0 if target is None else target)
    return worth / len(predictions) if objective == "cost" else worth


def groups_of(positives: int, size: int) -> np.ndarray:
    """So many positives in groups of a size, or of 1, 2, 4, 8, 16 and again for 0."""
    sizes = [size] * positives if size else [1, 2, 4, 8, 16] * positives
    return np.repeat(np.arange(len(sizes)), sizes)[:positives]


def misses(draws: int) -> None:
    for positives in (60, 200, 400):
        for size in (1, 5, 10, 20, 0):
            of = np.append(groups_of(positives, size), np.arange(10_000, 10_300))
            y = np.repeat(np.array([1, 0], np.int8), [positives, 300])[:, None]
            rng, broken, met, rates = np.random.default_rng(size), [], [], []
            for _ in range(draws):
                common, own = rng.standard_normal(10_300)[of], rng.standard_normal(len(of))
                z = np.sqrt(0.7) * common + np.sqrt(0.3) * own + np.where(y[:, 0] == 1, 1.5, -1.5)
                curves = Curves(y, probabilities(z)[:, None], of)
                threshold, held = tune_class(curves, 0, "guarantee", 0.1)
                rate = norm.cdf(np.log(threshold / (1 - threshold)) - 1.5) if threshold else 0.0
                broken.append(rate > 0.1)
                met.append(held)
                rates.append(rate)
            text = f"groups of {size}" if size else "groups of 1 to 16"
            print(
                f"miss rate 0.1, {positives} positives, {text}: broken {np.mean(broken):.3f} (0.1 allowed), met "
                f"{np.mean(met):.2f}, miss rate where met {mean_defined(np.array(rates)[met]):.3f}"
            )


def precisions(draws: int) -> None:
    for images, share, apart, size, target in (
        (450, 0.2, 3.0, 1, 0.9), (2000, 0.1, 3.0, 1, 0.9), (2000, 0.1, 2.0, 1, 0.8),
        (450, 0.2, 3.0, 6, 0.8), (2000, 0.2, 3.0, 6, 0.9), (2000, 0.2, 2.5, 12, 0.8),
    ):  # fmt: skip
        world, classes = World(np.full(20, share), np.full(20, apart), size), 20
        one = World(np.array([share]), np.array([apart])).truth(400_000)
        truth, rows = Curves(one.labels, one.probabilities), {}
        for seed in range(draws // classes):
            val = world.draw(np.random.default_rng(seed), images)[0]
            curves = Curves(val.labels, val.probabilities, val.groups)
            for confidence in (None, 0.9):
                for c in range(classes):
                    threshold, met = tune_class(curves, c, "precision", target, None, confidence)
                    at = truth.at(0, threshold)
                    rows.setdefault(confidence, []).append((met, met and at["precision"] < target, at["recall"]))
        cuts = np.quantile(truth.found(0), np.linspace(0, 1, 2000)).astype(np.float32)
        at = truth.at(0, cuts)
        best = at["recall"][at["precision"] >= target].max()
        (plain, under, _), (met, below, recall) = (np.mean(rows[key], 0) for key in (None, 0.9))
        print(
            f"precision {target}, {images} images, {share:.0%} present, groups of {size}: with confidence 0.9 met "
            f"{met:.2f}, below the target {below:.3f} (0.1 allowed), recall {recall:.2f} of {best:.2f} possible; "
            f"without, {under / plain:.2f} of those met are below"
        )


def recalls(draws: int) -> None:
    """How often "hold recall" holds on new images without a confidence."""
    for positives in (9, 20, 60):
        y, rng, held = np.repeat(np.array([1, 0], np.int8), [positives, 300])[:, None], np.random.default_rng(0), []
        for _ in range(draws):
            z = rng.standard_normal(len(y)) + np.where(y[:, 0] == 1, 1.5, -1.5)
            threshold, _ = tune_class(Curves(y, probabilities(z)[:, None]), 0, "recall", 0.9)
            held.append(norm.cdf(np.log(threshold / (1 - threshold)) - 1.5) <= 0.1)
        print(f"recall 0.9 without a confidence, {positives} positives: holds on new images {np.mean(held):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a tenth of the draws")
    draws = 100 if parser.parse_args().quick else 1000
    recalls(draws)
    misses(draws)
    precisions(draws)
    chance(draws)
    learnt_classes(draws // 5)
    gains(draws // 5)


if __name__ == "__main__":
    main()
