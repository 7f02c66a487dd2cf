"""Whether class activation maps point at the right thing: `python benchmarks/maps.py [--quick]`.

The built-in data, three seeds. Of the test images' true positives: the share whose map has its maximum on the sign,
give or take 4 pixels; maps of whole cells (32 pixels), and finer ones of shifted images.
"""

import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

logging.disable(logging.WARNING)
NEAR, IMAGE_SIZE = 4, 96


def placed(folder: Path, images: int):
    """The labels file of the built-in data, and the box (left, top, size) of each sign by (image, class)."""
    from mlworkbench.data.demo import SIDE, make_demo

    labels = make_demo(folder, images, label_noise=0)
    signs = pd.read_csv(folder / "signs.csv")
    boxes = signs[["left", "top", "size"]].to_numpy() * (IMAGE_SIZE / SIDE)
    return labels, dict(zip(zip(signs.image_path, signs["class"], strict=True), boxes, strict=True))


def share_on_sign(run, boxes, fine: int) -> float:
    from mlworkbench import Thresholds
    from mlworkbench.network.activation_maps import maps, peaks
    from mlworkbench.network.batches import ImageDataset

    test = run.predictions("test")
    dataset = ImageDataset(test.paths, run.root, None, IMAGE_SIZE)
    hits = []
    true = (test.labels == 1) & Thresholds.default(test.class_names).decide(test)
    for start in range(0, len(test), 50):
        rows = range(start, min(start + 50, len(test)))
        images = torch.stack([dataset[row][0] for row in rows]) / 255
        for row, points in zip(rows, peaks(maps(run.model, images, fine), (IMAGE_SIZE, IMAGE_SIZE)), strict=True):
            for c in np.flatnonzero(true[row]):
                if (box := boxes.get((test.paths[row], test.class_names[c]))) is None:
                    continue  # a planted twin, which is smaller
                left, top, size = box
                low, high = np.array([left, top]) - NEAR, np.array([left, top]) + size + NEAR
                hits.append(bool(((low <= points[c]) & (points[c] < high)).all()))
    return float(np.mean(hits)) if hits else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    import mlworkbench as mw

    shares = []
    with tempfile.TemporaryDirectory() as place:
        labels, boxes = placed(Path(place) / "data", 300 if quick else 3400)
        for seed in range(1 if quick else 3):
            table, epochs = mw.read_labels(labels), 1 if quick else 15
            run = mw.fit(table, Path(place) / str(seed), seed=seed, epochs=epochs, image_size=IMAGE_SIZE)
            shares.append([share_on_sign(run, boxes, fine) for fine in (1, 2, 4)])
            print(f"seed {seed}: plain, 2 and 4 times as fine:", *(f"{share:.3f}" for share in shares[-1]), flush=True)
    print("mean:", *(f"{share:.3f}" for share in np.mean(shares, axis=0)))


if __name__ == "__main__":
    main()
