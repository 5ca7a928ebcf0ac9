"""Log the share of near-zero weights, and histograms of weights and activations."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from triptych.callbacks.layers import layers_with_weights, weights_of
from triptych.callbacks.measurement import Measurement, check_at_least_one

MAX_HISTOGRAM_VALUES = 100_000
"""Approximate number of values per output of an activation that its histogram takes, evenly spaced."""


class Weights(Measurement):
    """Log the share of weights that are nearly zero, and draw histograms in TensorBoard.

    ``weights/near_zero`` is the share of all elements of matrices and kernels (those that ``model.l1`` applies to)
    whose absolute value is below ``threshold``: gradient steps bring a weight near zero, but hardly ever exactly to it.
    The histograms show each layer's weights, and the outputs of each activation (``nn.ReLU``, ``nn.Sigmoid``, ...) for
    validation samples.

    Args:
        every_n_epochs: see Measurement.
        threshold: absolute value below which a weight is nearly zero.
        samples: number of validation samples for the histograms of activations.
    """

    key = "weights"

    def __init__(self, every_n_epochs: int, threshold: float = 1e-3, samples: int = 32) -> None:
        super().__init__(every_n_epochs)
        if threshold <= 0:
            raise ValueError(f"callbacks.weights.threshold={threshold}: expected a number above 0")
        check_at_least_one("weights.samples", samples)
        self.threshold = threshold
        self.samples = samples

    def measure(self, trainer: Trainer, model: Any) -> dict[str, float]:
        layers = layers_with_weights(model.network)
        boards = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if boards and trainer.is_global_zero:
            inputs, _ = trainer.datamodule.examples(self.samples)  # type: ignore[attr-defined]
            with _activations(model.network) as activations:
                model.predict(inputs.to(model.device))
            flat = {f"weights/{name}": _flat(weights_of(layer)) for name, layer in layers.items()}
            flat |= {f"activations/{name}": _flat(outputs) for name, outputs in activations.items()}
            for name, values in flat.items():
                finite = values[values.isfinite()]
                for board in boards if len(finite) else ():
                    board.add_histogram(name, finite.cpu(), trainer.global_step)
        weights = [weight for layer in layers.values() for weight in weights_of(layer)]
        near = sum(int((weight.abs() < self.threshold).sum()) for weight in weights)
        return {"weights/near_zero": near / max(1, sum(weight.numel() for weight in weights))}


@contextmanager
def _activations(network: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Record the outputs of each activation of the network within the context, by its path."""
    outputs: dict[str, list[Tensor]] = {}
    hooks = []
    for name, module in network.named_modules():
        if type(module).__module__ == nn.ReLU.__module__:

            def record_output(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                if isinstance(output, Tensor):
                    step = max(1, output.numel() // MAX_HISTOGRAM_VALUES)
                    outputs.setdefault(name, []).append(output.flatten()[::step].clone())

            hooks.append(module.register_forward_hook(record_output))
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _flat(tensors: list[Any]) -> Tensor:
    return torch.cat([tensor.detach().flatten().float() for tensor in tensors])
