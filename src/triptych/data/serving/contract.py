"""What a data set says of a model that is to be used without this project."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class Port:
    """A named tensor that goes into the graph or comes out of it.

    Attributes:
        name: its name in the exported file; of an output, that of its column in the model's ``predict`` too.
        dtype: of NumPy and of torch, such as ``uint8``.
        shape: a name for each side that may have any length; the same name, the same length.
        text: what it holds, with its unit.
        tolerance: how far an exported value may lie from PyTorch's.
        relative: whether that is a share of PyTorch's value.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    text: str
    tolerance: float = 0.0
    relative: bool = False


@dataclass(frozen=True)
class Sample:
    """Raw inputs, one tensor a port, and the batch that training's own code makes of them."""

    raw: tuple[Tensor, ...]
    prepared: Tensor


@dataclass(frozen=True)
class Serving:
    """A model from raw inputs to answers, and what it takes to export, check and describe it.

    Attributes:
        graph: takes one tensor for each of ``inputs`` and gives a tuple with one for each of ``outputs``; torch.export
            must be able to follow it, with sides of any length.
        inputs: what goes in.
        outputs: what comes out.
        samples: real inputs, of several sizes where any size may come.
        facts: what a user must know to read the numbers: classes, the threshold, what the codes of a column mean.
        limits: sentences on what it does not do.
    """

    graph: nn.Module
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    samples: Sequence[Sample]
    facts: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = ()
