"""What people bring, made small: images, files, the rows of docs/labels.md, and labels files read without our code."""

import csv
import json
import re
import shlex

import numpy as np
from conftest import PROJECT
from PIL import Image

from mlworkbench.cli import main


def picture(file, seed=0):
    """A small image of random pixels; another seed gives another image."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)


def pictures(folder, *names):
    for seed, name in enumerate(names):
        picture(folder / name, seed)


def write(file, content):
    """Text as it stands, a list as JSON Lines, anything else as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in content)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def rows_of_page(section):
    """{source: (command, what nothing means)} of a section of docs/labels.md."""
    page = (PROJECT / "docs/labels.md").read_text(encoding="utf-8")
    part = re.split(rf"^## {section}$", page, flags=re.MULTILINE)[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in part.splitlines() if line[:1] == "|"]
    return {source: (command.strip("`"), meaning) for source, _, command, meaning in rows[2:]}


def run(command):
    """Run a command of ours; its exit status."""
    words = shlex.split(command)
    assert words[0] == "mlworkbench"
    return main(words[1:])


def command_in(text):
    """The first import command that a text names."""
    return re.search(r"mlworkbench import .*?--out \S+(?: --[a-z-]+ (?:'[^']*'|[^\s;,()]+))*", text)[0]


def labels_in(file):
    """{path: classes present, with ? before those unknown} of a labels file, and {path: split} or None."""
    names = (file.parent / "classes.txt").read_text(encoding="utf-8").splitlines()
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    said = {1: "", -1: "?", None: "?"}
    labels = {
        row["image_path"]: {
            said[value] + name for name, value in zip(names, json.loads(row["labels"]), strict=True) if value in said
        }
        for row in rows
    }
    return names, labels, {row["image_path"]: row["split"] for row in rows} if rows and "split" in rows[0] else None
