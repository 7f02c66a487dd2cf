"""A finished run, used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "app": ["TryOut", "try_out"],
        "parts": ["predict_to"],
        "predict": ["predict"],
        "export": ["Exported", "export"],
        "predict": ["predict", "told"],
        "sources": ["images_of"],
    },
)
