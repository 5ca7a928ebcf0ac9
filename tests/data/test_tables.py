"""CSV tables: cells unchanged, rows indexed by their line, and malformed files refused by line."""

import csv
import os
from pathlib import Path

import pytest

from triptych.data import tables as module
from triptych.data.errors import DataError
from triptych.data.tables import csv_text, text_tables


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a table.csv"


def refusal(path: Path, **options: list[str]) -> str:
    with pytest.raises(DataError) as caught:
        list(text_tables(path, **options))
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "BOM"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["Unix", "Windows", "old Mac"])
def test_cells_are_unchanged_and_rows_are_indexed_by_line(mark: str, newline: str, path: Path):
    lines = ["", "a,größe", '007, "x"', "", '"1,5","two', 'lines ""quoted"""', "  ", "NA,nan", ""]
    path.write_bytes((mark + newline.join(lines)).encode())
    (table,) = text_tables(path)
    assert list(table.columns) == ["a", "größe"]
    assert table.to_numpy().tolist() == [["007", ' "x"'], ["1,5", f'two{newline}lines "quoted"'], ["NA", "nan"]]
    assert table.index.tolist() == [3, 5, 8]


def test_a_written_table_is_read_back_unchanged(path: Path):
    lines = ["a,b", 'x,"a\rb"', '"c\nd, ""e""",', "007,f"]
    path.write_bytes("\n".join(lines).encode())
    (table,) = text_tables(path)
    copy = path.with_name("copy.csv")
    copy.write_bytes((csv_text(table[:1], header=True) + csv_text(table[1:], header=False)).encode())
    (copied,) = text_tables(copy)
    assert copied.to_dict("list") == table.to_dict("list")
    with copy.open(newline="") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["x", "a\rb"], ['c\nd, "e"', ""], ["007", "f"]]


def test_rows_come_in_chunks_and_none_is_lost_or_merged(path: Path):
    path.write_text("x\n" + "".join(f"{row // 2}\n" for row in range(7)))
    parts = list(text_tables(path, rows=3))
    assert [part["x"].tolist() for part in parts] == [["0", "0", "1"], ["1", "2", "2"], ["3"]]
    assert [part.index.tolist() for part in parts] == [[2, 3, 4], [5, 6, 7], [8]]


def test_given_names_are_for_headerless_files_which_may_lack_the_last(path: Path):
    path.write_text("1,2\n3,4\n")
    for names in (["a", "b"], ["a", "b", "c"]):
        (table,) = text_tables(path, names)
        assert table.to_dict("list") == {"a": ["1", "3"], "b": ["2", "4"]}
        assert table.index.tolist() == [1, 2]
    assert refusal(path, columns=["a"]) == ": 2 columns; expected 1: a"
    assert refusal(path, columns=["a", "b", "c", "d"]) == ": 2 columns; expected 4: a, b, c, d"


RAGGED = "expected commas between cells and quotes around a cell with commas; fix or remove the row"
NO_TABLE = "expected comma-separated text, saved as UTF-8"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": not a readable table (it is empty); expected comma-separated text"),
        (b"\n  \n", ": not a readable table (it is empty); expected comma-separated text"),
        (b"a,b\n\n", ": no rows; put some below the header"),
        (b"a,b,a\n1,2,3\n", ": 2 columns are named 'a'; rename or remove the others"),
        (b"a,b\n1,2\n\n3\n", f", line 4: 1 cells for 2 columns, {RAGGED}"),
        (b"a,b\n1,2\n3,4,\n", f", line 3: 3 cells for 2 columns, {RAGGED}"),
        (b"a;b\n1,5;2,5\n", f", line 2: 3 cells for 1 columns, {RAGGED}"),
        (b'a,b\n1,2\n3,"4\n5,6\n', f", line 3: not a readable table (unexpected end of data); {NO_TABLE}"),
        (b'a,b\n"1"2,3\n', f", line 2: not a readable table (',' expected after '\"'); {NO_TABLE}"),
        (b"a,b\n1\x002,3\n", f", line 2: not a readable table (a NUL character); {NO_TABLE}"),
        (b"a,b\n1,2\nstra\xdfe,3\n", f", line 3: not a readable table (the byte 0xdf is not UTF-8); {NO_TABLE}"),
        ("a,b\n1,2\n".encode("utf-16-le"), f", line 1: not a readable table (a NUL character); {NO_TABLE}"),
        (b"\xff\xfea\0", f", line 1: not a readable table (the byte 0xff is not UTF-8); {NO_TABLE}"),
    ],
)
def test_a_malformed_table_is_refused_by_line(content: bytes, message: str, path: Path):
    path.write_bytes(content)
    assert refusal(path) == message


def test_an_invalid_byte_far_down_is_named_by_its_line(path: Path):
    path.write_bytes(b"a,b\n" + b"12345,67890\n" * 5000 + b"\xe4,2\n" + b"12345,67890\n" * 5000)
    assert refusal(path).startswith(", line 5002: not a readable table (the byte 0xe4 is not UTF-8)")


def test_rows_before_an_invalid_one_are_yielded(path: Path):
    path.write_text("a,b\n1,2\n3,4\n5\n")
    parts = text_tables(path, rows=2)
    assert next(parts).to_numpy().tolist() == [["1", "2"], ["3", "4"]]
    with pytest.raises(DataError, match="line 4: 1 cells"):
        next(parts)


def test_overlong_lines_and_cells_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch):
    path.write_text("a,b\n" + "1,2," * 300)
    monkeypatch.setattr(module, "MAX_LINE", 1000)
    assert "line 2: not a readable table (more than 1,000 characters)" in refusal(path)
    # A quote that is never closed: the csv module stops a cell at 131,072 characters.
    path.write_text('a,b\n1,"2\n' + "3,4\n" * 50_000)
    assert "line 2: not a readable table (field larger than field limit" in refusal(path)


def test_a_missing_file_or_a_pipe_or_device_is_named(path: Path):
    assert refusal(path) == ": not a readable table (No such file or directory); replace or remove it"
    path.symlink_to("/dev/zero")
    assert refusal(path) == ": not a readable table (no plain file); replace or remove it"
    path.unlink()
    os.mkfifo(path)
    assert refusal(path) == ": not a readable table (no plain file); replace or remove it"
