"""Tables written in pieces: complete or absent, and resumed after the last whole piece."""

import json
from contextlib import suppress
from pathlib import Path

import pytest

from triptych.data.errors import DataError
from triptych.data.resumable_table import ResumableTable


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def interrupted(path: Path, error: type[BaseException] = KeyboardInterrupt) -> None:
    """Write one piece of a table and half of another, then fail with ``error``."""
    with suppress(error), ResumableTable(path, ["weights", "input"], resume=False) as table:
        table.write("head\na\nb\n", inputs=3, skipped=["c is damaged"])
        table.file.write(b"half a li")
        raise error


def test_a_table_appears_only_when_complete(tmp_path: Path):
    with ResumableTable(tmp_path / "t.csv", ["x"], resume=False) as table:
        table.write("a\n", inputs=1)
        assert names(tmp_path) == {"t.csv.part", "t.csv.part.json"}
        table.write("\u00e4\n", inputs=1)
        assert (table.inputs, table.bytes) == (2, 5)
    assert names(tmp_path) == {"t.csv"}
    assert (tmp_path / "t.csv").read_bytes() == "a\n\u00e4\n".encode()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError, GeneratorExit])
def test_an_interrupted_table_resumes_after_its_last_whole_piece(error: type[BaseException], tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("of before\n")
    interrupted(path, error)
    assert path.read_text() == "of before\n"
    with ResumableTable(path, ["weights", "input"], resume=True) as table:
        assert (table.inputs, table.bytes, table.skipped) == (3, 9, ["c is damaged"])
        table.write("d\n", inputs=1)
    assert path.read_text() == "head\na\nb\nd\n"
    assert names(tmp_path) == {"t.csv"}


def test_without_resume_a_table_starts_over(tmp_path: Path):
    interrupted(tmp_path / "t.csv")
    with ResumableTable(tmp_path / "t.csv", ["weights", "input"], resume=False) as table:
        assert table.inputs == 0
        table.write("new\n", inputs=1)
    assert (tmp_path / "t.csv").read_text() == "new\n"


def test_resume_without_a_partial_table_starts_one(tmp_path: Path):
    with ResumableTable(tmp_path / "t.csv", ["x"], resume=True) as table:
        assert table.inputs == 0
        table.write("a\n", inputs=1)
    assert (tmp_path / "t.csv").read_text() == "a\n"


def test_killed_before_the_first_piece_a_table_starts_over(tmp_path: Path):
    interrupted(tmp_path / "t.csv")
    # The state left by a kill between opening a new table and writing its first piece.
    with pytest.raises(KeyboardInterrupt), ResumableTable(tmp_path / "t.csv", ["other"], resume=False):
        raise KeyboardInterrupt
    assert names(tmp_path) == {"t.csv.part"}
    assert ResumableTable(tmp_path / "t.csv", ["third"], resume=True).inputs == 0


def test_invalid_data_leave_no_partial_table(tmp_path: Path):
    interrupted(tmp_path / "t.csv", DataError)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("change", ["input", "shorter", "torn", "no state"])
def test_a_partial_table_of_another_input_or_damaged_is_not_resumed(change: str, tmp_path: Path):
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
