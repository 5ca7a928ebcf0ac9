"""Local kriging: Gaussian-process regression on the nearest training rows."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from triptych.networks.layers import Positive, columns, start_at_zero
from triptych.networks.nearest import NearestRows, Neighbours, squared_distances


class LocalKriging(nn.Module):
    """A Gaussian process that sees only the nearest training rows of each row (Vecchia 1988; Datta et al. 2016).

    The covariance of two rows is a sum of `COMPONENTS` components of different range, which decay exponentially with
    spatial distance and as a Gaussian with each difference in description; two more components let the target depend
    linearly on the description, with coefficients that vary slowly in space. The description consists of the `similar`
    columns and of learnt features (deep kernel learning, Wilson et al. 2016); the noise of a row is predicted from the
    row. As no row is a neighbour of itself, the training loss is the leave-one-out error (Sundararajan and Keerthi
    2001), and there are too few parameters to memorise rows.

    Args:
        num_features: number of columns of a row, spacings included (see `NearestRows`).
        place: indices of the two columns that are coordinates.
        similar: indices of further columns that describe a row.
        aspect: factor of the first coordinate, so that both are in one unit.
        neighbours: number of nearest rows used.
        features: number of learnt features.
        width: units in each of the two hidden layers that learn the features and the noise.
        dropout: probability of dropping a hidden unit.
    """

    COMPONENTS = 3
    JITTER = 3e-3
    """Minimum variance of the noise: rows at one place are never treated as the same row."""
    SPEED = 10.0
    """Factor by which the trend and the logarithms of amplitudes and lengths move faster than ordinary weights."""

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
        self.input_columns = [*place, *similar, *range(num_features - NearestRows.SPACINGS, num_features)]
        described = len(similar) + features
        self.learnt = nn.Sequential(
            nn.Linear(len(self.input_columns), width),
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
        precise = torch.promote_types(near.row.dtype, torch.float32)  # half precision is not enough for what follows
        row, rows, targets = (values.to(precise) for values in near[:3])
        with torch.autocast(row.device.type, enabled=False):
            return self._predict(row, rows[:, : self.neighbours], targets[:, : self.neighbours])

    def _predict(self, x: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        all_rows = torch.cat([rows, x[:, None]], dim=1)  # the row itself comes last
        learnt = self.learnt(columns(all_rows, self.input_columns))
        description = torch.cat([columns(all_rows, self.similar), self.features(learnt)], dim=2)
        covariance = self._covariance(columns(all_rows, self.place), description)
        noise = (self.noise() * torch.exp(self.noisiness(learnt[:, :-1]).squeeze(2))).square() + self.JITTER
        among = covariance[:, :-1, :-1] + torch.diag_embed(noise)
        to_row = covariance[:, :-1, -1:]
        # `solve_ex` without its error check, for which the host would wait for the GPU.
        weights = torch.linalg.solve_ex(among, to_row).result.squeeze(2)
        trend = self.SPEED * self.trend(description).squeeze(2)
        return trend[:, -1] + (weights * (targets - trend[:, :-1])).sum(dim=1)

    def _covariance(self, place: Tensor, description: Tensor) -> Tensor:
        """Places (N, K, 2) and descriptions (N, K, D) -> covariances (N, K, K) without noise."""
        east, north = place.unbind(dim=2)
        east = self.aspect * east
        squared = (east[:, :, None] - east[:, None]).square() + (north[:, :, None] - north[:, None]).square()
        distance = (squared + 1e-6).sqrt()  # smoothed, so that it has a gradient at distance 0
        lengths = self.length()
        total = torch.ones_like(distance)  # the variance of the unknown mean
        for component, (amplitude, scale) in enumerate(zip(self.amplitude(), self.scale(), strict=True)):
            scaled = description / scale
            differences = squared_distances(scaled, scaled).clamp(min=0)
            total = total + amplitude.square() * torch.exp(-distance / lengths[component] - differences / 2)
        for slope, length in zip(self.slope(), lengths[self.COMPONENTS :], strict=True):
            sloped = description * slope
            total = total + sloped @ sloped.mT * torch.exp(-distance / length)
        return total
