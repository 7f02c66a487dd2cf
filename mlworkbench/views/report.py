"""Report: one page, whole in itself, on a run or on several side by side.

What a section needs and does not find is told in its place. Nothing is computed by the network and nothing but the page
is written: predictions are those that the folder keeps, and the test split is scored only where `evaluate` was run.
"""

import base64
import hashlib
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from .. import __version__
from ..analysis.compare import compare_runs
from ..analysis.errors import disagreements
from ..analysis.slices import LEVEL, weak_slices
from ..analysis.suspects import rank_labels
from ..data.labels import SPLITS
from ..exceptions import WorkbenchError
from ..files import write_whole
from ..runs import folder as folder_of
from ..runs.run import Run
from ..scoring.metrics import class_table, interval, score
from ..scoring.predictions import Predictions
from ..scoring.thresholds import CONFIDENCE, HAND, Thresholds
from ..settings import Settings, as_arguments
from ..text import by_reason, shown
from . import plots
from .galleries import small
from .style import STATIC, png

SHOWN = 3  # findings of a kind and images of a reason before the fold
CARDS = 12  # errors and suspects
ROWS = 300  # of a table: thousands of classes would make a page that no browser shows
SLICES = 10
HEADLINES = {"map": "mAP", "f1_macro": "F1 macro", "f1_micro": "F1 micro", "exact_match": "whole set right"}
MORE = {
    "f1_samples": "F1 samples",
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}
SIDE_BY_SIDE = ("map", "f1_macro", "exact_match")
CHOSEN = {  # how an objective of `thresholds.tune_class` reads, with its target
    "default": "Nobody has chosen thresholds yet: a class counts as present from p 0.5 on",
    HAND: "Thresholds were set by hand",
    "f1": "Each class has the threshold with its best F1",
    "fbeta": "Each class has the threshold with its best F-beta, beta {target:g}",
    "precision": "Each class has the lowest threshold that holds a precision of {target:g}",
    "recall": "Each class has the highest threshold that holds a recall of {target:g}",
    "cost": "Each class has the threshold of least cost, where a miss costs {target:g} false alarms",
    "guarantee": "Each class has the highest threshold that keeps its miss rate under {target:g} on new images, with "
    "confidence {confidence:g}",
}
Block = dict[str, Any]


def report(runs: Any, out: str | Path | None = None) -> Path:
    """Report on a finished run, or on several side by side, as one HTML page that needs nothing else.

    Parameters
    ----------
    runs : a `Run` or its folder, or a sequence of these; of several, all are compared with the first
    out : file to write, `.html`; by default `report.html` in the run folder

    Returns
    -------
    The file

    Raises
    ------
    WorkbenchError : a folder without a run, another ending, or several runs without `out`

    >>> report("runs/first")      # doctest: +SKIP
    """
    given = [runs] if isinstance(runs, (str, Path, Run)) else list(runs)
    subjects = _subjects([run if isinstance(run, Run) else Run(run) for run in given])
    if out is None and len(subjects) != 1:
        raise WorkbenchError(f"{len(subjects)} runs; say where their page goes: --out FILE.html")
    file = subjects[0].run.folder / "report.html" if out is None else Path(out)
    if file.suffix != ".html":
        raise WorkbenchError(f"--out {file}: expected a name that ends in .html")
    parts = _OF_ONE if len(subjects) == 1 else _OF_SEVERAL
    subject: Any = subjects[0] if len(subjects) == 1 else subjects
    for one in subjects:
        _ = one.run.state  # without it there is no run to tell of
    page = _page(_title(subjects), [(title, list(_told(part(subject)))) for title, part in parts.items()])
    write_whole(file, page.encode("utf-8", "replace"))
    return file


