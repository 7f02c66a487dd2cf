"""Tables, whoever wrote them: from bytes to rows, cells and what the columns look like. Nothing here opens an image."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "rows": ["Table", "kind_of", "read_table"],
        "cells": ["label_of", "names_of", "split_of"],
        "columns": ["Look", "Told", "look"],
        "meaning": ["Meaning"],
        "layout": ["Layout", "open_canonical"],
        "ask": ["Asks", "command"],
    },
)
