"""Multi-label image classification with Ultralytics YOLO networks.

The front page is lazy (PEP 562): importing the package imports neither torch nor ultralytics nor pandas.

    import mlworkbench as mw

    table = mw.read_labels("labels.csv")
    run = mw.fit(table, run_dir="runs/first", model="yolov8n-cls.yaml", epochs=15)
    thresholds = mw.tune_thresholds(run.predictions("val"), objective="f1")
    scores = mw.evaluate(run.predictions("test"), thresholds)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_FRONT_PAGE = {
    "WorkbenchError": "exceptions",
    "LabelTable": "labels",
    "read_labels": "labels",
    "Predictions": "predictions",
    "Thresholds": "thresholds",
    "tune_thresholds": "thresholds",
    "build_model": "model",
    "Run": "workflow",
    "evaluate": "workflow",
    "fit": "fitting",
    "MultiLabelYOLO": "yolo",
    "predict": "workflow",
}
__all__ = ["__version__", *_FRONT_PAGE]

if TYPE_CHECKING:
    from .exceptions import WorkbenchError as WorkbenchError
    from .fitting import fit as fit
    from .labels import LabelTable as LabelTable
    from .labels import read_labels as read_labels
    from .model import build_model as build_model
    from .predictions import Predictions as Predictions
    from .thresholds import Thresholds as Thresholds
    from .thresholds import tune_thresholds as tune_thresholds
    from .workflow import Run as Run
    from .workflow import evaluate as evaluate
    from .workflow import predict as predict
    from .yolo import MultiLabelYOLO as MultiLabelYOLO


def __getattr__(name: str) -> Any:
    if name not in _FRONT_PAGE:
        raise AttributeError(f"module 'mlworkbench' has no attribute {name!r}")
    return getattr(import_module(f"mlworkbench.{_FRONT_PAGE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
