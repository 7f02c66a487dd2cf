"""What a card does: `pytest -m gpu` where one is."""

import gc
import io
import os
import signal
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import mlworkbench as mw
from mlworkbench.network.batches import EpochBatches, ImageDataset, in_order
from mlworkbench.network.device import Precision, arithmetic, join_processes
from mlworkbench.network.feed import make_loader
from mlworkbench.network.infer import infer
from mlworkbench.network.replay import CUDAGraphs
from mlworkbench.runs import folder as folder_of
from mlworkbench.settings import Settings
from mlworkbench.training.loop import Trainer
from mlworkbench.training.losses import make_loss

pytestmark = pytest.mark.gpu
CARD = torch.device("cuda", 0)
SMALL = {"epochs": 3, "image_size": 64, "batch_size": 8, "precision": "fp32", "device": "cuda"}


@pytest.fixture
def photographs(tmp_path, rng):
    """Twelve JPEGs."""
    paths = [f"{i}.jpg" for i in range(12)]
    for path in paths:
        small = rng.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC).save(tmp_path / path)
    y = (rng.random((12, 3)) < 0.5).astype(np.int8)
    y[4, 1] = -1
    return ImageDataset(np.array(paths, object), tmp_path, y, 64)


def decoded(dataset):
    dataset.pixels = np.stack([dataset.decode(row) for row in range(len(dataset))])
    return dataset


def learn(
    dataset, precision="fp32", replay=True, epochs=6, batch_size=5, state=None, stop=None, monkeypatch=None, **more
):
    """Train on the card; `replay=False` launches each kernel."""
    with join_processes("cuda"), torch.random.fork_rng([CARD]), arithmetic(tf32=True):
        torch.manual_seed(0)
        model = mw.build_model("yolov8n-cls.yaml", ["a", "b", "c"])
        batches = EpochBatches(np.arange(len(dataset)), batch_size, 0)
        settings = Settings(epochs=epochs, **more)
        loss = make_loss(settings.loss, dataset.targets, settings.positive_weight)
        with pytest.MonkeyPatch.context() as patch:
            if not replay:
                patch.setattr("mlworkbench.training.loop.replayed", lambda function, *_: function)
            trainer = Trainer(model, loss, settings, Precision(precision, True), len(batches), len(dataset))
            if state is not None:
                trainer.load_state(state)
            rows = []
            trainer.stop_asked = lambda: stop == (trainer.place.epoch, trainer.place.step)
            loader = make_loader(dataset, batches, device=CARD)
            trainer.train(loader, batches, lambda row: rows.append(row["train_loss"]) or True)
        return trainer, rows


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"accumulate": 2, "loss": "asl"}, {"head_epochs": 2, "flip": True, "crop": True}, {"positive_weight": 4.0}],
    ids=str,
)
def test_a_replayed_training_is_the_launched_one_to_the_bit(photographs, precision, settings):
    dataset = decoded(photographs)
    (one, losses), (two, its_losses) = (learn(dataset, precision, replay, **settings) for replay in (False, True))
    assert same(one.model.state_dict(), two.model.state_dict()) and losses == its_losses
    assert same(one.average.state_dict(), two.average.state_dict())
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("stop", [(1, 1), (2, 0), (4, 1)])
def test_going_on_from_a_state_is_as_if_never_stopped(photographs, precision, stop):
    dataset = decoded(photographs)
    whole, losses = learn(dataset, precision)
    stopped, first = learn(dataset, precision, stop=stop)
    buffer = io.BytesIO()
    torch.save(stopped.state(), buffer)
    buffer.seek(0)
    resumed, rest = learn(dataset, precision, state=torch.load(buffer, map_location="cpu", weights_only=True))
    assert same(whole.model.state_dict(), resumed.model.state_dict()) and first + rest == losses


def test_a_loss_that_is_not_finite_names_the_rows_of_its_batch(photographs):
    dataset = decoded(photographs)
    batches = EpochBatches(np.arange(12), 5, 0)
    batches.start(1)
    second = list(batches)[1]
    with join_processes("cuda"):
        model = mw.build_model("yolov8n-cls.yaml", ["a", "b", "c"])
        trainer = Trainer(
            model, lambda z, y: torch.where(y == 7, torch.nan, z.square()), Settings(), Precision("fp32", True), 3, 12
        )
        dataset.targets[second] = 7
        with pytest.raises(FloatingPointError) as caught:
            trainer.train(make_loader(dataset, batches, device=CARD), batches, lambda row: True)
    assert caught.value.args[1] == second


