"""Networks and runs that nobody trained, whose answers differ from image to image."""

import numpy as np
import pandas as pd
import torch
from PIL import Image

from mlworkbench import Predictions, Run, build_model
from mlworkbench.network.model import save_weights

SMALL = {"nc": 4, "scale": "n", "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]],
         "head": [[-1, 1, "Classify", ["nc"]]]}  # fmt: skip


def lively(model, size, seed=0):
    """Give a network statistics of images that are not its own, and a head whose logits spread."""
    torch.manual_seed(seed)
    images = torch.rand(16, 3, 8, 8).repeat_interleave(size // 8, 2).repeat_interleave(size // 8, 3)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over batches: the first one's own
        norm.reset_running_stats()
    with torch.no_grad():
        model.train()(images)
        for norm in norms:
            norm.running_mean += 0.1 * torch.randn_like(norm.running_mean)
            norm.running_var *= 0.8 + 0.4 * torch.rand_like(norm.running_var)
        logits = model.eval()(images)
        scale = 2 / logits.std(0)
        model.head.weight *= scale[:, None]
        model.head.bias.sub_(logits.mean(0)).mul_(scale)
    return model


def untrained_run(folder, names, images=40, size=32, loss="bce"):
    """A run folder with a small network, validation images, and labels that its logits half know."""
    rng, run, root = np.random.default_rng(0), Run(folder / "run"), folder / "images"
    root.mkdir(parents=True)
    model = lively(build_model(SMALL, names), size)
    (run.folder / "checkpoints").mkdir(parents=True)
    (run.folder / "checkpoints/best.safetensors").write_bytes(save_weights(model))
    run.write_state(
        format_version=1, class_names=names, status="finished", image_root=str(root), architecture=model.architecture,
        settings={"image_size": size, "loss": loss, "batch_size": 8, "workers": 0}, labels_sha256="", versions={},
    )  # fmt: skip
    paths = np.array([f"{i}.png" for i in range(images)], object)
    for path in paths:
        colours = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((size, size), Image.Resampling.NEAREST).save(root / path)
    pd.DataFrame({"image_path": paths, "split": "val"}).to_csv(run.folder / "splits.csv", index=False)
    found = run.predict(paths, root, raw=True)
    y = (found.logits + rng.normal(0, 2, found.logits.shape) > 0).astype(np.int8)
    run.write_predictions(Predictions(paths, names, found.logits, y, "val"), "val")
    return run
