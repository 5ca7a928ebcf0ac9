"""Values on Hydra's command line."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from triptych.dotted import quote


@pytest.mark.parametrize(
    "text",
    [
        *("files", "/a/b-c_d.e", "logs/x/2026-11-28_17-01-39", "./here", "~/data", "C:\\new\\", "it's = mine"),
        *(
            "",
            " ",
            "true",
            "NULL",
            "nan",
            "Inf",
            "1e3",
            "12",
            ".5",
            "e5",
            "a,b",
            "${x}",
            "a:b",
            "größe",
            "x\\'",
            "infinite",
        ),
    ],
)
def test_quoted_text_is_read_as_the_same_text(text: str):
    (override,) = OverridesParser.create().parse_overrides([f"data.root={quote(text)}"])
    assert override.value() == text


def test_plain_text_and_numbers_stay_as_they_are():
    assert [quote(value) for value in ("files", "/data/scans", 3)] == ["files", "/data/scans", "3"]
