"""Check a command line against the config's files, before anything slow is imported.

Hydra accepts any key in an experiment file, any key after a `+`, and any type; the run then fails after an hour or,
worse, succeeds with the default. `check` compares what is *set*, by the command line and by the files of package
`_global_` (experiments, studies, searches, debug), with what is *declared* by `config.yaml` and by the chosen file of
every group. Only those files define what is allowed: a new task brings its own, and there is no central list.

`triptych.declared` describes what a file declares by its values and comments, `triptych.composed` how the files of a
run are found. All mistakes come in one message. In a sweep every value is checked under every distinct choice of
groups, at a few milliseconds per choice however many jobs there are; if nothing is wrong, Hydra itself merges the first
job of each choice.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.conf import HydraConf
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from triptych.composed import Composer, Composition, CompositionError, alternatives, is_below
from triptych.declared import Declared, is_deferred
from triptych.dotted import leaves, nodes, show
from triptych.hint import nearest

PROGRAM = "python train.py"
TASK_GROUP = "experiment"  # the one group that must be chosen
NEEDED = (
    *("data", "model", "optimizer", "scheduler", "trainer", "monitor", "mode", "seed", "threads", "packages", "test"),
    *("trainer.accelerator", "trainer.precision", "trainer.max_epochs"),
    *("trainer.limit_val_batches", "trainer.enable_progress_bar"),
)
"""Keys that no run can do without: they take another value, but ``~KEY`` cannot delete them."""


class ConfigError(ValueError):
    """A user error in the config or the command line. Its str() is the complete message, one mistake per line."""


def check(arguments: Sequence[str], conf: Path) -> None:
    """Check a command line, including every job of a sweep.

    Args:
        arguments: what follows the program's name, as in `sys.argv[1:]`; flags may stand anywhere among the overrides.
        conf: the folder with `config.yaml`.

    Raises:
        ConfigError: with all mistakes, each with the nearest valid names.
    """
    if "--version" in arguments:
        return
    flags = hydras_flags(arguments)
    if flags.help or flags.hydra_help or flags.shell_completion or flags.info or flags.experimental_rerun:
        return
    if flags.config_path is not None:
        conf = conf.parent / flags.config_path
    try:
        composer = Composer(conf, flags.config_name or "config", flags.config_dir, flags.overrides)
        mistakes = _mistakes(composer, flags)
    except CompositionError as refusal:
        mistakes = str(refusal).splitlines()
    if mistakes:
        raise ConfigError("\n".join(map(_reworded, mistakes)))


@dataclass
class _Jobs:
    """The overrides of a run, or of all jobs of a sweep, by what they do; sweeps are expanded into alternatives.

    Attributes:
        choices: for each group that is overridden, the alternatives that exist.
        values: for each key that is set, the file that sets it ("" for the command line) and the alternatives.
        others: deletions of keys, and Hydra's own keys.
        invalid_groups: groups for which only non-existent options were asked for.
        mistakes: messages about overrides that cannot be used, such as options that do not exist.
    """

    choices: list[list[Override]] = field(default_factory=list)
    values: list[tuple[str, list[Override]]] = field(default_factory=list)
    others: list[Override] = field(default_factory=list)
    invalid_groups: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

    @property
    def deleted(self) -> list[str]:
        """The keys that `~key` deletes."""
        return [override.key_or_group for override in self.others if override.is_delete()]

    def settings(self) -> Iterator[tuple[str, str, object]]:
        """(file, key, value) of every value that is set in some job."""
        for file, options in self.values:
            for override in options:
                yield from ((file, key, value) for key, value in leaves({override.key_or_group: override.value()}))

    def first(self, chosen: Sequence[Override]) -> list[str]:
        """The overrides of the first job with this choice of groups, as Hydra reads them."""
        values = [options[0] for _, options in self.values]
        return [str(override.input_line) for override in (*chosen, *values, *self.others)]


def _mistakes(composer: Composer, flags: argparse.Namespace) -> list[str]:
    """Every mistake of a command line, one line each."""
    command = f"{PROGRAM} -m {shlex.join(flags.overrides)}"
    is_sweep = flags.multirun or "hydra.mode=MULTIRUN" in flags.overrides
    swept = [str(override.input_line) for override in composer.overrides if override.is_sweep_override()]
    if swept and not is_sweep:
        return [f"{line} asks for several runs: {command} (a list is written key=[a,b])" for line in swept]

    overrides = {override.get_key_element(): ("", override) for override in composer.overrides}
    jobs = _jobs(composer, overrides)
    try:
        common = composer.compose([options[0] for options in jobs.choices if len(options) == 1])
    except CompositionError as refusal:
        return [*jobs.mistakes, *str(refusal).splitlines()]
    if common.sweeping and not is_sweep and not flags.cfg:
        return [*jobs.mistakes, f"{common.sweeping} asks for several runs: {command}"]
    if not is_sweep:
        return _mistakes_of_jobs(composer, jobs)
    if arm_mistakes := list(composer.arm_mistakes(common)):
        return [*jobs.mistakes, *arm_mistakes]
    found: dict[str, None] = {}
    swept_by_hydra = _swept_by_hydra(composer, common)
    for arm in common.arms.values() or [{}]:
        # The command line takes precedence.
        jobs = _jobs(composer, swept_by_hydra | _parsed(composer, arm) | overrides)
        found |= dict.fromkeys(_mistakes_of_jobs(composer, jobs))
    return list(found)


def _mistakes_of_jobs(composer: Composer, jobs: _Jobs) -> list[str]:
    """Every mistake of some jobs under every distinct choice of groups."""
    products = list(itertools.product(*jobs.choices))
    for stage in (_key_mistakes, _merge_mistakes):
        found: dict[str, list[str]] = {}  # by mistake, the jobs that make it
        for chosen in products:
            varied = [choice for choice, options in zip(chosen, jobs.choices, strict=True) if len(options) > 1]
            try:
                mistakes = list(stage(composer, jobs, chosen))
            except CompositionError as refusal:
                mistakes = str(refusal).splitlines()
            for mistake in mistakes:
                found.setdefault(mistake, []).append(" ".join(str(choice.input_line) for choice in varied))
        if found or jobs.mistakes:
            break
    return [*jobs.mistakes, *(_with_jobs(mistake, where, len(products)) for mistake, where in found.items())]


def _swept_by_hydra(composer: Composer, common: Composition) -> dict[str, tuple[str, Override]]:
    """What `hydra.sweeper.params` adds to every job of a sweep, as a study does; each override with its file."""
    prefix = "hydra.sweeper.params."
    plain = [override for override in composer.overrides if not override.is_sweep_override()]
    given = [pair for override in plain for pair in leaves({override.key_or_group: override.value()})]
    params = {key.removeprefix(prefix): value for key, value in given if key.startswith(prefix)}
    overrides = dict.fromkeys(common.params_as_overrides(params), "")
    return _parsed(composer, common.sweep) | _parsed(composer, overrides)


def _parsed(composer: Composer, lines: Mapping[str, str]) -> dict[str, tuple[str, Override]]:
    """Parse overrides given as {line: file}; returns each with its file, by key."""
    overrides = [(file, override) for line, file in lines.items() for override in composer.parse([line], file)]
    return {override.get_key_element(): (file, override) for file, override in overrides}


def _jobs(composer: Composer, overrides: Mapping[str, tuple[str, Override]]) -> _Jobs:
    """Sort the overrides by what they do, and find options that their groups do not have."""
    jobs = _Jobs()
    for file, override in overrides.values():
        options = alternatives(override)
        at = f"{file}: " if file else ""
        if not options:
            jobs.mistakes.append(f"{at}{override.input_line} matches nothing")
        elif composer.is_group(override.key_or_group) and not isinstance(override.value(), dict):
            wrong = [_wrong_choice(composer, option) for option in options]
            good = [option for option, complaint in zip(options, wrong, strict=True) if complaint is None]
            jobs.mistakes += [f"{at}{complaint}" for complaint in wrong if complaint is not None]
            if good:
                jobs.choices.append(good)
            else:
                jobs.invalid_groups.append(override.key_or_group)
        elif override.is_hydra_override() and override.is_sweep_override():
            jobs.mistakes.append(f"{at}{override.input_line}: Hydra's own keys cannot be swept over")
        elif override.is_delete() or override.is_hydra_override():
            jobs.others.append(override)
        else:
            jobs.values.append((file, options))
    return jobs


def _wrong_choice(composer: Composer, override: Override) -> str | None:
    """What is wrong with a choice of a group's option (or of several), None if nothing is."""
    group, value = override.key_or_group, override.value()
    if override.is_delete():
        return _needed(group) if group in NEEDED else None
    if value is None:
        without = "" if group in NEEDED else f"; ~{group} leaves it out"
        return f"{override.input_line}: choose one of {', '.join(composer.options(group))}{without}"
    names = value if isinstance(value, list) else [value]
    missing = [name for name in names if not composer.has_option(group, name)]
    return "; ".join(composer.missing_option_message(group, name) for name in missing) or None


