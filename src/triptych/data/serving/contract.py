"""Description of an exported model, which a data set returns from ``serving``: its graph, tensors and samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class Port:
    """A named input or output tensor of the graph.

    Attributes:
        name: its name in the exported file; for an output, also that of its column in the model's ``predict``.
        dtype: name of the dtype in NumPy and torch, such as ``uint8``.
        shape: sizes, with a name for each dynamic dimension; dimensions of the same name have the same size.
        text: what it holds, with its unit.
        tolerance: largest accepted difference between an exported value and PyTorch's.
        relative: whether the tolerance is a share of PyTorch's value.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    text: str
    tolerance: float = 0.0
    relative: bool = False


@dataclass(frozen=True)
class Sample:
    """Raw inputs, one tensor per input port, and the batch that the training code makes of them."""

    raw: tuple[Tensor, ...]
    prepared: Tensor


@dataclass(frozen=True)
class Serving:
    """A model from raw inputs to answers, and what is needed to export, verify and describe it.

    Attributes:
        graph: takes one tensor for each of ``inputs``, returns a tuple with one for each of ``outputs``; torch.export
            must be able to trace it with dynamic dimensions.
        inputs: the input tensors.
        outputs: the output tensors.
        samples: real inputs, of several sizes if any size is accepted.
        facts: what a user must know to interpret the numbers: classes, threshold, meaning of a column's codes.
        limits: sentences on the model's limitations.
    """

    graph: nn.Module
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    samples: Sequence[Sample]
    facts: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = ()
