"""Synthetic homes: layout and format of the original, and a learnable signal without shortcuts."""

import csv
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from triptych.data.synthetic.homes import write_homes


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def homes(tmp_path_factory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("homes")
    write_homes(folder, rows=3000)
    with (folder / "housing.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(homes: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name] or "nan") for row in homes])


def test_the_seed_determines_every_byte(tmp_path):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_homes(tmp_path / folder, rows=60, seed=seed)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert set(digests(tmp_path / "a").values()).isdisjoint(digests(tmp_path / "c").values())


def test_invalid_sizes_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="rows must be at least"):
        write_homes(tmp_path / "new", rows=0)
    assert not (tmp_path / "new").exists()


HEADER = (
    "longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,households,median_income,"
    "median_house_value,ocean_proximity"
)
NUMBERS = (
    r"-\d{3}\.\d{1,2},\d\d\.\d{1,2},\d+\.0,\d+\.0,(\d+\.0)?,\d+\.0,\d+\.0,\d+\.\d{1,4},\d+\.0,"
    r"(<1H OCEAN|INLAND|NEAR BAY|NEAR OCEAN|ISLAND)"
)


def test_homes_are_written_as_on_kaggle(tmp_path):
    write_homes(tmp_path, rows=60)
    header, *lines = (tmp_path / "housing.csv").read_bytes().decode("ascii").removesuffix("\n").split("\n")
    assert header == HEADER
    assert len(lines) == 60
    assert all(re.fullmatch(NUMBERS, line) for line in lines)
    assert sum(",," in line for line in lines) == 1


def test_homes_have_gaps_a_cap_and_every_proximity(homes):
    value = column(homes, "median_house_value")
    assert sum(row["total_bedrooms"] == "" for row in homes) == 30
    assert value.max() == 500_001
    assert 0.01 < np.mean(value == 500_001) < 0.1
    assert 150_000 < value.mean() < 260_000
    places = [row["ocean_proximity"] for row in homes]
    assert set(places) == {"<1H OCEAN", "INLAND", "NEAR BAY", "NEAR OCEAN", "ISLAND"}
    assert places.count("ISLAND") == 1


def test_columns_are_mutually_plausible(homes):
    rooms, bedrooms, households = (column(homes, n) for n in ("total_rooms", "total_bedrooms", "households"))
    assert not np.any(bedrooms > rooms)
    assert 4 < np.median(rooms / households) < 7
    assert 2 < np.median(column(homes, "population") / households) < 4
    age, income = column(homes, "housing_median_age"), column(homes, "median_income")
    assert (age.min(), age.max()) == (1, 52)
    assert 0.4999 <= income.min() < income.max() <= 15.0001


def test_price_depends_on_location_nonlinearly(homes):
    value = column(homes, "median_house_value")
    place = np.column_stack([column(homes, "longitude"), column(homes, "latitude")])
    income = column(homes, "median_income")
    linear = np.column_stack([np.ones(len(value)), place, income])
    straight = value - linear @ np.linalg.lstsq(linear, value, rcond=None)[0]
    alike = neighbour_error(np.column_stack([place / 0.15, income / 0.7]), value)
    assert alike < 0.85 * straight.std()
    assert neighbour_error(place, value) < 0.7 * value.std()


def neighbour_error(points: np.ndarray, value: np.ndarray) -> float:
    """RMSE of predicting each value as the mean of its eight nearest neighbours."""
    nearest = NearestNeighbors(n_neighbors=8).fit(points).kneighbors(return_distance=False)
    return float(np.sqrt(np.mean((value - value[nearest].mean(axis=1)) ** 2)))
