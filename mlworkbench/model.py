"""The only way into Ultralytics: a classification network with C outputs that returns raw logits."""

import logging
import math
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
import yaml
from torch import nn
from torch.nn.modules import module as torch_hooks

from .exceptions import WorkbenchError

os.environ.setdefault("YOLO_AUTOINSTALL", "False")  # read when Ultralytics is imported; see `safely`

# Where the classes come from that a layer may be: no whole models, no containers, nothing that takes other modules.
LAYERS = re.compile(
    r"ultralytics\.nn\.modules\.(conv|block|head|transformer|activation)"
    r"|torch\.nn\.modules\.(?!transformer|rnn|container|loss)\w+|torchvision\.ops\.\w+"
)
# What a checkpoint may name beyond what torch itself takes for safe.
KNOWN = re.compile(
    r"ultralytics\.nn\.(tasks\.ClassificationModel|modules\.\w+\.(?!TorchVision)\w+)|torch\.nn\.modules\.\w+\.\w+"
    r"|ultralytics\.(yolo\.)?utils\.IterableSimpleNamespace|ultralytics\.utils\.loss\.v8ClassificationLoss"
    r"|torchvision\.transforms\.\w+\.\w+|numpy\.(dtype|_?core\.multiarray\.scalar)|pathlib\.(_local\.)?\w+Path"
    r"|builtins\.getattr|_codecs\.encode"  # Ultralytics' loader gives forward methods only
)
MOST_VALUES, MOST_ROWS, MOST_REPEATS, LARGEST = 10_000, 200, 100, 100_000  # in an architecture
MOST_MODULES, MOST_PARAMETERS = 20_000, 1_000_000_000  # of a network; the largest published one has some 2,000 and 6e7

ALTERNATIVES = "give the path of a .pt that is there, or start from random weights with a .yaml (yolov8n-cls.yaml)"


class YOLOClassifier(nn.Module):
    """An Ultralytics classification network for independent labels.

    Images [B, 3, H, W] in 0..1 (no further normalisation) to raw logits [B, C], in train and eval mode alike.

    Attributes
    ----------
    net : the Ultralytics `ClassificationModel`, every parameter trainable
    class_names : list of C str
    architecture : the mapping that the network was built from, plain values only
    trained : whether the weights below the last layer came from a checkpoint
    exclusive : whether the network was trained by a softmax; its logits are then those of the softmax's probabilities
    """

    exclusive = False

    def __init__(self, net: nn.Module, class_names: Sequence[str], trained: bool):
        super().__init__()
        self.net, self.class_names, self.trained = net, list(class_names), trained
        net.names = dict(enumerate(self.class_names))  # type: ignore[assignment]

    @property
    def architecture(self) -> dict[str, Any]:
        return self.net.yaml  # type: ignore[return-value]

    @property
    def head(self) -> nn.Linear:
        """The last layer: 1280 pooled features to C logits."""
        return self.net.model[-1].linear  # type: ignore[index, union-attr]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out = self.net(images)
        # Ultralytics' head returns logits in training and (softmax, logits) in evaluation.
        logits = out if isinstance(out, torch.Tensor) else out[1]
        return softmax_odds(logits) if self.exclusive else logits

    @torch.no_grad()
    def logits_of(self, features: np.ndarray) -> np.ndarray:
        """Raw logits, float32 [N, C], for what the last layer is given, float32 [N, D]."""
        logits = nn.functional.linear(torch.from_numpy(features), self.head.weight.cpu(), self.head.bias.cpu())
        return (softmax_odds(logits) if self.exclusive else logits).numpy()


def softmax_odds(logits: torch.Tensor) -> torch.Tensor:
    """Log odds of each class's softmax probability, [B, C] to [B, C]: the package's sigmoid gives that p again."""
    own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    others = logits[:, None].expand(-1, logits.shape[1], -1).masked_fill(own, float("-inf"))
    return logits - others.logsumexp(2)


