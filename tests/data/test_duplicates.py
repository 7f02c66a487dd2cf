import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from mlworkbench import LabelTable
from mlworkbench.data import duplicates
from mlworkbench.data.duplicates import joined_groups, linked_rows, near_duplicates, rows_together
from mlworkbench.data.images import ImageInfo, check_images
from mlworkbench.data.prepare import linked_images


def near_pairs(hashes, tiny):
    """Near duplicates by comparing each image with each, bool [N, N]."""
    bits = np.unpackbits(hashes, axis=1).astype(int)
    grey = np.array([np.abs(tiny.astype(int) - one).mean(1) for one in tiny])
    return ((bits[:, None] != bits).sum(2) <= 4) & (grey <= 6)


def whole(hashes, tiny, told=None):
    """The groups of at least two that were found, each link of which must be a near duplicate."""
    links = near_duplicates([row.tobytes() for row in hashes], [row.tobytes() for row in tiny], told or pytest.fail)
    assert (links[:, 0] < links[:, 1]).all() and links.tolist() == sorted(links.tolist())
    bits = np.unpackbits(hashes, axis=1)
    assert ((bits[links[:, 0]] != bits[links[:, 1]]).sum(1) <= 4).all()
    assert (np.abs(tiny[links[:, 0]].astype(int) - tiny[links[:, 1]]).mean(1) <= 6).all()
    return [rows.tolist() for rows in rows_together(links)]


def some_images(rng, images):
    """Hashes and tiny images of few kinds that lie more or less apart, in one direction or many."""
    kinds = rng.integers(1, 6)
    flips = np.packbits(rng.random((images, 64)) < rng.choice([0, 0.02, 0.04, 0.08]), axis=1)
    hashes = rng.integers(0, 256, (kinds, 8), dtype=np.uint8)[rng.integers(0, kinds, images)] ^ flips
    apart = np.repeat(
        rng.normal(0, rng.choice([0, 2, 5, 8, 30]), (images, width := rng.choice([1, 2, 256]))), 256 // width, 1
    )
    tiny = rng.integers(0, 256, (4, 256))[rng.integers(0, rng.integers(1, 5), images)] + apart
    return hashes, np.clip(tiny, 0, 255).astype(np.uint8)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 120), st.sampled_from([1, 5, 1000]), st.sampled_from([3, 1 << 16]))
def test_the_groups_are_those_of_comparing_each_with_each(seed, images, small, cells):
    hashes, tiny = some_images(np.random.default_rng(seed), images)
    expected = rows_together(np.argwhere(np.triu(near_pairs(hashes, tiny), 1)))
    with pytest.MonkeyPatch.context() as patch:  # so that few images are searched as very many are
        patch.setattr(duplicates, "SMALL", small)
        patch.setattr(duplicates, "CELLS", cells)
        found = whole(hashes, tiny)
    assert found == [rows.tolist() for rows in expected]


def series(rng, frames, kind):
    """Alike frames, or such that drift so far that the first and the last have nothing in common."""
    ends = rng.integers(40, 216, (2, 256))
    at = np.linspace(0, 1, frames)[:, None] * (kind != "alike")
    tiny = (ends[0] * (1 - at) + ends[1] * at + rng.normal(0, 1, (frames, 256))).astype(np.uint8)
    bits = rng.integers(0, 2, (2, 64))
    drifted = (
        np.where(at > rng.random(64), bits[1], bits[0]) if kind == "hashes drift too" else bits[:1].repeat(frames, 0)
    )
    return np.packbits(drifted, axis=1), tiny


@pytest.mark.parametrize("kind", ["alike", "drift", "hashes drift too"])
@pytest.mark.parametrize("mixed", [False, True])
def test_long_series_stay_whole_and_apart_at_the_cost_of_few_comparisons(rng, monkeypatch, kind, mixed):
    parts = [
        series(rng, 8000, kind),
        series(rng, 2500, kind),
        (rng.integers(0, 256, (500, 8)), rng.integers(0, 256, (500, 256))),
    ]
    hashes, tiny = (np.concatenate(values).astype(np.uint8) for values in zip(*parts, strict=True))
    if kind != "hashes drift too":  # what looks different has the same hash by accident
        hashes[:] = hashes[0]
    order = rng.permutation(11_000) if mixed else np.arange(11_000)
    compared, unlike = [], duplicates._Search._unlike
    monkeypatch.setattr(
        duplicates._Search,
        "_unlike",
        lambda self, a, b, most=1: compared.append(np.broadcast(a, b).size) or unlike(self, a, b, most),
    )
    found = whole(hashes[order], tiny[order])
    assert [sorted(order[rows].tolist()) for rows in sorted(found, key=len)] == [
        list(range(8000, 10_500)),
        list(range(8000)),
    ]
    assert sum(compared) < 1500 * 11_000 and max(compared) <= duplicates.CELLS


