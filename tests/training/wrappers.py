"""Run in several processes: head first, then all of it. Arguments: LABELS RUN. Prints what became of the wrappers."""

import gc
import json
import sys
import weakref

import torch.distributed as dist

from mlworkbench import fit, read_labels
from mlworkbench.training.loop import Trainer

labels, run_dir = sys.argv[1:]
begin_epoch, wrappers, alive, sent = Trainer.begin_epoch, [], [], []


def watched(self):
    begin_epoch(self)
    gc.collect()
    if not wrappers or wrappers[-1]() is not self._wrapped:
        wrappers.append(weakref.ref(self._wrapped))
    alive.append(sum(wrapper() is not None for wrapper in wrappers))
    sent.append(self._wrapped.broadcast_buffers)


Trainer.begin_epoch = watched
settings = {"epochs": 2, "image_size": 32, "batch_size": 16, "precision": "fp32", "device": "cpu", "head_epochs": 1}
fit(read_labels(labels), run_dir, **settings)
if dist.get_rank() == 0:
    print(json.dumps({"wrappers": len(wrappers), "alive": alive, "buffers are sent": sent}))
