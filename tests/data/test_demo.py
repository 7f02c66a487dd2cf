import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mlworkbench import WorkbenchError, read_labels
from mlworkbench.data.demo import CLASSES, KEYWORDS, SIDE, SIGNS, TWINS, make_demo
from mlworkbench.data.duplicates import near_duplicates
from mlworkbench.data.images import ImageInfo, check_images


def digest(folder):
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return hashlib.sha256(b"".join(f.name.encode() + f.read_bytes() for f in files)).hexdigest()


@pytest.fixture(scope="module")
def signs(tmp_path_factory):
    """The folder of 400 images, and their table."""
    file = make_demo(tmp_path_factory.mktemp("demo") / "signs", 400, seed=3)
    return file.parent, read_labels(file)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_demo(tmp_path / name, 20, seed)
    a, b, c = (digest(tmp_path / name) for name in "abc")
    assert a == b != c


def test_what_it_promises(signs):
    _, table = signs
    assert table.class_names == list(CLASSES) and len(table) == 400 + 5 + TWINS
    assert [(table.split[:400] == name).sum() for name in ("train", "val", "test")] == [240, 80, 80]
    found = check_images(table.paths, table.root)
    broken = [path for path, its in zip(table.paths, found, strict=True) if not isinstance(its, ImageInfo)]
    assert broken == [f"images/{name}.jpg" for name in ("truncated", "not_an_image", "empty", "missing")]
    assert {(its.width, its.height) for its in found[:400]} == {(SIDE, SIDE)}
    assert found[400].digest == found[0].digest and (table.y[400] == table.y[0]).all()


def test_no_two_images_look_alike_but_those_that_are_planted(signs):
    _, table = signs
    infos = check_images(table.paths, table.root)
    kept = [row for row, its in enumerate(infos) if isinstance(its, ImageInfo) and row != 400]
    pairs = near_duplicates([infos[row].phash for row in kept], [infos[row].tiny for row in kept])
    rows = np.array(kept)[pairs]
    assert sorted(rows[:, 1]) == list(range(405, 405 + TWINS))  # each twin, and nothing else
    assert (table.split[rows[:, 0]] == "train").all() and set(table.split[rows[:, 1]]) == {"val", "test"}


def test_a_sign_is_where_it_is_said_to_be_and_nowhere_else(signs):
    """Against the same image without that sign, which the painter would have drawn on the same ground."""
    folder, _ = signs
    truth, places = read_labels(folder / "truth.csv"), pd.read_csv(folder / "signs.csv")
    said = {(path, name) for path, name in zip(places.image_path, places["class"], strict=True)}
    assert said == {(truth.paths[i], CLASSES[c]) for i, c in np.argwhere(truth.y[:400, : len(SIGNS)] == 1)}
    assert (places[["left", "top"]].to_numpy() + places[["size"]].to_numpy() // 2 < SIDE).all()
    assert (places[["left", "top"]].to_numpy() + places[["size"]].to_numpy() // 2 > 0).all()


def test_frequencies(tmp_path):
    make_demo(tmp_path / "many", 1500)
    y = read_labels(tmp_path / "many" / "truth.csv").y[:1500] == 1
    share = dict(zip(CLASSES, y.mean(0), strict=True))
    for name, (_, wanted) in SIGNS.items():
        assert name in ("cloud", "umbrella") or share[name] == pytest.approx(wanted, abs=0.04), name
    assert min(share.values()) < 0.045 and max(share.values()) > 0.35
    cloud, umbrella = (y[:, CLASSES.index(name)] for name in ("cloud", "umbrella"))
    assert umbrella[cloud].mean() > 2 * umbrella[~cloud].mean()
    assert y[:, : len(SIGNS)].sum(1).max() == 4


def test_a_keyword_is_said_of_some_images_of_its_sign_and_of_no_other(tmp_path):
    make_demo(tmp_path / "many", 1500)
    y = read_labels(tmp_path / "many" / "truth.csv").y[:1500] == 1
    for keyword, (sign, often) in KEYWORDS.items():
        its, of = (y[:, CLASSES.index(name)] for name in (keyword, sign))
        assert not (its & ~of).any() and its[of].mean() == pytest.approx(often, abs=0.1)


@pytest.mark.parametrize("noise", [0, 0.03, 0.2])
def test_of_each_class_a_share_of_labels_is_missing_and_half_as_many_are_there_wrongly(tmp_path, noise):
    noisy = read_labels(make_demo(tmp_path / "noisy", 400, label_noise=noise))
    truth = read_labels(tmp_path / "noisy" / "truth.csv")
    missing = ((truth.y == 1) & (noisy.y == 0)).sum(0)
    wanted = noise * (truth.y[1:400] == 1).sum(0)
    assert (np.abs(missing - wanted) <= 0.5).all()
    assert (((truth.y == 0) & (noisy.y == 1)).sum(0) == np.round(missing / 2)).all()
    assert (noisy.y[400] == noisy.y[0]).all()  # the duplicate is no conflict


def test_some_are_dark(signs):
    folder, table = signs
    grey = [np.asarray(Image.open(folder / path).convert("L")).mean() for path in table.paths[:400]]
    assert 0.05 < np.mean(np.array(grey) < 35) < 0.2


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
    assert json.loads((tmp_path / "a" / "demo.json").read_text())["images"] == 20
