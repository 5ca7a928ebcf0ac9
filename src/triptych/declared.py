"""What the files of conf/ declare: every key, its default, and the values it accepts.

**Every key is documented on its own line, and that documentation is what is checked.** The default gives the type::

    dropout: 0.1                    # share of units dropped in training        takes 0.2 and 0, not high
    milestones: [30, 60]            # epochs at which the rate falls            takes any list
    kwargs: {}                      # handed to the network as they are         takes any keys below it
    monitor: ???                    # the experiment's own                      takes anything, like null and ${...}

and a comment on the key's line that begins with alternatives, joined by " | ", says more precisely what it accepts::

    activation: relu                # sigmoid | tanh | relu | gelu | silu
    batch_size: 64                  # int>=1 | full: rows a step; full is batch gradient descent
    dropout: 0.1                    # 0<=float<1: share of units dropped in training

The words int, float, str, bool, list, dict and null are types, the first two with optional bounds; any other word
stands for itself. The alternatives end at the first ": ", " (" or ";", or with the comment. A comment with a space
inside an alternative, or with a single word without bounds, is prose and changes nothing. A float accepts integers too,
and a mapping accepts null (it is left out).

A file that inherits from another (through its defaults list) may give a key a new default; alternatives that it does
not repeat remain in force, and its default is checked against them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import ge, gt, le, lt
from pathlib import Path
from typing import Any

import yaml
from hydra.plugins.config_source import ConfigSource

from triptych.dotted import nodes, show
from triptych.hint import NEAR, did_you_mean, nearest

TYPES: dict[str, Callable[[object], bool]] = {
    "null": lambda value: value is None,
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "list": lambda value: isinstance(value, list),
    "dict": lambda value: isinstance(value, dict),
}
NUMBER = r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?"
BOUNDED = re.compile(rf"(?:({NUMBER})(<=?))?(int|float)(?:(<=?|>=?)({NUMBER}))?")
COMPARISONS: dict[str, Callable[[float, float], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
END_OF_ALTERNATIVES = re.compile(r":\s|:$|\s\(|;")
YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Declaration:
    """One key: its default, the file that declares it, and its comment's alternatives (if none, the default's type)."""

    default: object
    file: str
    alternatives: tuple[str, ...] = ()
    takes_any_key: bool = False

    @property
    def expected(self) -> tuple[str, ...]:
        """The alternatives for a value; empty if it may be anything."""
        if self.alternatives or self.default is None or is_deferred(self.default):
            return self.alternatives
        if isinstance(self.default, dict):
            return "dict", "null"
        return tuple(name for name, is_type in TYPES.items() if is_type(self.default))[:1]

    def accepts(self, value: object) -> bool:
        """Whether `value` is accepted. An interpolation always is: its value is only known once all is composed."""
        return not self.expected or is_deferred(value) or any(_fits(value, word) for word in self.expected)

    def complaint(self, value: object) -> str:
        """The message for a `value` that is not accepted: what is expected, where that is declared, and a remedy."""
        words = ["a mapping"] if self.expected == ("dict", "null") else list(self.expected)
        literals = [word for word in self.expected if not (word in TYPES or BOUNDED.fullmatch(word))]
        types = {*self.expected} - {*literals, "null"}
        wanted = f"expected {' or '.join(words)}" if types else f"choose one of {', '.join(words)}"
        remedy = did_you_mean(show(value).lower(), literals, NEAR)
        if "str" in self.expected and isinstance(value, int | float):
            remedy = f"; as text it is written \"'{show(value)}'\""
        return f"{wanted} (declared in {self.file}){remedy}"

    def redeclared(self, new: Declaration) -> Declaration:
        """This key after another file has redeclared it: alternatives stay if the new file gives none."""
        takes_any_key = new.takes_any_key or (self.takes_any_key and self.default == {})
        if self.alternatives and not new.alternatives:
            return replace(new, alternatives=self.alternatives, file=self.file, takes_any_key=takes_any_key)
        if self.expected == ("float",) and new.expected == ("int",):  # 0 in place of 0.1 is still a float
            return replace(new, alternatives=("float",), takes_any_key=takes_any_key)
        return replace(new, takes_any_key=takes_any_key)


ANYTHING = Declaration(default=None, file="")


class Declared:
    """All keys of one run, dotted; `mistakes` are messages about defaults that inherited alternatives do not allow."""

    def __init__(self) -> None:
        self.keys: dict[str, Declaration] = {}
        self.mistakes: list[str] = []

    def add(self, tree: Mapping[str, object], file: str, comments: Mapping[str, str], package: str = "") -> None:
        """Declare the content `tree` of a `file` below the key `package` of the run's config ("": at its root)."""
        parents = package.split(".") if package else []
        for depth in range(1, len(parents) + 1):  # the mapping that a group fills, even after `model: null`
            place = ".".join(parents[:depth])
            if place not in self.keys or (tree and self.keys[place].default is None):
                self.keys[place] = Declaration(dict(tree), file)
        for name, value in nodes(tree):
            key = f"{package}.{name}" if package else name
            alternatives = alternatives_in(comments.get(name, ""))
            takes_any_key = (value in (None, {}) or is_deferred(value)) and (not alternatives or "dict" in alternatives)
            new = Declaration(value, file, alternatives, takes_any_key)
            known = self.keys.get(key)
            self.keys[key] = known.redeclared(new) if known else new
            if not self.keys[key].accepts(value):
                self.mistakes.append(f"{file}: {key}={show(value)}: {self.keys[key].complaint(value)}")

    def find(self, key: str) -> Declaration | None:
        """The declaration that holds for `key`, ANYTHING in a list or an open mapping; None if the key is unknown."""
        if key in self.keys:
            return self.keys[key]
        parent, _, name = key.rpartition(".")
        while parent:
            if (above := self.keys.get(parent)) is not None:
                is_item = name.isdigit() and isinstance(above.default, list)
                return ANYTHING if above.takes_any_key or is_item else None
            parent, _, name = parent.rpartition(".")
        return None

    def unknown(self, key: str, groups: Iterable[str] = ()) -> str:
        """The message that `key` is not one of this run's, with the nearest keys or groups, or else those beside it."""
        names = {name for name in self.keys if not name.rpartition(".")[2].startswith("_")} | {*groups}
        if near := nearest(key, (name for name in names if not key.startswith(f"{name}."))):
            return f"{key} is not a key of this run; did you mean {' or '.join(near)}?"
        parent = key.rpartition(".")[0]
        while parent and parent not in self.keys:
            parent = parent.rpartition(".")[0]
        beside = sorted(name.rpartition(".")[2] for name in names if name.rpartition(".")[0] == parent)
        return f"{key} is not a key of this run; {parent or 'the run'} has {', '.join(beside) or 'no keys'}"


