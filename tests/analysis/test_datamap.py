"""The map of the data: projection, near duplicates, and the widget from the kernel's side."""

import asyncio
import re
import shutil
from dataclasses import replace
from html import escape
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

from mlworkbench import Predictions, Run, Thresholds, WorkbenchError
from mlworkbench.analysis import datamap
from mlworkbench.analysis.datamap import MappedImages, near_duplicates, project
from mlworkbench.text import shortened
from mlworkbench.views import plots
from mlworkbench.views.map import DataMap
from mlworkbench.views.style import MAP_MARKS, png

NAMES = ["cat", "<script>alert(1)</script>", "$x^2$"]


@pytest.fixture
def images(rng, tmp_path):
    """60 images of noise in three splits; 50 (val) looks much like 3 (train), and what is right of 0 to 3 is known."""
    features = rng.normal(size=(60, 40)).astype(np.float32)
    features[50] = features[3] + rng.normal(0, 0.02, 40)
    split = np.array(["train"] * 40 + ["val"] * 12 + ["test"] * 8, object)
    paths = np.array([f"<b>{i} $y$.png" for i in range(60)], object)
    (tmp_path / "images").mkdir()
    for path in paths[:59]:  # the last cannot be read
        Image.new("RGB", (8, 8), tuple(rng.integers(0, 256, 3).tolist())).save(tmp_path / "images" / path, "PNG")
    y = rng.integers(-1, 2, (60, 3)).astype(np.int8)
    y[:4] = [[1, 0, 0], [0, 0, 0], [1, 1, 0], [-1, -1, -1]]
    present = y == 1
    present[:4] = [[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]]
    logits = rng.normal(size=(60, 3)).astype(np.float32)
    return MappedImages(Predictions(paths, NAMES, logits, y), present, split, features, tmp_path / "images")


@pytest.fixture
def its(images):
    """The widget as a page that shows it makes it."""
    widget = DataMap(images)
    widget._view_count = 1
    return SimpleNamespace(map=widget, images=images, points=widget.figure.data[1])


def test_pca_is_that_of_the_covariance_and_tsne_that_of_scikit_learn(rng):
    x = (rng.normal(size=(90, 60)) * np.linspace(5, 1, 60)).astype(np.float32)
    values, vectors = np.linalg.eigh(np.cov(x.T.astype(float)))
    wanted = (x - x.mean(0)) @ vectors[:, np.argsort(-values)[:2]]
    found = project(x)
    assert found.dtype == np.float32 and found.shape == (90, 2)
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-3)
    first = PCA(50, random_state=7).fit_transform(x)
    oracle = TSNE(init="pca", perplexity=(90 - 1) / 3, random_state=7).fit_transform(first)
    np.testing.assert_array_equal(project(x, "tsne", seed=7), oracle)


def test_tsne_keeps_neighbours_and_is_the_same_again(rng):
    x = np.repeat(rng.normal(0, 5, (4, 30)), 20, axis=0).astype(np.float32) + rng.normal(size=(80, 30)).astype("f")
    found = project(x, "tsne", seed=1)
    assert trustworthiness(x, found, n_neighbors=5) > 0.9
    np.testing.assert_array_equal(found, project(x, "tsne", seed=1))


@pytest.mark.parametrize(("rows", "method"), [(2, "pca"), (9, "umap")])
def test_what_cannot_be_projected_is_told(rows, method):
    with pytest.raises(WorkbenchError, match=f"{method!r} of {rows} images; expected pca or tsne, of three or more"):
        project(np.eye(rows, 4, dtype=np.float32), method)


def test_three_images_have_a_map():
    assert project(np.eye(3, dtype=np.float32), "tsne").shape == (3, 2)


