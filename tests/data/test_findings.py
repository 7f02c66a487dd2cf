from pathlib import Path

import numpy as np

from mlworkbench import LabelTable, read_labels
from mlworkbench.data.prepare import group_sizes, label_balance, prepare


def found(y, split=None):
    y = np.array(y, np.int8)
    n = len(y)
    names = [f"c{i}" for i in range(y.shape[1])]
    paths = np.array([f"{i}.jpg" for i in range(n)], object)
    table = LabelTable(paths, names, y, np.arange(n), Path(), Path(), "")
    split = np.resize(np.array(["train", "val", "test"], object), n) if split is None else np.array(split, object)
    return label_balance(table, split)


def test_absent_and_rare_classes_are_named_with_their_split():
    y = [[1, 0]] * 30
    y[0] = [1, 1]  # in train
    kinds = [(kind, message.split(":")[0]) for kind, message in found(y) if "c1" in message]
    assert kinds == [
        ("rare", "class 'c1' has 1 positive in train"),
        ("no positive", "class 'c1' has no positive in val"),
        ("no positive", "class 'c1' has no positive in test"),
    ]


def test_always_on_counts_known_labels_only():
    y = np.array([[1, i % 2] for i in range(60)])
    y[:30, 0] = -1
    assert next(m for kind, m in found(y) if kind == "always on").startswith(
        "class 'c0' is present in 100% of the images"
    )
    y[30:40, 0] = 0
    assert not [m for kind, m in found(y) if kind == "always on"]


def test_images_without_a_known_label_are_counted():
    assert next((k, m.count("3 images")) for k, m in found([[1], [0]] * 30 + [[-1]] * 3) if k == "unknown") == (
        "unknown",
        1,
    )


def test_a_class_that_implies_another_is_told_in_its_direction():
    rng = np.random.default_rng(0)
    b = rng.random(300) < 0.5
    a = b & (rng.random(300) < 0.4)
    messages = [message for kind, message in found(np.stack([a, b], axis=1).astype(int)) if kind == "implies"]
    assert len(messages) == 1 and messages[0].startswith("100% of the images with 'c0' show 'c1' too")


def test_balanced_labels_give_nothing_to_say():
    rng = np.random.default_rng(1)
    assert found((rng.random((300, 3)) < 0.4).astype(int)) == []


def test_groups_are_told_with_what_they_are_worth():
    assert group_sizes(np.arange(50)) == [] == group_sizes(np.r_[np.arange(98), 97])
    [(kind, message)] = group_sizes(np.repeat(np.arange(10), 4))
    assert kind == "groups" and message.startswith(
        "40 images make 10 groups that belong together, of up to 4 images: they tell as much as some 10 images"
    )


def test_a_look_at_some_images_shows_those_that_belong_together_once(write_labels, picture):
    names = [picture(f"{i}.png", seed=i % 8) for i in range(9)]  # the last is the first once more
    splits = ["train"] * 6 + ["val", "test", "train"]
    rows = "".join(f'{name},"[1, 0]",{split}\n' for name, split in zip(names, splits, strict=True))
    prepared = prepare(read_labels(write_labels("image_path,labels,split\n" + rows)))
    assert prepared.spread("train", 12).paths.tolist() == names[:6]
    assert prepared.spread("train", 2).paths.tolist() == [names[0], names[5]]
