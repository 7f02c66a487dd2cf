"""Exports of tools, as the JSON documents that they are: COCO, Datumaro, Ultralytics, AWS, Label Studio."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from ..exceptions import LabelFaults, WorkbenchError
from ..tables.rows import Row
from ..text import short
from .found import Found, Gathering, Told


def places_of(source: Path) -> list[Path]:
    """Folders in which the images of an annotation file usually lie: beside it, or beside its folder."""
    names = [source.stem, *re.split(r"[_.\s-]", source.stem)]  # instances_train2017.json: train2017
    inside = ["", "images", *names, *(f"images/{name}" for name in names)]
    return list(dict.fromkeys(base / name for base in (source.parent, source.parent.parent) for name in inside))


def are_records(value: Any, *keys: str) -> bool:
    """Whether these are objects, all of them, and the first has these keys."""
    records = isinstance(value, list) and len(value) > 0 and all(isinstance(record, dict) for record in value)
    return records and all(key in value[0] for key in keys)


class File:
    """One file that is read: what is told of it, where its labels go, and what every form needs.

    Attributes
    ----------
    split : that of all its images, or ""
    urls, unlabelled : how many images are named by a URL, and how many have no labels
    """

    def __init__(self, source: Path, told: Told, gathering: Gathering, split: str):
        self.source, self.told, self.gathering, self.split = source, told, gathering, split
        self.urls = self.unlabelled = 0

    def image(self, text: str, split: str = "", known: bool = True, group: str = "") -> int:
        """Row of an image; where it has no labels, `known` is False and all of them are unknown."""
        self.unlabelled += not known
        known = known or self.told.blank == "absent"
        return self.gathering.image(self.name(text), split or self.split, known, group)

    def name(self, text: str) -> str:
        """An image's name as a path: of a URL its path, without what only the tool that wrote it knows."""
        if text.startswith("data:"):
            raise WorkbenchError(f"{self.source} holds the images themselves (data: …); export them as files")
        url = re.match(r"[A-Za-z][\w+.-]*://[^/]*/([^?#]*)", text)
        path = url or re.match(r"/data/(?:upload/\d+/|local-files/\?d=)(.*)", text)  # Label Studio
        if path is None:
            return text
        self.urls += url is not None
        name = unquote(path[1])
        return name.partition("/paths/")[2] or name  # azureml://subscriptions/…/datastores/…/paths/…

    def is_sure(self, confidence: Any) -> bool:
        """Whether a label counts, as sure as it is; one that does not say counts."""
        least = self.told.min_confidence
        return least is None or not isinstance(confidence, (int, float)) or confidence >= least

    def join(self, judged: dict[str, list[set[str]]]) -> None:
        """Images with the classes that each of their annotators named: where they differ a label is unknown."""
        mark = re.compile(r"[0-9a-f]{8}-")  # Label Studio puts it before the name of an uploaded file
        places = (*places_of(self.source), *filter(None, [self.told.images]))
        marked = [name for name in map(self.name, judged) if mark.match(name)][:20]
        original = bool(marked) and not any((place / name).is_file() for place in places for name in marked)
        several = differ = 0
        for name, by in judged.items():
            row = self.image(mark.sub("", self.name(name), count=1) if original else name, known=bool(by))
            if by:
                every, some = set.intersection(*by), set.union(*by)
                self.gathering.label(row, sorted(every))
                self.gathering.label(row, sorted(some - every), -1)
                several, differ = several + (len(by) > 1), differ + (every != some)
        self.gathering.note(
            "several annotators", several, f"images; a label on which they differ is unknown ({differ:,} images)"
        )


