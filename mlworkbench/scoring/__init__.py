"""Scores with their intervals, from logits of any framework: no torch here."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "predictions": ["Predictions", "decide", "probabilities"],
        "metrics": ["average_precision", "bootstrap", "class_table", "interval", "mean_defined", "score", "wilson"],
        "calibration": ["bends", "calibrate"],
        "intervals": ["told"],
        "prevalence": ["at_prevalence", "read_prevalence"],
    },
)