def _needed(key: str) -> str:
    """The message that a key cannot be left out."""
    return f"~{key}: a run cannot do without {key}; give it another value"


def _key_mistakes(composer: Composer, jobs: _Jobs, chosen: Sequence[Override]) -> Iterator[str]:
    """Check the keys and values that are set against the files of one choice of groups."""
    composition = composer.compose(chosen)
    varied = [options[0].key_or_group for options in jobs.choices if len(options) > 1]
    if composition.sweeping.partition("=")[0] in varied:
        yield f"{composition.sweeping} cannot be swept over: it is a sweep itself"
        return
    if composer.is_group(TASK_GROUP) and not composition.choices.get(TASK_GROUP):
        if not jobs.invalid_groups:
            yield _experiments(composer)
        return
    declared = composition.declared
    yield from declared.mistakes

    of_launcher = [override for override in jobs.others if is_below(override.key_or_group, ["hydra.launcher"])]
    for override in of_launcher:
        key = override.key_or_group
        if override.is_delete() or override.is_add():
            continue
        if (of_key := composition.launcher.find(key)) is None:
            yield composition.launcher.unknown(key)
        elif not of_key.accepts(override.value()):
            yield f"{key}={show(override.value())}: {of_key.complaint(override.value())}"

    of_files = [setting for setting in composition.settings if not is_below(setting[1], jobs.deleted)]
    for file, key, value in (*of_files, *jobs.settings()):
        if is_below(key, [group.replace("/", ".") for group in jobs.invalid_groups]):
            continue
        at = f"{file}: " if file else ""
        declaration = declared.find(key)
        if declaration is None:
            if file:
                yield at + declared.unknown(key, composer.groups()) + _remedy(composition, jobs, key)
            else:
                yield _unknown(composer, declared, key)
        elif not declaration.accepts(value):
            yield f"{at}{key}={show(value)}: {declaration.complaint(value)}"

    known = [*declared.keys, *(key for _, key, _ in composition.settings)]
    for key in jobs.deleted:
        if key in NEEDED:
            yield _needed(key)
            continue
        is_hydra = is_below(key, ["hydra"])
        if not is_hydra and declared.find(key) is None and not any(is_below(other, [key]) for other in known):
            yield _unknown(composer, declared, key)


