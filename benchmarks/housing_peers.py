"""Compare the housing network with gradient-boosted trees: python -m benchmarks.housing_peers [key=value ...].

All on the same rows and the same machine. First ``python train.py experiment=housing data.split=papers`` runs; then
LightGBM, XGBoost, CatBoost and scikit-learn's multilayer perceptron train on its data, once with the file's columns
and once with those that our run adds. The trees stop early on the validation rows, the perceptron on a tenth of the
training rows. `make bench-housing` installs the packages.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.markdown import REPOSITORY, table
from sklearn.compose import TransformedTargetRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import root_mean_squared_error
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from triptych.data.block_groups import NUMBERS, PROXIMITIES
from triptych.results import Run, load_run
from triptych.results.directory import read_metrics

PATIENCE = 100
"""Early stopping: trees without improvement on the validation rows after which a peer stops."""
TREES = 10_000
"""Maximum number of trees, more than any peer reaches."""


@dataclass(frozen=True)
class Rows:
    """Features (rows, columns), NaN where missing, and prices (rows,) in dollars."""

    features: np.ndarray
    prices: np.ndarray


@dataclass(frozen=True)
class Score:
    """Validation and test RMSE in dollars, and the seconds that fitting and predicting took."""

    name: str
    columns: int
    seconds: float
    val: float
    test: float


Fit = Callable[[Rows, Rows], Callable[[np.ndarray], np.ndarray]]
"""Fits on training rows, stops early on validation rows; returns the function that predicts prices from features."""


def lightgbm(train: Rows, val: Rows) -> Callable[[np.ndarray], np.ndarray]:
    """LightGBM (Ke et al. 2017)."""
    from lightgbm import LGBMRegressor, early_stopping

    model = LGBMRegressor(
        n_estimators=TREES,
        learning_rate=0.05,
        num_leaves=63,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.8,
        random_state=0,
        verbose=-1,
    )
    stop = early_stopping(PATIENCE, verbose=False)
    model.fit(train.features, train.prices, eval_set=[(val.features, val.prices)], callbacks=[stop])
    return lambda features: np.asarray(model.predict(features))


def xgboost(train: Rows, val: Rows) -> Callable[[np.ndarray], np.ndarray]:
    """XGBoost (Chen and Guestrin 2016)."""
    from xgboost import XGBRegressor

    model = XGBRegressor(
        n_estimators=TREES,
        learning_rate=0.05,
        max_depth=7,
        subsample=0.8,
        colsample_bytree=0.8,
        early_stopping_rounds=PATIENCE,
        random_state=0,
    )
    model.fit(train.features, train.prices, eval_set=[(val.features, val.prices)], verbose=False)
    return model.predict


def catboost(train: Rows, val: Rows) -> Callable[[np.ndarray], np.ndarray]:
    """CatBoost (Prokhorenkova et al. 2018)."""
    from catboost import CatBoostRegressor

    model = CatBoostRegressor(
        iterations=TREES,
        learning_rate=0.08,
        depth=8,
        early_stopping_rounds=PATIENCE,
        random_seed=0,
        verbose=False,
        allow_writing_files=False,
    )
    model.fit(train.features, train.prices, eval_set=(val.features, val.prices))
    return model.predict


def sklearn_mlp(train: Rows, val: Rows) -> Callable[[np.ndarray], np.ndarray]:
    """scikit-learn's MLP, inputs and prices standardised; it holds out a tenth of the training rows to stop early."""
    network = MLPRegressor(hidden_layer_sizes=(256, 256), early_stopping=True, max_iter=200, random_state=0)
    prepared = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), network)
    model = TransformedTargetRegressor(prepared, transformer=StandardScaler())
    model.fit(train.features, train.prices)
    return model.predict


PEERS: dict[str, Fit] = {
    "LightGBM": lightgbm,
    "XGBoost": xgboost,
    "CatBoost": catboost,
    "scikit-learn's MLP": sklearn_mlp,
}


def score(name: str, fit: Fit, splits: dict[str, Rows], columns: Sequence[int]) -> Score:
    """Fit on the training rows, with these columns, and evaluate on the validation and test rows."""
    seen = {split: Rows(rows.features[:, columns], rows.prices) for split, rows in splits.items()}
    began = time.perf_counter()
    predict = fit(seen["train"], seen["val"])
    val, test = (
        float(root_mean_squared_error(seen[split].prices, predict(seen[split].features))) for split in ("val", "test")
    )
    return Score(name, len(columns), time.perf_counter() - began, val, test)


def own_columns(names: Sequence[str]) -> list[int]:
    """The indices of those of a run's columns that are in the file."""
    return [index for index, name in enumerate(names) if name in (*NUMBERS, *PROXIMITIES)]


def train_ours(directory: Path, overrides: Sequence[str]) -> Score:
    """Train our experiment as a user would.

    Raises:
        SystemExit: it failed, and has printed why.
    """
    command = [sys.executable, "train.py", "experiment=housing", "data.split=papers", *overrides]
    if code := subprocess.run([*command, f"hydra.run.dir={directory}"], cwd=REPOSITORY).returncode:
        sys.exit(code)
    metrics = read_metrics(directory)
    columns = len(load_run(directory).model.hparams["feature_names"])
    return Score("ours", columns, metrics["seconds"], metrics["best"]["val/rmse"], metrics["test"]["test/rmse"])


def rows_of(run: Run) -> dict[str, Rows]:
    """The splits of a run's data."""
    run.datamodule.setup()
    datasets = run.datamodule.datasets
    return {name: Rows(dataset.inputs.numpy(), dataset.targets.numpy()) for name, dataset in datasets.items()}


def peers(run: Run) -> Iterator[Score]:
    """Score each peer with the file's own columns and, if ours adds some, with all of ours."""
    splits, names = rows_of(run), run.model.hparams["feature_names"]
    for name, fit in PEERS.items():
        plain = own_columns(names)
        yield score(name, fit, splits, plain)
        if len(plain) < len(names):
            yield score(f"{name}, with our columns", fit, splits, range(len(names)))


def page(scores: Sequence[Score]) -> str:
    """The Markdown table, lowest test RMSE first."""
    rows = [
        [one.name, str(one.columns), f"{one.seconds:.1f}", f"{one.val:,.0f}", f"{one.test:,.0f}"]
        for one in sorted(scores, key=lambda one: one.test)
    ]
    return table(["model", "columns", "seconds", "validation RMSE, dollars", "test RMSE, dollars"], rows)


def main(arguments: list[str] | None = None) -> None:
    """Train all models and print the table."""
    parser = argparse.ArgumentParser(description="Train our housing network and its peers, and compare them.")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for train.py experiment=housing")
    options: Any = parser.parse_args(arguments)
    directory = REPOSITORY / "logs/housing" / time.strftime("peers-%Y-%m-%d_%H-%M-%S")
    scores = [train_ours(directory, options.overrides)]
    for one in peers(load_run(directory)):
        print(f"{one.name}: {one.seconds:.1f} s, {one.test:,.0f} dollars", flush=True)
        scores.append(one)
    stand_in = read_metrics(directory)["data"]["stand_in"]
    print(f"\n{page(scores)}")
    if stand_in:
        print(f"\nNot the published split itself: {stand_in}.")


if __name__ == "__main__":
    main()