class _Subject:
    """A run, and what several sections ask of it."""

    def __init__(self, run: Run, name: str):
        self.run, self.name = run, name
        self._predictions: dict[str, Predictions] = {}
        self._scores: dict[str, dict[str, Any]] = {}

    @cached_property
    def thresholds(self) -> Thresholds:
        return self.run.thresholds()

    @property
    def evaluated(self) -> bool:
        """Whether somebody has scored the test split; a page that is made again and again must not."""
        return (self.run.folder / folder_of.metrics_file("test")).exists()

    @property
    def split(self) -> str:
        """The split that tells most of new images."""
        return "test" if self.evaluated else "val"

    def predictions(self, split: str) -> Predictions:
        if split not in self._predictions:
            if not (self.run.folder / folder_of.predictions_file(split)).exists():
                raise WorkbenchError(
                    f"The folder keeps no predictions of the split {split!r}, which a training leaves at its end."
                )
            self._predictions[split] = self.run.predictions(split)
        return self._predictions[split]

    def scores(self, split: str) -> dict[str, Any]:
        if split not in self._scores:
            found = self.predictions(split)
            self._scores[split] = score(found, self.thresholds.aligned(found.class_names))
        return self._scores[split]

    def headline(self, split: str, name: str) -> dict[str, float]:
        scores = self.scores(split)
        return _score(scores[name], scores["intervals"][name])


def _subjects(runs: Sequence[Run]) -> list[_Subject]:
    """The runs by the names of their folders, or where two have the same, by their paths."""
    names = [run.folder.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.folder) for run in runs]
    return [_Subject(run, name) for run, name in zip(runs, names, strict=True)]


def _told(part: Iterator[Block]) -> Iterator[Block]:
    """The blocks of a part, and in place of what it does not find, why."""
    try:
        yield from part
    except WorkbenchError as error:
        yield {"kind": "missing", "text": str(error)}


def _text(text: str) -> Block:
    return {"kind": "text", "text": text}


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], fold: str = "", left: int = 1) -> Block:
    """A table whose first cell of a row heads it; cells are texts, or scores `{value, low, high}`.

    Parameters
    ----------
    fold : what to click on, where the table is not open from the start
    left : columns of text, which come first; those after them are numbers
    """
    rows = list(rows)
    caption += f", the first {ROWS} of {len(rows):,} (the run folder has all)" if len(rows) > ROWS else ""
    return {"kind": "table", "caption": caption, "columns": columns, "rows": rows[:ROWS], "fold": fold, "left": left}


def _picture(figure: Figure, alt: str) -> Block:
    width, height = (round(96 * side) for side in figure.get_size_inches())
    data = base64.b64encode(png(figure, 144)).decode()
    return {"kind": "picture", "uri": f"data:image/png;base64,{data}", "alt": alt, "width": width, "height": height}


def _cards(subject: _Subject, rows: pd.DataFrame, said: str) -> Iterator[Block]:
    """The first rows of errors or suspects, with thumbnails where the images are here."""
    try:
        root: Path | None = subject.run.root
    except WorkbenchError as error:
        root = None
        yield {"kind": "missing", "text": str(error)}
    yield {
        "kind": "cards",
        "cards": [
            {
                "uri": None if root is None else small(row["image_path"], root),
                "path": row["image_path"],
                "name": row["class"],
                "text": said.format_map(row | {"label": "present" if row["label"] == 1 else "absent"}),
            }
            for row in rows.head(CARDS).to_dict("records")
        ],
    }


# Of one run


def _summary(subject: _Subject) -> Iterator[Block]:
    run, settings = subject.run, subject.run.state["settings"]
    classes = f"{len(run.class_names):,} class{'es' if len(run.class_names) > 1 else ''}"
    model = Path(str(settings.get("model", "a network"))).name
    yield _text(
        f"A multi-label classifier: for each image it says of each of {classes} by itself whether it is there. "
        f"The network began as {model}; the training is {run.status}."
        + ("" if run.status == "finished" else " What follows is what the folder holds so far.")
    )
    split = subject.split
    images = len(subject.predictions(split))
    cells = [{"name": HEADLINES[name], "score": subject.headline(split, name)} for name in HEADLINES]
    yield {"kind": "tiles", "tiles": cells}
    yield _text(
        f"Scores on the {images:,} images of the split {split}{subject.thresholds.note(subject.predictions(split))}, "
        "with 95 % intervals from a bootstrap over the images. mAP, the mean average precision, tells how well the "
        "classes' probabilities rank the images; the others tell of decisions at the thresholds. Of 1 everything is "
        "right; – is undefined."
    )
    if not subject.evaluated:
        yield _text(
            "The test split was not looked at. Once all choices are made, mlworkbench evaluate RUN scores it, and the "
            "next report shows it."
        )


