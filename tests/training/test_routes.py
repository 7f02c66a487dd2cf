"""All the ways to train, on the same data, and that they mean the same."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from conftest import PROJECT, SHARED
from helpers import CLOSE, Hostile, Killed, blocks, killed_at, ultralytics_checkpoint
from packaging.version import Version
from PIL import Image

import mlworkbench as mw
from mlworkbench import Run, WorkbenchError, fit, read_labels
from mlworkbench.data.demo import CLASSES
from mlworkbench.exceptions import Interrupted
from mlworkbench.network.batches import squared
from mlworkbench.network.infer import pooled_features
from mlworkbench.network.model import read_pt, softmax_odds
from mlworkbench.runs import folder as folder_of
from mlworkbench.training import ultralytics_route, yolo
from mlworkbench.training.losses import bce, mean_known
from mlworkbench.training.ultralytics_route import MultiLabelTrainer

TINY = {"epochs": 2, "image_size": 32, "batch_size": 12, "precision": "fp32", "workers": 0}
FAMILIES = ("yolov8n-cls.yaml", "yolo11n-cls.yaml", "yolo12n-cls.yaml", "yolo26n-cls.yaml")
ROUTES = ("loop", "ultralytics", "probe")


@pytest.fixture(scope="module")
def table(demo_labels):
    return read_labels(demo_labels)


@pytest.fixture(scope="module")
def theirs(table, tmp_path_factory):
    """A finished run of the route "ultralytics"; tests must not write to it."""
    return fit(table, tmp_path_factory.mktemp("theirs") / "run", route="ultralytics", **TINY)


def linear_output(net, images):
    """What the last linear layer of a network says, whatever stands behind it."""
    caught = []
    hook = net.model[-1].linear.register_forward_hook(lambda _, __, out: caught.append(out))
    with torch.no_grad():
        net.eval()(images)
    hook.remove()
    return caught[0]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_through_every_route(table, tmp_path, family, route):
    run = fit(table, tmp_path, route=route, model=family, **{**TINY, "epochs": 1})
    assert run.status == "finished" and len(run.history) == 1
    assert {f"predictions/{s}.parquet" for s in ("val", "test")} <= {
        str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*.parquet")
    }
    validation = run.predictions("val")
    again = run.predict(validation.paths, run.root)
    np.testing.assert_allclose(again.logits, validation.logits, **CLOSE)
    assert 0 <= run.evaluate()["map"] <= 1 and run.state["settings"]["route"] == route


def test_the_same_weights_give_the_same_logits_through_all_routes(theirs, table):
    from ultralytics.nn.tasks import load_checkpoint

    validation = theirs.predictions("val")
    images = torch.rand(5, 3, 32, 32)
    with torch.no_grad():
        ours = theirs.model(images)
    plain = load_checkpoint(theirs.folder / folder_of.ULTRALYTICS_BEST)[0]
    features = torch.from_numpy(pooled_features(theirs.model, [(images * 255, None, None)], torch.device("cpu")))
    probed = features @ theirs.model.head.weight.T + theirs.model.head.bias
    for other in (linear_output(plain, images), probed.detach()):
        np.testing.assert_allclose(other, ours, **CLOSE)
    np.testing.assert_allclose(plain(images).detach(), ours.sigmoid(), **CLOSE)
    # and from files, through each of their own ways to an image: written without loss, at the network's size
    folder = theirs.folder.parent / "squares"
    folder.mkdir()
    for name, image in zip("abcde", images, strict=True):
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{name}.png")
    said = theirs.predict([f"{name}.png" for name in "abcde"], folder).probabilities
    model = mw.MultiLabelYOLO(theirs.folder / folder_of.ULTRALYTICS_BEST)
    results = model.predict(str(folder), verbose=False)
    np.testing.assert_allclose(np.stack([r.probs.data for r in results]), said, **CLOSE)
    assert len(validation) == 17


def test_a_plain_yolo_predicts_independent_probabilities_with_or_without_this_package(theirs, table, tmp_path):
    path = theirs.predictions("test").paths[0]
    code = """
