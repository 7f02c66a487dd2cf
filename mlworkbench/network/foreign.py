"""Files of strangers: what their architectures and checkpoints may hold, read without running any of it."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_hooks

from ..exceptions import WorkbenchError

os.environ.setdefault("YOLO_AUTOINSTALL", "False")  # read when Ultralytics is imported; see `safely`

# Where the classes come from that a layer may be: no whole models, no containers, nothing that takes other modules.
LAYERS = re.compile(
    r"ultralytics\.nn\.modules\.(conv|block|head|transformer|activation)"
    r"|torch\.nn\.modules\.(?!transformer|rnn|container|loss)\w+|torchvision\.ops\.\w+"
)
# What a checkpoint may name beyond what torch itself takes for safe.
KNOWN = re.compile(
    r"ultralytics\.nn\.(tasks\.ClassificationModel|modules\.(\w+\.)?(?!TorchVision)\w+)|torch\.nn\.modules\.\w+\.\w+"
    r"|ultralytics\.(yolo\.)?utils\.IterableSimpleNamespace|ultralytics\.utils\.loss\.v8ClassificationLoss"
    r"|torchvision\.transforms\.\w+\.\w+|numpy\.(dtype|_?core\.multiarray\.scalar)|pathlib\.(_local\.)?\w+Path"
    r"|builtins\.getattr|_codecs\.encode"  # Ultralytics' loader gives forward methods only
)
# What checkpoints of Ultralytics 8.0 and 8.1 name besides: how images were prepared and the loss, at their places then.
OLD = [f"ultralytics.{old}data.augment.{name}" for old in ("", "yolo.") for name in ("CenterCrop", "ToTensor")]
OLD += ["ultralytics.yolo.utils.loss.v8ClassificationLoss"]
NORM = ("eps", "momentum")
HEAD = re.compile(r"model\.(\d+)\.linear\.weight")
MOST_VALUES, MOST_ROWS, MOST_REPEATS, LARGEST = 10_000, 200, 100, 100_000  # in an architecture
MOST_MODULES, MOST_PARAMETERS = 20_000, 1_000_000_000  # of a network; the largest published one has some 2,000 and 6e7

ALTERNATIVES = "give the path of a .pt that is there, or start from random weights with a .yaml (yolov8n-cls.yaml)"


class Unused:
    """In the place of an object that no network needs: keeps its values, and does nothing."""


@contextmanager
def quietly() -> Iterator[None]:
    """Import and use Ultralytics without its notices."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def safely() -> Iterator[None]:
    """Read and build what may be a stranger's: quietly, without running what it says, and within bounds.

    Ultralytics reads its own settings for this once, when it is imported, perhaps before us or against us.

    Raises
    ------
    WorkbenchError : the network grows beyond any that is meant
    """
    with quietly():
        from ultralytics.nn import tasks
        from ultralytics.nn.modules import Conv
        from ultralytics.utils import checks

        # Their parser takes the activation from Conv, and may leave a mapping's own there for every later network.
        before, activation, Conv.default_act = (tasks.SAFE_LOAD, checks.AUTOINSTALL), Conv.default_act, nn.SiLU()
        modules = parameters = 0

        def count_module(*_: object) -> None:
            nonlocal modules
            modules += 1
            if modules > MOST_MODULES:
                raise WorkbenchError(f"a network of more than {MOST_MODULES:,} layers; is it a model's architecture?")

        def count_parameters(_: nn.Module, __: str, values: torch.Tensor | None) -> None:
            nonlocal parameters
            parameters += 0 if values is None else values.numel()
            if parameters > MOST_PARAMETERS:
                raise WorkbenchError(f"a network of more than {MOST_PARAMETERS:,} parameters")

        hooks = [
            torch_hooks.register_module_module_registration_hook(count_module),
            torch_hooks.register_module_parameter_registration_hook(count_parameters),
        ]
        tasks.SAFE_LOAD, checks.AUTOINSTALL = True, False
        try:
            with torch.serialization.safe_globals([(Unused, name) for name in OLD]):
                yield
        finally:
            tasks.SAFE_LOAD, checks.AUTOINSTALL = before
            Conv.default_act = activation
            for hook in hooks:
                hook.remove()


