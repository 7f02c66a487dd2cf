"""The graph against numbers computed by hand from the network's own logits, in every format."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import SMALL, lively
from scipy.special import expit, logit

from mlworkbench import WorkbenchError, build_model
from mlworkbench.deploy import graph as graphs
from mlworkbench.deploy.graph import FILES, Graph, clear_of, edges, last_step, open_graph, write_graph
from mlworkbench.network.activation_maps import maps
from mlworkbench.network.infer import pooled_features
from mlworkbench.scoring.predictions import decide, probabilities

NAMES = ["cat", "dog", "hat", "fish"]
CALIBRATION = np.array([[0.6, 1.0, 1.7, 0.2], [-0.5, 0.0, 0.8, 1.1]])
LIMITS = np.array([0.2, 0.5, 0.43, 0.8], np.float32)


def needs(format):
    for package in graphs.NEEDS[format][1]:
        pytest.importorskip(package, reason=f"the format {format}")


def pixels(number, size):
    coarse = np.random.default_rng(1).integers(0, 256, (number, 3, 8, 8), np.uint8)
    return coarse.repeat(size // 8, 2).repeat(size // 8, 3)


def expected(model, images, fold):
    """Probabilities by the definition, in float64."""
    with torch.no_grad():
        z = model.net(torch.from_numpy(images).float() / 255)[1].double().numpy()
    if model.exclusive:
        share = np.exp(z - z.max(1, keepdims=True))
        z = logit(share / share.sum(1, keepdims=True))
    return expit(CALIBRATION[0] * z + CALIBRATION[1] - fold * logit(LIMITS.astype(float)))


@pytest.mark.parametrize("format", FILES)
@pytest.mark.parametrize(
    ("family", "exclusive", "fold"), [("yolov8n", False, True), ("yolo11n", False, False), ("yolo26n", True, True)]
)
def test_every_format_says_what_the_network_says(tmp_path, format, family, exclusive, fold):
    needs(format)
    model = lively(build_model(f"{family}-cls.yaml", NAMES), 64)
    model.exclusive = exclusive
    graph = Graph(model, *last_step(CALIBRATION, LIMITS, fold), maps=True, features=True)
    assert write_graph(graph, tmp_path, format, 64) == ["probabilities", "maps", "features"]
    engine, images = open_graph(tmp_path / FILES[format]), pixels(3, 64)
    p = expected(model, images, fold)
    assert p.std(0).min() > 0.01  # else it would be told from a constant by nothing
    for batch in (images, images[:1]):
        found = engine(batch)
        assert set(found) == {"probabilities", "maps", "features"}
        assert found["probabilities"].dtype == np.float32
        np.testing.assert_allclose(found["probabilities"], p[: len(batch)], atol=1e-4)
        limits = 0.5 if fold else LIMITS
        assert (decide(found["probabilities"], limits) == (expected(model, batch, False) >= LIMITS)).all()
        given = torch.from_numpy(batch)
        features = pooled_features(model, [(given, None, None)], torch.device("cpu"))
        for name, its in (("maps", maps(model, given / 255)), ("features", features)):
            np.testing.assert_allclose(found[name], its, atol=1e-4 * np.abs(its).max())


def small_graph(fold=False):
    torch.manual_seed(0)
    return Graph(lively(build_model(SMALL, NAMES), 32), *last_step(CALIBRATION, LIMITS, fold))


def test_the_model_stays_as_it_is():
    model = lively(build_model(SMALL, NAMES), 32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    Graph(model, *last_step(CALIBRATION, LIMITS, True), maps=True)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("format", FILES)
def test_files_are_the_same_each_time_and_name_no_path(tmp_path, format):
    needs(format)
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_graph(small_graph(), tmp_path / name, format, 32)
        made.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert made[0] == made[1]
    assert set(made[0]) == {FILES[format]} | ({"model.bin"} if format == "openvino" else set())
    for data in made[0].values():
        for odd in (b"site-packages", b".py", b"/mlworkbench", b"/torch", str(tmp_path).encode()):
            assert odd not in data


def test_openvino_tells_nobody(tmp_path):
    pytest.importorskip("openvino", reason="the format openvino")
    code = (
        "import sys, socket, urllib.request, multiprocessing, pathlib\n"
        "sys.path[:0] = sys.argv[2:]\n"
        "def told(*_, **__): print('told')\n"
        "urllib.request.urlopen = multiprocessing.Process.start = told\n"
        "import test_graph\n"
        "test_graph.write_graph(test_graph.small_graph(), pathlib.Path(sys.argv[1]), 'openvino', 32)\n"
        "print('done')"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, tmp_path, here, here.parent]
    home = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=home)
    assert done.stdout.split() == ["done"], done.stdout + done.stderr
    assert not (tmp_path / "intel").exists()  # where it would keep a number for this user


def test_onnx_declares_a_free_batch_and_the_size(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the format onnx")
    write_graph(small_graph(), tmp_path, "onnx", 32)
    made = onnx.load(tmp_path / "model.onnx").graph
    (given,), (out,) = made.input, made.output
    assert given.name == "images" and given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["batch", 3, 32, 32]
    assert out.name == "probabilities"
    assert [d.dim_param or d.dim_value for d in out.type.tensor_type.shape.dim] == ["batch", 4]


def test_the_least_logit_of_a_threshold(rng):
    limits = np.array([0, 1e-7, 0.02, 0.3, 0.5, 0.97, 1], np.float32)
    found = edges(limits)
    np.testing.assert_allclose(found[1:-1], logit(limits[1:-1].astype(float)), atol=1e-5)
    assert found[0] < -9e3 and 16 < found[-1] < 18  # where float32 knows no number below 1
    for z in (found + 1e-4, found - 1e-4, *rng.normal(0, 6, (500, 1))):
        present = decide(probabilities(np.broadcast_to(z, 7)), limits)
        assert (present == (np.broadcast_to(z, 7) >= found))[1:].all() and present[0]


def test_thresholds_of_0_and_1_fold_too():
    limits = np.array([0, 1, 0, 1], np.float32)
    graph = Graph(lively(build_model(SMALL, NAMES), 32), *last_step(None, limits, True))
    p = graph(torch.from_numpy(pixels(5, 32)))["probabilities"].numpy()
    assert (decide(p, np.full(4, 0.5)) == [True, False, True, False]).all()


def test_a_threshold_that_is_an_images_own_probability_is_moved_off_it(rng):
    p = rng.random((200, 4)).astype(np.float32)
    p[:, 3] = p[:, 3].round(1)
    limits = np.array([p[7, 0], p[9, 1], 0.0, 1.0], np.float32)
    limits[1] = np.nextafter(p[9, 1], np.float32(1))  # one that lies just below
    present = decide(p, limits)
    moved = clear_of(p, present, limits)
    assert (moved[:2] != limits[:2]).all() and (moved[2:] == limits[2:]).all()
    assert np.abs(moved - limits).max() < 5e-5
    for step in (-1e-6, 0, 1e-6):
        assert (decide(p + np.float32(step), moved)[:, :2] == present[:, :2]).all()


def test_decisions_that_were_taken_by_the_last_bit_are_kept():
    p = np.float32([[0.3], [0.6], [0.9]])
    limit = np.nextafter(p[1], np.float32(1))  # as the tuner saw it
    present = np.array([[False], [True], [True]])
    assert (decide(p, clear_of(p, present, limit)) == present).all()
    away = np.array([[True], [True], [True]])  # nothing that near can do that
    assert clear_of(p, away, limit) == limit


def test_a_threshold_that_is_near_no_image_stays(rng):
    p = rng.random((50, 2)).astype(np.float32)
    limits = np.array([0.3, 0.7], np.float32)
    p[np.abs(p - limits) < 0.01] = 0.5
    assert (clear_of(p, decide(p, limits), limits) == limits).all()
    assert (clear_of(p[:0], decide(p[:0], limits), limits) == limits).all()


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(graphs, "find_spec", lambda name: None if name == "onnxruntime" else 1)
    with pytest.raises(
        WorkbenchError, match=r'onnx needs onnxruntime, not installed: pip install "mlworkbench\[export\]"'
    ):
        graphs.refuse_missing("onnx")
    graphs.refuse_missing("pt2")
