"""California Housing Prices: block groups of the 1990 census and their median house values."""

import hashlib
import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from triptych.data import splits
from triptych.data.augment import BatchNoise
from triptych.data.base import DataModule
from triptych.data.block_groups import (
    MAY_BE_MISSING,
    NUMBERS,
    PROXIMITIES,
    PROXIMITY,
    RATIOS,
    ROTATED,
    TARGET,
    UNITS,
    angles,
    feature_matrix,
    numbers,
    ratios,
    read_tables,
)
from triptych.data.cache import fingerprint
from triptych.data.datasets import ArrayDataset, spread
from triptych.data.errors import DataError, reason
from triptych.data.predicting import Predictor, Progress, no_progress
from triptych.data.resumable_table import ResumableTable
from triptych.data.serving.contract import Port, Sample, Serving
from triptych.data.serving.rows import RawRows
from triptych.data.splits import Split
from triptych.data.synthetic.homes import write_homes
from triptych.data.tables import csv_text
from triptych.files import plain

log = logging.getLogger(__name__)

FILES = {"kaggle": "housing.csv", "statlib": "cal_housing.data"}
"""File name of each ``data.form``."""
COMPLETE = 20_640
"""Rows of the complete data set."""
NOISE = 0.05
"""Standard deviation of ``data.augment=noise``, as a share of the column's own."""
PREDICTION = "prediction"
"""The column that ``predict_files`` adds."""
PART = 20_000
"""Rows that ``predict_files`` holds in memory at a time."""


@dataclass(frozen=True)
class Rows:
    """Features float32 (rows, columns), NaN where a value is missing, and prices float32 (rows,) in dollars."""

    features: np.ndarray
    prices: np.ndarray
    names: list[str]

    def __len__(self) -> int:
        return len(self.prices)


