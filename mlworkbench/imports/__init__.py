"""Imports: foreign data turned into a canonical labels file. Readers say what a source says; no torch here."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "door": ["Imported", "import_labels"],
        "found": ["Found", "Told"],
    },
)
