"""The Markdown pages that benchmarks write."""

from benchmarks.markdown import page, table

HEAD = "# Results\n\nHow they were made.\n"


def test_table_columns_of_numbers_are_right_aligned():
    assert table(("name", "figure"), [("a", "1")]) == "| name | figure |\n| --- | ---: |\n| a | 1 |"


def test_a_section_is_replaced_and_the_others_stay():
    first = page(HEAD, "", "Pages", "Old text.\n\n| a |\n|---|")
    both = page(HEAD, first, "Houses", "Prices.\n\n### Of which\n\nSome.")
    again = page(HEAD, both, "Pages", "New text.")
    assert again == f"{HEAD}\n## Pages\n\nNew text.\n\n## Houses\n\nPrices.\n\n### Of which\n\nSome.\n"
    assert page(HEAD, again, "Pages", "New text.") == again


def test_the_head_can_be_replaced_or_kept():
    old = page(HEAD, "", "Pages", "Text.")
    assert page("# Other\n", old, "Pages", "Text.") == "# Other\n\n## Pages\n\nText.\n"
    assert page(old.partition("\n## ")[0], old, "Pages", "Text.") == old
