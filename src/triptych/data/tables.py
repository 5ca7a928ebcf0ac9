"""Reader of CSV tables as text, a limited number of rows at a time, each row with its line number."""

import csv
import reprlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

import pandas as pd

from triptych.data.errors import DataError, reason
from triptych.files import plain

MAX_LINE = 2**20
"""Maximum characters per line: a file with longer lines is no table, and would fill the memory before that shows."""


def text_tables(path: Path, columns: Sequence[str] | None = None, rows: int = 100_000) -> Iterator[pd.DataFrame]:
    """Yield the file's cells as unconverted text, in tables of ``rows`` rows indexed by line number in the file.

    Args:
        path: comma-separated text in UTF-8, with or without byte-order mark; blank lines are skipped.
        columns: the column names of a file without a header; the file may lack the last column.
        rows: maximum number of rows per table, held in memory at a time.

    Raises:
        DataError: the file is missing, empty or not a table, two columns have the same name, or a row has more or fewer
            cells than there are columns. Invalid rows are noticed only after the tables before theirs were yielded.
    """
    lines = _rows(path)
    first = next(lines, None)
    if first is None:
        raise DataError(f"{path}: not a readable table (it is empty); expected comma-separated text")
    if columns is None:
        header = first[1]
    else:
        header, lines = list(columns[: max(len(first[1]), len(columns) - 1)]), chain([first], lines)
        if len(header) != len(first[1]):
            raise DataError(f"{path}: {len(first[1])} columns; expected {len(columns)}: {', '.join(columns)}")
    name, count = Counter(header).most_common(1)[0]
    if count > 1:
        raise DataError(f"{path}: {count} columns are named {reprlib.repr(name)}; rename or remove the others")
    empty = True
    while part := list(islice(lines, rows)):
        for line, cells in part:
            if len(cells) != len(header):
                raise DataError(
                    f"{path}, line {line}: {len(cells)} cells for {len(header)} columns, expected commas between cells "
                    "and quotes around a cell with commas; fix or remove the row"
                )
        index, rest = zip(*part, strict=True)
        yield pd.DataFrame(list(rest), columns=header, index=index, dtype=str)
        empty = False
    if empty:
        raise DataError(f"{path}: no rows; put some below the header")


def csv_text(table: pd.DataFrame, header: bool) -> str:
    """Return a table as CSV, with or without the line of its columns' names."""
    text = table.to_csv(index=False, header=header, lineterminator="\n")
    if "\r" in text:  # Python before 3.13 would leave it unquoted, and readers would start a new row there
        text = table.to_csv(index=False, header=header, lineterminator="\n", quoting=csv.QUOTE_ALL)
    return text


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number, from 1, and the cells of each row that is not blank."""
    line = 1
    try:
        with plain(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(_lines(file), strict=True)
            for cells in reader:
                if len(cells) > 1 or any(cell.strip() for cell in cells):
                    yield line, cells
                line = reader.line_num + 1
    except OSError as error:
        raise DataError(f"{path}: not a readable table ({reason(error)}); replace or remove it") from error
    except UnicodeDecodeError as error:
        # Text is decoded in chunks: lines before the invalid byte in the same chunk have not been yielded.
        line += error.object[: error.start].count(b"\n")
        raise _refusal(path, line, f"the byte 0x{error.object[error.start]:02x} is not UTF-8") from error
    except csv.Error as error:
        raise _refusal(path, line, reason(error)) from error


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise csv.Error(f"more than {MAX_LINE:,} characters")
        if "\0" in line:
            raise csv.Error("a NUL character")
        yield line


def _refusal(path: Path, line: int, why: str) -> DataError:
    return DataError(
        f"{path}, line {line}: not a readable table ({why}); expected comma-separated text, saved as UTF-8"
    )
