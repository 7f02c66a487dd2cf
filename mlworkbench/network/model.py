"""Network: an Ultralytics classification network with C outputs that returns raw logits."""

import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
import yaml
from torch import nn
from torchvision import transforms

from ..exceptions import WorkbenchError
from .foreign import ALTERNATIVES, open_checkpoint, quietly, refuse_architecture, safely


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

    @property
    def layers(self) -> nn.Sequential:
        """The layers of its architecture, the classification head last."""
        return self.net.model  # type: ignore[return-value]

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
    """Log odds of each class's softmax probability, [B, C] to [B, C]: the package's sigmoid gives that p again.

    That is its logit less the logarithm of the sum of the others' exponentials. The others of the largest one are added
    up by themselves; those of any other hold the largest, so that taking it off their sum loses nothing.
    """
    most, at = logits.max(1, keepdim=True)
    below = logits.scatter(1, at, float("-inf"))  # all but the largest
    share = (below - most).exp()
    others = most + (share.sum(1, keepdim=True) - share).clamp(min=0).log1p()
    return logits - others.scatter(1, at, below.logsumexp(1, keepdim=True))


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


def for_plain_yolo(net: nn.Module, size: int, independent: bool = True) -> nn.Module:
    """A copy of a network of Ultralytics as a checkpoint from which a plain `YOLO` predicts as the workbench does.

    It holds no class that a plain `YOLO` does not know, keeps the names of all weights, and shows the network whole
    images at its own size, whatever `imgsz` says. Their predictor takes a checkpoint's transforms only where these are
    of the size asked for or tell none, so ours tell none. To an export it shows the middle square unless the export is
    no square, so one has more columns (`exported_shape`), of which the first layer makes a square again.

    Parameters
    ----------
    independent : each class has its own probability, from a sigmoid; else they share one, as theirs do
    """
    plain: Any = deepcopy(net)
    head = plain.model[-1]
    if independent:
        parts = {name: getattr(head, name) for name in ("conv", "pool")}
        parts |= {"flat": nn.Flatten(), "drop": head.drop, "linear": head.linear, "sigmoid": nn.Sigmoid()}
        plain.model[-1] = in_place_of(head, nn.Sequential(OrderedDict(parts)))
    square = in_place_of(plain.model[0], nn.Upsample((size, size), mode="bilinear"))  # leaves a square as it is
    for layer in plain.model:
        layer.i, layer.f = layer.i + 1, _after_one_more(layer.f)
    plain.save = [layer + 1 for layer in plain.save]
    plain.model = nn.Sequential(OrderedDict(square=square, **dict(plain.model.named_children())))
    resize = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
    plain.transforms = transforms.Compose([resize])
    return plain


def _after_one_more(inputs: Any) -> Any:
    """Where a layer's inputs come from, counted from the first layer or backwards, once one more comes first."""
    return [_after_one_more(at) for at in inputs] if isinstance(inputs, list) else inputs + (inputs >= 0)


def exported_shape(size: int) -> list[int]:
    """Height and width of what a plain `YOLO` exports of a checkpoint for images of this side.

    Half as many columns more, for then its resize and ours together blur as one does: a triangle with a half-width of
    one column has the variance 1/6; a narrower one, and then a line between two columns a quarter away from the nearer,
    have (1/6 + 3/16) / 1.5^2 = .157, at every column.
    """
    return [size, size * 3 // 2]


def in_place_of(layer: nn.Module, new: nn.Module) -> nn.Module:
    """The new layer, with that by which their models find a layer's input."""
    for name in ("i", "f", "type", "np"):
        setattr(new, name, getattr(layer, name))
    return new.train(layer.training)


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
            aliased = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.CSafeLoader))
            mapping = None if aliased else yaml.load(text, yaml.CSafeLoader)
        except FileNotFoundError:
            raise WorkbenchError(f"model {name!r} not found; {ALTERNATIVES}") from None
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            raise WorkbenchError(f"model {name!r} is no readable YAML: {str(error).splitlines()[0]}") from None
        if aliased:
            raise WorkbenchError(f"model {name!r} has YAML aliases, which can explode; write the values out")
        if not isinstance(mapping, dict):
            raise WorkbenchError(f"model {name!r} is no mapping; is it a model's YAML?")
        # A name, not a place on somebody's machine.
        return mapping | {"scale": guess_model_scale(name), "yaml_file": Path(name).name}


def _from_mapping(mapping: dict[str, Any], classes: int, what: object) -> nn.Module:
    """A network from an architecture's mapping, its `nc` set to the number of classes."""
    with safely():
        refuse_architecture(mapping, what)
        from ultralytics.nn.modules import Classify
        from ultralytics.nn.tasks import ClassificationModel

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
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            vars(module).update(mapping.get("norms", {}))  # of a checkpoint, which may have others than torch
    # The prior of a label is far below one half: starting there spares the first epochs.
    nn.init.constant_(net.model[-1].linear.bias, math.log(0.1 / 0.9))
    return net


def read_pt(file: Path) -> dict[str, Any]:
    """A checkpoint whose "model" (and "ema", where it has one) is a new network of its architecture and weights.

    Raises
    ------
    WorkbenchError : see `foreign.open_checkpoint`
    """
    checkpoint, mapping, tensors, classes = open_checkpoint(file)
    clean = _from_mapping(mapping, classes, file)
    load_state(clean, tensors, file)
    return {**checkpoint, **{name: clean for name in ("ema", "model") if name == "model" or checkpoint.get(name)}}


def _from_checkpoint(file: Path, classes: int) -> nn.Module:
    """A new network with every weight of the checkpoint but the last layer's."""
    _, mapping, tensors, _ = open_checkpoint(file)
    net = _from_mapping(mapping, classes, file)
    load_state(net, tensors, file, but=f"model.{len(net.model) - 1}.linear.")  # type: ignore[arg-type]
    return net
