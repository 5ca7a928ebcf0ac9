"""Streaming from disk: the same batches as in memory, using the memory of only a few of them."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from triptych.data.base import DataModule
from triptych.data.catalogue import data_sets
from triptych.results.memory import STATUS

MODULES = data_sets()
STREAMED = [name for name, module in MODULES.items() if module.streams]
IN_MEMORY = [name for name in MODULES if name not in STREAMED]


@pytest.fixture
def pair(name: str, data_root: Path) -> tuple[DataModule[Any], DataModule[Any]]:
    """The same data set in memory and on disk."""
    return set_up(name, data_root, in_memory=True), set_up(name, data_root, in_memory=False)


def set_up(name: str, data_root: Path, **arguments: Any) -> DataModule[Any]:
    data = MODULES[name](root=str(data_root), source="files", **{"batch_size": 4} | arguments)
    data.setup()
    return data


def flat(batches: Any) -> list[Tensor]:
    return [tensor for batch in batches for tensor in batch]


def assert_equal(some: Any, others: Any) -> None:
    some, others = flat(some), flat(others)
    assert len(some) == len(others) > 0
    for tensor, other in zip(some, others, strict=True):
        assert tensor.dtype == other.dtype
        assert torch.equal(tensor, other)


@pytest.mark.parametrize("name", STREAMED)
def test_splits_and_description_are_the_same_in_memory_and_on_disk(name: str, pair: Any):
    memory, disk = pair
    assert memory.describe() == disk.describe()
    for part in ("train", "val", "test"):
        assert getattr(memory.split, part).tolist() == getattr(disk.split, part).tolist()
    assert memory.model_arguments() == disk.model_arguments()


@pytest.mark.parametrize("name", STREAMED)
def test_evaluation_batches_and_examples_are_the_same(name: str, pair: Any):
    memory, disk = pair
    for part in ("train", "val", "test"):
        assert_equal(memory.evaluation_batches(part, 5), disk.evaluation_batches(part, 5))
    assert_equal(memory.val_dataloader(), disk.val_dataloader())
    assert_equal(memory.test_dataloader(), disk.test_dataloader())
    assert_equal([memory.examples(3)], [disk.examples(3)])
    assert_equal([memory.datasets["val"][1]], [disk.datasets["val"][1]])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", STREAMED)
def test_augmented_training_batches_are_the_same(name: str, workers: int, data_root: Path):
    epochs = []
    for in_memory in (True, False):
        data = set_up(name, data_root, in_memory=in_memory, num_workers=workers)
        torch.manual_seed(0)
        epochs.append([data.prepare_batch(batch, training=True) for batch in data.train_dataloader()])
    assert_equal(*epochs)


@pytest.mark.parametrize("name", STREAMED)
def test_an_epoch_begun_in_memory_can_be_resumed_from_disk(name: str, pair: Any):
    memory, disk = pair
    torch.manual_seed(0)
    first, again = memory.train_dataloader(), disk.train_dataloader()
    batches = iter(first)
    list(islice(batches, 3))
    again.load_state_dict(first.state_dict())
    state = torch.get_rng_state()
    rest = list(batches)
    torch.set_rng_state(state)
    assert_equal(rest, again)


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", STREAMED)
def test_a_batch_reads_only_its_own_samples(name: str, pair: Any):
    _, disk = pair
    before = read_so_far()
    disk.datasets["val"].__getitems__([0])
    disk.datasets["train"].__getitems__([0, 1])
    few = read_so_far() - before
    list(disk.evaluation_batches("train"))
    whole = read_so_far() - before - few
    assert 0 < few < whole / 8


def read_so_far() -> int:
    """Bytes that this process has read so far, from disk or the page cache."""
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


@pytest.mark.parametrize("name", IN_MEMORY)
def test_in_memory_false_is_refused_by_data_sets_that_cannot_stream(name: str):
    with pytest.raises(ValueError, match=r"data.in_memory=false: .* is always read into memory; choose true"):
        MODULES[name](in_memory=False)


@pytest.mark.skipif("xrays" not in MODULES, reason="this project has no X-rays")
@pytest.mark.parametrize("hold_out", ["dark", "marked", "contrary"])
def test_a_slice_on_disk_is_the_same_as_in_memory(hold_out: str, data_root: Path):
    memory, disk = (set_up("xrays", data_root, hold_out=hold_out, in_memory=there) for there in (True, False))
    assert memory.split.test.tolist() == disk.split.test.tolist()


EPOCH = """
import json, sys
import torch
from triptych.data.xrays import XrayDataModule
from triptych.results.memory import peak_memory

root, in_memory = sys.argv[1], sys.argv[2] == "true"
base = peak_memory(torch.device("cpu"))
data = XrayDataModule(
    root=root, source="files", cache_dir=root + "/cache", image_size=1024, batch_size=4, eval_batch_size=4,
    in_memory=in_memory, hold_out="dark"
)
data.setup()
count = sum(len(images) for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
            for images, _ in loader)
print(json.dumps({"count": count, "growth": peak_memory(torch.device("cpu")) - base}))
"""


@pytest.mark.slow
@pytest.mark.skipif("xrays" not in MODULES, reason="this project has no X-rays")
@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc")
def test_an_epoch_of_200_mb_takes_the_memory_of_a_few_batches(tmp_path: Path):
    write_many(tmp_path, 200)
    growth = {}
    for in_memory in ("false", "false", "true"):  # decoding into the cache, reading from it, in memory
        done = subprocess.run(
            [sys.executable, "-c", EPOCH, str(tmp_path), in_memory], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["count"] == 196  # the four of the test folder are unused: the held-out slice is the test split
        growth.setdefault(in_memory, []).append(said["growth"])
    assert max(growth["false"]) < 40, growth
    assert growth["true"][0] > 200, growth


def write_many(root: Path, count: int) -> None:
    """X-rays of 1,024 x 1,024 pixels in Kaggle's layout, all different, one patient each."""
    rng = np.random.default_rng(0)
    for number in range(count):
        part = "test" if number < 4 else "train"
        label = ("NORMAL", "PNEUMONIA")[number % 2]
        path = root / "chest-xray-pneumonia" / "chest_xray" / part / label / f"person{number}_bacteria_1.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(coarse).resize((1024, 1024)).save(path)
