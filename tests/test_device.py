"""The message for errors caused by a lack of memory."""

import pytest
import torch

from triptych.device import lacking_memory


def test_failed_allocation_reports_its_size_and_a_remedy():
    with pytest.raises(RuntimeError) as error:
        torch.empty(10**16, dtype=torch.float32)
    said = lacking_memory(error.value)
    assert said is not None
    assert said.startswith("not enough memory for 40000000000000000 bytes more: choose a smaller data.batch_size")


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has"), "for 20.00 GiB more:"),
        (MemoryError("Unable to allocate 7.45 GiB for an array with shape (1000000000,)"), "for 7.45 GiB more:"),
        (MemoryError(), ": choose"),
    ],
)
def test_memory_errors_of_other_libraries_are_recognised(error: BaseException, start: str):
    said = lacking_memory(error)
    assert said is not None
    assert said.removeprefix("not enough memory").strip().startswith(start)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("not enough memory")])
def test_other_errors_are_not_taken_for_memory_errors(error: Exception):
    assert lacking_memory(error) is None
