import json
import logging
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHARED
from helpers import Hostile, blocks, ultralytics_checkpoint
from torch.utils._python_dispatch import TorchDispatchMode
from ultralytics.utils.checks import check_yaml

from mlworkbench import MultiLabelYOLO, WorkbenchError, build_model, fit
from mlworkbench.network.model import exported_shape, for_plain_yolo, load_weights, save_weights, softmax_odds

NAMES = ["cat", "dog", "hat"]
WEATHER = SHARED / "weights" / "weather4_yolo11n-cls.pt"


@pytest.mark.parametrize("family", ["yolov8n", "yolo11n", "yolo12n", "yolo26n"])
def test_every_family_gives_the_same_raw_logits_in_both_modes(family):
    model = build_model(f"{family}-cls.yaml", NAMES)
    for module in model.modules():  # running and batch statistics differ by design; the head must not
        if isinstance(module, torch.nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    images = torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        train, evaluation = model.train()(images), model.eval()(images)
    assert train.shape == (4, 3)
    torch.testing.assert_close(train, evaluation)
    assert (evaluation < 0).any() and not torch.allclose(evaluation.sum(1), torch.ones(4))  # no softmax
    assert model.architecture["nc"] == 3 and model.net.names == {0: "cat", 1: "dog", 2: "hat"}
    assert all(p.requires_grad for p in model.parameters())


def test_a_yaml_of_the_users_own_takes_the_number_of_classes(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "nc: 7\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\n"
        "  - [-1, 1, Conv, [32, 3, 2]]\nhead:\n  - [-1, 1, Classify, [nc]]\n"
    )
    model = build_model(tmp_path / "mine.yaml", NAMES)
    assert model.head.out_features == 3 and model(torch.rand(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize("classes", [3, 5])
def test_a_checkpoint_gives_all_but_its_last_layer_and_all_of_it_trains(tmp_path, classes):
    old = ultralytics_checkpoint(tmp_path / "old.pt", classes, stripped=True)
    model = build_model(tmp_path / "old.pt", NAMES)
    assert model.trained and all(p.requires_grad for p in model.parameters())
    theirs, ours = old.state_dict(), model.net.state_dict()
    for name, tensor in ours.items():
        if ".linear." in name:
            assert tensor.shape != theirs[name].shape or not torch.equal(tensor, theirs[name])  # even where it fits
        else:
            torch.testing.assert_close(tensor, theirs[name])
    logits = model.train()(torch.rand(2, 3, 64, 64))
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.skipif(not WEATHER.exists(), reason="the real checkpoint is not beside the project")
def test_a_real_checkpoint():
    model = build_model(WEATHER, NAMES)
    assert model.head.out_features == 3 and model.architecture["nc"] == 3
    assert model.eval()(torch.rand(1, 3, 64, 64)).isfinite().all()


def test_weights_round_trip_through_the_architectures_mapping(tmp_path):
    model = build_model("yolo11n-cls.yaml", NAMES).eval()
    (tmp_path / "w.safetensors").write_bytes(save_weights(model))
    again = load_weights(build_model(model.architecture, NAMES), tmp_path / "w.safetensors").eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), again(images))


def test_weights_that_do_not_fit_are_refused(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(save_weights(build_model("yolo11n-cls.yaml", NAMES)))
    with pytest.raises(WorkbenchError, match="does not fit its architecture"):
        load_weights(build_model("yolov8n-cls.yaml", NAMES), file)
    model = build_model("yolov8n-cls.yaml", NAMES)
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    file.write_bytes(save_weights(model))
    with pytest.raises(WorkbenchError, match=r"linear\.weight hold NaN"):
        load_weights(model, file)
    file.write_bytes(b"nonsense")
    with pytest.raises(WorkbenchError, match="no readable safetensors"):
        load_weights(model, file)
    with pytest.raises(WorkbenchError, match="does not exist"):
        load_weights(model, tmp_path / "absent.safetensors")


@pytest.mark.parametrize("home", ["ultralytics.data.augment", "ultralytics.yolo.data.augment"])
def test_a_checkpoint_of_ultralytics_8_0_is_no_damaged_file(tmp_path, monkeypatch, home):
    """Its transforms are classes that are gone since, and so are its loss and the homes of its layers."""
    from torchvision import transforms
    from ultralytics.nn import modules

    names = {home: ("CenterCrop", "ToTensor"), "ultralytics.yolo.utils.loss": ("v8ClassificationLoss",)}
    for place in ("ultralytics.yolo", "ultralytics.yolo.data", "ultralytics.yolo.utils", *names):
        monkeypatch.setitem(sys.modules, place, types.ModuleType(place))
    old = [type(name, (), {"__module__": place}) for place, its in names.items() for name in its]
    for kind in old:
        setattr(sys.modules[kind.__module__], kind.__name__, kind)
    for kind in (modules.Conv, modules.C2f, modules.Classify):
        monkeypatch.setattr(kind, "__module__", "ultralytics.nn.modules")

    def change(net):
        crop, tensor, loss = (kind() for kind in old)
        crop.h = crop.w = 32
        net.transforms, net.criterion = transforms.Compose([crop, tensor]), loss

    theirs = ultralytics_checkpoint(tmp_path / "old.pt", change=change)
    named = torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "old.pt")
    assert f"{home}.CenterCrop" in named
    monkeypatch.undo()
    model = build_model(tmp_path / "old.pt", NAMES)
    assert torch.equal(model.net.model[0].conv.weight, theirs.model[0].conv.weight)
    MultiLabelYOLO(tmp_path / "old.pt")
    named = [its[1] for its in torch.serialization.get_safe_globals() if isinstance(its, tuple)]
    assert f"{home}.CenterCrop" not in named  # nobody else's loading is changed


def test_norms_keep_the_eps_and_momentum_of_a_checkpoint(tmp_path):
    def change(net):
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps, module.momentum = 1e-3, 0.03
                module.running_var.fill_(1e-3)  # so that eps matters

    theirs = ultralytics_checkpoint(tmp_path / "old.pt", change=change).eval()
    model = build_model(tmp_path / "old.pt", NAMES).eval()
    model.head.load_state_dict(theirs.model[-1].linear.state_dict())
    (tmp_path / "w.safetensors").write_bytes(save_weights(model))
    mapping = json.loads(json.dumps(model.architecture))  # as run.json has it
    again = load_weights(build_model(mapping, NAMES), tmp_path / "w.safetensors").eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        for net in (model, again):
            torch.testing.assert_close(net(images), theirs(images)[1])
    assert {(m.eps, m.momentum) for m in again.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {(1e-3, 0.03)}
    for norms in ({"eps": -1.0}, {"eps": "1"}, {"forward": 0.5}, [0.5]):
        with pytest.raises(WorkbenchError, match="norms are .* expected eps and momentum, above 0 and up to 1"):
            build_model({**mapping, "norms": norms}, NAMES)
    for value in (0.5, None, torch.ones(1)):
        ultralytics_checkpoint(tmp_path / "odd.pt", change=lambda net: setattr(net.model[0].bn, "eps", value))  # noqa: B023
        with pytest.raises(WorkbenchError, match="eps or momentum of its norms differ"):
            build_model(tmp_path / "odd.pt", NAMES)


def test_damaged_hostile_and_foreign_checkpoints_are_refused(tmp_path):
    from ultralytics.nn.tasks import DetectionModel

    files = {
        "text.pt": b"no checkpoint",
        "empty.pt": b"",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    ultralytics_checkpoint(tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:1000])
    torch.save({"model": Hostile(tmp_path / "executed")}, tmp_path / "hostile.pt")
    torch.save({"model": DetectionModel("yolov8n.yaml", verbose=False)}, tmp_path / "detection.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    ultralytics_checkpoint(tmp_path / "nan.pt", change=lambda net: net.model[0].conv.weight.data.fill_(float("nan")))
    for name in ("text.pt", "empty.pt", "cut.pt", "hostile.pt", "detection.pt", "list.pt", "nan.pt"):
        with pytest.raises(WorkbenchError, match=name) as caught:
            build_model(tmp_path / name, NAMES)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_an_activation_is_a_layer_and_never_code(tmp_path):
    model = build_model("yolov8n-cls.yaml", NAMES)
    hostile = {**model.architecture, "activation": f"open({str(tmp_path / 'executed')!r}, 'w')"}
    with pytest.raises(WorkbenchError, match="activation"):
        build_model(hostile, NAMES)
    assert not (tmp_path / "executed").exists()
    relu = build_model({**model.architecture, "activation": "torch.nn.ReLU()"}, NAMES)
    assert any(isinstance(module, torch.nn.ReLU) for module in relu.modules())


def test_an_activation_is_that_of_its_own_network_alone(monkeypatch):
    from ultralytics.nn.modules import Conv

    def activations(model):
        return {type(module) for module in model.modules()} & {torch.nn.SiLU, torch.nn.ReLU}

    usual = Conv.default_act
    relu = {**build_model("yolov8n-cls.yaml", NAMES).architecture, "activation": "nn.ReLU()"}
    assert activations(build_model(relu, NAMES)) == {torch.nn.ReLU}
    with pytest.raises(WorkbenchError, match="does not build"):
        build_model({**relu, "backbone": [[-1, 1, "Conv", ["oops"]]]}, NAMES)
    assert Conv.default_act is usual
    monkeypatch.setattr(Conv, "default_act", torch.nn.ReLU())  # as a YOLO of the user's may leave it
    assert activations(build_model("yolov8n-cls.yaml", NAMES)) == {torch.nn.SiLU}


def test_a_layer_is_a_module_even_where_ultralytics_was_imported_before_us(tmp_path):
    code = (
        "import os; os.environ.pop('ULTRALYTICS_SAFE_LOAD', None); import ultralytics.nn.tasks, torch, sys\n"
        "class Hostile:\n"
        "    def __reduce__(self): return (open, (sys.argv[1] + '/executed', 'w'))\n"
        "torch.save(Hostile(), sys.argv[1] + '/evil.bin')\n"
        "from mlworkbench import build_model\n"
        "mapping = build_model('yolov8n-cls.yaml', ['a']).architecture\n"
        "mapping['backbone'] = [[-1, 1, 'torch_load', [sys.argv[1] + '/evil.bin']]]\n"
        "build_model(mapping, ['a'])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert "'torch_load' is no layer" in done.stderr and not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ("absent.pt", "start from random weights with a .yaml"),
        ("absent.yaml", "not found"),
        ("yolov8n.yaml", "no classification network (its last layer is Detect)"),
        ("yolov8n-cls", "expected NAME.yaml or NAME.pt"),
    ],
)
def test_errors_are_one_line_and_name_the_alternatives(model, part):
    with pytest.raises(WorkbenchError) as caught:
        build_model(model, NAMES)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_a_published_checkpoint_that_cannot_be_fetched(tmp_path, monkeypatch):
    import ultralytics.utils.downloads as downloads

    def no_network(file, *_, **__):
        raise ConnectionError("no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(downloads, "attempt_download_asset", no_network)
    with pytest.raises(WorkbenchError, match="'yolov8n-cls.pt' is not here and cannot be fetched; give the path"):
        build_model("yolov8n-cls.pt", NAMES)


def test_no_global_setting_of_torch_or_logging_changes():
    before = (torch.get_num_threads(), torch.get_default_dtype(), logging.root.manager.disable, torch.is_grad_enabled())
    build_model("yolov8n-cls.yaml", NAMES)
    after = (torch.get_num_threads(), torch.get_default_dtype(), logging.root.manager.disable, torch.is_grad_enabled())
    assert before == after


def odds_one_by_one(z):
    """Log odds of each class's softmax probability, in float64, class by class."""
    z = z.astype(np.float64)
    return np.stack([z[:, c] - np.logaddexp.reduce(np.delete(z, c, axis=1), axis=1) for c in range(z.shape[1])], axis=1)


def test_for_a_plain_yolo_inputs_from_earlier_layers_are_still_theirs(tmp_path, rng):
    """Of squares as before, of more columns as of what lies between; also where layers are skipped."""
    layers = [
        [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 1]], [[-1, 0], 1, "Concat", [1]], [0, 1, "Conv", [8, 3, 1]],
        [[2, -1, -3], 1, "Concat", [1]],
    ]  # fmt: skip
    text = {"nc": 3, "scales": {"n": [1, 1, 1024]}, "backbone": layers, "head": [[-1, 1, "Classify", ["nc"]]]}
    (tmp_path / "skips.yaml").write_text(json.dumps(text))
    net = build_model(str(tmp_path / "skips.yaml"), ["a", "b", "c"]).net.eval()
    plain, wide = for_plain_yolo(net, 32).eval(), torch.from_numpy(rng.random((2, 3, 32, 48), np.float32))
    assert exported_shape(32) == [32, 48] and list(plain.state_dict()) == list(net.state_dict())
    first, middle, last = wide[..., ::3], wide[..., 1::3], wide[..., 2::3]
    square = torch.stack([0.75 * first + 0.25 * middle, 0.25 * middle + 0.75 * last], dim=-1).flatten(-2)
    with torch.no_grad():
        for seen in (wide, square):
            torch.testing.assert_close(plain(seen), torch.sigmoid(net(square)[1]))
            torch.testing.assert_close(for_plain_yolo(net, 32, independent=False).eval()(seen)[0], net(square)[0])
        torch.save({"model": plain, "train_args": {"task": "classify", "imgsz": [32, 48]}}, tmp_path / "best.pt")
        image = blocks((64, 64), 0)
        image.save(tmp_path / "image.png")
        model = MultiLabelYOLO(tmp_path / "best.pt")
        said = model.predict(tmp_path / "image.png", imgsz=64, verbose=False)[0].probs.data
        raw = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255
        torch.testing.assert_close(said, torch.sigmoid(net(raw)[1])[0])


@pytest.mark.parametrize("classes", [2, 3, 10, 300])
@pytest.mark.parametrize("scale", [0, 1e-3, 1, 30, 1e4])
def test_softmax_odds_against_float64_class_by_class(rng, classes, scale):
    z = (rng.normal(size=(200, classes)) * scale + rng.normal()).astype(np.float32)
    z[::3, 1] = z[::3, 0]  # ties, often of the largest
    z[::4, :2] += 10
    found = softmax_odds(torch.from_numpy(z))
    assert found.dtype == torch.float32 and torch.isfinite(found).all()
    np.testing.assert_allclose(found, odds_one_by_one(z), rtol=2e-6, atol=4e-6)
    exact = softmax_odds(torch.from_numpy(z.astype(np.float64)))
    np.testing.assert_allclose(exact, odds_one_by_one(z), rtol=1e-13, atol=1e-13)


def test_softmax_odds_of_a_single_class_are_those_of_certainty():
    assert (softmax_odds(torch.randn(5, 1)).sigmoid() == 1).all()


def test_softmax_odds_have_the_gradient_of_their_definition(rng):
    z = torch.from_numpy(rng.normal(size=(5, 4)) * 3).requires_grad_()
    assert torch.autograd.gradcheck(softmax_odds, z)


def test_softmax_odds_make_nothing_larger_than_the_logits():
    made = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            made.extend(part.numel() for part in (out if isinstance(out, tuple) else (out,)))
            return out

    with Watch():
        softmax_odds(torch.zeros(20, 30))
    assert max(made) <= 20 * 30


@pytest.mark.parametrize("line", ["channels: 1", "ch: 1", "channels: 4"])
def test_a_network_of_other_channels_is_refused_before_any_image_is_read(tmp_path, line):
    text = Path(check_yaml("yolov8-cls.yaml")).read_text()
    (tmp_path / "yolov8n-cls-grey.yaml").write_text(f"{text}\n{line}\n")
    (tmp_path / "labels.csv").write_text("image_path,cat\nnowhere.png,1\n")
    name, number = line.split(": ")
    with pytest.raises(WorkbenchError, match=f"{name} is {number}; networks here see three channels, .* write 3$"):
        fit(tmp_path / "labels.csv", tmp_path / "run", model=str(tmp_path / "yolov8n-cls-grey.yaml"))
    (tmp_path / "yolov8n-cls-grey.yaml").write_text(f"{text}\n{name}: 3\n")
    assert build_model(tmp_path / "yolov8n-cls-grey.yaml", ["cat"])
