"""What lies beside an exported model says what the workbench says, also where this package is not."""

import csv
import hashlib
import html
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mistune
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from networks import lively
from PIL import Image
from scipy.special import expit, logit

from mlworkbench import Run, Thresholds, WorkbenchError, build_model, predict
from mlworkbench.data import images
from mlworkbench.deploy.bundle import STATIC, compare_from_files, markdown, ultralytics_checkpoint, write_bundle
from mlworkbench.deploy.graph import Graph, last_step, write_graph
from mlworkbench.network.batches import squared
from mlworkbench.network.model import load_weights, save_weights
from mlworkbench.runs import folder as folder_of

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [export]")
pytest.importorskip("onnxscript", reason="the extra [export]")

NAMES = ["cat", "<script>alert(1)</script>", "$x^2$ | *a* [b](c) `d`", "=1+1", "a/b\r\nc", "猫🐈", "N/A", "_x_ & -"]
SIZE = 64
CLOSE = 1e-4  # in p; the head here is steep, and magnifies what fp32 leaves open
TRAINED = {"epochs": 1, "seed": 0}
# Blocks what a bundle has to do without.
WITHOUT = """
import sys
class Block:
    def find_spec(self, name, *_):
        if name.split(".")[0] in sys.argv[1].split(","):
            raise ImportError(f"{name} is not to be here")
sys.meta_path.insert(0, Block())
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of images in every kind that has its own way through a decoder."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(3)

    def noise(w, h, channels=3):
        coarse = rng.integers(0, 256, (h // 8 + 2, w // 8 + 2, channels), dtype=np.uint8)
        return Image.fromarray(coarse.squeeze()).resize((w, h), Image.Resampling.BICUBIC)

    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "deep").mkdir()
    noise(900, 700).save(folder / "deep" / "turned.jpg", exif=exif)
    noise(333, 257).save(folder / "=1+1.jpg")
    noise(40, 31).convert("CMYK").save(folder / "-small.jpg")
    noise(200, 100, 4).save(folder / "clear.png")
    noise(SIZE, SIZE).save(folder / "as is.png")
    noise(150, 150, 1).convert("1").save(folder / "ж.png")
    Image.fromarray(rng.integers(900, 9_000, (80, 70)).astype(np.uint16)).save(folder / "deep.png")
    noise(90, 200).quantize(16).save(folder / "palette.gif", transparency=3)
    noise(120, 90).save(folder / "a.webp", quality=90)
    return folder


@pytest.fixture(scope="module")
def made(pictures, tmp_path_factory):
    """A run that nobody trained: random weights whose probabilities are all over 0..1, calibration and thresholds."""
    torch.manual_seed(1)
    model, rng = lively(build_model("yolov8n-cls.yaml", NAMES), SIZE), np.random.default_rng(0)
    run = Run(tmp_path_factory.mktemp("runs") / "a_run", root=pictures)
    paths = sorted(str(file.relative_to(pictures)) for file in pictures.rglob("*.*"))
    run.write_state(
        format_version=1, class_names=NAMES, status="finished", image_root=str(pictures),
        settings={"image_size": SIZE, "batch_size": 4, "workers": 0, "loss": "bce", "route": "loop"} | TRAINED,
        architecture=model.architecture, versions={"ultralytics": "8", "torch": "2"}, labels_sha256="0",
        labels_file="labels.csv",
    )  # fmt: skip
    (run.folder / "checkpoints").mkdir()
    (run.folder / folder_of.BEST).write_bytes(save_weights(model))
    pd.DataFrame({"image_path": paths, "split": "val"}).to_csv(run.folder / folder_of.SPLITS, index=False)
    calibration = np.stack([rng.uniform(0.5, 2, len(NAMES)), rng.normal(0, 1, len(NAMES))])
    values = rng.uniform(0.2, 0.8, len(NAMES)).astype(np.float32)
    run.save_thresholds(Thresholds(NAMES, values, "val", "f1", calibration=calibration))
    return run


def exported(run, folder, fold=False, format="onnx"):
    """A graph of this run in `folder`, and its bundle around it."""
    folder.mkdir()
    thresholds = run.thresholds()
    scale, shift = last_step(thresholds.calibration, thresholds.values, fold)
    outputs = ["probabilities"]
    if format == "onnx":
        outputs = write_graph(Graph(run.model, scale, shift), folder, format, SIZE)
    said = {name: 0.5 if fold else float(t) for name, t in zip(NAMES, thresholds.values, strict=True)}
    graph = {
        "file": f"model.{format}", "format": format, "input": {"name": "images", "dtype": "uint8", "size": SIZE},
        "outputs": outputs, "fold": fold, "thresholds": said, "parity": {"largest_difference": 1e-6}, "int8": None,
    }  # fmt: skip
    write_bundle(folder, run, graph)
    return folder


@pytest.fixture(scope="module")
def bundle(made, tmp_path_factory):
    return exported(made, tmp_path_factory.mktemp("bundles") / "plain")


@pytest.fixture(scope="module")
def folded(made, tmp_path_factory):
    return exported(made, tmp_path_factory.mktemp("bundles") / "folded", fold=True)


@pytest.fixture(scope="module")
def alone():
    """predict.py as a module."""
    spec = importlib.util.spec_from_file_location("predict_alone", STATIC / "predict.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def called(folder, *sources, without="mlworkbench,torch,torchvision,ultralytics,pandas,scipy", **options):
    """predict.py run in a process that has nothing else."""
    code = WITHOUT + "import runpy; sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, without, folder / "predict.py", *sources]
    return subprocess.run(command, capture_output=True, check=False, **options)


def rows_of(text):
    return list(csv.reader(io.StringIO(text.decode(), newline="")))


def test_predict_py_alone_says_what_the_workbench_says(made, bundle, pictures):
    said, bad = predict(made, pictures)
    assert not bad
    done = called(bundle, pictures)
    assert done.returncode == 0, done.stderr
    header, *rows = rows_of(done.stdout)
    assert header == list(said.columns)
    assert [row[0] for row in rows] == [str(pictures / path) for path in said.image_path]
    cells = np.array([row[1:] for row in rows], float)
    p = said.iloc[:, 1 : 1 + len(NAMES)].to_numpy()
    assert p.min() < 0.05 and p.max() > 0.95 and p.std(0).min() > 0.05
    np.testing.assert_allclose(cells[:, : len(NAMES)], p, atol=CLOSE)
    np.testing.assert_array_equal(cells[:, len(NAMES) :], said.iloc[:, 1 + len(NAMES) :].to_numpy())


@pytest.mark.parametrize("fold", [False, True])
def test_predict_py_sends_to_a_person_what_the_workbench_sends(made, pictures, tmp_path, fold):
    run = Run(shutil.copytree(made.folder, tmp_path / "run"), root=pictures)
    p = predict(run, pictures)[0].iloc[:, 1 : 1 + len(NAMES)].to_numpy()
    chosen, between = run.thresholds(), np.sort(p, 0)
    between = (between[1:] + between[:-1]) / 2  # cuts that lie between the images, and that not all classes have
    cuts = np.stack([np.minimum(between[1], chosen.values), np.maximum(between[-2], chosen.values)])
    cuts[:, 0] = chosen.values[0]
    run.save_thresholds(replace(chosen, review=cuts.astype(np.float32)))
    said = predict(run, pictures)[0]
    folder = exported(run, tmp_path / "out", fold)
    done = called(folder, pictures)
    assert done.returncode == 0, done.stderr
    header, *rows = rows_of(done.stdout)
    wanted = said.iloc[:, 1 + 2 * len(NAMES) :]
    assert header == list(said.columns) and [row[-len(NAMES) :] for row in rows] == wanted.astype(str).values.tolist()
    assert wanted.to_numpy()[:, 1:].any(0).all() and not wanted.to_numpy()[:, 0].any()
    for row in json.loads((folder / "labels.json").read_text(encoding="utf-8"))["classes"]:
        low, high = row["review"]
        assert low <= row["threshold"] <= high
    assert compare_from_files(folder, run, sorted(said.image_path), pictures)["decisions_changed"] == 0
    assert "a person should look at the image" in (folder / "README.md").read_text(encoding="utf-8")


def test_it_decodes_to_the_bit_what_the_workbench_decodes(alone, pictures, tmp_path):
    files = sorted(file for file in pictures.rglob("*.*") if file.is_file())
    assert len(files) == 9
    for file in files:
        ours = squared(images.load_image(str(file.relative_to(pictures)), pictures, SIZE), SIZE)
        np.testing.assert_array_equal(alone.decode(file, SIZE), ours, err_msg=str(file))
    rng = np.random.default_rng(0)
    for height, width, size in ((1, 1, 32), (7, 500, 96), (375, 500, 224), (96, 96, 96), (64, 1000, 33), (900, 31, 64)):
        pixels = rng.integers(0, 2, (height, width, 3), dtype=np.uint8) * 255
        np.testing.assert_array_equal(alone.shrunk(pixels, size), squared(pixels, size))


def test_it_takes_the_files_that_the_workbench_takes(alone, tmp_path):
    assert alone.FORMATS == images.FORMATS and alone.MAX_PIXELS == images.MAX_PIXELS
    for number, suffix in enumerate((*images.SUFFIXES, ".txt", ".pdf", ".eps", ".svg")):
        (tmp_path / f"{number:02}{suffix}").touch()
    (tmp_path / "._00.jpg").touch()
    assert [file.suffix for file in alone.images_in(tmp_path)] == list(images.SUFFIXES)


def test_what_it_cannot_read_is_told_and_the_rest_predicted(bundle, pictures, tmp_path):
    shutil.copy(pictures / "=1+1.jpg", tmp_path / "=1+1.jpg")
    (tmp_path / "b.jpg").write_bytes((pictures / "=1+1.jpg").read_bytes()[:2000])
    (tmp_path / "c.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    done = called(bundle, "=1+1.jpg", "b.jpg", "c.png", cwd=tmp_path)
    assert done.returncode == 0 and [row[0] for row in rows_of(done.stdout)] == ["image_path", "./=1+1.jpg"]
    told = done.stderr.decode().splitlines()
    assert len(told) == 2 and told[0].startswith("set aside  'b.jpg': ") and told[1].startswith("set aside  'c.png': ")
    done = called(bundle, "b.jpg", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.decode().endswith("error: no image that can be read\n")


def test_labels_json_says_all_that_decides(made, bundle, pictures):
    labels = json.loads((bundle / "labels.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in labels["classes"]] == NAMES
    np.testing.assert_array_equal([row["threshold"] for row in labels["classes"]], made.thresholds().values)
    assert labels["parity"] == {"largest_difference": 1e-6} and labels["preprocessing"]["size"] == SIZE
    weights = labels["weights"]
    assert weights["sha256"] == hashlib.sha256((bundle / weights["file"]).read_bytes()).hexdigest()
    again = load_weights(build_model(weights["architecture"], NAMES), bundle / weights["file"]).eval()
    paths = sorted(made.splits())
    seen = np.stack([squared(images.load_image(path, pictures, SIZE), SIZE) for path in paths])
    with torch.no_grad():
        raw = again(torch.from_numpy(seen) / 255).numpy()
    rows = [weights["calibration"][name] for name in NAMES]
    p = expit(raw * [row["scale"] for row in rows] + [row["shift"] for row in rows])
    np.testing.assert_allclose(p, made.predict(paths, pictures).probabilities, atol=CLOSE)


def test_a_plain_yolo_gives_the_same_probabilities_without_this_package(made, bundle, folded, pictures, tmp_path):
    seen = np.stack([squared(images.load_image(path, pictures, SIZE), SIZE) for path in made.splits()])
    np.save(tmp_path / "seen.npy", seen)
    softmax = Run(made.folder, root=pictures)
    softmax.model.exclusive = True
    (tmp_path / "softmax.pt").write_bytes(ultralytics_checkpoint(softmax, fold=True))
    code = """
