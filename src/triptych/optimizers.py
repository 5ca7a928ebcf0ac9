"""The Muon optimizer, which orthogonalises the updates of matrices and kernels."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

ITERATIONS = 5
"""Newton-Schulz iterations: enough for singular values between about 0.7 and 1.2."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz polynomial: first, third and fifth power, chosen by Jordan et al. for a steep slope at zero."""


class Muon(AdamW):
    """Muon: orthogonalised updates, with equal singular values, for matrices and kernels; AdamW for everything else.

    "Muon: An optimizer for hidden layers in neural networks" (Jordan et al. 2024): the momentum of a weight matrix is
    replaced by the nearest matrix with orthogonal rows or columns, so that directions with small gradients are learned
    as fast as those with large ones. A kernel (out, in, height, width) is treated as a matrix (out, in x height x
    width), and a weight (members, in, out) as one matrix per member. As the biases of several members look like a
    matrix too, all parameters of a group with ``"matrices": False`` are left to AdamW, and so are weights of a single
    row or column, which have no directions to even out. Updates are scaled to the size of AdamW's ("Muon is scalable
    for LLM training", Liu et al. 2025), so that its learning rates and weight decay can be kept.

    ``torch.optim.Muon`` accepts matrices only, and computes in bfloat16, which many CPUs cannot multiply natively.

    Args:
        params: as for AdamW.
        lr: learning rate.
        betas: AdamW's, for biases, norms, and weights of a single row or column.
        momentum: decay of the running mean of the gradient, used as Nesterov momentum.
        weight_decay: decoupled weight decay.
        fused: whether AdamW updates its own parameters in one fused kernel.

    Raises:
        ValueError: ``momentum`` is below 0, or 1 or more.
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
        # A fused AdamW would unscale the gradients itself, but here it does not see all of them.
        self._step_supports_amp_scaling = False
        self.orthogonalized = Graphed(_all_orthogonal)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.orthogonalized = Graphed(_all_orthogonal)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one optimisation step; ``closure``, if given, computes the gradients first and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = [(group, _matrices(group["params"])) for group in self.param_groups if group.get("matrices", True)]
        groups = [(group, weights) for group, weights in groups if weights]
        ahead = [tensor for group, weights in groups for tensor in self._momentum(weights, group)]
        directions = iter(self.orthogonalized(ahead) if ahead else [])
        for group, weights in groups:
            _move(weights, [next(directions) for _ in weights], group)
        moved = [(weight, weight.grad) for _, weights in groups for weight in weights]
        for weight, _ in moved:
            weight.grad = None  # so that AdamW skips it
        super().step()
        for weight, gradient in moved:
            weight.grad = gradient
        return loss

    def _momentum(self, weights: list[Tensor], group: dict[str, Any]) -> Sequence[Tensor]:
        """Update the running means of the gradients, and return the Nesterov momentum."""
        for weight in weights:
            if not self.state[weight]:
                # AdamW expects a `step` in every state that it loads.
                self.state[weight] = {"momentum_buffer": torch.zeros_like(weight), "step": torch.tensor(0.0)}
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        means = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        return torch._foreach_lerp(gradients, means, group["momentum"])


def _move(weights: list[Tensor], directions: list[Tensor], group: dict[str, Any]) -> None:
    """Decay the weights, and move them along the directions."""
    # With many small tensors, torch's foreach functions need only a few kernels on a GPU.
    lengths = [-group["lr"] * 0.2 * max(_sides(weight)) ** 0.5 for weight in weights]
    torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
    torch._foreach_add_(weights, torch._foreach_mul(directions, lengths))


class Graphed:
    """A function of tensors that runs as a CUDA graph on a GPU, where launching its kernels takes longer than they run.

    One graph is recorded for each list of shapes, up to MOST; for further lists the function is called as usual.

    Args:
        function: runs the same kernels whatever the values of its input tensors. On a GPU, the next call overwrites the
            tensors that it has returned.
    """

    MAX_GRAPHS = 4

    def __init__(self, function: Callable[[Sequence[Tensor]], list[Tensor]]) -> None:
        self.function = function
        self.graphs: dict[tuple[Any, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], list[Tensor]]] = {}
        """Each graph with the tensors that it reads and those that it writes."""

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        if not inputs[0].is_cuda:
            return self.function(inputs)
        key = tuple((each.shape, each.stride(), each.dtype, each.device) for each in inputs)
        with torch.cuda.device(inputs[0].device):  # for the streams below
            if key not in self.graphs and len(self.graphs) < self.MAX_GRAPHS:
                self.graphs[key] = self._record(inputs)
            if key not in self.graphs:
                return self.function(inputs)
            graph, read, written = self.graphs[key]
            torch._foreach_copy_(read, list(inputs))
            graph.replay()
        return written

    def _record(self, inputs: Sequence[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], list[Tensor]]:
        read = [each.clone() for each in inputs]
        aside, here = torch.cuda.Stream(), torch.cuda.current_stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            self.function(read)  # warm-up: libraries allocate at their first call, which is not allowed in a graph
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # The graph must own its cuBLAS workspace: the one cached for a stream is freed when a compiled network's CUDA
        # graphs are recorded (torch._inductor.cudagraph_trees, which does the same).
        torch._C._cuda_clearCublasWorkspaces()
        # Other threads, which write pictures or pin memory, may call CUDA meanwhile.
        with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            written = self.function(read)
        torch._C._cuda_clearCublasWorkspaces()
        return graph, read, written


def _matrices(weights: Sequence[Tensor]) -> list[Tensor]:
    return [weight for weight in weights if weight.grad is not None and _is_matrix(weight)]


def _is_matrix(weight: Tensor) -> bool:
    return weight.ndim > 1 and weight.numel() > 0 and min(_sides(weight)) > 1


def _sides(weight: Tensor) -> tuple[int, int]:
    """Rows and columns of a weight as a matrix, or of its matrices if it has several."""
    return (weight.shape[1], weight.shape[2]) if weight.ndim == 3 else (len(weight), weight[0].numel())


def _all_orthogonal(weights: Sequence[Tensor]) -> list[Tensor]:
    # With the strides of the weights too: otherwise the foreach functions would process them one by one.
    return [torch.empty_like(weight).copy_(_orthogonal(weight)) for weight in weights]


def _orthogonal(weight: Tensor) -> Tensor:
    if weight.ndim == 3:
        return torch.stack([orthogonal(matrix) for matrix in weight])
    return orthogonal(weight.flatten(1)).view(weight.shape)


def orthogonal(matrix: Tensor) -> Tensor:
    """Approximate the nearest matrix with orthogonal rows or columns: same singular vectors, singular values near 1.

    By the Newton-Schulz iteration, which needs only matrix products. (rows, columns) -> (rows, columns).
    """
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp_min(1e-7)
    # The factor of the matrix is computed from its Gram matrix alone, which is several times smaller than a kernel.
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
