"""What calibration promises, by simulation: `python benchmarks/levels_of_calibration.py [--quick]`.

Whether a fit reaches its optimum; what calibrating costs or saves, by a class's positives and by how its logits are
bent; the calibration error that true probabilities have; and which thresholds serve costs best.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.special import expit, log_expit, logit
from simulated import World
from sklearn.linear_model import LogisticRegression

from mlworkbench import Predictions, tune_thresholds
from mlworkbench.scoring.calibration import calibrate
from mlworkbench.scoring.metrics import calibration_chance, calibration_error
from mlworkbench.scoring.predictions import decide

IMAGES, POSITIVES = 450, np.array([2, 2, 5, 5, 10, 10, 25, 50, 100, 150])
Bend = Callable[[np.ndarray], np.ndarray]


def oracle(z: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Scale and shift for one class by scikit-learn: each label counts as both, as much as Platt's targets say."""
    present, absent = (y == 1).sum(), (y == 0).sum()
    target = np.where(y == 1, (present + 1) / (present + 2), 1 / (absent + 2))
    x = (z - z.mean()) / z.std()
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    model.fit(np.tile(x, 2)[:, None], np.repeat([1, 0], len(y)), sample_weight=np.concatenate([target, 1 - target]))
    scale = model.coef_[0, 0] / z.std()
    return float(scale), float(model.intercept_[0] - scale * z.mean())


def loss(z: np.ndarray, y: np.ndarray, scale: float, shift: float) -> float:
    """Mean cross entropy of one class to Platt's targets."""
    present, absent = (y == 1).sum(), (y == 0).sum()
    target = np.where(y == 1, (present + 1) / (present + 2), 1 / (absent + 2))
    bent = scale * z + shift
    return float(-np.mean(target * log_expit(bent) + (1 - target) * log_expit(-bent)))


def over_confident(rng: np.random.Generator) -> Predictions:
    """One class of 2 to 5 positives, its logits five to ten times too large."""
    y = rng.permutation(np.arange(IMAGES) < rng.integers(2, 6)).astype(np.int8)[:, None]
    apart = rng.uniform(1, 6)
    z = rng.uniform(5, 10) * (apart * (apart * (y - 0.5) + rng.standard_normal(y.shape)) + logit(y.mean()))
    return Predictions(np.arange(IMAGES).astype(str).astype(object), ["c"], z.astype(np.float32), y, "val")


def fits(draws: int = 480) -> tuple[int, float]:
    """How many fits of over-confident networks end away from the optimum, and how far p is off at most."""
    rng, worse, away = np.random.default_rng(0), 0, 0.0
    for _ in range(draws):
        found = calibrate(over_confident(rng))
        z, y = found.logits[:, 0].astype(float), found.labels[:, 0]
        scale, shift = oracle(z, y)
        if scale * z.std() > 1e-3:  # else ours stops where the ranking would be turned round
            worse += loss(z, y, *found.calibration[:, 0]) > loss(z, y, scale, shift) + 1e-9
            away = max(away, float(np.abs(expit(scale * z + shift) - found.probabilities[:, 0]).max()))
    return worse, away


def bends(rng: np.random.Generator) -> dict[str, Bend]:
    """Ways in which logits leave the truth."""
    prior = POSITIVES / IMAGES
    weights = np.clip((1 - prior) / prior, 1, 10)
    scales, shifts = np.exp(rng.normal(0, 0.4, len(prior))), rng.normal(0, 1, len(prior))
    q = np.linspace(0.001, 0.999, 999)
    p = expit(np.linspace(-9, 9, 361))[:, None]
    lowered = np.minimum(1 - q + 0.05, 1)
    asl = q[(-p * np.log(q) * (1 - q) - (1 - p) * np.log(lowered) * (1 - lowered) ** 4).argmin(1)]
    return {
        "right": lambda z: z,
        "five times too large": lambda z: 5 * z,
        "positive_weight 10": lambda z: z + np.log(weights),
        "asl": lambda z: np.interp(z, np.linspace(-9, 9, 361), logit(asl)),
        "each class otherwise": lambda z: scales * z + shifts,
    }


