"""Quantisation of an exported ONNX model to 8-bit integers, and what it costs."""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logit

from ..analysis.compare import compare
from ..decisions.thresholds import Thresholds
from ..exceptions import RunFailed
from ..scoring.predictions import Predictions, decide
from ..text import number, printable, shown
from .graph import INPUT, quiet, save_onnx

SEEN = 128  # images that ranges are told from
TOGETHER = 8  # of them at once: what every layer gives for these is in memory
PERCENTILE = 99.99  # of what a layer gives lies within its range; with all of it, some .01 of mAP are lost


def quantise(file: Path, images: np.ndarray) -> None:
    """Replace an ONNX model by one that computes in 8-bit integers, by onnxruntime's static quantisation (QDQ).

    Weights are rounded by channel; activations by ranges that these images span. The last layer and what follows it
    stay as they are: they are small, and thresholds lie there.

    Parameters
    ----------
    images : uint8 [N, 3, S, S]
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    names = [(node.name, node.op_type) for node in onnx.load(file).graph.node]
    last = next(place for place, (_, kind) in enumerate(names) if kind == "Gemm")
    with quiet(), redirect_stdout(io.StringIO()):
        quantize_static(
            file,
            file,
            _Batches(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[name for name, _ in names[last:]],
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},
        )
    save_onnx(onnx.load(file), file)


class _Batches:
    """Images as onnxruntime reads them, spread evenly over all; a batch is looked at before the next is asked for."""

    def __init__(self, images: np.ndarray):
        rows = np.linspace(0, len(images) - 1, min(SEEN, len(images))).astype(int)
        size = min(TOGETHER, len(rows))
        self.parts = [images[rows[i : i + size]] for i in range(0, len(rows) - size + 1, size)]  # of equal size
        self.set_range(0, len(self.parts))

    def __len__(self) -> int:
        return len(self.parts)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.left = iter(self.parts[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        part = next(self.left, None)
        return None if part is None else {INPUT: part}


def cost(before: np.ndarray, after: np.ndarray, labelled: Predictions, limits: np.ndarray) -> dict[str, Any]:
    """What a quantised model loses on labelled images.

    Parameters
    ----------
    before, after : probabilities float32 [N, C] of the model as it was and quantised
    labelled : the images with their labels, in the same order
    limits : thresholds [C], for both

    Returns
    -------
    `images`, `map` and `map_int8`, `map_lost` with its 95 % interval `low, high` (see `compare`),
    `largest_difference` in p, `decisions`, and `decisions_changed` by class, where there are any
    """
    names = labelled.class_names

    def ranked(p: np.ndarray) -> Predictions:  # by logits, which p of 0 and 1 do not have
        logits = logit(p.astype(float).clip(1e-30, 1 - 2**-25)).astype(np.float32)
        return Predictions(labelled.paths, names, logits, labelled.y, groups=labelled.groups)

    thresholds = Thresholds.default(names).with_values(limits)
    found = compare(ranked(before), ranked(after), thresholds, thresholds).map
    changed = (decide(before, limits) != decide(after, limits)).sum(0)
    return {
        "images": len(labelled),
        "map": found["before"],
        "map_int8": found["after"],
        "map_lost": -found["difference"],
        "low": -found["high"],
        "high": -found["low"],
        "largest_difference": float(np.abs(before - after).max()),
        "decisions": before.size,
        "decisions_changed": {name: int(n) for name, n in zip(names, changed, strict=True) if n},
    }


def told(found: dict[str, Any]) -> str:
    """What `cost` found, in one line."""
    changed = found["decisions_changed"]
    by_class = ", ".join(f"{printable(name)} {n}" for name, n in sorted(changed.items(), key=lambda row: -row[1])[:5])
    more = f" and {len(changed) - 5} more classes" if len(changed) > 5 else ""
    return (
        f"int8: {shown(found['map_lost'])} of mAP {shown(found['map'])} lost (95 % interval {shown(found['low'])} to "
        f"{shown(found['high'])}) on {found['images']:,} validation images, p moved by up to "
        f"{number(found['largest_difference'])}; {sum(changed.values()):,} of {found['decisions']:,} decisions changed"
        f"{f': {by_class}{more}' if changed else ''}"
    )


def refuse_loss(found: dict[str, Any], max_drop: float) -> None:
    """Raise RunFailed where more of mAP is lost than may be, or where nobody can tell."""
    if not found["map_lost"] <= max_drop:
        raise RunFailed(
            f"{told(found)}; at most {max_drop:g} may be lost: --max-drop X allows more, without --int8 nothing is"
        )
