"""Render report.md, with its figures as separate files."""

from collections.abc import Iterator

from matplotlib.figure import Figure

from triptych.results.report.document import Document
from triptych.results.report.text import markdown
from triptych.results.section import Section


def render(document: Document, pictures: dict[Figure, str]) -> str:
    """Return the report as Markdown.

    Args:
        document: the content of the report.
        pictures: the path of each figure's file, relative to the report.
    """
    return "\n\n".join(_blocks(document, pictures)) + "\n"


def _blocks(document: Document, pictures: dict[Figure, str]) -> Iterator[str]:
    yield f"# {markdown(document.title)}"
    if document.warning:
        yield f"> **{markdown(document.warning)}**"
    yield from map(markdown, document.headline)
    for section in document.sections:
        yield from _section(section, pictures)
    yield "## Commands that repeat the runs"
    yield "\n".join(["```bash", *(f"{command}  # run {label}" for label, command in document.commands), "```"])


def _section(section: Section, pictures: dict[Figure, str]) -> Iterator[str]:
    yield f"## {markdown(section.title)}"
    yield from map(markdown, section.lines)
    if section.header:
        lines = [section.header, ["---"] * len(section.header), *section.rows]
        first, *rest = [
            f"| {' | '.join(cell if line is lines[1] else markdown(cell) for cell in line)} |" for line in lines
        ]
        yield "\n".join([first, *rest])
    for name, figure in section.figures.items():
        yield f"![{markdown(name)}]({pictures[figure]})"
