"""A part of a report: words and pictures under a heading."""

from dataclasses import dataclass, field

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Section:
    """What a study, a search or any sweep adds to its report.

    Attributes:
        title: the heading.
        lines: paragraphs, plain text; what comes from names and overrides is escaped by whoever writes the report.
        header: names of the columns of a table below the paragraphs; none without a table.
        rows: the table's cells, as text.
        figures: pictures by the name of their file, without suffix.
    """

    title: str
    lines: list[str] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
