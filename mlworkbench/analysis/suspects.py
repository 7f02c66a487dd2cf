"""Suspects: labels ranked by how likely they are wrong, and the models that judge them."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

from ..data.labels import LabelTable, read_labels
from ..data.prepare import prepare
from ..data.splits import stratified_parts
from ..decisions.thresholds import Thresholds
from ..exceptions import Interrupted, WorkbenchError
from ..network.batches import ImageDataset
from ..network.device import choose_device
from ..network.foreign import quietly
from ..network.infer import batches_of, pooled_features
from ..runs.folder import OUT_OF_FOLD, keeping, predictions_file
from ..runs.run import Run
from ..scoring.calibration import calibrate
from ..scoring.metrics import score
from ..scoring.predictions import Predictions
from ..text import duration
from ..training.fit import fit

DIRECTIONS = 256  # of the features: more rank no better, and take many times as long
PENALTIES = np.geomspace(1, 1e6, 7)
BASES = {
    "held out": "each judged by what has not learnt from it, the network and a regression on its features",
    "out of fold": "each judged by a model that was trained without it",
    "in sample": "the network was trained on these very labels, and believes some of the wrong ones too",
    "by zone": "the run is not sure of these and leaves them to a person; the least sure come first",
}


@dataclass(frozen=True)
class Suspects:
    """Labels of a split, ranked by how likely they are wrong, and what the ranking rests on.

    Attributes
    ----------
    ranking : see `rank_labels`
    predictions : what the labels were judged by
    basis : "held out", "out of fold", "in sample" or "by zone", see `BASES`
    """

    ranking: pd.DataFrame
    predictions: Predictions
    basis: str

    def __str__(self) -> str:
        return f"{len(self.ranking):,} labels: {BASES[self.basis]}"


def find_suspects(
    run: Run,
    split: str = "val",
    folds: int | None = None,
    in_sample: bool = False,
    say: Callable[[str], object] = print,
) -> Suspects:
    """Suspects among the labels of a split, ranked by judges that have not seen them wherever that ranks better.

    Validation and test images by two judges who err differently, the mean of their logits: the run, which was not
    trained on these labels, and a ridge regression on its features, each image's fitted to all the others of both
    splits. Training images out of fold (`out_of_fold`) where that was done before, where `folds` asks for it, and where
    the run began with trained weights: then it takes seconds and ranks better. A run from random weights judges its own
    training images better than networks do that had fewer of them to learn from, though it believes some wrong labels.
    All by the mean of five views of each image, which ranks better than one, and calibrated (see `compared`) on what
    the judge says of labels that it has not seen: those of val, or its own out of fold (`benchmarks/noise.py` has the
    figures).

    Parameters
    ----------
    folds : for training images, train anew with so many folds
    in_sample : training images by the run itself, in any case
    say : is told beforehand what will be trained and how long it takes

    Raises
    ------
    WorkbenchError : folds or in_sample with another split than train; see also `out_of_fold`
    """
    if split != "train" and (folds is not None or in_sample):
        raise WorkbenchError(f"the run was not trained on the labels of {split}: folds and in_sample are for train")
    done = (run.folder / predictions_file(OUT_OF_FOLD)).exists()
    if split == "train" and not in_sample and (folds is not None or done or began_trained(run)):
        if folds is not None or not done:
            out_of_fold(run, 5 if folds is None else folds, say)
        judged, basis = run.predictions(OUT_OF_FOLD), "out of fold"
    else:
        kept = f"{split}_judged"
        if not (run.folder / predictions_file(kept)).exists():
            _judge(run, ("train",) if split == "train" else ("val", "test"))
        judged = replace(run.predictions(kept), split=split)
        basis = "in sample" if split == "train" else "held out"
    unseen = judged if basis == "out of fold" else run.predictions("val")
    return Suspects(rank_labels(judged, basis == "in sample", compared(unseen)), judged, basis)


def compared(unseen: Predictions) -> np.ndarray:
    """The calibration float64 [2, C] that makes a judge's classes comparable, from labels that it has not seen.

    A loss that weighs positives more moves each class's logits by its own amount, and the first suspects would all be
    of the class that it moved most. One scale for all classes and a shift for each (see `calibrate`): by a scale of its
    own a class whose wrong labels are contradicted with confidence would seem less sure than one of which little is
    known.
    """
    calibration = calibrate(unseen, "shifts").calibration
    assert calibration is not None
    return calibration


def rank_labels(
    predictions: Predictions, in_sample: bool = False, calibration: np.ndarray | None = None
) -> pd.DataFrame:
    """Ranking of every known label by how likely it is wrong, the most suspect first.

    The score is a label's self-confidence, the probability that the predictions give the label as it is (Northcutt,
    Jiang and Chuang, "Confident Learning", JAIR 2021; for several labels Thyagarajan et al., arXiv 2211.13895): low is
    suspect. It means something only where the model has not seen the label.

    Parameters
    ----------
    in_sample : rank training images by the very model that was trained on them
    calibration : float64 [2, C] by which score and order go, see `compared`; None: by the logits as they are. That of
        the predictions themselves is for how decisions are shown, and changes the `probability` alone.

    Returns
    -------
    Columns `rank, image_path, split, class, label, probability, score` (0..1)

    Raises
    ------
    WorkbenchError : predictions in sample that are not named so
    """
    if predictions.split == "train" and not in_sample:
        raise WorkbenchError("the model has seen the labels of its training images; rank them out of fold or in_sample")
    y = predictions.labels
    even = replace(predictions, calibration=calibration).probabilities
    scores = np.where(y == 1, even, 1 - even)
    scale, shift = (1, 0) if calibration is None else calibration
    rows, classes = np.nonzero(y >= 0)
    # The logits part labels whose probabilities are 0 or 1 to the last bit.
    sure = np.where(y == 1, 1, -1) * (scale * predictions.logits + shift)
    order = np.lexsort((sure[rows, classes], scores[rows, classes]))
    return ranked(predictions, y, scores, rows[order], classes[order])


def ranked(
    predictions: Predictions, y: np.ndarray, scores: np.ndarray, rows: np.ndarray, classes: np.ndarray
) -> pd.DataFrame:
    """The labels y [N, C] at these rows and classes, in this order, with the columns of `rank_labels`."""
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(rows) + 1),
            "image_path": predictions.paths[rows],
            "split": "train" if predictions.split == OUT_OF_FOLD else predictions.split,
            "class": np.array(predictions.class_names, dtype=object)[classes],
            "label": y[rows, classes],
            "probability": predictions.probabilities[rows, classes],
            "score": scores[rows, classes],
        }
    )


def known_truth(run: Run) -> LabelTable | None:
    """The right labels of a run's images, where a file `truth.csv` lies beside its labels file, as in built-in data."""
    labels = run.state.get("labels_file")  # a run on a table in memory has none
    file = Path(labels or "").parent / "truth.csv"
    return read_labels(file, **run.given) if labels and file.exists() else None


