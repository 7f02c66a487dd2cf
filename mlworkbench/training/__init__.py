"""Training, from prepared images to a run folder."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fit": ["fit"],
        "losses": ["asymmetric", "bce"],
        "probe": ["fit_linear"],
        "yolo": ["MultiLabelYOLO"],
    },
)
