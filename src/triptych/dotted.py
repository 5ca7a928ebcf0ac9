"""Nested settings by dotted key, and values formatted as in YAML or for Hydra's command line."""

import re
from collections.abc import Iterator, Mapping

PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[a-z_/][\w./-]*", re.ASCII | re.IGNORECASE)
"""Text that Hydra's command line takes as it is, without quotes."""


def nodes(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield (dotted key, value) of every node below a mapping, parents first."""
    for name, value in tree.items():
        yield f"{prefix}{name}", value
        if isinstance(value, dict):
            yield from nodes(value, f"{prefix}{name}.")


def leaves(tree: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The nodes below a mapping that hold a value; an empty mapping counts as one."""
    return ((key, value) for key, value in nodes(tree) if not (isinstance(value, dict) and value))


def show(value: object) -> str:
    """A value as it is written in YAML or on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(show, value))}]"
    return str(value)


def quote(value: object) -> str:
    """A number or text for Hydra's command line, in quotes where it would be read as something else."""
    text = str(value)
    if isinstance(value, int) or PLAIN.fullmatch(text):
        return text
    # A quote needs a backslash before it, and backslashes only where a quote follows.
    escaped = re.sub(r"(\\+)(?='|$)|(')", lambda found: 2 * (found[1] or "") or "\\'", text)
    return f"'{escaped}'"
