from .analysis.compare import compare_runs as compare_runs
from .analysis.suspects import find_suspects as find_suspects
from .data.labels import LabelTable as LabelTable
from .data.labels import read_labels as read_labels
from .decisions.thresholds import Thresholds as Thresholds
from .decisions.thresholds import evaluate as evaluate
from .decisions.tuning import tune_thresholds as tune_thresholds
from .deploy.export import export as export
from .deploy.parts import predict_to as predict_to
from .deploy.predict import predict as predict
from .exceptions import WorkbenchError as WorkbenchError
from .network.model import build_model as build_model
from .reports.report import report as report
from .runs.listing import list_runs as list_runs
from .runs.run import Run as Run
from .scoring.calibration import calibrate as calibrate
from .scoring.predictions import Predictions as Predictions
from .training.fit import fit as fit
from .training.yolo import MultiLabelYOLO as MultiLabelYOLO

__version__: str
