"""Sections of the report on one run."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis.budget import WIDTH, budget_rows, kept_budget, positives_needed
from ..analysis.errors import disagreements
from ..analysis.health import kept_health
from ..analysis.slices import LEVEL, weak_slices
from ..analysis.suspects import compared, rank_labels
from ..data.labels import SPLITS
from ..decisions.gain import remarks
from ..exceptions import WorkbenchError
from ..runs import folder as folder_of
from ..runs.run import Run
from ..scoring.calibration import bends
from ..scoring.groups import FEW
from ..scoring.intervals import called_though_absent
from ..scoring.metrics import class_table
from ..settings import Settings
from ..text import by_reason, shown
from ..views import plots
from . import blocks
from .blocks import HEADLINES, ROWS, Block, Subject

SHOWN = 3  # findings of a kind, and images of a reason
SLICES = 10
MORE = {
    "f1_samples": "F1 samples",
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "calibration_chance": "the same by chance, were p true",
}


def _summary(subject: Subject) -> Iterator[Block]:
    run, split = subject.run, subject.split
    model = Path(str(run.state["settings"].get("model", "a network"))).name
    yield blocks.text("summary", classes=len(run.class_names), model=model, status=run.status)
    tiles = [{"name": title, "score": subject.spread(split, name)} for name, title in HEADLINES.items()]
    yield {"kind": "tiles", "tiles": tiles}
    counts = {name: subject.scores(split)[name] for name in ("images", "groups")}
    yield blocks.text("headlines", split=split, note=subject.note(split), **counts)
    if not subject.evaluated:
        yield blocks.text("not_evaluated")


def _data(subject: Subject) -> Iterator[Block]:
    for part in (_images, _set_aside, _findings):
        yield from blocks.told(part(subject.run))


def _images(run: Run) -> Iterator[Block]:
    sizes = Counter(run.splits().values())
    yield blocks.text("splits", images=sizes.total(), sizes=", ".join(f"{sizes[name]:,} {name}" for name in SPLITS))
    table = run.split_table()
    y, split = table.y, np.asarray(table.split)
    alt = "Bars: images of each class in each split; labels an image"
    yield blocks.picture(plots.class_counts(y, split, run.class_names), alt)
    counts = [*((y[split == part] == 1).sum(0).tolist() for part in SPLITS), (y < 0).sum(0).tolist()]
    rows = zip(run.class_names, *counts, strict=True)
    yield blocks.table("Images in which a class is present", ("class", *SPLITS, "unknown"), rows, fold=True)


def _set_aside(run: Run) -> Iterator[Block]:
    found = run.quarantine
    told = zip(found.image_path, found.reason, strict=True)
    yield _grouped(f"{len(found):,} images set aside", "reason", told) if len(found) else blocks.text("none_set_aside")


def _findings(run: Run) -> Iterator[Block]:
    if not (run.folder / folder_of.INSPECT).exists():
        yield blocks.text("not_inspected")
        return
    found = run.findings
    told = zip(found.finding, found.kind, strict=True)
    grouped = _grouped(f"{len(found):,} findings of the inspection", "kind", told)
    yield grouped if len(found) else blocks.text("nothing_found")


def _grouped(caption: str, reason: str, told: Iterable[tuple[str, str]]) -> Block:
    """A table by reason: the first few that have it, and how many do."""
    rows = []
    for why, texts in by_reason(told).items():
        more = [f"and {len(texts) - SHOWN:,} more"] if texts[SHOWN:] else []
        rows.append((why, " · ".join(texts[:SHOWN] + more), len(texts)))
    return blocks.table(caption, (reason, "the first", "times"), rows)


def _training(subject: Subject) -> Iterator[Block]:
    rows, best, seconds = subject.run.history, subject.run.best_epoch, subject.run.state.get("seconds")
    yield blocks.text("training", epochs=len(rows), seconds=seconds, best=int(best["epoch"]), val_map=best["val_map"])
    yield blocks.picture(
        plots.history(rows), "Curves over the epochs: loss of train and val, validation mAP, learning rate"
    )


def _scores(subject: Subject) -> Iterator[Block]:
    for split in ("test", "val") if subject.evaluated else ("val",):
        yield from blocks.told(_scores_of(subject, split))


def _scores_of(subject: Subject, split: str) -> Iterator[Block]:
    scores, where = subject.scores(split), f"{split}{subject.note(split)}"
    rows: list[Any] = [(title, subject.spread(split, name)) for name, title in (HEADLINES | MORE).items()]
    folded = split != subject.split
    yield blocks.table(f"Scores on {where}", ("score", "with its 95 % interval"), rows, folded)
    if scores["undefined"]:
        yield blocks.text("undefined", undefined=scores["undefined"], classes=len(scores["classes"]), split=split)
    if absent := called_though_absent(scores):
        yield blocks.text("absent", absent=absent[:ROWS])
    if scores["too_few"]:
        yield blocks.text("few", few=scores["too_few"], least=FEW)
    spread = scores["intervals"]["classes"]
    rows = []
    for name, its in class_table(scores).to_dict("index").items():
        ap, f1 = ({"value": its[key], **spread[name][key]} for key in ("ap", "f1"))
        rows.append((name, its["support"], ap, its["precision"], its["recall"], f1))
    columns = ("class", "positives", "average precision", "precision", "recall", "F1")
    yield blocks.table(f"Classes on {where}, the weakest first", columns, rows, folded)
    if "costs" in scores:
        yield blocks.text("costs", **scores["costs"], split=split)


def _budget(subject: Subject) -> Iterator[Block]:
    kept, split = kept_budget(subject.run), subject.split
    classes = positives_needed(subject.scores(split)) if kept is None else kept.classes
    yield blocks.text("budget", split=split if kept is None else kept.split, width=WIDTH, learned=str(kept or ""))
    if kept is not None:
        yield blocks.picture(plots.label_budget(classes), "Each class: more positives needed; gain by twice the images")
    yield blocks.table("What each class needs", *budget_rows(classes), fold=True)


def _thresholds(subject: Subject) -> Iterator[Block]:
    its = subject.thresholds
    told = {"objective": its.objective, "target": its.target, "split": its.split, "confidence": its.confidence}
    yield blocks.text("thresholds", calibrated=its.calibration is not None, **told)
    rows, missed = [], []
    for name, row in its.to_dict()["classes"].items():
        positives = "–" if row["positives"] is None else row["positives"]
        learnt = {True: "yes", False: "no", None: "–"}[row["learnt"]]
        rows.append((name, shown(row["threshold"], 3), row["scale"], row["shift"], positives, learnt))
        missed += [name] if row["met"] is False else []
    if missed:
        yield blocks.text("not_met", missed=missed)
    if its.review is not None:
        with_person = subject.scores(subject.split)["review"]
        yield blocks.text("zones", split=f"{subject.split}{subject.note(subject.split)}", **with_person)
    columns = ("class", "threshold", "scale", "shift", "positives", "learnt")
    yield blocks.table("Thresholds and calibration", columns, rows, fold=True)
    if its.split:
        yield blocks.text("remarks", remarks=remarks(subject.predictions(its.split), its))
    if its.objective != "default":
        alt = "Each class: F1 at 0.5 and at its own threshold, and where that lies"
        yield blocks.picture(plots.tuned_against_half(subject.predictions("val"), its), alt)


def _reliability(subject: Subject) -> Iterator[Block]:
    bent = "" if subject.thresholds.calibration is not None else bends(subject.run.state["settings"])
    yield blocks.text("reliability", bent=bent)
    alt = "Reliability: share present over mean probability, before and after calibration; calibration error by class"
    yield blocks.picture(plots.calibration(subject.predictions(subject.split), subject.thresholds), alt)


def _errors(subject: Subject) -> Iterator[Block]:
    found = disagreements(subject.predictions("val"), subject.thresholds)
    missed = int((found["kind"] == "false negative").sum())
    yield blocks.text("errors", missed=missed, added=len(found) - missed, note=subject.note("val"))
    if len(found):
        alt = "Bars: labels missed and falsely found by class"
        yield blocks.picture(plots.error_counts(found, subject.run.class_names), alt)
        yield from blocks.cards(subject.run, found, "{kind}: p {probability}, threshold {threshold}")


def _suspects(subject: Subject) -> Iterator[Block]:
    judged = subject.keeps("val_judged")
    found = replace(subject.predictions("val_judged" if judged else "val"), split="val")
    ranking = rank_labels(found, calibration=compared(subject.predictions("val")))
    yield blocks.text("suspects", judged=judged)
    yield from blocks.cards(subject.run, ranking, "label {label}, p {probability}")


def _slices(subject: Subject) -> Iterator[Block]:
    predictions, traits = subject.predictions("val"), None
    try:
        traits = subject.run.traits("val")
    except WorkbenchError as error:
        yield blocks.missing(f"Slices by label only. {error}")
    found = weak_slices(predictions, subject.thresholds, traits)
    worse = found[found.significant].to_dict("records")
    yield blocks.text("slices", worse=len(worse), compared=len(found), level=LEVEL)
    if worse:
        said = "{rate:.0%}", "{rest:.0%}", "{low:+.0%} to {high:+.0%}"
        rows = [
            (*(row[k] for k in ("slice", "score", "images")), *(t.format_map(row) for t in said), row["q"])
            for row in worse
        ]
        columns = ("slice", "what goes wrong", "images", "here", "elsewhere", "difference, 95 %", "q")
        yield blocks.table(f"The first {len(rows[:SLICES])} of {len(rows):,}", columns, rows[:SLICES])


def _health(subject: Subject) -> Iterator[Block]:
    kept = kept_health(subject.run)
    yield {"kind": "text", "text": " ".join(kept.said)}
    table = kept.table()
    yield blocks.table("Classes in new images", [*map(str, table)], table.to_numpy().tolist(), fold=True)


def _repeat(subject: Subject) -> Iterator[Block]:
    state = subject.run.state
    yield blocks.text("repeat")
    yield {"kind": "code", "text": subject.run.command.replace(" --", " \\\n  --")}
    settings, defaults = state["settings"], asdict(Settings())
    if more := settings.get("ultralytics"):
        yield blocks.text("in_python", ultralytics=more)
    rows = [(name, blocks.plain(its), "" if its == defaults.get(name) else "✓") for name, its in settings.items()]
    yield blocks.table("Settings", ("setting", "value", "not the default"), rows, fold=True)
    kinds = ("labels_sha256", "images_hash", "device", "processes", "precision", "preprocessing", "versions")
    facts = [(name, state[name]) for name in kinds if name in state]
    told = [row for name, its in facts for row in (its.items() if isinstance(its, dict) else [(name, its)])]
    values = [(str(name), blocks.plain(its)) for name, its in told]
    yield blocks.table("Data, machine and versions", ("name", "value"), values, fold=True)


SECTIONS = {
    "Summary": _summary,
    "Images and labels": _data,
    "Training": _training,
    "Scores": _scores,
    "More labels": _budget,
    "Thresholds": _thresholds,
    "Reliability": _reliability,
    "Worst errors": _errors,
    "Suspect labels": _suspects,
    "Weak slices": _slices,
    "New images": _health,
    "To repeat it": _repeat,
}
