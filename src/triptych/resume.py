"""Resume a run: `python train.py resume=RUN [key=value ...]`, handled before Hydra sees the arguments."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from triptych.composed import Composer, CompositionError
from triptych.config import ConfigError
from triptych.declared import ANYTHING, Declaration, Declared
from triptych.hint import did_you_mean
from triptych.processes import launched_externally
from triptych.results.checkpoints import resumable
from triptych.results.directory import DONE, SWEEP, find_run, resumes
from triptych.results.record import PRIMARY
from triptych.results.saved_config import read_choices, read_config
from triptych.results.untrusted import refuse_links


@dataclass(frozen=True)
class Resumption:
    """A run to resume.

    Attributes:
        config: the saved config with the given values applied.
        directory: the run directory.
        experiment: name of the experiment.
        checkpoint: the newest intact one; None if the run was stopped before its first.
        damaged: newer checkpoints that are corrupt.
        finished: whether the run is done and no values were given.
        overrides: the given values.
    """

    config: DictConfig
    directory: Path
    experiment: str
    checkpoint: Path | None
    damaged: list[Path]
    finished: bool
    overrides: list[str]

    def record(self) -> None:
        """Save the config and the given values in ``.hydra/resume-N/``; the original config stays as it is."""
        number = 1 + max((int(folder.name.removeprefix("resume-")) for folder in resumes(self.directory)), default=0)
        folder = self.directory / ".hydra" / f"resume-{number}"
        folder.mkdir()
        OmegaConf.save(self.config, folder / "config.yaml")
        (folder / "overrides.yaml").write_text(yaml.safe_dump(self.overrides))


def parse_resumption(arguments: Sequence[str], conf: Path | None = None) -> Resumption | None:
    """The run that ``resume=RUN`` among the arguments asks to resume; None without it.

    Args:
        arguments: what follows the program's name, without flags.
        conf: the folder with ``config.yaml``, whose files declare the accepted values; None: each keeps its type.

    Raises:
        ConfigError: there is no such run, or an argument is not a value that its config has.
    """
    # Quoted too, as Hydra requires of a path with spaces.
    names = [argument.partition("=")[2].strip("'\"") for argument in arguments if argument.startswith("resume=")]
    if not names:
        return None
    rest = [argument for argument in arguments if not argument.startswith("resume=")]
    if len(names) > 1:
        raise ConfigError("resume= is given more than once")
    if (Path(names[0]) / SWEEP).is_file():
        raise ConfigError(
            f"{names[0]} is a sweep: python train.py -m {shlex.quote(f'resume={names[0]}')}, or one of its jobs, "
            "without -m"
        )
    try:
        # If torchrun or SLURM launched the processes, rank 0 may be training there already.
        directory = find_run(names[0], unfinished=True, free=not launched_externally())
        refuse_links(directory)
        overrides = OverridesParser.create().parse_overrides(list(rest))
        anew = [override.key_or_group for override in overrides]
        # A run directory is untrusted and must not decide whose code may run: packages=[...] has to be given again.
        config = OmegaConf.create(read_config(directory, anew=anew) | {"packages": []})
        choices = read_choices(directory)
    except (OSError, ValueError, HydraException) as error:
        raise ConfigError(f"resume={names[0]}: {error}") from error
    declared = _declared(choices, conf) if conf and overrides else Declared()
    for override in overrides:
        _apply(config, override, declared)
    finished = (directory / DONE).exists() and not overrides
    checkpoint, damaged = (None, []) if finished else resumable(directory)
    if damaged and checkpoint is None:
        files = " and ".join(map(str, damaged))
        raise ConfigError(f"resume={names[0]}: damaged, and nothing to resume from: {files}; delete to begin again")
    return Resumption(config, directory, choices["experiment"], checkpoint, damaged, finished, rest)


def _declared(choices: Mapping[str, str], conf: Path) -> Declared:
    """What the current files of a run's choices declare; an option that no longer exists declares nothing."""
    found = Declared()
    try:
        composer = Composer(conf, PRIMARY, None, [])
        there = [group for group in composer.groups() if choices.get(group) in composer.options(group)]
        declared = composer.compose(composer.parse(f"{group}={choices[group]}" for group in there)).declared
    except CompositionError:  # the current files do not fit the choices of that time
        return found
    gone = tuple(f"{group.replace('/', '.')}." for group in choices if group not in there)
    found.keys = {key: declaration for key, declaration in declared.keys.items() if not f"{key}.".startswith(gone)}
    return found


def _apply(config: DictConfig, override: Override, declared: Declared) -> None:
    """Set one value. Only keys that the saved config has can be set, and only to a value."""
    key = override.key_or_group
    text = override.input_line
    if override.is_delete() or override.is_add() or override.is_force_add() or override.is_sweep_override():
        raise ConfigError(f"{text}: a resumed run takes values only (key=value)")
    # Monitor and mode have selected the best epoch so far, and the seed has determined every random draw.
    if key in ("experiment", "monitor", "mode", "seed") or OmegaConf.is_dict(OmegaConf.select(config, key)):
        raise ConfigError(f"{text}: a resumed run keeps its {key}; start a new run to change it")
    group, _, last = key.rpartition(".")
    if last == "_target_" or (last in ("monitor", "mode") and group.startswith("callbacks.")):
        raise ConfigError(f"{text}: a resumed run keeps its {last} everywhere; start a new run to change it")
    known = {name for name, _ in _leaves(config)}
    if key not in known:
        raise ConfigError(f"{key} is not a key of this run{did_you_mean(key, known)}")
    declaration = declared.find(key)
    if declaration is None or not declaration.expected:
        declaration = Declaration(OmegaConf.select(config, key), "the run's config")
        # A string such as `auto` may be replaced by a number, but a number only by a number.
        if isinstance(declaration.default, str):
            declaration = ANYTHING
    if not declaration.accepts(override.value()):
        raise ConfigError(f"{text}: {declaration.complaint(override.value())}")
    OmegaConf.update(config, key, override.value())


def _leaves(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not OmegaConf.is_dict(config) or not config:
        return [(prefix, config)]
    return [leaf for name in config for leaf in _leaves(config[name], f"{prefix}.{name}" if prefix else str(name))]
