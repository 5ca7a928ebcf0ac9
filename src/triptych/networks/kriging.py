"""Kriging: the prediction of a Gaussian process, from the nearest training rows alone."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from triptych.networks.layers import Positive, columns, start_at_zero
from triptych.networks.nearest import NearestRows, Neighbours, squared_distances


class LocalKriging(nn.Module):
    """A Gaussian process that sees, for each row, its nearest training rows (Vecchia 1988; Datta et al. 2016).

    The covariance of two rows falls exponentially with their distance in place, and as a Gaussian with each difference
    in what describes them, in `COMPONENTS` components of different reach; two more let the target depend linearly on
    the description, with coefficients that change slowly from place to place. To the describing columns come
    `features` learnt ones (deep kernel learning, Wilson et al. 2016), and the noise of a row is learnt from the row.
    As no row is a neighbour of its own, the training loss is the leave-one-out error (Sundararajan and Keerthi 2001),
    and there are too few parameters to memorise rows.

    Args:
        num_features: columns of a row.
        place: the two columns that are coordinates of the place.
        similar: further columns that describe a row.
        aspect: by what the first coordinate is multiplied.
        neighbours: nearest rows that are seen.
        features: learnt features.
        width: units of the two hidden layers that learn them, and the noise.
        dropout: probability of dropping such a unit.
    """

    COMPONENTS = 3
    JITTER = 3e-3
    """Variance that all noise has at least: rows at one place are never taken for the same."""
    SPEED = 10.0
    """Logarithms of amplitudes and lengths, and the trend, move so much faster than weights."""

    def __init__(
        self,
        num_features: int,
        place: Sequence[int],
        similar: Sequence[int],
        aspect: float = 1.0,
        neighbours: int = 32,
        features: int = 4,
        width: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.place, self.similar, self.aspect, self.neighbours = list(place), list(similar), aspect, neighbours
        self.seen = [*place, *similar, *range(num_features - NearestRows.SPACINGS, num_features)]
        described = len(similar) + features
        self.learnt = nn.Sequential(
            nn.Linear(len(self.seen), width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.features = nn.Linear(width, features)
        self.noisiness = nn.Linear(width, 1)
        start_at_zero(self.noisiness)
        lengths = torch.tensor([0.015, 0.09, 0.5, 0.1, 1.5])  # of the components, then of the slopes
        self.amplitude = Positive(torch.full((self.COMPONENTS,), 0.6), self.SPEED)
        self.length = Positive(lengths, self.SPEED)
        self.scale = Positive(torch.full((self.COMPONENTS, described), 4.0), self.SPEED)
        self.slope = Positive(torch.full((2, described), 0.2), self.SPEED)
        self.trend = nn.Linear(described, 1, bias=False)
        start_at_zero(self.trend)
        self.noise = Positive(torch.tensor([0.4]), self.SPEED)

    def forward(self, near: Neighbours) -> Tensor:
        """Rows and their neighbours -> scaled targets (N,)."""
        precise = torch.promote_types(near.row.dtype, torch.float32)  # half of that is too little for what follows
        row, rows, targets = (values.to(precise) for values in near[:3])
        with torch.autocast(row.device.type, enabled=False):
            return self._predict(row, rows[:, : self.neighbours], targets[:, : self.neighbours])

    def _predict(self, x: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        everyone = torch.cat([rows, x[:, None]], dim=1)  # the row itself comes last
        learnt = self.learnt(columns(everyone, self.seen))
        description = torch.cat([columns(everyone, self.similar), self.features(learnt)], dim=2)
        covariance = self._covariance(columns(everyone, self.place), description)
        noise = (self.noise() * torch.exp(self.noisiness(learnt[:, :-1]).squeeze(2))).square() + self.JITTER
        among = covariance[:, :-1, :-1] + torch.diag_embed(noise)
        to_row = covariance[:, :-1, -1:]
        # Without a look whether all went well, for which a GPU's host would wait.
        weights = torch.linalg.solve_ex(among, to_row).result.squeeze(2)
        trend = self.SPEED * self.trend(description).squeeze(2)
        return trend[:, -1] + (weights * (targets - trend[:, :-1])).sum(dim=1)

    def _covariance(self, place: Tensor, description: Tensor) -> Tensor:
        """Places (N, K, 2) and descriptions (N, K, D) -> covariances (N, K, K) without noise."""
        east, north = place.unbind(dim=2)
        east = self.aspect * east
        squared = (east[:, :, None] - east[:, None]).square() + (north[:, :, None] - north[:, None]).square()
        distance = (squared + 1e-6).sqrt()  # which has a gradient at one place too
        lengths = self.length()
        total = torch.ones_like(distance)  # of a mean that is not known
        for component, (amplitude, scale) in enumerate(zip(self.amplitude(), self.scale(), strict=True)):
            scaled = description / scale
            differences = squared_distances(scaled, scaled).clamp(min=0)
            total = total + amplitude.square() * torch.exp(-distance / lengths[component] - differences / 2)
        for slope, length in zip(self.slope(), lengths[self.COMPONENTS :], strict=True):
            sloped = description * slope
            total = total + sloped @ sloped.mT * torch.exp(-distance / length)
        return total
