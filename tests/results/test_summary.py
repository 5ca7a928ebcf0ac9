"""The summary table at the end of a run."""

import math
from pathlib import Path
from typing import Any

import pytest

from triptych.results.summary import format_number, print_summary

METRICS: dict[str, Any] = {
    "experiment": "housing",
    "monitor": "val/rmse",
    "epochs": 3,
    "seconds": 12.4,
    "best": {"val/rmse": 48_123.4, "val/r2": 0.81234, "train/rmse": 1.0},
    "test": {"test/rmse": 49_000.0, "test/r2": 0.8},
    "data": {
        "source": "synthetic",
        "root": "data/[bold]",
        "split": "grouped",
        "stand_in": "synthetic data",
        "sizes": {"train": 16, "val": 2, "test": 2},
    },
}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.0123456, "0.01235"),
        (0.9, "0.9"),
        (999.94, "999.9"),
        (48_123.4, "48,123"),
        (-2500.0, "-2,500"),
        (math.nan, "nan"),
        (math.inf, "inf"),
    ],
)
def test_numbers_have_four_digits_or_are_rounded_to_integers(value: float | None, text: str):
    assert format_number(value) == text


def rows(output: str) -> dict[str, list[str]]:
    return {cells[0]: cells[1:] for line in output.splitlines() if (cells := line.split())}


def test_the_table_shows_validation_and_test_side_by_side(capsys: pytest.CaptureFixture[str]):
    print_summary(METRICS, Path("logs/housing/x"))
    output = capsys.readouterr().out
    found = rows(output)
    assert found["rmse"] == ["(monitor)", "48,123", "49,000"]
    assert found["r2"] == ["0.8123", "0.8"]
    assert "train 16, val 2, test 2; split grouped (data/[bold])" in output
    assert "the test is a stand-in: synthetic data" in output
    assert found["run"] == ["logs/housing/x"]


def test_missing_metrics_are_shown_as_dashes(capsys: pytest.CaptureFixture[str]):
    data = METRICS["data"] | {"stand_in": None}
    print_summary(METRICS | {"best": {"val/rmse": None}, "test": None, "data": data}, Path("x"))
    output = capsys.readouterr().out
    assert rows(output)["rmse"] == ["(monitor)", "-", "-"]
    assert "stand-in" not in output
