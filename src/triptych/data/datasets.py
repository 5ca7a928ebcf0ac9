"""Datasets in memory and on disk.

Each returns one sample from ``__getitem__`` and a whole, collated batch from ``__getitems__``.
"""

import math
from collections.abc import Sequence
from copy import copy
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from triptych.data.stored import StoredImage, StoredImages

Batch = tuple[Tensor, Tensor]


def as_is(batch: Any) -> Any:
    """Collate function for batches that ``__getitems__`` has already collated."""
    return batch


def spread(count: int, size: int) -> list[int]:
    """Return ``count`` evenly spaced indices out of ``size``, both ends included; all if there are no more."""
    return np.linspace(0, size - 1, min(count, size)).astype(int).tolist()


class ArrayDataset(Dataset[Batch]):
    """Input and target tensors of equal length, in memory, with their dtypes kept (such as uint8 or float32)."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs = inputs
        self.targets = targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Batch:
        return self.inputs[index], self.targets[index]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        # One gather per batch: several times faster than stacking 64 samples one by one.
        rows = torch.as_tensor(indices)
        return self.inputs[rows], self.targets[rows]

    @property
    def gathers_on(self) -> torch.device | None:
        """Device of the samples, to which the indices of a whole epoch are copied at once, as a tensor.

        A subclass whose ``__getitems__`` needs NumPy arrays of indices returns None.
        """
        return self.inputs.device

    @property
    def nbytes(self) -> int:
        """Size of the samples in bytes."""
        return self.inputs.nbytes + self.targets.nbytes

    def to(self, device: torch.device) -> "ArrayDataset":
        """Return a copy with the samples on a device. A subclass that adds tensors must override this to move them."""
        there = copy(self)
        there.inputs, there.targets = self.inputs.to(device), self.targets.to(device)
        return there


class StoredDataset(Dataset[Batch]):
    """Images of one size, read from disk as uint8 (N, 1, height, width) when a batch needs them, and targets."""

    def __init__(self, images: StoredImages, targets: Tensor) -> None:
        self.images = images
        self.targets = targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return torch.from_numpy(self.images[index][...])[None], self.targets[index]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        return torch.from_numpy(self.images.stacked(indices))[:, None], self.targets[torch.as_tensor(indices)]


class Page(Protocol):
    """A page (1, height, width), in memory (such as a tensor) or on disk, whose pixels are read when indexed."""

    @property
    def shape(self) -> Sequence[int]: ...

    def __getitem__(self, window: Any) -> Tensor:
        """Return the whole page for ``...``, a window of it for ``(..., rows, columns)``, two slices."""


class StoredPage:
    """A Page on disk."""

    def __init__(self, image: StoredImage) -> None:
        self.image = image
        self.shape = (1, *image.shape)

    def __getitem__(self, window: Any) -> Tensor:
        return torch.from_numpy(self.image[window if window is ... else window[1:]])[None]


class PageDataset(Dataset[Batch]):
    """Whole pages and their clean twins, uint8 (1, height, width), which may differ in size."""

    def __init__(self, dirty: Sequence[Page], clean: Sequence[Page]) -> None:
        self.dirty = dirty
        self.clean = clean

    def __len__(self) -> int:
        return len(self.dirty)

    def __getitem__(self, index: int) -> Batch:
        return self.dirty[index][...], self.clean[index][...]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        dirty, clean = zip(*(self[index] for index in indices), strict=True)
        return torch.stack(dirty), torch.stack(clean)

    @property
    def nbytes(self) -> int:
        """Size of the pages in bytes."""
        return sum(math.prod(page.shape) for page in (*self.dirty, *self.clean))

    def to(self, device: torch.device) -> "PageDataset":
        """Return a copy with the pages on a device."""
        there = copy(self)
        there.dirty, there.clean = ([page[...].to(device) for page in pages] for pages in (self.dirty, self.clean))
        return there


class CropDataset(PageDataset):
    """Random square crops of pages, at the same position in both twins. Sample ``i`` is cut from page ``i % pages``.

    Args:
        dirty: pages, uint8 (1, height, width).
        clean: their clean twins, of the same sizes.
        crop_size: side in pixels; reduced to the shortest side of any page if that is smaller.
        crops_per_page: crops per page and epoch.
    """

    def __init__(self, dirty: Sequence[Page], clean: Sequence[Page], crop_size: int, crops_per_page: int) -> None:
        super().__init__(dirty, clean)
        self.crop_size = min(crop_size, *(min(page.shape[-2:]) for page in dirty))
        self.crops_per_page = crops_per_page

    def __len__(self) -> int:
        return len(self.dirty) * self.crops_per_page

    def __getitem__(self, index: int) -> Batch:
        if index >= len(self):
            raise IndexError(f"crop {index} of {len(self)}")  # ends `for crop in dataset`
        dirty, clean = self.dirty[index % len(self.dirty)], self.clean[index % len(self.dirty)]
        height, width = dirty.shape[-2:]
        top = int(torch.randint(height - self.crop_size + 1, ()))
        left = int(torch.randint(width - self.crop_size + 1, ()))
        window = (..., slice(top, top + self.crop_size), slice(left, left + self.crop_size))
        return dirty[window], clean[window]