def excess(draws: int = 300) -> dict[tuple[str, str], np.ndarray]:
    """Mean log loss on new images above that of the truth, by what bends the logits and how they are calibrated.

    Of classes with 2, 5, 10 and more positives to be expected among 450, and of all: [5].
    """
    rng, found = np.random.default_rng(0), {}
    groups = [POSITIVES == 2, POSITIVES == 5, POSITIVES == 10, POSITIVES > 10]
    for _ in range(draws):
        world = World(POSITIVES / IMAGES, rng.uniform(1.5, 3.5, len(POSITIVES)))
        val, new = world.draw(rng, IMAGES)[0], world.draw(rng, 4000)[0]
        truth = expit(new.logits.astype(float))
        for name, bend in bends(rng).items():
            tuned, z = replace(val, logits=bend(val.logits).astype(np.float32)), bend(new.logits)
            alone = [
                calibrate(Predictions(val.paths, [n], tuned.logits[:, [c]], val.labels[:, [c]])).calibration
                for c, n in enumerate(val.class_names)
            ]
            for how, (scale, shift) in {
                "as it is": (1, 0), "each class alone": np.hstack(alone), "drawn": calibrate(tuned).calibration
            }.items():  # fmt: skip
                bent = scale * z + shift
                each = truth * (log_expit(new.logits) - log_expit(bent))
                each += (1 - truth) * (log_expit(-new.logits) - log_expit(-bent))
                by = [each[:, group].mean() for group in groups]
                found.setdefault((name, how), []).append([*by, each.mean()])
    return {key: np.mean(values, 0) for key, values in found.items()}


def chance(draws: int = 300) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Calibration error [4] of true probabilities by the number of images, and what `calibration_chance` says of it."""
    found = {}
    world = World(np.array([0.02, 0.05, 0.1, 0.3]), np.array([3.0, 2.5, 2.0, 2.0]))
    for images in (150, 450, 5000):
        rng, errors, said = np.random.default_rng(0), [], []
        for _ in range(draws):
            its = world.draw(rng, images)[0]
            errors.append(calibration_error(its.labels, its.probabilities))
            said.append(calibration_chance(its.labels, its.probabilities))
        found[images] = np.mean(errors, 0), np.mean(said, 0)
    return found


def costs(draws: int = 300) -> dict[tuple[str, int], dict[str, float]]:
    """Cost on new images above the least, which is that of the truth cut at 1 / (1 + ratio), as a share of that."""
    rng, found = np.random.default_rng(0), {}
    for _ in range(draws):
        world = World(POSITIVES / IMAGES, rng.uniform(1.5, 3.5, len(POSITIVES)))
        val, new = world.draw(rng, IMAGES)[0], world.draw(rng, 4000)[0]
        for name, bend in bends(rng).items():
            tuned = replace(val, logits=bend(val.logits).astype(np.float32))
            bent = replace(new, logits=bend(new.logits).astype(np.float32))
            true = calibrate(tuned)
            for ratio in (1, 5, 20):
                known = np.full(len(POSITIVES), 1 / (1 + ratio))

                def cost(decided: np.ndarray, y: np.ndarray = new.labels, ratio: float = ratio) -> float:
                    return float((ratio * ((y == 1) & ~decided) + ((y == 0) & decided)).mean())

                ways = {
                    "the truth": decide(new.probabilities, known),
                    "tuned": tune_thresholds(tuned, "cost", ratio).decide(bent),
                    "calibrated, tuned": tune_thresholds(true, "cost", ratio).decide(bent),
                    "calibrated, known": decide(replace(bent, calibration=true.calibration).probabilities, known),
                }
                for how, decided in ways.items():
                    found.setdefault((name, ratio), {}).setdefault(how, []).append(cost(decided))
    above = {}
    for key, by in found.items():
        least = np.mean(by.pop("the truth"))
        above[key] = {how: float(np.mean(its) / least - 1) for how, its in by.items()}
    return above


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few draws")
    given = {"draws": 20} if parser.parse_args().quick else {}
    worse, away = fits(**given)
    print(f"fits of over-confident networks: {worse} away from the optimum, p off by up to {away:.1g}")
    print("excess log loss x 1e-4 of classes with 2, 5, 10, more positives among 450 images; of all")
    for (name, how), values in excess(**given).items():
        print(f"  {name:22} {how:18}", *(f"{1e4 * value:8.1f}" for value in values))
    print("calibration error of true probabilities, and by chance as said, of classes of 2, 5, 10, 30 %")
    for images, both in chance(**given).items():
        print(f"  {images:>6,} images", *(f"{a:.4f} {b:.4f}  " for a, b in zip(*both, strict=True)))
    print("cost on new images above the least")
    for (name, price), by in costs(**given).items():
        print(f"  {name:22} a miss costs {price:>2}:", ", ".join(f"{how} {its:+.1%}" for how, its in by.items()))


if __name__ == "__main__":
    main()
