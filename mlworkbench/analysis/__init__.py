"""Where a run errs, and which labels do."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "errors": ["almost_right", "confusions", "disagreements"],
        "slices": ["weak_slices"],
        "compare": ["Paired", "compare", "compare_runs"],
        "suspects": ["Suspects", "find_suspects", "left_one_out", "out_of_fold", "rank_labels"],
        "datamap": ["MappedImages", "project"],
        "approaches": ["CODE", "comparison", "telling_images", "train_all"],
    },
)
