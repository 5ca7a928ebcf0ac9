"""Faster imports of large packages."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Import without the garbage collector, an eighth of the import time of torch, Lightning and torchmetrics.

    It would traverse all modules, classes and functions so far again and again, although they stay until the end. So
    they are also exempted from later collections (frozen), unless everything was imported before.
    """
    collects, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if collects:
            gc.enable()