import shutil, numpy, torch
from ultralytics import YOLO
images = torch.from_numpy(numpy.load("seen.npy")) / 255
for number, file in enumerate(sys.argv[2:]):
    model = YOLO(file)
    numpy.save(f"{number}.npy", numpy.stack([result.probs.data for result in model.predict(images, verbose=False)]))
    for size in (SIZE, 2 * SIZE):
        whole = model.predict(sys.argv[-1].replace("softmax.pt", "wide.png"), imgsz=size, verbose=False)[0]
        numpy.save(f"file{number}-{size}.npy", whole.probs.data)
    exported = YOLO(shutil.copy(file, "copy.pt")).export(format="torchscript", verbose=False)
    whole = YOLO(exported, task="classify").predict("wide.png", verbose=False)[0]
    numpy.save(f"file{number}-exported.npy", whole.probs.data)
print(ascii(list(model.names.values())))
""".replace("SIZE", str(SIZE))
    # As wide as can be: a crop out of its middle would not see the ends.
    wide = Image.fromarray(np.concatenate(list(seen.transpose(0, 2, 3, 1)), 1))
    wide.save(tmp_path / "wide.png")
    files = [bundle / "best.pt", folded / "best.pt", tmp_path / "softmax.pt"]
    command = [sys.executable, "-c", WITHOUT + code, "mlworkbench", *files]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ascii(NAMES)
    plain, at_half, exclusive = (np.load(tmp_path / f"{number}.npy") for number in range(3))
    said, t = made.predict(made.splits(), pictures), made.thresholds().values
    np.testing.assert_allclose(plain, said.probabilities, atol=CLOSE)
    np.testing.assert_allclose(
        at_half, expit(logit(said.probabilities.astype(float)) - logit(t.astype(float))), atol=CLOSE
    )
    np.testing.assert_array_equal(at_half >= 0.5, made.thresholds().decide(said))
    np.testing.assert_allclose(exclusive, torch.from_numpy(said.logits).softmax(1), atol=CLOSE)
    ours = made.predict(["wide.png"], tmp_path).probabilities[0]
    for seen_as, off in ((SIZE, 0.03), (2 * SIZE, 0.03), ("exported", 0.15)):  # Pillow's resize; two of them
        np.testing.assert_allclose(np.load(tmp_path / f"file0-{seen_as}.npy"), ours, atol=off)
    assert build_model(str(bundle / "best.pt"), ["other"]).trained  # for us too it holds nothing strange


def test_the_card_shows_every_name_letter_by_letter(made, bundle):
    _, front, body = (bundle / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    head = yaml.safe_load(front)
    assert (head["license"], head["pipeline_tag"], head["library_name"]) == (
        "agpl-3.0", "image-classification", "ultralytics",
    )  # fmt: skip
    page = mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "url", "math"])(body)
    cells = re.findall(r"<tr>\s*<td>(.*?)</td>", page, re.DOTALL)
    assert [html.unescape(cell) for cell in cells] == [name if "\r" not in name else repr(name) for name in NAMES]
    assert not re.search(r"<(script|img|a|em)\b", page.partition("<table>")[2].partition("</table>")[0])
    assert "Not evaluated on a test split" in page and "a_run" in html.unescape(page)
    assert "objective <code>f1</code>" in page and "calibrated there" in page


@pytest.mark.parametrize("text", ["a_b", "snake_case_name", "yolo-n", "Ähre 猫"])
def test_ordinary_names_stay_readable_in_the_cards_source(text):
    assert markdown(text) == text


def test_the_card_shows_scores_only_where_they_are_of_these_thresholds(made, tmp_path):
    run = Run(tmp_path / "a run", root=made.root)
    shutil.copytree(made.folder, run.folder)
    thresholds = run.thresholds()
    (run.folder / "metrics").mkdir()
    row = {"ap": 0.81234, "precision": 0.71234, "recall": 0.61234, "f1": None, "support": 7}
    rows = {name: {**row, "threshold": float(t)} for name, t in zip(NAMES, thresholds.values, strict=True)}
    rows["cat"]["threshold"] = 0.123
    interval = {"map": {"low": 0.7, "high": 0.9}}
    scores = {"map": 0.8, "f1_macro": None, "f1_micro": 0.6, "classes": rows, "undefined": 0, "intervals": interval}
    (run.folder / "metrics" / "test.json").write_text(json.dumps(scores))
    card = (exported(run, tmp_path / "out", format="pt2") / "README.md").read_text(encoding="utf-8")
    cat, other = (line for line in card.splitlines() if line.startswith(("| cat", "| N&#47;A")))
    assert cat.endswith(" | 0.8123 | – | – | – | 7 |") and other.endswith(" | 0.8123 | 0.7123 | 0.6123 | – | 7 |")
    head = yaml.safe_load(card.split("---\n")[1])
    (result,) = head["model-index"][0]["results"]
    assert [m["type"] for m in result["metrics"]] == ["mAP", "F1 micro"] and "mAP 0.8000, F1 macro –" in card
    assert "torch.export.load" in card and "predict.py" not in card
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "labels.json", "README.md", "model.safetensors", "best.pt",
    }  # fmt: skip
    run.save_thresholds(0.3)
    card = (exported(run, tmp_path / "by hand", format="openvino") / "README.md").read_text(encoding="utf-8")
    assert "Set by hand." in card and "Chosen" not in card and "INFERENCE_PRECISION_HINT" in card


def test_a_tagger_has_the_same_names_thresholds_and_probabilities(made, bundle, folded, pictures):
    said = made.predict(made.splits(), pictures)
    seen = np.stack([squared(images.load_image(path, pictures, SIZE), SIZE) for path in said.paths])
    tags = pd.read_csv(bundle / "tagger" / "selected_tags.csv", keep_default_na=False)  # as imgutils has it
    assert list(tags.columns) == ["tag_id", "name", "category", "count", "best_threshold"]
    assert list(tags.name) == NAMES
    session = onnxruntime.InferenceSession(bundle / "tagger" / "model.onnx")
    (p,) = session.run(["prediction"], {"input": seen.astype(np.float32) / 255})
    np.testing.assert_allclose(p, said.probabilities, atol=CLOSE)
    np.testing.assert_array_equal(p >= tags.best_threshold.to_numpy(), made.thresholds().decide(said))
    assert set(pd.read_csv(folded / "tagger" / "selected_tags.csv").best_threshold) == {0.5}
    steps = json.loads((bundle / "tagger" / "preprocess.json").read_text())["test"]
    assert [step["type"] for step in steps] == ["convert_rgb", "resize", "to_tensor"] and steps[1]["size"] == [
        SIZE,
        SIZE,
    ]


def test_a_bundle_is_the_same_each_time_and_names_no_place_of_this_machine(made, bundle, tmp_path):
    again = exported(made, tmp_path / "again")
    files = sorted(file.relative_to(bundle) for file in bundle.rglob("*") if file.is_file())
    assert len(files) == 11
    for file in files:
        content = (again / file).read_bytes()
        assert content == (bundle / file).read_bytes(), file
        for place in (made.folder, made.root, Path.home(), STATIC.parents[2]):
            assert len(str(place)) < 6 or str(place).encode() not in content, file


def test_predict_py_is_held_against_the_workbench(made, bundle, folded, pictures, tmp_path):
    paths = list(made.splits())
    for folder in (bundle, folded):
        found = compare_from_files(folder, made, paths, pictures)
        assert found.pop("largest_difference") < CLOSE and found == {"images": 9, "decisions_changed": 0}
    other = shutil.copytree(bundle, tmp_path / "other")
    labels = json.loads((other / "labels.json").read_text(encoding="utf-8"))
    labels["classes"][0]["threshold"] = 1.0
    (other / "labels.json").write_text(json.dumps(labels))
    there = int(made.thresholds().decide(made.predict(paths, pictures))[:, 0].sum())
    assert compare_from_files(other, made, paths, pictures)["decisions_changed"] == there > 0
    (other / "predict.py").write_text((other / "predict.py").read_text() + "\nraise SystemExit('error: no')\n")
    with pytest.raises(WorkbenchError, match=r"other.predict\.py failed: error: no"):
        compare_from_files(other, made, paths, pictures)
