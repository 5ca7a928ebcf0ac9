"""Compose a command line as Hydra does, but file by file: the merged config no longer shows which file sets what.

Hydra's own loader finds, reads and orders the files. What it refuses is raised as a `CompositionError`, with
Hydra's message in one line, or a better one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import Overrides, _create_defaults_list
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, ValueType
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from triptych.declared import Declared, comments_in
from triptych.dotted import leaves, nodes, show
from triptych.hint import nearest

VERSION_BASE = "1.3"


class CompositionError(Exception):
    """Hydra cannot compose the config; str() has one mistake per line."""


@dataclass(frozen=True)
class ConfigFile:
    """One config file: its path as shown in messages, its headline, its content, and its comments by key."""

    path: str
    headline: str
    content: dict[str, object]
    comments: dict[str, str]


@dataclass
class Composition:
    """The files of one run, split into what they declare and what they set.

    Attributes:
        choices: the option of each group, None where it has none.
        declared: all keys that the run has.
        settings: (file, key, value) of all that files of package `_global_` set: experiments, studies, debug, ...
        launcher: all keys of the sweep launcher, below ``hydra.launcher``.
        sweep: the overrides that the files add to the jobs of a sweep (`hydra.sweeper.params`), each with its file.
        arms: by name, what each arm of a study (`study.arms`) adds to its own jobs, in the form of `sweep`.
        sweeping: the choice (`study=activation`) that makes the run a sweep, "" if none does.
    """

    choices: dict[str, str | None]
    declared: Declared = field(default_factory=Declared)
    settings: list[tuple[str, str, object]] = field(default_factory=list)
    launcher: Declared = field(default_factory=Declared)
    sweep: dict[str, str] = field(default_factory=dict)
    arms: dict[str, dict[str, str]] = field(default_factory=dict)
    sweeping: str = ""

    def params_as_overrides(self, params: dict[str, object]) -> list[str]:
        """`hydra.sweeper.params` as overrides, as the chosen sweeper writes them; Hydra's own turns null into None."""
        if self.choices.get("hydra/sweeper") == "basic":
            return [f"{key}={value}" for key, value in params.items()]
        # A list is not passed to `show`, so that its strings stay quoted.
        return [f"{key}={value if isinstance(value, list) else show(value)}" for key, value in leaves(params)]