def alternatives_in(comment: str) -> tuple[str, ...]:
    """The alternatives a comment begins with, () for prose: "int | full: rows a step" gives ("int", "full")."""
    words = tuple(word.strip() for word in END_OF_ALTERNATIVES.split(comment, maxsplit=1)[0].split(" | "))
    if len(words) == 1:
        return words if words[0] not in TYPES and BOUNDED.fullmatch(words[0]) else ()
    return words if all(word and " " not in word for word in words) else ()


def comments_in(text: str) -> dict[str, str]:
    """The comment on each key's line in a YAML text, without its `#`, by dotted key; keys without one are left out."""
    if "#" not in text:
        return {}
    lines = text.split("\n")
    found = {key: _comment(lines, name, value) for key, name, value in _key_nodes(yaml.compose(text, YamlLoader))}
    return {key: comment for key, comment in found.items() if comment}


def undocumented(conf: Path) -> list[str]:
    """Keys with no comment on their line or the line above, as `file:key`, in all files of `conf` that declare keys."""
    missing = []
    for path in sorted(conf.rglob("*.yaml")):
        file, text = path.relative_to(conf).as_posix(), path.read_text(encoding="utf-8")
        package = ConfigSource._get_header_dict(text)["package"] or ""
        if file.startswith("hydra/") or package.partition(".")[0] in ("_global_", "hydra"):
            continue
        lines = text.split("\n")
        for key, name, value in _key_nodes(yaml.compose(text, YamlLoader)):
            is_leaf = not (isinstance(value, yaml.MappingNode) and value.value)
            is_own = key.partition(".")[0] not in ("defaults", "hydra") and not name.value.startswith("_")
            line_above = lines[name.start_mark.line - 1].strip() if name.start_mark.line else ""
            if is_leaf and is_own and not line_above.startswith("#") and not _comment(lines, name, value):
                missing.append(f"{file}:{key}")
    return missing


def is_deferred(value: object) -> bool:
    """Whether the value comes later: an interpolation, or ??? for "must be given"."""
    return isinstance(value, str) and ("${" in value or value == "???")


def _fits(value: object, word: str) -> bool:
    """Whether a value is of the type that `word` names and within its bounds, or is that very word."""
    if word in TYPES:
        return TYPES[word](value)
    if bounded := BOUNDED.fullmatch(word):
        low, above, name, compare, limit = bounded.groups()
        number: Any = value
        return (
            TYPES[name](value)
            and (not low or COMPARISONS[above](float(low), number))
            and (not limit or COMPARISONS[compare](number, float(limit)))
            and math.isfinite(number)
        )
    if TYPES["float"](value) and re.fullmatch(NUMBER, word):
        return float(word) == value  # 1 for 1.0
    return not isinstance(value, list | dict) and show(value) == word


def _key_nodes(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, yaml.ScalarNode, yaml.Node]]:
    """Every key of a composed YAML document, dotted, with the nodes of its name and of its value."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield f"{prefix}{name.value}", name, value
            yield from _key_nodes(value, f"{prefix}{name.value}.")


def _comment(lines: list[str], name: yaml.Node, value: yaml.Node) -> str:
    """The comment on a key's own line, after its value if that ends there; "" if there is none."""
    line = name.start_mark.line
    end = value.end_mark if value.end_mark.line == line else name.end_mark
    found = re.search(r"(?:^|\s)#\s*(.*)", lines[line][end.column :])
    return found[1].strip() if found else ""
