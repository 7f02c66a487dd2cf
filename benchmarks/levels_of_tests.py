"""How often slices and comparisons find what is not there, and what is, on images of which the truth is known.

Each figure is a share of simulated data sets: 600 images in groups that share 70 % of what makes labels and scores.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import logit
from simulated import World

from mlworkbench import Predictions, Thresholds
from mlworkbench.analysis.compare import compare, compare_recipes
from mlworkbench.analysis.slices import weak_slices

IMAGES, SIZES = 600, (1, 3, 6, 12, 20)
PREVALENCE = np.linspace(0.02, 0.3, 10)
SEEDS = 3  # runs of a recipe
BY_SEED = 0.03  # how much better or worse a seed makes a network, by which one in six pairs of a recipe differ


def world(size: int, prevalence: np.ndarray = PREVALENCE) -> World:
    return World(prevalence, np.full(len(prevalence), 2.0), size)


def half(predictions: Predictions) -> Thresholds:
    return Thresholds.default(predictions.class_names)


def by_group(predictions: Predictions, choices: list, rng: np.random.Generator) -> np.ndarray:
    """One of the choices for each group of images."""
    of = np.arange(len(predictions)) if predictions.groups is None else predictions.groups
    return rng.choice(choices, of[-1] + 1)[of]


def slices(predictions: Predictions, rng: np.random.Generator, **traits: np.ndarray) -> pd.DataFrame:
    """Slices by one trait of whole groups, one that is alike in them, and one of single images; and by those given."""
    bright = by_group(predictions, np.linspace(-2, 2, 1000).tolist(), rng)
    own = {"brightness": bright + rng.normal(0, 0.4, len(predictions)), "iso": rng.normal(size=len(predictions))}
    traits = {"camera": by_group(predictions, ["a", "b", "c"], rng)} | own | traits
    return weak_slices(predictions, half(predictions), pd.DataFrame(traits, predictions.paths))


def slice_of_nothing(size: int, rng: np.random.Generator) -> bool:
    return bool(slices(world(size).draw(rng, IMAGES)[0], rng).significant.any())


def slice_of_labels(times: float) -> Callable[[int, np.random.Generator], bool]:
    """A camera that shows so many times as many labels, each as hard as elsewhere, is called worse in any score."""

    def found(size: int, rng: np.random.Generator) -> bool:
        parts = []
        for prevalence in (0.08, 0.08 * times):  # without it in the logits all are missed and added at equal rates
            part = World(np.full(10, prevalence), np.full(10, 3.0), size).draw(rng, IMAGES // 2)[0]
            parts.append(replace(part, logits=part.logits - logit(prevalence).astype(np.float32) - 2.5))
        few, many = parts
        both = Predictions(
            np.array([f"{i}.jpg" for i in range(IMAGES)], object),
            few.class_names,
            np.vstack([few.logits, many.logits]),
            np.vstack([few.labels, many.labels]),
            groups=None if few.groups is None else np.append(few.groups, many.groups + IMAGES),
        )
        table = weak_slices(
            both, half(both), pd.DataFrame({"camera": np.repeat(["few", "many"], IMAGES // 2)}, both.paths)
        )
        return bool((table.significant & table.slice.str.startswith("camera")).any())

    return found


def slice_of_a_camera(size: int, rng: np.random.Generator) -> bool:
    """A camera that took a third of the groups, with twice the misses in the most frequent class, is found."""
    drawn = world(size).draw(rng, IMAGES)[0]
    camera, z = by_group(drawn, ["a", "b", "c"], rng), drawn.logits.copy()
    z[camera == "a", -1] -= np.where(drawn.labels[camera == "a", -1] == 1, MORE_MISSES, 0).astype(np.float32)
    table = slices(replace(drawn, logits=z), rng, camera=camera)
    return bool((table.significant & (table.slice == "camera a") & (table.score == "c9 missed")).any())


def misses_doubled() -> float:
    """How far the logits of the most frequent class's positives must fall for twice as many to be missed."""
    truth = world(1).truth()
    z = np.sort(truth.logits[truth.labels[:, -1] == 1, -1])
    return float(z[2 * np.count_nonzero(z < 0)])


MORE_MISSES = misses_doubled()


def networks(size: int, rng: np.random.Generator, number: int, better: float = 0.0) -> list[Predictions]:
    """So many networks, half of each recipe, which their seeds make better or worse, and the second recipe better."""
    drawn = world(size).draw(rng, IMAGES, models=number)
    by = rng.normal(0, BY_SEED, number) + np.where(np.arange(number) < number // 2, 0, better)
    return [
        replace(p, logits=p.logits + ((4 * by) * (p.labels - 0.5)).astype(np.float32))
        for p, by in zip(drawn, by, strict=True)
    ]


def apart(found: dict) -> bool:
    return bool(found["low"] > 0 or found["high"] < 0)


def equal_models(size: int, rng: np.random.Generator) -> list[bool]:
    one, two = world(size).draw(rng, IMAGES, models=2)
    found = compare(one, two, half(one), half(two))
    return [found.sets["p"] <= 0.05, bool((found.classes.q <= 0.05).any()), apart(found.map)]


def of_one_recipe(size: int, rng: np.random.Generator) -> list[bool]:
    """Two networks of the same recipe by their mAP, and as recipes with three seeds each by mAP and macro F1."""
    runs = networks(size, rng, 2 * SEEDS)
    thresholds = [half(runs[0])] * SEEDS
    pair = compare(runs[0], runs[-1], thresholds[0], thresholds[0]).map
    scores = compare_recipes(runs[:SEEDS], runs[SEEDS:], thresholds, thresholds).scores
    return [apart(pair), apart(scores.loc["map"]), apart(scores.loc["f1_macro"])]


def better_recipe(size: int, rng: np.random.Generator) -> bool:
    """A recipe by which classes lie an eighth farther apart is told from the other by mAP."""
    runs = networks(size, rng, 2 * SEEDS, better=0.25)
    thresholds = [half(runs[0])] * SEEDS
    return apart(compare_recipes(runs[:SEEDS], runs[SEEDS:], thresholds, thresholds).scores.loc["map"])


ROWS: dict[str, Callable[[int, np.random.Generator], object]] = {
    "any slice significant, there is none (.05 allowed)": slice_of_nothing,
    "a camera with twice the labels, each as hard (.05)": slice_of_labels(2),
    "a camera with three times the labels, each as hard (.05)": slice_of_labels(3),
    "a third of the groups with twice the misses of a class, found": slice_of_a_camera,
    "two equal models differ: sets, any class's q, mAP (.05)": equal_models,
    "one recipe: two networks by mAP; as recipes by mAP and macro F1 (.05)": of_one_recipe,
    "a better recipe, found": better_recipe,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="50 data sets a figure instead of 400")
    draws = 50 if parser.parse_args().quick else 400
    for name, row in ROWS.items():
        for size in SIZES:
            rng = np.random.default_rng(size)
            shares = np.atleast_1d(np.mean([row(size, rng) for _ in range(draws)], 0))
            print(f"{name}, groups of {size}: {', '.join(f'{share:.3f}' for share in shares)}", flush=True)


if __name__ == "__main__":
    main()
