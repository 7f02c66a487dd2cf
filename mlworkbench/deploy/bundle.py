"""Bundle: what lies beside an exported model, so that people use it without this package.

Names of the classes and all that decides (`labels.json`), the weights (`model.safetensors`), a checkpoint for plain
Ultralytics (`best.pt`) and a model card (`README.md`); beside ONNX also `predict.py`, `app.py`, and the model once more
in the form that taggers have (`tagger/`).
"""

import csv
import hashlib
import io
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
import yaml

from .. import __version__
from ..decisions.thresholds import HAND
from ..exceptions import RunFailed, WorkbenchError
from ..files import read_json, write_csv, write_json, write_whole
from ..network.model import exported_shape, for_plain_yolo
from ..runs import folder as folder_of
from ..runs.run import Run
from ..scoring.predictions import probabilities
from ..text import printable, shown, unmark_path
from .graph import edges, folded, last_step

STATIC = Path(__file__).parent / "static"
LABELS, CARD, WEIGHTS, ULTRALYTICS, TAGGER = "labels.json", "README.md", "model.safetensors", "best.pt", "tagger"
PREDICT, APP = "predict.py", "app.py"
FORMAT_VERSION = 1
TOLD = ("route", "loss", "epochs", "batch_size", "learning_rate", "seed")  # settings that the card names
AT_ONCE = 1_000  # images of one call of predict.py, whose paths must fit a command line


def write_bundle(folder: Path, run: Run, graph: Mapping[str, Any]) -> None:
    """Write into `folder`, which holds the exported model, what people need to use it.

    Parameters
    ----------
    graph : what was exported: "file", "format" ("onnx", "pt2" or "openvino"), "input" {"name", "dtype": "uint8",
        "size"}, "outputs" [names], "fold", "thresholds" {class: the one that goes with the graph}, "parity", "int8"
    """
    weights = (run.folder / folder_of.BEST).read_bytes()
    tags = {name: int(count) for name, count in zip(run.class_names, _positives(run), strict=True)}
    write_whole(folder / WEIGHTS, weights)
    write_whole(folder / ULTRALYTICS, ultralytics_checkpoint(run, graph["fold"]))
    write_json(folder / LABELS, _labels(run, graph, hashlib.sha256(weights).hexdigest()))
    if graph["format"] == "onnx":
        for name in (PREDICT, APP):
            write_whole(folder / name, (STATIC / name).read_bytes())
        _write_tagger(folder / TAGGER, folder / graph["file"], graph, tags)
    write_whole(folder / CARD, _card(run, graph, tags).encode())