def test_a_search_that_is_given_up_is_told(rng, monkeypatch):
    monkeypatch.setattr(duplicates, "SMALL", 10)
    monkeypatch.setattr(duplicates, "MOST", 20)
    tiny, told = rng.integers(0, 256, (200, 256), dtype=np.uint8), []
    tiny[100] = tiny[99]  # a copy takes no search
    assert whole(np.zeros((200, 8), np.uint8), tiny, told.append) == [[99, 100]]
    left = np.unique(np.concatenate(told))
    assert 100 < len(left) < 200 and 100 not in left
    infos = [ImageInfo(9, 9, str(i), bytes(8), row.tobytes()) for i, row in enumerate(tiny)]
    links = linked_rows(infos, None)
    assert links["unsearched"][:, 0].tolist() == left.tolist()
    assert len(set(joined_groups(links))) == 199
    paths = np.array([f"{i}.png" for i in range(200)], object)
    table = LabelTable(paths, ["a"], np.zeros((200, 1), np.int8), np.arange(200) + 2, None, None, "")
    (_, duplicate), (kind, message) = linked_images(table, links)
    assert "'99.png', '100.png'" in duplicate
    assert kind == "not searched" and f"{len(left)} images, the first '{left[0]}.png' (line {left[0] + 2})," in message


def test_copies_are_told_as_identical_and_with_their_near_duplicates_only(rng):
    tiny = rng.integers(0, 256, (2, 256), dtype=np.uint8)
    digests, looks = ["a", "b", "a", "b", "c", "c"], [0, 0, 0, 0, 1, 1]
    infos = [ImageInfo(9, 9, d, bytes(8), tiny[look].tobytes()) for d, look in zip(digests, looks, strict=True)]
    links = linked_rows(infos, None)
    assert [rows.tolist() for rows in rows_together(links["identical"])] == [[0, 2], [1, 3], [4, 5]]
    assert [rows.tolist() for rows in rows_together(links["near"])] == [[0, 1, 2, 3]]


def test_flat_pictures_with_equal_hashes_are_told_apart_by_their_grey():
    pairs = near_duplicates([bytes(8)] * 3, [bytes([v]) * 256 for v in (0, 200, 203)])
    assert pairs.tolist() == [[1, 2]]


def test_photographs_saved_again_are_found_and_others_not(tmp_path):
    china, flower = (Image.fromarray(image) for image in load_sample_images().images)
    variants = {
        "china.png": china,
        "china_q30.jpg": china,
        "china_small.jpg": china.resize((320, 213)),
        "china_bright.jpg": ImageEnhance.Brightness(china).enhance(1.03),
        "flower.png": flower,
        "flower_crop.png": flower.crop((200, 100, 500, 400)),
    }
    for name, image in variants.items():
        image.save(tmp_path / name, **({"quality": 30} if name.endswith("q30.jpg") else {}))
    infos = check_images(list(variants), tmp_path)
    pairs = near_duplicates([info.phash for info in infos], [info.tiny for info in infos])
    assert [rows.tolist() for rows in rows_together(pairs)] == [[0, 1, 2, 3]]


def test_sets_and_groups_follow_every_chain_of_pairs():
    pairs = np.array([[1, 5], [5, 3], [8, 9]])
    assert [rows.tolist() for rows in rows_together(pairs)] == [[1, 3, 5], [8, 9]]
    assert rows_together(np.zeros((0, 2), np.int64)) == []
    groups = joined_groups({"near": pairs, "self": np.stack([np.arange(10)] * 2, axis=1)})
    assert groups[1] == groups[3] == groups[5] != groups[0] and len(set(groups)) == 7
