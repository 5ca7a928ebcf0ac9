"""Trace a model into a graph with torch.export."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.export import Dim, ExportedProgram, ShapesCollection

from triptych.results.export.errors import ExportError, first_line, quiet

EXAMPLE_LENGTHS = (3, 83, 101, 53)
"""Lengths of the named dimensions during tracing: distinct primes, so that no relation among them holds by chance."""


def example_shapes(ports: Sequence[Any]) -> list[tuple[int, ...]]:
    """Return an example shape for each port, with a distinct length for each named dimension."""
    named = dict.fromkeys(side for port in ports for side in port.shape if isinstance(side, str))
    lengths: dict[Any, int] = dict(zip(named, EXAMPLE_LENGTHS, strict=False))
    return [tuple(lengths.get(side, side) for side in port.shape) for port in ports]


def trace(serving: Any) -> ExportedProgram:
    """Trace the graph of a ``Serving``, with its named dimensions dynamic.

    Raises:
        ExportError: torch.export cannot trace it.
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
        # torch.export raises many kinds of errors, and the network may be anything.
        raise ExportError(f"torch.export cannot follow the model: {first_line(error)}") from error
    for node in program.graph.nodes:
        # Source lines of each node, with paths on this machine.
        node.meta.pop("stack_trace", None)
    return program
