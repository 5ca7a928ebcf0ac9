"""Render report.html, a self-contained page that needs no other file and no network."""

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from triptych.results.report.document import Document

TEMPLATE = Path(__file__).parent / "template"
# A number, alone or as in 48,211 ± 312 and 4 of 5.
NUMBER = re.compile(r"-?[\d,]*\.?\d+(?:e[+-]?\d+)?(?: ± .*| of \d+)?", re.IGNORECASE)
VERDICT = "Verdict: "
WIDE = 6.5
"""Width in inches from which on a figure gets a row of its own."""


def render(document: Document, pictures: dict[Figure, bytes]) -> str:
    """Return the report as HTML.

    All text is escaped. A content security policy allows only the page's own script, by its hash.

    Args:
        document: the content of the report.
        pictures: the PNG of each figure.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = ((TEMPLATE / f"page.{suffix}").read_text("utf-8") for suffix in ("js", "css"))
    return environment.get_template("page.html").render(
        document=document,
        images={figure: base64.b64encode(content).decode() for figure, content in pictures.items()},
        numeric=_numeric,
        narrow=lambda section: all(figure.get_figwidth() < WIDE for figure in section.figures.values()),
        verdict=lambda line: line.removeprefix(VERDICT) if line.startswith(VERDICT) else "",
        # The only two texts that are not escaped: they are files of the package.
        script=Markup(script),
        style=Markup(style),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _numeric(rows: list[list[str]], column: int) -> bool:
    """Whether all non-empty cells of a column are numbers, and there is at least one."""
    cells = [row[column] for row in rows if row[column] not in ("-", "")]
    return bool(cells) and all(NUMBER.fullmatch(cell) for cell in cells)
