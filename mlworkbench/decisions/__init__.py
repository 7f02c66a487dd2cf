"""Decisions by thresholds: how these are chosen, whether that pays, what it costs, and what is left to a person."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "thresholds": ["Gain", "Thresholds", "evaluate", "reviewed", "scores_at", "tuning_scores"],
        "tuning": ["Curves", "learnt_classes", "tune_thresholds"],
        "gain": ["choose_thresholds", "remarks", "tuning_gain"],
        "costs": ["decision_costs"],
        "zone": ["ReviewGain", "review_gain", "with_zones"],
    },
)