def brute(features, split, limit, apart):
    """Pairs of each image and the most similar one of another split, one comparison at a time; see `NEXT`."""
    x = np.linalg.svd((features - features.mean(0)).astype(float), full_matrices=False)[0]  # rows are whitened images
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    pairs = {}
    sixth = [sorted(x @ row)[-7] for row in x]  # besides the image itself and the other of a pair five
    for i in range(len(x)):
        like = {j: float(x[i] @ x[j]) for j in range(len(x)) if split[j] != split[i]}
        best = max(like, key=like.get)
        if like[best] >= limit and apart * (1 - like[best]) <= 1 - max(sixth[i], sixth[best]):
            pairs[min(i, best), max(i, best)] = like[best]
    return pairs


@pytest.mark.parametrize("apart", [0, 1.1, 1.3])
def test_near_duplicates_are_those_of_brute_force(rng, monkeypatch, apart):
    features = rng.normal(size=(150, 20)).astype(np.float32)
    split = rng.choice(["train", "val", "test"], 150)
    paths = np.array([str(i) for i in range(150)], object)
    monkeypatch.setattr(datamap, "LIMIT", 0.5)
    monkeypatch.setattr(datamap, "BLOCK", 7)
    monkeypatch.setattr(datamap, "APART", apart)
    found, wanted = near_duplicates(features, split, paths), brute(features, split, 0.5, apart)
    assert len(wanted) > 10
    assert {(int(row.a), int(row.b)) for row in found.itertuples()} == set(wanted)
    likes = [wanted[int(row.a), int(row.b)] for row in found.itertuples()]
    np.testing.assert_allclose(found.similarity, likes, atol=1e-4)
    assert found.similarity.is_monotonic_decreasing
    assert list(found.split_a) == [split[int(a)] for a in found.a] and (found.split_a != found.split_b).all()


def test_among_many_images_each_is_compared_with_few_and_that_is_said(rng, monkeypatch, caplog):
    features = rng.normal(size=(3000, 40)).astype(np.float32)
    features[2900:] = features[:100] + rng.normal(0, 0.2, (100, 40))
    split = np.array(["train"] * 2800 + ["val"] * 200)
    paths = np.arange(3000).astype(str)
    exact = near_duplicates(features, split, paths)
    assert not caplog.text
    monkeypatch.setattr(datamap, "EXACT", 2999)
    monkeypatch.setattr(datamap, "PROBES", 8)
    found = near_duplicates(features, split, paths)
    assert "3,000 images: each is compared with the up to 1,744 nearest" in caplog.text
    assert found.merge(exact, on=["a", "b"]).eval("similarity_x - similarity_y").abs().max() < 1e-5
    assert {(str(i), str(2900 + i)) for i in range(100)} <= set(zip(exact.a, exact.b, strict=True))
    assert len(found.merge(exact, on=["a", "b"])) > 0.9 * len(exact) and len(found) <= 1.05 * len(exact)
    crowd = near_duplicates(np.repeat(features[:2], 1500, axis=0), split, paths)  # all of them in two cells
    assert len(crowd) and (crowd.similarity > 0.999).all()


def test_what_is_alike_to_many_is_no_duplicate(rng):
    features = rng.normal(size=(400, 40)).astype(np.float32)
    features[380:390] = features[0] + rng.normal(0, 0.1, (10, 40))  # one of a crowd, in both splits
    features[391] = features[1] + rng.normal(0, 0.1, 40)
    features[392] = features[2]
    split = np.array(["train"] * 385 + ["val"] * 15)
    found = near_duplicates(features, split, np.arange(400).astype(str))
    assert found[["a", "b"]].values.tolist() == [["2", "392"], ["1", "391"]] and found.similarity[1] > 0.95


def test_a_planted_duplicate_is_found_and_nothing_else(images):
    assert images.near[["a", "split_a", "b", "split_b"]].values.tolist() == [
        ["<b>3 $y$.png", "train", "<b>50 $y$.png", "val"]
    ]
    assert images.near.similarity[0] > 0.95 and images.pairs.tolist() == [[3, 50]]


def test_within_one_split_nothing_is_a_duplicate(images):
    alone = replace(images, split=np.full(60, "train", object))
    assert len(alone.near) == 0 and alone.pairs.shape == (0, 2)
    assert list(alone.near.columns) == ["a", "split_a", "b", "split_b", "similarity"]


