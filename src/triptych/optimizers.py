"""Optimizers that torch does not have."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

ITERATIONS = 5
"""Of Newton and Schulz: enough for singular values between about 0.7 and 1.2."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of their polynomial, in the first, third and fifth power, chosen by Jordan et al. for steepness at zero."""


class Muon(AdamW):
    """Steps whose singular values are all alike, for matrices and kernels; AdamW for everything else.

    "Muon: An optimizer for hidden layers in neural networks" (Jordan et al. 2024): the momentum of a weight matrix is
    replaced by the nearest matrix with orthogonal rows or columns, so that directions with small gradients are learned
    as fast as those with large ones. A kernel (out, in, height, width) counts as a matrix (out, in x height x width).
    The step is scaled to the size that AdamW's has ("Muon is scalable for LLM training", Liu et al. 2025), so that
    learning rates and weight decay carry over from there. A single row or column has no directions to even out.

    ``torch.optim.Muon`` takes matrices only, and computes in bfloat16, which many CPUs do not multiply.

    Args:
        params: as for AdamW.
        lr: learning rate.
        betas: AdamW's, for biases, norms, and weights of a single row or column.
        momentum: decay of the running mean of the gradient; it looks ahead as Nesterov's does.
        weight_decay: pull towards zero.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.002,
        betas: tuple[float, float] = (0.9, 0.999),
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"optimizer.momentum={momentum}: expected a number from 0 to below 1")
        super().__init__(params, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay)
        for group in self.param_groups:
            group.setdefault("momentum", momentum)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure`` computes the gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None or not _is_matrix(weight):
                    continue
                self._step_matrix(weight, weight.grad, group)
                gradients.append((weight, weight.grad))
                weight.grad = None  # AdamW passes over it
        super().step()
        for weight, gradient in gradients:
            weight.grad = gradient
        return loss

    def _step_matrix(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
            state["step"] = torch.tensor(0.0)  # AdamW looks for one in every state that it loads
        state["step"] += 1
        mean = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(mean, group["momentum"])
        direction = orthogonal(ahead.flatten(1)).view(weight.shape)
        rows, columns = len(weight), weight[0].numel()
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(direction, alpha=-group["lr"] * 0.2 * max(rows, columns) ** 0.5)


def _is_matrix(weight: Tensor) -> bool:
    return weight.ndim > 1 and len(weight) > 1 and weight[0].numel() > 1


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthogonal rows or columns, roughly: the same singular vectors, singular values near 1.

    By Newton and Schulz's iteration, which takes products alone. (rows, columns) -> (rows, columns).
    """
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp_min(1e-7)
    # All that multiplies the matrix is made of its Gram matrix, which is several times smaller than a kernel.
    gram = wide @ wide.T
    factor = torch.eye(len(wide), dtype=wide.dtype, device=wide.device)
    first, third, fifth = COEFFICIENTS
    for _ in range(ITERATIONS):
        polynomial = torch.addmm(gram, gram, gram, beta=third, alpha=fifth)
        polynomial.diagonal().add_(first)
        factor = polynomial @ factor
        gram = polynomial @ gram @ polynomial
    wide = factor @ wide
    return wide if len(matrix) <= matrix.shape[1] else wide.T
