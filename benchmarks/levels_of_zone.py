"""What a zone for people does on new images: `python benchmarks/levels_of_zone.py [--quick]`.

Zones for 10 % of the images are chosen on simulated validation images of ten classes and used on 5,000 new ones: how
many of these a person gets, and what macro F1 gains where the person is right. Beside it the same number of images
chosen otherwise: those nearest to a threshold, the person asked for as many labels; and any, asked for one label each
or for all ten. `whole` is what the zone's images bring where the person sets right all ten labels.
"""

import argparse

import numpy as np
from simulated import World

from mlworkbench import tune_thresholds
from mlworkbench.decisions.thresholds import margin, reviewed
from mlworkbench.decisions.zone import review_gain, with_zones
from mlworkbench.scoring.metrics import class_scores, mean_defined

CLASSES, SHARE, NEW = 10, 0.1, 5000


def draw(seed: int, images: int, size: int) -> dict[str, float]:
    """One choice of zones, and what it does on new images."""
    rng = np.random.default_rng(seed)
    world = World(rng.uniform(0.03, 0.3, CLASSES), rng.uniform(1.5, 3, CLASSES), size)
    (val,), (new,) = world.draw(rng, images), world.draw(rng, NEW)
    thresholds = with_zones(val, tune_thresholds(val), SHARE)
    present, asked, y = thresholds.decide(new), thresholds.asks(new), new.labels
    before = mean_defined(class_scores(y, present)["f1"])
    found = reviewed(y, present, asked)
    share, everything = found["share"], np.ones_like(asked)
    far = np.abs(margin(new.probabilities, thresholds.values))
    any_image = (rng.random(NEW) < share)[:, None]
    any_label = np.arange(CLASSES) == rng.integers(0, CLASSES, NEW)[:, None]
    chosen = {
        "zone": asked,
        "whole": asked.any(1)[:, None] & everything,
        "margin": far <= np.quantile(far.min(1), share),
        "one of any": any_image & any_label,
        "all of any": any_image & everything,
    }
    gains = {name: reviewed(y, present, its)["f1_macro"] - before for name, its in chosen.items()}
    told = review_gain(val, SHARE, tune_thresholds)
    return {"share": share, "labels": found["labels"], "before": before, **gains, "told": told.after - told.before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="30 draws instead of 300")
    draws = 30 if parser.parse_args().quick else 300
    for images in (450, 150):
        for size in (1, 6):
            rows = [draw(seed, images, size) for seed in range(draws)]
            means = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
            shares, better = [row["share"] for row in rows], np.mean([row["zone"] > row["margin"] for row in rows])
            low, high = np.quantile(shares, [0.05, 0.95])
            print(f"{images} validation images in groups of {size}, {draws} draws: share {means.pop('share'):.3f}")
            print(f"  sd of the share {np.std(shares):.3f}, nine in ten {low:.3f} to {high:.3f}")
            print("  " + ", ".join(f"{name} {value:.4f}" for name, value in means.items()))
            print(f"  more than the margin's in {better:.0%} of the draws", flush=True)


if __name__ == "__main__":
    main()
