"""No leakage: for every data set, split rule and fold, groups are never divided and no sample is lost.

A new data set is tested too; its samples count as independent unless ``units`` says how they are grouped.
"""

import re
from collections.abc import Hashable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from triptych.data.base import DataModule
from triptych.data.catalogue import data_sets

MODULES = data_sets()
OWN_RULES = [(name, rule, folds) for name in MODULES for rule in ("grouped", "random") for folds in (None, 3)]
RULES = [*OWN_RULES, *((name, rule, None) for name, module in MODULES.items() for rule in module.published)]


def read(name: str, root: Path, **arguments: Any) -> DataModule:
    data = MODULES[name](root=str(root), source="files", batch_size=1, **arguments)
    data.setup()
    return data


def parts(data: DataModule) -> dict[str, list[int]]:
    return {name: getattr(data.split, name).tolist() for name in ("train", "val", "test")}


def units(name: str, data: DataModule) -> list[Hashable]:
    """The group of each sample, derived independently of the data set's own code."""
    if name == "documents":
        return [clean.tobytes() for _, _, clean in data.samples]
    if name == "xrays":
        # The official test folder numbers its patients from the start again.
        stems = [re.match(r"(?:(test)|.*?)/.*/(?:NORMAL2-)?(IM-\d+|person\d+)", path) for path in data.samples.names]
        return [stem.groups() for stem in stems if stem]
    return list(range(data.count(data.samples)))


@pytest.mark.parametrize(("name", "rule", "folds"), RULES)
def test_the_splits_are_disjoint_and_complete(name: str, rule: str, folds: int | None, data_root: Path):
    data = read(name, data_root, split=rule, folds=folds)
    assert sorted(chain(*parts(data).values())) == list(range(data.count(data.samples)))
    assert all(parts(data).values())
    assert data.describe()["sizes"] == {part: len(indices) for part, indices in parts(data).items()}


@pytest.mark.parametrize("fold", [None, 0, 1, 2])
@pytest.mark.parametrize("split_seed", range(3))
@pytest.mark.parametrize("name", MODULES)
def test_grouped_splits_never_divide_a_group(name: str, split_seed: int, fold: int | None, data_root: Path):
    folds = {} if fold is None else {"folds": 3, "fold": fold}
    data = read(name, data_root, split="grouped", split_seed=split_seed, **folds)
    unit = units(name, data)
    assert len(unit) == data.count(data.samples)
    found = [{unit[index] for index in indices} for indices in parts(data).values()]
    assert sum(map(len, found)) == len(set(unit))


@pytest.mark.parametrize(("name", "rule", "folds"), OWN_RULES)
def test_the_split_seed_determines_the_split(name: str, rule: str, folds: int | None, data_root: Path):
    first, again, other = (parts(read(name, data_root, split=rule, folds=folds, split_seed=seed)) for seed in (3, 3, 4))
    assert first == again
    assert first["train"] != other["train"]
    assert first["val"] != other["val"]


@pytest.mark.parametrize("name", MODULES)
def test_folds_validate_every_sample_outside_the_test_split_once(name: str, data_root: Path):
    drawn = [parts(read(name, data_root, folds=3, fold=fold)) for fold in range(3)]
    assert drawn[0]["test"] == drawn[1]["test"] == drawn[2]["test"]
    validated = [index for split in drawn for index in split["val"]]
    assert sorted(validated + drawn[0]["test"]) == sorted(chain(*drawn[0].values()))


@pytest.mark.parametrize("name", MODULES)
def test_split_all_trains_on_everything(name: str, data_root: Path):
    data = read(name, data_root, split="all")
    assert parts(data) == {"train": list(range(data.count(data.samples))), "val": [], "test": []}
    assert data.datasets.keys() == {"train"}
    assert data.val_dataloader() == data.test_dataloader() == []
    assert len(data.examples(2)[0]) == 2
