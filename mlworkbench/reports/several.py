"""Sections of the report on several runs side by side."""

from collections.abc import Iterator, Sequence
from typing import Any

from ..analysis.compare import SCORES, TWO_NETWORKS, compare_runs, recipe
from ..analysis.slices import LEVEL
from ..exceptions import WorkbenchError
from ..text import shown
from ..views import plots
from . import blocks
from .blocks import HEADLINES, Block, Subject

SIDE_BY_SIDE = ("map", "f1_macro", "exact_match")


def _overview(subjects: Sequence[Subject]) -> Iterator[Block]:
    yield blocks.text("side_by_side", runs=len(subjects))
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
        yield blocks.table(f"Scores on {split}", ("run", *(HEADLINES[name] for name in SIDE_BY_SIDE)), rows)


def _compared(subjects: Sequence[Subject]) -> Iterator[Block]:
    first, *others = subjects
    yield blocks.text("compared", first=first.name, level=LEVEL, two_networks=TWO_NETWORKS)
    for other in others:
        yield from blocks.told(_pair(first, other))
    yield from _recipes(subjects)


def _pair(first: Subject, other: Subject) -> Iterator[Block]:
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
        ("p of that, if the two were equal", shown(found.sets["p"], 3)),
    ]
    note = " (thresholds were tuned on these)" if found.tuned_on else ""
    yield blocks.table(f"{other.name} against {first.name} on {split}{note}", ("what", "how much"), rows)
    moved = found.classes[found.classes.q <= LEVEL].to_dict("records")
    said = "{class} ({better} labels better, {worse} worse)"
    yield blocks.text("classes_differ", classes=[said.format_map(row) for row in moved])
    if found.relabelled:
        yield blocks.text("relabelled", labels=found.relabelled, name=other.name)


def _recipes(subjects: Sequence[Subject]) -> Iterator[Block]:
    """Each recipe of several runs against the first such."""
    found: dict[str, list[Subject]] = {}
    for subject in subjects:
        try:
            found.setdefault(repr(recipe(subject.run)), []).append(subject)
        except WorkbenchError as error:
            yield blocks.missing(error)
    first, *others = [runs for runs in found.values() if len(runs) > 1] or [[]]
    for other in others:
        yield from blocks.told(_two_recipes(first, other))


def _two_recipes(first: list[Subject], other: list[Subject]) -> Iterator[Block]:
    split = "test" if all(subject.evaluated for subject in (*first, *other)) else "val"
    found = compare_runs([subject.run for subject in first], [subject.run for subject in other], split)
    said = (
        "{before:.3f} (± {seed_before:.3f})", "{after:.3f} (± {seed_after:.3f})",
        "{difference:+.3f} ({low:+.3f} to {high:+.3f})", "± {test:.3f}",
    )  # fmt: skip
    rows = [
        (SCORES[str(name)], *(text.format_map(its) for text in said))
        for name, its in found.scores.to_dict("index").items()
    ]
    names = [f"{runs[0].name} and {len(runs) - 1} more" for runs in (other, first)]
    yield blocks.text("recipes")
    columns = ("score", "mean of the first", "of the second", "difference (95 % interval)", "by the images")
    yield blocks.table(f"Recipes on {split}: {names[0]} against {names[1]}", columns, rows)


def _curves(subjects: Sequence[Subject]) -> Iterator[Block]:
    found = []
    for subject in subjects:
        try:
            found.append((subject.name, subject.run.history))
        except WorkbenchError as error:
            yield blocks.missing(error)
    if found:
        yield blocks.picture(plots.histories(found), "Curves over the epochs: validation mAP and loss of each run")


def _differences(subjects: Sequence[Subject]) -> Iterator[Block]:
    told = []
    for subject in subjects:
        state, its = subject.run.state, subject.thresholds
        facts = {"classes": len(state["class_names"]), "labels_sha256": state.get("labels_sha256", "–")[:12]}
        chosen = its.objective if its.target is None else f"{its.objective} {its.target:g}"
        versions = {f"version of {name}": value for name, value in state.get("versions", {}).items()}
        told.append(state["settings"] | facts | {"thresholds": chosen} | versions)
    names = dict.fromkeys(name for each in told for name in each)
    rows = [(name, *(blocks.plain(each.get(name, "–")) for each in told)) for name in names]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    columns = ("setting", *(subject.name for subject in subjects))
    yield (
        blocks.table("Settings and versions that are not the same", columns, rows)
        if rows
        else blocks.text("all_the_same")
    )


SECTIONS = {
    "Side by side": _overview,
    "Compared on the same images": _compared,
    "Curves": _curves,
    "What differs": _differences,
}
