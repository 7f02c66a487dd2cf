"""How long the analysis of errors takes, features and predictions given.

Nothing here is a test: machines differ and are noisy. The project wants suspects and confusions of 20,000 images with
50 classes in 20 s on two cores.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mlworkbench import Predictions, Thresholds
from mlworkbench.analysis.compare import compare
from mlworkbench.analysis.errors import confusions
from mlworkbench.analysis.slices import weak_slices
from mlworkbench.analysis.suspects import Suspects, left_one_out, rank_labels
from mlworkbench.runs.run import Run
from mlworkbench.training.probe import fit_linear
from mlworkbench.views.review import LabelReview


def timed(what: str, run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    print(f"{what}: {seconds:.1f} s", flush=True)
    return seconds


def opened(folder: Path, predictions: Predictions) -> None:
    """The label review over all suspects, in the kernel; its images are links to one of 640x480."""
    Image.effect_noise((640, 480), 80).convert("RGB").save(folder / "0.jpg")
    for path in predictions.paths[1:]:
        (folder / path).hardlink_to(folder / "0.jpg")
    run, ranked = Run(folder / "run"), rank_labels(predictions)
    run.write_state(format_version=1, class_names=predictions.class_names, image_root=str(folder))
    timed(
        f"the label review opened on {len(ranked):,} suspects (2 s wanted)",
        lambda: LabelReview(run, Suspects(ranked, predictions, "held out")),
    )


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
    features = (y @ rng.normal(0, 1, (classes, 1280)) + rng.normal(0, 3, (images, 1280))).astype(np.float32)
    both = timed(f"the regression that judges {size} by 1,280 features", lambda: left_one_out(features, y))
    both += timed(f"label suspects of {size}", lambda: rank_labels(one))
    both += timed(f"confusions of {size}", lambda: confusions(one, thresholds))
    print(f"all three together: {both:.1f} s (20 s wanted at 20,000)")
    with tempfile.TemporaryDirectory() as place:
        opened(Path(place), one)
    traits = pd.DataFrame({"brightness": rng.uniform(0, 255, images), "width": rng.integers(50, 999, images)}, paths)
    timed(f"slices of {size}", lambda: weak_slices(one, thresholds, traits))
    timed(f"two models compared on {size}, 1,000 resamples", lambda: compare(one, two, thresholds, thresholds))
    few = images // 20
    timed(
        f"heads out of five folds on 1,280 features of {few:,} images x {classes} classes",
        lambda: fit_linear(features[:few], y[:few], np.arange(few)),
    )


if __name__ == "__main__":
    main()
