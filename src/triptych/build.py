"""Build the object that a config's ``_target_`` describes, safely even if the config is untrusted.

A config read back from a run directory must not be able to run code. So a ``_target_`` must resolve to a *class*, of
an allowed package, of the kind expected at its place. Package prefixes alone would not suffice: torch alone has
functions that load pickles, fetch repositories and start processes. Nor would kinds without further limits: private
names (``torch._inductor``, ``__main__``) are refused, since merely importing them can start something; of the large
packages only those parts are HOMES whose classes are made of numbers and names, not modules that carry code
(``torch.fx``, ``torch.jit``), contact other machines (``torch.distributed``, an account's logger) or download weights
(metrics of text and images); and arguments are plain data, which none of the remaining classes executes.
"""

import inspect
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

_packages = {__name__.partition(".")[0], "torch", "torchvision", "torchmetrics", "lightning"}
HOMES = {
    "torch": ("nn", "optim"),
    "torchvision": ("models", "ops", "transforms"),
    "torchmetrics": ("aggregation", "classification", "collections", "metric", "regression"),
    "lightning": (
        "fabric.loggers",
        "pytorch.callbacks",
        *(f"pytorch.loggers.{name}" for name in ("csv_logs", "logger", "mlflow", "tensorboard", "wandb")),
    ),
}
"""By package, the parts that must define an allowed class and its bases. Other packages are allowed as a whole."""
# A LightningModule, a Metric and a torchvision transform are nn.Modules.
KINDS = (nn.Module, Optimizer, LRScheduler, LightningDataModule, Callback, Logger)


# Bases of the kinds themselves, wherever they are defined.
_BASES = {base for kind in (*KINDS, LightningModule) for base in kind.__mro__}
_whole: set[str] = set()


def trust(packages: Iterable[str]) -> None:
    """Also allow the classes of these packages in this process: the user's own, never those an untrusted config names.

    A package with HOMES is then allowed as a whole.
    """
    packages = list(packages)
    _packages.update(packages)
    _whole.update(packages)


def resolve(target: Any, kinds: tuple[type, ...] = KINDS) -> type:
    """Return the class with this dotted path, e.g. ``torch.optim.AdamW``.

    Args:
        target: the path; anything but a string is refused too.
        kinds: what the class may be, some of the KINDS.

    Raises:
        ValueError: the package is not allowed, or the path leads to no class of these kinds.
    """
    allowed = ", ".join(sorted(_packages))
    if not isinstance(target, str):
        raise ValueError(f"_target_ {target!r}: expected the dotted path of a class, such as torch.optim.AdamW")
    parts = target.split(".")
    if not all(part.isidentifier() for part in parts) or parts[0] not in _packages:
        raise ValueError(
            f"_target_ {target}: its package is not one of {allowed} (a package of your own is allowed by "
            "packages=[NAME] in training and by --trust NAME after it)"
        )
    if any(part.startswith("_") for part in parts):
        raise ValueError(f"_target_ {target}: a name with a leading underscore is private, and never built")
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:
        # Not only ImportError: a module may raise anything while it is imported.
        raise ValueError(f"_target_ {target}: there is no such class ({error})") from error
    if not (inspect.isclass(found) and issubclass(found, kinds)):
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"_target_ {target}: not a class of one of the kinds {names}")
    # An allowed module may import a class from elsewhere: what counts is where the class is defined.
    if found.__module__.partition(".")[0] not in _packages:
        raise ValueError(f"_target_ {target}: it is made in {found.__module__}, not in one of {allowed}")
    for base in found.__mro__:
        if base not in _BASES and not _is_at_home(base.__module__):
            package = base.__module__.partition(".")[0]
            raise ValueError(
                f"_target_ {target}: what is made in {base.__module__} may carry code, fetch or send; a config can "
                f"name it only where all of {package} is trusted, by packages=[{package}] in training and by "
                f"--trust {package} after it"
            )
    return found


def _is_at_home(module: str) -> bool:
    """Whether classes and bases of this module are allowed: always in a package without HOMES, such as Python's own."""
    package, _, rest = module.partition(".")
    homes = HOMES.get(package)
    return homes is None or package in _whole or any(f"{rest}.".startswith(f"{home}.") for home in homes)


def build(config: Mapping[str, Any], *arguments: Any, kinds: tuple[type, ...] = KINDS, **more: Any) -> Any:
    """Build what ``config`` describes: the class at ``_target_``, called with the other keys.

    Args:
        config: plain numbers, strings, lists and dicts; a nested ``_target_`` is left to the class.
        arguments: positional arguments.
        kinds: what the class may be at this place, some of the KINDS.
        more: further keyword arguments, which override those of the config.

    Raises:
        ValueError: there is no ``_target_``, it is not allowed, or the class does not take the arguments.
    """
    if not isinstance(config, Mapping) or "_target_" not in config:
        raise ValueError(f"expected a mapping with the path of a class at _target_, found {config!r}")
    target = resolve(config["_target_"], kinds)
    own = {key: value for key, value in config.items() if key != "_target_"} | more
    # Hydra's _args_ and _partial_, or a misspelt _target_: a class that takes any keyword would swallow them.
    special = [key for key in own if not isinstance(key, str) or key.startswith("_")]
    if special:
        raise ValueError(f"{config['_target_']}: {special[0]} is not an argument that a config can give")
    try:
        inspect.signature(target).bind(*arguments, **own)
    except TypeError as error:
        raise ValueError(f"{config['_target_']}: {error}") from error
    try:
        return target(*arguments, **own)
    except TypeError as error:
        # A class that takes any keyword passes them on, so that an unknown one fails only further down.
        if not any(f"unexpected keyword argument '{key}'" in str(error) for key in own):
            raise
        raise ValueError(f"{config['_target_']}: {error}") from error
