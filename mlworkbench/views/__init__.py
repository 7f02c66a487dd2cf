"""What a person sees: figures, galleries and widgets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "plots": [
            "average_precisions",
            "calibration",
            "class_counts",
            "comparison",
            "data_map",
            "error_counts",
            "histories",
            "history",
            "image_sizes",
            "label_budget",
            "label_sets",
            "precision_recall",
            "telling_images",
            "tuned_against_half",
        ],
        "company": ["cooccurrence"],
        "style": ["use_style"],
        "live": ["LivePlot", "show", "show_table", "show_widget"],
        "galleries": [
            "ClassGallery",
            "ImagesOf",
            "class_examples",
            "error_gallery",
            "flip_gallery",
            "gallery",
            "pair_gallery",
            "prediction_gallery",
            "sample_gallery",
            "suspect_gallery",
            "thumbnail",
        ],
        "tuner": ["ThresholdTuner"],
        "review": ["LabelReview"],
        "map": ["DataMap"],
    },
)
