"""`MultiLabelYOLO`: Ultralytics' model class, trained on a labels file, with every class's own probability."""

# isort: off
from ..network.foreign import safely  # first: it says that Ultralytics installs nothing, which is read at its import
# isort: on

import logging
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.special import logit
from torch import nn
from ultralytics import YOLO
from ultralytics.cfg import get_save_dir
from ultralytics.engine.results import Results
from ultralytics.models.yolo.classify import ClassificationPredictor
from ultralytics.nn.modules import Classify
from ultralytics.nn.tasks import ClassificationModel
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.checks import check_model_file_from_stem

from ..cores import count_cores
from ..data.labels import LabelTable, read_labels
from ..decisions.thresholds import Thresholds
from ..exceptions import WorkbenchError
from ..imports.door import is_folder, what_folder
from ..network import model as models
from ..network.batches import resized
from ..runs import folder as folder_of
from ..runs.other import labelled_predictions
from ..runs.run import Run
from ..scoring.predictions import Predictions
from ..settings import Settings, refuse_other
from .fit import fit
from .ultralytics_arguments import recipe
from .ultralytics_route import MultiLabelMetrics, MultiLabelTrainer, MultiLabelValidator

log = logging.getLogger("mlworkbench")

# What decides their recipe: taken over as it is, where a loop's run would have our own.
RECIPE = ("optimizer", "lrf", "cos_lr", "momentum", "weight_decay", "warmup_epochs", "warmup_bias_lr", "nbs", "plots")


