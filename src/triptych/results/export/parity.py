"""Parity check: compare the outputs of an exported file with PyTorch's."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from triptych.results.export.errors import ExportError, first_line

Runner = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""A function that runs an exported file, from its inputs to its outputs."""


def largest_differences(serving: Any, model: Any, run: Runner) -> dict[str, float]:
    """Return, by output, the largest difference between the file and PyTorch on the samples of a ``Serving``.

    The reference is the model in float32 on inputs that training's own code prepared, so that the preprocessing is
    checked too. Differences are relative to PyTorch's value if the output's tolerance is relative. A file that differs
    by too much is compared again, under the same tolerance, with the model in float64: in float32, PyTorch's own group
    norm is off by up to 1e-4 on a page, while onnxruntime's is within 2e-5 of the exact value.

    Raises:
        ExportError: the model or the file does not run, or they differ by more than an output's tolerance.
    """
    largest = dict.fromkeys((port.name for port in serving.outputs), 0.0)
    for sample in serving.samples:
        shape = " x ".join(map(str, sample.raw[0].shape))
        try:
            with torch.inference_mode():
                expected = model.predict(sample.prepared)
        except Exception as error:
            # An untrusted checkpoint need not fit the data.
            raise ExportError(f"the model does not run on an input of {shape}: {first_line(error)}") from error
        try:
            answers = run([tensor.numpy() for tensor in sample.raw])
        except Exception as error:
            # onnxruntime and torch raise many kinds of errors.
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
    """Return the predictions of the model in float64."""
    with torch.inference_mode():
        return copy.deepcopy(model).double().predict(inputs.double())


def _difference(answer: np.ndarray, expected: np.ndarray, port: Any) -> float:
    """Return the largest difference from PyTorch's output; infinity if shape, dtype or the positions of NaN differ."""
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
