"""report.html: the report as one page that needs no other file and no network."""

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from triptych.results.report.document import Document

TEMPLATE = Path(__file__).parent / "template"
# A number, alone or with what follows it: 48,211 ± 312, 4 of 5.
NUMBER = re.compile(r"-?[\d,]*\.?\d+(?:e[+-]?\d+)?(?: ± .*| of \d+)?", re.IGNORECASE)
VERDICT = "Verdict: "
WIDE = 6.5
"""Inches from which on a picture does not stand beside another."""


def render(document: Document, pictures: dict[Figure, bytes]) -> str:
    """The report in HTML.

    All text is escaped. A content security policy names the page's own script by its hash, and nothing else may run.

    Args:
        document: its content.
        pictures: by figure, its PNG.
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
        # The only two texts that are not escaped: they are files of this folder.
        script=Markup(script),
        style=Markup(style),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _numeric(rows: list[list[str]], column: int) -> bool:
    """Whether a column holds numbers alone, or nothing in their place."""
    cells = [row[column] for row in rows if row[column] not in ("-", "")]
    return bool(cells) and all(NUMBER.fullmatch(cell) for cell in cells)
