"""A model as a graph, by torch.export."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.export import Dim, ExportedProgram, ShapesCollection

from triptych.results.export.errors import ExportError, first_line, quiet

EXAMPLE_LENGTHS = (3, 83, 101, 53)
"""Of the named sides while the graph is traced. Primes, all different: what holds for them by chance holds for all."""


def example_shapes(ports: Sequence[Any]) -> list[tuple[int, ...]]:
    """A shape for each port, with a length of its own for each named side."""
    named = dict.fromkeys(side for port in ports for side in port.shape if isinstance(side, str))
    lengths: dict[Any, int] = dict(zip(named, EXAMPLE_LENGTHS, strict=False))
    return [tuple(lengths.get(side, side) for side in port.shape) for port in ports]


def trace(serving: Any) -> ExportedProgram:
    """The graph of a ``Serving``, whose named sides may have any length.

    Raises:
        ExportError: torch.export cannot follow it.
    """
    inputs = tuple(
        torch.zeros(shape, dtype=getattr(torch, port.dtype))
        for shape, port in zip(example_shapes(serving.inputs), serving.inputs, strict=True)
    )
    sides = ShapesCollection()
    for tensor, port in zip(inputs, serving.inputs, strict=True):
        sides[tensor] = {axis: Dim.DYNAMIC for axis, side in enumerate(port.shape) if isinstance(side, str)}
    try:
        with torch.no_grad(), quiet():
            program = torch.export.export(serving.graph.eval(), inputs, dynamic_shapes=sides, strict=False)
    except Exception as error:
        # Torch's own errors of many kinds, for a network of any origin.
        raise ExportError(f"torch.export cannot follow the model: {first_line(error)}") from error
    for node in program.graph.nodes:
        # The lines of code that each step comes from, with the paths of this machine.
        node.meta.pop("stack_trace", None)
    return program
