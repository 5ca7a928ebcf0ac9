"""Replacements for operators that ONNX lacks, compared with torch's."""

import pytest
import torch

from triptych.results.export.decompositions import normal_quantile, search_sorted, solve, solve_ex


def test_normal_quantile_equals_torchs():
    p = torch.cat([torch.tensor([1e-200, 1e-12, 1e-7, 0.075, 0.5, 0.925, 1 - 1e-7]), torch.rand(1000)]).double()
    torch.testing.assert_close(normal_quantile(p), torch.special.ndtri(p), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(normal_quantile(p.float()), torch.special.ndtri(p).float(), rtol=1e-5, atol=1e-6)
    assert normal_quantile(torch.tensor([0.0, 1.0])).tolist() == [-torch.inf, torch.inf]


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("size", [1, 2, 7, 8, 256])
def test_search_sorted_equals_torchs(size: int, right: bool):
    rows = torch.randint(0, 20, (3, size)).float().sort(dim=1).values
    values = torch.arange(-1, 22).float().expand(3, -1)
    found = search_sorted(rows, values, right=right)
    assert found.equal(torch.searchsorted(rows, values.contiguous(), right=right))


@pytest.mark.parametrize("size", [1, 2, 33])
def test_solve_equals_torchs(size: int):
    half = torch.randn(4, size, size + 3, dtype=torch.double)
    matrix, right = half @ half.mT, torch.randn(4, size, 2, dtype=torch.double)
    torch.testing.assert_close(solve(matrix, right), torch.linalg.solve(matrix, right))
    for ours, torchs in zip(solve_ex(matrix, right), torch.linalg.solve_ex(matrix, right), strict=True):
        torch.testing.assert_close(ours, torchs)


def test_unsupported_systems_are_refused():
    for options in ({"left": False}, {"right": torch.ones(2)}):
        with pytest.raises(NotImplementedError, match="AX = B"):
            solve(**({"matrix": torch.eye(2), "right": torch.eye(2)} | options))