def test_the_same_run_twice_and_one_that_was_stopped_have_the_same_bits(demo_labels, tmp_path):
    def result(folder):
        run = mw.Run(folder)
        files = [(folder / name).read_bytes() for name in (folder_of.BEST, folder_of.LAST)]
        return [run.history.drop(columns="seconds").to_csv(), *files, run.predictions("test").logits.tobytes()]

    def interrupt(row):
        os.kill(os.getpid(), signal.SIGINT)

    table = mw.read_labels(demo_labels)
    for name in ("one", "two"):
        mw.fit(table, tmp_path / name, **SMALL)
    mw.fit(table, tmp_path / "three", on_epoch_end=interrupt, **SMALL)
    assert mw.Run(tmp_path / "three").status == "interrupted"
    mw.fit(table, tmp_path / "three", resume=True)
    one, two, three = (result(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two and one == three
    assert mw.Run(tmp_path / "one").state["device"].startswith("cuda")


def test_fp32_is_fp32(photographs):
    dataset = decoded(photographs)
    model = learn(dataset, epochs=12)[0].average.cpu()
    order = in_order(range(12), 5)
    here = infer(model, make_loader(dataset, order), torch.device("cpu"))
    on_card = infer(model, make_loader(dataset, order, device=CARD), CARD)
    apart, spread = np.abs(here - on_card).max(), here.std(0).max()
    print(f"logits apart by {apart:.1e}, over images by {spread:.2f}")
    assert spread > 0.1 and apart <= 1e-4 * max(1, np.abs(here).max())
    again = infer(model, make_loader(dataset, order, device=CARD), CARD)
    np.testing.assert_array_equal(on_card, again)


def test_every_feed_gives_the_same_batches(photographs, monkeypatch):
    order = [[0, 3, 5], [7, 8, 9, 1], [2, 4], [6, 10, 11]]
    expected = list(make_loader(photographs, order))
    ahead = list(make_loader(photographs, order, workers=2, device=CARD))
    resident = list(make_loader(decoded(photographs), order, device=CARD))
    photographs.on_card = None
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda *_: (1, 1))
    sent = list(make_loader(photographs, order, device=CARD))
    for feed in (ahead, resident, sent):
        for batch, right in zip(feed, expected, strict=True):
            assert all(a.device == CARD and torch.equal(a.cpu(), b) for a, b in zip(batch, right, strict=True))


def test_a_feed_that_is_left_ends_its_thread_and_one_that_fails_says_so(photographs):
    before = threading.active_count()
    for batch in make_loader(photographs, [[0], [1], [2], [4], [6]], device=CARD):
        assert len(batch[2]) == 1
        break
    gc.collect()
    assert threading.active_count() == before
    (photographs.root / "6.jpg").unlink()
    with pytest.raises(mw.WorkbenchError, match=r"missing"):
        list(make_loader(photographs, [[0], [6]], device=CARD))


def test_auto_measures_replays_and_frees_what_it_tried(demo_labels, tmp_path, monkeypatch):
    monkeypatch.setattr("mlworkbench.network.device.WORTH", 0)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    run = mw.fit(mw.read_labels(demo_labels), tmp_path / "auto", **SMALL | {"precision": "auto"})
    speeds = run.state["precision"]["images_per_second"]
    print(run.state["precision"])
    assert len(speeds) == 6 and all(speed > 0 for speed in speeds.values())
    del run
    gc.collect()
    assert torch.cuda.memory_allocated() - before < 64e6


@pytest.mark.parametrize("route", ["loop", "probe", "ultralytics"])
def test_every_route_trains_and_predicts(demo_labels, tmp_path, route):
    settings = SMALL | {"route": route, "epochs": 1}
    run = mw.fit(mw.read_labels(demo_labels), tmp_path / route, **settings)
    found = run.predictions("test")
    assert np.isfinite(found.logits).all()
    again = run.predict(found.paths, run.root, raw=True)
    np.testing.assert_allclose(found.logits, again.logits, rtol=1e-3, atol=1e-3)


def test_what_is_recorded_is_recorded_on_the_card():
    recorder, held = CUDAGraphs(), torch.ones(2, device=CARD)
    assert recorder.once(lambda: held * 2).tolist() == [2, 2]
    replay = recorder.record(lambda: held * 3)
    held.fill_(5)
    assert replay().tolist() == [15, 15]
