"""Safe reading of untrusted run directories: size and depth limits, symbolic links, and paths named in configs."""

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 64 * 2**20
"""Size limit of a text file; a history of a million steps is smaller."""
MOST_YAML_BYTES = 2**20
"""Size limit of a YAML file; a run's config has about 5,000 bytes."""
# The loader in C if libyaml is available: a sweep can have a thousand of these files.
FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MOST_JSON_BYTES = 4 * 2**20
"""Size limit of a JSON file; that of a run resumed a thousand times is smaller."""
DEEPEST_JSON = 50
"""Limit on the nesting of a JSON file; a run's own files have about 5 levels."""
DEEPEST = 2000
"""Limit on the nesting passed to libyaml: it recurses, and at about 20,000 levels overflows the stack and crashes."""
ALIASES = "it has aliases (*name), which what Hydra saves never has"
"""Aliases permit the billion-laughs attack: nine lines of nine each are a billion items, and merge keys copy them."""
MOST_THREADS = 1024
"""Limit on the threads of a run; more could bring a machine down."""

# An absolute path, home folder, drive or address, which leads out of the folder it is joined to, or a `..` on the way.
OUTSIDE = re.compile(r"^[/~]|^[A-Za-z]:|\\|:/|(^|/)\.\.(/|$)|[\0\n]")
# A metric in a checkpoint's file name. Other format specs can spell a path, such as {epoch:/>9}.
FIELD = re.compile(r"\{[A-Za-z][\w/ -]*(:0?\d{0,2}(\.\d\d?)?[defg]?)?\}")
# MLflow's own database below the working directory, as in conf/logger/mlflow.yaml.
LOCAL_DATABASE = re.compile(r"sqlite:///(?=\w)[\w./-]+")


def mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is a dict, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def read_text(path: Path, most: int = MOST_BYTES, errors: str = "strict") -> str:
    """Return the text of a file in a run directory, with Unix line endings.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8, has more than ``most`` bytes, or is no regular file inside its folder: a
            device, a pipe, or a link that leads out.
    """
    # Checked on the open file, since what a path refers to can change. O_NONBLOCK: opening a pipe could block.
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path} is not a regular file")
        if path.is_symlink() and not inside(path, path.parent):
            raise ValueError(f"{path} is a link that points outside its folder")
        if found.st_size > most:
            raise ValueError(f"{path} has {found.st_size:,} bytes, more than the {most:,} that such a file may have")
        text = file.read(most + 1).decode("utf-8", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file of a run, nested no deeper than recursive code can handle.

    Raises:
        OSError, ValueError: it cannot be read, is not JSON, or is nested too deeply.
    """
    try:
        found = json.loads(read_text(path, MOST_JSON_BYTES))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level = [found]
    for _ in range(DEEPEST_JSON):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise ValueError("it is nested too deeply")
    return found


def parse_yaml(text: str) -> Any:
    """Parse YAML into plain data that is no larger than the text, since aliases are refused.

    Raises:
        ValueError, RecursionError, yaml.YAMLError: it is not YAML, is nested too deeply, or has aliases.
    """
    # Each level of nesting takes one of these characters, or a line that is indented further than the one before.
    shallow = sum(map(text.count, "[{-?")) < DEEPEST and len(text) < DEEPEST**2 // 2
    if not shallow:
        return yaml.load(text, _SlowLoader)
    if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, FastLoader)):
        raise ValueError(ALIASES)
    return yaml.load(text, FastLoader)


class _SlowLoader(yaml.SafeLoader):
    """PyYAML's loader in Python, which raises RecursionError on deep nesting; here it also refuses any alias."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError(ALIASES)
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file; None if it cannot be read."""
    try:
        return parse_yaml(read_text(path, MOST_YAML_BYTES))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None


def refuse_links(directory: Path) -> None:
    """Check that nothing written into a directory can end up outside it; the directory itself may be a link.

    Raises:
        ValueError: it contains a link that leads out of it, or something that is neither a regular file nor a folder.
    """
    for path in sorted(directory.rglob("*")):
        # Weights & Biases keeps links to its own logs in a run's wandb/, and writes only into new folders there.
        parts = path.relative_to(directory).parts
        within_run = parts[1:] if parts[0].isdecimal() else parts  # a job of a sweep has a number for a name
        if len(within_run) > 1 and within_run[0] == "wandb":
            continue
        if path.is_symlink() and not inside(path, directory):
            raise ValueError(f"{path} is a link out of the directory: what is written there would change other files")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path} is neither a regular file nor a folder")


def check_threads(threads: Any) -> None:
    """Raise ValueError unless this is an integer from 1 to MOST_THREADS."""
    if type(threads) is not int or not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"{threads!r} is not a possible number of threads")


def leads_outside(text: str) -> bool:
    """Whether a text, taken as a path or an address, leads out of the run directory or to another machine."""
    if LOCAL_DATABASE.fullmatch(text):
        text = text.removeprefix("sqlite:///")
    rest = FIELD.sub("0", text)
    return bool(OUTSIDE.search(rest) or re.search("[{}]", rest))


def strings(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key and text of every string in plain data, including the keys of mappings."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            below = f"{place}.{key}" if place else str(key)
            yield from strings(key, below)
            yield from strings(item, below)
    elif isinstance(value, list | tuple):  # YAML's !!pairs and !!omap become lists of tuples
        for item in value:
            yield from strings(item, place)


def inside(path: Path, folder: Path) -> bool:
    """Whether a path, with links resolved, is the folder or lies inside it."""
    # realpath, because Path.resolve raises on a loop of links.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
