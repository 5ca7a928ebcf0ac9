"""Tables in pieces: whole or not there, and resumed behind the last whole piece, whatever ended them."""

import json
from contextlib import suppress
from pathlib import Path

import pytest

from triptych.data.errors import DataError
from triptych.data.resumable_table import ResumableTable


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def interrupted(path: Path, error: type[BaseException] = KeyboardInterrupt) -> None:
    """A table of which one piece was written, and half of another."""
    with suppress(error), ResumableTable(path, ["weights", "input"], resume=False) as table:
        table.write("head\na\nb\n", inputs=3, skipped=["c is damaged"])
        table.file.write(b"half a li")
        raise error


def test_a_table_is_there_when_it_is_whole(tmp_path: Path):
    with ResumableTable(tmp_path / "t.csv", ["x"], resume=False) as table:
        table.write("a\n", inputs=1)
        assert names(tmp_path) == {"t.csv.part", "t.csv.part.json"}
        table.write("\u00e4\n", inputs=1)
        assert (table.inputs, table.bytes) == (2, 5)
    assert names(tmp_path) == {"t.csv"}
    assert (tmp_path / "t.csv").read_bytes() == "a\n\u00e4\n".encode()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError, GeneratorExit])
def test_an_interrupted_table_goes_on_behind_its_last_whole_piece(error: type[BaseException], tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("of before\n")
    interrupted(path, error)
    assert path.read_text() == "of before\n"
    with ResumableTable(path, ["weights", "input"], resume=True) as table:
        assert (table.inputs, table.bytes, table.skipped) == (3, 9, ["c is damaged"])
        table.write("d\n", inputs=1)
    assert path.read_text() == "head\na\nb\nd\n"
    assert names(tmp_path) == {"t.csv"}


def test_without_resume_it_begins_anew(tmp_path: Path):
    interrupted(tmp_path / "t.csv")
    with ResumableTable(tmp_path / "t.csv", ["weights", "input"], resume=False) as table:
        assert table.inputs == 0
        table.write("new\n", inputs=1)
    assert (tmp_path / "t.csv").read_text() == "new\n"


def test_where_nothing_is_there_resume_begins(tmp_path: Path):
    with ResumableTable(tmp_path / "t.csv", ["x"], resume=True) as table:
        assert table.inputs == 0
        table.write("a\n", inputs=1)
    assert (tmp_path / "t.csv").read_text() == "a\n"


def test_killed_before_the_first_piece_it_begins_anew(tmp_path: Path):
    interrupted(tmp_path / "t.csv")
    # What a kill leaves between the opening of a new table and its first piece.
    with pytest.raises(KeyboardInterrupt), ResumableTable(tmp_path / "t.csv", ["other"], resume=False):
        raise KeyboardInterrupt
    assert names(tmp_path) == {"t.csv.part"}
    assert ResumableTable(tmp_path / "t.csv", ["third"], resume=True).inputs == 0


def test_wrong_data_leave_nothing(tmp_path: Path):
    interrupted(tmp_path / "t.csv", DataError)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("change", ["input", "shorter", "torn", "no state"])
def test_what_is_of_another_input_or_damaged_is_not_gone_on_with(change: str, tmp_path: Path):
    path = tmp_path / "t.csv"
    interrupted(path)
    made_from = ["weights", "other" if change == "input" else "input"]
    state = tmp_path / "t.csv.part.json"
    if change == "shorter":
        (tmp_path / "t.csv.part").write_text("head\n")
    if change == "torn":
        state.write_text(state.read_text()[:20])
    if change == "no state":
        state.write_text(json.dumps({"bytes": None}))
    before = names(tmp_path)
    with pytest.raises(DataError, match=r"t\.csv\.part cannot be resumed.*leave out --resume"):
        ResumableTable(path, made_from, resume=True)
    assert names(tmp_path) == before
