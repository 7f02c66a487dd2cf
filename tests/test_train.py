import numpy as np
import pytest
import torch

from mlworkbench import WorkbenchError, build_model
from mlworkbench.datasets import ImageDataset, make_loader
from mlworkbench.train import (
    Precision,
    Settings,
    choose_device,
    choose_precision,
    infer,
    learning_rate_factor,
    make_optimizer,
    refuse_misfit,
    train,
)

CPU = torch.device("cpu")


@pytest.fixture
def five(picture, tmp_path):
    paths = np.array([picture(f"{i}.png", seed=i) for i in range(5)], object)
    y = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, -1]], np.int8)
    return ImageDataset(paths, tmp_path, y, 32)


def learn(dataset, epochs, precision="fp32", poison=None):
    torch.manual_seed(0)
    model, rows = build_model("yolov8n-cls.yaml", ["a", "b", "c"]), []
    if poison is not None:
        poison(model)
    loader = make_loader(dataset, 5, train=True)
    train(model, loader, Settings(epochs=epochs, learning_rate=2e-3), Precision(precision, True), CPU, rows.append)
    return model, rows


def test_the_loss_falls_on_five_images(five):
    _, rows = learn(five, 12)
    losses = [row["train_loss"] for row in rows]
    assert losses[-1] < 0.5 * losses[0]
    assert [row["epoch"] for row in rows] == list(range(1, 13)) and list(rows[0]) == [
        "epoch",
        "lr",
        "train_loss",
        "seconds",
    ]


def test_the_same_seed_gives_the_same_weights(five):
    one, two = (learn(five, 2)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_bf16_trains_too(five):
    model, rows = learn(five, 2, "bf16")
    assert np.isfinite(rows[-1]["train_loss"]) and all(p.dtype == torch.float32 for p in model.parameters())


def test_a_loss_that_is_not_finite_names_the_rows(five):
    with pytest.raises(FloatingPointError) as caught:
        learn(five, 1, poison=lambda model: model.head.bias.data.fill_(float("nan")))
    assert sorted(caught.value.args[1]) == [0, 1, 2, 3, 4]


def test_inference_is_in_order_in_eval_mode_and_leaves_the_mode_alone(five):
    model = build_model("yolov8n-cls.yaml", ["a", "b", "c"]).train()
    logits = infer(model, make_loader(five, 2), CPU)
    assert model.training and logits.shape == (5, 3) and logits.dtype == np.float32
    with torch.no_grad():
        alone = model.eval()(five.pixels[3:4].float() / 255)
    np.testing.assert_allclose(logits[3], alone[0], atol=1e-5)


@pytest.mark.parametrize("channels_last", [True, False])
def test_inference_between_epochs_leaves_training_possible(five, channels_last):
    model, seen = build_model("yolov8n-cls.yaml", ["a", "b", "c"]), []
    loader = make_loader(five, 5, train=True)

    def validate(row):
        seen.append(infer(model, make_loader(five, 2), CPU, channels_last))

    train(model, loader, Settings(epochs=2), Precision("fp32", channels_last), CPU, validate)
    assert len(seen) == 2 and not np.array_equal(*seen)


@pytest.mark.parametrize("steps", [*range(1, 31), 1000])
def test_the_learning_rate_rises_then_falls_to_nothing(steps):
    factors = [learning_rate_factor(step, steps) for step in range(steps + 1)]
    assert all(0 <= factor <= 1 for factor in factors) and factors[0] > 0
    peak = int(np.argmax(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1]) and factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[-1] == pytest.approx(0, abs=1e-9)


def test_a_gradient_that_is_not_finite_stops_too(five, monkeypatch):
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(FloatingPointError):
        learn(five, 1)


def test_weight_decay_spares_norms_and_biases():
    model = build_model("yolov8n-cls.yaml", ["a"])
    decayed, spared = make_optimizer(model, 1e-3, 0.05).param_groups
    assert decayed["weight_decay"] == 0.05 and spared["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim == 1 for p in spared["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))


def test_auto_precision_measures_and_leaves_the_model_alone(five):
    model = build_model("yolov8n-cls.yaml", ["a", "b", "c"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chosen = choose_precision("auto", model, five.__getitems__([0, 1, 2, 3, 4]), CPU)
    speeds = chosen.images_per_second
    assert len(speeds) == 4 and f"{chosen.name} " in max(speeds, key=speeds.get)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert choose_precision("fp32", model, (), CPU) == Precision("fp32", True)
    with pytest.raises(WorkbenchError, match="fp16 is for GPUs"):
        refuse_misfit("fp16", CPU)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'; expected one of model,"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"seed": -1}, "seed is -1"),
        ({"image_size": 1.5}, "image_size is 1.5"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"precision": "int8"}, "precision 'int8'"),
        ({"route": "magic"}, "route 'magic'"),
    ],
)
def test_settings_are_strict(settings, part):
    with pytest.raises(WorkbenchError) as caught:
        Settings.of(**settings)
    assert part in str(caught.value)


def test_devices():
    assert choose_device("cpu") == CPU
    with pytest.raises(WorkbenchError, match="device 'warp' is not usable"):
        choose_device("warp")
