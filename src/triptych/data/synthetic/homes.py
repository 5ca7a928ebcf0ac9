"""A stand-in for Kaggle's California Housing Prices: block groups of an invented state, priced by a map."""

from pathlib import Path

import numpy as np

COLUMNS = (
    *("longitude", "latitude", "housing_median_age", "total_rooms", "total_bedrooms", "population", "households"),
    *("median_income", "median_house_value", "ocean_proximity"),
)
CAP = 500_001.0
"""Highest price recorded, in dollars, to which higher ones are clipped, as in the original."""

# The coast runs from north-west to south-east, like California's: longitude of the shore at each latitude.
COAST = np.array(
    [(32.5, -117.15), (33.6, -118.0), (34.0, -118.6), (34.5, -120.5), (36.6, -121.9), (37.8, -122.5), (42.0, -124.2)]
)
BAY = (-122.2, 37.75)
ISLAND = (-118.4, 33.35)

# Longitude, latitude, spread (degrees), share of the homes, height of its price hill (log dollars).
CITIES = np.array(
    [
        (-118.25, 34.10, 0.22, 0.30, 0.40),
        (-117.90, 33.75, 0.14, 0.10, 0.45),
        (-117.15, 32.85, 0.15, 0.09, 0.35),
        (-122.25, 37.70, 0.25, 0.16, 0.55),
        (-121.95, 37.30, 0.13, 0.08, 0.60),
        (-121.45, 38.55, 0.22, 0.08, 0.00),
        (-119.75, 36.75, 0.25, 0.06, -0.20),
        (-119.05, 35.40, 0.18, 0.04, -0.25),
        (-117.30, 34.05, 0.25, 0.09, -0.10),
    ]
)
DENSITY_FALL = 2.2
"""A city's homes spread this many times as far as its prices do."""


