"""Imports of much code at once."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Import without the garbage collector: with torch, Lightning and torchmetrics it takes an eighth of the time.

    It would walk through all modules, classes and functions so far, again and again, and they stay until the end. So it
    leaves them out afterwards too.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
