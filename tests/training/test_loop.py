import copy

import numpy as np
import pytest
import torch
from helpers import CLOSE, StandIn

from mlworkbench import build_model
from mlworkbench.network.batches import EpochBatches, ImageDataset, in_order
from mlworkbench.network.device import Precision, join_processes
from mlworkbench.network.feed import make_loader
from mlworkbench.network.infer import infer
from mlworkbench.network.replay import Replayed
from mlworkbench.settings import Settings
from mlworkbench.training.loop import Trainer, learning_rate_factor, make_optimizer
from mlworkbench.training.losses import bce, make_loss, mean_known

CPU = torch.device("cpu")
NAMES = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def alone():
    with join_processes("cpu"):
        yield


@pytest.fixture
def five(picture, tmp_path):
    paths = np.array([picture(f"{i}.png", seed=i) for i in range(5)], object)
    y = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, -1]], np.int8)
    return ImageDataset(paths, tmp_path, y, 32)


def trainer_of(dataset, precision="fp32", channels_last=True, steps=1, model=None, loss=bce, **settings):
    torch.manual_seed(0)
    model = model or build_model("yolov8n-cls.yaml", NAMES)
    return Trainer(model, loss, Settings(**settings), Precision(precision, channels_last), steps, len(dataset))


def learn(dataset, batch_size=5, on_epoch_end=lambda row: True, **options):
    batches, rows = EpochBatches(np.arange(len(dataset)), batch_size, 0), []
    trainer = trainer_of(dataset, steps=len(batches), **options)
    trainer.train(make_loader(dataset, batches), batches, lambda row: (rows.append(row), on_epoch_end(row))[1])
    return trainer, rows


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def test_the_loss_falls_on_five_images(five):
    _, rows = learn(five, epochs=12, learning_rate=2e-3)
    losses = [row["train_loss"] for row in rows]
    assert losses[-1] < 0.5 * losses[0]
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert list(rows[0]) == ["epoch", "lr", "train_loss", "seconds"]


def test_the_same_seed_gives_the_same_weights(five):
    one, two = (learn(five, epochs=2)[0] for _ in range(2))
    assert same(one.model.state_dict(), two.model.state_dict())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accumulate": 2, "loss": "asl"},
        {"head_epochs": 1, "flip": True, "crop": True},
        {"positive_weight": 4.0},
        {"freeze": 3},
    ],
    ids=str,
)
def test_replayed_steps_are_those_that_were_recorded(five, monkeypatch, settings):
    """Batches of three and of two: the steps of a card, by a stand-in that lets nothing be read meanwhile."""
    kinds, stand_ins = [], []

    def replayed(function, device, alone):
        stand_ins.append(StandIn())
        return Replayed(function, stand_ins[-1])

    loss = make_loss(settings.get("loss", "bce"), five.targets, settings.get("positive_weight", 1.0))
    for replay in (False, True):
        if replay:
            monkeypatch.setattr("mlworkbench.training.loop.replayed", replayed)
        trainer, rows = learn(
            five,
            5 if "accumulate" in settings else 3,
            epochs=8,
            loss=loss,
            **{k: v for k, v in settings.items() if k != "loss"},
        )
        kinds.append((trainer.model.state_dict(), trainer.average.state_dict(), [row["train_loss"] for row in rows]))
    (one, average, losses), (two, its_average, its_losses) = kinds
    assert same(one, two) and same(average, its_average) and losses == its_losses
    assert sum(stand_in.calls["replay"] for stand_in in stand_ins) >= 5


def test_bf16_trains_too(five):
    trainer, rows = learn(five, epochs=2, precision="bf16")
    assert np.isfinite(rows[-1]["train_loss"]) and all(p.dtype == torch.float32 for p in trainer.model.parameters())


