"""What the pages that benchmarks write have in common."""

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
"""The head of docs/performance.md, whose parts several commands write."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. All columns but the first hold numbers, hence to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def page(head: str, old: str, title: str, text: str) -> str:
    """The page ``old`` under a head, with the part under ``title`` replaced, or added at its end."""
    parts = dict(re.findall(r"^## (.+)\n\n((?:(?!## ).*\n?)*)", old, flags=re.MULTILINE))
    parts[title] = text
    return "\n".join([head.rstrip() + "\n", *(f"## {name}\n\n{part.rstrip()}\n" for name, part in parts.items())])


def last_commit() -> str:
    """The last commit that changed what runs."""
    command = ["git", "log", "-1", "--format=%h", "--", "src", "conf"]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True).stdout.strip()
    return f"`{found}`" if found else "not known"
