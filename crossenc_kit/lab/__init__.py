"""Notebooks as experiments; exercises that check themselves; a benchmark; a doctor."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
