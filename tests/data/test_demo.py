import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mlworkbench import WorkbenchError, read_labels
from mlworkbench.data import demo
from mlworkbench.data.demo import CLASSES, _digits_by_split, make_demo
from mlworkbench.data.images import ImageFault, check_images


def digest(folder):
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return hashlib.sha256(b"".join(f.name.encode() + f.read_bytes() for f in files)).hexdigest()


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_demo(tmp_path / name, 20, seed)
    a, b, c = (digest(tmp_path / name) for name in "abc")
    assert a == b != c


def test_no_digit_image_serves_two_splits():
    parted = _digits_by_split(np.random.default_rng(0))
    everything = [{image.tobytes() for per_class in parted[split] for image in per_class} for split in parted]
    assert sum(map(len, everything)) == len({image.tobytes() for image in load_digits().images / 16})
    assert not everything[0] & everything[1] | everything[0] & everything[2] | everything[1] & everything[2]


def test_each_scene_takes_its_digits_from_its_own_split(tmp_path, monkeypatch):
    used, draw = [], demo._draw_scene
    monkeypatch.setattr(demo, "_draw_scene", lambda *given: used.append(id(given[3])) or draw(*given))
    split = read_labels(make_demo(tmp_path / "d", 30)).split[:30]
    assert len({*zip(split, used, strict=True)}) == 3 == len(set(used))


def test_what_it_promises(demo_labels):
    table = read_labels(demo_labels)
    assert table.class_names == list(CLASSES) and len(table) == 63
    found = check_images(table.paths, table.root)
    faults = [path for path, item in zip(table.paths, found, strict=True) if isinstance(item, ImageFault)]
    assert faults == ["images/truncated.jpg", "images/not_an_image.jpg"]
    assert {(item.width, item.height) for item in found[:60]} == {(96, 96)}
    assert found[-1].digest == found[0].digest
    assert [(table.split[:60] == name).sum() for name in ("train", "val", "test")] == [42, 9, 9]


def test_frequencies(tmp_path):
    table = read_labels(make_demo(tmp_path / "many", 1500))
    share = (table.y == 1).mean(0)
    assert 2.0 < (table.y == 1).sum(1).mean() < 2.4
    assert share.max() > 3 * share.min()
    two, seven = table.y[:, 2] == 1, table.y[:, 7] == 1
    assert seven[two].mean() > 2 * seven[~two].mean()


def test_label_noise_keeps_the_truth_beside_it(tmp_path):
    noisy = read_labels(make_demo(tmp_path / "noisy", 400, label_noise=0.1))
    truth = read_labels(tmp_path / "noisy" / "truth.csv")
    clean = read_labels(make_demo(tmp_path / "clean", 400))
    assert (truth.y == clean.y).all() and not (tmp_path / "clean" / "truth.csv").exists()
    assert 0.08 < (noisy.y != truth.y).mean() < 0.12
    assert (noisy.y[-1] == noisy.y[0]).all()  # the duplicate is no conflict


def test_refusals(tmp_path):
    (tmp_path / "mine.txt").write_text("work")
    with pytest.raises(WorkbenchError, match="holds something else"):
        make_demo(tmp_path)
    with pytest.raises(WorkbenchError, match="at least 20"):
        make_demo(tmp_path / "few", 5)
    with pytest.raises(WorkbenchError, match="between 0 and 0.5"):
        make_demo(tmp_path / "loud", 20, label_noise=0.9)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_making_it_anew_leaves_nothing_of_the_old_one(tmp_path):
    make_demo(tmp_path / "a", 30, label_noise=0.1)
    make_demo(tmp_path / "a", 20)
    make_demo(tmp_path / "b", 20)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
