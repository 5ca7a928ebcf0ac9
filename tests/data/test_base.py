"""What every DataModule does: validates its arguments, loads batches, describes itself, never writes into data.root."""

import shutil
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import Dataset

from triptych.data.base import DataModule
from triptych.data.catalogue import data_sets
from triptych.data.datasets import ArrayDataset
from triptych.data.errors import DataError

MODULES = data_sets()


class Numbers(DataModule[list[int]]):
    """The smallest data set: the numbers from 0 to 39; 32 train."""

    slug = "numbers"

    @classmethod
    def synthesize(cls, folder: Path) -> None:
        folder.mkdir(parents=True)

    def read(self, folder: Path) -> tuple[list[int], str]:
        return list(range(40)), "mark"

    def make_split(self, samples: list[int]) -> Any:
        return self.draw_split(samples)

    def make_dataset(self, samples: list[int], indices: Any, training: bool) -> ArrayDataset:
        numbers = torch.as_tensor(samples)[indices][:, None].float()
        return ArrayDataset(numbers, numbers[:, 0])

    def predict_files(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError


def numbers(**arguments: Any) -> Numbers:
    data = Numbers(source="synthetic", **{"batch_size": 8} | arguments)
    data.setup()
    return data


def batches(loader: Any) -> list[list[float]]:
    return [targets.tolist() for _, targets in loader]


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [("full", [32]), (32, [32]), (8, [8] * 4), (10, [10, 10, 10, 2]), (1, [1] * 32)],
)
def test_an_epoch_contains_every_training_sample_once(batch_size: int | str, sizes: list[int]):
    data = numbers(batch_size=batch_size)
    epoch = batches(data.train_dataloader())
    assert list(map(len, epoch)) == sizes
    assert sorted(chain(*epoch)) == data.split.train.tolist()


@pytest.mark.parametrize(("batch_size", "sizes"), [(31, [31]), (3, [3] * 10 + [2])])
def test_a_last_batch_of_one_is_dropped_in_training_only(batch_size: int, sizes: list[int]):
    """Batch norm has no variance over one sample; in validation every sample must count."""
    data = numbers(batch_size=batch_size, eval_batch_size=3)
    assert list(map(len, batches(data.train_dataloader()))) == sizes
    assert list(map(len, batches(data.val_dataloader()))) == [3, 1]


def on_gpu(monkeypatch: pytest.MonkeyPatch, device: str = "cuda", **arguments: Any) -> tuple[Any, Any, bool]:
    """Fake a run on ``device`` on a machine with a GPU.

    Returns:
        The training loader, the stand-in for the samples on the GPU, and whether their placement there was requested.
    """
    asked, there = [], Samples()
    placement = "triptych.data.base.device_placement.place_on_device"
    monkeypatch.setattr(placement, lambda *given: asked.append(given) or there)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(Numbers, "streams", True)
    data = numbers(**arguments)
    gpu = SimpleNamespace(root_device=torch.device(device))
    data.trainer = SimpleNamespace(strategy=gpu, global_rank=0, world_size=1, overfit_batches=0)  # type: ignore
    loader = data.train_dataloader()
    assert asked in ([], [(data.datasets["train"], gpu.root_device, "auto")])
    return loader, there, bool(asked)


class Samples(Dataset[Any]):
    gathers_on = torch.device("meta")

    def __len__(self) -> int:
        return 32


def test_samples_on_the_gpu_are_not_pinned(monkeypatch: pytest.MonkeyPatch):
    loader, there, asked = on_gpu(monkeypatch)
    assert asked
    assert loader.dataset is there
    assert not loader.pin_memory
    assert loader.batch_sampler.device == there.gathers_on


@pytest.mark.parametrize(("num_workers", "kind"), [(0, torch.Tensor), (2, np.ndarray)])
def test_indices_are_arrays_for_workers_and_tensors_in_the_main_process(num_workers: int, kind: type):
    rows = next(iter(numbers(num_workers=num_workers).train_dataloader().batch_sampler))
    assert isinstance(rows, kind)


def test_a_batch_already_on_the_device_is_not_copied(monkeypatch: pytest.MonkeyPatch):
    moved = []
    monkeypatch.setattr(LightningDataModule, "transfer_batch_to_device", lambda *given: moved.append(given))
    data, there = numbers(), torch.device("meta")
    on_it, elsewhere = torch.empty(3, device=there), torch.empty(3)
    assert data.transfer_batch_to_device(batch := (on_it, on_it), there, 0) is batch
    assert not moved
    whole = SimpleNamespace(to=None)  # a custom batch type
    data.transfer_batch_to_device(whole, there, 0)  # type: ignore[arg-type]
    assert moved.pop()[1] is whole
    data.transfer_batch_to_device((on_it, elsewhere), there, 0)
    assert len(moved) == 1