def _data(subject: _Subject) -> Iterator[Block]:
    yield from _told(_images(subject.run))
    yield from _told(_set_aside(subject.run))
    yield from _told(_findings(subject.run))


def _images(run: Run) -> Iterator[Block]:
    sizes = Counter(run.splits().values())
    yield _text(
        f"{sizes.total():,} images: {', '.join(f'{sizes[name]:,} {name}' for name in SPLITS)}. The network learned "
        "from train; val chose its best epoch, the thresholds and the calibration; test is for the end."
    )
    table = run.split_table()
    split, names = table.split, run.class_names
    assert split is not None
    yield _picture(
        plots.class_counts(table.y, split, names), "Bars: images of each class in each split; labels an image"
    )
    counts = [(table.y[split == part] == 1).sum(0) for part in SPLITS]
    unknown = (table.y < 0).sum(0)
    rows = [(name, *(f"{count[c]:,}" for count in counts), f"{unknown[c]:,}") for c, name in enumerate(names)]
    yield _table("Images in which a class is present", ("class", *SPLITS, "unknown"), rows, "The counts as a table")


def _set_aside(run: Run) -> Iterator[Block]:
    found = run.quarantine
    if len(found):
        yield _grouped(f"{len(found):,} images set aside", "reason", zip(found.image_path, found.reason, strict=True))
    else:
        yield _text("No image was set aside.")


def _findings(run: Run) -> Iterator[Block]:
    if not (run.folder / folder_of.INSPECT).exists():
        yield _text("Notebook 01 has not inspected these labels for this run, so its findings are not here.")
        return
    found = run.findings
    if len(found):
        yield _grouped(
            f"{len(found):,} findings of the inspection", "kind", zip(found.finding, found.kind, strict=True)
        )
    else:
        yield _text("The inspection of the labels found nothing.")


def _grouped(caption: str, reason: str, told: Iterable[tuple[str, str]]) -> Block:
    """A table by reason: the first few that have it, and how many do."""
    rows = []
    for why, texts in by_reason(told).items():
        first = texts[:SHOWN] + ([f"and {len(texts) - SHOWN:,} more"] if texts[SHOWN:] else [])
        rows.append((why, " · ".join(first), f"{len(texts):,}"))
    return _table(caption, (reason, "the first", "times"), rows, left=2)


def _training(subject: _Subject) -> Iterator[Block]:
    run, rows = subject.run, subject.run.history
    best, seconds = run.best_epoch, run.state.get("seconds")
    took = f" in {_duration(seconds)}" if seconds else ""
    yield _text(
        f"{len(rows):,} epochs{took}. The weights are those of epoch {best['epoch']:.0f}, whose validation mAP "
        f"{shown(best['val_map'], 3)} is the best."
    )
    alt = "Curves over the epochs: loss of train and val, validation mAP, learning rate"
    yield _picture(plots.history(rows), alt)


def _scores(subject: _Subject) -> Iterator[Block]:
    for split in ("test", "val") if subject.evaluated else ("val",):
        yield from _told(_scores_of(subject, split))


def _scores_of(subject: _Subject, split: str) -> Iterator[Block]:
    scores, note = subject.scores(split), subject.thresholds.note(subject.predictions(split))
    undefined = scores["undefined"]
    folded = split != subject.split
    rows = [(title, _score(scores[name], scores["intervals"].get(name))) for name, title in (HEADLINES | MORE).items()]
    columns = ("score", "with its 95 % interval")
    yield _table(f"Scores on {split}{note}", columns, rows, f"Scores on {split}" if folded else "")
    if undefined:
        yield _text(
            f"{undefined} of {len(scores['classes'])} classes have no positive in {split}; their scores are undefined "
            "(–) and left out of the means."
        )
    intervals = scores["intervals"]["classes"]
    rows = [
        (
            str(name),
            f"{row.support:,.0f}",
            _score(row.ap, intervals[name]["ap"]),
            *(shown(value, 3) for value in (row.precision, row.recall)),
            _score(row.f1, intervals[name]["f1"]),
        )
        for name, row in class_table(scores).iterrows()
    ]
    columns = ("class", "positives", "average precision", "precision", "recall", "F1")
    caption = f"Classes on {split}{note}, the weakest first"
    yield _table(caption, columns, rows, f"Classes on {split}" if folded else "")