def test_directions_without_variance_hide_no_duplicate(rng):
    features = (rng.normal(size=(60, 6)) @ rng.normal(size=(6, 40))).astype(np.float32)
    features[50:] = features[:10] * (1 + 1e-6 * rng.normal(size=(10, 40)))  # as other machines compute them
    split = np.array(["train"] * 50 + ["val"] * 10)
    found = near_duplicates(features, split, np.arange(60).astype(str)).head(10)
    assert sorted(zip(found.a.astype(int), found.b.astype(int), strict=True)) == [(i, 50 + i) for i in range(10)]
    assert ((found.similarity > 0.999) & (found.similarity <= 1)).all()


def test_images_without_any_difference_are_no_trouble():
    found = near_duplicates(np.ones((9, 4), np.float32), np.array(["train", "val", "test"] * 3), np.arange(9))
    assert np.isfinite(found.similarity).all()


def test_what_an_image_is(images):
    assert images.kinds("split").tolist() == images.split.tolist()
    assert images.kinds("errors")[:4].tolist() == ["false positive", "right", "both", "unknown"]
    assert images.kinds(0)[:4].tolist() == ["present", "absent", "present", "unknown"]
    assert set(images.kinds("errors")) | set(images.kinds(1)) <= set(MAP_MARKS)