class Composer:
    """Composes the config in a folder as Hydra does, for any number of sets of overrides.

    Args:
        conf: the folder of the primary config.
        name: the primary config's name, without `.yaml`.
        more: another folder to search (`--config-dir`), None for none.
        overrides: the command line's overrides; they may change where files are searched (`hydra.searchpath`).
    """

    def __init__(self, conf: Path, name: str, more: str | None, overrides: Sequence[str]) -> None:
        version.setbase(VERSION_BASE)
        self.conf, self.name = conf.resolve(), name
        search_path = create_config_search_path(str(self.conf))
        if more is not None:
            if not Path(more).is_dir():
                raise CompositionError(f"--config-dir {more}: there is no such folder")
            search_path.prepend("command-line", f"file://{Path(more).resolve()}", SearchPathQuery(provider="schema"))
        self.loader = ConfigLoaderImpl(search_path)
        self.parser = OverridesParser.create(config_loader=self.loader)
        self.repo = CachingConfigRepository(self.loader.repository)
        self.overrides = self.parse(overrides)
        with _composition_errors():
            self.loader._process_config_searchpath(name, self.overrides, self.repo)
        # With a caching repository the loader does not read and parse every file again for each merge. Hydra declares a
        # narrower type for the attribute, but only uses what all repositories have.
        self.loader.repository = self.repo  # type: ignore[assignment]
        self._files: dict[str, ConfigFile] = {}
        self._compositions: dict[tuple[str | None, ...], Composition] = {}

    def parse(self, texts: Iterable[str], file: str = "") -> list[Override]:
        """Parse overrides and report all unreadable ones together; `file` is where they stand, "" the command line."""
        overrides, unreadable = [], []
        for text in texts:
            try:
                overrides += self.parser.parse_overrides([text])
            except HydraException as error:
                complaint = one_line_message(error).removeprefix(f"Error parsing override '{text}'").strip()
                example = text.replace("=", "='", 1) + "'"
                remedy = f'quote special characters: "{example}"' if "=" in text else f"write {self._chosen_by(text)}"
                unreadable.append(f"{file and f'{file}: '}{text} cannot be read ({complaint}); {remedy}")
        if unreadable:
            raise CompositionError("\n".join(unreadable))
        return overrides

    def _chosen_by(self, name: str) -> str:
        """The override that chooses an option of this name; ``key=value`` if no group has one."""
        return next((f"{group}={name}" for group in self.groups() if self.has_option(group, name)), "key=value")

    def options_declaring(self, key: str) -> list[str]:
        """The options of the key's group whose own file declares it: ``optimizer=momentum`` for optimizer.momentum."""
        parts = key.split(".")
        for end in range(len(parts) - 1, 0, -1):
            if self.is_group(group := "/".join(parts[:end])):
                files = {name: self.file(f"{group}/{name}").content for name in self.options(group)}
                own = ".".join(parts[end:])
                return [f"{group}={name}" for name, content in files.items() if own in dict(nodes(content))]
        return []

    def is_group(self, key: str) -> bool:
        """Whether the config has a group, i.e. a folder, of this name."""
        return bool(key) and self.repo.group_exists(key)

    def groups(self, below: str = "") -> list[str]:
        """All groups; those of Hydra itself only below "hydra"."""
        names = [f"{below}{name}" for name in self.repo.get_group_options(below.rstrip("/"), ObjectType.GROUP)]
        return [name for group in names if group != "hydra" for name in (group, *self.groups(f"{group}/"))]

    def options(self, group: str) -> list[str]:
        """The options of a group, without files whose name begins with `_`: those are only inherited from."""
        return [name for name in self.repo.get_group_options(group) if not name.startswith("_")]

    def has_option(self, group: str, name: object) -> bool:
        """Whether a group has this option, and it is not a file that is only inherited from."""
        return not str(name).startswith("_") and self.repo.config_exists(f"{group}/{name}")

    def missing_option_message(self, group: str, name: object) -> str:
        """The message that a group lacks an option, with those it has."""
        near = nearest(str(name), self.options(group))
        guess = f"; did you mean {' or '.join(near)}?" if near else "."
        return f"{group} has no {name or repr(name)}{guess} It has: {', '.join(self.options(group))}"

    def file(self, config_path: str) -> ConfigFile:
        """A file of the search path, by its name without `.yaml`; cached."""
        if config_path not in self._files:
            result = self.repo.load_config(config_path)
            assert result is not None, config_path
            path = Path(result.path.removeprefix("file://"), f"{config_path}.yaml")
            shown = path.relative_to(self.conf.parent) if path.is_relative_to(self.conf) else path
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
            headline = next((line.strip("# ") for line in head if not re.match(r"#\s*@", line)), "")
            content: Any = OmegaConf.to_container(result.config, resolve=False) if result.config else {}
            if not isinstance(content, dict):
                raise CompositionError(f"{shown}: expected keys and values, got a list")
            self._files[config_path] = ConfigFile(shown.as_posix(), headline, content, comments_in(text))
        return self._files[config_path]

    def compose(self, overrides: Sequence[Override]) -> Composition:
        """Find the files that these overrides of groups (none a sweep) choose, and split them; cached."""
        key = tuple(override.input_line for override in overrides)
        if key not in self._compositions:
            with _composition_errors():
                self._compositions[key] = self._compose(Overrides(repo=self.repo, overrides_list=list(overrides)))
        return self._compositions[key]

    def arm_mistakes(self, composition: Composition) -> Iterator[str]:
        """Messages about overrides that would make the arms of a study equal, as they override what the arms set.

        The command line may not set a key by which arms differ. The seed, which repeats an arm, and the key that the
        study chooses for each arm (`study.choose`) do not count. `debug=` may set such keys, but not all of an arm's.
        """
        arms = {name: {_key(line): file for line, file in lines.items()} for name, lines in composition.arms.items()}
        apart = {str(value) for _, key, value in composition.settings if key == "study.choose"} | {"seed"}
        compared = {key: file for arm in arms.values() for key, file in arm.items() if key not in apart}
        for override in self.overrides:
            value = None if override.is_sweep_override() else override.value()
            is_choice = self.is_group(override.key_or_group) and not isinstance(value, dict)
            given = [key for key, _ in leaves({override.key_or_group: value})]
            # Choosing a group's option does not override what is set below the group.
            lost = [
                key
                for key in compared
                if key in given
                or (is_below(key, given) and not is_choice)
                or (any(is_below(name, [key]) for name in given) and not self.is_group(key))
            ]
            if lost:
                what = f"{' and '.join(lost)} is what {compared[lost[0]]} compares"
                yield f"{override.input_line}: {what}; leave it out, or change the arms there"
        if isinstance(debug := composition.choices.get("debug"), str):
            fixed = {key for key, _ in leaves(self.file(f"debug/{debug}").content)}
            lost = [name for name, arm in arms.items() if arm and fixed.issuperset(arm)]
            if lost:
                file = next(iter(arms[lost[0]].values()))
                what = f"all that {' and '.join(map(str, lost))} of {file} set, and leaves nothing to compare"
                yield f"debug={debug} sets {what}; leave it out"

    def merge(self, overrides: Sequence[str]) -> DictConfig:
        """Compose by Hydra itself, with all its checks. Takes a fifth of a second on a slow machine."""
        with _composition_errors():
            try:
                return self.loader.load_configuration(self.name, list(overrides), RunMode.RUN)
            except AssertionError as error:  # OmegaConf's, for a key below one that is null in a typed config
                raise CompositionError(f"Hydra cannot merge {' '.join(overrides)} ({error})") from error

    def _compose(self, chosen: Overrides) -> Composition:
        """`compose` without the cache."""
        try:
            defaults, _ = _create_defaults_list(self.repo, self.name, chosen, prepend_hydra=True, skip_missing=True)
        except MissingConfigException as error:
            raise CompositionError(self._missing(error, chosen)) from error
        for key, meta in chosen.override_metadata.items():
            group = key.partition("@")[0]
            if not meta.used and meta.containing_config_path and not self.is_group(group):
                near = " or ".join(nearest(group, self.groups()))
                guess = f"; did you mean {near}?" if near else ""
                raise CompositionError(f"{self.file(meta.containing_config_path).path}: {group} is not a group{guess}")
        chosen.ensure_overrides_used()
        chosen.ensure_deletions_used()

        composition = Composition(dict(chosen.known_choices))
        for default in defaults:
            assert default.config_path is not None
            if default.config_path == "hydra/config":
                continue
            file = self.file(default.config_path)
            sets_only = not default.package and not default.primary and "/" in default.config_path
            self._add(composition, file, default.package or "", sets_only)
            if sets_only and "sweeper" in _mapping(file.content, "hydra"):
                composition.sweeping = "=".join(default.config_path.rsplit("/", maxsplit=1))
        return composition

    def _add(self, composition: Composition, file: ConfigFile, package: str, sets_only: bool) -> None:
        """Add the content of one file to a composition, each part where it belongs."""
        tree, (root, *inner) = file.content, package.split(".")
        if root == "hydra":
            for part in reversed(inner):
                tree = {part: tree}
        hydra = tree if root == "hydra" else _mapping(tree, "hydra")
        params = _mapping(_mapping(hydra, "sweeper"), "params")
        composition.sweep |= dict.fromkeys(composition.params_as_overrides(params), file.path)
        if root == "hydra":
            if inner == ["launcher"]:
                composition.launcher.add(file.content, file.path, file.comments, package)
            return
        own = {key: value for key, value in tree.items() if package or key != "hydra"}
        if sets_only:
            composition.settings += [(file.path, key, value) for key, value in leaves(own)]
            arms = _mapping(_mapping(own, "study"), "arms")
            for arm in arms:
                lines = [f"{key}={show(value)}" for key, value in leaves(_mapping(arms, arm))]
                composition.arms.setdefault(arm, {}).update(dict.fromkeys(lines, file.path))
        else:
            composition.declared.add(own, file.path, file.comments, package)

    def _missing(self, error: MissingConfigException, chosen: Overrides) -> str:
        """The message for a missing file: which file asks for it, and which options there are."""
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        if not group:
            return one_line_message(error)
        asking = re.match(r"In '(.+?)':", str(error))
        file = asking[1] if asking else None
        asked = chosen.override_choices.get(group)
        if name in (asked if isinstance(asked, list) else [asked]):  # by `override` of another file's default
            file = chosen.override_metadata[group].containing_config_path
        message = self.missing_option_message(group, name)
        return f"{self.file(file).path}: {message}" if file else message


