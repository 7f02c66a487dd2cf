"""Command line: arguments in, exit status out. Heavy imports wait for the command that needs them."""

import argparse
import io
import os
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from .exceptions import LabelFaults, WorkbenchError
from .parser import parse
from .settings import Settings, refuse_other, typed
from .text import by_reason, printable, shortened

SHOWN = 3  # findings of a kind, and the rarest classes, where there are more than CLASSES of these
CLASSES = 20
MANY = 20  # images from which on `predict` names the way into a file
OF_LABELS = ("root", "classes", "splits", "corrections", "tag_delimiter")  # options that say how a labels file is read


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit status: 0 done, 1 failed on the way, 2 refused, 130 interrupted."""
    args = parse(argv)
    if args.command is None:
        args.parser.print_help()
        return 0
    for stream in (sys.stdout, sys.stderr):  # a console of another encoding than a class name's must not end a command
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends like Ctrl-C
    try:
        return globals()[f"_{args.command.replace('-', '_')}"](args) or 0
    except KeyboardInterrupt as error:
        print(str(error) or "interrupted", file=sys.stderr)
        return 130
    except WorkbenchError as error:
        if args.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if args.debug:
            raise
        what = str(error).splitlines()[0] if str(error) else ""
        print(f"error: {type(error).__name__}: {what} (--debug shows where)", file=sys.stderr)
        return 1


def _demo_data(args: argparse.Namespace) -> None:
    from .data.demo import make_demo
    from .progress import progress_bar

    with progress_bar(args.images, "making images") as bar:
        labels = make_demo(args.dir, args.images, args.seed, args.label_noise, bar.update)
    print(f"{args.images:,} images, and a few more with faults to be found: {labels}")
    _next("check", labels)


def _read(args: argparse.Namespace, own: Mapping[str, Any] = {}) -> Any:
    """The labelled images as the options say, or, where these say nothing, as a run's own do."""
    from .data.corrections import correct, read_corrections
    from .data.labels import read_labels

    if (folder := Path(args.labels)).is_dir() and not (folder / "labels.csv").is_file():
        from .imports.door import what_folder

        raise WorkbenchError(what_folder(folder))
    options = {name: getattr(args, name) for name in OF_LABELS if name != "corrections"}
    table = read_labels(args.labels, *(own.get(name) if text is None else text for name, text in options.items()))
    return table if args.corrections is None else correct(table, read_corrections(args.corrections))


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given, by their flags or `--set`."""
    flags = [(known.name, text) for known in fields(Settings) if (text := getattr(args, known.name, None)) is not None]
    return {name: typed(name, text) for name, text in [*flags, *getattr(args, "set", [])]}


def _check(args: argparse.Namespace) -> None:
    from .data.prepare import TooFewImages, prepare
    from .data.splits import origin
    from .files import write_json
    from .paths import free

    _refuse_source(args.json, args.labels, args.classes, args.splits, args.corrections, ours=rb'{\s*"rows"')
    found: dict[str, Any] = {"rows": 0, "class_names": [], "faults": [], "quarantine": [], "warnings": [], "splits": {}}
    try:
        table = _read(args)
        found |= {"rows": len(table), "class_names": table.class_names}
        settings = Settings.of(**_settings(args))
        prepared = prepare(table, settings.seed, settings.max_quarantine)
        found |= _found(prepared) | {"splits": prepared.split_sizes}
    except BaseException as error:  # whatever it is: without it the JSON would look clean
        faults = error.faults if isinstance(error, LabelFaults) else [(1, str(error) or type(error).__name__)]
        found["faults"] = [{"line": line, "message": message} for line, message in faults]
        if isinstance(error, TooFewImages):
            found |= _found(error)
            _print_quarantine(table.source, found["quarantine"])
        raise
    finally:
        if args.json is not None:
            write_json(args.json, found)
    sizes = "  ".join(f"{name} {size:,}" for name, size in found["splits"].items())
    print(f"{len(table):,} rows, {len(table.class_names)} classes\n{sizes}\n{origin(table, settings.seed)}")
    _print_quarantine(table.source, found["quarantine"])
    kinds = Counter[str]()
    for kind, message in prepared.warnings:
        kinds[kind] += 1
        if args.all or kinds[kind] <= SHOWN:
            print(f"{kind}  {message}")
    more = [f"{times - SHOWN:,} of the kind {kind!r}" for kind, times in kinds.items() if times > SHOWN]
    every = classes = prepared.classes
    if len(classes) > CLASSES:
        classes = classes.sort_values(list(classes.columns), kind="stable").head(SHOWN)
        more.append(f"{len(every) - SHOWN:,} classes with more positives")
    print(f"{'class':<32} " + " ".join(f"{part:>8}" for part in classes.columns))
    for name, *counts in (every if args.all else classes).itertuples():
        print(f"{shortened(printable(name), 32):<32} " + " ".join(f"{count:>8,}" for count in counts))
    if more and not args.all:
        print(f"not shown: {', '.join(more)}; --all shows everything")
    told = [(name, text) for name in OF_LABELS if (text := getattr(args, name)) is not None]
    options = [word for name, text in told for word in (f"--{name.replace('_', '-')}", text)]
    _next("train", args.labels, *options, "--run", free(Path("runs/first")))


def _found(prepared: Any) -> dict[str, Any]:
    """What was set aside and warned of, as `check --json` holds it; a refusal knows it too."""
    return {
        "quarantine": prepared.quarantine.to_dict("records"),
        "warnings": [{"kind": kind, "message": message} for kind, message in prepared.warnings],
    }


def _print_quarantine(source: Path, rows: list[dict[str, Any]]) -> None:
    """One line for each image, or for each reason that more than a few have."""
    for reason, same in by_reason((row, row["reason"]) for row in rows).items():
        shown = same if len(same) <= 3 else same[:1]
        more = f" (and {len(same) - 1:,} more images)" if len(same) > 3 else ""
        for row in shown:
            print(f"set aside  {source}:{row['line']}: {printable(row['image_path'])}: {reason}{more}")


def _refuse_source(out: Path | None, *sources: str, ours: bytes = b"") -> None:
    """Sources are never written, nor a run's own files, nor what does not begin as this command's do."""
    from .files import refuse_foreign
    from .runs.folder import FILES, STATE, holds_run

    if out is None:
        return
    if out.exists() and any(Path(s).exists() and out.samefile(s) for s in sources if s):
        raise WorkbenchError(f"{out} is what is to be read; choose another file to write")
    if out.name in (STATE, *FILES) and holds_run(out.parent):
        raise WorkbenchError(f"{out} is a file of that run; choose another name, or another folder")
    refuse_foreign(out, ours)


def _import(args: argparse.Namespace) -> None:
    from .data.labels import read_class_names
    from .imports.door import import_labels
    from .imports.found import Told

    given: dict[str, Any] = {known.name: getattr(args, known.name, None) for known in fields(Told)}
    given |= {name: tuple(given[name]) for name in ("columns", "unknown", "split_values")}
    given["classes"] = () if args.classes_file is None else tuple(read_class_names(args.classes_file))
    names = args.out.parent / "classes.txt"
    own = not names.exists()
    print(import_labels(args.source, args.out, Told(**given)))
    print(f"written: {args.out}" + f" and {names}" * (own and names.exists()))
    _next("check", args.out, *([] if args.root is None else ["--root", args.root]))


def _train(args: argparse.Namespace) -> int:
    from .runs.folder import holds_run
    from .runs.run import Run
    from .text import shown
    from .training.fit import fit

    given = _settings(args)
    own = Run(args.run).given if args.resume and holds_run(Path(args.run)) else {}
    if args.tag_delimiter is not None and args.tag_delimiter != own.get("tag_delimiter", args.tag_delimiter):
        refuse_other("tag_delimiter", args.tag_delimiter, own["tag_delimiter"])  # rather than every cell as a fault
    run = fit(_read(args, own), args.run, args.overwrite, args.resume, _print_epoch, **given)
    if os.environ.get("RANK", "0") != "0":  # of several processes one speaks
        return 0
    best = run.best_epoch
    print(f"{run.folder}: {run.status}, best validation mAP {shown(best['val_map'])} in epoch {best['epoch']:.0f}")
    if run.status == "interrupted":
        _next("train", args.labels, "--run", args.run, "--resume")
        return 130
    _next("tune", args.run)
    return 0


def _print_epoch(row: dict[str, float]) -> None:
    from .text import shown

    print(
        f"epoch {row['epoch']:3}  train loss {row['train_loss']:.4f}  val loss {row['val_loss']:.4f}  "
        f"val mAP {shown(row['val_map'])}  {row['seconds']:.1f} s",
        flush=True,
    )


def _tune(args: argparse.Namespace) -> None:
    from .decisions.gain import choose_thresholds, remarks
    from .decisions.tuning import tune_thresholds
    from .decisions.zone import review_gain, share_of, with_zones
    from .runs.run import Run
    from .scoring.calibration import bends

    share = args.review_share if args.review_hours is None else share_of(args.review_hours)
    run = Run(args.run)
    predictions = run.validation(args.calibrate)
    if args.calibrate is None and predictions.calibration is not None:
        bent = bends(run.state["settings"])
        print(f"calibrated first, since {bent} bends probabilities; --no-calibrate: as they are")
    how = {name: getattr(args, name) for name in ("anyway", "one_for_all", "confidence", "jointly")}
    thresholds = choose_thresholds(predictions, args.objective, args.target, **how)
    if share is not None:
        thresholds = with_zones(predictions, thresholds, share)
    if not run.save_tuned(thresholds, args.replace):
        raise WorkbenchError(
            f"the thresholds of {run.folder} were set by hand; --replace tunes anew and keeps them beside"
        )
    zones = "  to a person" if share is not None else ""
    print(f"{'class':<24} {'threshold':>10} {'positives':>10}  learnt  {'met':<3}{zones}".rstrip())
    rows, told = thresholds.to_dict()["classes"], {True: "yes", False: "no", None: "–"}
    for name, row in rows.items():
        cells = f"{row['threshold']:>10.4f} {row['positives']:>10,}  {told[row['learnt']]:<6}  {told[row['met']]:<3}"
        low, high = row.get("review", (0, 0))
        zone = f"  {low:.4f} ≤ p < {high:.4f}" if low < high else "  –" if zones else ""
        print(f"{printable(name):<24} {cells}{zone}".rstrip())
    print("\n".join(remarks(predictions, thresholds)))
    missed = [printable(name) for name, row in rows.items() if row["met"] is False]
    if missed:
        wanted = args.objective if args.target is None else f"{args.objective} {args.target:g}"
        nothing = {"precision": "nothing is", "recall": "everything is", "guarantee": "everything is"}
        instead = (
            f"{nothing[args.objective]} called present" if args.objective in nothing else "no positive, or not learnt"
        )
        print(f"{wanted} cannot be met for {len(missed)} of {len(rows)} classes ({instead}): {', '.join(missed)}")
    if share is not None:
        tuned = partial(tune_thresholds, objective=args.objective, target=args.target, **how)
        kept = thresholds.objective == "default"  # 0.5 stays, whatever the images
        print(review_gain(predictions, share, (lambda _: thresholds) if kept else tuned))
    print(f"saved to {run.folder / 'thresholds.json'}")
    _next("evaluate", args.run)


def _evaluate(args: argparse.Namespace) -> None:
    from .data.corrections import read_corrections
    from .files import write_json
    from .runs.folder import THRESHOLDS
    from .runs.other import evaluate_labels
    from .runs.run import Run
    from .scoring.prevalence import read_prevalence
    from .screen import print_scores

    _refuse_source(args.json, args.corrections, args.labels, args.prevalence, ours=rb'{\s*"map"')
    corrections = None if args.corrections is None else read_corrections(args.corrections)
    prevalence = None if args.prevalence is None else read_prevalence(args.prevalence)
    if args.labels is None:
        scores = Run(args.run, args.root).evaluate(args.split, corrections, prevalence)
    else:
        scores = evaluate_labels(Run(args.run), args.labels, args.root, corrections, prevalence)
    if args.json is not None:
        write_json(args.json, scores)

    what = args.split if args.labels is None else args.labels
    print_scores(scores, what, args.prevalence)
    tuned = (Path(args.run) / THRESHOLDS).exists()
    if not tuned:
        _tell("each class is called present from 0.5 on, since no thresholds were tuned yet")
    _next("errors" if tuned else "tune", args.run)


def _predict(args: argparse.Namespace) -> None:
    from .decisions.gain import learning_remark
    from .deploy.parts import predict_to
    from .deploy.predict import predict, told
    from .runs.run import Run

    if args.engine == "ray" and args.out is None:
        raise WorkbenchError("--engine ray writes what it finds: say where, --out FILE or DIR")
    if args.engine != "ray" and args.address is not None:
        raise WorkbenchError("--address is that of a Ray cluster: add --engine ray")
    _refuse_source(args.out, *args.source)
    source = args.source if len(args.source) > 1 else args.source[0]
    how = {"root": args.root, "precision": args.precision, "steady": args.steady}
    if remark := learning_remark(Run(args.run).thresholds()):
        print(remark)
    if args.out is None:
        frame, aside = predict(args.run, source, **how)
        print("\n".join(told(frame)))
        _print_aside(aside)
        if len(frame) > MANY:
            _next("predict", args.run, *args.source, "--out", "predictions.csv")
        return
    if args.engine == "ray":
        from .deploy.ray_engine import answered

        how["engine"] = partial(answered, address=args.address)
    written = predict_to(args.out, args.run, source, **how)
    _print_aside(written.aside)
    others = f"; the {len(written.aside):,} set aside: {written.quarantine}" if written.quarantine else ""
    print(f"{written.images:,} images: {written.file}{others}")


def _print_aside(aside: Sequence[tuple[str, str]]) -> None:
    for reason, paths in by_reason(aside).items():
        more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        print(f"set aside  {printable(paths[0])}{more}: {reason}", file=sys.stderr)


def _health(args: argparse.Namespace) -> None:
    from .analysis.health import check_health
    from .deploy.sources import groups_of, images_of
    from .files import write_json
    from .runs.run import Run

    _refuse_source(args.json, *args.source, ours=rb'{\s*"images"')
    source = args.source if len(args.source) > 1 else args.source[0]
    root, paths = images_of(source, args.root and Path(args.root))
    found = check_health(Run(args.run), paths, root, groups_of(source))
    if args.json is not None:
        write_json(args.json, found.to_dict())
    _print_aside(found.aside)
    print(found)


def _export(args: argparse.Namespace) -> None:
    from .deploy.export import export
    from .runs.run import Run

    options = {name: getattr(args, name) for name in ("format", "fold", "maps", "features", "int8", "max_drop")}
    print(export(Run(args.run, args.root), args.out, **options))


def _app(args: argparse.Namespace) -> None:
    from .notebooks import open_app

    open_app(args.run, args.root and Path(args.root), args.port, not args.no_browser)


def _report(args: argparse.Namespace) -> None:
    from .reports.report import report
    from .runs.run import Run

    print(f"written: {report([Run(folder, args.root) for folder in args.runs], args.out)}")


def _runs(args: argparse.Namespace) -> None:
    from .runs.listing import age, list_runs
    from .text import shown

    found = list_runs(args.dir)
    if not len(found):
        print(f"no run below {args.dir}")
        return
    rows = [["run", "status", "begun", "model", "route", "epochs", "size", "val mAP", "test mAP", "F1 macro"]]
    for run in found.to_dict("records"):
        names = [printable(run["run"]), run["status"], age(run["started"])]
        settings = [shortened(printable(Path(run["model"]).name), 24), run["route"]]
        numbers = [str(run["epochs"]), str(run["image_size"])]
        rows.append(names + settings + numbers + [shown(run[name]) for name in ("val_map", "test_map", "f1_macro")])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:{'<' if i < 5 else '>'}{widths[i]}}" for i, cell in enumerate(row)))


def _errors(args: argparse.Namespace) -> None:
    from .analysis.suspects import find_suspects
    from .decisions.gain import learning_remark
    from .files import write_whole
    from .runs.run import Run
    from .text import number

    _refuse_source(args.out, ours=b"rank,image_path,split,class")
    run = Run(args.run, args.root)
    if remark := learning_remark(run.thresholds()):
        _tell(remark)
    found = find_suspects(run, args.split, args.folds, args.in_sample, _tell)
    _tell(str(found))
    ranked = found.ranking
    if args.out is None:
        words = ranked.head(20).assign(label=ranked.label.map({1: "present", 0: "absent"}))
        print(words.to_string(index=False, formatters={"probability": number, "score": number}))
        _tell(f"the first {len(words)} of {len(ranked):,}; --out FILE holds all, notebook 04 shows the images and asks")
    else:
        write_whole(args.out, _csv(ranked))
        print(f"{len(ranked):,} labels, the most suspect first: {args.out}")


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _next(*words: object) -> None:
    """The command that usually follows, beside the output and as a shell takes it."""
    _tell("next: " + shlex.join(["mlworkbench", *map(str, words)]))


def _csv(frame: Any) -> bytes:
    """A CSV meant for spreadsheets: no path or class name in a cell begins a formula."""
    from .text import mark_path, mark_text

    safe = frame.assign(image_path=frame.image_path.map(mark_path))
    if "class" in frame:
        safe = safe.assign(**{"class": frame["class"].map(mark_text)})
    return safe.to_csv(index=False).encode()


def _lab(args: argparse.Namespace) -> int:
    from .notebooks import CHECKOUT, copy_notebooks, open_lab

    folder = args.dir.resolve()
    if folder != CHECKOUT:
        new = copy_notebooks(folder)
        print(f"{len(new)} notebooks copied to {folder / 'notebooks'}; those already there are kept")
    return open_lab(folder, args.options)


def _notebooks(args: argparse.Namespace) -> None:
    from .notebooks import run_notebooks

    run_notebooks(args.out, [name for n in args.only.split(",") if (name := n.strip())], dict(args.p))
