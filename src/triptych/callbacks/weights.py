"""How weights and activations are distributed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from triptych.callbacks.layers import layers_with_weights, weights_of
from triptych.callbacks.measurement import Measurement, check_from_one

MOST = 100_000
"""Values of a layer's activations that go into its histogram, taken at even distances."""


class Weights(Measurement):
    """Log the share of weights that are nearly zero, and draw histograms in TensorBoard.

    ``weights/near_zero`` is the share of all elements of matrices and kernels, what ``model.l1`` pulls at, whose
    absolute value is below ``threshold``: steps along a gradient bring a weight near zero, and hardly ever to it. The
    histograms are of each layer's weights, and of what each activation (``nn.ReLU``, ``nn.Sigmoid``, ...) gives for
    validation samples.

    Args:
        every_n_epochs: see Measurement.
        threshold: from here on a weight is no longer nearly zero.
        samples: validation samples for the histograms of activations.
    """

    key = "weights"

    def __init__(self, every_n_epochs: int, threshold: float = 1e-3, samples: int = 32) -> None:
        super().__init__(every_n_epochs)
        if threshold <= 0:
            raise ValueError(f"callbacks.weights.threshold={threshold}: expected a number above 0")
        check_from_one("weights.samples", samples)
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
    """What each activation of the network gives while this lasts, by its path."""
    outputs: dict[str, list[Tensor]] = {}
    hooks = []
    for name, module in network.named_modules():
        if type(module).__module__ == nn.ReLU.__module__:

            def keep(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                if isinstance(output, Tensor):
                    step = max(1, output.numel() // MOST)
                    outputs.setdefault(name, []).append(output.flatten()[::step].clone())

            hooks.append(module.register_forward_hook(keep))
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _flat(tensors: list[Any]) -> Tensor:
    return torch.cat([tensor.detach().flatten().float() for tensor in tensors])
