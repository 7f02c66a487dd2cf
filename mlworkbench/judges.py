"""By what labels are judged, so that suspects can be told: models that were not trained on the label, if that helps."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

from .calibration import calibrate
from .folds import began_trained, out_of_fold
from .predictions import Predictions
from .probe import seen
from .run import OUT_OF_FOLD, predictions_file, writing
from .workflow import Run

DIRECTIONS = 256  # of the features: more rank no better, and take many times as long
PENALTIES = np.geomspace(1, 1e6, 7)


def for_suspects(
    run: Run, split: str, folds: int | None = None, in_sample: bool = False, say: Callable[[str], object] = print
) -> Predictions:
    """What the labels of a split are to be judged by, for `errors.suspects`; which that is, is said.

    Validation and test images by two judges who err differently, the mean of their logits: the run, which was not
    trained on these labels, and a ridge regression on its features, each image's fitted to all the others of both
    splits. Training images out of fold (`out_of_fold`) where that was done before, where `folds` asks for it, and where
    the run began with trained weights: then it takes seconds and ranks better. A run from random weights judges its own
    training images better than networks do that had fewer of them to learn from, though it believes some wrong labels.
    All by the mean of five views of each image, which ranks better than one (`benchmarks/noise.py` has the figures).

    Parameters
    ----------
    folds : train anew, with so many folds
    in_sample : by the run itself, in any case

    Raises
    ------
    WorkbenchError : see `out_of_fold`
    """
    if split != "train":
        say("held out: neither the network nor the regression on its features has seen the label that it judges")
    else:
        done = (run.folder / predictions_file(OUT_OF_FOLD)).exists()
        if not in_sample and (folds or done or began_trained(run)):
            if folds or not done:
                out_of_fold(run, folds or 5, say)
            say("out of fold: each label is judged by a model that was trained without it")
            return run.predictions(OUT_OF_FOLD)
        say("in sample: the network was trained on these very labels, and believes some of the wrong ones too")
    kept = f"{split}_judged"
    if not (run.folder / predictions_file(kept)).exists():
        _judge(run, ("train",) if split == "train" else ("val", "test"))
    return replace(run.predictions(kept), split=split)


def _judge(run: Run, splits: tuple[str, ...]) -> None:
    """Keep what images of these splits are judged by, beside the run's predictions."""
    table = run.split_table()
    assert table.split is not None
    table = table.take(np.isin(table.split, splits))
    features, logits = seen(run, table)
    if "train" not in splits:
        logits = (logits + left_one_out(features, table.y)) / 2
    with writing(run.folder):
        for split in splits:
            rows = table.split == split
            found = Predictions(table.paths[rows], run.class_names, logits[rows], table.y[rows], split)
            run.write_predictions(found, f"{split}_judged")


def left_one_out(features: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Logits [N, C] of each image by a regression on the features of all others, all N of them in closed form.

    Scikit-learn's ridge regression of the labels as numbers on the principal components, each class with the penalty
    that serves it best, made logits by Platt's calibration. Unknown labels stand at their class's mean.

    Parameters
    ----------
    features : float32 [N, D]
    y : int8 [N, C] of 1, 0, -1
    """
    known, present = y >= 0, y == 1
    target = np.where(known, present, present.sum(0) / np.maximum(known.sum(0), 1))
    few = PCA(min(DIRECTIONS, *features.shape), svd_solver="covariance_eigh")
    x = few.fit_transform(features / max(features.std(), 1e-9))
    ridge = RidgeCV(PENALTIES, scoring="neg_mean_squared_error", store_cv_results=True)
    scores = ridge.fit(x, target).cv_results_  # what each image was given by all others, [N, C, penalties]
    best = (known[..., None] * (scores - target[..., None]) ** 2).sum(0).argmin(-1)
    chosen = np.take_along_axis(scores, best[None, :, None], 2)[..., 0].astype(np.float32)
    named = [str(c) for c in range(y.shape[1])]
    calibration = calibrate(Predictions(np.arange(len(y)).astype(object), named, chosen, y)).calibration
    assert calibration is not None
    return (calibration[0] * chosen + calibration[1]).astype(np.float32)
