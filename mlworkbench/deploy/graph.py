"""Graph of a network for other programs: uint8 images in, calibrated probabilities out; written and opened by format.

Its last step has the calibration in it, and with `fold` the thresholds too, so that whoever loads it computes nothing.
"""

import copy
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import logit
from torch import nn
from torch.nn import functional as F

from ..exceptions import WorkbenchError
from ..network.model import YOLOClassifier, softmax_odds
from ..scoring.predictions import decide, probabilities

INPUT = "images"
# The file of each format (of OpenVINO's two the one that is opened), and the extra and packages that write it.
FILES = {"onnx": "model.onnx", "pt2": "model.pt2", "openvino": "model.xml"}
NEEDS = {
    "onnx": ("export", ("onnx", "onnxruntime", "onnxscript")),
    "pt2": ("", ()),
    "openvino": ("openvino", ("openvino",)),
}
# OpenVINO takes bfloat16 where a processor has it, and p is then off by some .01.
TRUE_FP32 = {"INFERENCE_PRECISION_HINT": "f32"}
FARTHEST = 1e4  # from a logit of 0; where a threshold of 0 is folded in, this far on
SLACK = 2e-4  # in log odds, of which fp32 leaves some 1e-5 open; of p it is 5e-5 at most

Engine = Callable[[np.ndarray], dict[str, np.ndarray]]


class Graph(nn.Module):
    """A network with everything that turns pixels into probabilities.

    uint8 [B, 3, S, S], RGB of 0..255, to a dict of `probabilities` float32 [B, C] in 0..1, and where asked for `maps`
    [B, C, h, w], the class activation maps of `activation_maps.maps`, and `features` [B, D], what the last layer is
    given. The model stays as it is.

    Parameters
    ----------
    scale, shift : float64 [C], of each class's logit, see `last_step`

    >>> Graph(run.model, *last_step(run.thresholds()))(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))  # doctest: +SKIP
    """

    seen: torch.Tensor | None
    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self, model: YOLOClassifier, scale: np.ndarray, shift: np.ndarray, maps: bool = False, features: bool = False
    ):
        super().__init__()
        body: Any = copy.deepcopy(model.net).eval().float().requires_grad_(False)
        body.fuse(verbose=False)
        head = body.model[-1]
        for name in ("i", "f", "type", "np"):  # by which their models find a layer's input
            setattr(head.conv, name, getattr(head, name))
        body.model[-1] = head.conv
        self.body, self.pool = body, head.pool
        self.exclusive, self.features = model.exclusive, features
        self.register_buffer("seen", head.linear.weight[:, :, None, None].clone() if maps else None)
        # The odds of a softmax come after the last layer, and so does their calibration.
        self.linear = head.linear if self.exclusive else folded(head.linear, scale, shift)
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)) if self.exclusive else None)
        self.register_buffer("shift", torch.from_numpy(shift.astype(np.float32)) if self.exclusive else None)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        cells = self.body(images.float() / 255)
        features = self.pool(cells).flatten(1)
        logits = self.linear(features)
        if self.exclusive:
            logits = softmax_odds(logits) * self.scale + self.shift
        found = {"probabilities": logits.sigmoid()}
        if self.seen is not None:
            found["maps"] = F.conv2d(cells, self.seen)
        if self.features:
            found["features"] = features
        return found


def folded(linear: nn.Linear, scale: np.ndarray, shift: np.ndarray) -> nn.Linear:
    """A linear layer that gives `scale * linear(x) + shift`, float64 [C] both, multiplied out in float64."""
    out = copy.deepcopy(linear)
    factor, more = torch.from_numpy(scale), torch.from_numpy(shift)
    with torch.no_grad():
        out.weight.copy_(linear.weight.double() * factor[:, None])
        out.bias.copy_(linear.bias.double() * factor + more)
    return out


