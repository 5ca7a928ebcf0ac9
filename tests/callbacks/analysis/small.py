"""Synthetic test batches with sample names and patient groups."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from tests.tiny import Batch, Batches


class XrayBatches(Batches):
    """Numbered X-rays, two per patient."""

    def __init__(self, train: Sequence[Batch], held_out: Sequence[Batch]) -> None:
        super().__init__(train, held_out)
        self.samples = list(range(sum(len(labels) for _, labels in held_out)))
        self.split = SimpleNamespace(test=np.array(self.samples))

    def groups(self, samples: list[int]) -> list[str]:
        return [f"person{sample // 2}" for sample in samples]

    def sample_names(self, indices: Sequence[int], split: str) -> list[str]:
        return [f"{split}/{index}.jpeg" for index in indices]
