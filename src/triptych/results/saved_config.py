"""A run's config read back from its directory, which may come from a stranger."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from triptych.results.directory import CONFIG, HYDRA, resumes
from triptych.results.untrusted import MOST_YAML_BYTES, leads_elsewhere, parse_yaml, read_text, texts

REFERENCE = re.compile(r"\$\{[A-Za-z_][\w.]*\}")
WRITERS = ("callbacks", "logger", "trainer")
"""The groups whose classes write files or send."""
HARMLESS = {"WandbLogger": {"project", "offline"}, "MLFlowLogger": {"experiment_name", "tracking_uri"}}
"""Of the loggers that send, what a saved config may say: other arguments can name a stranger's account."""


def read_config(directory: Path, trains: bool = True, anew: Collection[str] = ()) -> dict[str, Any]:
    """The config of a run as plain dicts and lists, references such as ``${monitor}`` filled in.

    Where a run writes and whom it calls is not for its directory to say. So ``data.cache_dir`` is the user's own again,
    nothing is downloaded, and for a run that is to train no path or address may stand among its WRITERS.

    Args:
        directory: the run directory.
        trains: whether the run is to be trained with this config, and not only its model and data are wanted.
        anew: dotted keys that the user gives anew; what is saved there does not count.

    Raises:
        ValueError: it cannot be read, it uses a resolver (``${oc.env:...}``), which could read what is not its own, or
            it leads out of its directory.
    """
    # What a later resume changed counts: its config lies beside the first one, numbered.
    saved = [directory / CONFIG, *(folder / CONFIG.name for folder in resumes(directory))]
    path = next((path for path in reversed(saved) if path.exists()), saved[0])
    try:
        raw = parse_yaml(read_text(path, MOST_YAML_BYTES))
        for _, text in texts(raw):
            if "${" in text and not REFERENCE.fullmatch(text):
                raise ValueError(f"{text!r} is more than a reference to another key")
        config: Any = OmegaConf.to_container(OmegaConf.create(raw), resolve=True)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    if not isinstance(config, dict) or not all(_has_target(config.get(name)) for name in ("data", "model")):
        raise ValueError(f"{path} is no config of a run: it has no data and model with a _target_ each")
    for key, text in texts({name: config.get(name) for name in WRITERS}) if trains else ():
        if key not in anew and leads_elsewhere(text):
            raise ValueError(
                f"{path}: {key}={text!r} leads out of the run directory, which is not for its config to say: "
                f"give {key}=... again behind resume= if it is yours"
            )
    for key in _accounts(config) if trains else ():
        if key not in anew:
            raise ValueError(
                f"{path}: {key} can name an account, which is not for a saved config to say: give {key}=... again "
                "behind resume= if it is yours"
            )
    if "cache_dir" in config["data"]:
        config["data"]["cache_dir"] = None
    if config["data"].get("source") == "kaggle":
        config["data"]["source"] = "files"  # what was downloaded then
    return config


def read_choices(directory: Path) -> dict[str, str]:
    """The option that a run has of each group. ``experiment`` is there: it also names a folder below ``logs/``.

    Raises:
        ValueError: they cannot be read, or the experiment's name is no plain one.
    """
    path = directory / HYDRA
    try:
        found = parse_yaml(read_text(path, MOST_YAML_BYTES))["hydra"]["runtime"]["choices"]
        choices = {str(group): option for group, option in found.items() if isinstance(option, str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be used: {type(error).__name__}: {error}") from error
    if not re.fullmatch(r"\w[\w.-]*", choices.get("experiment", "")):
        raise ValueError(f"{path} cannot be used: {choices.get('experiment')!r} is no experiment's name")
    return choices


def _accounts(config: Mapping[str, Any]) -> Iterator[str]:
    """The dotted keys by which a config can say in whose account a run is kept."""
    trainer, loggers = config.get("trainer"), config.get("logger")
    if isinstance(trainer, dict) and trainer.get("model_registry") is not None:
        yield "trainer.model_registry"
    for name, logger in loggers.items() if isinstance(loggers, dict) else ():
        harmless = HARMLESS.get(str(logger.get("_target_")).rpartition(".")[2]) if isinstance(logger, dict) else None
        if harmless is not None:
            yield from (f"logger.{name}.{key}" for key in logger if key not in harmless | {"_target_"})


def _has_target(config: Any) -> bool:
    return isinstance(config, dict) and "_target_" in config