def against_truth(
    ranking: pd.DataFrame,
    truth: LabelTable,
    predictions: Predictions,
    thresholds: Thresholds,
    looks: Sequence[int] = (50, 100),
) -> pd.DataFrame:
    """What a person would gain who looks at the first suspects and mends the wrong ones, where the truth is known.

    Parameters
    ----------
    ranking : see `rank_labels`
    truth : the right labels; one that is unknown there is never wrong
    predictions : what the network says of the split: it stays as it is, only the labels that it is held against change
    looks : after how many of the first suspects

    Returns
    -------
    A row for no look, for each of `looks` that are there, and for all: `first suspects, really wrong, of all wrong`
    (share), `mAP, macro F1` against the labels so mended

    Raises
    ------
    WorkbenchError : an image or a class that the truth does not have
    """
    place, column = ({key: i for i, key in enumerate(keys)} for keys in (truth.paths, truth.class_names))
    paths, names = predictions.paths.tolist(), predictions.class_names
    own, ours = ({key: i for i, key in enumerate(keys)} for keys in (paths, names))
    if lost := [key for key in (*paths, *names) if key not in place and key not in column]:
        raise WorkbenchError(f"{truth.source}: nothing of {lost[0]!r}; expected every image and class of the split")
    right = truth.y[[place[path] for path in paths]][:, [column[name] for name in names]]
    rows, classes = ranking.image_path.map(own).to_numpy(), ranking["class"].map(ours).to_numpy()
    wrong = (right[rows, classes] >= 0) & (right[rows, classes] != ranking.label)
    predictions, values, found = thresholds.calibrated(predictions), thresholds.aligned(names), []
    for look in (0, *(look for look in looks if look < len(wrong)), len(wrong)):
        at, labels = np.flatnonzero(wrong[:look]), predictions.labels.copy()
        labels[rows[at], classes[at]] = right[rows[at], classes[at]]
        scores = score(replace(predictions, y=labels), values, resamples=0)
        found.append((look, len(at), len(at) / max(wrong.sum(), 1), scores["map"], scores["f1_macro"]))
    return pd.DataFrame(found, columns=["first suspects", "really wrong", "of all wrong", "mAP", "macro F1"])


def _judge(run: Run, splits: tuple[str, ...]) -> None:
    """Keep what images of these splits are judged by, beside the run's predictions."""
    table = run.split_table()
    assert table.split is not None
    table = table.take(np.isin(table.split, splits))
    features, logits = seen(run, table)
    if "train" not in splits:
        scale, shift = compared(run.predictions("val"))  # kept on the run's own scale, on which its thresholds stand
        logits = ((logits + (left_one_out(features, table.y) - shift) / scale) / 2).astype(np.float32)
    with keeping(run.folder) as lasting:
        for split in splits:
            rows = table.split == split
            found = Predictions(table.paths[rows], run.class_names, logits[rows], table.y[rows], split)
            run.write_predictions(found, f"{split}_judged", lasting)


