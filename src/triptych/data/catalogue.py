"""Discovery of data sets: finds every DataModule in this package, so that a new one need not be registered."""

import pkgutil
from importlib import import_module

import triptych.data
from triptych.data.base import DataModule
from triptych.hint import did_you_mean


def data_sets() -> dict[str, type[DataModule]]:
    """Map module names (``documents``, ``xrays``, ``california``, ...) to their DataModules."""
    found = {}
    for info in pkgutil.iter_modules(triptych.data.__path__):
        module = import_module(f"{triptych.data.__name__}.{info.name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and issubclass(value, DataModule) and hasattr(value, "slug"):
                found[info.name] = value
    return found


def data_set(name: str) -> type[DataModule]:
    """Return the data set with this module name, Kaggle slug or task.

    Raises:
        ValueError: there is none; the message suggests the nearest name.
    """
    modules = data_sets()
    by_name = modules | {name: module for module in modules.values() for name in (module.slug, module.task) if name}
    if name not in by_name:
        raise ValueError(f"no data set {name}: choose one of {', '.join(modules)}{did_you_mean(name, by_name)}")
    return by_name[name]
