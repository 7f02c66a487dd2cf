"""How long the analysis of errors takes, features and predictions given.

Nothing here is a test: machines differ and are noisy. The project wants suspects and confusions of 20,000 images with
50 classes in 20 s on two cores.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from mlworkbench import Predictions, Thresholds
from mlworkbench.errors import confusions, suspects
from mlworkbench.linear import fit_linear
from mlworkbench.paired import compare
from mlworkbench.slices import weak_slices


def timed(what: str, run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    print(f"{what}: {seconds:.1f} s", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a tenth of the images")
    images, classes = 2000 if parser.parse_args().quick else 20_000, 50
    rng = np.random.default_rng(0)
    y = (rng.random((images, classes)) < np.geomspace(0.3, 0.005, classes)).astype(np.int8)
    paths = np.array([f"{i}.jpg" for i in range(images)], object)
    names = [f"class {c}" for c in range(classes)]
    logits = rng.normal(4 * y - 2, 2, (2, *y.shape)).astype(np.float32)
    one, two = (Predictions(paths, names, z, y, "test") for z in logits)
    thresholds = Thresholds.default(names)
    size = f"{images:,} images x {classes} classes"
    both = timed(f"label suspects of {size}, the first import of cleanlab among it", lambda: suspects(one))
    both += timed(f"confusions of {size}", lambda: confusions(one, thresholds))
    print(f"suspects and confusions together: {both:.1f} s (20 s wanted at 20,000)")
    traits = pd.DataFrame({"brightness": rng.uniform(0, 255, images), "width": rng.integers(50, 999, images)}, paths)
    timed(f"slices of {size}", lambda: weak_slices(one, thresholds, traits))
    timed(f"two models compared on {size}, 1,000 resamples", lambda: compare(one, two, thresholds, thresholds))
    few = images // 20
    features = (y[:few] @ rng.normal(0, 1, (classes, 1280)) + rng.normal(0, 3, (few, 1280))).astype(np.float32)
    timed(
        f"heads out of five folds on 1,280 features of {few:,} images x {classes} classes",
        lambda: fit_linear(features, y[:few], np.arange(few)),
    )


if __name__ == "__main__":
    main()
