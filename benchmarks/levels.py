"""Whether intervals and tests hold what they promise: simulations of which the truth is known, images in groups or not.

Each function is a row, or a few, of the table in docs/numbers.md. Seeds are fixed: equal draws, equal numbers.
"""

import argparse
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from simulated import World

from mlworkbench.scoring.metrics import score

RESAMPLES = 300  # of each draw, for time; people get 1,000
SIZES = (1, 3, 6, 12, 20)  # images a group
MEANS = ("map", "f1_macro", "f1_micro", "f1_samples", "exact_match")
USUAL = World(np.geomspace(0.05, 0.3, 10), np.linspace(1.5, 3, 10))
SMALL = World(np.geomspace(0.02, 0.3, 10), np.linspace(1.5, 3, 10))
TAIL = World(np.geomspace(0.002, 0.2, 80), np.tile([1.5, 3], 40))
EIGHTY = World(np.resize([0.025, 0.05, 0.075, 0.1, 0.125], 80), np.linspace(0.1, 3, 80))


def thresholds(world: World) -> np.ndarray:
    return np.resize([0.3, 0.5], len(world.prevalence))


def true_scores(world: World) -> dict[str, Any]:
    return score(world.truth(), thresholds(world), resamples=0)


def intervals(
    world: World, truth: dict[str, Any], images: int, draws: int, known: bool = True
) -> dict[str, tuple[int, int]]:
    """How many intervals hold the score of endless images, and of how many that are shown, for each mean and, of all
    classes together, `ap` and `f1`; `broken` counts those that leave out their own estimate.

    Parameters
    ----------
    truth : the scores of endless images
    known : whether the groups are told
    """
    limits, rng = thresholds(world), np.random.default_rng(0)
    found = np.zeros((len(MEANS) + 3, 2), int)
    for _ in range(draws):
        drawn = world.draw(rng, images)[0]
        its = score(drawn if known else replace(drawn, groups=None), limits, RESAMPLES)
        told = [(i, its[name], truth[name], its["intervals"][name]) for i, name in enumerate(MEANS)]
        for name in drawn.class_names:
            told += [
                (i, its["classes"][name][key], truth["classes"][name][key], its["intervals"]["classes"][name][key])
                for i, key in enumerate(("ap", "f1"), len(MEANS))
            ]
        for i, estimate, true, ends in told:
            if not math.isnan(ends["low"]):
                found[i] += (ends["low"] <= true <= ends["high"], 1)
                found[-1] += (not ends["low"] <= estimate <= ends["high"], 1)
    return {name: (int(hits), int(of)) for name, (hits, of) in zip((*MEANS, "ap", "f1", "broken"), found, strict=True)}


def shares(found: dict[str, tuple[int, int]]) -> str:
    return "".join(f"{hits / of:>11.3f} of {of:<6}" if of else f"{'–':>11}   {'':<7}" for hits, of in found.values())


def intervals_of_groups(draws: int) -> None:
    """Ten classes of 5 to 30 %, 600 images: as images (only the worst two), then as groups."""
    print(f"{'95 % intervals that hold the truth, of those shown':<52}" + "".join(f"{n:>14}      " for n in
          (*MEANS, "class's AP", "class's F1", "broken")))  # fmt: skip
    truth = true_scores(USUAL)
    for size in (12, 20):
        found = intervals(replace(USUAL, size=size), truth, 600, draws, known=False)
        print(f"{f'groups of {size}, each image taken for itself':<52}{shares(found)}")
    for size in SIZES:
        print(f"{f'groups of {size}':<52}{shares(intervals(replace(USUAL, size=size), truth, 600, draws))}")


def intervals_of_few(draws: int) -> None:
    """Few positives: ten classes of 2 to 30 % among 150 images, 80 of .2 to 20 % among 1,000, 80 of 1 to 5 among 40."""
    for text, world, images, part in (
        ("10 classes of 2 to 30 %, 150 images", SMALL, 150, 1),
        ("the same in groups of 3", replace(SMALL, size=3), 150, 1),
        ("80 classes of .2 to 20 %, 1,000 images", TAIL, 1000, 3),
        ("80 classes of 2.5 to 12.5 %, 40 images", EIGHTY, 40, 3),
    ):
        print(f"{text:<52}{shares(intervals(world, true_scores(world), images, -(-draws // part)))}")


ROWS: tuple[Callable[[int], None], ...] = (intervals_of_groups, intervals_of_few)


def main(rows: Iterable[Callable[[int], None]] = ROWS) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a tenth of the draws")
    draws = 30 if parser.parse_args().quick else 300
    for row in rows:
        row(draws)


if __name__ == "__main__":
    main()