def _score(value: float, spread: dict[str, float] | None = None) -> dict[str, float]:
    return {"value": value, **(spread or interval(np.array([])))}


def _thresholds(subject: _Subject) -> Iterator[Block]:
    its = subject.thresholds
    said = CHOSEN.get(its.objective, "Thresholds were chosen for {objective}")
    said = said.format(target=its.target or 0, confidence=CONFIDENCE, objective=its.objective)
    where = f", on the split {its.split}" if its.split else ""
    calibrated = "not calibrated" if its.calibration is None else "calibrated by a scale and a shift of its logit"
    yield _text(f"{said}{where}. A class is present when p ≥ its threshold; p is {calibrated}.")
    if its.met is not None and (missed := [n for n, met in zip(its.class_names, its.met, strict=True) if not met]):
        yield _text(f"Could not be met for {len(missed):,} of {len(its.class_names):,} classes: {', '.join(missed)}.")
    scale, shift = (
        its.calibration if its.calibration is not None else np.array([[1.0], [0.0]]).repeat(len(its.values), 1)
    )
    positives = ["–"] * len(its.values) if its.positives is None else [f"{count:,}" for count in its.positives]
    rows = zip(
        its.class_names, (shown(v) for v in its.values), positives, map(shown, scale), map(shown, shift), strict=True
    )
    columns = ("class", "threshold", "positives", "scale", "shift")
    yield _table("Thresholds and calibration", columns, rows, "Thresholds and calibration as a table")
    if its.objective != "default":
        alt = "Each class: F1 at 0.5 and at its own threshold, and where that lies"
        yield _picture(plots.tuned_against_half(subject.predictions("val"), its), alt)


def _calibration(subject: _Subject) -> Iterator[Block]:
    yield _text(
        "Where p says 0.7, is the class there in seven of ten images? Points on the dashed line say yes. The "
        "calibration error is their mean distance from it."
    )
    alt = "Reliability: share present over mean probability, before and after calibration; calibration error by class"
    yield _picture(plots.calibration(subject.predictions(subject.split), subject.thresholds), alt)


def _errors(subject: _Subject) -> Iterator[Block]:
    predictions, limits = subject.predictions("val"), subject.thresholds
    found = disagreements(predictions, limits)
    counts = found["kind"].value_counts()
    yield _text(
        f"On val{limits.note(predictions)}: {counts.get('false negative', 0):,} labels missed, "
        f"{counts.get('false positive', 0):,} falsely found. The most confident mistakes come first."
    )
    if len(found):
        yield _picture(
            plots.error_counts(found, subject.run.class_names), "Bars: labels missed and falsely found by class"
        )
        yield from _cards(subject, found, "{kind}: p {probability:.2f}, threshold {threshold:.2f}")


def _suspects(subject: _Subject) -> Iterator[Block]:
    judged = "val_judged"
    kept = (subject.run.folder / folder_of.predictions_file(judged)).exists()
    ranking = rank_labels(replace(subject.predictions(judged if kept else "val"), split="val"))
    by = "by the run and by a regression on its features" if kept else "by the run alone"
    better = "" if kept else "; mlworkbench errors RUN adds a second judge, which ranks better"
    yield _text(
        f"Labels of val that are most likely wrong, judged {by}, which were not trained on them{better}. Each wants a "
        "person's eye: notebook 04 shows them one by one."
    )
    yield from _cards(subject, ranking, "label {label}, p {probability:.2g}")


