"""Zone: the labels that a run leaves to a person, for the label review."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..data.labels import SPLITS
from ..exceptions import WorkbenchError
from ..runs.run import Run
from ..text import unmark_path
from .suspects import Suspects, ranked


def zone_labels(run: Run, of: str | Path | pd.DataFrame = "val") -> Suspects:
    """Labels in the zones of a run's thresholds, the nearest to its threshold first, for `views.LabelReview`.

    Parameters
    ----------
    run : its `root` is where the paths start: for new images `Run(folder, root=…)`
    of : a split of the run; or what `predict` has returned, or its file. New images have no labels: in their place
        stands what the run has decided, and an answer says whether that is right

    Returns
    -------
    Suspects judged "by zone"; their score is 0 at the threshold and 1 where the zone ends

    Raises
    ------
    WorkbenchError : the thresholds have no zones, or the predictions have none or cannot be read
    """
    thresholds = run.thresholds()
    if thresholds.review is None:
        raise WorkbenchError(f"the thresholds of {run.folder} have no zones: mlworkbench tune RUN --review-share F")
    own = isinstance(of, str) and of in SPLITS
    found = run.predictions(str(of)) if own else run.predict(_for_a_person(of), run.root)
    p, limits, (low, high) = found.probabilities, thresholds.aligned(run.class_names), thresholds.zones(run.class_names)
    labels = thresholds.decide(found).astype(np.int8) if found.y is None else found.y
    room = np.where(p >= limits, high - limits, limits - low)
    scores = np.abs(p - limits) / np.maximum(room, 1e-7)
    rows, classes = np.nonzero(thresholds.asks(found) & (labels >= 0))
    order = np.argsort(scores[rows, classes], kind="stable")
    return Suspects(ranked(found, labels, scores, rows[order], classes[order]), found, "by zone")


def _for_a_person(predicted: str | Path | pd.DataFrame) -> list[str]:
    """Paths of the images of which a person is asked something."""
    frame = predicted
    if not isinstance(frame, pd.DataFrame):
        file = Path(frame)
        read = pd.read_csv if file.suffix == ".csv" else pd.read_parquet
        try:
            frame = read(file)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise WorkbenchError(f"{file}: {reason}; expected a file that mlworkbench predict wrote") from None
    asked = [name for name in frame.columns if name.startswith("review_")]
    if not asked or "image_path" not in frame:
        raise WorkbenchError("the predictions have no columns review_…; predict again, since the thresholds have zones")
    return [unmark_path(str(path)) for path in frame.image_path[frame[asked].any(axis=1)]]