def _unknown(composer: Composer, declared: Declared, key: str) -> str:
    """The message that no chosen file has a key, with other files that have it, or the keys that may be meant."""
    if others := composer.options_declaring(key):
        return f"{key} is not a key of this run; {' and '.join(others)} {'have' if others[1:] else 'has'} it"
    return declared.unknown(key, composer.groups())


def _remedy(composition: Composition, jobs: _Jobs, key: str) -> str:
    """The remedy when a file sets a key for one option of a group and the command line chose another; else ""."""
    chosen = {options[0].key_or_group for options in jobs.choices}
    group = next((group for group in chosen if is_below(key, [group.replace("/", ".")])), None)
    return f" (~{key} leaves it out for {group}={composition.choices.get(group)})" if group else ""


def _merge_mistakes(composer: Composer, jobs: _Jobs, chosen: Sequence[Override]) -> Iterator[str]:
    """Mistakes that show only once Hydra has merged all: missing values, and interpolations to unaccepted values."""
    composition, config = composer.compose(chosen), composer.merge(jobs.first(chosen))
    sources = {key: f"{file}: " for file, key, _ in composition.settings}
    content: Any = OmegaConf.to_container(config, resolve=False)
    for key, value in nodes(content):
        declaration = composition.declared.find(key)
        if declaration is not None and value == "???" and declaration.file:
            yield f"{key} must be given (declared in {declaration.file})"
        if declaration is None or not (is_deferred(value) and declaration.expected):
            continue
        try:
            resolved = OmegaConf.select(config, key, throw_on_missing=True)
        except OmegaConfBaseException:
            continue
        resolved = OmegaConf.to_container(resolved) if OmegaConf.is_config(resolved) else resolved
        if not declaration.accepts(resolved):
            yield f"{sources.get(key, '')}{key}={value} is {show(resolved)}: {declaration.complaint(resolved)}"


