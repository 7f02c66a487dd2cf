"""Scores and decisions, from logits of any framework: no torch here."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "predictions": ["Predictions", "decide", "probabilities"],
        "metrics": ["average_precision", "bootstrap", "class_table", "interval", "mean_defined", "score", "wilson"],
        "calibration": ["calibrate"],
        "thresholds": ["Curves", "Thresholds", "evaluate", "tune_thresholds", "tuning_scores"],
    },
)
