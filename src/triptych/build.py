"""From a config with a ``_target_`` to an object, for configs that may come from a stranger.

A config read back from a run directory must not be able to run code. So a ``_target_`` must resolve to a *class*, of
an allowed package, of a kind this project builds. Package prefixes alone would not do: torch alone holds functions
that load pickles, fetch repositories and start processes. Kinds alone would do little better without the rest: what
is private (``torch._inductor``, ``__main__``) is left out, for merely importing it can start something, and arguments
are plain data, which no class of these kinds executes.
"""

import inspect
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

_packages = {__name__.partition(".")[0], "torch", "torchvision", "torchmetrics", "lightning"}
# A LightningModule, a Metric and a torchvision transform are nn.Modules.
KINDS = (nn.Module, Optimizer, LRScheduler, LightningDataModule, Callback, Logger)


def trust(packages: Iterable[str]) -> None:
    """Allow the classes of these packages too, in this process: those of one's own project, never a stranger's."""
    _packages.update(packages)


def resolve(target: Any, kinds: tuple[type, ...] = KINDS) -> type:
    """The class with this dotted path, e.g. ``torch.optim.AdamW``.

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
        # Not ImportError alone: a module may raise anything where it is imported.
        raise ValueError(f"_target_ {target}: there is no such class ({error})") from error
    if not (inspect.isclass(found) and issubclass(found, kinds)):
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"_target_ {target}: not a class of one of the kinds {names}")
    # A class can be imported into an allowed module from elsewhere: where it is made counts.
    if found.__module__.partition(".")[0] not in _packages:
        raise ValueError(f"_target_ {target}: it is made in {found.__module__}, not in one of {allowed}")
    return found


def build(config: Mapping[str, Any], *arguments: Any, **more: Any) -> Any:
    """Make what ``config`` describes: the class at ``_target_``, called with the other keys.

    Args:
        config: plain numbers, strings, lists and dicts; a nested ``_target_`` is left to the class.
        arguments: positional arguments.
        more: further arguments, which win over those of the config.

    Raises:
        ValueError: there is no ``_target_``, it is not allowed, or the class does not take the arguments.
    """
    if not isinstance(config, Mapping) or "_target_" not in config:
        raise ValueError(f"expected a mapping with the path of a class at _target_, found {config!r}")
    target = resolve(config["_target_"])
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
        # A class that takes any keyword passes them on, and they are found unknown further in.
        if "unexpected keyword argument" not in str(error):
            raise
        raise ValueError(f"{config['_target_']}: {error}") from error