def test_a_loss_that_is_not_finite_names_the_rows(five):
    model = build_model("yolov8n-cls.yaml", NAMES)
    model.head.bias.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the loss is nan and .* in epoch 1") as caught:
        learn(five, epochs=1, model=model)
    assert sorted(caught.value.args[1]) == [0, 1, 2, 3, 4]


def test_a_gradient_that_is_not_finite_stops_too(five, monkeypatch):
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_, **__: torch.tensor(float("inf")))
    with pytest.raises(FloatingPointError):
        learn(five, epochs=1)


def test_the_reported_loss_is_the_mean_over_the_known_labels_of_the_epoch(five, monkeypatch):
    monkeypatch.setattr("mlworkbench.training.loop.augment", lambda images, *_: images / 255)
    model = build_model("yolov8n-cls.yaml", NAMES)
    trainer, seen = trainer_of(five, steps=1, epochs=1, model=model), copy.deepcopy(model)
    batches = EpochBatches(np.arange(5), 5, 0)
    rows = []
    trainer.train(make_loader(five, batches), batches, lambda row: rows.append(row) or True)
    with torch.no_grad():
        logits = seen.train()(five.__getitems__(range(5))[0].float() / 255)
    assert rows[0]["train_loss"] == pytest.approx(mean_known(bce(logits, five.targets), five.targets).item(), rel=1e-4)