class CaliforniaDataModule(DataModule[Rows]):
    """Rows as float32 (N, columns), in the file's own units, with prices (N,) in dollars.

    The columns are the eight NUMBERS and, in Kaggle's form, a one-hot column for each of the PROXIMITIES. Missing
    numbers of bedrooms stay NaN here: the model imputes and scales its inputs by statistics of the training rows.

    Args:
        form: ``kaggle`` (housing.csv) or ``statlib`` (cal_housing.data); if only the other file exists, it is read
            instead, and a log message says so.
        rotations: number of additional columns with the place projected onto rotated axes, evenly spaced over 180
            degrees. A network that sees one column at a time detects diagonal borders, such as California's coast, only
            along such an axis.
        ratios: whether to add the RATIOS as columns: counts say how large a block group is, ratios how people live.
        arguments: those of DataModule.
    """

    slug = "california-housing-prices"
    task = "housing"
    kaggle = "datasets/camnugent/california-housing-prices"
    contents = ("housing.csv",)
    augmentations = ("noise",)
    published = ("papers",)

    def __init__(self, form: str = "kaggle", rotations: int = 0, ratios: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        if rotations < 0:
            raise ValueError(f"data.rotations={rotations}: expected a number from 0")
        if form not in FILES:
            raise ValueError(f"data.form={form}: choose kaggle or statlib")
        self.form = form
        self.rotations = rotations
        self.ratios = ratios

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"rotations": self.rotations, "ratios": self.ratios}

    @classmethod
    def synthesize(cls, folder: Path) -> None:
        write_homes(folder)

    def read(self, folder: Path) -> tuple[Rows, str]:
        # The requested form first, then the other.
        paths = [folder / FILES[form] for form in sorted(FILES, key=lambda form: form != self.form)]
        # A broken link counts as present: reading it raises an error that says what is wrong.
        there = [path for path in paths if path.exists() or path.is_symlink()]
        if not there:
            raise DataError(f"neither housing.csv nor cal_housing.data in {folder}: put one of them there")
        path = there[0]
        if path.name != FILES[self.form]:
            log.info("data.form=%s: no %s in %s, reading %s instead.", self.form, FILES[self.form], folder, path.name)
        turned = [180 * (turn + 1) / (self.rotations + 1) for turn in range(self.rotations)]
        names = [*NUMBERS, *(RATIOS if self.ratios else ()), *(f"{ROTATED}{angle:.4g}" for angle in turned)]
        features, prices = [], []
        for table in read_tables(path):
            part = [*names, *(PROXIMITIES if PROXIMITY in table else ())]
            features.append(feature_matrix(table, part))
            prices.append(numbers(table, TARGET))
        return Rows(np.concatenate(features), np.concatenate(prices), part), fingerprint(folder, [path])

    def make_split(self, samples: Rows) -> Split:
        # Rows have no groups: ``grouped`` is the same as ``random``.
        return self._papers(samples) if self.split_rule == "papers" else self.draw_split(samples)

    def _papers(self, samples: Rows) -> Split:
        """Split 64/16/20 as the papers on tabular networks do (Gorishniy et al. 2021), with their seeds."""
        stand_in = None
        if len(samples) != COMPLETE:
            stand_in = f"the papers' rule applied to {len(samples)} of {COMPLETE} rows"
        return splits.published(range(len(samples)), val_share=0.2, val_seed=1, stand_in=stand_in)

    def sample_name(self, samples: Rows, index: int) -> str:
        return f"row {index + 1}"

    def make_dataset(self, samples: Rows, indices: np.ndarray, training: bool) -> ArrayDataset:
        return ArrayDataset(torch.from_numpy(samples.features[indices]), torch.from_numpy(samples.prices[indices]))

    def model_arguments(self) -> dict[str, Any]:
        return {"feature_names": self.samples.names}

    def training_rows(self) -> tuple[Tensor, Tensor]:
        """Return inputs (N, columns) and prices (N,) of the training split, to which a model fits its preprocessing."""
        dataset = self.datasets["train"]
        assert isinstance(dataset, ArrayDataset)
        return dataset.inputs, dataset.targets

    def make_augmentation(self) -> nn.Module:
        if "noise" not in self.augment_names:
            return nn.Identity()
        deviation = np.nanstd(self.samples.features[self.split.train], axis=0)
        numeric = [name not in PROXIMITIES for name in self.samples.names]
        deviation[~np.array(numeric)] = 0  # one-hot columns get no noise
        return BatchNoise(torch.from_numpy(NOISE * deviation))

    def predict_files(
        self,
        model: Predictor,
        source: Path,
        output: Path,
        resume: bool = False,
        weights: str = "",
        progress: Progress = no_progress,
        **options: Any,
    ) -> Iterator[str]:
        """Write ``predictions.csv``: the input's columns and ``prediction`` in dollars, in the input's order.

        Raises:
            DataError: ``source`` is not a valid table of houses, or is ``predictions.csv`` itself, or ``resume`` finds
                another run's predictions.
        """
        target = output / "predictions.csv"
        if source.is_dir():
            raise DataError(f"{source} is a folder: prices are predicted for a CSV of houses, which has to be named")
        if source.resolve() == target.resolve():
            raise DataError(f"{target} would replace the input: choose another folder")
        content, count = _content(source)
        rows = 0
        with ResumableTable(target, [weights, content], resume) as table:
            for part in read_tables(source, PART):
                if PREDICTION in part:
                    raise DataError(f"{source}: there is a column {PREDICTION} already; rename or remove it")
                # Skip the rows that an interrupted prediction has already written.
                left = part.iloc[max(0, table.inputs - rows) :]
                rows += len(part)
                if len(left):
                    features = torch.from_numpy(feature_matrix(left, model.hparams["feature_names"]))
                    prices = torch.cat([model.predict(few)[PREDICTION] for few in features.split(self.eval_batch_size)])
                    priced = left.assign(**{PREDICTION: [f"{price:.2f}" for price in prices.tolist()]})
                    table.write(csv_text(priced, header=not table.bytes), len(left))
                progress(rows, max(rows, count))
        yield from ()

    def serving(self, model: Any) -> Serving:
        names: list[str] = model.hparams["feature_names"]
        classes = [name for name in names if name in PROXIMITIES]
        dataset = self.datasets.get("val", self.datasets["train"])
        assert isinstance(dataset, ArrayDataset)
        rows = dataset.inputs[spread(1000, len(dataset))]
        lacking = rows[:8].clone()
        made = (name for name in names if set(RATIOS.get(name, ())) & set(MAY_BE_MISSING))
        lacking[:, [names.index(name) for name in (*MAY_BE_MISSING, *made)]] = math.nan
        codes = Port(PROXIMITY, "int64", ("rows",), ", ".join(f"{code} {name}" for code, name in enumerate(classes)))
        return Serving(
            graph=RawRows(model, NUMBERS, MAY_BE_MISSING, ratios(names), angles(names), len(classes)),
            inputs=[
                *(Port(name, "float32", ("rows",), UNITS[name]) for name in NUMBERS),
                *([codes] if classes else []),
            ],
            outputs=[Port("prediction", "float32", ("rows",), "median house value in dollars", 1e-4, relative=True)],
            samples=[Sample(_raw(part, names), part) for part in (rows, rows[:1], lacking)],
            facts={PROXIMITY: json.dumps({name: code for code, name in enumerate(classes)})} if classes else {},
            limits=[
                f"A row with NaN anywhere but in {', '.join(MAY_BE_MISSING)}, with an infinity or with an unknown "
                "code gives NaN.",
                "The prices are those of California's block groups in 1990, and were cut off at 500,001 dollars.",
            ],
        )


def _raw(rows: Tensor, names: list[str]) -> tuple[Tensor, ...]:
    """The columns of the file that these features (rows, columns) were made from."""
    columns = [rows[:, names.index(name)] for name in NUMBERS]
    one_hot = [rows[:, names.index(name)] for name in names if name in PROXIMITIES]
    return (*columns, torch.stack(one_hot).argmax(dim=0)) if one_hot else tuple(columns)


def _content(path: Path) -> tuple[str, int]:
    """Return a digest of the file and its approximate number of rows (its newlines)."""
    digest, lines = hashlib.sha256(), 0
    try:
        with plain(path).open("rb") as file:
            for block in iter(partial(file.read, 2**20), b""):
                digest.update(block)
                lines += block.count(b"\n")
    except OSError as error:
        raise DataError(f"{path}: not a readable table ({reason(error)}); replace or remove it") from error
    return digest.hexdigest(), lines
