"""Whether class activation maps point at the right thing: `python benchmarks/maps.py [--quick]`.

The built-in data, three seeds. Of the test images' true positives: the share whose map has its maximum on the digit,
give or take 4 pixels; maps of whole cells (32 pixels), and finer ones of shifted images.
"""

import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np
import torch

logging.disable(logging.WARNING)
NEAR = 4


def placed(folder: Path, images: int):
    """The labels file of the built-in data, and the box (left, top, size) of each digit by (image, class)."""
    from mlworkbench.data import demo

    boxes, scenes, free_place, permutation = {}, iter(range(images)), demo._free_place, None
    draw_scene = demo._draw_scene

    class Watched:
        """The generator, of which the order of the digits is remembered."""

        def __init__(self, rng):
            self.rng = rng

        def __getattr__(self, name):
            return getattr(self.rng, name)

        def permutation(self, classes):
            nonlocal permutation
            permutation = self.rng.permutation(classes)
            return permutation

    def watched_scene(rng, labels, photographs, strokes):
        scene, found = f"images/{next(scenes):05d}.jpg", []

        def place(rng, taken):
            size, left, top = free_place(rng, taken)
            found.append((left, top, size))
            return size, left, top

        demo._free_place = place
        drawn = draw_scene(Watched(rng), labels, photographs, strokes)
        boxes.update({(scene, int(c)): box for c, box in zip(permutation, found, strict=True)})
        return drawn

    demo._draw_scene = watched_scene
    labels = demo.make_demo(folder, images)
    demo._draw_scene, demo._free_place = draw_scene, free_place
    return labels, boxes


def share_on_digit(run, boxes, fine: int) -> float:
    from mlworkbench import Thresholds
    from mlworkbench.network.activation_maps import maps, peaks
    from mlworkbench.network.batches import ImageDataset

    test = run.predictions("test")
    dataset = ImageDataset(test.paths, run.root, None, 96)
    hits = []
    true = (test.labels == 1) & Thresholds.default(test.class_names).decide(test)
    for start in range(0, len(test), 50):
        rows = range(start, min(start + 50, len(test)))
        images = torch.stack([dataset[row][0] for row in rows]) / 255
        for row, points in zip(rows, peaks(maps(run.model, images, fine), (96, 96)), strict=True):
            for c in np.flatnonzero(true[row]):
                left, top, size = boxes[test.paths[row], int(c)]
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
        labels, boxes = placed(Path(place) / "data", 300 if quick else 3000)
        for seed in range(1 if quick else 3):
            table, epochs = mw.read_labels(labels), 1 if quick else 15
            run = mw.fit(table, Path(place) / str(seed), seed=seed, epochs=epochs, image_size=96)
            shares.append([share_on_digit(run, boxes, fine) for fine in (1, 2, 4)])
            print(f"seed {seed}: plain, 2 and 4 times as fine:", *(f"{share:.3f}" for share in shares[-1]), flush=True)
    print("mean:", *(f"{share:.3f}" for share in np.mean(shares, axis=0)))


if __name__ == "__main__":
    main()