class MultiLabelResults(Results):
    """One image's result: `probs` holds every class's own probability, `present` the classes at or above threshold."""

    present: list[str]

    def new(self) -> "MultiLabelResults":
        result = MultiLabelResults(self.orig_img, self.path, self.names, speed=self.speed)
        result.save_dir, result.present = self.save_dir, self.present
        return result

    def verbose(self) -> str:
        shown = (f"{name} {self.probs.data[c]:.2f}" for c, name in self.names.items() if name in self.present)
        return (", ".join(shown) or "(no class present)") + ", "

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Every class with its probability and whether it is present, the most probable first."""
        rows = [
            {
                "name": name,
                "class": c,
                "confidence": round(float(self.probs.data[c]), decimals),
                "present": name in self.present,
            }
            for c, name in self.names.items()
        ]
        return sorted(rows, key=lambda row: -row["confidence"])


class MultiLabelPredictor(ClassificationPredictor):
    """Whole images at any size, every class's own probability, and the present ones at the run's thresholds."""

    def setup_source(self, source: Any) -> None:
        net: Any = getattr(self.model, "model", None)
        if isinstance(net, ClassificationModel) and isinstance(net.model[-1], Classify):
            raise WorkbenchError(f"{self.args.model} is a single-label network; train it on a labels file first")
        if self.model.format == "pt":  # a checkpoint takes squares of any size, whatever it gives exports
            self.args.imgsz = int(np.min(self.args.imgsz))
            if "square" in net.model._modules:  # it is for exports, and stays in the network that these are made of
                as_shown, same = copy(net), models.in_place_of(net.model[0], nn.Identity())
                as_shown._modules = net._modules | {"model": nn.Sequential(same, *net.model[1:])}
                backend: Any = getattr(self.model, "backend", self.model)
                backend.model = as_shown
        super().setup_source(source)
        self.host_transforms = self.device_transform = None
        height, width = self.imgsz

        def whole(image: Image.Image) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(resized(np.array(image), (height, width)))).float() / 255

        self.transforms = whole
        run, names = _run_of(self.args.model), list(self.model.names.values())
        known = folder_of.holds_run(run.folder) and run.class_names == names
        self.thresholds = run.thresholds() if known else Thresholds.default(names)

    def postprocess(self, preds: Any, img: torch.Tensor, orig_imgs: Any) -> list[Results]:
        results = super().postprocess(preds, img, orig_imgs)
        names = list(self.model.names.values())
        p = np.stack([result.probs.data.float().cpu().numpy() for result in results])
        said = self.thresholds.calibrated(Predictions(np.array([r.path for r in results], object), names, logit(p)))
        wrapped: list[Results] = []
        for result, p_of, present in zip(results, said.probabilities, self.thresholds.decide(said), strict=True):
            probs = torch.from_numpy(p_of).to(result.probs.data.device)
            whole = MultiLabelResults(result.orig_img, result.path, result.names, probs=probs)
            whole.present = [name for name, there in zip(names, present, strict=True) if there]
            wrapped.append(whole)
        return wrapped


class MultiLabelYOLO(YOLO):
    """Ultralytics' model for images with several labels: `YOLO` with a labels file instead of class folders.

    `train` leaves a run folder, on which every notebook and command of the workbench works, with their `weights/`,
    `results.csv` and `args.yaml` in it. A plain `YOLO` predicts with its `weights/best.pt`, without this package.

    >>> model = MultiLabelYOLO("yolov8n-cls.pt")                          # doctest: +SKIP
    >>> model.train(data="labels.csv", epochs=50)                         # doctest: +SKIP
    >>> model.predict("a.jpg")[0].present                                 # doctest: +SKIP
    ['cat', 'hat']
    """

    def __init__(self, model: str | Path = "yolov8n-cls.pt", task: str | None = None, verbose: bool = False):
        if task not in (None, "classify"):
            raise WorkbenchError(f"task is {task!r}; expected 'classify', the only one with labels for whole images")
        if Path(model).is_dir() or Path(model).suffix == ".safetensors":
            best = Path(model) / folder_of.ULTRALYTICS_BEST
            if not best.is_file():
                raise WorkbenchError(
                    f"{model} is no checkpoint of Ultralytics (.pt), which the route 'ultralytics' leaves in weights/; "
                    f"a run's weights begin a training by mw.fit(…, model={str(model)!r}, route='ultralytics')"
                )
            model = best
        super().__init__(model, "classify", verbose)
        self.run: Run | None = None

    @property
    def task_map(self) -> dict[str, dict[str, Any]]:
        classes = (ClassificationModel, MultiLabelTrainer, MultiLabelValidator, MultiLabelPredictor)
        return {"classify": dict(zip(("model", "trainer", "validator", "predictor"), classes, strict=True))}

    def _new(self, cfg: str, task: str | None = None, verbose: bool = False) -> None:
        models.build_model(cfg, ["class"])  # refuses what is no classification network, and layers that are none
        with safely():
            super()._new(cfg, task, verbose)

    def _load(self, weights: str, task: str | None = None) -> None:
        weights = check_model_file_from_stem(str(weights))
        if str(weights).endswith(".pt"):
            models.read_pt(Path(weights))  # refuses what is damaged or hostile before theirs would load it
        with safely():
            super()._load(weights, task)

    def train(self, trainer: None = None, **given: Any) -> MultiLabelMetrics:
        """Train on a labels file with Ultralytics' arguments; returns the scores of the validation split.

        Their augmentations are off unless asked for (`fliplr`, `scale`, `erasing`, …): most of them can lose or change
        what a label names. Without any, images are changed as the loop does it.

        Parameters
        ----------
        data : a labels file, a DataFrame, or a LabelTable; of a folder or YAML, as theirs takes it, the import command
            is told
        resume : go on with the run that this `weights/last.pt` belongs to, or the one named here; its own arguments may
            be given again

        Raises
        ------
        WorkbenchError : an argument that cannot be honoured with several labels, or is not that of the run to resume
        """
        if trainer is not None:
            raise WorkbenchError("trainer is this package's own; what it should do otherwise goes into callbacks")
        data, resume = given.pop("data", None), given.pop("resume", False)
        table = None if data is None else _read(data)
        if resume:
            run = _run_of(self.ckpt_path if resume is True else resume)
            again = _again(run, given)
            table = run.split_table() if table is None else table
            self.run = fit(table, run.folder, resume=True, callbacks=self.callbacks, **again)
        elif table is None:
            raise WorkbenchError("train needs data='labels.csv', a labels file as the workbench reads them")
        else:
            chosen = given.get("optimizer", DEFAULT_CFG_DICT["optimizer"])
            if chosen == "auto" and (idle := [n for n in ("lr0", "momentum", "warmup_bias_lr") if n in given]):
                raise WorkbenchError(f"{idle[0]}: the optimizer 'auto' chooses its own; name one: optimizer='AdamW'")
            self.run = fit(
                table, _folder(given), bool(given.get("exist_ok")), callbacks=self.callbacks,
                model=str(self.ckpt_path or self.cfg), route="ultralytics", **_settings(given),
            )  # fmt: skip
        self._load(str(self.run.folder / folder_of.ULTRALYTICS_BEST))
        self.predictor = None
        self.metrics = MultiLabelMetrics()
        self.metrics.process(self.run.predictions("val"))
        return self.metrics

    def val(self, validator: None = None, data: Any = None, split: str = "val", **given: Any) -> MultiLabelMetrics:
        """Scores of a split of the run that this checkpoint belongs to, or of another labels file.

        Parameters
        ----------
        data : what `read_labels` takes; see `runs.other.labelled_predictions`
        """
        odd = ["validator"] * (validator is not None) + list(given)
        if odd:
            raise WorkbenchError(f"val takes data and split; {', '.join(odd)} would have no effect: leave it out")
        run, self.metrics = _run_of(self.ckpt_path), MultiLabelMetrics()
        self.metrics.process(run.predictions(split) if data is None else labelled_predictions(run, data))
        return self.metrics

    def export(self, **given: Any) -> str:
        """A file of another format, by their export: by default one to which a plain `YOLO` shows whole images.

        Of a square one, or one of any size, it shows the middle; this class shows the whole image to each.
        """
        square = "imgsz" in given and len({*np.atleast_1d(given["imgsz"]).tolist()}) == 1
        if square or given.get("dynamic"):
            log.warning("a plain YOLO shows only the middle of an image to this export; leave imgsz and dynamic out")
        return super().export(**given)

    def load(self, weights: Any = None) -> "MultiLabelYOLO":
        raise WorkbenchError(f"begin with the weights themselves: MultiLabelYOLO({str(weights)!r})")

    def tune(self, *_: Any, **__: Any) -> Any:
        raise WorkbenchError(
            "their search over hyperparameters trains class folders; call train for each setting instead"
        )


def _run_of(weights: Any) -> Run:
    """The run whose `weights/` a checkpoint lies in, if there is one."""
    return Run(Path(str(weights)).parent.parent)


def _read(data: Any) -> LabelTable:
    """The labels that `data` is or names.

    Raises
    ------
    WorkbenchError : it is a folder or a YAML, as Ultralytics takes it: says what it is, and the import command
    """
    if isinstance(data, (str, Path)) and is_folder(Path(data)):
        raise WorkbenchError(what_folder(Path(data)))
    return read_labels(data)


PLACE = ("project", "name", "exist_ok", "save_dir")
# Our settings by their names for them.
OURS = {"epochs": "epochs", "batch": "batch_size", "imgsz": "image_size", "seed": "seed", "patience": "patience",
        "lr0": "learning_rate", "workers": "workers", "amp": "precision", "device": "device"}  # fmt: skip


def _folder(given: dict[str, Any]) -> Path:
    """The run folder that their arguments name."""
    chosen = {name: given[name] for name in PLACE if given.get(name) is not None}
    if "save_dir" in chosen and (idle := sorted({"project", "name"} & chosen.keys())):
        raise WorkbenchError(f"{', '.join(idle)} beside save_dir, which is the whole folder; leave one of them out")
    usual = {name: DEFAULT_CFG_DICT.get(name) for name in PLACE}
    return get_save_dir(SimpleNamespace(**{**usual, **chosen, "task": "classify", "mode": "train"}))


def _again(run: Run, given: dict[str, Any]) -> dict[str, Any]:
    """Our settings for arguments given again; one that is not as the run to resume has it is refused."""
    own, now = Settings.of(**run.state["settings"]), Settings.of(route="ultralytics", **_settings(given))
    has = {**DEFAULT_CFG_DICT, "model": own.model, **recipe(own)}
    for name in [name for name in given if name not in (*OURS, "exist_ok")]:
        if name not in PLACE and now.ultralytics[name] != has.get(name):
            refuse_other(name, given[name], has.get(name))
        if name in PLACE and _folder({**given, "exist_ok": True}) != run.folder.resolve():
            refuse_other(name, given[name], str(run.folder))
    return {OURS[name]: getattr(now, OURS[name]) for name in given if name in OURS}


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """Our settings for their arguments; what has no counterpart goes on to their trainer as it is."""
    usual = {**DEFAULT_CFG_DICT, "imgsz": 224, **given}
    ours = {ours: usual[theirs] for theirs, ours in OURS.items()} | {
        "workers": min(usual["workers"], count_cores()),
        "precision": {"True": "auto", "False": "fp32"}.get(str(usual["amp"]), str(usual["amp"])),
        "device": "auto" if usual["device"] in (None, "") else usual["device"],
    }
    theirs = {name: usual[name] for name in (*RECIPE, "verbose")}
    return ours | {"ultralytics": theirs | {n: value for n, value in given.items() if n not in (*OURS, *PLACE)}}