def coco(file: File, data: Any) -> str | None:
    """COCO's own, with masks and panoptic segments; LVIS; Roboflow's and CVAT's."""
    source, gathering = file.source, file.gathering
    if are_records(data, "image_id", "category_id"):
        raise WorkbenchError(f"{source} holds COCO results, which list no images; import the annotation file instead")
    if not isinstance(data, dict) or "images" not in data or not {"annotations", "categories"} & data.keys():
        return None
    images, annotations = data["images"], data.get("annotations") or []
    if not annotations:
        raise WorkbenchError(
            f"{source} (COCO) holds {len(images):,} images and no annotation at all: tags of whole images are not in "
            "CVAT's COCO export; export as 'CVAT for images 1.1' or 'Datumaro' and import that file"
        )
    if not data.get("categories"):
        raise WorkbenchError(f"{source} (COCO) has no categories; import its file of instances, not of captions")
    pairs = [
        (annotation["image_id"], part["category_id"])
        for annotation in annotations
        if file.is_sure(annotation.get("score"))
        for part in annotation.get("segments_info", (annotation,))
    ]
    columns = _categories(file, data["categories"], {category for _, category in pairs})
    # LVIS looks for some classes only: those that it neither found nor missed are unknown.
    partly = any("neg_category_ids" in image for image in images)
    rows = {}
    for image in images:
        name = image["file_name"] if "file_name" in image else "/".join(image["coco_url"].split("/")[-2:])
        row = rows[image["id"]] = gathering.image(file.name(name), file.split, not partly)
        for category in image.get("neg_category_ids", ()):
            gathering.add(row, columns[category], 0)
    orphans, bare = 0, set(rows)
    for image_id, category in pairs:
        if image_id in rows:
            gathering.add(rows[image_id], columns[category])
            bare.discard(image_id)
        else:
            orphans += 1
    gathering.note("left out", orphans, "annotations of images that their file does not list")
    gathering.note("nothing there", 0 if partly else len(bare), "images without an annotation: every class is absent")
    return "COCO"


def _categories(file: File, categories: list[dict[str, Any]], used: set[Any]) -> dict[Any, int]:
    """Columns by category id, in the order of the ids."""
    groups = {each.get("supercategory") for each in categories if each.get("supercategory") != each["name"]}
    kept = []
    for each in sorted(categories, key=lambda category: category["id"]):
        # Roboflow writes the name of the whole data set as category 0, and no box has it.
        if each["id"] not in used and each["name"] in groups and each.get("supercategory") in (None, "", "none"):
            file.gathering.notes.append(("left out", f"category {each['name']!r}, which only names the others' group"))
        else:
            kept.append(each)
    columns = dict(
        zip((each["id"] for each in kept), file.gathering.listed(str(each["name"]) for each in kept), strict=True)
    )
    if lost := used - columns.keys():
        raise WorkbenchError(
            f"{file.source} (COCO) has annotations of category {min(lost)!r}, which its categories do not list; add it"
        )
    return columns


def datumaro(file: File, data: Any) -> str | None:
    """Datumaro's JSON, which CVAT exports too."""
    if not isinstance(data, dict) or "items" not in data or "categories" not in data:
        return None
    columns = file.gathering.listed(str(label["name"]) for label in data["categories"]["label"]["labels"])
    for item in data["items"]:
        media = item.get("image") or item.get("media") or {}
        row = file.image(media.get("path") or item["id"])
        for annotation in item["annotations"]:
            if annotation.get("label_id") is not None:
                file.gathering.add(row, columns[annotation["label_id"]])
    return "Datumaro"


def ultralytics(file: File, data: Any) -> str | None:
    """NDJSON of Ultralytics' platform: a line for the data set, then one for each image."""
    if not are_records(data, "type") or data[0]["type"] != "dataset":
        return None
    names = {int(number): str(name) for number, name in data[0]["class_names"].items()}
    columns = dict(zip(sorted(names), file.gathering.listed(names[number] for number in sorted(names)), strict=True))
    images = [record for record in data if record["type"] == "image"]
    files = Counter(image["file"] for image in images)
    for image in images:
        marks = [mark for each in (image.get("annotations") or {}).values() for mark in each]
        # Without a box nothing is there; without a class of the whole image nobody has looked yet.
        looked = bool(marks) or data[0].get("task") != "classify"
        name, split = image["file"], image.get("split") or ""
        row = file.image(name if files[name] == 1 else f"{split}/{name}", split, looked)
        for mark in marks:
            file.gathering.add(row, columns[int(mark[0] if isinstance(mark, list) else mark)])
    return "Ultralytics NDJSON"


def manifest(file: File, data: Any) -> str | None:
    """Manifest of AWS: Rekognition Custom Labels and SageMaker Ground Truth."""
    records = data if isinstance(data, list) else [data]
    if not are_records(records, "source-ref"):
        return None
    for record in records:
        about = {key: record[f"{key}-metadata"] for key in record if f"{key}-metadata" in record}
        judged = {key: each for key, each in about.items() if "failure-reason" not in each}
        row = file.image(record["source-ref"], known=bool(judged))
        for key, each in judged.items():
            file.gathering.label(row, _attribute(file, record[key], each))
    return "AWS manifest"


