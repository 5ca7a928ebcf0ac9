"""Helpers for the Markdown pages that benchmarks write."""

import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PERFORMANCE = """\
# What a run costs

Made by `make bench` and its like; what was added by hand says so. Speeds are ratios within one session wherever they
can be, for other programs use the machine too; seconds tell a size.
"""
"""The head of docs/performance.md, whose sections several commands write."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. All columns but the first hold numbers and are right-aligned."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def page(head: str, old: str, title: str, text: str) -> str:
    """The page ``old`` with a new head, and the section ``title`` replaced, or appended if it is new."""
    parts = dict(re.findall(r"^## (.+)\n\n((?:(?!## ).*\n?)*)", old, flags=re.MULTILINE))
    parts[title] = text
    return "\n".join([head.rstrip() + "\n", *(f"## {name}\n\n{part.rstrip()}\n" for name, part in parts.items())])


def last_commit() -> str:
    """The last commit that changed src/ or conf/."""
    command = ["git", "log", "-1", "--format=%h", "--", "src", "conf"]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True).stdout.strip()
    return f"`{found}`" if found else "not known"
