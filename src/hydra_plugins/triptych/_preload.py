"""What the fork server imports before it forks the first job, so that no job has to."""

import pkgutil
import signal
from importlib import import_module

# The server ends with its sweep, whatever is sent to the whole process group; jobs answer for themselves.
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
