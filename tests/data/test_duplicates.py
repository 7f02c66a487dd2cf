import itertools

import numpy as np
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from mlworkbench.data.duplicates import MAX_BITS, joined_groups, near_duplicates, rows_together
from mlworkbench.data.images import check_images


def test_against_comparing_each_with_each():
    rng = np.random.default_rng(0)
    bases = rng.integers(0, 256, (40, 8), dtype=np.uint8)
    flips = np.packbits(rng.random((400, 64)) < 0.04, axis=1)
    packed = bases[rng.integers(0, 40, 400)] ^ flips
    found = near_duplicates([row.tobytes() for row in packed], [bytes(256)] * 400)
    bits = np.unpackbits(packed, axis=1).astype(int)
    expected = [(i, j) for i, j in itertools.combinations(range(400), 2) if (bits[i] != bits[j]).sum() <= MAX_BITS]
    assert len(expected) > 100 and found.tolist() == [list(pair) for pair in expected]


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
