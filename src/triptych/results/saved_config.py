"""Read a run's config back from its directory, which may be untrusted."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from triptych.results.directory import CONFIG, HYDRA, resumes
from triptych.results.untrusted import MOST_YAML_BYTES, leads_outside, parse_yaml, read_text, strings

REFERENCE = re.compile(r"\$\{[A-Za-z_][\w.]*\}")
WRITERS = ("callbacks", "logger", "trainer")
"""The config groups whose classes write files or send data."""
HARMLESS = {"WandbLogger": {"project", "offline"}, "MLFlowLogger": {"experiment_name", "tracking_uri"}}
"""The arguments that a saved config may set on loggers that send data: others can name somebody else's account."""


def read_config(directory: Path, trains: bool = True, anew: Collection[str] = ()) -> dict[str, Any]:
    """Return the config of a run as plain dicts and lists, with references such as ``${monitor}`` resolved.

    An untrusted directory must not decide where a run writes or which servers it contacts. So ``data.cache_dir`` is
    reset to the user's, nothing is downloaded, and for training no path or address is accepted among the WRITERS.

    Args:
        directory: the run directory.
        trains: whether the config is used for training, and not only to build the model and the data.
        anew: dotted keys that the user overrides; their saved values are not checked.

    Raises:
        ValueError: it cannot be read, it uses a resolver (``${oc.env:...}``), which could read the
            environment, or, for training, it leads out of its directory or can name an account.
    """
    # The config of the latest resume counts; each is saved in a numbered folder beside the first.
    saved = [directory / CONFIG, *(folder / CONFIG.name for folder in resumes(directory))]
    path = next((path for path in reversed(saved) if path.exists()), saved[0])
    try:
        raw = parse_yaml(read_text(path, MOST_YAML_BYTES))
        for _, text in strings(raw):
            if "${" in text and not REFERENCE.fullmatch(text):
                raise ValueError(f"{text!r} is more than a reference to another key")
        config: Any = OmegaConf.to_container(OmegaConf.create(raw), resolve=True)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    if not isinstance(config, dict) or not all(_has_target(config.get(name)) for name in ("data", "model")):
        raise ValueError(f"{path} is not the config of a run: data and model need a _target_ each")
    for key, text in strings({name: config.get(name) for name in WRITERS}) if trains else ():
        if key not in anew and leads_outside(text):
            raise ValueError(
                f"{path}: {key}={text!r} points outside the run directory, which a saved config may not do: "
                f"give {key}=... again after resume= if it is yours"
            )
    for key in _accounts(config) if trains else ():
        if key not in anew:
            raise ValueError(
                f"{path}: {key} can name an account, which a saved config may not do: give {key}=... again "
                "after resume= if it is yours"
            )
    if "cache_dir" in config["data"]:
        config["data"]["cache_dir"] = None
    if config["data"].get("source") == "kaggle":
        config["data"]["source"] = "files"  # what was downloaded then
    return config


def read_choices(directory: Path) -> dict[str, str]:
    """Return the option that a run chose in each config group; ``experiment``, which names a folder, is always there.

    Raises:
        ValueError: they cannot be read, or the experiment's name has characters unsafe in the name of a folder.
    """
    path = directory / HYDRA
    try:
        found = parse_yaml(read_text(path, MOST_YAML_BYTES))["hydra"]["runtime"]["choices"]
        choices = {str(group): option for group, option in found.items() if isinstance(option, str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be used: {type(error).__name__}: {error}") from error
    if not re.fullmatch(r"\w[\w.-]*", choices.get("experiment", "")):
        raise ValueError(f"{path} cannot be used: {choices.get('experiment')!r} is not the name of an experiment")
    return choices


def _accounts(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the dotted keys with which a config could select the account that receives a run."""
    trainer, loggers = config.get("trainer"), config.get("logger")
    if isinstance(trainer, dict) and trainer.get("model_registry") is not None:
        yield "trainer.model_registry"
    for name, logger in loggers.items() if isinstance(loggers, dict) else ():
        harmless = HARMLESS.get(str(logger.get("_target_")).rpartition(".")[2]) if isinstance(logger, dict) else None
        if harmless is not None:
            yield from (f"logger.{name}.{key}" for key in logger if key not in harmless | {"_target_"})


def _has_target(config: Any) -> bool:
    return isinstance(config, dict) and "_target_" in config