def left_one_out(features: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Logits [N, C] of each image by a regression on the features of all others, all N of them in closed form.

    Scikit-learn's ridge regression of the labels as numbers on the principal components, each class with the penalty
    that serves it best, made logits by a calibration (see `compared`). Unknown labels stand at their class's mean.

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
    scale, shift = compared(Predictions(np.arange(len(y)).astype(object), named, chosen, y))
    return (scale * chosen + shift).astype(np.float32)


def out_of_fold(run: Run, folds: int = 5, say: Callable[[str], object] = print) -> Predictions:
    """Predict each training image by a model that was trained without its fold, and keep that with the run.

    Where the run began with trained weights, heads are fitted on the features of these, which have seen no label of
    this data: seconds. Where it began with random ones, features that know anything have learned it from the labels,
    so whole networks are trained, each on the other folds by the run's own settings, and stopped by its validation
    images. Folds keep classes balanced and images that belong together whole.

    Parameters
    ----------
    say : is told beforehand what will be done and how long it takes

    Returns
    -------
    Predictions of the training images, their split "train_out_of_fold"; `run.predictions` gives them again

    Raises
    ------
    WorkbenchError : fewer than two folds or groups of images, or the labels file or an image has changed
    Interrupted : a training was interrupted; nothing is kept
    """
    if folds < 2:
        raise WorkbenchError(f"{folds} folds; expected at least 2")
    settings, table = run.state["settings"], run.split_table()
    if not str(settings["model"]).endswith((".yaml", ".yml", ".pt")):
        say(f"the run began with the weights of {settings['model']}, which may know some of these labels by heart")
    with tempfile.TemporaryDirectory(prefix="mlworkbench-") as temporary, quietly():  # it was all said when run began
        folder = Path(temporary)
        if began_trained(run):
            say(f"{folds} folds of heads on the features of {settings['model']}: seconds once these are computed")
            kept = ("model", "image_size", "batch_size", "device", "workers", "cache_gb", "seed")
            part = _finished(fit(table, folder, route="probe", folds=folds, **{name: settings[name] for name in kept}))
            found = part.predictions(OUT_OF_FOLD, raw=True)
        else:
            found = _by_networks(run, table, folds, folder, say)
    with keeping(run.folder) as lasting:
        run.write_predictions(found, OUT_OF_FOLD, lasting)
    return run.predictions(OUT_OF_FOLD)


def _by_networks(run: Run, table: LabelTable, folds: int, folder: Path, say: Callable[[str], object]) -> Predictions:
    settings = run.state["settings"] | {"precision": run.state["precision"]["name"]}  # as it was chosen
    prepared = prepare(table, settings["seed"])
    rows = prepared.rows("train")
    groups = prepared.groups[rows]
    folds = min(folds, len(np.unique(groups)))
    if folds < 2:
        raise WorkbenchError("the training images all belong together; folds need at least two groups of them")
    seconds = run.state.get("seconds", 0.0)
    say(
        f"{folds} networks, each on {1 - 1 / folds:.0%} of the training images: about "
        f"{duration(seconds * (folds - 1))}, as the run itself took {duration(seconds)}"
    )
    fold = stratified_parts(prepared.table.y[rows], groups, [1 / folds] * folds, settings["seed"])
    logits = np.empty((len(rows), len(table.class_names)), np.float32)
    place = {path: i for i, path in enumerate(prepared.table.paths[rows])}
    for k in range(folds):
        split = np.where(prepared.split == "test", "", prepared.split)
        split[rows[fold == k]] = "test"  # a run has three splits
        part = replace(prepared.table, split=split).take(split != "")
        held = part.take(split[split != ""] == "test")
        logits[[place[path] for path in held.paths]] = seen(_finished(fit(part, folder / str(k), **settings)), held)[1]
        say(f"network {k + 1} of {folds} is trained")
    return Predictions(prepared.table.paths[rows], run.class_names, logits, prepared.table.y[rows], OUT_OF_FOLD)


def began_trained(run: Run) -> bool:
    """Whether a run has features that have seen no label of its data: those of the weights it began with."""
    return bool(run.state["settings"]["route"] == "probe" or str(run.state["settings"]["model"]).endswith(".pt"))


def _finished(run: Run) -> Run:
    if run.status != "finished":  # Ctrl-C ends a training in good order
        raise Interrupted("stopped: the networks that judge labels are not kept; start again")
    return run


def seen(run: Run, table: LabelTable) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, 1280] of images and what the run says of them, logits [N, C]: means over five views of each."""
    settings = run.state["settings"]
    dataset = ImageDataset(table.paths, table.root, None, settings["image_size"])
    batches = batches_of(dataset, settings["batch_size"], settings["workers"], "judging labels")
    features = pooled_features(run.model, batches, choose_device(), steady=True)
    return features, run.model.logits_of(features)
