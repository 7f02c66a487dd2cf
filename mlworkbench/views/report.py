"""Report: one page, whole in itself, on a run or on several side by side.

What a section needs and does not find is told in its place. Nothing is computed by the network and nothing but the page
is written: predictions are those that the folder keeps, and the test split is scored only where `evaluate` was run.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import date
from functools import cache, cached_property
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
from ..scoring.thresholds import CONFIDENCE, Thresholds
from ..settings import Settings
from ..text import by_reason, duration, number, shown
from . import plots
from .galleries import small
from .style import STATIC, png

SHOWN = 3  # findings of a kind, and images of a reason
CARDS = 12  # errors and suspects
SLICES = 10
ROWS = 300  # of a table: thousands of classes would make a page that no browser shows
HEADLINES = {"map": "mAP", "f1_macro": "F1 macro", "f1_micro": "F1 micro", "exact_match": "whole set right"}
MORE = {
    "f1_samples": "F1 samples",
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}
SIDE_BY_SIDE = ("map", "f1_macro", "exact_match")
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
    one = subjects[0] if len(subjects) == 1 else None
    if not subjects or (one is None and out is None):
        raise WorkbenchError(f"{len(subjects)} runs; say where their page goes: --out FILE.html")
    file = subjects[0].run.folder / "report.html" if out is None else Path(out)
    if file.suffix != ".html":
        raise WorkbenchError(f"--out {file}: expected a name that ends in .html")
    for subject in subjects:
        _ = subject.run.state  # without it there is no run to tell of
    parts: dict[str, Any] = _OF_SEVERAL if one is None else _OF_ONE
    title = f"{len(subjects)} runs compared" if one is None else f"Run {one.name}"
    sections = [(name, list(_told(part(one or subjects)))) for name, part in parts.items()]
    write_whole(file, _page(title, sections).encode("utf-8", "replace"))
    return file


class _Subject:
    """A run, and what several sections ask of it."""

    def __init__(self, run: Run, name: str):
        self.run, self.name = run, name
        self.predictions, self.scores = cache(self._predictions), cache(self._scores)

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

    def keeps(self, split: str) -> bool:
        return (self.run.folder / folder_of.predictions_file(split)).exists()

    def _predictions(self, split: str) -> Predictions:
        if not self.keeps(split):
            raise WorkbenchError(f"{self.name} keeps no predictions of {split}, which a training leaves at its end.")
        return self.run.predictions(split)

    def _scores(self, split: str) -> dict[str, Any]:
        found = self.predictions(split)
        return score(found, self.thresholds.aligned(found.class_names))

    def spread(self, split: str, name: str) -> dict[str, float]:
        """A score with its interval, where there is one."""
        scores = self.scores(split)
        return {"value": scores[name], **scores["intervals"].get(name, _NO_INTERVAL)}

    def note(self, split: str) -> str:
        return self.thresholds.note(self.predictions(split))


def _subjects(runs: Sequence[Run]) -> list[_Subject]:
    """The runs by the names of their folders, or where two have the same, by their paths."""
    names = [run.folder.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.folder) for run in runs]
    return [_Subject(run, name) for run, name in zip(runs, names, strict=True)]


# What a section is made of


def _told(part: Iterator[Block]) -> Iterator[Block]:
    """The blocks of a part, and in place of what it does not find, why."""
    try:
        yield from part
    except WorkbenchError as error:
        yield _missing(error)


def _missing(error: object) -> Block:
    return {"kind": "missing", "text": str(error)}


def _text(name: str, /, **values: Any) -> Block:
    """A paragraph of `report_texts.html`."""
    return {"kind": "text", "text": getattr(_environment().get_template("report_texts.html").module, name)(**values)}


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], fold: bool = False) -> Block:
    """A table whose first cell of a row heads it; cells are texts, numbers, or scores `{value, low, high}`.

    Parameters
    ----------
    fold : whether only the caption is open from the start
    """
    rows = list(rows)
    caption += f", the first {ROWS} of {len(rows):,} (the run folder has all)" if len(rows) > ROWS else ""
    return {"kind": "table", "caption": caption, "columns": columns, "rows": rows[:ROWS], "fold": fold}


def _picture(figure: Figure, alt: str) -> Block:
    width, height = (round(96 * side) for side in figure.get_size_inches())
    data = base64.b64encode(png(figure, 144)).decode()
    return {"kind": "picture", "uri": f"data:image/png;base64,{data}", "alt": alt, "width": width, "height": height}


def _cards(run: Run, rows: pd.DataFrame, said: str) -> Iterator[Block]:
    """The first rows of errors or suspects, with thumbnails where the images are here."""
    try:
        root: Path | None = run.root
    except WorkbenchError as error:
        root = None
        yield _missing(error)
    first = rows.head(CARDS).assign(label=rows.label.map({0: "absent", 1: "present"})).to_dict("records")
    cards = [
        {"image": root and small(row["image_path"], root), "row": row, "text": said.format_map(row)} for row in first
    ]
    yield {"kind": "cards", "cards": cards}


# Sections of one run


def _summary(subject: _Subject) -> Iterator[Block]:
    run, split = subject.run, subject.split
    model = Path(str(run.state["settings"].get("model", "a network"))).name
    yield _text("summary", classes=len(run.class_names), model=model, status=run.status)
    tiles = [{"name": title, "score": subject.spread(split, name)} for name, title in HEADLINES.items()]
    yield {"kind": "tiles", "tiles": tiles}
    yield _text("headlines", images=len(subject.predictions(split)), split=split, note=subject.note(split))
    if not subject.evaluated:
        yield _text("not_evaluated")


def _data(subject: _Subject) -> Iterator[Block]:
    for part in (_images, _set_aside, _findings):
        yield from _told(part(subject.run))


def _images(run: Run) -> Iterator[Block]:
    sizes = Counter(run.splits().values())
    yield _text("splits", images=sizes.total(), sizes=", ".join(f"{sizes[name]:,} {name}" for name in SPLITS))
    table = run.split_table()
    y, split = table.y, np.asarray(table.split)
    alt = "Bars: images of each class in each split; labels an image"
    yield _picture(plots.class_counts(y, split, run.class_names), alt)
    counts = [*((y[split == part] == 1).sum(0).tolist() for part in SPLITS), (y < 0).sum(0).tolist()]
    rows = zip(run.class_names, *counts, strict=True)
    yield _table("Images in which a class is present", ("class", *SPLITS, "unknown"), rows, fold=True)


def _set_aside(run: Run) -> Iterator[Block]:
    found = run.quarantine
    told = zip(found.image_path, found.reason, strict=True)
    yield _grouped(f"{len(found):,} images set aside", "reason", told) if len(found) else _text("none_set_aside")


def _findings(run: Run) -> Iterator[Block]:
    if not (run.folder / folder_of.INSPECT).exists():
        yield _text("not_inspected")
        return
    found = run.findings
    told = zip(found.finding, found.kind, strict=True)
    yield _grouped(f"{len(found):,} findings of the inspection", "kind", told) if len(found) else _text("nothing_found")


def _grouped(caption: str, reason: str, told: Iterable[tuple[str, str]]) -> Block:
    """A table by reason: the first few that have it, and how many do."""
    rows = []
    for why, texts in by_reason(told).items():
        more = [f"and {len(texts) - SHOWN:,} more"] if texts[SHOWN:] else []
        rows.append((why, " · ".join(texts[:SHOWN] + more), len(texts)))
    return _table(caption, (reason, "the first", "times"), rows)


def _training(subject: _Subject) -> Iterator[Block]:
    rows, best, seconds = subject.run.history, subject.run.best_epoch, subject.run.state.get("seconds")
    yield _text("training", epochs=len(rows), seconds=seconds, best=int(best["epoch"]), val_map=best["val_map"])
    yield _picture(plots.history(rows), "Curves over the epochs: loss of train and val, validation mAP, learning rate")


def _scores(subject: _Subject) -> Iterator[Block]:
    for split in ("test", "val") if subject.evaluated else ("val",):
        yield from _told(_scores_of(subject, split))


def _scores_of(subject: _Subject, split: str) -> Iterator[Block]:
    scores, where = subject.scores(split), f"{split}{subject.note(split)}"
    rows: list[Any] = [(title, subject.spread(split, name)) for name, title in (HEADLINES | MORE).items()]
    folded = split != subject.split
    yield _table(f"Scores on {where}", ("score", "with its 95 % interval"), rows, folded)
    if scores["undefined"]:
        yield _text("undefined", undefined=scores["undefined"], classes=len(scores["classes"]), split=split)
    spread = scores["intervals"]["classes"]
    rows = []
    for name, its in class_table(scores).to_dict("index").items():
        ap, f1 = ({"value": its[key], **spread[name][key]} for key in ("ap", "f1"))
        rows.append((name, its["support"], ap, its["precision"], its["recall"], f1))
    columns = ("class", "positives", "average precision", "precision", "recall", "F1")
    yield _table(f"Classes on {where}, the weakest first", columns, rows, folded)


def _thresholds(subject: _Subject) -> Iterator[Block]:
    its = subject.thresholds
    told = {"objective": its.objective, "target": its.target, "split": its.split, "confidence": CONFIDENCE}
    yield _text("thresholds", calibrated=its.calibration is not None, **told)
    rows, missed = [], []
    for name, row in its.to_dict()["classes"].items():
        positives = "–" if row["positives"] is None else row["positives"]
        rows.append((name, number(row["threshold"]), row["scale"], row["shift"], positives))
        missed += [name] if row["met"] is False else []
    if missed:
        yield _text("not_met", missed=missed)
    yield _table("Thresholds and calibration", ("class", "threshold", "scale", "shift", "positives"), rows, fold=True)
    if its.objective != "default":
        alt = "Each class: F1 at 0.5 and at its own threshold, and where that lies"
        yield _picture(plots.tuned_against_half(subject.predictions("val"), its), alt)


def _reliability(subject: _Subject) -> Iterator[Block]:
    yield _text("reliability")
    alt = "Reliability: share present over mean probability, before and after calibration; calibration error by class"
    yield _picture(plots.calibration(subject.predictions(subject.split), subject.thresholds), alt)


def _errors(subject: _Subject) -> Iterator[Block]:
    found = disagreements(subject.predictions("val"), subject.thresholds)
    missed = int((found["kind"] == "false negative").sum())
    yield _text("errors", missed=missed, added=len(found) - missed, note=subject.note("val"))
    if len(found):
        alt = "Bars: labels missed and falsely found by class"
        yield _picture(plots.error_counts(found, subject.run.class_names), alt)
        yield from _cards(subject.run, found, "{kind}: p {probability:.2f}, threshold {threshold:.2f}")


def _suspects(subject: _Subject) -> Iterator[Block]:
    judged = subject.keeps("val_judged")
    ranking = rank_labels(replace(subject.predictions("val_judged" if judged else "val"), split="val"))
    yield _text("suspects", judged=judged)
    yield from _cards(subject.run, ranking, "label {label}, p {probability:.2g}")


def _slices(subject: _Subject) -> Iterator[Block]:
    predictions, traits = subject.predictions("val"), None
    try:
        traits = subject.run.traits("val")
    except WorkbenchError as error:
        yield _missing(f"Slices by label only. {error}")
    found = weak_slices(predictions, subject.thresholds, traits)
    worse = found[found.significant].to_dict("records")
    yield _text("slices", worse=len(worse), compared=len(found), level=LEVEL)
    if worse:
        said = "{rate:.0%}", "{rest:.0%}", "{low:+.0%} to {high:+.0%}", "{q:.2g}"
        rows = [(*(row[k] for k in ("slice", "score", "images")), *(t.format_map(row) for t in said)) for row in worse]
        columns = ("slice", "what goes wrong", "images", "here", "elsewhere", "difference, 95 %", "q")
        yield _table(f"The first {len(rows[:SLICES])} of {len(rows):,}", columns, rows[:SLICES])


def _repeat(subject: _Subject) -> Iterator[Block]:
    state = subject.run.state
    yield _text("repeat")
    yield {"kind": "code", "text": subject.run.command.replace(" --", " \\\n  --")}
    settings, defaults = state["settings"], asdict(Settings())
    if more := settings.get("ultralytics"):
        yield _text("in_python", ultralytics=more)
    rows = [(name, _plain(its), "" if its == defaults.get(name) else "✓") for name, its in settings.items()]
    yield _table("Settings", ("setting", "value", "not the default"), rows, fold=True)
    kinds = ("labels_sha256", "images_hash", "device", "processes", "precision", "preprocessing", "versions")
    facts = [(name, state[name]) for name in kinds if name in state]
    told = [row for name, its in facts for row in (its.items() if isinstance(its, dict) else [(name, its)])]
    values = [(str(name), _plain(its)) for name, its in told]
    yield _table("Data, machine and versions", ("name", "value"), values, fold=True)


def _plain(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


# Sections of several runs


def _overview(subjects: Sequence[_Subject]) -> Iterator[Block]:
    yield _text("side_by_side", runs=len(subjects))
    for split in ("test", "val"):
        rows: list[Any] = []
        for subject in subjects:
            status = subject.run.status
            name = subject.name if status == "finished" else f"{subject.name} ({status})"
            try:
                looked = split == "val" or subject.evaluated
                cells = [subject.spread(split, name) if looked else "not evaluated" for name in SIDE_BY_SIDE]
            except WorkbenchError:
                cells = ["no predictions"] * len(SIDE_BY_SIDE)
            rows.append((name, *cells))
        yield _table(f"Scores on {split}", ("run", *(HEADLINES[name] for name in SIDE_BY_SIDE)), rows)


def _compared(subjects: Sequence[_Subject]) -> Iterator[Block]:
    first, *others = subjects
    yield _text("compared", first=first.name, level=LEVEL)
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
    rows = [
        ("difference of mAP", "{difference:+.3f} (95 % interval {low:+.3f} to {high:+.3f})".format_map(found.map)),
        (f"label sets that only {other.name} has right", f"{found.sets['better']:,}"),
        (f"label sets that only {first.name} has right", f"{found.sets['worse']:,}"),
        ("p of that, if the two were equal", f"{found.sets['p']:.2g}"),
    ]
    note = " (thresholds were tuned on these)" if found.tuned_on else ""
    yield _table(f"{other.name} against {first.name} on {split}{note}", ("what", "how much"), rows)
    moved = found.classes[found.classes.q <= LEVEL].to_dict("records")
    said = "{class} ({better} labels better, {worse} worse)"
    yield _text("classes_differ", classes=[said.format_map(row) for row in moved])
    if found.relabelled:
        yield _text("relabelled", labels=found.relabelled, name=other.name)


def _curves(subjects: Sequence[_Subject]) -> Iterator[Block]:
    found = []
    for subject in subjects:
        try:
            found.append((subject.name, subject.run.history))
        except WorkbenchError as error:
            yield _missing(error)
    if found:
        yield _picture(plots.histories(found), "Curves over the epochs: validation mAP and loss of each run")


def _differences(subjects: Sequence[_Subject]) -> Iterator[Block]:
    told = []
    for subject in subjects:
        state, its = subject.run.state, subject.thresholds
        facts = {"classes": len(state["class_names"]), "labels_sha256": state.get("labels_sha256", "–")[:12]}
        chosen = its.objective if its.target is None else f"{its.objective} {its.target:g}"
        versions = {f"version of {name}": value for name, value in state.get("versions", {}).items()}
        told.append(state["settings"] | facts | {"thresholds": chosen} | versions)
    names = dict.fromkeys(name for each in told for name in each)
    rows = [(name, *(_plain(each.get(name, "–")) for each in told)) for name in names]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    columns = ("setting", *(subject.name for subject in subjects))
    yield _table("Settings and versions that are not the same", columns, rows) if rows else _text("all_the_same")


_NO_INTERVAL = interval(np.array([]))
_OF_ONE = {
    "Summary": _summary,
    "Images and labels": _data,
    "Training": _training,
    "Scores": _scores,
    "Thresholds": _thresholds,
    "Reliability": _reliability,
    "Worst errors": _errors,
    "Suspect labels": _suspects,
    "Weak slices": _slices,
    "To repeat it": _repeat,
}
_OF_SEVERAL = {
    "Side by side": _overview,
    "Compared on the same images": _compared,
    "Curves": _curves,
    "What differs": _differences,
}


@cache
def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(STATIC), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found.filters |= {"shown": lambda value: shown(value, 3), "duration": duration}
    return found


def _page(title: str, sections: list[tuple[str, list[Block]]]) -> str:
    """The page; its policy lets in its own style sheet, known by its digest, and pictures that it holds."""
    style = (STATIC / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = _environment().get_template("report.html")
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    made = f"mlworkbench {__version__}, {date.today():%Y-%m-%d}"
    return template.render(title=title, sections=sections, style=Markup(style), policy=policy, made=made)