import sys
if sys.argv[1] == "blocked":
    class Block:
        def find_spec(self, name, *_):
            if name.split(".")[0] == "mlworkbench":
                raise ImportError(name)
    sys.meta_path.insert(0, Block())
else:
    import mlworkbench
from ultralytics import YOLO
result = YOLO(sys.argv[2]).predict(sys.argv[3], verbose=False)[0]
print(*(float(p) for p in result.probs.data))
"""
    expected = theirs.predict([path], table.root).probabilities[0]
    for mode in ("blocked", "imported"):
        done = subprocess.run(
            [sys.executable, "-c", code, mode, theirs.folder / folder_of.ULTRALYTICS_BEST, table.root / path],
            capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said = np.array(done.stdout.splitlines()[-1].split(), float)
        np.testing.assert_allclose(said, expected, atol=0.01)  # another JPEG decoder
        assert abs(said.sum() - 1) > 0.01  # no softmax


@pytest.mark.parametrize("format", ["torchscript", "onnx"])
def test_a_plain_yolo_sees_the_whole_image_at_any_size_and_in_its_exports(format, theirs, tmp_path, caplog):
    """Of an image three times as wide as high, by a network that tells much apart."""
    from ultralytics import YOLO

    checkpoint = torch.load(theirs.folder / folder_of.ULTRALYTICS_BEST, weights_only=False)
    net, image = checkpoint["model"], blocks((96, 32), 4)
    norms = [layer for layer in net.float().modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # statistics of the one batch that follows
    with torch.no_grad():
        net.train()(torch.from_numpy(np.stack([blocks((32, 32), i) for i in range(16)])).permute(0, 3, 1, 2) / 255)
    for layer in norms:
        layer.momentum = 0.1
    torch.nn.init.normal_(net.model[-1].linear.weight, 0, 0.2)
    net.eval()
    torch.save(checkpoint, tmp_path / "best.pt")
    image.save(tmp_path / "wide.png")

    def seen_as(size, box=None):
        shown = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box), np.float32) / 255
        return net(torch.from_numpy(shown).permute(2, 0, 1)[None])[0].detach()

    whole, middle, wide = seen_as((32, 32)), seen_as((32, 32), (32, 0, 64, 32)), seen_as((48, 32))
    assert (whole - middle).abs().max() > max(0.1, 3 * (whole - wide).abs().max())
    plain = YOLO(tmp_path / "best.pt")
    exported = plain.export(format=format, verbose=False)
    for model, options, expected in (
        (plain, {}, whole),
        (plain, {"imgsz": 64}, whole),
        (YOLO(exported, task="classify"), {}, wide),
        (mw.MultiLabelYOLO(tmp_path / "best.pt"), {}, whole),
        (mw.MultiLabelYOLO(exported, task="classify"), {}, wide),
    ):
        said = model.predict(tmp_path / "wide.png", verbose=False, **options)[0].probs.data
        np.testing.assert_allclose(said, expected, atol=0.02)  # torch's resize and Pillow's differ by one in 255
    assert "only the middle" not in caplog.text
    mw.MultiLabelYOLO(tmp_path / "best.pt").export(format="torchscript", imgsz=64)
    assert "a plain YOLO shows only the middle of an image to this export" in caplog.text


def test_ours_shows_a_checkpoint_whole_images_of_any_size(theirs, tmp_path):
    blocks((96, 32), 4).save(tmp_path / "wide.png")
    net = torch.load(theirs.folder / folder_of.ULTRALYTICS_BEST, weights_only=False)["model"].float().eval()
    image = torch.from_numpy(squared(np.asarray(blocks((96, 32), 4)), 64))[None] / 255
    with torch.no_grad():
        alike, net.model = net(image)[0], net.model[1:]
        expected = net(image)[0]
    model = mw.MultiLabelYOLO(theirs.folder / folder_of.ULTRALYTICS_BEST)
    for _ in range(2):
        said = model.predict(tmp_path / "wide.png", verbose=False, imgsz=64)[0].probs.data
        np.testing.assert_allclose(said, expected, atol=1e-5)
    assert (alike - expected).abs().max() > 1e-4 and isinstance(model.model.model[0], torch.nn.Upsample)


def test_the_run_folder_is_the_same_and_their_files_lie_beside(theirs):
    folder = theirs.folder
    assert all((folder / name).exists() for name in ("run.json", "splits.csv", "quarantine.csv", "history.csv"))
    results, history = pd.read_csv(folder / "results.csv"), theirs.history
    np.testing.assert_allclose(results["metrics/mAP"], history.val_map, atol=1e-4)
    np.testing.assert_allclose(results["val/loss"], history.val_loss, rtol=0.05)  # theirs is a mean over batches
    for ours, pt in ((folder_of.BEST, folder_of.ULTRALYTICS_BEST), (folder_of.LAST, folder_of.ULTRALYTICS_LAST)):
        weights = read_pt(folder / pt)["model"].float().state_dict()
        tensors = safetensors.torch.load_file(folder / ours)
        assert list(weights) and all(torch.equal(tensors[name], value) for name, value in weights.items())
    thresholds = mw.tune_thresholds(theirs.predictions("val"))
    assert thresholds.decide(theirs.predictions("test")).shape == (17, len(CLASSES))


def test_its_recipe_its_callbacks_and_the_number_of_classes(table, tmp_path, caplog, monkeypatch):
    seen, flips = [], []
    monkeypatch.setattr(ultralytics_route, "augment", lambda images, u, *how: flips.append(how) or images.float() / 255)
    settings = {**TINY, "epochs": 1, "flip": True, "learning_rate": 0.002, "weight_decay": 0.01}
    fit(table, tmp_path, route="ultralytics", callbacks={"on_train_epoch_end": [lambda t: seen.append(t)]}, **settings)
    trainer = seen[0]
    assert isinstance(trainer, MultiLabelTrainer) and trainer.args.lr0 == 0.002 and flips[0] == (True, False)
    assert (
        type(trainer.optimizer).__name__ == "AdamW"
        and max(g["weight_decay"] for g in trainer.optimizer.param_groups) == 0.01
    )
    assert f"yolov8n-cls.yaml has nc=1000; set to the {len(CLASSES)} classes" in caplog.text
    with pytest.raises(WorkbenchError, match="no event 'on_lunch'"):
        fit(table, tmp_path / "b", route="ultralytics", callbacks={"on_lunch": [print]}, **settings)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"ultralytics": {"fraction": 0.5}}, "fraction=0.5: with several labels an image only 1.0"),
        ({"ultralytics": {"val": False}}, "val=False"),
        ({"ultralytics": {"epochs": 3}}, "epochs is no argument for Ultralytics here"),
        ({"ultralytics": {"nonsense": 1}}, "'nonsense' is not a valid YOLO argument"),
        ({"ultralytics": {"lrf": "much"}}, "lrf=much"),
        ({"precision": "bf16", "device": "cpu"}, "bf16: Ultralytics' trainer has it on CUDA only"),
        ({"backbone_rate": 0.5}, "backbone_rate is the loop's"),
        ({"accumulate": 2}, "accumulate is the loop's"),
        ({"route": "loop", "loss": "softmax"}, "loss 'softmax' with the route 'loop'"),
        ({"route": "probe", "ultralytics": {"lrf": 0.1}}, "arguments of Ultralytics' trainer with the route 'probe'"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_written(table, tmp_path, settings, match):
    with pytest.raises(WorkbenchError, match=match) as caught:
        fit(table, tmp_path / "run", **{**TINY, "route": "ultralytics", **settings})
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_the_installed_ultralytics_is_one_that_was_tried(table, tmp_path, monkeypatch):
    assert (
        Version(ultralytics_route.TRIED[0]) <= Version(version("ultralytics")) < Version(ultralytics_route.TRIED[1])
    ), "run the tests of this file with the new version, then move TRIED in ultralytics_route.py"
    for base, ours in (
        (ultralytics_route.ClassificationTrainer, MultiLabelTrainer),
        (ultralytics_route.ClassificationValidator, ultralytics_route.MultiLabelValidator),
        (yolo.ClassificationPredictor, yolo.MultiLabelPredictor),
    ):
        own = {name for name, value in vars(ours).items() if callable(value) and not name.startswith("_")}
        assert own <= set(dir(base)), "a method that nothing there calls"
    monkeypatch.setattr(ultralytics_route, "__version__", "9.0.0")
    with pytest.raises(WorkbenchError, match=r"ultralytics 9.0.0 was not tried; install >=8.4.150"):
        fit(table, tmp_path / "run", route="ultralytics", **TINY)


def test_stopped_and_resumed(table, tmp_path):
    def stop(trainer):
        if trainer.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    settings = {**TINY, "route": "ultralytics", "epochs": 4}
    run = fit(table, tmp_path, callbacks={"on_train_epoch_start": [stop]}, **settings)
    assert run.status == "interrupted" and len(run.history) == 1
    first = run.history.iloc[0]
    began = []
    run = fit(table, tmp_path, resume=True, callbacks={"on_train_epoch_start": [lambda t: began.append(t.epoch)]})
    assert run.status == "finished" and began == [1, 2, 3]
    assert list(run.history.epoch) == [1, 2, 3, 4] and run.history.iloc[0].equals(first)
    results = pd.read_csv(tmp_path / "results.csv")
    assert list(results.epoch) == [1, 2, 3, 4] and results["lr/pg0"][1:].is_monotonic_decreasing
    with pytest.raises(Interrupted, match="before the first epoch was done; nothing trained is kept"):
        fit(
            table,
            tmp_path / "b",
            callbacks={"on_train_start": [lambda _: os.kill(os.getpid(), signal.SIGINT)]},
            **settings,
        )
    assert Run(tmp_path / "b").status == "interrupted"


@pytest.mark.slow
def test_killed_at_any_write_it_goes_on_and_all_its_files_agree(table, tmp_path, monkeypatch):
    settings = {**TINY, "route": "ultralytics", "model": "yolo11n-cls.yaml"}
    for last in itertools.count(1):
        folder = tmp_path / str(last)
        with monkeypatch.context() as patch:
            killed_at(patch, last)
            try:
                fit(table, folder, **settings)
            except Killed:
                pass
            else:
                break
        run = fit(table, folder, resume=True, **settings)
        assert run.status == "finished" and list(run.history.epoch) == [1, 2]
        assert list(pd.read_csv(folder / "results.csv").epoch) == [1, 2]
        best = read_pt(folder / folder_of.ULTRALYTICS_BEST)["model"].float().state_dict()
        assert all(torch.equal(v, best[k]) for k, v in safetensors.torch.load_file(folder / folder_of.BEST).items())
        said, best = run.predictions("val"), run.best_epoch  # the files hold half precision
        loss = mean_known(bce(torch.from_numpy(said.logits), torch.from_numpy(said.y)), torch.from_numpy(said.y))
        assert abs(loss - best.val_loss) < 1e-3
    assert last > 12


def test_a_loss_that_is_not_finite_names_the_images_and_is_never_the_best(table, tmp_path, monkeypatch):
    step = MultiLabelTrainer.optimizer_step

    def poisoned(self):
        if self.epoch == 1:
            self.loss = self.loss * float("nan")
        step(self)

    monkeypatch.setattr(MultiLabelTrainer, "optimizer_step", poisoned)
    with pytest.raises(
        mw.exceptions.RunFailed, match=r"the loss is nan in epoch 2; the batch holds 'images/"
    ) as caught:
        fit(table, tmp_path, route="ultralytics", **TINY)
    assert caught.value.exit_status == 1 and Run(tmp_path).status == "failed" and len(Run(tmp_path).history) == 1


def test_their_softmax_as_it_is(table, tmp_path):
    run = fit(table, tmp_path, route="ultralytics", loss="softmax", **TINY)
    said = run.predictions("test")
    np.testing.assert_allclose(said.probabilities.sum(1), 1, atol=1e-4)
    from ultralytics import YOLO

    file = table.root / said.paths[0]
    result = YOLO(tmp_path / folder_of.ULTRALYTICS_BEST).predict(str(file), verbose=False)[0]
    np.testing.assert_allclose(result.probs.data, said.probabilities[0], atol=0.01)
    assert result.probs.top1 == said.logits[0].argmax()
    with pytest.raises(WorkbenchError, match="is a single-label network"):
        mw.MultiLabelYOLO(tmp_path / folder_of.ULTRALYTICS_BEST).predict(str(file))
    with pytest.raises(WorkbenchError, match="at least two classes"):
        one = read_labels_of_one_class(table, tmp_path)
        fit(one, tmp_path / "one", route="ultralytics", loss="softmax", **TINY)


def read_labels_of_one_class(table, folder):
    rows = "".join(f"{p},{max(0, y[1])}\n" for p, y in zip(table.paths, table.y, strict=True))
    (folder / "one.csv").write_text("image_path,one\n" + rows)
    return read_labels(folder / "one.csv", table.root)


def test_softmax_odds_by_hand(rng):
    z = torch.from_numpy(rng.normal(size=(6, 4)) * 30)
    p = z.softmax(1)
    np.testing.assert_allclose(softmax_odds(z).sigmoid(), p, rtol=1e-9)
    assert torch.isfinite(softmax_odds(z)).all()  # where p rounds to 1


def test_a_yaml_of_the_users_own_through_every_route(table, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(
        "nc: 3\nbackbone:\n- [-1, 1, Conv, [16, 3, 2]]\n- [-1, 1, C2f, [32, True]]\nhead:\n- [-1, 1, Classify, [nc]]\n"
    )
    for route in ROUTES:
        run = fit(table, tmp_path / route, route=route, model=str(file), **{**TINY, "epochs": 1})
        assert run.status == "finished" and run.state["architecture"]["nc"] == len(CLASSES)


def test_multi_label_yolo_as_ultralytics_users_know_it(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, epochs = mw.MultiLabelYOLO("yolo11n-cls.yaml"), []
    model.add_callback("on_fit_epoch_end", lambda trainer: epochs.append(trainer.metrics["metrics/mAP"]))
    metrics = model.train(
        data=str(table.source), epochs=2, imgsz=32, batch=16, project=str(tmp_path), name="x", fliplr=0.5, plots=True,
        patience=5, erasing=0.3,
    )  # fmt: skip
    folder = tmp_path / "x"
    assert model.run.folder == folder and len(epochs) == 2 and all(0 <= value <= 1 for value in epochs)
    # of the checkpoint in half precision, as all numbers of Ultralytics' last validation
    assert metrics.map == pytest.approx(model.run.evaluate("val")["map"], abs=1e-6)
    written = {file.name for file in folder.iterdir()}
    assert {"args.yaml", "results.csv", "results.png", "train_batch0.jpg", "val_batch0_labels.jpg"} <= written
    assert model.names == dict(enumerate(table.class_names)) and model.val(split="test").map >= 0
    thresholds = mw.Thresholds.default(table.class_names)
    model.run.save_thresholds(thresholds.with_values(np.full(len(CLASSES), 0.01)))
    file = str(table.root / table.paths[0])
    result = model.predict(file, verbose=False)[0]
    assert result.present == table.class_names and result.cpu().present == result.present
    rows = result.summary()
    assert (
        len(rows) == len(CLASSES)
        and rows[0]["confidence"] >= rows[-1]["confidence"]
        and all(r["present"] for r in rows)
    )
    assert result.verbose().count(",") == len(CLASSES)
    Run(folder).save_thresholds(thresholds)
    wide = model.predict(file, imgsz=64, verbose=False)[0]
    assert wide.present == [n for c, n in model.names.items() if wide.probs.data[c] >= 0.5]
    exported = mw.MultiLabelYOLO(model.export(format="torchscript", imgsz=32))
    np.testing.assert_allclose(exported.predict(file, verbose=False)[0].probs.data, result.probs.data, **CLOSE)
    for call in (lambda: model.load("x.pt"), model.tune, lambda: model.val(data="x"), model.train):
        with pytest.raises(WorkbenchError):
            call()
    for bad in ({"device": [0, 1]}, {"nonsense": 1}, {"quantize": 8}):
        with pytest.raises(WorkbenchError):
            model.train(data=str(table.source), project=str(tmp_path), name="y", **bad)
    assert not (tmp_path / "y").exists()


def test_multi_label_yolo_resumes_and_their_augmentations_are_theirs(table, tmp_path):
    model = mw.MultiLabelYOLO("yolo11n-cls.yaml")

    def stop(trainer):
        if trainer.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    model.add_callback("on_train_epoch_start", stop)
    model.train(data=table, epochs=3, imgsz=32, batch=16, save_dir=str(tmp_path / "x"), hsv_v=0.4)
    assert model.run.status == "interrupted"
    kinds = []
    again = mw.MultiLabelYOLO(tmp_path / "x" / folder_of.ULTRALYTICS_LAST)
    again.add_callback("on_train_batch_end", lambda t: kinds.append((t.own_augmentation, t.args.hsv_v)))
    again.train(resume=True)
    assert again.run.status == "finished" and set(kinds) == {(False, 0.4)} and len(again.run.history) == 3


def test_a_run_is_taken_for_its_best_checkpoint_and_another_told_the_way(table, theirs, tiny_run, tmp_path):
    assert list(mw.MultiLabelYOLO(theirs.folder).names.values()) == theirs.class_names
    for model in (tiny_run.folder, tiny_run.folder / folder_of.BEST):
        with pytest.raises(WorkbenchError, match="is no checkpoint of Ultralytics") as caught:
            mw.MultiLabelYOLO(model)
        way = re.search(r"model='(.*?)', route='(.*?)'", str(caught.value))
        fit(table, tmp_path / Path(model).name, model=way[1], route=way[2], **TINY)


def test_a_finished_one_trains_on_from_its_stripped_checkpoint(table, theirs, tmp_path, caplog):
    shutil.copytree(theirs.folder, tmp_path / "run")
    done = len(theirs.history)
    with pytest.MonkeyPatch.context() as patch:  # killed in the first of its new epochs: none of them counts
        killed_at(patch, 6)
        with pytest.raises(Killed):
            fit(table, tmp_path / "run", resume=True, epochs=done + 2)
    run = fit(table, tmp_path / "run", resume=True)
    assert run.status == "finished" and list(run.history.epoch) == list(range(1, done + 3))
    assert run.history.head(done).equals(theirs.history)
    assert len((run.folder / "results.csv").read_text().splitlines()) == done + 3
    assert any(
        line.startswith(f"goes on from epoch {done} to {done + 2} instead of {done}") for line in caplog.messages
    )


@pytest.fixture(scope="module")
def stopped(table, tmp_path_factory):
    """Their `last.pt` of a training of which two epochs are left to do."""
    model, folder = mw.MultiLabelYOLO("yolo11n-cls.yaml"), tmp_path_factory.mktemp("stopped") / "x"

    def stop(trainer):
        if trainer.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    model.add_callback("on_train_epoch_start", stop)
    model.train(data=table, epochs=3, imgsz=32, batch=16, amp=False, save_dir=str(folder), lrf=0.5, verbose=False)
    assert model.run.status == "interrupted"
    return folder / folder_of.ULTRALYTICS_LAST


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"epochs": 2}, "epochs is 2, but the run to resume has 3"),
        ({"batch": 8}, "batch_size is 8, but the run to resume has 16"),
        ({"imgsz": 64}, "image_size is 64"),
        ({"lr0": 0.5}, "learning_rate is 0.5"),
        ({"amp": True}, "precision is 'auto'"),
        ({"lrf": 0.1}, "lrf is 0.1, but the run to resume has 0.5"),
        ({"fliplr": 0.5}, "fliplr is 0.5, but the run to resume has 0.0"),
        ({"verbose": True}, "verbose is True, but the run to resume has False"),
        ({"model": "yolov8n-cls.yaml"}, "model is 'yolov8n-cls.yaml', but the run to resume has 'yolo11n-cls.yaml'"),
        ({"nonsense": 1}, "nonsense is 1"),
        ({"name": "y"}, "name is 'y'"),
        ({"save_dir": "y"}, "save_dir is 'y'"),
        ({"trainer": MultiLabelTrainer}, "trainer is this package's own"),
        ({"data": "one"}, "or its classes have changed since"),
    ],
)
def test_multi_label_yolo_resumes_with_the_runs_own_arguments_only(table, stopped, tmp_path, given, part):
    if given == {"data": "one"}:
        given = {"data": read_labels_of_one_class(table, tmp_path)}
    before = (stopped.parent.parent / "run.json").read_bytes()
    with pytest.raises(WorkbenchError) as caught:
        mw.MultiLabelYOLO(stopped).train(resume=True, **given)
    assert part in str(caught.value) and "\n" not in str(caught.value)
    assert (stopped.parent.parent / "run.json").read_bytes() == before


def test_multi_label_yolo_takes_its_own_arguments_again(table, stopped, tmp_path):
    shutil.copytree(stopped.parent.parent, tmp_path / "x")
    same = {"epochs": 3, "imgsz": 32, "batch": 16, "amp": False, "lrf": 0.5, "fliplr": 0.0, "optimizer": "auto"}
    place = {"project": str(tmp_path), "name": "x", "exist_ok": True}
    last, model = tmp_path / "x" / folder_of.ULTRALYTICS_LAST, mw.MultiLabelYOLO("yolo11n-cls.yaml")
    model.train(resume=str(last), data=str(table.source), workers=0, device="cpu", **same, **place)
    assert model.run.status == "finished" and len(model.run.history) == 3 and model.run.folder == tmp_path / "x"
    assert Run(stopped.parent.parent).status == "interrupted"
    assert model.run.state["settings"]["ultralytics"]["verbose"] is False  # honoured


def test_multi_label_yolo_refuses_all_that_would_have_no_effect(table, theirs, tmp_path):
    model = mw.MultiLabelYOLO(theirs.folder / folder_of.ULTRALYTICS_BEST)
    for call, part in (
        (lambda: model.train(trainer=MultiLabelTrainer, data=table), "trainer is this package's own"),
        (lambda: model.train(data=table, save_dir=str(tmp_path / "y"), name="z"), "name beside save_dir"),
        (lambda: model.val(validator=print), "validator"),
        (lambda: model.val(imgsz=64, batch=2), "imgsz, batch"),
        (lambda: mw.MultiLabelYOLO("yolo11n-cls.yaml", task="detect"), "task is 'detect'"),
    ):
        with pytest.raises(WorkbenchError) as caught:
            call()
        assert part in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_hostile_and_foreign_files_are_refused_wherever_one_is_read(table, theirs, tmp_path):
    from ultralytics.nn.tasks import DetectionModel

    torch.save({"model": Hostile(tmp_path / "executed")}, tmp_path / "hostile.pt")
    torch.save({"model": DetectionModel("yolov8n.yaml", verbose=False)}, tmp_path / "detection.pt")
    shutil.copy(theirs.folder / folder_of.ULTRALYTICS_BEST, tmp_path / "other.pt")
    for name in ("hostile.pt", "detection.pt"):
        with pytest.raises(WorkbenchError, match=name):
            mw.MultiLabelYOLO(tmp_path / name)
        with pytest.raises(WorkbenchError, match=name):
            fit(table, tmp_path / "run", route="ultralytics", model=str(tmp_path / name), **TINY)
    shutil.copytree(theirs.folder, tmp_path / "copy")
    run = Run(tmp_path / "copy")
    run.write_state(status="interrupted")
    (tmp_path / "copy" / folder_of.ULTRALYTICS_LAST).write_bytes((tmp_path / "hostile.pt").read_bytes())
    with pytest.raises(WorkbenchError, match=r"last.pt.* is damaged or no Ultralytics checkpoint"):
        fit(table, tmp_path / "copy", resume=True)
    assert not (tmp_path / "executed").exists()
    for name, change, match in (
        ("size.pt", None, r"size.*|does not fit its architecture"),
        ("nan.pt", lambda net: net.model[0].conv.weight.data.fill_(float("nan")), "hold NaN or infinite values"),
    ):
        ultralytics_checkpoint(tmp_path / name, change=change)
        state = torch.load(tmp_path / name, weights_only=False)
        torch.save({**state, "epoch": 0}, tmp_path / "copy" / folder_of.ULTRALYTICS_LAST)
        run.write_state(status="interrupted")
        with pytest.raises(WorkbenchError, match=match) as caught:
            fit(table, tmp_path / "copy", resume=True)
        assert "\n" not in str(caught.value) and Run(tmp_path / "copy").status == "interrupted"
        assert (tmp_path / "copy" / "predictions").exists()  # refused before anything was touched
    mw.MultiLabelYOLO(tmp_path / "other.pt")  # a renamed copy is welcome


def test_a_checkpoint_of_this_route_is_welcome_as_starting_weights(theirs, table, tmp_path):
    file = str(theirs.folder / folder_of.ULTRALYTICS_BEST)
    run = fit(table, tmp_path, route="probe", model=file, **TINY)
    assert run.state["settings"]["model"] == file
    kept, started = theirs.model.net.state_dict(), run.model.net.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in started.items() if ".linear." not in name)


def test_the_probe_caches_features_keeps_unseen_predictions_and_warns_of_random_weights(
    table, tmp_path, caplog, monkeypatch
):
    settings = {**TINY, "image_size": 40}
    run = fit(table, tmp_path / "a", route="probe", **settings)
    assert "starts from random weights" in caplog.text and run.history.lr.isna().all()
    unseen = pd.read_parquet(tmp_path / "a" / "predictions/train_out_of_fold.parquet")
    assert set(unseen.image_path) == {p for p, split in run.splits().items() if split == "train"}
    monkeypatch.setattr("mlworkbench.network.infer.infer", lambda *_: 1 / 0)  # the features are there
    again = fit(table, tmp_path / "b", route="probe", **settings)
    assert (again.folder / folder_of.BEST).read_bytes() == (run.folder / folder_of.BEST).read_bytes()


def test_the_probe_stops_when_asked_and_begins_anew(table, tmp_path, monkeypatch):
    from mlworkbench.network import infer

    real = infer.infer

    def interrupted(model, batches, device, **_):
        os.kill(os.getpid(), signal.SIGINT)
        return real(model, batches, device)

    settings = {**TINY, "image_size": 48, "route": "probe"}
    with monkeypatch.context() as patch:
        patch.setattr(infer, "infer", interrupted)
        with pytest.raises(Interrupted, match="nothing trained is kept"):
            fit(table, tmp_path, **settings)
    assert Run(tmp_path).status == "interrupted"
    assert fit(table, tmp_path, resume=True, **settings).status == "finished"


@pytest.mark.skipif(not SHARED.exists(), reason="the real photographs and checkpoint are not here")
def test_the_probe_on_real_photographs_reaches_what_an_independent_script_did(tmp_path):
    data = SHARED / "data" / "aquarium"
    table = read_labels(data / "labels.csv", None, None, data / "splits.csv")
    run = fit(table, tmp_path, route="probe", model=str(SHARED / "weights" / "weather4_yolo11n-cls.pt"))
    assert run.best_epoch.val_map > 0.88 and run.evaluate()["map"] > 0.85  # .908 and .880 there; noise is .02


def test_the_command_line_trains_by_every_route(demo_labels, tmp_path):
    for route in ROUTES[1:]:
        done = subprocess.run(
            [sys.executable, "-m", "mlworkbench", "train", demo_labels, "--run", tmp_path / route, "--route", route,
             "--epochs", "1", "--imgsz", "32", "--batch", "12"],
            capture_output=True, text=True, cwd=PROJECT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        *_, epoch, end = done.stdout.splitlines()
        assert epoch.startswith("epoch   1") and "finished, best validation mAP" in end
    assert Path(tmp_path / "ultralytics" / "weights" / "best.pt").exists()
