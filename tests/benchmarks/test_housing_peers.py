"""Comparison of our housing network with peers: which rows and columns each sees, and correct errors."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmarks import housing_peers
from benchmarks.housing_peers import PEERS, Rows, Score, own_columns, page, peers, score

EXTRA = {"LightGBM": "lightgbm", "XGBoost": "xgboost", "CatBoost": "catboost"}


def rows(count: int, seed: int) -> Rows:
    """Rows whose price, about 200,000 dollars, depends on the first column; the third has missing values."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(count, 4)).astype(np.float32)
    prices = (200_000 + 50_000 * features[:, 0] + 1_000 * generator.normal(size=count)).astype(np.float32)
    features[::7, 2] = np.nan
    return Rows(features, prices)


SPLITS = {"train": rows(600, 0), "val": rows(200, 1), "test": rows(200, 2)}


@pytest.mark.parametrize("name", PEERS)
def test_each_peer_learns_a_simple_relation(name: str, recwarn: pytest.WarningsRecorder):
    if name in EXTRA:
        pytest.importorskip(EXTRA[name], reason="make setup EXTRAS=peers")
    found = score(name, PEERS[name], SPLITS, range(4))
    assert found.columns == 4
    assert found.seconds > 0
    # Predicting the mean would give an error of 50,000 dollars.
    assert 900 < found.test < 12_000
    assert 900 < found.val < 12_000


def test_fit_sees_no_test_rows_and_only_the_requested_columns():
    shown: list[Rows] = []

    def fit(train: Rows, val: Rows) -> Any:
        shown.extend((train, val))
        return lambda features: 200_000 + 50_000 * features[:, 1]

    found = score("true", fit, SPLITS, [3, 0])
    assert np.array_equal(shown[0].features, SPLITS["train"].features[:, [3, 0]], equal_nan=True)
    assert np.array_equal(shown[1].features, SPLITS["val"].features[:, [3, 0]], equal_nan=True)
    assert len(shown) == 2
    assert found.test == pytest.approx(1_000, rel=0.2)  # the noise
    assert found.val == pytest.approx(1_000, rel=0.2)


def test_own_columns_are_those_of_the_file():
    names = ["longitude", "latitude", "median_income", "place_at_90", "INLAND"]
    assert own_columns(names) == [0, 1, 2, 4]


@pytest.mark.parametrize(("names", "expected"), [(["longitude", "place_at_90"], [1, 2]), (["longitude"], [1])])
def test_a_peer_is_also_scored_with_our_added_columns(
    monkeypatch: pytest.MonkeyPatch, names: list[str], expected: list[int]
):
    splits = {name: Rows(part.features[:, : len(names)], part.prices) for name, part in SPLITS.items()}
    monkeypatch.setattr(
        housing_peers, "PEERS", {"mean": lambda train, val: lambda features: np.full(len(features), 2e5)}
    )
    monkeypatch.setattr(housing_peers, "rows_of", lambda run: splits)
    run: Any = SimpleNamespace(model=SimpleNamespace(hparams={"feature_names": names}))
    found = list(peers(run))
    assert [one.columns for one in found] == expected
    assert found[0].name == "mean"


def test_the_best_comes_first():
    lines = page([Score("ours", 24, 40.0, 46_000, 46_500), Score("LightGBM", 13, 2.0, 45_000, 45_123.4)]).splitlines()
    assert lines[2] == "| LightGBM | 13 | 2.0 | 45,000 | 45,123 |"
    assert lines[3].startswith("| ours | 24 | 40.0 |")


def test_a_failed_run_of_ours_ends_the_benchmark(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as error:
        housing_peers.train_ours(tmp_path / "run", ["data.sourse=files"])
    assert error.value.code == 2
    assert "data.source" in capfd.readouterr().err
