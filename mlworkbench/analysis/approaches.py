"""Approaches side by side: the four ways to train that people are told of, on one data set."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data.labels import LabelTable
from ..decisions.thresholds import Thresholds
from ..decisions.tuning import tune_thresholds
from ..exceptions import Interrupted
from ..network.foreign import quietly
from ..runs.folder import holds_run
from ..runs.run import Run
from ..scoring.metrics import score
from ..scoring.predictions import Predictions
from ..settings import decisive
from ..training.fit import fit

# What a user writes for each; the softmax needs more, since it knows one class an image and no labels file.
CODE = {
    "loop": 'table = mw.read_labels("labels.csv")\nrun = mw.fit(table, "runs/x", epochs=15)',
    "ultralytics": 'model = mw.MultiLabelYOLO("yolov8n-cls.pt")\nmodel.train(data="labels.csv", epochs=15)',
    "probe": """\
table = mw.read_labels("labels.csv")
run = mw.fit(table, "runs/x", model="yolov8n-cls.pt", route="probe")""",
    "softmax": """\
for path, labels in rows:  # of each split
    present = [name for name, there in zip(names, labels) if there]
    if present:  # one of them is drawn, the others are forgotten
        folder = Path("data", split, random.choice(present))
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
model = YOLO("yolov8n-cls.pt")
model.train(data="data", epochs=15)
probs = model.predict("a.jpg")[0].probs
likely = dict(zip(probs.top5, probs.top5conf))""",
}
APPROACHES: dict[str, dict[str, Any]] = {
    "loop": {"route": "loop"},
    "ultralytics": {"route": "ultralytics"},
    "probe": {"route": "probe"},
    "softmax": {"route": "ultralytics", "loss": "softmax"},
}
TIMED = 200  # images that are predicted to take the time


def train_all(
    table: LabelTable, folder: Path, on_run: Callable[[str, Run], object] | None = None, **settings: Any
) -> dict[str, Run]:
    """A finished run of each approach below `folder`; one that is there with the same settings is taken, or taken up.

    All have the same epochs, rates and augmentation, and each the fastest precision that it offers.

    Parameters
    ----------
    on_run : called with the name and the run of each approach when it is done
    settings : see `settings.Settings`

    Raises
    ------
    Interrupted : an interrupt ended one of them; the next call takes it up
    """
    runs: dict[str, Run] = {}
    for name, own in APPROACHES.items():
        wanted = {**settings, **own}
        run = Run(folder / name)
        same = holds_run(run.folder) and run.status != "failed"
        same = same and decisive(run.state["settings"]) == decisive(wanted)
        with quietly() if runs else nullcontext():  # what the first has said of the images is true of all
            runs[name] = fit(table, run.folder, overwrite=not same, resume=same, **wanted)
        if runs[name].status == "interrupted":  # who stopped this one does not want the next
            raise Interrupted(f"{name} was stopped and is kept; run this again to take it up")
        if on_run is not None:
            on_run(name, runs[name])
    return runs


def comparison(runs: Mapping[str, Run], split: str = "test") -> pd.DataFrame:
    """Scores and costs of each run, one row a run, its thresholds tuned for F1 on validation.

    The seconds are those of the epochs at the pace of the median one: what the first epoch has to set up for all of
    them, imports and caches, counts for none.

    Returns
    -------
    Columns `mAP, low, high` (95 % interval), `classes undefined` (left out of the means), `macro F1, whole set right,
    seconds to train, images/s, lines of code`; the split is in `attrs`
    """
    rows = {}
    for name, run in runs.items():
        scores = score(run.predictions(split), _tuned(run).values)
        paths = run.predictions(split).paths[:TIMED]
        run.predict(paths[:1], run.root)  # the network is read from its file now
        start = time.perf_counter()
        run.predict(paths, run.root)
        speed = len(paths) / (time.perf_counter() - start)
        interval = scores["intervals"]["map"]
        rows[name] = {
            "mAP": scores["map"],
            "low": interval["low"],
            "high": interval["high"],
            "classes undefined": scores["undefined"],
            "macro F1": scores["f1_macro"],
            "whole set right": scores["exact_match"],
            "seconds to train": run.history.seconds.median() * len(run.history),
            "images/s": speed,
            "lines of code": len(CODE[name].splitlines()),
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("approach")
    table.attrs["split"] = split
    return table


def _tuned(run: Run) -> Thresholds:
    return tune_thresholds(run.validation())


def telling_images(runs: Mapping[str, Run], number: int = 3, split: str = "test") -> pd.DataFrame:
    """The images on which the approaches differ most, and what each says of them.

    An image tells more, the more of its known labels some approaches have right and others wrong; of equals the one
    with more classes comes first.

    Returns
    -------
    One row an image and approach: `image_path, approach, says` (in words), `p` float32 [C], `present` bool [C], `y` [C]
    """
    said: dict[str, Predictions] = {name: run.predictions(split) for name, run in runs.items()}
    first = next(iter(said.values()))
    y, names = first.labels, first.class_names
    present = {name: _tuned(run).decide(said[name]) for name, run in runs.items()}
    wrong = np.stack([(present[name] != (y == 1)) & (y >= 0) for name in runs])
    disputed = (wrong.any(0) & ~wrong.all(0)).sum(1)
    order = np.lexsort((-(y == 1).sum(1), -disputed))[:number]
    rows = [
        {
            "image_path": first.paths[row],
            "approach": name,
            "says": _in_words(y[row], present[name][row], said[name].probabilities[row], names, name == "softmax"),
            "p": said[name].probabilities[row],
            "present": present[name][row],
            "y": y[row],
        }
        for row in order
        for name in runs
    ]
    return pd.DataFrame(rows)


def _in_words(y: np.ndarray, present: np.ndarray, p: np.ndarray, names: list[str], exclusive: bool) -> str:
    missed = [names[c] for c in np.flatnonzero((y == 1) & ~present)]
    added = [names[c] for c in np.flatnonzero((y == 0) & present)]
    parts = [f"{what} {', '.join(found)}" for what, found in (("misses", missed), ("wrongly finds", added)) if found]
    text = " and ".join(parts) or "the whole set"
    several = int((y == 1).sum())
    if exclusive and several > 1 and missed:
        text += f" (its {several} true classes share {p[y == 1].sum():.2f} of one)"
    return text
