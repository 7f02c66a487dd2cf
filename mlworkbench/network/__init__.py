"""The network, from image files to logits and features."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "model": ["YOLOClassifier", "build_model"],
        "batches": ["ImageDataset", "augment"],
        "device": ["choose_device"],
        "activation_maps": ["distance", "maps", "peaks"],
    },
)
