"""Log the gradient norm of each layer, which shows vanishing and exploding gradients."""

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from triptych.callbacks.layers import layers_with_weights, weights_of
from triptych.callbacks.measurement import check_at_least_one


class GradientFlow(Callback):
    """Log the norm of the gradient of each layer's weights, from the first layer of the forward pass to the last.

    A good initialisation keeps the Euclidean norm of a layer's weight gradient about the same from layer to layer,
    whatever their widths (Glorot and Bengio 2010; He et al. 2015). Logged as ``gradient/00-<layer>``,
    ``gradient/01-<layer>``, ...; and as ``gradient/first_to_last``, the first layer's norm divided by the last one's,
    NaN if that is 0: far below 1 the gradient vanishes on its way back, far above 1 it explodes. The norms are measured
    after the backward pass, before clipping, and sent to every logger at that step. With sharded weights (FSDP), no
    layer has weights of its own to measure.

    Args:
        every_n_steps: steps between two measurements, the first step included. The last batch of each epoch is
            measured too, so that the norms appear in the row of the epoch's metrics. With 0 the Trainer is built
            without the callback.
    """

    def __init__(self, every_n_steps: int) -> None:
        check_at_least_one("gradient_flow.every_n_steps", every_n_steps)
        self.every_n_steps = every_n_steps
        self.layers: dict[str, nn.Module] = {}
        self.hooks: list[RemovableHandle] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Modules are listed in the order of their creation: the first forward pass shows the order of their use.
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
    """The loss scale that the gradients still contain: a fused optimizer unscales them only in its step."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    own = getattr(optimizer, "_step_supports_amp_scaling", False)
    return scaler.get_scale() if scaler is not None and own else 1.0


def _norm(layer: nn.Module) -> float:
    """Euclidean norm of the layer's weight gradient; 0 if the layer is frozen."""
    gradients = [weight.grad for weight in weights_of(layer) if weight.grad is not None]
    # In float64: the square of the gradient below twenty sigmoids is close to the limit of float32.
    return math.sqrt(sum(float(gradient.cpu().double().square().sum()) for gradient in gradients))