def test_a_run_says_the_same_here_as_in_its_predictions(tiny_run, monkeypatch):
    said = np.sort(tiny_run.predictions("val").probabilities, axis=0)
    between = said[len(said) // 2 - 1 : len(said) // 2 + 1].mean(0)
    thresholds = Thresholds.default(tiny_run.class_names).with_values(between)
    monkeypatch.setattr(Run, "thresholds", lambda _: thresholds)
    images = MappedImages.of(tiny_run)
    assert images.present.any() and not images.present.all()
    for split in ("val", "test"):
        wanted, rows = tiny_run.predictions(split), images.split == split
        assert images.predictions.paths[rows].tolist() == wanted.paths.tolist()
        np.testing.assert_allclose(images.predictions.logits[rows], wanted.logits, atol=1e-4)
        clear = np.abs(wanted.probabilities - between) > 1e-5  # after two epochs some lie closer than rounding
        np.testing.assert_array_equal(images.present[rows][clear], tiny_run.thresholds().decide(wanted)[clear])
        np.testing.assert_array_equal(images.predictions.labels[rows], wanted.labels)
    monkeypatch.setattr("mlworkbench.network.infer.pooled_features", None)  # the second time they are in the cache
    np.testing.assert_array_equal(MappedImages.of(Run(tiny_run.folder)).features, images.features)


def test_features_are_kept_by_the_images_that_they_are_of(tiny_run, tmp_path, caplog):
    root = shutil.copytree(tiny_run.root, tmp_path / "scenes")
    run = Run(tiny_run.folder)
    run.state = run.state | {"labels_file": str(root / "labels.csv"), "image_root": str(root)}
    before = MappedImages.of(run)
    assert "changed" not in caplog.text
    first, second = (root / path for path in before.predictions.paths[:2])
    original = first.read_bytes()
    first.write_bytes(second.read_bytes())
    changed = MappedImages.of(run)
    assert f"images have changed since {run.folder} was trained" in caplog.text
    moved = np.abs(before.features[1] - before.features[0]).max()  # not much, after two epochs
    np.testing.assert_allclose(changed.features[0], before.features[1], atol=moved / 20)
    np.testing.assert_array_equal(changed.features[1:], before.features[1:])
    first.write_bytes(original)
    np.testing.assert_array_equal(MappedImages.of(run).features, before.features)
    first.write_bytes(b"no image")
    with pytest.raises(WorkbenchError, match=f"image '{before.predictions.paths[0]}': not an image.*changed since"):
        MappedImages.of(run)


def test_colours_and_marks_follow_the_choice(its):
    for chosen, column in (("split", "split"), ("errors", "errors"), (1, 1)):
        its.map.by.value = chosen
        kinds = its.images.kinds(column)[its.map._order]
        assert list(its.points.marker.color) == [MAP_MARKS[kind][0] for kind in kinds]
        assert list(its.points.marker.symbol) == [MAP_MARKS[kind][2] for kind in kinds]
        np.testing.assert_array_equal(its.points.x, its.map._at["PCA"][its.map._order, 0])
        for kind in set(kinds):
            assert f"{kind} ({(kinds == kind).sum()})" in its.map._legend.value


def test_a_click_and_a_line_around_points_show_their_images(its):
    drawn = SimpleNamespace(point_inds=[5])
    its.map.by.value = "errors"  # the order of drawing is no longer that of the rows
    its.points._dispatch_on_click(drawn, None)
    row = its.map._order[5]
    assert its.map.shown.tolist() == [row] and its.map._pictures.value.count("<figure>") == 1
    assert f"&lt;b&gt;{row} $y$.png" in its.map._pictures.value
    np.testing.assert_array_equal(its.map.figure.data[3].x, its.map._at["PCA"][[row], 0])
    its.points._dispatch_on_selection(SimpleNamespace(point_inds=list(range(60))), None)
    assert len(its.map.shown) == 12 and its.map._pictures.value.count("<figure>") == 12
    y, present = its.images.predictions.labels, its.images.present
    wrong = ((y >= 0) & ((y == 1) != present)).sum(1)
    assert wrong[its.map.shown].tolist() == sorted(wrong, reverse=True)[:12]
    assert "60 selected; shown are the 12 with most wrong decisions" in its.map._status.value
    its.points._dispatch_on_selection(SimpleNamespace(point_inds=[]), None)
    assert len(its.map.shown) == 12


def test_an_image_is_described_in_words(its):
    p = its.images.predictions.probabilities[0]
    its.map.show(np.array([0, 59]))
    text = re.sub(r"<br>", "\n", its.map._pictures.value)
    assert f"labels: cat {p[0]:.2f}\n" in text and text.count("cannot be read") == 1
    called = sorted([(p[0], "cat"), (p[1], escape(shortened(NAMES[1], 24)))], reverse=True)
    assert "called: " + ", ".join(f"{name} {value:.2f}" for value, name in called) in text
    assert "✗" in text.split("\n")[0] and "(train)" in text


def test_near_duplicates_are_ringed_joined_and_shown_when_asked_for(its):
    at = its.map._at["PCA"]
    lines, rings = its.map.figure.data[0], its.map.figure.data[2]
    np.testing.assert_array_equal(lines.x, [at[3, 0], at[50, 0], np.nan])
    np.testing.assert_array_equal(rings.y, at[[3, 50], 1])
    assert not lines.visible and not rings.visible and "ring" not in its.map._legend.value
    assert its.map.duplicates.description == "Near duplicates across splits (1 pair)"
    its.map.duplicates.value = True
    assert lines.visible and rings.visible and "near duplicate across splits (2)" in its.map._legend.value
    shown = re.findall(r"title='(\S+) ", its.map._pictures.value)
    assert shown == ["&lt;b&gt;3", "&lt;b&gt;50"] and "mlw-pairs" in its.map._pictures.value
    assert "1 pair across splits, the most alike first.</p>" in its.map._status.value
    its.map.show_pairs(False)
    assert not its.map.duplicates.value and not lines.visible and "near duplicate" not in its.map._legend.value


def test_of_a_network_that_began_with_random_weights_it_is_said(images):
    widget = DataMap(replace(images, untaught=True))
    widget.show_pairs()
    assert "began with random weights: what is alike to it need not look alike" in widget._status.value
    assert DataMap(replace(images, split=np.full(60, "train", object))).duplicates.disabled


def test_no_name_goes_into_the_plot_and_none_comes_alive(its):
    its.map.show(np.arange(4))
    assert not re.search(r"script|\$|<b>", its.map.figure.to_json())
    for part in (its.map._pictures, its.map._legend, its.map._status):
        assert not re.search(r"<script|<b>", part.value)
    assert "tex2jax_ignore mathjax_ignore" in its.map._pictures.value


def test_the_plot_would_ask_for_nothing_outside(its):
    assert its.map.figure._config["showSendToCloud"] is False and its.map.figure._config["displaylogo"] is False


def test_without_a_page_there_is_no_plot(images):
    widget = DataMap(images)
    widget.show(np.arange(2))
    widget.arrange()
    assert widget.figure is None and widget.method == "t-SNE" and "live Jupyter" in repr(widget)
    widget._view_count = 1
    np.testing.assert_array_equal(widget.figure.data[1].x, project(images.features, "tsne")[widget._order, 0])
    np.testing.assert_array_equal(widget.figure.data[3].x, widget._at["t-SNE"][widget.shown, 0])
    first = widget.figure
    widget._view_count = 2
    assert widget.figure is first


def test_tsne_says_how_long_it_takes_and_keeps_the_pca_until_it_is_done(its):
    async def pressed():
        its.map.button.click()
        now = its.map.method, its.map.button.disabled, its.map._status.value, np.array(its.points.x)
        await its.map._task
        await asyncio.sleep(0)
        return now

    assert its.map.button.description == "t-SNE (takes about 5 s)"
    method, disabled, said, x = asyncio.run(pressed())
    assert method == "PCA" and disabled and "the PCA stays until it is done" in said
    np.testing.assert_array_equal(x, its.map._at["PCA"][its.map._order, 0])
    assert its.map.method == "t-SNE" and not its.map.button.disabled and its.map.button.description == "Back to PCA"
    np.testing.assert_array_equal(its.points.x, project(its.images.features, "tsne")[its.map._order, 0])
    its.map.button.click()
    assert its.map.method == "PCA" and its.map.button.description == "t-SNE"
    np.testing.assert_array_equal(its.points.x, its.map._at["PCA"][its.map._order, 0])


@pytest.mark.parametrize("error", [MemoryError("no <b>room</b>\nfor it"), WorkbenchError("no room"), RuntimeError()])
@pytest.mark.parametrize("in_a_loop", [True, False])
def test_a_tsne_that_fails_is_told_and_the_pca_stays(its, monkeypatch, error, in_a_loop):
    async def pressed():
        its.map.button.click()
        await its.map._task
        await asyncio.sleep(0)

    with monkeypatch.context() as patch:
        patch.setattr("mlworkbench.views.map.project", lambda *_: (_ for _ in ()).throw(error))
        asyncio.run(pressed()) if in_a_loop else its.map.button.click()
    said = " ".join(f"{type(error).__name__}: {error}".split())
    assert f"t-SNE failed, the PCA stays: {escape(said)}</p>" in its.map._status.value
    assert its.map.method == "PCA" and not its.map.button.disabled and its.map.button.description.startswith("t-SNE")
    np.testing.assert_array_equal(its.points.x, its.map._at["PCA"][its.map._order, 0])
    its.map.button.click()  # what failed once may be tried again
    assert its.map.method == "t-SNE" and "Arranged by t-SNE" in its.map._status.value


@pytest.mark.parametrize("what", ["split", "errors", 1])
def test_the_picture_holds_every_point_and_every_ring(images, what):
    figure = plots.data_map(project(images.features), images.kinds(what), images.pairs, "$x$ <b>")
    kinds = images.kinds(what)
    ax = figure.axes[0]
    assert [len(part.get_offsets()) for part in ax.collections] == [
        *((kinds == kind).sum() for kind in MAP_MARKS if (kinds == kind).any()), 2
    ]  # fmt: skip
    assert len(ax.lines) == 1 and ax.get_title(loc="left") == r"\$x\$ <b>"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[-1] == "near duplicate across splits (2)" and len(texts) == len(set(kinds)) + 1
    assert png(figure)[:4] == b"\x89PNG"


def test_the_picture_of_a_map_without_duplicates(images):
    assert png(plots.data_map(project(images.features), images.split, np.zeros((0, 2), int)))
