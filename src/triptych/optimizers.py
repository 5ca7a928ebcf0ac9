"""Optimizers that torch does not have."""

from collections import defaultdict
from collections.abc import Callable, Sequence
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
        fused: whether AdamW takes all that is its own in one kernel.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.002,
        betas: tuple[float, float] = (0.9, 0.999),
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        fused: bool = False,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"optimizer.momentum={momentum}: expected a number from 0 to below 1")
        super().__init__(params, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay, fused=fused or None)
        for group in self.param_groups:
            group.setdefault("momentum", momentum)
        self.orthogonalized: dict[int, Graphed] = defaultdict(lambda: Graphed(_all_orthogonal))
        """For each group of parameters, by its number."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.orthogonalized = defaultdict(lambda: Graphed(_all_orthogonal))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure`` computes the gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients: list[tuple[Tensor, Tensor]] = []
        for number, group in enumerate(self.param_groups):
            matrices = [weight for weight in group["params"] if weight.grad is not None and _is_matrix(weight)]
            if not matrices:
                continue
            self._step_matrices(matrices, group, self.orthogonalized[number])
            for weight in matrices:
                gradients.append((weight, weight.grad))
                weight.grad = None  # AdamW passes over it
        super().step()
        for weight, gradient in gradients:
            weight.grad = gradient
        return loss

    def _step_matrices(self, weights: list[Tensor], group: dict[str, Any], orthogonalized: "Graphed") -> None:
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(weight)
                state["step"] = torch.tensor(0.0)  # AdamW looks for one in every state that it loads
        # Many small tensors: torch's foreach functions take them in a few kernels on a GPU.
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        means = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, means, group["momentum"])
        directions = orthogonalized(ahead)
        lengths = [-group["lr"] * 0.2 * max(len(weight), weight[0].numel()) ** 0.5 for weight in weights]
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, torch._foreach_mul(directions, lengths))


class Graphed:
    """A function from tensors to tensors, on a GPU as one CUDA graph: what it launches takes longer than it computes.

    Args:
        function: does the same for whatever values tensors of the same shapes have. What it returns on a GPU lies where
            the next call's results will lie.
    """

    def __init__(self, function: Callable[[Sequence[Tensor]], list[Tensor]]) -> None:
        self.function = function
        self.inputs: list[Tensor] = []

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        if not inputs[0].is_cuda:
            return self.function(inputs)
        if [(each.shape, each.device) for each in inputs] != [(each.shape, each.device) for each in self.inputs]:
            self._record(inputs)
        torch._foreach_copy_(self.inputs, list(inputs))
        self.graph.replay()
        return self.outputs

    def _record(self, inputs: Sequence[Tensor]) -> None:
        self.inputs = [each.clone() for each in inputs]
        aside, here = torch.cuda.Stream(), torch.cuda.current_stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            self.function(self.inputs)  # libraries allocate at their first call, which a graph must not
        here.wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        # Other threads, which write pictures or pin memory, go on meanwhile.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.outputs = self.function(self.inputs)


def _is_matrix(weight: Tensor) -> bool:
    return weight.ndim > 1 and len(weight) > 1 and weight[0].numel() > 1


def _all_orthogonal(weights: Sequence[Tensor]) -> list[Tensor]:
    # Strides and all, or the foreach functions would take them one by one.
    return [torch.empty_like(weight).copy_(orthogonal(weight.flatten(1)).view(weight.shape)) for weight in weights]


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
