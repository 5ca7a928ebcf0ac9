"""Render the figures of a report as PNG files."""

import io
import warnings
from collections.abc import Sequence

from matplotlib.figure import Figure

from triptych.results.report.text import file_name, unique_names
from triptych.results.section import Section

DPI = 150


def pictures(sections: Sequence[Section]) -> dict[Figure, tuple[str, bytes]]:
    """Return, by figure, a unique file name and the PNG."""
    figures = [pair for section in sections for pair in section.figures.items()]
    names = unique_names([file_name(name) for name, _ in figures])
    return {figure: (f"{name}.png", png(figure)) for name, (_, figure) in zip(names, figures, strict=True)}


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG on a white background."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        # Names may be in any script, and matplotlib's font lacks some.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        figure.savefig(content, format="png", dpi=DPI, facecolor="white")
    return content.getvalue()