def _slices(subject: _Subject) -> Iterator[Block]:
    predictions, traits = subject.predictions("val"), None
    try:
        traits = subject.run.traits("val")
    except WorkbenchError as error:
        yield {"kind": "missing", "text": f"Slices by label only. {error}"}
    found = weak_slices(predictions, subject.thresholds, traits)
    worse = found[found.significant]
    yield _text(
        f"{len(worse) or 'None'} of {len(found):,} comparisons found a group of val images in which more goes wrong "
        f"than in the rest, beyond chance (q ≤ {LEVEL:g}, adjusted for their number)."
    )
    if len(worse):
        rows = [
            (
                str(row.slice),
                row.score,
                f"{row.images:,}",
                *(f"{100 * value:.0f} %" for value in (row.rate, row.rest)),
                f"{100 * row.low:+.0f} to {100 * row.high:+.0f}",
                f"{row.q:.2g}",
            )
            for row in worse.head(SLICES).itertuples()
        ]
        columns = ("slice", "what goes wrong", "images", "here", "elsewhere", "difference, 95 %", "q")
        yield _table(f"The first {len(rows)} of {len(worse):,}", columns, rows, left=2)


def _repeat(subject: _Subject) -> Iterator[Block]:
    state = subject.run.state
    yield _text("This begins the same training; equal bits come of equal hardware and versions.")
    yield from _told(_command(subject))
    settings = state["settings"]
    defaults = {known.name: known.default for known in fields(Settings) if known.type is not dict}
    rows = [(name, _plain(value), "" if value == defaults.get(name, {}) else "✓") for name, value in settings.items()]
    yield _table("Settings", ("setting", "value", "not the default"), rows, "All settings", left=3)
    facts = {name: state[name] for name in ("labels_sha256", "images_hash", "device", "processes") if name in state}
    facts |= {
        f"precision {name}": value for name, value in state.get("precision", {}).items() if name != "images_per_second"
    }
    facts |= {f"preprocessing {name}": value for name, value in state.get("preprocessing", {}).items()}
    versions = [(name, _plain(value)) for name, value in (*facts.items(), *state.get("versions", {}).items())]
    yield _table("Data, machine and versions", ("name", "value"), versions, "Data, machine and versions", left=2)


def _command(subject: _Subject) -> Iterator[Block]:
    """The command that begins such a run, and what it cannot say."""
    state = subject.run.state
    words = ["mlworkbench", "train", state["labels_file"], "--run", f"{subject.name}-again"]
    given, delimiter = state.get("given", []), state.get("tag_delimiter")
    words += ["--root", state["image_root"]] if "root" in given else []
    words += ["--tag-delimiter", delimiter] if delimiter is not None and "tag_delimiter" in given else []
    files = [*(n for n in ("classes", "splits") if n in given), *(["corrections"] if state.get("corrections") else [])]
    for name in files:
        words += [f"--{name}", name.upper()]
    command = shlex.join([*words, *as_arguments(state["settings"])])
    yield {"kind": "code", "text": command.replace(" --", " \\\n  --")}
    if files:
        yield _text(
            f"{', '.join(name.upper() for name in files)} stand for files whose content run.json and splits.csv keep."
        )
    if more := state["settings"].get("ultralytics"):
        yield _text(f"In Python only: mw.fit(…, ultralytics={more!r}).")


