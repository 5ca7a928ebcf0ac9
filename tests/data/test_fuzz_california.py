"""Fuzzed housing tables, valid and damaged: read to the right values or refused by name."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triptych.data.block_groups import NUMBERS, PROXIMITIES, PROXIMITY, TARGET
from triptych.data.california import CaliforniaDataModule
from triptych.data.errors import DataError

COLUMNS = [*NUMBERS, TARGET, PROXIMITY]
ODD = (
    "inf",
    "-Infinity",
    "nan",
    "NA",
    "NULL",
    "1e39",
    "-1e400",
    "9" * 400,
    "1e13",
    "0x1F",
    "1_000",
    "12,5",
    "$5",
    "ä",
    "",
)
REMEDIES = ("fix or remove the row", "saved as UTF-8", "rename or remove the others", "put some below the header")
DAMAGES = ("none",) * 14 + ("semicolons", "tabs", "column gone", "column twice", "no rows", "short row", "long row")
HARMS = ("none",) * 12 + ("NUL", "cut", "changed", "noise", "UTF-16", "Latin-1")


def number() -> st.SearchStrategy[str]:
    floats = st.floats(-1e12, 1e12, allow_nan=False)
    return st.one_of(
        floats.map(repr), floats.map("{:.3e}".format), floats.map("{:+.2f}".format), floats.map(" {} ".format)
    )


@st.composite
def cells(draw: st.DrawFn) -> list[dict[str, str]]:
    """Rows of the housing table, sometimes with one arbitrary, mostly invalid cell."""
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        row = {name: draw(number()) for name in (*NUMBERS, TARGET)} | {PROXIMITY: draw(st.sampled_from(PROXIMITIES))}
        if draw(st.booleans()):
            row["total_bedrooms"] = ""
        rows += [row] * draw(st.sampled_from((1, 1, 2)))  # duplicate rows are valid
    if draw(st.integers(0, 2)) == 0:
        index, name = draw(st.integers(0, len(rows) - 1)), draw(st.sampled_from(COLUMNS))
        text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=8)
        rows[index] = rows[index] | {name: draw(st.one_of(st.sampled_from(ODD), text))}
    return rows


def value(name: str, cell: str) -> float | None:
    """The value of a cell, parsed independently of the reader; None where the cell must be refused."""
    cell = cell.strip()
    if name == "total_bedrooms" and not cell:
        return float("nan")
    plain = re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", cell, re.ASCII)
    return float(cell) if plain and abs(float(cell)) <= 1e12 else None


def wrong(rows: list[dict[str, str]], kaggle: bool) -> set[tuple[int, str]]:
    """(row, column name) of the cells that must be refused."""
    numbers = {(i, name) for i, row in enumerate(rows) for name in (*NUMBERS, TARGET) if value(name, row[name]) is None}
    return numbers | {(i, PROXIMITY) for i, row in enumerate(rows) if kaggle and row[PROXIMITY] not in PROXIMITIES}


def broken(table: list[list[str]], damage: str, draw: Any) -> str:
    """Damage ``table`` in place; returns the separator to write it with."""
    if damage == "column gone":
        place = draw(st.integers(0, len(table[0]) - 1))
        for row in table:
            del row[place]
    elif damage == "column twice":
        place = draw(st.integers(0, len(table[0]) - 1))
        for row in table:
            row.append(row[place])
    elif damage == "no rows":
        del table[len(table[0]) - len(NUMBERS) - 1 :]  # leaves the header in the form that has one
    elif damage in ("short row", "long row"):
        row = table[draw(st.integers(0, len(table) - 1))]
        row[-1:] = [] if damage == "short row" else [row[-1], "1"]
    return {"semicolons": ";", "tabs": "\t"}.get(damage, ",")


def text_of(row: list[str], separator: str, quoting: int) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator, quoting=quoting).writerow(row)  # type: ignore[arg-type]
    return file.getvalue().removesuffix("\r\n")


def harmed(content: bytes, harm: str, draw: Any) -> bytes:
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    if harm == "NUL":
        return content[:place] + b"\0" + content[place:]
    if harm == "cut":
        return content[:place]
    if harm == "changed":
        return content[:place] + bytes([draw(st.integers(0, 255))]) + content[place + 1 :]
    if harm == "noise":
        return draw(st.binary(max_size=100))
    if harm == "UTF-16":
        return content.decode("utf-8-sig").encode("utf-16")
    return content + ("\xe9".encode("latin-1") if harm == "Latin-1" else b"")


@pytest.mark.slow
def test_any_table_is_read_correctly_or_refused_by_line_and_column(
    tmp_path: Path, record_property: Callable[[str, object], None]
):
    tried: Counter[str] = Counter()
    data = CaliforniaDataModule()

    @settings(max_examples=2000, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        rows=cells(),
        columns=st.one_of(st.permutations(COLUMNS), st.none()),
        damage=st.sampled_from(DAMAGES),
        harm=st.sampled_from(HARMS),
        newline=st.sampled_from(("\n", "\r\n", "\r")),
        quoting=st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
        mark=st.booleans(),
        blank=st.sampled_from(("", " \t")),
        draw=st.data(),
    )
    def read(
        rows: list[dict[str, str]],
        columns: list[str] | None,
        damage: str,
        harm: str,
        newline: str,
        quoting: int,
        mark: bool,
        blank: str,
        draw: st.DataObject,
    ) -> None:
        path = tmp_path / ("housing.csv" if columns else "cal_housing.data")
        table = [[row[name] for name in columns or COLUMNS[:-1]] for row in rows]
        if columns:
            table.insert(0, list(columns))
        separator = broken(table, damage, draw.draw)
        lines = [blank, *(text_of(row, separator, quoting) for row in table), "", blank]
        content = newline.join(lines).encode("utf-8-sig" if mark else "utf-8")
        path.write_bytes(harmed(content, harm, draw.draw))
        header = table[0] if columns and damage != "no rows" else COLUMNS[:-1]
        refused = wrong(rows, PROXIMITY in header)
        # Only the proximity column may be missing, and only where columns have names.
        whole = damage == "none" or (damage == "column gone" and bool(columns) and {*NUMBERS, TARGET} <= set(header))
        right = whole and not refused and harm == "none"
        torn = harm in ("cut", "changed")

        refusal = ""
        try:
            found, _ = data.read(tmp_path)
        except DataError as error:
            refusal = str(error)
        path.unlink()
        tried["refused" if refusal else "read"] += 1
        if refusal:
            assert not right, refusal
            assert refusal.startswith(str(path))
            assert refusal.endswith(REMEDIES) or "; expected" in refusal, refusal
            if damage == "none" and harm == "none":
                # The line where each row begins: after the blank line, the header and the line breaks in rows above.
                ends = list(accumulate(len(re.findall(r"\r\n|\r|\n", line)) + 1 for line in lines))[bool(columns) :]
                at = {(ends[row] + 1, name) for row, name in refused}
                told = re.match(r", line (\d+)(?: \(and \d+ more\))?: (\w+) is ", refusal.removeprefix(str(path)))
                assert told, refusal
                line, name = int(told[1]), told[2]
                assert (line, name) in at
                assert line == min(other for other, column in at if column == name)
            return
        assert right or torn
        assert found.features.dtype == found.prices.dtype == np.float32
        assert np.isfinite(found.prices).all()
        assert np.isfinite(np.delete(found.features, 4, axis=1)).all()
        assert len(found.features) == len(found.prices) > 0
        if right:
            numbers = np.array([[value(name, row[name]) for name in (*NUMBERS, TARGET)] for row in rows])
            known = np.c_[found.features[:, :8], found.prices]
            np.testing.assert_allclose(known, numbers.astype(np.float32), rtol=2e-7, atol=1e-44)
            places = [[row[PROXIMITY] == name for name in PROXIMITIES] for row in rows]
            assert found.features[:, 8:].tolist() == (places if PROXIMITY in header else [[]] * len(rows))

    read()
    for outcome in ("read", "refused"):
        record_property(f"corrupt inputs {outcome}", tried[outcome])
    assert tried.total() >= 1000
    assert min(tried["read"], tried["refused"]) >= 200
