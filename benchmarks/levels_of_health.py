"""Levels and coverages of `health`, `evaluate --prevalence`, costs and the label budget, on simulated images.

    python benchmarks/levels_of_health.py [--draws N]

Each row says what is promised and what was found, for images alone and in groups of 6 and 20 (600 on validation, 300
new ones, ten classes of 2 to 30 %).
"""

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from simulated import World

from mlworkbench import tune_thresholds
from mlworkbench.analysis.budget import positives_needed
from mlworkbench.analysis.health import compare_images, drift
from mlworkbench.scoring import at_prevalence, decision_costs
from mlworkbench.scoring.metrics import score

PREVALENCE = np.array([0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.3])
SIZES = (1, 6, 20)


def health(size: int, draws: int) -> Iterator[tuple[str, float]]:
    """Unchanged images: what is flagged, what lies in its range, and whether the prevalence is in its interval."""
    world, rng = World(PREVALENCE, np.full(10, 2.0), size=size), np.random.default_rng(size)
    flagged, inside, held = [], [], []
    for _ in range(draws):
        val, new = world.draw(rng, 600)[0], replace(world.draw(rng, 300)[0], y=None)
        its = compare_images(val, new, tune_thresholds(val)).classes
        flagged.append(its.changed.any())
        inside.append((its.low - 1e-9 <= its.now) & (its.now <= its.high + 1e-9))
        shown = its.estimated.notna()
        held += [*((its.estimated_low <= PREVALENCE) & (its.estimated_high >= PREVALENCE))[shown]]
    yield "any class called changed where nothing is (at most .05)", float(np.mean(flagged))
    yield "share called present in its expected range (.95)", float(np.mean(inside))
    yield "true prevalence in the interval of the estimate (.95)", float(np.mean(held))


def drifts(size: int, draws: int) -> Iterator[tuple[str, float]]:
    """Features of unchanged images, of which a group has most in common."""
    rng, found = np.random.default_rng(size), []
    for _ in range(draws):
        sides = []
        for images in (600, 300):
            groups = np.arange(images) // size
            sides += [rng.normal(size=(groups[-1] + 1, 64))[groups] + 0.5 * rng.normal(size=(images, 64)), groups]
        told = drift(*sides)
        found += [told["p"] <= 0.05] if told else []
    yield "a drift of features found where there is none (at most .05)", float(np.mean(found)) if found else np.nan


def another_prevalence(size: int, draws: int) -> Iterator[tuple[str, float]]:
    """Six classes of 10 %, asked for at 1 %, and their costs at 5 false alarms a miss."""
    world, rng = World(np.full(6, 0.1), np.full(6, 2.0), size=size), np.random.default_rng(size)
    truth, asked, cut = world.truth(), {f"c{c}": 0.01 for c in range(6)}, -0.9
    right, price = at_prevalence(truth, truth.logits >= cut, asked, 2), decision_costs(truth, truth.logits >= cut, 5)
    held: dict[str, list[bool]] = {}

    def add(what: str, ends: dict[str, float], value: float) -> None:
        if not np.isnan(ends["low"]):
            held.setdefault(what, []).append(ends["low"] <= value <= ends["high"])

    for _ in range(draws):
        drawn = world.draw(rng, 600)[0]
        found = at_prevalence(drawn, drawn.logits >= cut, asked, 200)
        for key in ("precision", "f1"):
            for name, ends in found["intervals"]["classes"].items():
                add(f"{key} of a class at 1 % (.95)", ends[key], right["classes"][name][key])
            add(f"{key} macro at 1 % (.95)", found["intervals"][f"{key}_macro"], right[f"{key}_macro"])
        costs = decision_costs(drawn, drawn.logits >= cut, 5)
        add("total cost (.95)", costs["total"], price["total"]["value"] * len(drawn) / len(truth))
        add("net benefit (.95)", costs["net_benefit"], price["net_benefit"]["value"])
    before = np.mean([its["precision"] for its in at_prevalence(truth, truth.logits >= cut, {}, 2)["classes"].values()])
    yield "precision at 10 %, where the thresholds were chosen", float(before)
    yield "precision at 1 %, as it is", right["precision_macro"]
    yield from ((what, float(np.mean(its))) for what, its in held.items())


def positives(size: int, draws: int) -> Iterator[tuple[str, float]]:
    """Half of a class's interval once it has as many positives as it is said to need, over .05."""
    rng, reached = np.random.default_rng(size), []
    for _ in range(max(1, draws // 30)):
        needed = positives_needed(
            score(World(PREVALENCE, np.full(10, 2.0), size).draw(rng, 600)[0], np.full(10, 0.4), 200)
        )
        for c, row in enumerate(needed.to_dict("records")):
            for key in ("ap", "f1"):
                images = min(20_000, int(600 * (1 + row[f"{key}_more"] / row["positives"])))
                then = World(PREVALENCE[[c]], np.full(1, 2.0), size).draw(rng, images)[0]
                ends = score(then, np.full(1, 0.4), 100)["intervals"]["classes"]["c0"][key]
                reached.append((ends["high"] - ends["low"]) / 2 / 0.05)
    for share in (0.05, 0.5, 0.95):
        yield (
            f"half an interval over .05 with the positives that are needed, {share:.0%} quantile (1)",
            float(np.nanquantile(reached, share)),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 draws instead of 300")
    draws = 30 if parser.parse_args().quick else 300
    warnings.simplefilter("ignore")
    for row in (health, drifts, another_prevalence, positives):
        found = [dict(row(size, draws)) for size in SIZES]
        for what in found[0]:
            print(f"{what:<80}" + "".join(f"{its.get(what, np.nan):>8.3f}" for its in found), flush=True)


if __name__ == "__main__":
    main()