def _plain(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


# Of several runs


def _overview(subjects: Sequence[_Subject]) -> Iterator[Block]:
    yield _text(
        f"{len(subjects)} runs, each with its scores and their 95 % intervals. Intervals that overlap say little; the "
        "comparison below looks at the same images."
    )
    for split in ("test", "val"):
        rows = []
        for subject in subjects:
            try:
                looked = split == "val" or subject.evaluated
                cells = [subject.headline(split, name) if looked else "not evaluated" for name in SIDE_BY_SIDE]
            except WorkbenchError:
                cells = ["no predictions"] * len(SIDE_BY_SIDE)
            status = subject.run.status
            rows.append((subject.name if status == "finished" else f"{subject.name} ({status})", *cells))
        columns = ("run", *(HEADLINES[name] for name in SIDE_BY_SIDE))
        yield _table(f"Scores on {split}", columns, rows, left=len(columns))


def _compared(subjects: Sequence[_Subject]) -> Iterator[Block]:
    first, *others = subjects
    yield _text(
        f"Each run against {first.name} on the same images, those of test where both were evaluated, else of val: the "
        "difference of mAP by a paired bootstrap, whole label sets that only one of them has right with p of McNemar's "
        f"test, and classes that differ (q ≤ {LEVEL:g})."
    )
    for other in others:
        yield from _told(_pair(first, other))


def _pair(first: _Subject, other: _Subject) -> Iterator[Block]:
    split = "test" if first.evaluated and other.evaluated else "val"
    try:
        for subject in (first, other):
            subject.predictions(split)
        found = compare_runs(first.run, other.run, split)
    except WorkbenchError as error:
        raise WorkbenchError(f"{other.name} cannot be compared with {first.name}: {error}") from None
    differ = found.classes[found.classes.q <= LEVEL]
    note = " (thresholds were tuned on these)" if found.tuned_on else ""
    by = "{difference:+.3f} (95 % interval {low:+.3f} to {high:+.3f})".format_map(found.map)
    rows = [
        ("difference of mAP", by),
        (f"label sets that only {other.name} has right", f"{found.sets['better']:,}"),
        (f"label sets that only {first.name} has right", f"{found.sets['worse']:,}"),
        ("p of that, if the two were equal", f"{found.sets['p']:.2g}"),
    ]
    yield _table(f"{other.name} against {first.name} on {split}{note}", ("what", "how much"), rows, left=2)
    moved = [f"{row['class']} ({row.better:,} labels better, {row.worse:,} worse)" for _, row in differ.iterrows()]
    yield _text(f"Classes that differ: {', '.join(moved) or 'none'}.")
    if found.relabelled:
        yield _text(f"{found.relabelled:,} labels differ between the two; those of {other.name} count for both.")


def _curves(subjects: Sequence[_Subject]) -> Iterator[Block]:
    found = []
    for subject in subjects:
        try:
            found.append((subject.name, subject.run.history))
        except WorkbenchError as error:
            yield {"kind": "missing", "text": str(error)}
    if found:
        yield _picture(plots.histories(found), "Curves over the epochs: validation mAP and loss of each run")


def _differences(subjects: Sequence[_Subject]) -> Iterator[Block]:
    states = [subject.run.state for subject in subjects]
    told = [
        {
            **state["settings"],
            "classes": len(state["class_names"]),
            "labels_sha256": state.get("labels_sha256", "–")[:12],
            "thresholds": f"{subject.thresholds.objective} {subject.thresholds.target or ''}".strip(),
            **{f"version of {name}": value for name, value in state.get("versions", {}).items()},
        }
        for subject, state in zip(subjects, states, strict=True)
    ]
    names = dict.fromkeys(name for each in told for name in each)
    rows = [(name, *(_plain(each.get(name, "–")) for each in told)) for name in names]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    if rows:
        columns = ("setting", *(subject.name for subject in subjects))
        yield _table("Settings and versions that are not the same", columns, rows, left=1 + len(subjects))
    else:
        yield _text("All settings and versions are the same.")


_OF_ONE: dict[str, Callable[[Any], Iterator[Block]]] = {
    "Summary": _summary,
    "Images and labels": _data,
    "Training": _training,
    "Scores": _scores,
    "Thresholds": _thresholds,
    "Reliability": _calibration,
    "Worst errors": _errors,
    "Suspect labels": _suspects,
    "Weak slices": _slices,
    "To repeat it": _repeat,
}
_OF_SEVERAL: dict[str, Callable[[Any], Iterator[Block]]] = {
    "Side by side": _overview,
    "Compared on the same images": _compared,
    "Curves": _curves,
    "What differs": _differences,
}


def _title(subjects: Sequence[_Subject]) -> str:
    return f"Run {subjects[0].name}" if len(subjects) == 1 else f"{len(subjects)} runs compared"


def _page(title: str, sections: list[tuple[str, list[Block]]]) -> str:
    """The page; its policy lets in its own style sheet, known by its digest, and pictures that it holds."""
    style = (STATIC / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(STATIC), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["shown"] = lambda value: shown(value, 3)
    return environment.get_template("report.html").render(
        title=title,
        sections=sections,
        style=Markup(style),
        policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        made=f"mlworkbench {__version__}, {date.today():%Y-%m-%d}",
    )
