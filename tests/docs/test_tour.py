"""The examples of docs/tour.md run in one session from top to bottom and print what the tour shows."""

import doctest
import re
from pathlib import Path

TOUR = Path(__file__).parents[2] / "docs" / "tour.md"


def test_every_example_prints_the_output_shown():
    text = TOUR.read_text(encoding="utf-8")
    # Everything but code becomes empty lines, so that a failure names the right line of the tour.
    code = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    lines = [""] * text.count("\n")
    for block in code.finditer(text):
        start = text.count("\n", 0, block.start(1))
        lines[start : start + block[1].count("\n")] = block[1].splitlines()
    examples = doctest.DocTestParser().get_doctest("\n".join(lines), {}, TOUR.name, str(TOUR), 0)
    assert len(examples.examples) == len(re.findall(r"^>>> ", text, re.MULTILINE)) > 40
    reports: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(examples, out=reports.append)
    assert not reports, "".join(reports)
