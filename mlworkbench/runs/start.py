"""Start of a training: a network with random weights, with those of a checkpoint, or with a run's own."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from ..exceptions import WorkbenchError
from ..network.model import YOLOClassifier, build_model, load_weights
from . import folder as folder_of
from .run import Run

log = logging.getLogger("mlworkbench")


def starting_network(model: str, class_names: Sequence[str], silent: bool = False) -> YOLOClassifier:
    """A network for these classes, which all of it will train.

    Parameters
    ----------
    model : what `network.model.build_model` takes; or a run: its folder (its best weights), or the weights in its
        `checkpoints/`. A class that the run had keeps its row of the last layer, a new one begins as always.

    Raises
    ------
    WorkbenchError : see `build_model`; or no run is there, or its weights are gone or damaged
    """
    path = Path(model)
    if not (path.is_dir() or path.suffix == ".safetensors"):
        return build_model(model, class_names)
    run = Run(path if path.is_dir() else path.parent.parent)
    if not folder_of.holds_run(run.folder):
        raise WorkbenchError(
            f"model {model!r}: {run.folder} holds no run (no {folder_of.STATE}), which would say what network the "
            "weights are of; give a run's folder, NAME.yaml or NAME.pt"
        )
    file = run.folder / folder_of.BEST if path.is_dir() else path
    theirs = load_weights(build_model(run.state["architecture"], run.class_names), file)
    network = build_model(run.state["architecture"], class_names)
    kept = [name for name in class_names if name in run.class_names]
    old, new = ([names.index(name) for name in kept] for names in (run.class_names, list(class_names)))
    with torch.no_grad():
        for name, values in theirs.net.state_dict().items():
            own = network.net.state_dict()[name]
            if name.endswith(("linear.weight", "linear.bias")):
                own[new] = values[old]
            else:
                own.copy_(values)
    network.trained = True
    if not silent:
        fresh = [name for name in class_names if name not in kept]
        known = f"{len(kept)} of {len(class_names)} classes keep their weights of the last layer"
        log.warning(
            "begins with the weights of %s; %s%s", file, known, f", new are {', '.join(fresh)}" if fresh else ""
        )
    return network
