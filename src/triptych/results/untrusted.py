"""Reading a directory that may come from a stranger: its text files, its links, and the places that its texts name."""

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 64 * 2**20
"""The largest text file that is read; a history of a million steps is smaller."""
MOST_YAML_BYTES = 2**20
"""The largest YAML file that is read; a run's config has some 5,000 bytes."""
# Written in C where libyaml is there: a sweep has a thousand of these files.
FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MOST_JSON_BYTES = 4 * 2**20
"""The largest JSON file that is read; that of a run which was resumed a thousand times is smaller."""
DEEPEST_JSON = 50
"""Levels; a run's own files have some 5."""
DEEPEST = 2000
"""Levels to which libyaml's recursion is let; at some 20,000 it overruns the stack, and the process is gone."""
ALIASES = "it has aliases (*name), which what Hydra saves never has"
"""Nine lines of nine aliases each are a billion items to whoever walks over them, and merges of them copy each."""
MOST_THREADS = 1024
"""More are no run's, and would take a machine down."""

# The start of a path or address that leads out of the folder it is joined to, or a step up on the way.
ELSEWHERE = re.compile(r"^[/~]|^[A-Za-z]:|\\|:/|(^|/)\.\.(/|$)|[\0\n]")
# What a checkpoint's file name may say of a metric. Other formats can spell a path, as {epoch:/>9} does.
FIELD = re.compile(r"\{[A-Za-z][\w/ -]*(:0?\d{0,2}(\.\d\d?)?[defg]?)?\}")
# MLflow's own files below the current folder, as conf/logger/mlflow.yaml has them.
LOCAL_DATABASE = re.compile(r"sqlite:///(?=\w)[\w./-]+")


def mapping(value: Any) -> dict[str, Any]:
    """The value, which may be anything; empty where it is no mapping."""
    return value if isinstance(value, dict) else {}


def read_text(path: Path, most: int = MOST_BYTES, errors: str = "strict") -> str:
    """The text of a run's own file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text, too large, or not a file of its own: a device, a pipe, a link out of its folder.
    """
    # Judged when it is open: what lies behind a name can change. A pipe without a writer would never open.
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path} is no file")
        if path.is_symlink() and not inside(path, path.parent):
            raise ValueError(f"{path} is a link that leads out of its folder")
        if found.st_size > most:
            raise ValueError(f"{path} has {found.st_size:,} bytes, more than the {most:,} that such a file may have")
        text = file.read(most + 1).decode("utf-8", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path) -> Any:
    """What a JSON file of a run holds, no deeper than what walks over it or shows it can go.

    Raises:
        OSError, ValueError: it cannot be read, is no JSON, or is too deep.
    """
    try:
        found = json.loads(read_text(path, MOST_JSON_BYTES))
    except RecursionError as error:
        raise ValueError("it is too deep") from error
    level = [found]
    for _ in range(DEEPEST_JSON):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise ValueError("it is too deep")
    return found


def parse_yaml(text: str) -> Any:
    """What a YAML text holds: plain data as large as the text, for it cannot name a part of itself again.

    Raises:
        ValueError, RecursionError, yaml.YAMLError: it is no YAML, too deep, or has aliases.
    """
    # A level takes one of these, or a line that is indented further than the one before.
    shallow = sum(map(text.count, "[{-?")) < DEEPEST and len(text) < DEEPEST**2 // 2
    if not shallow:
        return yaml.load(text, _SlowLoader)
    if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, FastLoader)):
        raise ValueError(ALIASES)
    return yaml.load(text, FastLoader)


class _SlowLoader(yaml.SafeLoader):
    """Python's own loader, which gives up on what is too deep with an exception, and here on the first alias."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError(ALIASES)
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; None where it cannot be read."""
    try:
        return parse_yaml(read_text(path, MOST_YAML_BYTES))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None


def refuse_links(directory: Path) -> None:
    """Check that what is written into a directory stays in it; the directory itself may be reached by a link.

    Raises:
        ValueError: there is a link out of it, or something that is neither file nor folder.
    """
    for path in sorted(directory.rglob("*")):
        # Weights & Biases keeps links to its own logs there, and writes into new folders only.
        if "wandb" in path.relative_to(directory).parts[:-1]:
            continue
        if path.is_symlink() and not inside(path, directory):
            raise ValueError(f"{path} is a link out of the directory: what is written there would change other files")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path} is neither file nor folder")


def check_threads(threads: Any) -> None:
    """Raise a ValueError unless this is a number of threads that a run can have."""
    if type(threads) is not int or not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"{threads!r} is no number of threads that a run can have")


def leads_elsewhere(text: str) -> bool:
    """Whether a text, as a file's name or an address, leads out of the run directory or to another machine."""
    if LOCAL_DATABASE.fullmatch(text):
        text = text.removeprefix("sqlite:///")
    rest = FIELD.sub("0", text)
    return bool(ELSEWHERE.search(rest) or re.search("[{}]", rest))


def texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """All text in plain data, keys too, each with the dotted key where it stands."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            below = f"{place}.{key}" if place else str(key)
            yield from texts(key, below)
            yield from texts(item, below)
    elif isinstance(value, list | tuple):  # YAML's !!pairs and !!omap are lists of tuples
        for item in value:
            yield from texts(item, place)


def inside(path: Path, folder: Path) -> bool:
    """Whether a path, its links followed, lies in the folder or is it."""
    # realpath, for Path.resolve raises an error where links form a ring.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
