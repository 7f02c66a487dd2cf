"""Reports on finished runs, as pages that need nothing else."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"report": ["report"]})
