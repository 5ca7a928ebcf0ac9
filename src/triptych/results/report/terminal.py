"""Print a report on the terminal: the answers of a study or search, and the tables."""

import sys
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from triptych.results.report.document import Document
from triptych.results.report.text import printable
from triptych.results.section import Section

MOST_ROWS = 30


def show(document: Document, file: TextIO | None = None) -> None:
    """Print a report without its figures; text is never parsed as markup, and control characters become spaces."""
    console = Console(file=file or sys.stdout, highlight=False, markup=False, emoji=False)
    for section in document.answers:
        _say(console, section.title, bold=True)
        for line in section.lines:
            _say(console, line)
    console.print()
    for line in document.headline:
        _say(console, line)
    if document.warning:
        _say(console, document.warning, bold=True)
    for section in document.tables:
        console.print()
        console.print(_table(section))
        if len(section.rows) > MOST_ROWS:
            _say(console, f"{len(section.rows) - MOST_ROWS} more in results.csv")
        for line in section.lines:
            _say(console, line)


def _table(section: Section) -> Table:
    table = Table(title=Text(printable(section.title)), box=None, title_justify="left", title_style="bold")
    ends = [name.rpartition(".")[2] for name in section.header]
    for place, name in enumerate(section.header):
        cells = [row[place] for row in section.rows]
        numeric = all(cell[:1].isdigit() or cell[:1] in ("-", "") for cell in cells)
        shown = ends[place] if ends.count(ends[place]) == 1 else name
        table.add_column(Text(printable(shown)), justify="right" if numeric else "left", overflow="fold")
    for row in section.rows[:MOST_ROWS]:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _say(console: Console, line: str, bold: bool = False) -> None:
    console.print(Text(printable(line), style="bold" if bold else ""), soft_wrap=True)