def build_model(model: str | Path | Mapping[str, Any], class_names: Sequence[str]) -> YOLOClassifier:
    """Build a network for these classes.

    Parameters
    ----------
    model : `NAME.yaml` (one of Ultralytics' classification architectures or a file of yours; random weights),
        `NAME.pt` (a checkpoint; everything but its last layer is kept, and all of it trains), or the architecture's
        mapping as `run.json` keeps it

    Raises
    ------
    WorkbenchError : not found, damaged, or no classification network

    >>> build_model("yolov8n-cls.yaml", ["cat", "dog"])(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 2])
    """
    if isinstance(model, Mapping):
        return YOLOClassifier(_from_mapping(dict(model), len(class_names), "the architecture"), class_names, False)
    suffix = Path(model).suffix
    if suffix in (".yaml", ".yml"):
        return YOLOClassifier(_from_mapping(_read_yaml(str(model)), len(class_names), model), class_names, False)
    if suffix == ".pt":
        return YOLOClassifier(_from_checkpoint(Path(model), len(class_names)), class_names, True)
    raise WorkbenchError(f"model {str(model)!r}: expected NAME.yaml or NAME.pt; {ALTERNATIVES}")


def save_weights(model: YOLOClassifier) -> bytes:
    """The network's weights as safetensors, under Ultralytics' own names."""
    return weights_bytes(model.net.state_dict())


def weights_bytes(state: Mapping[str, torch.Tensor]) -> bytes:
    """Such weights as safetensors."""
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in state.items()})


def independent_head(head: nn.Module) -> nn.Sequential:
    """A classification head of Ultralytics as torch's own layers, ending in a sigmoid instead of a softmax.

    The layers keep their names, so weights fit either form; and a checkpoint with it names no class that a plain `YOLO`
    does not know, so that one predicts, and exports, independent probabilities.
    """
    parts = {name: getattr(head, name) for name in ("conv", "pool")}
    parts |= {"flat": nn.Flatten(), "drop": head.drop, "linear": head.linear, "sigmoid": nn.Sigmoid()}
    plain = nn.Sequential(OrderedDict(parts))
    for name in ("i", "f", "type", "np"):  # by which their models find a layer's input
        setattr(plain, name, getattr(head, name))
    return plain.train(head.training)


def load_weights(model: YOLOClassifier, file: Path) -> YOLOClassifier:
    """Put the weights of a checkpoint of ours into `model`, which must fit exactly.

    Raises
    ------
    WorkbenchError : missing, damaged, of another network, or with values that are not finite
    """
    try:
        state = safetensors.torch.load_file(file)
    except FileNotFoundError:
        raise WorkbenchError(f"{file} does not exist; did the training end before its first epoch?") from None
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise WorkbenchError(f"{file} is no readable safetensors file: {error}") from None
    load_state(model.net, state, file)
    return model