def _attribute(file: File, value: Any, about: dict[str, Any]) -> Iterator[str]:
    """Classes that one attribute of a manifest names: the image's, or those of its boxes."""
    names = about.get("class-map", {})
    if "class-name" in about:  # the value is no more than its number
        numbers, names, sure = [0], {"0": about["class-name"]}, [about.get("confidence")]
    elif isinstance(value, dict):
        numbers = [box["class_id"] for box in value.get("annotations", ())]
        sure = [each.get("confidence") for each in about.get("objects", ())]
    else:
        numbers = value if isinstance(value, list) else [value]
        sure = [about.get("confidence-map", {}).get(str(number)) for number in numbers]
    for at, number in enumerate(numbers):
        if file.is_sure(sure[at] if at < len(sure) else None):
            yield str(names[str(number)])


def label_studio(file: File, data: Any) -> str | None:
    """Label Studio's JSON: choices, and the classes of boxes and outlines."""
    if not are_records(data, "data") or not {"annotations", "completions", "predictions"} & data[0].keys():
        return None
    judged: dict[str, list[set[str]]] = {}
    left, controls = Counter[str](), set[str]()
    for task in data:
        texts = {key: text for key, text in task["data"].items() if isinstance(text, str)}
        key = file.told.image_column or next((key for key in ("image", "img", "url") if key in texts), min(texts))
        by = judged.setdefault(texts[key], [])
        for annotation in task.get("annotations") or task.get("completions") or ():
            if annotation.get("was_cancelled"):
                continue
            names: set[str] = set()
            for result in annotation["result"]:
                # Of a choice, a box, a brush …: its kind is the key of its names.
                kind = result.get("type", "")
                if kind.endswith(("labels", "choices")):
                    names.update(result["value"].get(kind, ()))
                    controls.add(result.get("from_name", ""))
                else:
                    left[kind] += 1
            by.append(names)
    file.gathering.note("left out", left.total(), f"results that name no class: {', '.join(sorted(left))}")
    if len(controls) > 1:
        asked = ", ".join(sorted(controls))
        file.gathering.notes.append(("classes", f"they answer several questions ({asked}); --columns chooses some"))
    file.join(judged)
    return "Label Studio"


FORMS: tuple[Callable[[File, Any], str | None], ...] = (coco, datumaro, ultralytics, manifest, label_studio)


def vertex(source: Path, names: Sequence[str], rows: Iterable[Row], places: list[Path]) -> Found:
    """What a list of AutoML or Vertex says, `TRAIN,gs://bucket/a.jpg,cat,dog`; `names` are those given, if any."""
    labels: dict[str, list[str]] = {}
    split: dict[str, str] = {}
    for line, cells in rows:
        if isinstance(cells, str):
            raise LabelFaults(source, [(line, cells)])
        at = next((i for i, cell in enumerate(cells[:2]) if str(cell).startswith("gs://")), None)
        if at is None:
            raise LabelFaults(source, [(line, "no gs:// path; expected TRAIN,gs://bucket/a.jpg,label")])
        path = str(cells[at])
        split[path] = str(cells[0]) if at and str(cells[0]).upper() not in ("UNASSIGNED", "ML_USE") else ""
        tags = (str(cell).strip() for cell in cells[at + 1 :])  # and the corners of boxes
        labels.setdefault(path, []).extend(tag for tag in tags if tag and not re.fullmatch(r"-?\d*\.?\d+", tag))
    occur = {tag for tags in labels.values() for tag in tags}
    if names and (odd := sorted(occur - set(names))):
        what = f"{len(odd):,} labels are none of the {len(names):,} class names given, such as {short(odd[0])}"
        raise WorkbenchError(f"{source}: {what}; --classes FILE says all names")
    class_names = list(names) or sorted(occur)
    place = {name: c for c, name in enumerate(class_names)}
    y = np.zeros((len(labels), len(class_names)), np.int8)
    for row, own in enumerate(labels.values()):
        y[row, [place[tag] for tag in own]] = 1
    given = list(split.values()) if any(split.values()) else None
    return Found("AutoML or Vertex list", class_names, list(labels), y, places, given)
