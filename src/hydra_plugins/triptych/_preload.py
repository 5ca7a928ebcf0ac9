"""Imports that the fork server makes before it forks the first job, so that no job has to."""

import pkgutil
import signal
from importlib import import_module

# The server ignores signals sent to the whole process group and ends with its sweep; jobs have their own handlers.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)

PACKAGES = ("callbacks", "data", "models", "networks")
MORE = (
    "triptych.job",
    "triptych.run",
    "hydra.core.plugins",
    "matplotlib.figure",
    "torch.utils.tensorboard",
)

for name in (*MORE, *(f"triptych.{package}" for package in PACKAGES)):
    module = import_module(name)
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        import_module(found.name)
