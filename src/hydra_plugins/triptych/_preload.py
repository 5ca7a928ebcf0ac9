"""Imports that the fork server makes before it forks the first job, so that no job has to."""

import atexit
import os
import pkgutil
import signal
from importlib import import_module

from triptych.imports import without_collector

# The server ignores signals sent to the whole process group and ends with its sweep; jobs have their own handlers.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
# It has nothing to save: tearing down all that it imported would take another second or two.
atexit.register(os._exit, 0)

PACKAGES = ("callbacks", "data", "models", "networks")
MORE = (
    "triptych.job",
    "triptych.run",
    "hydra.core.plugins",
    "matplotlib.figure",
    "torch.utils.tensorboard",
)

with without_collector():
    for name in (*MORE, *(f"triptych.{package}" for package in PACKAGES)):
        module = import_module(name)
        for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
            import_module(found.name)
