"""Decompositions of torch operators that ONNX lacks into operators that it has."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# The coefficients of Wichura's AS241 (PPND16), lowest power first.
CENTRAL = (
    (3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
     45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727),
    (1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
     21213.794301586595867, 39307.895800092710610, 28729.085735721942674, 5226.4952788528545610),
)  # fmt: skip
TAIL = (
    (1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
     1.27045825245236838258, 0.241780725177450611770, 0.0227238449892691845833, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
     0.148103976427480074590, 0.0151986665636164571966, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
FAR_TAIL = (
    (6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 0.296560571828504891230,
     0.0265321895265761230930, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip


def normal_quantile(p: Tensor) -> Tensor:
    """Quantile function of the standard normal (Wichura 1988, AS241), elementwise, in the dtype of the probabilities.

    Computes in float64, with a precision of 1e-15.
    """
    x = p.double()
    from_middle = x - 0.5
    central = from_middle * _ratio(CENTRAL, 0.180625 - from_middle * from_middle)
    # Clamped above 0 for the logarithm; a probability of 0 or 1 becomes infinite below.
    tail = torch.minimum(x, 1 - x)
    depth = tail.clamp(min=1e-300).log().neg().sqrt()
    outside = torch.where(depth <= 5, _ratio(TAIL, depth - 1.6), _ratio(FAR_TAIL, depth - 5))
    outside = torch.where(tail > 0, outside, torch.inf)
    outside = torch.where(from_middle < 0, -outside, outside)
    return torch.where(from_middle.abs() <= 0.425, central, outside).to(p.dtype)


def search_sorted(
    sorted_sequence: Tensor,
    values: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """``torch.searchsorted`` of rows, (F, Q) and (F, N) -> (F, N): a binary search with a fixed number of steps."""
    if sorter is not None:
        raise NotImplementedError("torch.searchsorted with a sorter is not exported to ONNX")
    right = right or side == "right"
    size = sorted_sequence.shape[-1]
    found = torch.zeros_like(values, dtype=torch.long)
    for step in (2**power for power in reversed(range(int(size).bit_length()))):
        further = found + step
        here = sorted_sequence.gather(-1, (further - 1).clamp(max=size - 1))
        passed = (here <= values) if right else (here < values)
        found = torch.where(passed & (further <= size), further, found)
    return found.int() if out_int32 else found


def solve(matrix: Tensor, right: Tensor, *, left: bool = True) -> Tensor:
    """``torch.linalg.solve`` of (..., N, N) and (..., N, columns) by Gauss-Jordan elimination.

    Without pivoting, which positive definite matrices, such as covariances, do not need.
    """
    if not left or right.ndim != matrix.ndim:
        raise NotImplementedError("of torch.linalg.solve, only AX = B is exported to ONNX, with B a matrix")
    size = matrix.shape[-1]
    identity = torch.eye(size, dtype=matrix.dtype)
    both = torch.cat([matrix, right], dim=-1)
    for step in range(size):
        here = slice(step, step + 1)
        row = both[..., here, :] / both[..., here, here]
        both = both - (both[..., here] - identity[:, here]) * row
    return both[..., size:]


def solve_ex(matrix: Tensor, right: Tensor, *, left: bool = True, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """``torch.linalg.solve_ex``: the result of ``solve``, and zeros for ``info`` (success)."""
    return solve(matrix, right, left=left), torch.zeros(matrix.shape[:-2], dtype=torch.int32)


def table() -> dict[Any, Callable[..., Any]]:
    """Return the decompositions by operator, for ``ExportedProgram.run_decompositions``."""
    return {
        torch.ops.aten.special_ndtri.default: normal_quantile,
        torch.ops.aten.searchsorted.Tensor: search_sorted,
        torch.ops.aten.linalg_solve.default: solve,  # for users' networks
        torch.ops.aten.linalg_solve_ex.default: solve_ex,
    }


def _ratio(coefficients: tuple[Sequence[float], Sequence[float]], x: Tensor) -> Tensor:
    """Evaluate a rational function, given the coefficients of numerator and denominator."""
    above, below = (_polynomial(numbers, x) for numbers in coefficients)
    return above / below


def _polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value