def last_step(calibration: np.ndarray | None, limits: np.ndarray, fold: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift, float64 [C], from a network's logits to those whose sigmoid is the probability.

    Parameters
    ----------
    calibration : float64 [2, C], see `Thresholds`, or None
    limits : thresholds [C]
    fold : take the logit of each threshold off, so that every class is present from 0.5 on
    """
    scale, shift = (np.ones(len(limits)), np.zeros(len(limits))) if calibration is None else calibration
    return scale, shift - (edges(limits) if fold else 0)


def edges(limits: np.ndarray) -> np.ndarray:
    """The least logit at which each class is present, float64 [C], by the package's own sigmoid and comparison.

    That is logit(t), but for a t of 1 it is where p becomes 1 in float32, some 17, and for a t of 0, which everything
    reaches, it is far below every logit.
    """
    low, high = np.full(len(limits), -FARTHEST), np.full(len(limits), FARTHEST)
    for _ in range(80):
        middle = (low + high) / 2
        present = decide(probabilities(middle), limits)
        low, high = np.where(present, low, middle), np.where(present, middle, high)
    return high


def clear_of(p: np.ndarray, present: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Thresholds that decide the same on these images, but not by the last bit of a probability.

    One that was tuned to hold a recall is the very probability of an image, and another program's arithmetic, or
    another batch, would decide by chance. It moves into the middle between the probabilities next to it, yet never by
    more than SLACK, so that others decide as the workbench does on new images too. Without an image that near it stays;
    so do 0 and 1.

    Parameters
    ----------
    p : float32 [N, C] of images
    present : bool [N, C], the decisions to keep
    limits : float32 [C]

    Returns
    -------
    float32 [C]
    """
    t = limits.astype(float)
    inner = (t > 0) & (t < 1)
    odds = logit(np.where(inner, t, 0.5))
    low, high = (probabilities(end).astype(float) for end in (odds - SLACK, odds + SLACK))
    below = np.where(present, 0.0, p).max(0, initial=0).clip(low, high)
    above = np.where(present, p, 1.0).min(0, initial=1).clip(low, high)
    moved = ((below + above) / 2).astype(np.float32)
    tight = inner & ((below > low) | (above < high))
    return np.where(tight & (decide(p, moved) == present).all(0), moved, limits)


def write_graph(graph: Graph, folder: Path, format: str, size: int) -> list[str]:
    """Write the graph for images of this size into a folder, in a format of FILES; returns the names of its outputs.

    The batch may be of any size. The files are the same each time and name no path of this machine.

    Raises
    ------
    WorkbenchError : a package that the format needs is missing
    """
    images = torch.zeros(2, 3, size, size, dtype=torch.uint8)  # a batch of one would be taken for a fixed size
    with quiet():
        program = torch.export.export(graph.eval(), (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        for module in program.graph_module.modules():
            for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
                node.meta = {"val": node.meta["val"]} if "val" in node.meta else {}  # without this machine's paths
        with torch.no_grad():
            outputs = list(graph(images))
        {"onnx": _write_onnx, "pt2": _write_pt2, "openvino": _write_openvino}[format](
            program, folder / FILES[format], outputs, size
        )
    return outputs


def _write_onnx(program: torch.export.ExportedProgram, file: Path, outputs: list[str], size: int) -> None:
    import onnx

    made = torch.onnx.export(
        program, (), dynamo=True, external_data=False, input_names=[INPUT], output_names=outputs, verbose=False
    )
    assert made is not None
    save_onnx(made.model_proto, file)
    onnx.checker.check_model(onnx.load(file), full_check=True)


def save_onnx(model: Any, file: Path) -> None:
    """Write an ONNX model without what only its making knew, and with `batch` as the name of its first axis."""
    for thing in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        thing.ClearField("metadata_props")
        thing.ClearField("doc_string")
    model.graph.ClearField("value_info")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    file.write_bytes(model.SerializeToString(deterministic=True))


def _write_pt2(program: torch.export.ExportedProgram, file: Path, outputs: list[str], size: int) -> None:
    torch.export.save(program, file)


def _write_openvino(program: torch.export.ExportedProgram, file: Path, outputs: list[str], size: int) -> None:
    openvino = _openvino()
    model = openvino.convert_model(program)
    model.reshape({model.inputs[0]: [-1, 3, size, size]})
    model.inputs[0].get_tensor().set_names({INPUT})
    for output, name in zip(model.outputs, outputs, strict=True):
        output.get_tensor().set_names({name})
    model.set_friendly_name(file.stem)
    for number, layer in enumerate(model.get_ordered_ops()):  # their own names count what this process has made
        layer.set_friendly_name(f"{layer.get_type_name()}_{number}")
    openvino.save_model(model, file, compress_to_fp16=False)


def refuse_missing(format: str) -> None:
    """Raise WorkbenchError where a package is missing that writes or opens this format."""
    extra, packages = NEEDS[format]
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise WorkbenchError(f'{format} needs {", ".join(missing)}, not installed: pip install "mlworkbench[{extra}]"')


def open_graph(file: Path) -> Engine:
    """What runs a graph: uint8 [B, 3, S, S] to its outputs by name, float32 arrays.

    On the processor, in true fp32, with as many threads as torch takes.
    """
    if file.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda images: dict(zip(names, session.run(None, {INPUT: images}), strict=True))
    if file.suffix == ".xml":
        openvino = _openvino()
        options = TRUE_FP32 | {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = openvino.Core().compile_model(file, "CPU", options)
        return lambda images: {name: found for output, found in compiled(images).items() for name in output.names}
    program = torch.export.load(file).module()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: found.numpy() for name, found in program(torch.from_numpy(images)).items()}

    return run


def _openvino() -> Any:
    """OpenVINO, which tells its makers of each conversion unless the package that does so is missing."""
    teller = "openvino_telemetry"
    hidden = {name: sys.modules.pop(name) for name in [*sys.modules] if name.split(".")[0] == teller}
    try:
        sys.modules[teller] = None  # type: ignore[assignment]
        import openvino
        import openvino.tools.ovc.convert_impl
    finally:
        del sys.modules[teller]
        sys.modules.update(hidden)
    return openvino


@contextmanager
def quiet() -> Iterator[None]:
    """While this is open, exporters keep to themselves what only their makers can mend."""
    before, handlers = logging.root.manager.disable, logging.root.handlers[:]
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        logging.root.handlers[:] = handlers  # speaking to the root makes one