def load_state(net: nn.Module, state: Mapping[str, torch.Tensor], file: Path, but: str | None = None) -> None:
    """Put these weights of `file`, as float32, into a network that they must fit exactly; layers called `but…` stay."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WorkbenchError(f"{file}: the weights {name} hold NaN or infinite values")
    own = {name: tensor for name, tensor in net.state_dict().items() if but and name.startswith(but)}
    kept = {name: tensor for name, tensor in state.items() if name not in own}
    try:
        net.load_state_dict({**kept, **own})
    except RuntimeError as error:
        detail = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise WorkbenchError(f"{file} does not fit its architecture: {detail}") from None


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

        before, activation = (tasks.SAFE_LOAD, checks.AUTOINSTALL), Conv.default_act
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
            yield
        finally:
            tasks.SAFE_LOAD, checks.AUTOINSTALL = before
            Conv.default_act = activation  # a parser that fails leaves it changed
            for hook in hooks:
                hook.remove()


def declared_classes(model: str) -> int | None:
    """`nc` of a YAML; None for anything else."""
    return _read_yaml(model).get("nc") if Path(model).suffix in (".yaml", ".yml") else None


def _read_yaml(name: str) -> dict[str, Any]:
    """The mapping of a YAML file, Ultralytics' own or a user's."""
    with quietly():
        from ultralytics.nn.tasks import guess_model_scale
        from ultralytics.utils.checks import check_yaml

        family = re.sub(r"(\d+)([nslmx])(.+)?$", r"\1\3", name)  # yolov8n-cls.yaml is yolov8-cls.yaml at scale n
        try:
            text = Path(check_yaml(name, hard=False) or check_yaml(family)).read_text(encoding="utf-8")
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.CSafeLoader)):
                raise WorkbenchError(f"model {name!r} has YAML aliases, which can explode; write the values out")
            mapping = yaml.load(text, yaml.CSafeLoader)
        except FileNotFoundError:
            raise WorkbenchError(f"model {name!r} not found; {ALTERNATIVES}") from None
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            if isinstance(error, WorkbenchError):
                raise
            raise WorkbenchError(f"model {name!r} is no readable YAML: {str(error).splitlines()[0]}") from None
        if not isinstance(mapping, dict):
            raise WorkbenchError(f"model {name!r} is no mapping; is it a model's YAML?")
        # A name, not a place on somebody's machine.
        return mapping | {"scale": guess_model_scale(name), "yaml_file": Path(name).name}


def _from_mapping(mapping: dict[str, Any], classes: int, what: object) -> nn.Module:
    """A network from an architecture's mapping, its `nc` set to the number of classes."""
    if not all(isinstance(mapping.get(part), list) for part in ("backbone", "head")):
        raise WorkbenchError(f"{what} has no backbone and head; is it a model's YAML?")
    with safely():
        from ultralytics.nn.modules import Classify
        from ultralytics.nn.tasks import ClassificationModel

        _refuse_odd_values(mapping, what)
        _refuse_foreign_layers(mapping, what)
        try:
            net = ClassificationModel(deepcopy({**mapping, "nc": classes}), verbose=False)
        except WorkbenchError as error:
            raise WorkbenchError(f"{what}: {error}") from None
        except Exception as error:  # whatever a malformed mapping runs into inside the parser
            reason = str(error).splitlines()[0] if str(error) else ""
            raise WorkbenchError(f"{what} does not build a network: {type(error).__name__}: {reason}") from None
        if not isinstance(net.model[-1], Classify):
            head = type(net.model[-1]).__name__
            raise WorkbenchError(f"{what} is no classification network (its last layer is {head}); {ALTERNATIVES}")
    # The prior of a label is far below one half: starting there spares the first epochs.
    nn.init.constant_(net.model[-1].linear.bias, math.log(0.1 / 0.9))
    return net


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
    import torchvision.ops
    from ultralytics.nn import tasks

    variables = set(tasks.parse_model.__code__.co_varnames) - {"nc"}
    for row in (*mapping["backbone"], *mapping["head"]):
        shape = [type(part) for part in row] if isinstance(row, list) else []
        if len(shape) != 4 or shape[1:] != [int, str, list] or shape[0] not in (int, list):
            raise WorkbenchError(f"{what}: the layer {str(row)[:80]} is no [from, number, module, arguments]")
        _, repeats, name, arguments = row
        home = nn if name.startswith("nn.") else torchvision.ops if name.startswith("torchvision.ops.") else tasks
        layer = getattr(home, name.rsplit(".", 1)[-1], None)
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


def read_pt(file: Path) -> dict[str, Any]:
    """A checkpoint of an Ultralytics classification network, in which nothing is executed.

    Its "model" (and "ema", where it has one) is a new network of the same architecture and weights: of the objects in
    the file only plain values and tensors are read, none of their methods called.

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
    mapping = None if odd or not isinstance(network, nn.Module) else vars(network).get("yaml")
    tensors = _tensors_of(network) if isinstance(network, nn.Module) and isinstance(mapping, dict) else {}
    heads = [name for name in tensors if re.fullmatch(r"model\.\d+\.linear\.weight", name)]
    if not heads or not isinstance(mapping, dict):
        found = f" (it holds {odd[0]})" if odd else ""
        raise WorkbenchError(f"model {str(file)!r} is no classification network{found}; {ALTERNATIVES}")
    clean = _from_mapping(mapping, len(tensors[max(heads, key=lambda name: int(name.split(".")[1]))]), file)
    load_state(clean, tensors, file)
    return {**checkpoint, **{name: clean for name in ("ema", "model") if name == "model" or checkpoint.get(name)}}


def _tensors_of(net: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, from where torch keeps them: a foreign object's methods may be anything."""
    found: dict[str, torch.Tensor] = {}
    todo: list[tuple[str, nn.Module]] = [("", net)]
    for _ in range(MOST_MODULES):  # a module can hold itself
        if not todo:
            break
        prefix, module = todo.pop()
        parts = vars(module)
        for name, values in (*parts.get("_parameters", {}).items(), *parts.get("_buffers", {}).items()):
            if isinstance(values, torch.Tensor):
                found[prefix + name] = values.detach()
        children = parts.get("_modules", {}).items()
        todo += [(f"{prefix}{name}.", child) for name, child in children if isinstance(child, nn.Module)]
    return found


def _from_checkpoint(file: Path, classes: int) -> nn.Module:
    """A new network with every weight of the checkpoint but the last layer's."""
    old = read_pt(file)["model"]
    net = _from_mapping(old.yaml, classes, file)
    load_state(net, old.state_dict(), file, but=f"model.{len(net.model) - 1}.linear.")  # type: ignore[arg-type]
    return net
