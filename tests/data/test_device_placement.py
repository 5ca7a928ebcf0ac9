"""Which samples are placed on the GPU that trains."""

from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from triptych.data.device_placement import check, place_on_device

GPU = torch.device("cuda")


class Samples(Dataset[Any]):
    """A dataset of ``nbytes`` bytes, which ``to`` copies."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes

    def to(self, device: torch.device) -> "Samples":
        assert device == GPU
        return Samples(self.nbytes)


@pytest.fixture(autouse=True)
def a_thousand_bytes_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (1000, 2000))


@pytest.mark.parametrize(
    ("nbytes", "on_device", "moves"),
    [(250, "auto", True), (251, "auto", False), (900, True, True), (1, False, False)],
)
def test_samples_that_fit_are_moved_to_the_gpu(nbytes: int, on_device: bool | str, moves: bool):
    samples = Samples(nbytes)
    assert (place_on_device(samples, GPU, on_device) is not samples) == moves


def test_nothing_is_moved_for_a_cpu_run():
    samples = Samples(1)
    assert place_on_device(samples, torch.device("cpu"), True) is samples


class Own(Dataset[Any]):
    """A dataset without ``nbytes``, which must not be moved."""

    def to(self, device: torch.device) -> "Own":
        raise AssertionError


def test_a_custom_dataset_without_nbytes_is_not_moved():
    own = Own()
    assert place_on_device(own, GPU, "auto") is own
    with pytest.raises(ValueError, match=r"data\.on_device=true: Own has no `to` and `nbytes`; choose auto"):
        place_on_device(own, GPU, True)


@pytest.mark.parametrize(
    ("num_workers", "in_memory", "named"),
    [
        (2, True, "data.num_workers=2,"),
        (0, False, "data.in_memory=false,"),
        (2, False, "data.num_workers=2 and data.in_memory=false,"),
    ],
)
def test_on_device_is_refused_with_workers_or_streaming(num_workers: int, in_memory: bool, named: str):
    with pytest.raises(ValueError, match=f"worker processes or in_memory=false: leave out {named} or choose data.on"):
        check(True, num_workers, in_memory)
    check("auto", num_workers, in_memory)
