"""Untrusted text made safe for terminal, Markdown and file names."""

import pytest

from triptych.results.report.text import (
    file_name,
    join_first,
    markdown,
    mean_and_deviation,
    number,
    printable,
    setting,
    shortened,
    unique_names,
)


def test_control_characters_are_removed():
    assert printable("a\x1b[31mb\u202ec\nd\x00 é 漢") == "a [31mb c d  é 漢"


def test_long_text_is_shortened_in_the_middle():
    assert shortened("x" * 28) == "x" * 28
    assert shortened("abcdefghij", 5) == "ab…ij"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("Verdict: holds", "Verdict: holds"),
        ("a|b `c` <d> [e](f) *g* &amp; $h$", r"a\|b \`c\` \<d\> \[e\](f) \*g\* \&amp; \$h\$"),
        ("a\nb", "a b"),
        ("# a", r"\# a"),
        ("- a", r"\- a"),
        ("1. a", r"1\. a"),
        ("---", r"\---"),
        ("~~~", r"\~~~"),
        ("-0.5", "-0.5"),
        ("1.5", "1.5"),
        ("data.split_seed", "data.split_seed"),
        ("\\", r"\\"),
    ],
)
def test_markdown_is_escaped(text: str, escaped: str):
    assert markdown(text) == escaped


def test_file_names_stay_in_their_folder_and_are_unique():
    assert file_name("../../a b/c.d$") == "a-b-c-d"
    assert file_name("///") == "figure"
    assert unique_names(["a", "b", "A", "a-2", "a"]) == ["a", "b", "A-2", "a-2-2", "a-3"]


def test_only_finite_plain_numbers_are_parsed():
    assert [number(text) for text in ("1e-3", "-2", "nan", "inf", "1_0", "full", "")] == [0.001, -2, *[None] * 5]


def test_settings_are_shortened_for_tables():
    assert setting("0.0012345678901") == "0.001235"
    assert setting("1e-3") == "1e-3"
    assert len(setting("x" * 99)) == 40


def test_the_sample_standard_deviation_is_shown():
    assert mean_and_deviation([]) == "-"
    assert mean_and_deviation([0.5]) == "0.5"
    assert mean_and_deviation([1.0, 2.0, 3.0]) == "2 ± 1"
    assert mean_and_deviation([48_000, 48_400]) == "48,200 ± 283"
    assert mean_and_deviation([0.91, 0.92]) == "0.915 ± 0.0071"


def test_long_lists_of_names_are_abbreviated():
    assert join_first(["a", "b", "c"]) == "a, b, c"
    assert join_first(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
