"""Export graph for houses: columns of a table in, prices out."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class RawRows(nn.Module):
    """Wrapper that takes the columns of the file one by one and builds the feature matrix for the model.

    Args:
        model: its ``predict`` returns ``prediction``.
        numbers: names of the numeric columns; the first two are the place east and north (longitude and latitude).
        may_be_missing: those of them that may be NaN.
        ratios: numerator and denominator of each ratio, as column indices; NaN unless the denominator is positive.
        angles: of the rotated axes onto which the place is projected, in degrees from east towards north.
        classes: number of codes, from 0, in the last column; 0 if there is no such column.
    """

    def __init__(
        self,
        model: Any,
        numbers: Sequence[str],
        may_be_missing: Sequence[str],
        ratios: Sequence[tuple[int, int]],
        angles: Sequence[float],
        classes: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.required = [index for index, name in enumerate(numbers) if name not in may_be_missing]
        self.count = len(numbers)
        self.ratios = list(ratios)
        self.angles = [math.radians(angle) for angle in angles]
        self.classes = classes

    def forward(self, *columns: Tensor) -> tuple[Tensor]:
        """float32 (rows,) per numeric column, then int64 (rows,) codes -> prices (rows,), NaN for an invalid row."""
        east, north, *_ = numbers = list(columns[: self.count])
        ratios = [
            torch.where(numbers[whole] > 0, numbers[part] / numbers[whole], math.nan) for part, whole in self.ratios
        ]
        turned = [math.cos(angle) * east + math.sin(angle) * north for angle in self.angles]
        right = torch.stack(numbers).isinf().logical_not().all(dim=0)
        for index in self.required:
            right = right & numbers[index].isnan().logical_not()
        features = torch.stack([*numbers, *ratios, *turned], dim=1)
        if self.classes:
            codes = columns[self.count][:, None]
            one_hot = codes == torch.arange(self.classes)
            right = right & one_hot.any(dim=1)
            features = torch.cat([features, one_hot.float()], dim=1)
        # A graph cannot raise an error for a row, as `triptych predict` does.
        return (torch.where(right, self.model.predict(features)["prediction"], math.nan),)
