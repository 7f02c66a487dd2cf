"""Export of a finished run: its network as a file that other programs load, held against the workbench first."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cores import count_cores
from ..data.images import ImageFault
from ..exceptions import RunFailed, WorkbenchError
from ..files import beside, clear_left, put, read_json
from ..network.batches import ImageDataset
from ..network.device import choose_device
from ..network.infer import infer
from ..progress import progress_bar
from ..runs.folder import predictions_file
from ..runs.run import Run
from ..scoring.predictions import Predictions, decide, probabilities
from ..text import printable
from .graph import FILES, INPUT, TRUE_FP32, Graph, clear_of, last_step, open_graph, refuse_missing, write_graph
from .int8 import cost, quantise, refuse_loss, told

TOLERANCE = 1e-4  # in p
TIE = 1e-6  # in p: nearer to a threshold the workbench itself decides by how many images are in a batch
MOST, LEAST = 1000, 32  # validation images that are looked at; with fewer, noise makes up for them
BYTES = 1e9  # that their pixels may take
TOGETHER = 32  # images in a batch
FROM_FILES = 200  # images of which the bundle's own predict.py is asked
ENGINES = {"onnx": "onnxruntime", "pt2": "torch", "openvino": "openvino"}
# What an export may hold; a folder with anything else is not replaced.
ENTRIES = {*FILES.values(), "model.bin", "labels.json", "README.md", "model.safetensors", "best.pt"}
ENTRIES |= {"tagger", "predict.py", "app.py", "__pycache__"}


@dataclass(frozen=True, repr=False)
class Exported:
    """What `export` has written.

    Attributes
    ----------
    folder : where it lies
    files : what lies there, by name
    file : the model among them
    fold : whether every class is present from 0.5 on; else each from its threshold in `labels.json` on
    parity : how the model was held against the workbench: `images, noise` (how many of each), `largest_difference` in
        p, `decisions, decisions_changed, ties_changed` (of p within 1e-6 of the threshold), `workbench, engine`
    from_files : the same of the bundle's predict.py, which decodes by itself, or None where there is none
    int8 : what quantisation cost, see `int8.cost`, or None
    """

    folder: Path
    files: list[str]
    file: str
    fold: bool
    parity: dict[str, Any]
    from_files: dict[str, Any] | None
    int8: dict[str, Any] | None

    def __repr__(self) -> str:
        size = sum((self.folder / name).stat().st_size for name in {self.file, "model.bin"} & set(self.files)) / 1e6
        of = [f"{self.parity['images']:,} validation images"] if self.parity["images"] else []
        of += [f"{self.parity['noise']:,} of noise"] if self.parity["noise"] else []
        lines = [
            f"{self.folder}: {self.file} ({size:.1f} MB), beside it "
            f"{', '.join(name for name in self.files if name != self.file)}",
            f"same pixels, in fp32, {' and '.join(of)}: {_parity_told(self.parity)}",
        ]
        if self.from_files is not None:
            lines.append(
                f"from files, by predict.py: p differs by up to {_small(self.from_files['largest_difference'])}, "
                f"{self.from_files['decisions_changed']:,} decisions on {self.from_files['images']:,} images changed"
            )
        if self.int8 is not None:
            lines.append(told(self.int8))
        limit = "0.5, its threshold is folded in" if self.fold else "its threshold in labels.json"
        lines.append(f"a class is present where p >= {limit}")
        if self.file == FILES["openvino"]:
            option = ", ".join(f"{name}={value}" for name, value in TRUE_FP32.items())
            lines.append(
                f"compile it with {option}: where a processor has bfloat16, OpenVINO takes it, and decides otherwise"
            )
        return "\n".join(lines)


def export(
    run: Run | str | Path,
    out: str | Path,
    format: str = "onnx",
    fold: bool = False,
    maps: bool = False,
    features: bool = False,
    int8: bool = False,
    max_drop: float = 0.01,
) -> Exported:
    """Write a run's network, with its calibration, for other programs, and beside it what they need to use it.

    Nothing is there until the model has been held against the workbench: on the same pixels no probability may differ
    by more than 1e-4 and no decision may change. The pixels are the run's validation images, as far as they are here;
    where these are few, seeded noise makes up for them.

    Parameters
    ----------
    out : folder that does not exist, is empty, or holds an earlier export, which is replaced whole
    format : "onnx", "pt2" (of torch.export) or "openvino"
    fold : take the thresholds into the model too, so that each class is present from 0.5 on; p is then no probability
    maps, features : further outputs: class activation maps [B, C, h, w], and what the last layer is given [B, D]
    int8 : quantise (ONNX alone), with what it costs on validation
    max_drop : most of mAP that this may cost

    Raises
    ------
    WorkbenchError : refused before anything is done
    RunFailed : the model decides otherwise than the workbench, or quantising costs too much

    >>> export(Run("runs/first"), "exported", fold=True)      # doctest: +SKIP
    """
    run = run if isinstance(run, Run) else Run(run)
    folder = Path(out).resolve()
    if format not in FILES:
        raise WorkbenchError(f"format {format!r}; expected one of {', '.join(FILES)}")
    if int8 and format != "onnx":
        raise WorkbenchError(f"int8 in the format {format}; expected onnx, which is quantised by onnxruntime")
    if not 0 <= max_drop <= 1:
        raise WorkbenchError(f"max_drop is {max_drop:g}; expected a share of mAP in 0..1")
    refuse_missing(format)
    _refuse_place(folder)

    size, names, thresholds = run.state["settings"]["image_size"], run.class_names, run.thresholds()
    pixels, paths, why = _pixels(run, size)
    if int8 and not paths:
        raise WorkbenchError(f"int8 needs validation images, and {why}")
    batches = [pixels[start : start + TOGETHER] for start in range(0, len(pixels), TOGETHER)]
    tensors = ((torch.from_numpy(part), torch.empty(0), torch.empty(0)) for part in batches)
    logits = infer(run.model, tensors, choose_device())
    said = thresholds.calibrated(Predictions(np.array(range(len(pixels)), object), names, logits))
    present, labelled = thresholds.decide(said), None
    if int8 or (paths and (run.folder / predictions_file("val")).exists()):
        labelled = _rows(run.predictions("val"), paths)
        # The last bits of p depend on the batch; where they decide, what was tuned on does.
        near = np.abs(labelled.probabilities - said.probabilities[: len(paths)]) <= TOLERANCE
        present[: len(paths)] = np.where(near, thresholds.decide(labelled), present[: len(paths)])
    limits = clear_of(said.probabilities, present, thresholds.aligned(names))
    scale, shift = last_step(said.calibration, limits, fold)
    wanted = probabilities(scale * logits + shift)
    if fold:
        limits = np.full_like(limits, 0.5)

    clear_left(folder.parent, folder.name)
    new = beside(folder)
    new.mkdir(parents=True)
    try:
        file = new / FILES[format]
        outputs = write_graph(Graph(run.model, scale, shift, maps, features), new, format, size)
        found = _probabilities(file, batches)
        ties = np.abs(said.probabilities - thresholds.aligned(names)) <= TIE
        parity = {
            "images": len(paths),
            "noise": len(pixels) - len(paths),
            **_held(found, wanted, decide(found, limits) != present, ties, names),
            "workbench": f"torch {version('torch')}, fp32",
            "engine": f"{ENGINES[format]} {version(ENGINES[format])}, fp32",
        }
        lost = None
        if int8 and labelled is not None:
            quantise(file, pixels[: len(paths)])
            lost = cost(found[: len(paths)], _probabilities(file, batches)[: len(paths)], labelled, limits)
            refuse_loss(lost, max_drop)
            lost["max_drop"] = max_drop

        from . import bundle

        described = {
            "file": file.name,
            "format": format,
            "input": {"name": INPUT, "dtype": "uint8", "size": size},
            "outputs": outputs,
            "fold": fold,
            "thresholds": dict(zip(names, limits.tolist(), strict=True)),
            "parity": parity,
            "int8": lost,
        }
        bundle.write_bundle(new, run, described)
        from_files = None
        if paths and (new / "predict.py").exists():
            from_files = bundle.compare_from_files(new, run, paths[:FROM_FILES], run.root)
        _put(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    files = sorted(entry.name for entry in folder.iterdir())
    return Exported(Path(out), files, file.name, fold, parity, from_files, lost)


def _pixels(run: Run, size: int) -> tuple[np.ndarray, list[str], str]:
    """Validation images that can be read here, evenly of all, and noise after them where they are few.

    Returns
    -------
    uint8 [N, 3, size, size], the paths of the first of them, and why there are no more
    """
    named = [path for path, split in run.splits().items() if split == "val"]
    most = int(min(MOST, max(LEAST, BYTES // (3 * size * size))))
    named = [named[row] for row in np.linspace(0, len(named) - 1, min(most, len(named))).astype(int)]
    found: list[np.ndarray] = []
    paths: list[str] = []
    why = "the run has none"
    try:
        dataset = ImageDataset(np.array(named, object), run.root, None, size)
    except ImageFault as fault:  # the folder is not here
        named, why = [], str(fault)

    def decode(row: int) -> np.ndarray | ImageFault:
        try:
            return dataset.decode(row)
        except ImageFault as fault:
            return fault

    with progress_bar(len(named), "reading images") as bar, ThreadPoolExecutor(count_cores()) as pool:
        for path, pixels in zip(named, pool.map(decode, range(len(named))), strict=True):
            if isinstance(pixels, ImageFault):
                why = str(pixels)
            else:
                paths.append(path)
                found.append(pixels)
            bar.update()
    dice = np.random.default_rng(0)
    for place in range(LEAST - len(paths)):  # some fine, some coarse
        side = max(1, size >> place % 6)
        nearest = np.arange(size) * side // size
        found.append(dice.integers(0, 256, (3, side, side), np.uint8)[:, nearest][:, :, nearest])
    return np.stack(found), paths, why


def _rows(predictions: Predictions, paths: list[str]) -> Predictions:
    """The predictions of these images, in this order."""
    places = {path: row for row, path in enumerate(predictions.paths)}
    rows = np.array([places[path] for path in paths], int)
    y = None if predictions.y is None else predictions.y[rows]
    return replace(predictions, paths=predictions.paths[rows], logits=predictions.logits[rows], y=y)


def _probabilities(file: Path, batches: list[np.ndarray]) -> np.ndarray:
    """What a graph says of these images, float32 [N, C]."""
    engine = open_graph(file)
    return np.concatenate([engine(part)["probabilities"] for part in batches])


def _held(
    found: np.ndarray, wanted: np.ndarray, differs: np.ndarray, ties: np.ndarray, names: list[str]
) -> dict[str, Any]:
    """What differs between a graph's probabilities [N, C] and the workbench's, or RunFailed where that is too much.

    A decision that differs on a tie is told and no fault: another batch would change it in the workbench too.
    """
    apart = np.abs(found - wanted)
    ties = ties & (apart <= TIE)
    changed = differs & ~ties
    parity = {
        "largest_difference": float(apart.max()),
        "decisions": found.size,
        "decisions_changed": int(changed.sum()),
        "ties_changed": int((differs & ties).sum()),
    }
    if parity["largest_difference"] <= TOLERANCE and not changed.any():
        return parity
    worst = names[int(np.argmax((apart + changed).max(0)))]
    what = f"the exported model is not the workbench's: {_parity_told(parity)}, most of class {printable(worst)!r}"
    if parity["largest_difference"] <= TOLERANCE:
        raise RunFailed(
            f"{what}: on both sides of its threshold images lie too near to be told apart; move it a little"
        )
    raise RunFailed(f"{what}; {TOLERANCE:g} and none are allowed; nothing is written")


def _parity_told(parity: dict[str, Any]) -> str:
    ties = f", {parity['ties_changed']:,} more lie on a threshold but for rounding" if parity["ties_changed"] else ""
    return (
        f"p differs by up to {_small(parity['largest_difference'])}, {parity['decisions_changed']:,} of "
        f"{parity['decisions']:,} decisions changed{ties}"
    )


def _small(value: float) -> str:
    return f"{value:.0e}" if value < 1e-3 else f"{value:.3f}"


def _refuse_place(folder: Path) -> None:
    """Raise WorkbenchError where `folder` is anything but new, empty, or an earlier export."""
    if not folder.exists():
        return
    other = "choose another folder for --out"
    if not folder.is_dir():
        raise WorkbenchError(f"{folder} is a file; {other}")
    inside = sorted(entry.name for entry in folder.iterdir())
    if foreign := [name for name in inside if name not in ENTRIES]:
        raise WorkbenchError(f"{folder} holds {printable(foreign[0])}, which no export has written; {other}")
    if inside and (not (folder / "labels.json").is_file() or "parity" not in (read_json(folder / "labels.json") or ())):
        raise WorkbenchError(f"{folder} holds {printable(inside[0])} and no export of ours; {other}")


def _put(new: Path, folder: Path) -> None:
    """Rename a folder to the place of another, which goes."""
    old = beside(folder)
    if folder.exists():
        put(folder, old)
    put(new, folder)
    shutil.rmtree(old, ignore_errors=True)
