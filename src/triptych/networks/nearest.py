"""The rows that were seen in training, and which of them lie nearest to a row."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from triptych.networks.layers import columns


class Neighbours(NamedTuple):
    """N rows and the nearest training rows of each, the nearest first; spacings are further columns of all rows."""

    row: Tensor
    """(N, features + SPACINGS)."""
    rows: Tensor
    """(N, count, features + SPACINGS)."""
    targets: Tensor
    """(N, count)."""
    distances: Tensor
    """(N, count) between the places."""


class NearestRows(nn.Module):
    """All training rows and their targets, of which the nearest are looked up.

    Nearest is first of all near in place. What else describes a row counts as little as `SIMILARITY`, to choose among
    rows at one place. A row is never a neighbour of its own: in training the training row that is nearest to it in all
    columns is left out, which is the row itself unless noise was added that moved it towards another; afterwards a row
    that is the same in all columns is, if there is one.

    How far the neighbours are says whether a row lies in a town or in the country. So each row gets further columns,
    its spacings: the logarithms of the distances to the fourth, the sixteenth and the last neighbour, scaled to mean 0
    and standard deviation 1.

    There may be fewer training rows than `count`; then all others are neighbours.

    Args:
        num_features: columns of a row.
        place: the two columns that are coordinates of the place.
        similar: further columns that describe a row.
        count: neighbours of a row.
        aspect: by what the first coordinate is multiplied, so that both are in one unit.
    """

    SIMILARITY = 0.01
    SAME = 1e-4
    """Rows that differ by less in all columns are one: a file is not scaled to the last digit everywhere."""
    SPACINGS = 3
    rows: Tensor
    spacings: Tensor
    targets: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(
        self, num_features: int, place: Sequence[int], similar: Sequence[int], count: int, aspect: float = 1.0
    ) -> None:
        super().__init__()
        if len(place) != 2:
            raise ValueError(f"model.columns.place: {len(place)} columns; a place has two coordinates")
        self.place = list(place)
        self.similar = list(similar)
        self.count = count
        self.aspect = aspect
        self.register_buffer("rows", torch.zeros(0, num_features))
        self.register_buffer("spacings", torch.zeros(0, self.SPACINGS))
        self.register_buffer("targets", torch.zeros(0))
        self.register_buffer("mean", torch.zeros(self.SPACINGS))
        self.register_buffer("deviation", torch.ones(self.SPACINGS))

    def fit(self, x: Tensor, y: Tensor) -> None:
        """Remember the training rows (N, num_features) and their targets (N,)."""
        self.rows, self.targets = x.to(self.rows), y.to(self.targets)
        spacings = torch.cat([self._spacings(self._look_up(few)[1]) for few in self.rows.split(512)])
        self.mean.copy_(spacings.mean(dim=0))
        self.deviation.copy_(spacings.std(dim=0, correction=0).clamp(min=1e-3))
        self.spacings = (spacings - self.mean) / self.deviation

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # As many rows as the checkpoint has, or torch would refuse them.
        for name in ("rows", "spacings", "targets"):
            if isinstance(saved := state_dict.get(prefix + name), Tensor) and saved.ndim:
                own: Tensor = getattr(self, name)
                setattr(self, name, own.new_empty(len(saved), *own.shape[1:]))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Neighbours:
        """(N, num_features) -> their neighbours."""
        with torch.autocast(x.device.type, enabled=False):  # in bfloat16 a row is not always the nearest to itself
            index, distances = self._look_up(x)
        row = torch.cat([x, (self._spacings(distances) - self.mean) / self.deviation], dim=1)
        rows = torch.cat([self.rows[index], self.spacings[index]], dim=2)
        return Neighbours(row, rows, self.targets[index], distances)

    def _look_up(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers of the nearest training rows, and their distances, both (N, count)."""
        squared = squared_distances(columns(x, self.similar), columns(self.rows, self.similar)) * self.SIMILARITY**2
        for column, aspect in zip(self.place, (self.aspect, 1.0), strict=True):
            # One column at a time, for a product of matrices would lose the digits that tell near places apart.
            squared = squared + (aspect * (x[:, column, None] - self.rows[:, column])).square()
        count = min(self.count, max(len(self.rows) - 1, 0))
        if count:
            alike = squared_distances(x, self.rows).argmin(dim=1)
            own = torch.arange(len(self.rows), device=x.device) == alike[:, None]
            if not self.training:
                own = own & ((x - self.rows[alike]).abs().amax(dim=1, keepdim=True) < self.SAME)
            squared = squared.masked_fill(own, math.inf)
        index = squared.topk(count, largest=False).indices
        east, north = (x[:, column, None] - self.rows[:, column][index] for column in self.place)
        return index, ((self.aspect * east).square() + north.square()).sqrt()

    def _spacings(self, distances: Tensor) -> Tensor:
        """Distances (N, count) -> (N, SPACINGS)."""
        last = distances.shape[1] - 1
        if last < 0:
            return distances.new_zeros(len(distances), self.SPACINGS)
        return (columns(distances, [min(3, last), min(15, last), last]) + 1e-3).log()


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """From a product of matrices, so but for rounding: between rows (..., N, F) and (..., M, F) -> (..., N, M)."""
    return a.square().sum(dim=-1)[..., None] + b.square().sum(dim=-1)[..., None, :] - 2 * a @ b.mT
