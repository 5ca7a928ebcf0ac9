"""Whether an exported file does what the model does."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from triptych.results.export.errors import ExportError, first_line

Runner = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""An exported file: from its inputs to its outputs."""


def largest_differences(serving: Any, model: Any, run: Runner) -> dict[str, float]:
    """By output, how far the file's values lie from PyTorch's on the samples of a ``Serving``.

    PyTorch's are those of the model on what training's own code makes of the same inputs, so that the steps before
    the model are checked too. The model computes in float32 and in float64, and what lies between the two counts as
    equal: PyTorch's group norm alone rounds by up to 1e-4 on a page. As a share of PyTorch's value where the output's
    tolerance is one.

    Raises:
        ExportError: the file does not run, or it differs by more than an output's tolerance.
    """
    largest = dict.fromkeys((port.name for port in serving.outputs), 0.0)
    exact = copy.deepcopy(model).double()
    for sample in serving.samples:
        shape = " x ".join(map(str, sample.raw[0].shape))
        with torch.inference_mode():
            usual = model.predict(sample.prepared)
            precise = exact.predict(sample.prepared.double())
        try:
            answers = run([tensor.numpy() for tensor in sample.raw])
        except Exception as error:
            # onnxruntime's and torch's own errors, of many kinds.
            reason = first_line(error)
            raise ExportError(f"the exported model does not run on an input of {shape}: {reason}") from error
        for port, answer in zip(serving.outputs, answers, strict=True):
            difference = _difference(np.asarray(answer), usual[port.name].numpy(), precise[port.name].numpy(), port)
            if not difference <= port.tolerance:
                raise ExportError(
                    f"the exported model differs from PyTorch: {port.name} by {difference:.3g} on an input of "
                    f"{shape}, where {port.tolerance:g} is allowed; nothing was written"
                )
            largest[port.name] = max(largest[port.name], difference)
    return largest


def _difference(answer: np.ndarray, usual: np.ndarray, precise: np.ndarray, port: Any) -> float:
    """How far the answer lies outside PyTorch's two at most; infinite where shapes, dtypes or NaNs differ."""
    if answer.shape != usual.shape or answer.dtype != np.dtype(port.dtype):
        return np.inf
    numbers = ~np.isnan(usual)
    if not np.array_equal(~np.isnan(answer), numbers):
        return np.inf
    # As float64, in which differences of float32 are exact.
    answer, usual, precise = (values[numbers].astype(np.float64) for values in (answer, usual, precise))
    apart = np.maximum(np.minimum(usual, precise) - answer, answer - np.maximum(usual, precise)).clip(min=0)
    if port.relative:
        apart = apart / np.abs(usual)
    return float(apart.max(initial=0.0))
