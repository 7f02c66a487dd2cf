"""Labels from what people have: Ultralytics/YOLO detection folders and COCO annotations. A class is present when it
has a box.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..exceptions import WorkbenchError
from ..files import write_whole
from .images import SUFFIXES
from .labels import LabelTable, save_labels

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def import_labels(source: Path, out: Path) -> LabelTable:
    """Write a labels file (and `classes.txt` beside it) from a YOLO folder or a COCO JSON file.

    Paths in it start at the folder of `out`. Existing files are not replaced.

    Raises
    ------
    WorkbenchError : neither of the two, damaged, or `out` is there already
    """
    for there in (out, out.parent / "classes.txt"):
        if there.exists():
            raise WorkbenchError(f"{there} is there already; choose another --out")
    if source.is_dir():
        names, found = _yolo(source)
    elif source.is_file():
        names, found = _coco(source)
    else:
        raise WorkbenchError(f"{source} does not exist; expected a YOLO folder or a COCO JSON file")
    if not found:
        raise WorkbenchError(f"{source} holds no images; expected a YOLO folder or a COCO JSON file")
    y = np.zeros((len(found), len(names)), np.int8)
    for row, (_, classes, _) in enumerate(found):
        y[row, sorted(classes)] = 1
    start = out.parent.resolve()
    splits = [split for *_, split in found]
    table = LabelTable(
        paths=np.array([os.path.relpath(file.resolve(), start) for file, *_ in found], dtype=object),
        class_names=names,
        y=y,
        lines=np.arange(2, len(found) + 2),
        root=out.parent,
        source=out,
        sha256="",
        split=np.array(splits, dtype=object) if all(splits) else None,
    )
    outside = [path for path in table.paths if path.startswith("..")]
    if outside:
        raise WorkbenchError(f"{outside[0]!r} lies outside {start}; choose an --out in a folder above the images")
    for file, content in save_labels(table, out).items():
        write_whole(file, content)
    return table


Found = list[tuple[Path, set[int], str]]  # image, classes present, split or ""


def _yolo(folder: Path) -> tuple[list[str], Found]:
    """Images below `images/`, each with its boxes in the text file of the same name below `labels/`."""
    names = _yolo_names(folder)
    found: Found = []
    for image in sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES):
        parts = list(image.relative_to(folder).parts)
        if "images" not in parts:
            continue
        place = len(parts) - 1 - parts[::-1].index("images")
        boxes = folder.joinpath(*parts[:place], "labels", *parts[place + 1 :]).with_suffix(".txt")
        split = next((SPLIT_NAMES[part] for part in parts if part in SPLIT_NAMES), "")
        # An image without a text file is what Ultralytics calls a background: nothing is there.
        found.append((image, set(_yolo_boxes(boxes, len(names))) if boxes.is_file() else set(), split))
    return names, found


def _yolo_names(folder: Path) -> list[str]:
    for file in (*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*.yml"))):
        try:
            names = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("names")
        except (yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
            raise WorkbenchError(f"{file} is no readable YAML: {str(error).splitlines()[0]}") from None
        if isinstance(names, dict) and sorted(names) == list(range(len(names))):
            return [str(names[i]) for i in range(len(names))]
        if isinstance(names, list) and names:
            return [str(name) for name in names]
    if (folder / "classes.txt").is_file():
        return (folder / "classes.txt").read_text(encoding="utf-8").splitlines()
    raise WorkbenchError(f"{folder} has no data.yaml with names and no classes.txt; is it a YOLO folder?")


def _yolo_boxes(file: Path, classes: int) -> Iterator[int]:
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not (words := line.split()):
            continue
        if not words[0].isdecimal() or int(words[0]) >= classes or len(words) < 5:
            raise WorkbenchError(
                f"{file}:{number}: {line[:60]!r} is no box; expected a class of 0..{classes - 1} and 4 numbers"
            )
        yield int(words[0])


def _coco(file: Path) -> tuple[list[str], Found]:
    try:
        data = json.loads(file.read_bytes())
        categories = sorted(data["categories"], key=lambda category: category["id"])
        column = {category["id"]: place for place, category in enumerate(categories)}
        present: dict[Any, set[int]] = {image["id"]: set() for image in data["images"]}
        for annotation in data["annotations"]:
            present[annotation["image_id"]].add(column[annotation["category_id"]])
        names = [str(category["name"]) for category in categories]
        images = [(str(image["file_name"]), present[image["id"]]) for image in data["images"]]
    except (OSError, ValueError, RecursionError) as error:
        raise WorkbenchError(f"{file} is no readable JSON: {error}") from None
    except (KeyError, TypeError) as error:
        raise WorkbenchError(f"{file} is no COCO file: {error!r} is missing or of another kind") from None
    # Annotations often lie in a folder beside the images': the first place that has the first image is taken.
    first = images[0][0] if images else ""
    bases = [file.parent, file.parent / "images", file.parent.parent, file.parent.parent / "images"]
    base = next((base for base in bases if (base / first).is_file()), file.parent)
    return names, [(base / name, classes, "") for name, classes in images]
