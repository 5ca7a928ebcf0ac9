"""How much of the gradient reaches each layer."""

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from triptych.callbacks.layers import layers_with_weights, weights_of
from triptych.callbacks.measurement import check_from_one


class GradientFlow(Callback):
    """Log how large the gradient is at each layer's weights, from the first layer of the forward pass to the last.

    The size is the Euclidean norm of the layer's weight gradient: a good initialisation keeps it much the same from
    layer to layer, whatever their widths (Glorot and Bengio 2010; He et al. 2015). Logged as
    ``gradient/00-<layer>``, ``gradient/01-<layer>``, ...; and ``gradient/first_to_last``, the first layer's over the
    last one's, NaN where the last has none: far below 1 the gradient vanishes on its way back, far above it explodes.
    Taken after the backward pass, before clipping, and sent to every logger at that very step. Where several devices
    hold a network in parts (FSDP), no layer has weights of its own to measure.

    Args:
        every_n_steps: steps between two measurements, the first step included. The last batch of each epoch has one
            too, so that they stand beside the epoch's other metrics. With 0 the Trainer is built without the callback.
    """

    def __init__(self, every_n_steps: int) -> None:
        check_from_one("gradient_flow.every_n_steps", every_n_steps)
        self.every_n_steps = every_n_steps
        self.layers: dict[str, nn.Module] = {}
        self.hooks: list[RemovableHandle] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Modules are listed in the order in which they were made: the first batch shows in which order they are used.
        self.layers.clear()
        for name, layer in layers_with_weights(pl_module.network).items():  # type: ignore[arg-type]

            def note(module: nn.Module, *_: Any, name: str = name) -> None:
                self.layers.setdefault(name, module)

            self.hooks.append(layer.register_forward_pre_hook(note))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        while self.hooks:
            self.hooks.pop().remove()
        if trainer.global_step % self.every_n_steps and not trainer.is_last_batch:
            return
        scale = _scale(trainer, optimizer)
        sizes = [_norm(layer) / scale for layer in self.layers.values()]
        values = {f"gradient/{index:02d}-{name}": sizes[index] for index, name in enumerate(self.layers)}
        values["gradient/first_to_last"] = sizes[0] / sizes[-1] if sizes and sizes[-1] else math.nan
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)


def _scale(trainer: Trainer, optimizer: Optimizer) -> float:
    """By what the gradients are too large still: a fused optimizer takes the loss's scale back in its own step."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    own = getattr(optimizer, "_step_supports_amp_scaling", False)
    return scaler.get_scale() if scaler is not None and own else 1.0


def _norm(layer: nn.Module) -> float:
    """Of the layer's weight gradient; 0 where it is frozen."""
    gradients = [weight.grad for weight in weights_of(layer) if weight.grad is not None]
    # In double precision: the square of what is left below twenty sigmoids is near the end of single precision.
    return math.sqrt(sum(float(gradient.cpu().double().square().sum()) for gradient in gradients))
