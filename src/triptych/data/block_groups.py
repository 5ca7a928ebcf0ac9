"""The columns of a table of block groups, from the cells of a file to the features of a network."""

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
"""The columns that ``data.ratios`` adds, each with the two columns that it divides."""
PROXIMITY = "ocean_proximity"
PROXIMITIES = ("<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN")
MAY_BE_MISSING = ("total_bedrooms",)
LARGEST = 1e12
"""No count, place or price comes near it; of larger numbers, squares summed over the rows would overflow float32."""


def read_tables(path: Path, rows: int = 100_000) -> Iterator[pd.DataFrame]:
    """The file's cells as ``text_tables`` gives them; StatLib's form, which has no header, gets the columns' names."""
    for table in text_tables(path, (*NUMBERS, TARGET) if path.suffix == ".data" else None, rows):
        table.attrs["file"] = path
        yield table


def feature_matrix(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """The named features, float32 (rows, columns): NUMBERS as they are, RATIOS, turned places, PROXIMITIES as 0 and 1.

    A ratio to nothing is NaN, as what is missing.

    Raises:
        DataError: a column is missing, or a cell is not what its column holds.
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
    """A column as float32 (rows,); NaN for an empty cell where the data set has such cells."""
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
    """Name the first wrong cell."""
    rows = np.flatnonzero(wrong)
    if len(rows):
        line, cell = table.index[rows[0]], reprlib.repr(table[name].iloc[rows[0]])
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        raise DataError(
            f"{table.attrs['file']}, line {line}{more}: {name} is {cell}, expected {expected}; mend or remove the row"
        )


def ratios(names: Sequence[str]) -> list[tuple[int, int]]:
    """Of which two of the NUMBERS each ratio among these features is."""
    pairs = (RATIOS[name] for name in names if name in RATIOS)
    return [(NUMBERS.index(part), NUMBERS.index(whole)) for part, whole in pairs]


def angles(names: Sequence[str]) -> list[float]:
    """The angles in degrees of the turned places among these features."""
    return [float(name.removeprefix(ROTATED)) for name in names if name.startswith(ROTATED)]