def _refuse_odd_values(mapping: Mapping[str, Any], what: object) -> None:
    """An architecture holds plain numbers and short texts, and not endlessly many of them."""
    todo: list[tuple[Any, int]] = [(dict(mapping), 0)]
    seen = 0
    while todo:
        value, depth = todo.pop()
        seen += 1
        if seen > MOST_VALUES or depth > 6:
            raise WorkbenchError(f"{what} holds more than any architecture; is it a model's YAML?")
        if isinstance(value, (list, tuple)):
            todo += [(item, depth + 1) for item in value]
        elif isinstance(value, dict):
            todo += [(item, depth + 1) for pair in value.items() for item in pair]
        elif not (
            value is None
            or (isinstance(value, str) and len(value) <= 200)
            or (isinstance(value, (bool, int, float)) and abs(value) <= LARGEST)
        ):
            shown = type(value).__name__ if not isinstance(value, (int, float)) else value
            raise WorkbenchError(f"{what}: {shown} is no value of an architecture; expected numbers and short texts")
    factors = [mapping.get(name) for name in ("depth_multiple", "width_multiple")]
    factors += [row[0] for row in (mapping.get("scales") or {}).values() if isinstance(row, list) and row]
    if any(isinstance(factor, (int, float)) and factor > 10 for factor in factors):
        raise WorkbenchError(f"{what}: layers are repeated more than ten times their number; expected a depth up to 10")
    if len(mapping["backbone"]) + len(mapping["head"]) > MOST_ROWS:
        raise WorkbenchError(f"{what} has more than {MOST_ROWS} layers; is it a model's YAML?")


def _refuse_foreign_layers(mapping: Mapping[str, Any], what: object) -> None:
    """Every row must name a layer of Ultralytics or torch, a plain number of repeats and plain arguments.

    Ultralytics' parser would call whatever function or model stands there, and gives a text that is the name of one of
    its own variables that variable's value.
    """
    from ultralytics.nn import tasks

    variables = set(tasks.parse_model.__code__.co_varnames) - {"nc"}
    for row in (*mapping["backbone"], *mapping["head"]):
        shape = [type(part) for part in row] if isinstance(row, list) else []
        if len(shape) != 4 or shape[1:] != [int, str, list] or shape[0] not in (int, list):
            raise WorkbenchError(f"{what}: the layer {str(row)[:80]} is no [from, number, module, arguments]")
        _, repeats, name, arguments = row
        layer = getattr(_home(name), name.rsplit(".", 1)[-1], None)
        if not (isinstance(layer, type) and issubclass(layer, nn.Module) and LAYERS.fullmatch(layer.__module__)):
            raise WorkbenchError(f"{what}: {name!r} is no layer that Ultralytics or torch has")
        if layer.__name__ == "TorchVision":
            raise WorkbenchError(
                f"{what}: the layer TorchVision is a whole model that fetches weights; name its layers"
            )
        if not 0 < repeats <= MOST_REPEATS:
            raise WorkbenchError(f"{what}: the layer {name} {repeats:,} times; expected 1 to {MOST_REPEATS}")
        odd = [a for a in arguments if isinstance(a, dict) or (isinstance(a, str) and a in variables)]
        if odd:
            raise WorkbenchError(f"{what}: {str(odd[0])[:60]!r} is no argument of a layer; expected a plain value")
    activation = mapping.get("activation")
    if activation:
        named = re.fullmatch(r"(?:torch\.)?nn\.(\w+)\([\w=., -]*\)", str(activation))
        layer = getattr(nn.modules.activation, named[1], None) if named else None
        if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
            raise WorkbenchError(f"{what}: activation {activation!r}; expected a torch layer such as nn.ReLU()")


def _home(name: str) -> Any:
    """The module in which Ultralytics' parser looks a layer up."""
    if name.startswith("torchvision.ops."):
        import torchvision.ops  # takes as long to import as torch, and few architectures name it

        return torchvision.ops
    from ultralytics.nn import tasks

    return nn if name.startswith("nn.") else tasks


def _parts_of(net: nn.Module) -> Iterator[tuple[str, nn.Module, dict[str, Any]]]:
    """Modules by the beginning of their parts' names, and these parts, from where torch keeps them.

    A foreign object's methods may be anything.
    """
    todo: list[tuple[str, nn.Module]] = [("", net)]
    for _ in range(MOST_MODULES):  # a module can hold itself
        if not todo:
            break
        prefix, module = todo.pop()
        parts = vars(module)
        yield prefix, module, parts
        children = parts.get("_modules", {}).items()
        todo += [(f"{prefix}{name}.", child) for name, child in children if isinstance(child, nn.Module)]