def test_a_batch_in_pieces_has_the_gradient_of_the_whole(five, monkeypatch):
    """With BatchNorm's statistics frozen, which a smaller piece would change."""
    kept = []
    monkeypatch.setattr("mlworkbench.training.loop.augment", lambda images, *_: images / 255)
    monkeypatch.setattr(
        "accelerate.Accelerator.clip_grad_norm_",
        lambda self, parameters, *_: kept.append([p.grad.clone() for p in parameters]) or torch.tensor(1.0),
    )
    for pieces in (1, 2):
        trainer = trainer_of(five, accumulate=pieces)
        trainer.model.eval()
        alone = copy.deepcopy(trainer.model)
        trainer.step(five.__getitems__(range(5)))
    images, targets, _ = five.__getitems__(range(5))
    mean_known(bce(alone(images.float() / 255), targets), targets).backward()
    for whole, summed, expected in zip(*kept, alone.parameters(), strict=True):
        torch.testing.assert_close(whole, expected.grad, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(summed, expected.grad, rtol=1e-3, atol=1e-6)


def test_only_the_last_layer_learns_in_the_head_epochs_and_all_of_it_later(five):
    states = []

    def keep(row):
        states.append({name: tensor.clone() for name, tensor in trainer.model.state_dict().items()})
        return True

    batches = EpochBatches(np.arange(5), 5, 0)
    trainer = trainer_of(five, head_epochs=2, epochs=4)
    start = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train(make_loader(five, batches), batches, keep)
    changed = [{name for name in start if not torch.equal(start[name], state[name])} for state in states]
    assert changed[0] == changed[1] == {name for name in start if ".linear." in name}
    assert len(changed[2]) > 0.9 * len(start) and any("running_mean" in name for name in changed[2])


def test_frozen_layers_keep_weights_and_statistics_and_the_others_learn(five):
    model = build_model("yolov8n-cls.yaml", NAMES)
    start = copy.deepcopy(model.state_dict())
    trainer, _ = learn(five, epochs=3, freeze=4, head_epochs=1, model=model)
    for state in (trainer.model.state_dict(), trainer.average.state_dict()):
        changed = {int(name.split(".")[2]) for name in start if not torch.equal(state[name], start[name])}
        assert changed == {4, 5, 6, 7, 8, 9}
    images, targets, rows = five.__getitems__(range(5))
    inner = trainer.model.layers[4].register_full_backward_hook(lambda _, into, __: reached.append(into[0]))
    reached = []
    trainer.step((images, targets, rows))
    inner.remove()
    assert reached == [None]  # nothing is computed for the layers below, which is what makes it faster


def test_the_average_follows_by_hand(five):
    trainer = trainer_of(five, ema=0.15, steps=3)
    average = None
    for step in range(3):
        trainer.place.step = step
        trainer.step(five.__getitems__(range(5)))
        weights, decay = trainer.model.head.weight.detach().clone(), min(0.15, (1 + step) / (10 + step))
        average = weights if average is None else decay * average + (1 - decay) * weights
        torch.testing.assert_close(trainer.average.head.weight, average)
    buffers = zip(trainer.average.buffers(), trainer.model.buffers(), strict=True)
    assert all(torch.equal(one, two) for one, two in buffers)


def test_going_on_from_a_state_is_as_if_never_stopped(five):
    def states_of(trainer, batches, stop_at=None):
        trainer.stop_asked = lambda: stop_at == (trainer.place.epoch, trainer.place.step)
        done = trainer.train(make_loader(five, batches), batches, lambda row: rows.append(row["train_loss"]) or True)
        return done, copy.deepcopy(trainer.state())

    for stop_at in ((1, 0), (2, 1), (3, 0)):
        rows, batches = [], EpochBatches(np.arange(5), 2, 0)
        done, whole = states_of(trainer_of(five, steps=2, epochs=3), batches)
        expected, rows = rows, []
        stopped, half = states_of(trainer_of(five, steps=2, epochs=3), batches, stop_at)
        assert done and not stopped and (half["place"]["epoch"], half["place"]["step"]) != (4, 0)
        resumed = trainer_of(five, steps=2, epochs=3, model=build_model("yolov8n-cls.yaml", NAMES))
        resumed.load_state(half)
        _, end = states_of(resumed, batches)
        assert same(whole["model"], end["model"]) and same(whole["average"], end["average"]) and rows == expected
        assert torch.equal(whole["rng"], end["rng"])


def test_inference_is_in_order_in_eval_mode_and_leaves_the_mode_alone(five):
    model = build_model("yolov8n-cls.yaml", NAMES).train()
    logits = infer(model, make_loader(five, in_order(range(5), 2)), CPU)
    assert model.training and logits.shape == (5, 3) and logits.dtype == np.float32
    with torch.no_grad():
        alone = model.eval()(five.__getitems__([3])[0].float() / 255)
    np.testing.assert_allclose(logits[3], alone[0], **CLOSE)


@pytest.mark.parametrize("channels_last", [True, False])
def test_validation_between_epochs_leaves_training_possible(five, channels_last):
    seen, holder = [], []

    def validate(row):
        seen.append(holder[0].logits(make_loader(five, in_order(range(5), 2))))
        return True

    batches = EpochBatches(np.arange(5), 5, 0)
    holder.append(trainer_of(five, epochs=2, channels_last=channels_last))
    holder[0].train(make_loader(five, batches), batches, validate)
    assert len(seen) == 2 and not np.array_equal(*seen)


@pytest.mark.parametrize("steps", [*range(1, 31), 1000])
def test_the_learning_rate_rises_then_falls_to_nothing(steps):
    factors = [learning_rate_factor(step, steps) for step in range(steps + 1)]
    assert all(0 <= factor <= 1 for factor in factors) and factors[0] > 0
    peak = int(np.argmax(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1]) and factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[-1] == pytest.approx(0, abs=1e-9)


def test_weight_decay_spares_norms_and_biases_and_a_trained_backbone_learns_more_slowly():
    model = build_model("yolov8n-cls.yaml", ["a"])
    for trained, given, rate in ((False, None, 1.0), (True, None, 0.7), (True, 0.05, 0.05)):
        model.trained = trained
        groups = make_optimizer(model, Settings(learning_rate=0.01, backbone_rate=given)).param_groups
        assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
        for group in groups:
            assert group["weight_decay"] == (0.05 if group["params"][0].ndim > 1 else 0)
            in_head = any(group["params"][0] is p for p in model.head.parameters())
            assert group["peak"] == pytest.approx(0.01 if in_head else 0.01 * rate)
