"""The predictor: the same bits on any number of threads, no more in memory than they need, faults in their places."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CLOSE

from mlworkbench import WorkbenchError
from mlworkbench.data.images import load_image
from mlworkbench.network import infer as module
from mlworkbench.network.batches import squared
from mlworkbench.network.infer import Predictor
from mlworkbench.network.model import build_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build_model("yolov8n-cls.yaml", ["a", "b", "c"]).train()
    with torch.no_grad():
        for _ in range(30):  # until the norms know what comes: else each image gets the same answer
            model(torch.rand(16, 3, 32, 32))
        model.head.weight *= 20
    return model.eval()


@pytest.fixture
def folder(picture, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 4)
    for i in range(30):
        picture(f"{i:02}.png", seed=i)
    (tmp_path / "05.png").write_bytes(b"no image")
    for i in range(8, 12):
        (tmp_path / f"{i:02}.png").unlink()
    return tmp_path


PATHS = [f"{i:02}.png" for i in range(30)]
BAD = {5, 8, 9, 10, 11}


def answers(predictor, root):
    return list(predictor.stream(PATHS, root))


def test_logits_are_the_network_s_own_and_faults_have_their_rows(model, folder):
    parts = answers(Predictor(model, 32, CPU), folder)
    assert [part[0] for part in parts] == [range(i, min(i + 4, 30)) for i in range(0, 30, 4)]
    assert {row for _, _, faults in parts for row in faults} == BAD
    assert all(len(logits) == len(rows) - len(faults) for rows, logits, faults in parts)
    images = [squared(load_image(PATHS[row], folder, 32), 32) for row in range(30) if row not in BAD]
    with torch.no_grad():
        expected = model(torch.from_numpy(np.stack(images)).float() / 255).numpy()
    np.testing.assert_allclose(np.concatenate([logits for _, logits, _ in parts]), expected, **CLOSE)


def test_the_bits_do_not_depend_on_the_threads_which_are_left_as_they_were(model, folder):
    before = torch.get_num_threads()
    one, several = (answers(Predictor(model, 32, CPU, threads=n), folder) for n in (1, 5))
    assert all((a[1] == b[1]).all() for a, b in zip(one, several, strict=True))
    assert torch.get_num_threads() == before


def test_only_so_much_is_decoded_ahead_as_the_threads_need(model, folder, monkeypatch):
    opened = []
    monkeypatch.setattr(module, "load_image", lambda *given: opened.append(given[0]) or load_image(*given))
    for number, _ in enumerate(Predictor(model, 32, CPU, threads=1).stream(PATHS, folder), 1):
        assert len(opened) <= 4 * (number + 2)


def test_a_reader_that_leaves_early_leaves_no_thread(model, folder):
    import threading

    before = threading.active_count()
    stream = Predictor(model, 32, CPU, threads=3).stream(PATHS, folder)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_steady_ones_are_the_mean_of_shifted_images(model, folder):
    """Of an image of one colour every view is the same; of others the views differ."""
    from PIL import Image

    Image.new("RGB", (40, 30), (10, 200, 90)).save(folder / "plain.png")
    plain, steady = (
        np.concatenate([a for _, a, _ in Predictor(model, 32, CPU, steady=s).stream(["plain.png", "00.png"], folder)])
        for s in (False, True)
    )
    np.testing.assert_allclose(plain[0], steady[0], atol=1e-5)
    assert np.abs(plain[1] - steady[1]).max() > 1e-4


def test_bf16_is_near_and_another_precision_is_refused(model, folder):
    exact, fast = (
        np.concatenate([a for _, a, _ in answers(Predictor(model, 32, CPU, precision=p), folder)])
        for p in ("fp32", "bf16")
    )
    assert fast.dtype == np.float32 and 0 < np.abs(exact - fast).max() < 0.1
    with pytest.raises(WorkbenchError, match="precision 'fp16'; expected one of fp32, bf16"):
        Predictor(model, 32, precision="fp16")


def test_no_image_at_all_is_no_part(model):
    assert not list(Predictor(model, 32, CPU).stream([], Path()))
