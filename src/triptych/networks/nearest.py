"""Nearest-neighbour lookup among the stored training rows."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from triptych.networks.layers import columns


class Neighbours(NamedTuple):
    """N rows and the nearest training rows of each, nearest first; all rows have their spacings as last columns."""

    row: Tensor
    """(N, features + SPACINGS)."""
    rows: Tensor
    """(N, count, features + SPACINGS)."""
    targets: Tensor
    """(N, count)."""
    distances: Tensor
    """(N, count), spatial."""


class NearestRows(nn.Module):
    """Stores all training rows and their targets, and looks up the nearest ones.

    Rows are compared by spatial distance; the `similar` columns count only with the factor `SIMILARITY`, to choose
    among rows at one place. A row is never a neighbour of itself: in training, the training row that is nearest to it
    in all columns is excluded, which is the row itself unless added noise moved it towards another; in evaluation, a
    row that is the same in all columns is excluded, if there is one.

    The distances of the neighbours tell whether a row lies in a town or in the country. So each row gets further
    columns, its spacings: the logarithms of the distances to the fourth, the sixteenth and the last neighbour, scaled
    to mean 0 and standard deviation 1.

    If there are no more than `count` training rows, all others are neighbours.

    Args:
        num_features: number of columns of a row.
        place: indices of the two columns that are coordinates.
        similar: indices of further columns that describe a row.
        count: number of neighbours of a row.
        aspect: factor of the first coordinate, so that both are in one unit.

    Raises ValueError if `place` does not have two columns.
    """

    SIMILARITY = 0.01
    SAME = 1e-4
    """Rows that differ by less in all columns are the same: scaled values may vary in the last digits by platform."""
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
        """Store the training rows (N, num_features) and their targets (N,), and fit the scaling of the spacings."""
        self.rows, self.targets = x.to(self.rows), y.to(self.targets)
        spacings = torch.cat([self._spacings(self._look_up(few)[1]) for few in self.rows.split(512)])
        self.mean.copy_(spacings.mean(dim=0))
        self.deviation.copy_(spacings.std(dim=0, correction=0).clamp(min=1e-3))
        self.spacings = (spacings - self.mean) / self.deviation

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Resize the buffers to the checkpoint's number of rows: torch refuses another shape.
        for name in ("rows", "spacings", "targets"):
            if isinstance(saved := state_dict.get(prefix + name), Tensor) and saved.ndim:
                own: Tensor = getattr(self, name)
                setattr(self, name, own.new_empty(len(saved), *own.shape[1:]))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Neighbours:
        """Rows (N, num_features) -> the rows and their neighbours."""
        with torch.autocast(x.device.type, enabled=False):  # in bfloat16 a row is not always nearest to itself
            index, distances = self._look_up(x)
        row = torch.cat([x, (self._spacings(distances) - self.mean) / self.deviation], dim=1)
        rows = torch.cat([self.rows[index], self.spacings[index]], dim=2)
        return Neighbours(row, rows, self.targets[index], distances)

    def _look_up(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the nearest training rows and their spatial distances, both (N, count)."""
        squared = squared_distances(columns(x, self.similar), columns(self.rows, self.similar)) * self.SIMILARITY**2
        for column, aspect in zip(self.place, (self.aspect, 1.0), strict=True):
            # One column at a time: a matrix product would lose the digits that distinguish near places.
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
    """Of rows (..., N, F) and (..., M, F) -> (..., N, M), by a matrix product and therefore with rounding errors."""
    return a.square().sum(dim=-1)[..., None] + b.square().sum(dim=-1)[..., None, :] - 2 * a @ b.mT
