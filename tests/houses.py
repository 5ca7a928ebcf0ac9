"""A small table of California housing, in Kaggle's format."""

from triptych.data.block_groups import NUMBERS

HEADER = [*NUMBERS, "median_house_value", "ocean_proximity"]
ROW = ["-122.23", "37.88", "41.0", "880.0", "129.0", "322.0", "126.0", "8.3252", "452600.0", "NEAR BAY"]


def lines(count: int = 10, **changed: str) -> list[str]:
    """Return a header and ``count`` rows; ``changed`` replaces cells of the fourth row, line 5 of the file."""
    rows = [list(ROW) for _ in range(count)]
    for name, cell in changed.items():
        rows[3][HEADER.index(name)] = cell
    return [",".join(row) for row in (HEADER, *rows)]
