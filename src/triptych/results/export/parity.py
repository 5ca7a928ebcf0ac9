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

    PyTorch's are those of the model, in float32, on what training's own code makes of the same inputs, so that the
    steps before the model are checked too. As a share of PyTorch's value where the output's tolerance is one. A file
    that lies too far from those gets a second chance, under the same limit, against the model in float64: PyTorch's
    own group norm rounds by up to 1e-4 on a page in float32, where onnxruntime's lies within 2e-5 of the exact value.

    Raises:
        ExportError: the file does not run, or it differs by more than an output's tolerance.
    """
    largest = dict.fromkeys((port.name for port in serving.outputs), 0.0)
    for sample in serving.samples:
        shape = " x ".join(map(str, sample.raw[0].shape))
        try:
            with torch.inference_mode():
                expected = model.predict(sample.prepared)
        except Exception as error:
            # A checkpoint of any origin need not fit the data.
            raise ExportError(f"the model does not run on an input of {shape}: {first_line(error)}") from error
        try:
            answers = run([tensor.numpy() for tensor in sample.raw])
        except Exception as error:
            # onnxruntime's and torch's own errors, of many kinds.
            reason = first_line(error)
            raise ExportError(f"the exported model does not run on an input of {shape}: {reason}") from error
        for port, answer in zip(serving.outputs, answers, strict=True):
            difference = _difference(np.asarray(answer), expected[port.name].numpy(), port)
            if not difference <= port.tolerance:
                exact = _exact(model, sample.prepared)[port.name].to(expected[port.name].dtype)
                from_exact = _difference(np.asarray(answer), exact.numpy(), port)
                difference = from_exact if from_exact <= port.tolerance else difference
            if not difference <= port.tolerance:
                raise ExportError(
                    f"the exported model differs from PyTorch: {port.name} by {difference:.3g} on an input of "
                    f"{shape}, where {port.tolerance:g} is allowed; nothing was written"
                )
            largest[port.name] = max(largest[port.name], difference)
    return largest


def _exact(model: Any, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the model predicts in float64."""
    with torch.inference_mode():
        return copy.deepcopy(model).double().predict(inputs.double())


def _difference(answer: np.ndarray, expected: np.ndarray, port: Any) -> float:
    """How far the answer lies from PyTorch's at most; infinite where shapes, dtypes or NaNs differ."""
    if answer.shape != expected.shape or answer.dtype != np.dtype(port.dtype):
        return np.inf
    numbers = ~np.isnan(expected)
    if not np.array_equal(~np.isnan(answer), numbers):
        return np.inf
    # As float64, in which differences of float32 are exact.
    answer, expected = (values[numbers].astype(np.float64) for values in (answer, expected))
    apart = np.abs(answer - expected)
    if port.relative:
        apart = apart / np.abs(expected)
    return float(apart.max(initial=0.0))