def coast_distance(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Distance from the shore in degrees, negative at sea."""
    return (longitude - np.interp(latitude, COAST[:, 0], COAST[:, 1])) * 0.75


def places(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of ``rows`` block groups on dry land: nine in ten near a city, the others scattered."""
    longitude, latitude = np.empty(0), np.empty(0)
    while len(longitude) < rows:
        city = CITIES[rng.choice(len(CITIES), size=2 * rows, p=CITIES[:, 3] / CITIES[:, 3].sum())]
        x = city[:, 0] + city[:, 2] * DENSITY_FALL * 0.6 * rng.standard_normal(2 * rows)
        y = city[:, 1] + city[:, 2] * DENSITY_FALL * 0.5 * rng.standard_normal(2 * rows)
        scattered = rng.random(2 * rows) < 0.1
        y = np.where(scattered, rng.uniform(32.6, 41.9, 2 * rows), y)
        shore = np.interp(y, COAST[:, 0], COAST[:, 1])
        x = np.where(scattered, shore + rng.gamma(2, 1.0, 2 * rows), x)
        # Rounded before the test, so that the rounded places in the file are on land too.
        x, y = np.round(x, 2), np.round(y, 2)
        land = (coast_distance(x, y) > 0) & (x < -114.3) & (y > 32.5) & (y < 42)
        longitude, latitude = np.append(longitude, x[land]), np.append(latitude, y[land])
    return longitude[:rows], latitude[:rows]


def bumps(rng: np.random.Generator, longitude: np.ndarray, latitude: np.ndarray, count: int) -> np.ndarray:
    """Good and bad neighbourhoods: ``count`` random hills and hollows some 10 km wide near cities, from -1 to 1."""
    city = CITIES[rng.choice(len(CITIES), size=count, p=CITIES[:, 3] / CITIES[:, 3].sum())]
    centres = city[:, :2] + city[:, 2:3] * rng.standard_normal((count, 2)) * 1.2
    widths, heights = rng.uniform(0.08, 0.2, count), rng.choice([-1.0, 1.0], count)
    squares = (longitude[:, None] - centres[:, 0]) ** 2 + (latitude[:, None] - centres[:, 1]) ** 2
    return np.tanh(np.exp(-squares / (2 * widths**2)) @ heights)


def city_hills(longitude: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Price hill (log dollars) and closeness to a centre (0 to 1) that the cities give each place."""
    squares = (longitude[:, None] - CITIES[:, 0]) ** 2 + (latitude[:, None] - CITIES[:, 1]) ** 2
    near = np.exp(-squares / (2 * (1.5 * CITIES[:, 2]) ** 2))
    return near @ CITIES[:, 4], near.max(axis=1)


def proximity(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Kaggle's ``ocean_proximity`` category of each place."""
    distance = coast_distance(longitude, latitude)
    near_bay = np.hypot(longitude - BAY[0], latitude - BAY[1]) < 0.42
    names = np.select([near_bay, distance < 0.12, distance < 0.75], ["NEAR BAY", "NEAR OCEAN", "<1H OCEAN"], "INLAND")
    return np.where((longitude == ISLAND[0]) & (latitude == ISLAND[1]), "ISLAND", names)


def block_groups(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """Columns of the table, before missing values: counts, ages (years), incomes (10,000 dollars), prices (dollars)."""
    longitude, latitude = places(rng, rows)
    # About one block group in 2,000 is on the island.
    longitude[: rows // 2000], latitude[: rows // 2000] = ISLAND
    hill, central = city_hills(longitude, latitude)
    quarter = bumps(rng, longitude, latitude, count=160)
    distance = np.abs(coast_distance(longitude, latitude))

    age = np.clip(np.round(18 + 22 * central + 10 * rng.standard_normal(rows)), 1, 52)
    income = np.exp(1.22 + 0.2 * hill + 0.3 * quarter + 0.3 * rng.standard_normal(rows))
    income = np.round(np.clip(income, 0.4999, 15.0001), 4)
    households = np.clip(np.round(np.exp(6.0 + 0.7 * rng.standard_normal(rows))), 2, 6000)
    rooms_each = (3.6 + 0.38 * income + 0.6 * (1 - central)) * np.exp(0.14 * rng.standard_normal(rows))
    bedrooms_each = (0.85 + 0.042 * rooms_each) * np.exp(0.06 * rng.standard_normal(rows))
    people_each = np.clip((3.3 - 0.08 * income) * np.exp(0.2 * rng.standard_normal(rows)), 1.2, 8)

    # Log dollars. The shore is dear for some 20 km, crowding costs most where income is low, age is a charm downtown.
    price = 10.93 + 0.7 * hill + 0.4 * quarter + 0.35 * np.exp(-distance / 0.2) - 0.22 * np.tanh(distance / 1.2)
    price = price + 0.75 * np.log(income) - 0.05 * np.maximum(income - 9, 0)
    price = price - 0.1 * (people_each - 2.9) * np.exp(-income / 6) + 0.006 * (age - 28) * (central - 0.4)
    price = price + 0.05 * (rooms_each - 5.3) + 0.18 * rng.standard_normal(rows)
    value = np.clip(np.round(np.exp(price), -2), 14_999, CAP)
    counts = (
        np.round(rooms_each * households),
        np.round(bedrooms_each * households),
        np.round(people_each * households),
    )
    columns = (longitude, latitude, age, *(np.maximum(c, 2) for c in counts), households, income, value)
    return dict(zip(COLUMNS, (*columns, proximity(longitude, latitude)), strict=True))


def write_homes(folder: Path, *, rows: int = 6000, seed: int = 0) -> None:
    """Write ``folder/housing.csv`` with Kaggle's header and number formats, one line per block group.

    About 1 % of ``total_bedrooms`` is empty, prices are capped at 500001.0 dollars, and the price depends on place in a
    way that no linear model of the columns can capture. The same ``rows`` and ``seed`` give the same bytes.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, not {rows}")
    rng = np.random.default_rng(seed)
    table = block_groups(rng, rows)
    # One in a hundred, but at least one, so that small tables have missing values too.
    missing = np.isin(np.arange(rows), rng.permutation(rows)[: max(round(rows / 100), 1)])
    texts = [[str(value) for value in table[name].tolist()] for name in COLUMNS]
    texts[4] = ["" if gone else text for gone, text in zip(missing, texts[4], strict=True)]
    order = rng.permutation(rows)
    lines = [",".join(COLUMNS), *(",".join(column[row] for column in texts) for row in order)]
    path = Path(folder, "housing.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")