def alternatives(override: Override) -> list[Override]:
    """The plain overrides that a sweep stands for, one per value; for an interval, its two ends."""
    if not override.is_sweep_override():
        return [override]
    swept = override.value()
    if isinstance(swept, IntervalSweep):  # its ends are parsed as floats, even where a sweeper draws integers
        values: list[Any] = [
            int(end) if float(end).is_integer() else end for end in (swept.start, swept.end) if end is not None
        ]
    else:
        with _composition_errors():
            values = list(override.sweep_iterator())
    lines = [f"{override.get_key_element()}={Override._get_value_element_as_str(value)}" for value in values]
    return [
        replace(override, value_type=ValueType.ELEMENT, _value=value, input_line=line)
        for value, line in zip(values, lines, strict=True)
    ]


def one_line_message(error: Exception) -> str:
    """Hydra's, OmegaConf's or YAML's message in one line, without search paths, object types and links."""
    text = f"{error}\n{error.__cause__ or ''}".partition("Config search path:")[0]
    lines = [line.strip() for line in text.splitlines()]
    noise = ("full_key:", "object_type=", "reference_type=", "See http", "^")
    return " ".join(line for line in lines if line and not line.startswith(noise)) or type(error).__name__


@contextmanager
def _composition_errors() -> Iterator[None]:
    """Convert what Hydra, OmegaConf and YAML raise inside to a CompositionError."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise CompositionError(one_line_message(error)) from error


def is_below(key: str, parents: Iterable[str]) -> bool:
    """Whether a dotted key is one of the parents or lies below one."""
    return any(f"{key}.".startswith(f"{parent}.") for parent in parents)


def _key(line: str) -> str:
    """The key or group that an override sets."""
    return line.partition("=")[0].lstrip("+~")


def _mapping(tree: dict[str, object], key: str) -> dict[str, object]:
    """The mapping below a key, empty if there is none."""
    value = tree.get(key)
    return value if isinstance(value, dict) else {}
