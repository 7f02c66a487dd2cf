"""Run folders: what passes between notebooks, the command line and a colleague."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "folder": ["holds_run", "move_aside"],
        "listing": ["list_runs"],
        "other": ["evaluate_labels", "labelled_predictions"],
        "run": ["Run", "save_inspection"],
        "start": ["starting_network"],
    },
)