def _labels(run: Run, graph: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    """The content of `labels.json`."""
    state, thresholds = run.state, run.thresholds().to_dict()
    return {
        "format_version": FORMAT_VERSION,
        **{name: graph[name] for name in ("file", "format", "input", "outputs", "fold", "int8", "parity")},
        "classes": [
            {"name": name, "threshold": float(graph["thresholds"][name]), **more}
            for name, more in zip(run.class_names, _zones(run, graph["fold"]), strict=True)
        ],
        "preprocessing": {
            "size": state["settings"]["image_size"],
            "resize": "the whole image to a square, bilinear, antialiased",
            "layout": "NCHW",
            "colour": "RGB",
            "range": "0..255",
            "orientation": "as EXIF says",
            "transparency": "on white",
            "deeper_than_8_bits": "the range that occurs is stretched to 0..255",
        },
        "weights": {
            "file": WEIGHTS,
            "sha256": sha256,
            "architecture": state["architecture"],
            "loss": state["settings"]["loss"],
            # These weights give raw logits; the graph has scale * logit + shift in it already.
            "calibration": {
                name: {"scale": row["scale"], "shift": row["shift"], "threshold": row["threshold"]}
                for name, row in thresholds["classes"].items()
            },
        },
        "tuned": {name: thresholds[name] for name in ("split", "objective", "target", "confidence")},
        "versions": {"exported by mlworkbench": __version__, **state["versions"]},
        "labels_sha256": state["labels_sha256"],
    }


def _zones(run: Run, fold: bool) -> list[dict[str, list[float]]]:
    """Of each class as `review` the cuts, in the graph's probabilities, between which an image goes to a person."""
    thresholds, names = run.thresholds(), run.class_names
    if thresholds.review is None:
        return [{} for _ in names]
    cuts = thresholds.zones(names)
    if fold:
        cuts = probabilities(np.stack([edges(cut) for cut in cuts]) - edges(thresholds.aligned(names)))
    return [{"review": cut} for cut in cuts.T.tolist()]


def _last_step(run: Run, fold: bool) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of each class's logit in the graph, float64 [C], see `graph.last_step`."""
    thresholds, names = run.thresholds(), run.class_names
    given = thresholds.calibration
    ordered = None if given is None else given[:, [thresholds.class_names.index(name) for name in names]]
    return last_step(ordered, thresholds.aligned(names), fold)


def ultralytics_checkpoint(run: Run, fold: bool) -> bytes:
    """A checkpoint whose classes a plain `YOLO` knows, which gives the same probabilities from it as the graph.

    Calibration, and with `fold` the thresholds, are in its last layer; it shows the network the whole image, as the
    workbench does. A network that was trained by a softmax keeps that, and has no calibration in it: what torch has of
    layers cannot say it.
    """
    size, independent = run.state["settings"]["image_size"], not run.model.exclusive
    net: Any = for_plain_yolo(run.model.net, size, independent)
    if independent:
        net.model[-1].linear = folded(net.model[-1].linear, *_last_step(run, fold))
    data = io.BytesIO()
    torch.save({"model": net, "train_args": {"task": "classify", "imgsz": exported_shape(size)}}, data)
    return data.getvalue()


def _positives(run: Run) -> np.ndarray:
    """Positives of each class among the training images; 0 where the labels are not here."""
    try:
        table = run.split_table()
    except WorkbenchError:
        return np.zeros(len(run.class_names), int)
    return (table.y[table.split == "train"] == 1).sum(0)


def _write_tagger(folder: Path, model: Path, graph: Mapping[str, Any], tags: Mapping[str, int]) -> None:
    """The files of a tagger, as imgutils' MultiLabelTIMMModel reads them.

    A name is written as it is, also one that a spreadsheet takes for a formula: readers compare names.
    """
    rows = [(c, name, 0, count, float(graph["thresholds"][name])) for c, (name, count) in enumerate(tags.items())]
    size = graph["input"]["size"]
    steps = [
        {"type": "convert_rgb", "force_background": "white"},
        {"type": "resize", "size": [size, size], "interpolation": "bilinear", "max_size": None, "antialias": True},
        {"type": "to_tensor"},
    ]
    write_whole(folder / "model.onnx", _tagger_model(model))
    header = ("tag_id", "name", "category", "count", "best_threshold")
    write_whole(folder / "selected_tags.csv", write_csv(rows, header))
    write_json(folder / "preprocess.json", {"test": steps, "val": steps})
    write_json(folder / "categories.json", [{"category": 0, "name": "general"}])


def _tagger_model(file: Path) -> bytes:
    """The ONNX model with the names that imgutils has: "input", float32 in 0..1, and "prediction"."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(file)
    inside, (fed,), outputs = model.graph, model.graph.input, model.graph.output
    inside.initializer.append(helper.make_tensor("tagger_255", TensorProto.FLOAT, [], [255.0]))
    nodes = [
        helper.make_node("Mul", ["input", "tagger_255"], ["tagger_scaled"]),
        helper.make_node("Round", ["tagger_scaled"], ["tagger_rounded"]),
        helper.make_node("Cast", ["tagger_rounded"], [fed.name], to=TensorProto.UINT8),
        *inside.node,
        helper.make_node("Identity", ["probabilities"], ["prediction"]),
    ]
    fed.name, fed.type.tensor_type.elem_type = "input", TensorProto.FLOAT
    del inside.node[:]
    inside.node.extend(nodes)
    next(output for output in outputs if output.name == "probabilities").name = "prediction"
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _card(run: Run, graph: Mapping[str, Any], tags: Mapping[str, int]) -> str:
    """The model card: Markdown with YAML before it, as hubs have it."""
    state, thresholds = run.state, run.thresholds().to_dict()
    scores = run.folder / folder_of.metrics_file("test")
    tested = read_json(scores) if scores.exists() else None
    classes = []
    for name, row in thresholds["classes"].items():
        found = tested["classes"][name] if tested else {}
        # Scores at other thresholds than these say nothing of these.
        there = found.get("threshold") == row["threshold"]
        at = [shown(_value(found, key)) if there else "–" for key in ("precision", "recall", "f1")]
        cells = [f"{row['threshold']:.4f}", f"{tags[name]:,}", shown(_value(found, "ap")), *at]
        classes.append((markdown(name), *cells, found.get("support", "–")))
    metrics = {"mAP": tested["map"], "F1 macro": tested["f1_macro"], "F1 micro": tested["f1_micro"]} if tested else {}
    name = run.folder.resolve().name
    front = {
        "license": "agpl-3.0",
        "library_name": "ultralytics",
        "pipeline_tag": "image-classification",
        "tags": ["multi-label", "image-classification", "ultralytics", "yolo", graph["format"]],
    }
    if metrics:
        values = [{"type": key, "value": round(value, 4)} for key, value in metrics.items() if value is not None]
        task = {"type": "image-classification", "name": "multi-label image classification"}
        data = {"type": "custom", "name": "test split", "split": "test"}
        front["model-index"] = [{"name": name, "results": [{"task": task, "dataset": data, "metrics": values}]}]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((STATIC / "card.md.j2").read_text(encoding="utf-8")).render(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000),
        name=markdown(name),
        graph=graph,
        size=state["settings"]["image_size"],
        network=markdown(str(state["architecture"].get("yaml_file", "an Ultralytics classification network"))),
        settings={key: markdown(str(value)) for key, value in state["settings"].items() if key in TOLD},
        splits=Counter(run.splits().values()),
        counted=any(tags.values()),
        thresholds=thresholds,
        hand=HAND,
        zones=run.thresholds().review is not None,
        calibrated=run.thresholds().calibration is not None,
        exclusive=run.model.exclusive,
        classes=classes,
        metrics={key: shown(_value(metrics, key)) for key in metrics},
        interval=[shown(_value(tested["intervals"]["map"], end)) for end in ("low", "high")] if tested else [],
        undefined=tested["undefined"] if tested else 0,
        version=__version__,
        versions=state["versions"],
    )


def _value(scores: Mapping[str, Any], key: str) -> float:
    """A score; NaN for one that is undefined, which JSON has as null."""
    value = scores.get(key)
    return float("nan") if value is None else float(value)


def markdown(text: str) -> str:
    """Text as Markdown shows it letter by letter, in a table too: nothing in it is a sign of Markdown, HTML or TeX."""
    return re.sub(r"[^\w\s-]|^[_-]|_$|(?<=_)_", lambda sign: f"&#{ord(sign[0])};", printable(text))


def compare_from_files(folder: Path, run: Run, paths: Sequence[str], root: Path) -> dict[str, Any]:
    """The bundle's `predict.py` held against the workbench, from image files.

    Both decode and shrink each image themselves (Pillow's way and torch's differ by one level in 255), so they need not
    agree to the last digit.

    Returns
    -------
    {"images": how many, "largest_difference": in p, "decisions_changed": of images x classes}

    Raises
    ------
    WorkbenchError : predict.py failed, or did not read an image that the workbench read
    """
    fold = read_json(folder / LABELS)["fold"]
    raw = run.predict(paths, root, raw=True)
    scale, shift = _last_step(run, fold)
    p, present = _said(folder, list(raw.paths), root, len(run.class_names))
    return {
        "images": len(raw),
        "largest_difference": float(np.abs(p - probabilities(scale * raw.logits + shift)).max()),
        "decisions_changed": int((present != run.thresholds().decide(raw)).sum()),
    }


def _said(folder: Path, paths: Sequence[str], root: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float [N, C] and decisions bool [N, C] of `predict.py`, in a process of its own."""
    found: dict[str, list[str]] = {}
    for start in range(0, len(paths), AT_ONCE):
        command = [sys.executable, str((folder / PREDICT).resolve()), "--", *paths[start : start + AT_ONCE]]
        done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False)
        if done.returncode:
            raise RunFailed(f"{folder / PREDICT} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        rows = csv.reader(io.StringIO(done.stdout, newline=""))
        found |= {unmark_path(row[0]): row[1 : 1 + 2 * classes] for row in list(rows)[1:]}
    if unread := [path for path in paths if str(Path(path)) not in found]:
        raise RunFailed(f"{folder / PREDICT} does not read {unread[0]!r}, which the workbench reads")
    cells = np.array([found[str(Path(path))] for path in paths], float)
    p, present = np.hsplit(cells, 2)
    return p, present == 1
