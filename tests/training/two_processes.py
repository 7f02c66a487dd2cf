"""Run in several processes: fit, with BatchNorm's statistics frozen or not.

Arguments: LABELS ROOT RUN frozen|free PIECES. The norms of the gradients go to RUN.norms.
"""

import sys

from accelerate import Accelerator
from torch import nn

from mlworkbench import fit, read_labels
from mlworkbench.training.loop import Trainer

labels, root, run_dir, kind, pieces = sys.argv[1:]
begin_epoch = Trainer.begin_epoch


def frozen(self):
    begin_epoch(self)
    for module in self.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


clip, norms = Accelerator.clip_grad_norm_, []


def kept(self, *arguments):
    norm = clip(self, *arguments)
    norms.append(float(norm))
    return norm


Accelerator.clip_grad_norm_ = kept
if kind == "frozen":
    Trainer.begin_epoch = frozen
settings = {"epochs": 2, "image_size": 32, "batch_size": 16, "precision": "fp32", "device": "cpu"}
run = fit(read_labels(labels, root), run_dir, accumulate=int(pieces), learning_rate=1e-4, **settings)
with open(f"{run_dir}.norms", "a") as file:  # noqa: PTH123
    file.write(f"{norms}\n")
