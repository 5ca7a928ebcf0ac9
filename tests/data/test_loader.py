"""The resumable loader: resumed in the middle of an epoch, it gives the remaining batches in the same order."""

import random
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset, WeightedRandomSampler

from triptych.data.loader import ResumableLoader


class Noisy(TensorDataset):
    """Numbers, each with a random one drawn on access, as random crops do."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        return (*super().__getitem__(index), torch.rand(()))


def loader(workers: int = 0, weighted: bool = False) -> ResumableLoader:
    generator = torch.Generator()
    sampler = WeightedRandomSampler([1.0] * 10, 10, generator=generator) if weighted else None
    options = {"shuffle": sampler is None, "sampler": sampler, "generator": generator, "num_workers": workers}
    return ResumableLoader(Noisy(torch.arange(10)), batch_size=3, **options)  # type: ignore[arg-type]


class Whole(Noisy):
    """The same, but fetching whole batches at once."""

    fetched: int = 0

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, ...]]:
        self.fetched += len(indices)
        return [self[int(index)] for index in indices]


def numpy_state() -> list[int]:
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002, the global state
    return state["state"]["key"].tolist()


def drawn(batches: object) -> list[list[float]]:
    return [[*numbers.tolist(), *noise.tolist()] for numbers, noise in batches]  # type: ignore[attr-defined]


@pytest.mark.parametrize("weighted", [False, True])
def test_whole_batch_fetching_gives_the_batches_of_torchs_own_iterator(weighted: bool) -> None:
    expected, actual = loader(weighted=weighted), loader(weighted=weighted)
    actual = ResumableLoader(Whole(torch.arange(10)), batch_sampler=actual.batch_sampler, generator=actual.generator)
    found = []
    for each in (expected, actual):
        torch.manual_seed(0)
        found.append([drawn(each), drawn(each)])
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_resumed_epoch_and_the_next_one_are_the_same(workers: int, weighted: bool, taken: int) -> None:
    torch.manual_seed(0)
    first = loader(workers, weighted)
    batches = iter(first)
    before = drawn(islice(batches, taken))
    # Before the first batch of an epoch there is no position yet.
    place, state = (first.state_dict() if taken else None), torch.get_rng_state()
    rest, following = drawn(batches), drawn(first)
    assert len(before) + len(rest) == len(following) == 4

    torch.manual_seed(1)
    again = loader(workers, weighted)
    if place is not None:
        again.load_state_dict(place)
    batches = iter(again)
    torch.set_rng_state(state)
    assert drawn(batches) == rest
    assert drawn(again) == following


def test_every_sample_comes_once_across_an_interruption() -> None:
    torch.manual_seed(0)
    first, again = loader(), loader()
    before = drawn(islice(iter(first), 2))
    again.load_state_dict(first.state_dict())
    seen = [number for batch in before + drawn(again) for number in batch[: len(batch) // 2]]
    assert sorted(seen) == list(range(10))


@pytest.mark.parametrize("weighted", [False, True])
def test_without_workers_skipped_batches_are_not_fetched_again(weighted: bool) -> None:
    plain = loader(weighted=weighted)
    whole = ResumableLoader(Whole(torch.arange(10)), batch_sampler=plain.batch_sampler, generator=plain.generator)
    whole.load_state_dict({"seed": 5, "taken": 2, "batch_size": 3})
    plain.load_state_dict({"seed": 5, "taken": 2, "batch_size": 3})
    found = []
    for each in (plain, whole):
        torch.manual_seed(0)
        found.append(drawn(each))
    assert found[0] == found[1]
    assert whole.dataset.fetched == 4  # type: ignore[attr-defined]


def test_skipping_batches_does_not_advance_the_global_rng() -> None:
    again = loader()
    again.load_state_dict({"seed": 5, "taken": 2, "batch_size": 3})
    before = random.getstate(), numpy_state()
    torch.manual_seed(3)
    next(iter(again))
    expected = torch.Generator().manual_seed(3)
    # Only the three samples of the batch itself draw a number each.
    for _ in range(3):
        torch.rand((), generator=expected)
    assert torch.equal(torch.get_rng_state(), expected.get_state())
    assert before == (random.getstate(), numpy_state())


def test_indices_are_those_of_the_latest_batch() -> None:
    there = loader()
    for numbers, _ in there:
        assert list(there.indices()) == numbers.tolist()
        break
    for count, (numbers, _) in enumerate(there):
        if count == 2:
            assert list(there.indices()) == numbers.tolist()
            break


def test_another_batch_size_cannot_resume_mid_epoch() -> None:
    first = loader()
    next(iter(first))
    other = ResumableLoader(Noisy(torch.arange(10)), batch_size=5, generator=torch.Generator())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"data.batch_size=5: .* with batches of 3; resume without it"):
        other.load_state_dict(first.state_dict())
