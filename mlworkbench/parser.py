"""Parser of the command line: what each command takes. Settings bring their own flags and help."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .settings import Settings, default_text
from .text import did_you_mean

FIRST_STEPS = """first steps:
  mlworkbench lab                              the notebooks, or without them:
  mlworkbench demo-data signs                  a data set to try things on
  mlworkbench check signs/labels.csv           then train, tune and evaluate: each says what comes next
  mlworkbench import FOLDER --out labels.csv   your own data"""


class _Parser(argparse.ArgumentParser):
    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.set_defaults(parser=self)  # of a command's, the command's own

    def error(self, message: str) -> NoReturn:
        if choice := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            message += did_you_mean(choice[1], re.findall(r"[\w-]+", choice[2]))
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for; what a command does not know is refused by its own parser, so that its --help is named."""
    args, unknown = make_parser().parse_known_args(argv)
    if unknown:
        near = did_you_mean(unknown[0], args.parser._option_string_actions)
        args.parser.error(f"unknown: {' '.join(unknown)}{near}")
    return args


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; the name of the one that was given is `command`."""
    parser = _Parser(
        prog="mlworkbench",
        description="Multi-label image classification with Ultralytics YOLO networks.",
        epilog=FIRST_STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=None)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands, each with --help")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(command=name)
        return sub

    def labelled(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "labels", metavar="LABELS", help='rows such as a.jpg,"[0, 1, 1, 0]", or other forms: see docs/labels.md'
        )
        sub.add_argument("--root", metavar="DIR", help="where image paths start (default: the folder of LABELS)")
        sub.add_argument("--classes", metavar="FILE", help="class names, one a line (default: classes.txt beside it)")
        sub.add_argument("--splits", metavar="FILE", help="CSV image_path,split (default: its own splits, or 70/15/15)")
        sub.add_argument("--corrections", metavar="FILE", help="labels marked wrong in corrections.csv are changed")
        sub.add_argument("--tag-delimiter", metavar="C", help="what parts tags (default: found)")

    def flags(sub: argparse.ArgumentParser, *names: str) -> None:
        for known in fields(Settings):
            its = known.metadata
            if its["flag"] is None or (names and known.name not in names):
                continue
            if known.type is bool:
                how = {"action": "store_const", "const": "true", "help": its["help"]}
            else:
                how = {"help": f"{its['help']} ({default_text(known)})", "choices": its["choices"] or None}
                how["metavar"] = its["metavar"] or ("N" if known.type is int else "X" if known.type is float else None)
            sub.add_argument(its["flag"], dest=known.name, **how)

    def moved(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--root", metavar="DIR", help="where the run's images are, if no longer where they were")

    sub = command("demo-data", "make the built-in data set: signs on photographs, with faults to be found")
    sub.add_argument("dir", metavar="DIR")
    sub.add_argument("--images", type=int, default=3800, metavar="N", help="how many (3800)")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="decides all of it (0)")
    sub.add_argument(
        "--label-noise", type=float, default=0.03, metavar="F", help="share of present labels that are missing (0.03)"
    )

    sub = command("check", "check a labels file and every image it names")
    labelled(sub)
    flags(sub, "seed", "max_quarantine")
    sub.add_argument("--all", action="store_true", help="show every finding and every class")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write everything found as JSON")

    sub = command("import", "make a labels file of what another tool wrote; docs/labels.md lists the kinds")
    sub.add_argument("source", metavar="SOURCE", type=Path, help="table, JSON or XML file, or folder")
    sub.add_argument("--out", required=True, type=Path, metavar="LABELS", help="labels file to write, above the images")
    sub.add_argument("--images", type=Path, metavar="DIR", help="folder of the images (default: looked for)")
    sub.add_argument("--root", type=Path, metavar="DIR", help="where paths start in LABELS (default: its folder)")
    sub.add_argument("--image-column", metavar="NAME", help="column of the image paths (default: found)")
    sub.add_argument("--image-suffix", metavar=".jpg", help="extension of image names that have none (default: found)")
    sub.add_argument("--strip-prefix", metavar="TEXT", help="beginning of the image paths that is to be left out")
    sub.add_argument(
        "--columns", nargs="+", action="extend", default=[], metavar="NAME",
        help="columns that are classes, or the one that holds their names (default: found)",
    )  # fmt: skip
    sub.add_argument(
        "--classes", dest="classes_file", type=Path, metavar="FILE",
        help="all class names in order, one a line (default: as they occur)",
    )  # fmt: skip
    sub.add_argument("--delimiter", metavar="C", help="what parts several names in a cell (default: found)")
    sub.add_argument(
        "--negative", metavar="VALUE", help="value that means absent, or name that means that nothing is there"
    )
    sub.add_argument(
        "--unknown", nargs="+", action="extend", default=[], metavar="VALUE", help="values that mean unknown"
    )
    sub.add_argument("--blank", choices=("absent", "unknown"), help="what an empty cell means (unknown)")
    sub.add_argument("--min-confidence", type=float, metavar="X", help="least confidence of a label that is present")
    sub.add_argument(
        "--value-column", metavar="NAME", help="column that says whether the label of a row is present (default: found)"
    )
    sub.add_argument("--split-column", metavar="NAME", help="column of the splits (default: found)")
    sub.add_argument(
        "--split-values", nargs="+", action="extend", default=[], metavar="VALUE=SPLIT",
        help="values of that column that mean val or test, such as 4=val; all others are train",
    )  # fmt: skip
    sub.add_argument("--group-column", metavar="NAME", help="column of what no split may part, such as the patient")

    sub = command("train", "train a network")
    labelled(sub)
    sub.add_argument("--run", required=True, metavar="RUN", help="folder to write")
    flags(sub)
    others = (known.name for known in fields(Settings) if known.metadata["flag"] is None and known.type is not dict)
    sub.add_argument(
        "--set", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help=f"another setting: {', '.join(sorted(others))} (docs/training.md says what they do)",
    )  # fmt: skip
    existing = sub.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on with the run in RUN, if there is one")
    existing.add_argument("--overwrite", action="store_true", help="replace the run in RUN")

    sub = command("tune", "choose a threshold for each class on the validation split")
    sub.add_argument("run", metavar="RUN")
    sub.add_argument(
        "--objective", default="f1", choices=("f1", "fbeta", "precision", "recall", "cost", "guarantee"), help="(f1)"
    )
    sub.add_argument(
        "--target", type=float, metavar="X",
        help="beta; the precision or recall to hold; price of a miss / price of a false alarm; the miss rate to stay "
        "under",
    )  # fmt: skip
    sub.add_argument(
        "--confidence", type=float, metavar="X",
        help="with which a precision, recall or miss rate holds on new images (a guarantee 0.9; else on these images)",
    )  # fmt: skip
    sub.add_argument("--jointly", action="store_true", help="with that confidence for all classes at once")
    sub.add_argument("--global", action="store_true", dest="one_for_all", help="one threshold for all classes")
    sub.add_argument(
        "--anyway", action="store_true", help="tune where it may not pay, and classes that are not learnt, too"
    )
    sub.add_argument(
        "--calibrate", action=argparse.BooleanOptionalAction,
        help="Platt scaling of each class's probabilities first (where the training's loss bends them: asl, "
        "positive_weight)",
    )  # fmt: skip
    effort = sub.add_mutually_exclusive_group()
    effort.add_argument(
        "--review-share", type=float, metavar="F",
        help="share of the images that a person looks at: those whose p lies in a zone around a class's threshold",
    )  # fmt: skip
    effort.add_argument(
        "--review-hours", type=float, metavar="H",
        help="the same by the hours that a person has for each 1,000 images, at 10 s an image",
    )  # fmt: skip
    sub.add_argument("--replace", action="store_true", help="thresholds set by hand too; they are kept beside")

    sub = command("evaluate", "score the test split, or other labels, at the saved thresholds")
    sub.add_argument("run", metavar="RUN")
    which = sub.add_mutually_exclusive_group()
    which.add_argument("--split", default="test", choices=("train", "val", "test"), help="(test)")
    which.add_argument("--labels", metavar="LABELS", help="another labels file instead of a split of the run's own")
    sub.add_argument("--root", metavar="DIR", help="where the images are: of LABELS, or the run's, if they have moved")
    sub.add_argument("--corrections", metavar="FILE", help="score against the labels as these corrections have them")
    sub.add_argument(
        "--prevalence", metavar="FILE",
        help="CSV class,prevalence: also what precision, F1 and AP would be where classes are that frequent",
    )  # fmt: skip
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the scores as JSON")

    sub = command("errors", "rank labels by how likely they are wrong")
    sub.add_argument("run", metavar="RUN")
    moved(sub)
    sub.add_argument("--split", default="val", choices=("train", "val", "test"), help="(val)")
    seen = sub.add_mutually_exclusive_group()
    seen.add_argument(
        "--folds", type=int, metavar="K",
        help="training images by K models, each of those that it was not trained on (default from trained weights)",
    )  # fmt: skip
    seen.add_argument(
        "--in-sample", action="store_true", help="training images by the run itself (default from random weights)"
    )
    sub.add_argument("--out", type=Path, metavar="FILE.csv", help="write all of them (else the first 20 are shown)")

    sub = command("predict", "say what is in other images")
    sub.add_argument("run", metavar="RUN")
    sub.add_argument(
        "source", metavar="SOURCE", nargs="+", help="image(s), folder, glob, labels file or file of image paths"
    )
    sub.add_argument("--root", metavar="DIR", help="where the paths of a file start (default: its folder)")
    sub.add_argument(
        "--out", type=Path, metavar="FILE.csv|FILE.parquet",
        help="write all probabilities and decisions; after a stop the same command goes on (default: shown)",
    )  # fmt: skip
    sub.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="bf16 is faster on some (fp32)")
    sub.add_argument("--steady", action="store_true", help="the mean over five views of each image: 5 times the work")
    sub.add_argument(
        "--engine", default="local", choices=("local", "ray"),
        help="ray: workers on all cores, here or of a cluster; --out may then be a folder, of Parquet files (local)",
    )  # fmt: skip
    sub.add_argument(
        "--address", metavar="HOST:PORT", help="of a Ray cluster that finds RUN's images where they are here"
    )

    sub = command(
        "health", "compare new images with validation: what is called present, how frequent classes are, drift"
    )
    sub.add_argument("run", metavar="RUN")
    sub.add_argument(
        "source", metavar="SOURCE", nargs="+", help="image(s), folder, glob, labels file or file of image paths"
    )
    sub.add_argument("--root", metavar="DIR", help="where the paths of a file start (default: its folder)")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON")

    sub = command("export", "write the network for other programs, held against the workbench first")
    sub.add_argument("run", metavar="RUN")
    moved(sub)
    sub.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder to write, new or of an earlier export"
    )
    sub.add_argument("--format", default="onnx", choices=("onnx", "pt2", "openvino"), help="(onnx)")
    sub.add_argument("--fold", action="store_true", help="thresholds too: every class is present from 0.5 on")
    sub.add_argument("--maps", action="store_true", help="class activation maps as a further output")
    sub.add_argument("--features", action="store_true", help="what the last layer is given as a further output")
    sub.add_argument("--int8", action="store_true", help="in 8-bit integers, by validation images (onnx)")
    sub.add_argument("--max-drop", type=float, default=0.01, metavar="X", help="most of mAP that int8 may cost (0.01)")

    sub = command("app", "open a page in the browser for trying a run out")
    sub.add_argument("run", type=Path, metavar="RUN")
    moved(sub)
    sub.add_argument("--port", type=int, metavar="N", help="(a free one)")
    sub.add_argument("--no-browser", action="store_true", help="only print the page's address")

    sub = command("report", "write a page on a run, or on several side by side")
    sub.add_argument("runs", metavar="RUN", nargs="+")
    moved(sub)
    sub.add_argument("--out", type=Path, metavar="FILE.html", help="(default for one run: RUN/report.html)")

    sub = command("runs", "list the runs below a folder, the newest first")
    sub.add_argument("dir", nargs="?", default=Path("runs"), type=Path, metavar="DIR", help="(runs)")

    sub = command("lab", "copy the notebooks into a folder and open JupyterLab there")
    sub.add_argument("dir", nargs="?", default=Path(), type=Path, metavar="DIR", help="(this folder)")
    sub.add_argument("options", nargs="*", metavar="-- OPTION", help="JupyterLab's own, such as --no-browser")

    sub = command("notebooks", "run the ordered notebooks, or lessons")
    sub.add_argument("--out", required=True, type=Path, metavar="DIR")
    sub.add_argument("--only", default="", metavar="01,L4", help="numbers, or lessons: all of these (all but lessons)")
    sub.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    return parser
