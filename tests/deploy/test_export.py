"""Exports: nothing is there that the workbench would contradict, and nothing of anybody else's is replaced."""

import json
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import HOSTILE_NAMES
from networks import untrained_run
from sklearn.metrics import average_precision_score

from mlworkbench import Predictions, Run, Thresholds, WorkbenchError, calibrate, export, tune_thresholds
from mlworkbench import deploy as room
from mlworkbench.cli import main
from mlworkbench.deploy.graph import open_graph
from mlworkbench.deploy.int8 import cost, refuse_loss, told
from mlworkbench.exceptions import RunFailed
from mlworkbench.network.batches import ImageDataset

exporting = sys.modules["mlworkbench.deploy.export"]
NAMES = [*HOSTILE_NAMES[:3], "=1+1, a/b\n犬🐕"]
pytest.importorskip("onnxscript", reason="ONNX is what most of these export")
pytest.importorskip("onnxruntime", reason="ONNX is what most of these export")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with thresholds that are probabilities of its own images, calibrated."""
    run = untrained_run(tmp_path_factory.mktemp("made"), NAMES)
    run.save_thresholds(tune_thresholds(calibrate(run.predictions("val", raw=True)), "recall", 0.8))
    return run


@pytest.fixture
def run(made, tmp_path):
    """The same run, to be written to."""
    return Run(shutil.copytree(made.folder, tmp_path / "own"))


@pytest.fixture(autouse=True)
def told_to_bundle(monkeypatch):
    """What the bundle was told; it writes `labels.json` alone."""
    told = {}

    def write(folder, run, graph):
        told.update(graph)
        (folder / "labels.json").write_text(json.dumps(graph))

    stub = SimpleNamespace(write_bundle=write)
    monkeypatch.setitem(sys.modules, "mlworkbench.deploy.bundle", stub)
    monkeypatch.setattr(room, "bundle", stub, raising=False)
    return told


def pixels_of(run, paths):
    dataset = ImageDataset(paths, run.root, None, 32)
    return np.stack([dataset.decode(row) for row in range(len(paths))])


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("loss", ["bce", "softmax"])
def test_whoever_loads_it_decides_as_the_run_does_even_on_the_threshold(run, tmp_path, told_to_bundle, fold, loss):
    """Each threshold here is the very probability of an image."""
    run.write_state(settings={**run.state["settings"], "loss": loss})
    if loss == "softmax":
        known = run.predictions("val", raw=True)
        known = replace(run.predict(known.paths, run.root, raw=True), y=known.y, split="val")
        run.write_predictions(known, "val")
        known = calibrate(known)
        p = np.sort(known.probabilities, axis=0)  # the image that is farthest above the next, beyond all rounding
        limits = np.take_along_axis(p, 1 + np.diff(p, axis=0).argmax(0)[None], 0)[0]
        run.save_thresholds(replace(Thresholds.of(limits, NAMES), calibration=known.calibration))
    val, thresholds = run.predictions("val"), run.thresholds()
    assert (val.probabilities == thresholds.values).any(0).all()
    done = export(run, tmp_path / "out", fold=fold)
    p = open_graph(tmp_path / "out/model.onnx")(pixels_of(run, val.paths))["probabilities"]
    limits = [told_to_bundle["thresholds"][name] for name in NAMES]
    assert ((p >= np.array(limits, np.float32)) == thresholds.decide(val)).all()
    assert limits == [0.5] * 4 if fold else np.abs(np.array(limits) - thresholds.values).max() < 5e-5
    assert fold or np.abs(p - val.probabilities).max() < 1e-5
    assert done.parity["images"] == 40 and done.parity["noise"] == 0 and done.parity["decisions_changed"] == 0
    assert 0 < done.parity["largest_difference"] < 1e-5 and done.fold is fold


def test_what_the_bundle_is_told(run, tmp_path, told_to_bundle):
    done = export(run.folder, tmp_path / "deep/out", maps=True, features=True)
    assert told_to_bundle["input"] == {"name": "images", "dtype": "uint8", "size": 32}
    assert told_to_bundle["outputs"] == ["probabilities", "maps", "features"]
    assert {told_to_bundle[name] for name in ("file", "format")} == {"model.onnx", "onnx"}
    assert list(told_to_bundle["thresholds"]) == NAMES and told_to_bundle["parity"] == done.parity
    assert done.files == ["labels.json", "model.onnx"] and 2 <= str(done).count("\n") < 6


@pytest.mark.parametrize("format", ["pt2", "openvino"])
def test_the_other_formats(run, tmp_path, format):
    if format == "openvino":
        pytest.importorskip("openvino", reason="the format openvino")
    done = export(run, tmp_path / "out", format)
    assert done.parity["largest_difference"] < 1e-5
    assert ("INFERENCE_PRECISION_HINT=f32" in str(done)) is (format == "openvino")


@pytest.mark.parametrize("fault", ["p", "decision", "nan"])
def test_a_model_that_says_otherwise_is_not_written(run, tmp_path, monkeypatch, capsys, fault):
    real = exporting.open_graph

    def wrong(file):
        engine = real(file)

        def run(images):
            p = engine(images)["probabilities"].copy()
            if fault == "decision":  # an image on its threshold falls below it
                p[:, 1] -= 6e-5
            else:
                p[0, 1] = p[0, 1] + 0.001 if fault == "p" else np.nan
            return {"probabilities": p}

        return run

    monkeypatch.setattr(exporting, "open_graph", wrong)
    before = sorted(entry.name for entry in tmp_path.iterdir())
    assert main(["export", str(run.folder), "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: the exported model is not the workbench's: ") and told.count("\n") == 1
    assert "most of class 'dog'" in told and ("move it a little" in told) is (fault == "decision")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before


def test_only_an_earlier_export_is_replaced(run, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    export(run, out, "pt2")
    export(run, out, "onnx")
    assert sorted(entry.name for entry in out.iterdir()) == ["labels.json", "model.onnx"]
    (out / "notes.txt").write_text("mine")
    with pytest.raises(WorkbenchError, match="holds notes.txt, which no export has written; choose another folder"):
        export(run, out)
    assert (out / "notes.txt").read_text() == "mine" and (out / "model.onnx").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/README.md").write_text("mine")
    with pytest.raises(WorkbenchError, match="holds README.md and no export of ours"):
        export(run, tmp_path / "mine")
    before = sorted(run.folder.rglob("*"))
    for place in (run.folder, run.root, run.folder / "run.json"):
        assert main(["export", str(run.folder), "--out", str(place)]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    assert sorted(run.folder.rglob("*")) == before


def test_an_export_that_fails_leaves_the_earlier_one(run, tmp_path, monkeypatch):
    export(run, tmp_path / "out", "pt2")
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(room.bundle, "write_bundle", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(run, tmp_path / "out", "pt2")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "own"]


def test_without_images_noise_is_looked_at(run, tmp_path):
    done = export(Run(run.folder, root=tmp_path), tmp_path / "out", "pt2")
    assert done.parity["images"] == 0 and done.parity["noise"] == 32 and "32 of noise" in str(done)
    run.write_state(image_root=str(tmp_path / "gone"))
    assert export(run.folder, tmp_path / "out", "pt2").parity["noise"] == 32
    with pytest.raises(WorkbenchError, match="int8 needs validation images, and .*gone, which is not here.*--root DIR"):
        export(run.folder, tmp_path / "out", int8=True)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"format": "torchscript"}, "format 'torchscript'; expected one of onnx, pt2, openvino"),
        ({"format": "openvino", "int8": True}, "int8 in the format openvino; expected onnx"),
        ({"int8": True, "max_drop": 1.5}, "max_drop is 1.5; expected a share of mAP in 0..1"),
    ],
)
def test_refusals_come_first(run, tmp_path, options, part):
    with pytest.raises(WorkbenchError) as caught:
        export(run, tmp_path / "out", **options)
    assert part in str(caught.value) and not (tmp_path / "out").exists()


def test_int8_and_what_it_costs(run, tmp_path, capsys, told_to_bundle):
    plain = export(run, tmp_path / "plain")
    command = ["export", str(run.folder), "--out", str(tmp_path / "out"), "--int8", "--max-drop"]
    assert main([*command, "1"]) == 0
    found = told_to_bundle["int8"]
    val = run.predictions("val")
    images = pixels_of(run, val.paths)
    p, q = (open_graph(tmp_path / name / "model.onnx")(images)["probabilities"] for name in ("plain", "out"))
    assert (tmp_path / "out/model.onnx").stat().st_size < 0.6 * (tmp_path / "plain/model.onnx").stat().st_size
    assert 0 < np.abs(p - q).max() == pytest.approx(found["largest_difference"]) and np.abs(p - q).max() < 0.2
    means = [np.mean([average_precision_score(val.y[:, c], s[:, c]) for c in range(4)]) for s in (p, q)]
    assert (
        found["map_lost"] == pytest.approx(means[0] - means[1]) and found["low"] <= found["map_lost"] <= found["high"]
    )
    limits = np.array(list(told_to_bundle["thresholds"].values()), np.float32)
    changed = ((p >= limits) != (q >= limits)).sum(0)
    assert found["decisions_changed"] == {name: n for name, n in zip(NAMES, changed.tolist(), strict=True) if n}
    assert plain.int8 is None and "int8: " in capsys.readouterr().out and found["max_drop"] == 1
    assert len(open_graph(tmp_path / "out/model.onnx")(images[:1])["probabilities"]) == 1


def test_int8_that_costs_too_much_is_refused(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "cost", lambda p, q, *rest: cost(p, 1 - p, *rest))
    assert main(["export", str(run.folder), "--out", str(tmp_path / "out"), "--int8"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: int8: 0.") and "at most 0.01 may be lost: --max-drop X allows more" in said
    assert not (tmp_path / "out").exists()


def test_a_cost_that_nobody_can_tell_is_refused(rng):
    p = rng.random((20, 4)).astype(np.float32)
    unknown = Predictions(np.arange(20).astype(object), NAMES, p, np.zeros((20, 4), np.int8), "val")
    found = cost(p, p, unknown, np.full(4, 0.5, np.float32))
    assert found["decisions_changed"] == {} and "–" in told(found)
    with pytest.raises(RunFailed, match="at most 1 may be lost"):
        refuse_loss(found, 1.0)


def test_a_tie_that_rounding_decides_is_told_and_no_fault():
    """Of two images whose p is the threshold but for 1e-7 one falls below it; farther off it would be a fault."""
    wanted = np.array([[0.5], [0.5 + 1e-7], [0.7]], np.float32)
    found = wanted - np.float32(2e-7)
    differs, ties = (found >= 0.5) != (wanted >= 0.5), np.abs(wanted - 0.5) <= exporting.TIE
    held = exporting._held(found, wanted, differs, ties, ["a"])
    assert held["decisions_changed"] == 0 and held["ties_changed"] == 2
    with pytest.raises(RunFailed, match="2 of 3 decisions changed"):
        exporting._held(found - np.float32(5e-6), wanted, differs, ties, ["a"])
