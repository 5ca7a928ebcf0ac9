"""The data sets there are: every DataModule in a module of this package, so that a new one needs no list."""

import pkgutil
from importlib import import_module

import triptych.data
from triptych.data.base import DataModule
from triptych.hint import did_you_mean


def data_sets() -> dict[str, type[DataModule]]:
    """Module name (``documents``, ``xrays``, ``california``, ...) to its DataModule."""
    found = {}
    for info in pkgutil.iter_modules(triptych.data.__path__):
        module = import_module(f"{triptych.data.__name__}.{info.name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and issubclass(value, DataModule) and hasattr(value, "slug"):
                found[info.name] = value
    return found


def data_set(name: str) -> type[DataModule]:
    """The data set of this name, with this Kaggle slug, or for this task.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    modules = data_sets()
    by_name = modules | {name: module for module in modules.values() for name in (module.slug, module.task) if name}
    if name not in by_name:
        raise ValueError(f"no data set {name}: choose one of {', '.join(modules)}{did_you_mean(name, by_name)}")
    return by_name[name]
