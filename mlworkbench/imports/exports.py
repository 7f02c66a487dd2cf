"""Exports of tools, as the JSON documents that they are: COCO, Datumaro, Ultralytics, AWS, Label Studio, pandas."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from ..data.images import SUFFIXES
from ..exceptions import LabelFaults, WorkbenchError
from ..paths import is_foreign
from ..tables.ask import Asks
from ..tables.cells import FOREIGN_WORDS, is_blank, label_of, split_of
from ..tables.rows import Row
from ..text import short
from .found import Found, Gathering, Told

# Keys in any case; the first eleven hold an image whatever it is called.
IMAGE_KEYS = ("file_name", "filename", "image_path", "img_path", "imagepath", "filepath", "image_url", "imagegcsuri",
              "imagefilename", "image", "img", "path", "file", "name", "url", "id")  # fmt: skip
NAME_KEYS = ("displayname", "label", "labels", "name", "names", "class", "class_name", "classes", "category",
             "categories", "tag", "tags", "choices", "choice", "classifications", "detections",
             "region_attributes")  # fmt: skip
# Keys beside the name of a label that say whether it is there, and how sure that is.
ABSENT_KEYS = ("absent", "is_absent", "negative", "is_negative")
VALUE_KEYS = (*ABSENT_KEYS, "value", "positive", "is_positive", "present", "is_present", "presence", "exists",
              "checked", "is_checked", "selected", "is_selected", "answer", "state")  # fmt: skip
CONFIDENCE_KEYS = ("confidence", "conf", "score", "prob", "probability", "label_confidence")
# What one annotation answers to each question; without a question's key it does not answer that.
Answers = dict[str, list[str]]


def places_of(source: Path) -> list[Path]:
    """Folders in which the images of an annotation file usually lie: beside it, or beside its folder."""
    names = [source.stem, *re.split(r"[_.\s-]", source.stem)]  # instances_train2017.json: train2017
    inside = ["", "images", *names, *(f"images/{name}" for name in names)]
    return list(dict.fromkeys(base / name for base in (source.parent, source.parent.parent) for name in inside))


def are_records(value: Any, *keys: str) -> bool:
    """Whether these are objects, all of them, and the first has these keys."""
    records = isinstance(value, list) and len(value) > 0 and all(isinstance(record, dict) for record in value)
    return records and all(key in value[0] for key in keys)


def is_image(value: Any) -> bool:
    """Whether a value is the name of an image file."""
    return isinstance(value, str) and value.lower().endswith(SUFFIXES)


def turned(data: Any) -> Any:
    """A document as records where it holds columns, as pandas writes them, or the images of each class."""
    if not isinstance(data, dict) or not data:
        return data
    if data.keys() >= {"columns", "data"} and all(isinstance(row, list) for row in data["data"]):
        return [dict(zip(map(str, data["columns"]), row, strict=True)) for row in data["data"]]
    values = list(data.values())
    if all(isinstance(value, dict) for value in values) and len({tuple(value) for value in values}) == 1:
        columns = {key: list(value.values()) for key, value in data.items()}
    elif all(isinstance(value, list) for value in values):
        columns = data
    else:
        return data
    images = [key for key, column in columns.items() if column and all(map(is_image, column))]
    if not images or len(set(map(len, columns.values()))) > 1 or are_images_of_classes(data):
        return data
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def are_images_of_classes(data: Any) -> bool:
    """Whether under each key of a document is a list, and in all of them nothing but images."""
    lists = list(data.values()) if isinstance(data, dict) else []
    return any(lists) and all(isinstance(each, list) and all(map(is_image, each)) for each in lists)


def of_classes(data: dict[str, list[str]], file: "File") -> list[dict[str, Any]]:
    """Records of a mapping of classes to the images that show them.

    Raises
    ------
    WorkbenchError : the lists are those of splits, or of all images
    """
    if all(map(split_of, data)) or any(key.lower() in (*IMAGE_KEYS, "images", "files") for key in data):
        raise WorkbenchError(
            f"{file.source}: {', '.join(data)} list images and no labels; import the file that holds their labels"
        )
    classes: dict[str, list[str]] = {}
    for name, images in data.items():
        for image in images:
            classes.setdefault(image, []).append(name)
    return [{"image": image, "labels": names} for image, names in classes.items()]


class File:
    """One file that is read: what is told of it, where its labels go, and what every form needs.

    Attributes
    ----------
    split : that of all its images, or ""
    urls, unlabelled : how many images are named by a URL, and how many have no labels
    explicit : whether absent labels are said to be, so that those of which nothing is said are unknown
    """

    def __init__(self, source: Path, told: Told, gathering: Gathering, split: str):
        self.source, self.told, self.gathering, self.split = source, told, gathering, split
        self.urls = self.unlabelled = 0
        self.explicit = False
        self._unsure = Counter[float]()

    def image(self, text: str, split: str = "", known: bool = True, group: str = "") -> int:
        """Row of an image; where it has no labels, `known` is False and all of them are unknown."""
        self.unlabelled += not known
        known = (known and not self.explicit) or self.told.blank == "absent"
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

    def sure(self, confidence: Any) -> int | None:
        """What a confidence says of its label: 1, 0, or None for nothing; a label without one is present."""
        if confidence in (None, ""):
            return 1
        try:
            number = float(confidence)
        except (TypeError, ValueError):
            number = -1.0
        if not number >= 0:
            raise WorkbenchError(f"{self.source}: the confidence {short(confidence)} is no number from 0 on; mend it")
        if self.told.min_confidence is None:
            self._unsure[number] += number not in (0, 1)
        return 1 if number >= (self.told.min_confidence or 1.0) else 0 if number == 0 else None

    def refuse_unsure(self) -> None:
        """Ask from which confidence on a label is present, where that decides."""
        if count := self._unsure.total():
            what = f"{count:,} labels have confidences such as {max(self._unsure, key=self._unsure.__getitem__):g}"
            least = "0.5" if max(self._unsure) <= 1 else "50"
            what = f"{what}: from which on is a label present?"
            raise Asks(self.source, [what], ("--min-confidence", least), "", self.told)

    def answers(self, judged: dict[str, list[Answers]], plain: set[str]) -> None:
        """Images with what each of their annotators answered to several questions.

        A question that is answered by yes and no is a class; of others each answer is one, called QUESTION: ANSWER
        where there are several questions, and by the answer alone where there is one or it is in `plain` (boxes).
        """
        said: dict[str, set[str]] = {}
        for by in judged.values():
            for question, words in (pair for answers in by for pair in answers.items()):
                said.setdefault(question, set()).update(words)
        choices = said.keys() - plain
        yes_no = {question for question in choices if is_yes_no(said[question])}
        full = choices - yes_no if len(choices) > 1 else set()
        wanted = set(said)
        if self.told.columns and wanted.issuperset(self.told.columns):
            wanted, self.gathering.only = set(self.told.columns), ()
        if len(said) > 1:
            asked = ", ".join(sorted(said))
            what = f"they answer several questions ({asked}); --columns chooses some"
            self.gathering.notes.append(("classes", what))
        if yes_no & wanted:
            what = f"questions that are answered by yes and no are classes: {', '.join(sorted(yes_no & wanted))}"
            self.gathering.notes.append(("classes", what))

        def labels(answers: Answers) -> dict[str, int]:
            found: dict[str, int] = {}
            for question in sorted(wanted):
                words = answers.get(question, [])
                if question in yes_no:
                    found[question] = max((yes_or_no(word) or 0 for word in words), default=-1)
                elif question in full:
                    missing = 0 if words else -1
                    found |= {f"{question}: {word}": 1 if word in words else missing for word in said[question]}
                else:
                    found |= dict.fromkeys(words, 1)
            return found

        self.join({name: [labels(answers) for answers in by] for name, by in judged.items()})

    def join(self, judged: dict[str, list[dict[str, int]]]) -> None:
        """Images with the labels that each of their annotators gave: where they differ a label is unknown."""
        mark = re.compile(r"[0-9a-f]{8}-")  # Label Studio puts it before the name of an uploaded file
        places = (*places_of(self.source), *filter(None, [self.told.images]))
        marked = [name for name in map(self.name, judged) if mark.match(name)][:20]
        original = bool(marked) and not any(
            (place / name).is_file() for place in places for name in marked if not is_foreign(name, place)
        )
        several = differ = 0
        for name, by in judged.items():
            row = self.image(mark.sub("", self.name(name), count=1) if original else name, known=bool(by))
            if by:
                # What one did not answer the others decide; a class that one did not name is absent for that one.
                values = {each: {own.get(each, 0) for own in by} for each in set().union(*by)}
                said = {each: own - {-1} or {-1} for each, own in values.items()}
                differs = any(len(own) > 1 for own in said.values())
                for each, own in sorted(said.items()):
                    self.gathering.label(row, [each], own.pop() if len(own) == 1 else -1)
                several, differ = several + (len(by) > 1), differ + differs
        self.gathering.note(
            "several annotators", several, f"images; a label on which they differ is unknown ({differ:,} images)"
        )


def is_yes_no(words: set[str]) -> bool:
    """Whether answers say yes and no, or one of them, and nothing else but that it is unknown."""
    meant = set(map(yes_or_no, words))
    return None not in meant and not meant <= {-1}


def yes_or_no(word: str) -> int | None:
    """1, 0 or -1 (unknown) where an answer says so, else None."""
    plain = word.strip().lower()
    return -1 if is_blank(plain) else FOREIGN_WORDS.get(plain, label_of(plain))


def about_of(key: str) -> str:
    """Which of the keys that say more of a label this is, also of several labels (scores); "" for none."""
    word = key.lower()
    known = (*VALUE_KEYS, *CONFIDENCE_KEYS)
    return next((own for own in known if word in (own, f"{own}s", f"{own[:-1]}ies")), "")


def are_pairs(names: Any, values: Any) -> bool:
    return isinstance(names, list) and isinstance(values, list) and len(names) == len(values)


def is_said(value: Any) -> bool:
    """Whether a value is a number, or a word for yes or no, and so says something of the label beside it."""
    return isinstance(value, (int, float)) or (isinstance(value, str) and yes_or_no(value) in (0, 1))


def are_said(values: Iterable[Any]) -> bool:
    """Whether all values are yes, no, 1, 0 or blank, and not all of them blank."""
    return is_yes_no({"" if value is None else str(value) for value in values})


def is_id(key: str) -> bool:
    """Whether a key is called as a number of something is: id, scene_id, sceneId, index."""
    return re.fullmatch(r"(?i:id|idx|index|.*[_\W]ids?)|.*[a-z]I[dD]s?", key) is not None


def is_binary(found: list[dict[str, Any]], key: str) -> bool:
    """Whether there is nothing but 0, 1, -1, true, false and null under a key."""
    return all(isinstance(value := record.get(key), (int, float, type(None))) and value in (0, 1, -1, None)
               for record in found)  # fmt: skip


def name_in(record: dict[str, Any], key: str) -> str:
    """The name that stands under a key, also where it stands there in an object of its own; "" where there is none."""
    value = record.get(key)
    if isinstance(value, dict):
        value = next((value[name] for name in ("path", "file_name", "url") if value.get(name)), None)
    return str(value) if isinstance(value, (str, int)) else ""


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
        if file.sure(annotation.get("score"))
        for part in annotation.get("segments_info", (annotation,))
    ]
    columns = _categories(file, data["categories"], {category for _, category in pairs})
    # LVIS looks for some classes only: those that it neither found nor missed are unknown.
    partly = any("neg_category_ids" in image for image in images)
    rows: dict[Any, int] = {}
    owners: dict[int, Any] = {}
    again = []
    for image in images:
        name = image["file_name"] if "file_name" in image else "/".join(image["coco_url"].split("/")[-2:])
        row = rows[image["id"]] = gathering.image(file.name(name), file.split, not partly)
        if owners.setdefault(row, image["id"]) != image["id"]:
            again.append(name)
            gathering.merged.add(row)
        for category in image.get("neg_category_ids", ()):
            gathering.add(row, columns[category], 0)
    orphans, bare = 0, set(rows)
    for image_id, category in pairs:
        if image_id in rows:
            gathering.add(rows[image_id], columns[category])
            bare.discard(image_id)
        else:
            orphans += 1
    if again:
        what = f"images have the file name of another one, such as {short(again[0])}, and are one row with it"
        gathering.note("joined", len(again), what)
    gathering.note("left out", orphans, "annotations of images that their file does not list")
    gathering.note("nothing there", 0 if partly else len(bare), "images without an annotation: every class is absent")
    return "COCO"


def _categories(file: File, categories: Any, used: set[Any]) -> dict[Any, int]:
    """Columns by category id, in the order of the ids; a mapping of ids to names is one of them too."""
    if isinstance(categories, dict):  # whose keys are texts, as JSON has no others
        ids = {str(each): each for each in used}
        categories = [
            {
                **(each if isinstance(each, dict) else {"name": each}),
                "id": ids.get(key, int(key) if key.isdecimal() else key),
            }
            for key, each in categories.items()
        ]
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
        confidence = sure[at] if at < len(sure) else None
        # That a label is there its tool has decided already, however sure it was.
        if file.told.min_confidence is None or file.sure(confidence):
            yield str(names[str(number)])


def label_studio(file: File, data: Any) -> str | None:
    """Label Studio's JSON: choices, and the classes of boxes and outlines."""
    if not are_records(data, "data") or not {"annotations", "completions", "predictions"} & data[0].keys():
        return None
    judged: dict[str, list[Answers]] = {}
    left, plain = Counter[str](), set[str]()
    for task in data:
        texts = {key: text for key, text in task["data"].items() if isinstance(text, str)}
        key = file.told.image_column or next((key for key in ("image", "img", "url") if key in texts), min(texts))
        by = judged.setdefault(texts[key], [])
        for annotation in task.get("annotations") or task.get("completions") or ():
            if annotation.get("was_cancelled"):
                continue
            answers: Answers = {}
            for result in annotation["result"]:
                # Of a choice, a box, a brush …: its kind is the key of its names.
                kind = result.get("type", "")
                if kind.endswith(("labels", "choices")):
                    question = result.get("from_name", "")
                    answers.setdefault(question, []).extend(result["value"].get(kind, ()))
                    plain |= {question} if kind != "choices" else set()
                else:
                    left[kind] += 1
            by.append(answers)
    file.gathering.note("left out", left.total(), f"results that name no class: {', '.join(sorted(left))}")
    file.answers(judged, plain)
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
