"""A section of a report: paragraphs, a table and figures under a heading."""

from dataclasses import dataclass, field

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes:
        title: the heading.
        lines: paragraphs as plain text, not escaped; each output format escapes them itself.
        header: column names of the table below the paragraphs; empty without a table.
        rows: the table's cells, as text.
        figures: figures by file name, without suffix.
    """

    title: str
    lines: list[str] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