@pytest.mark.parametrize("arguments", [{"num_workers": 1}, {"in_memory": False}], ids=str)
def test_batches_from_workers_or_disk_are_pinned(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    loader, there, asked = on_gpu(monkeypatch, **arguments)
    assert not asked
    assert loader.dataset is not there
    assert loader.pin_memory


def test_a_cpu_run_pins_nothing_even_with_a_gpu_present(monkeypatch: pytest.MonkeyPatch):
    loader, _, _ = on_gpu(monkeypatch, device="cpu", num_workers=1)
    assert not loader.pin_memory
    assert not numbers().train_dataloader().pin_memory


def test_training_is_reshuffled_each_epoch_and_evaluation_never():
    data = numbers(batch_size="full", eval_batch_size=2)
    loader = data.train_dataloader()
    assert batches(loader) != batches(loader)
    assert list(chain(*batches(data.val_dataloader()))) == data.split.val.tolist()
    assert list(chain(*batches(data.test_dataloader()))) == data.split.test.tolist()


def test_worker_processes_load_the_same_batches():
    expected, loaded = (batches(numbers(num_workers=workers).val_dataloader()) for workers in (0, 1))
    assert loaded == expected


@pytest.mark.parametrize("batch_size", [33, 1000])
def test_a_batch_larger_than_the_training_split_is_refused_each_time(batch_size: int):
    data = Numbers(source="synthetic", batch_size=batch_size)
    for _ in range(2):
        with pytest.raises(DataError, match=rf"data.batch_size={batch_size} .*\(32 samples\).* at most 32, or .*=full"):
            data.setup()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "data.batch_size=0: expected a number from 1, or full"),
        ({"batch_size": -4}, "data.batch_size=-4"),
        ({"batch_size": "half"}, "data.batch_size=half"),
        ({"batch_size": 2.5}, "data.batch_size=2.5"),
        ({"eval_batch_size": 0}, "data.eval_batch_size=0: expected a number from 1"),
        ({"num_workers": -1}, "data.num_workers=-1: expected a number from 0"),
        ({"split_seed": -1}, "data.split_seed=-1: expected a number from 0 to 4294967294"),
        ({"split_seed": 2**32 - 1}, "data.split_seed=4294967295"),
        ({"train_size": 0}, "data.train_size=0: expected a number of samples from 1, a share above 0 and up to"),
        ({"train_size": -3}, "data.train_size=-3"),
        ({"train_size": 0.0}, "data.train_size=0.0"),
        ({"train_size": 1.5}, "data.train_size=1.5"),
        ({"split": "groups"}, "data.split=groups: choose one of grouped, random, mle_bench, papers, all"),
        ({"split": "papers"}, "data.split=papers is not published for numbers: choose one of grouped, random, all"),
        ({"split": "all", "folds": 5}, "data.folds=5: data.split=all is one fixed split; choose grouped or random"),
        ({"fold": 2}, "data.fold=2: say with data.folds how many there are"),
        ({"augment": "flip"}, "data.augment=flip: choose all, none"),
    ],
)
def test_an_invalid_argument_is_refused_before_data_are_read(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Numbers(source="synthetic", **arguments)


@pytest.mark.parametrize("split_seed", [0, 2**32 - 2])
def test_the_smallest_and_largest_split_seed_are_accepted(split_seed: int):
    assert numbers(split_seed=split_seed, folds=3).describe()["sizes"] == {"train": 24, "val": 12, "test": 4}


def test_setup_reads_once(monkeypatch: pytest.MonkeyPatch):
    data = numbers()
    monkeypatch.setattr(Numbers, "read", lambda *_: pytest.fail("read again"))
    for stage in ("fit", "validate", "test"):
        data.setup(stage)


def test_describe_reports_source_split_and_sizes():
    data = numbers(folds=4, fold=1)
    description = data.describe()
    assert Path(description.pop("root")).name == "numbers"
    assert description == {
        "source": "synthetic",
        "split": "grouped",
        "fold": "1 of 4",
        "stand_in": "synthetic data",
        "fingerprint": "mark",
        "sizes": {"train": 27, "val": 9, "test": 4},
    }


@pytest.mark.parametrize(("train_size", "size"), [(8, 8), (1.0, 32), (32, 32), (0.5, 16), (0.001, 1), (1, 1)])
def test_train_size_reduces_the_training_split_only(train_size: int | float, size: int):
    whole, fewer = numbers(), numbers(train_size=train_size, batch_size=1)
    assert fewer.describe()["sizes"] == {"train": size, "val": 4, "test": 4}
    assert list(chain(*batches(fewer.val_dataloader()))) == whole.split.val.tolist()
    seen = list(chain(*batches(fewer.train_dataloader())))
    assert len(set(seen)) == len(seen) == size
    assert set(seen) <= set(whole.split.train)
    # The same samples in each run: they depend on the seed of the split, not on that of the run.
    torch.manual_seed(1)
    assert numbers(train_size=train_size, batch_size=1).split.train.tolist() == fewer.split.train.tolist()


def test_train_size_above_the_split_takes_all_samples():
    assert numbers(train_size=33).split.train.tolist() == numbers().split.train.tolist()


def test_evaluation_batches_are_complete_ordered_and_leave_the_rng_alone():
    data = numbers(eval_batch_size=3)
    state = torch.get_rng_state()
    assert batches(data.evaluation_batches("val")) == batches(data.val_dataloader())
    torch.set_rng_state(state)
    spread = batches(data.evaluation_batches("train", count=5, batch_size=4))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(map(len, spread)) == [4, 1]
    assert list(chain(*spread)) == data.split.train[[0, 7, 15, 23, 31]].tolist()
    assert len(list(chain(*batches(data.evaluation_batches("train", count=1000))))) == 32
    assert batches(numbers(split="all").evaluation_batches("val")) == []


@pytest.mark.parametrize("name", MODULES)
def test_evaluation_batches_of_training_samples_are_not_augmented(name: str, data_root: Path):
    data = MODULES[name](root=str(data_root), source="files", augment="all", batch_size=1)
    data.setup()
    inputs, targets = next(iter(data.evaluation_batches("train", 3)))
    seen, _ = data.prepare_batch(next(iter(data.val_dataloader())), training=False)
    assert (inputs.dtype, inputs.ndim) == (seen.dtype, seen.ndim)
    again, _ = next(iter(data.evaluation_batches("train", 3)))
    assert torch.equal(inputs.nan_to_num(), again.nan_to_num())
    assert len(inputs) == len(targets)


@pytest.mark.parametrize("name", MODULES)
def test_only_training_batches_are_augmented(name: str, data_root: Path):
    data = MODULES[name](root=str(data_root), source="files", augment="all", batch_size=1)
    data.setup()
    data.augmentation = torch.nn.Module()  # raises when called
    for loader in (data.val_dataloader(), data.test_dataloader()):
        data.prepare_batch(next(iter(loader)), training=False)
    with pytest.raises(NotImplementedError):
        data.prepare_batch(next(iter(data.train_dataloader())), training=True)


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_deterministic_and_capped_at_the_split(name: str, data_root: Path):
    data = MODULES[name](root=str(data_root), source="files", batch_size=1)
    data.setup()
    (first, targets), (again, _) = data.examples(3), data.examples(3)
    assert torch.equal(first.nan_to_num(), again.nan_to_num())
    assert len(first) == len(targets) == 3
    assert len(data.examples(10_000)[0]) == len(data.split.val)


def test_a_data_set_without_serving_names_the_missing_method():
    with pytest.raises(NotImplementedError, match=r"^Numbers has no method `serving`.* add it"):
        Numbers().serving(None)


@pytest.mark.parametrize("name", MODULES)
def test_a_checkpoint_resumes_only_on_the_same_data(name: str, data_copy: Path, tmp_path: Path):
    def data(root: Path = data_copy, **more: Any) -> DataModule:
        made = MODULES[name](root=str(root), source="files", batch_size=1, cache_dir=str(tmp_path / "cache"), **more)
        made.setup()
        return made

    state = data().state_dict()
    moved = Path(shutil.copytree(data_copy, tmp_path / "moved"))
    data(moved, augment="none", num_workers=1).load_state_dict(state)
    for other in ({"split_seed": 7}, {"train_size": 3}, {"split": "all"}):
        with pytest.raises(DataError, match="other samples"):
            data(**other).load_state_dict(state)
    for file in (moved / MODULES[name].slug).rglob("*.*"):
        file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(DataError, match="files in"):
        data(moved).load_state_dict(state)


@pytest.mark.parametrize("name", MODULES)
def test_reading_never_writes_below_the_root(name: str, data_copy: Path, tmp_path: Path):
    before = sorted(data_copy.rglob("*"))
    for cache in (None, str(tmp_path / "cache")):
        MODULES[name](root=str(data_copy), source="files", cache_dir=cache, batch_size=1).setup()
    assert sorted(data_copy.rglob("*")) == before
