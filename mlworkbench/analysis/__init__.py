"""Where a run errs, and which labels do."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "errors": ["almost_right", "confused_images", "confusions", "disagreements"],
        "slices": ["slice_images", "weak_slices"],
        "compare": ["Paired", "Recipes", "compare", "compare_recipes", "compare_runs"],
        "suspects": [
            "Suspects",
            "against_truth",
            "find_suspects",
            "known_truth",
            "left_one_out",
            "out_of_fold",
            "rank_labels",
        ],
        "zone": ["zone_labels"],
        "health": ["Health", "check_health", "compare_images"],
        "budget": ["LabelBudget", "label_budget", "learning_curve", "positives_needed"],
        "datamap": ["MappedImages", "project"],
        "approaches": ["CODE", "comparison", "telling_images", "train_all"],
    },
)
