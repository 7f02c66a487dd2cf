"""Scores, intervals and tuning, as ratios in one run; and how far rare classes' thresholds should be drawn.

Nothing here is a test: machines differ and are noisy. Each line says what is compared with what.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve

from mlworkbench import Predictions, tune_thresholds
from mlworkbench.decisions.tuning import OBJECTIVES, Curves, tune_class
from mlworkbench.scoring import tuning as rules
from mlworkbench.scoring.calibration import calibrate
from mlworkbench.scoring.metrics import bootstrap, score


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def drawn(
    rng: np.random.Generator, images: int, prevalence: np.ndarray, apart: np.ndarray, bias: np.ndarray
) -> Predictions:
    """Calibrated logits of normally distributed scores, each class then shifted by its bias."""
    y = rng.random((images, len(prevalence))) < prevalence
    s = rng.normal(np.where(y, apart, -apart) / 2, 1)
    logits = apart * s + np.log(prevalence / (1 - prevalence)) + bias
    names = [f"c{c}" for c in range(len(prevalence))]
    paths = np.arange(images).astype(str).astype(object)
    return Predictions(paths, names, logits.astype(np.float32), y.astype(np.int8))


def many(images: int, classes: int = 80) -> Predictions:
    rng = np.random.default_rng(0)
    return drawn(
        rng, images, np.geomspace(0.3, 0.003, classes), rng.uniform(1, 4, classes), rng.normal(0, 0.5, classes)
    )


def scoring(images: int) -> None:
    predictions = many(images)
    y, p, z = predictions.labels, predictions.probabilities, predictions.logits
    decided, rng = p >= 0.5, np.random.default_rng(0)

    def naive() -> None:
        rows = rng.integers(0, images, images)
        for c in range(y.shape[1]):
            average_precision_score(y[rows, c], z[rows, c])
        f1_score(y[rows], decided[rows], average="macro", zero_division=0.0)

    ours, theirs = seconds(lambda: bootstrap(predictions, decided, 1000)), seconds(lambda: [naive() for _ in range(5)])
    print(
        f"1,000 bootstrap resamples of {images:,} x 80: {ours:.1f} s; scikit-learn on each resample would take "
        f"{theirs * 200 / ours:.0f} times as long (mAP and macro F1 alone, five measured)"
    )
    print(f"every other score of {images:,} x 80: {seconds(lambda: score(predictions, np.full(80, 0.5), 2)):.1f} s")


def tuning(images: int) -> None:
    predictions = many(images)
    y, p = predictions.labels, predictions.probabilities

    def naive() -> None:
        for c in range(y.shape[1]):
            precision, recall, _ = precision_recall_curve(y[:, c], p[:, c])
            np.argmax(2 * precision * recall / np.maximum(precision + recall, 1e-12))

    theirs = seconds(naive)
    for objective, wanted in OBJECTIVES.items():
        target = None if wanted is None else {"fbeta": 2.0, "cost": 5.0, "guarantee": 0.1}.get(objective, 0.8)
        ours = seconds(lambda o=objective, t=target: tune_thresholds(predictions, o, t))
        print(f"tuning {images:,} x 80, {objective}: {ours:.2f} s, {ours / theirs:.1f} of precision_recall_curve alone")
    curves = Curves(y, p)
    lookup = seconds(lambda: [curves.at(0, t) for t in np.linspace(0, 1, 1000)]) / 1000
    again = seconds(lambda: [f1_score(y[:, 0], p[:, 0] >= t) for t in np.linspace(0.1, 0.9, 5)]) / 5
    print(f"one threshold moved among {images:,}: {lookup * 1e6:.0f} µs, scikit-learn's F1 {again / lookup:.0f} times")
    fit = seconds(lambda: calibrate(predictions))
    print(f"Platt scaling {images:,} x 80: {fit:.1f} s")


def rare_classes(seeds: int) -> None:
    """Macro F1 on 5,000 new images over 0.5, for several numbers of positives at which own and shared are halved."""
    settings = {
        "10 classes, 450 images, 5 to 25 %, alike": (10, 450, 0.05, 0.25, 0.0),
        "10 classes, 450 images, 5 to 25 %, biased by .5": (10, 450, 0.05, 0.25, 0.5),
        "7 classes, 100 images, 6 to 30 %, biased by .5": (7, 100, 0.06, 0.3, 0.5),
        "7 classes, 100 images, 6 to 30 %, biased by 1": (7, 100, 0.06, 0.3, 1.0),
        "20 classes, 2,000 images, .2 to 5 %, biased by .5": (20, 2000, 0.002, 0.05, 0.5),
    }
    few, kept = (1e-9, 5, 10, 15, 20, 40, 1e9), rules.FEW
    print(f"gain of macro F1 over 0.5 in points, {seeds} seeds; drawn halfway at ... positives")
    print(f"{'':<52}" + "".join(f"{text:>8}" for text in ("never", *map(str, few[1:-1]), "always")))
    for name, (classes, images, low, high, bias) in settings.items():
        gains = []
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            kind = np.exp(rng.uniform(np.log(low), np.log(high), classes)), rng.uniform(1.5, 3.5, classes)
            biases = rng.normal(0, bias, classes)
            tuned, new = drawn(rng, images, *kind, biases), drawn(rng, 5000, *kind, biases)
            curves = Curves(new.labels, new.probabilities)
            half = np.nanmean([curves.at(c, 0.5)["f1"] for c in range(classes)])
            row = []
            for number in few:
                rules.FEW = number
                values = tune_thresholds(tuned).values
                row.append(np.nanmean([curves.at(c, values[c])["f1"] for c in range(classes)]) - half)
            gains.append(100 * np.array(row))
        print(f"{name:<52}" + "".join(f"{gain:>8.2f}" for gain in np.mean(gains, 0)))
    rules.FEW = kept


def guarantee(simulations: int) -> None:
    for positives, target in ((25, 0.1), (60, 0.1), (200, 0.05)):
        rng, misses, values = np.random.default_rng(0), [], []
        for _ in range(simulations):
            y = np.repeat(np.array([1, 0], np.int8), [positives, 300])[:, None]
            p = Predictions(np.arange(len(y)), ["x"], rng.normal(3 * y - 1.5, 1.2).astype(np.float32), y).probabilities
            values.append(tune_class(Curves(y, p), 0, "guarantee", target)[0])
            new = rng.normal(1.5, 1.2, 10_000)
            misses.append((new < np.log(values[-1] / (1 - values[-1]))).mean())
        print(
            f"guarantee, miss rate {target}, {positives} positives: kept in {np.mean(np.array(misses) <= target):.3f} "
            f"of {simulations} simulations (0.9 promised), median threshold {np.median(values):.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    quick = parser.parse_args().quick
    scoring(1000 if quick else 10_000)
    tuning(5000 if quick else 50_000)
    rare_classes(5 if quick else 50)
    guarantee(50 if quick else 500)


if __name__ == "__main__":
    main()
