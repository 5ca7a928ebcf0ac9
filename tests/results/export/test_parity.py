"""An exported file's outputs against the model's in float32, or in float64 where float32 rounds."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from triptych.data.serving.contract import Port, Sample, Serving
from triptych.results.export.errors import ExportError
from triptych.results.export.parity import largest_differences

VALUES = torch.tensor([0.25, 0.5])


class Rounding(nn.Module):
    """Returns its input; in float32, too high by ``error``, as a sum with cancellation may be."""

    def __init__(self, error: float) -> None:
        super().__init__()
        self.error = error

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"page": inputs + (self.error if inputs.dtype == torch.float32 else 0)}


def difference(error: float, answer: Any) -> float:
    port = Port("page", "float32", ("pages",), "", tolerance=1e-4)
    serving = Serving(nn.Identity(), [port], [port], [Sample((VALUES,), VALUES)])
    return largest_differences(serving, Rounding(error), lambda inputs: [answer])["page"]


@pytest.mark.parametrize("off", [0, 5e-5, -9e-5])
def test_a_file_is_compared_with_float32(off: float):
    assert difference(0, VALUES.numpy() + np.float32(off)) == pytest.approx(abs(off), abs=1e-7)


def test_a_file_close_to_float64_passes_where_float32_is_inaccurate():
    assert difference(2e-4, VALUES.numpy() + np.float32(3e-5)) == pytest.approx(3e-5, abs=1e-7)


@pytest.mark.parametrize("error", [0, 3e-3])
def test_a_file_far_from_both_precisions_is_refused(error: float):
    with pytest.raises(ExportError, match=r"page by 0\.0015 on an input of 2, where 0\.0001 is allowed"):
        difference(error, VALUES.numpy() + np.float32(1.5e-3))


@pytest.mark.parametrize("answer", [VALUES.numpy()[:1], VALUES.double().numpy(), np.float32([np.nan, 0.5])], ids=str)
def test_another_shape_dtype_or_nan_is_refused(answer: Any):
    with pytest.raises(ExportError, match="page by inf"):
        difference(0, answer)
