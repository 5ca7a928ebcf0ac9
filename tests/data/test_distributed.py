"""Distributed batches: the processes' parts add up to the batch of one process, and each row is evaluated once."""

from itertools import chain

import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler, TensorDataset, WeightedRandomSampler

from triptych.data.distributed import DistributedBatchSampler, Shuffled, evaluation_index_batches, training_batches

ROWS = TensorDataset(torch.arange(23))


def sampler(weighted: bool) -> RandomSampler | WeightedRandomSampler:
    generator = torch.Generator().manual_seed(3)
    if weighted:
        return WeightedRandomSampler([1.0] * 23, 23, generator=generator)
    return RandomSampler(ROWS, generator=generator)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_the_parts_add_up_to_the_batches_of_one_process(processes: int, weighted: bool):
    whole = list(BatchSampler(sampler(weighted), 9, drop_last=False))
    shared = [DistributedBatchSampler(sampler(weighted), 9, False, process, processes) for process in range(processes)]
    parts = [[rows.tolist() for rows in part] for part in zip(*shared, strict=True)]
    assert [sorted(chain(*part)) for part in parts] == [sorted(batch) for batch in whole]
    # Averaged over processes, the weighted means give the mean of the batch.
    for number, (batch, part) in enumerate(zip(whole, parts, strict=True)):
        means = [sum(rows) / len(rows) * one.weight(number) for rows, one in zip(part, shared, strict=True)]
        assert sum(means) / processes == pytest.approx(sum(batch) / len(batch))


def test_shuffled_order_equals_that_of_torchs_random_sampler():
    ours, torchs = Shuffled(23, torch.Generator().manual_seed(3)), sampler(weighted=False)
    for _ in range(3):
        expected = list(torchs)
        ours.generator.set_state(state := ours.generator.get_state())
        assert ours.order().tolist() == expected
        ours.generator.set_state(state)
        assert list(ours) == expected
        torchs.generator.set_state(ours.generator.get_state())  # torch draws one number more than it needs


@pytest.mark.parametrize("weighted", [False, True])
def test_indices_are_tensors_for_samples_on_a_device(weighted: bool):
    numbers = list(DistributedBatchSampler(sampler(weighted), 9, False, 1, 2))
    there = list(DistributedBatchSampler(sampler(weighted), 9, False, 1, 2, torch.device("cpu")))
    assert all(isinstance(rows, torch.Tensor) for rows in there)
    assert [rows.tolist() for rows in there] == [rows.tolist() for rows in numbers]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 50])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_each_row_is_evaluated_once_in_equally_many_batches(processes: int, batch_size: int):
    for size in range(processes, 14):
        parts = [evaluation_index_batches(size, batch_size, process, processes) for process in range(processes)]
        assert sorted(chain(*chain(*parts))) == list(range(size))
        sizes = [len(batch) for part in parts for batch in part]
        assert 1 <= min(sizes) <= max(sizes) <= batch_size
        counts = {len(part) for part in parts}
        assert max(counts) - min(counts) <= (batch_size == 1)


@pytest.mark.parametrize(("size", "batch_size", "drops"), [(8, 7, True), (9, 7, False), (8, 4, False), (8, 1, False)])
def test_a_last_batch_of_one_is_dropped(size: int, batch_size: int, drops: bool):
    rows = TensorDataset(torch.arange(size))
    batches = training_batches(rows, batch_size, None, torch.Generator(), None)["batch_sampler"]
    assert sum(map(len, batches)) == (size // batch_size * batch_size if drops else size)
