"""A run's config read back from its directory, which may come from a stranger."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from triptych.results.directory import CONFIG

REFERENCE = re.compile(r"\$\{[A-Za-z_][\w.]*\}")


def read_config(directory: Path) -> dict[str, Any]:
    """The config of a run as plain dicts and lists, references such as ``${monitor}`` filled in.

    Raises:
        ValueError: it cannot be read, or it uses a resolver (``${oc.env:...}``), which could read what is not its own.
    """
    # What a later resume changed counts: its config lies beside the first one, numbered.
    resumes = {path.parent.name[7:]: path for path in directory.glob(".hydra/resume-*/config.yaml")}
    numbers = [number for number in resumes if number.isdecimal()]
    path = resumes[max(numbers, key=int)] if numbers else directory / CONFIG
    try:
        raw = yaml.safe_load(path.read_text())
        for text in _strings(raw):
            if "${" in text and not REFERENCE.fullmatch(text):
                raise ValueError(f"{text!r} is more than a reference to another key")
        config = OmegaConf.to_container(OmegaConf.create(raw), resolve=True)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    if not isinstance(config, dict) or not all(_has_target(config.get(name)) for name in ("data", "model")):
        raise ValueError(f"{path} is no config of a run: it has no data and model with a _target_ each")
    return config  # type: ignore[return-value]


def read_choices(directory: Path) -> dict[str, str]:
    """The option that a run has of each group. ``experiment`` is there: it also names a folder below ``logs/``.

    Raises:
        ValueError: they cannot be read, or the experiment's name is no plain one.
    """
    path = directory / ".hydra" / "hydra.yaml"
    try:
        found = yaml.safe_load(path.read_text())["hydra"]["runtime"]["choices"]
        choices = {str(group): option for group, option in found.items() if isinstance(option, str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be used: {type(error).__name__}: {error}") from error
    if not re.fullmatch(r"[\w-][\w.-]*", choices.get("experiment", "")):
        raise ValueError(f"{path} cannot be used: {choices.get('experiment')!r} is no experiment's name")
    return choices


def _has_target(config: Any) -> bool:
    return isinstance(config, dict) and "_target_" in config


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):  # YAML's !!pairs and !!omap are lists of tuples
        for item in value:
            yield from _strings(item)
