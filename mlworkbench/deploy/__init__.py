"""A finished run, used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "predict": ["predict"],
        "export": ["Exported", "export"],
    },
)
