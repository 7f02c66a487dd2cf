"""Multi-label image classification with Ultralytics YOLO networks.

The front page is lazy: importing the package imports neither torch nor ultralytics nor pandas.

    import mlworkbench as mw

    table = mw.read_labels("labels.csv")
    run = mw.fit(table, run_dir="runs/first", model="yolov8n-cls.yaml", epochs=15)
    thresholds = mw.tune_thresholds(run.predictions("val"), objective="f1")
    scores = mw.evaluate(run.predictions("test"), thresholds)
"""

import lazy_loader

from .cores import spin_briefly
from .paths import make_home

make_home()  # before anything is imported that cannot do without
__version__ = "0.1.0"

spin_briefly()  # read when torch is imported: nowhere later than here

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