def _tensors_of(net: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name."""
    return {
        prefix + name: values.detach()
        for prefix, _, parts in _parts_of(net)
        for name, values in (*parts.get("_parameters", {}).items(), *parts.get("_buffers", {}).items())
        if isinstance(values, torch.Tensor)
    }


def _norms_of(net: nn.Module, file: Path) -> dict[str, float]:
    """The eps and momentum of its norms, which are no part of an architecture and stand in no weights."""
    norms = [parts for _, module, parts in _parts_of(net) if isinstance(module, nn.BatchNorm2d)]
    found: list[list[Any]] = [[parts.get(name) for parts in norms] for name in NORM]
    if any(type(value) is not float or value != values[0] for values in found for value in values):
        raise WorkbenchError(
            f"model {str(file)!r}: eps or momentum of its norms differ; expected the same in all of them"
        )
    return {name: values[0] for name, values in zip(NORM, found, strict=True) if values}


def refuse_architecture(mapping: Mapping[str, Any], what: object) -> None:
    """Raise WorkbenchError unless an architecture's mapping names layers with plain values, and not endlessly many."""
    if not all(isinstance(mapping.get(part), list) for part in ("backbone", "head")):
        raise WorkbenchError(f"{what} has no backbone and head; is it a model's YAML?")
    for name in ("channels", "ch"):
        if mapping.get(name, 3) != 3:
            raise WorkbenchError(
                f"{what}: {name} is {mapping[name]!r}; networks here see three channels, of a grey image three times "
                "the same: leave it out or write 3"
            )
    norms = mapping.get("norms", {})
    if not isinstance(norms, dict) or any(
        name not in NORM or type(value) is not float or not 0 < value <= 1 for name, value in norms.items()
    ):
        raise WorkbenchError(f"{what}: norms are {str(norms)[:60]}; expected eps and momentum, above 0 and up to 1")
    _refuse_odd_values(mapping, what)
    _refuse_foreign_layers(mapping, what)


def open_checkpoint(file: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor], int]:
    """What stands in a checkpoint of a classification network, its architecture, weights and classes (how many).

    Of the objects in the file only plain values and tensors are read, none of their methods called.

    Raises
    ------
    WorkbenchError : not found, damaged, hostile, or no classification network
    """
    with safely():
        from ultralytics.nn.tasks import torch_safe_load
        from ultralytics.utils import downloads

        if not file.is_file() and file.name not in downloads.GITHUB_ASSETS_NAMES:
            raise WorkbenchError(f"model {str(file)!r} not found; {ALTERNATIVES}")
        try:
            here = str(file) if file.is_file() else str(downloads.attempt_download_asset(str(file)))
        except Exception:  # whatever a network without the Internet runs into
            raise WorkbenchError(f"model {str(file)!r} is not here and cannot be fetched; {ALTERNATIVES}") from None
        try:
            named = torch.serialization.get_unsafe_globals_in_checkpoint(here)
            odd = [name for name in named if not KNOWN.fullmatch(name)]
            if code := [name for name in odd if not name.startswith("ultralytics.")]:
                raise ValueError(f"it names {code[0]}")
            checkpoint = {} if odd else torch_safe_load(here, safe_only=True)[0]
            network = next((checkpoint[name] for name in ("ema", "model") if checkpoint.get(name) is not None), None)
        except Exception as error:  # whatever damaged or hostile bytes run into
            reason = str(error).splitlines()[0].removeprefix("ERROR ❌️ ") if str(error) else type(error).__name__
            raise WorkbenchError(f"model {str(file)!r} is damaged or no Ultralytics checkpoint: {reason}") from None
    mapping, tensors = None, dict[str, torch.Tensor]()
    if isinstance(network, nn.Module):
        mapping, tensors = vars(network).get("yaml"), _tensors_of(network)
    layers = ((HEAD.fullmatch(name), values) for name, values in tensors.items() if values.ndim)
    heads = {int(layer[1]): len(values) for layer, values in layers if layer}
    if not heads or not isinstance(mapping, dict) or not isinstance(network, nn.Module):
        found = f" (it holds {odd[0]})" if odd else ""
        raise WorkbenchError(f"model {str(file)!r} is no classification network{found}; {ALTERNATIVES}")
    return checkpoint, mapping | {"norms": _norms_of(network, file)}, tensors, heads[max(heads)]
