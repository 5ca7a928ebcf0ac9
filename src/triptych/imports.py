"""Imports of much code at once."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Import without the garbage collector: with torch, Lightning and torchmetrics it takes an eighth of the time.

    It would walk through all modules, classes and functions so far, again and again, and they stay until the end. So it
    leaves them out afterwards too, unless all was imported before.
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
