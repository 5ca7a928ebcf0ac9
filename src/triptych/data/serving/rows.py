"""Columns of a table in, prices out."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class RawRows(nn.Module):
    """Columns as they stand in the file, before a model that wants them side by side.

    Args:
        model: its ``predict`` gives ``prediction``.
        numbers: the columns of numbers; the first two lie east and north.
        may_be_missing: those that may be NaN.
        ratios: pairs of columns, the first of which is given as a share of the second, NaN where that is 0.
        angles: of the axes, in degrees from east to north, along which the place is given once more.
        classes: how many codes the last column has, from 0; 0: there is no such column.
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
        """float32 (rows,) a column of numbers, then int64 (rows,) codes -> prices (rows,), NaN for a wrong row."""
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
        # A graph cannot refuse a row as `triptych predict` does.
        return (torch.where(right, self.model.predict(features)["prediction"], math.nan),)