def _experiments(composer: Composer) -> str:
    """The message that no experiment is chosen, with all of them and the first line of their files."""
    names = composer.options(TASK_GROUP)
    width = max(map(len, names), default=0)
    listed = [f"  {name:{width}}  {composer.file(f'{TASK_GROUP}/{name}').headline}".rstrip() for name in names]
    return "\n".join([f"Choose an experiment: {PROGRAM} {TASK_GROUP}=NAME, where NAME is one of", *listed])


def _with_jobs(mistake: str, jobs: Sequence[str], total: int) -> str:
    """A mistake and, unless all jobs of a sweep make it, the choices of groups that do."""
    if len(jobs) >= total:
        return mistake
    more = f" and {len(jobs) - 3} more" if len(jobs) > 3 else ""
    return f"{mistake} (in the jobs with {', with '.join(jobs[:3])}{more})"


def _reworded(mistake: str) -> str:
    """One of Hydra's error messages with a plainer remedy; any other mistake unchanged."""
    if found := re.search(r"An item is already at '(.+?)'", mistake):
        return f"{found[1]} is a key of this run already: leave out the + before it"
    if found := re.search(r"Multiple values for (\S+)\.|^(\S+) appears more than once", mistake):
        group = found[1] or found[2]
        return f"{group} is chosen twice: leave out the + before it (in a defaults list: override {group})"
    if found := re.search(r"Could not override '(hydra[./].+?)'", mistake):
        known = [key for key, _ in nodes({"hydra": OmegaConf.to_container(OmegaConf.structured(HydraConf))})]
        near = " or ".join(nearest(found[1].replace("/", "."), known))
        near = near.replace(".", "/") if "/" in found[1] else near
        return f"{found[1]} is not a key of Hydra's; did you mean {near}?" if near else mistake
    return mistake


def hydras_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags, and the overrides among them as `.overrides`.

    Raises:
        ConfigError: Hydra does not have a flag, or flags cannot be combined.
    """

    def refuse(message: str) -> NoReturn:
        hint = " (settings are written key=value, without dashes)" if message.startswith("unrecognized") else ""
        raise ConfigError(message + hint)

    parser = get_args_parser()
    parser.allow_abbrev = False  # or --experiment would mean --experimental-rerun
    parser.error = refuse  # type: ignore[method-assign]  # argparse would print its usage and exit
    flags = parser.parse_intermixed_args(list(arguments))
    if flags.multirun and flags.cfg:
        raise ConfigError("--cfg shows the config of one run: leave out -m")
    if flags.resolve and not flags.cfg:
        raise ConfigError("--resolve goes with --cfg")
    return flags
