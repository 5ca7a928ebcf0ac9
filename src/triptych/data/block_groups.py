"""Columns of a table of block groups (California housing), from text cells to the features of a network."""

import math
import reprlib
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from triptych.data.errors import DataError
from triptych.data.tables import text_tables

NUMBERS = (
    "longitude",
    "latitude",
    "housing_median_age",
    "total_rooms",
    "total_bedrooms",
    "population",
    "households",
    "median_income",
)
UNITS = {
    "longitude": "degrees east",
    "latitude": "degrees north",
    "housing_median_age": "years",
    "total_rooms": "rooms in the block group",
    "total_bedrooms": "bedrooms in the block group, NaN where unknown",
    "population": "people in the block group",
    "households": "households in the block group",
    "median_income": "tens of thousands of dollars a year",
}
TARGET = "median_house_value"
ROTATED = "place_at_"
"""Prefix of the columns that ``data.rotations`` adds; the angle in degrees follows, from east towards north."""
RATIOS = {
    "rooms_per_household": ("total_rooms", "households"),
    "people_per_household": ("population", "households"),
    "bedrooms_per_room": ("total_bedrooms", "total_rooms"),
}
"""The columns that ``data.ratios`` adds, each with its numerator and denominator."""
PROXIMITY = "ocean_proximity"
PROXIMITIES = ("<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN")
MAY_BE_MISSING = ("total_bedrooms",)
LARGEST = 1e12
"""Largest magnitude accepted, far above any count, place or price; sums of larger squares would overflow float32."""


def read_tables(path: Path, rows: int = 100_000) -> Iterator[pd.DataFrame]:
    """Yield the file's cells like ``text_tables``; StatLib's ``.data`` file, which has no header, gets column names."""
    for table in text_tables(path, (*NUMBERS, TARGET) if path.suffix == ".data" else None, rows):
        table.attrs["file"] = path
        yield table


def feature_matrix(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Return the named features, float32 (rows, columns): NUMBERS, RATIOS, rotated places, PROXIMITIES one-hot.

    A ratio is NaN, like a missing value, unless its denominator is positive.

    Raises:
        DataError: a column is missing, or a cell is invalid for its column.
    """
    columns = [numbers(table, name) for name in NUMBERS]
    east, north = columns[:2]
    for part, whole in ratios(names):
        columns.append(
            np.divide(
                columns[part], columns[whole], where=columns[whole] > 0, out=np.full(len(table), np.nan, np.float32)
            )
        )
    for angle in map(math.radians, angles(names)):
        columns.append((math.cos(angle) * east + math.sin(angle) * north).astype(np.float32))
    if set(names) & set(PROXIMITIES):
        cells = _column(table, PROXIMITY)
        _refuse(table, PROXIMITY, ~cells.isin(PROXIMITIES), f"one of {', '.join(PROXIMITIES)}")
        columns += [(cells == name).to_numpy(np.float32) for name in PROXIMITIES]
    return np.stack(columns, axis=1)


def numbers(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column as float32 (rows,), with NaN for an empty cell if the column is in MAY_BE_MISSING."""
    cells = _column(table, name).str.strip()
    with np.errstate(over="ignore"):
        values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float32)
    wrong = ~(np.abs(values) <= LARGEST)
    expected = "a number"
    if name in MAY_BE_MISSING:
        wrong &= (cells != "").to_numpy()
        expected = "a number or nothing"
    _refuse(table, name, wrong, f"{expected}, at most {LARGEST:.0e} in size")
    return values


def _column(table: pd.DataFrame, name: str) -> "pd.Series[str]":
    if name not in table:
        there = textwrap.shorten(", ".join(table.columns), 200)
        raise DataError(f"{table.attrs['file']}: no column {name}; expected commas between columns, found {there}")
    return table[name]


def _refuse(table: pd.DataFrame, name: str, wrong: Any, expected: str) -> None:
    """Raise a DataError that names the first wrong cell, if there is any."""
    rows = np.flatnonzero(wrong)
    if len(rows):
        line, cell = table.index[rows[0]], reprlib.repr(table[name].iloc[rows[0]])
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        raise DataError(
            f"{table.attrs['file']}, line {line}{more}: {name} is {cell}, expected {expected}; fix or remove the row"
        )


def ratios(names: Sequence[str]) -> list[tuple[int, int]]:
    """Return the indices in NUMBERS of numerator and denominator of each ratio among these features."""
    pairs = (RATIOS[name] for name in names if name in RATIOS)
    return [(NUMBERS.index(part), NUMBERS.index(whole)) for part, whole in pairs]


def angles(names: Sequence[str]) -> list[float]:
    """Return the angles in degrees of the rotated places among these features."""
    return [float(name.removeprefix(ROTATED)) for name in names if name.startswith(ROTATED)]
