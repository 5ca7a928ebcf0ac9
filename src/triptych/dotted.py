"""Nested settings by dotted key, and values formatted as in YAML."""

from collections.abc import Iterator, Mapping


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
