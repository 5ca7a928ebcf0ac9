"""Denoising Dirty Documents: scanned pages and their clean twins."""

import csv
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from triptych.data import splits
from triptych.data.augment import BatchTurns
from triptych.data.base import DataModule, Predictor
from triptych.data.cache import cached, fingerprint
from triptych.data.datasets import Batch, CropDataset, PageDataset, spread
from triptych.data.errors import DataError
from triptych.data.images import DECODER, decode, find_images
from triptych.data.splits import Split
from triptych.data.synthetic.pages import write_pages
from triptych.files import replaced

COMPLETE = 144
"""Labelled pages in Kaggle's data set."""

Pages = list[tuple[str, np.ndarray, np.ndarray]]
"""Name, dirty page and clean page, the pages as uint8 (height, width)."""


class DocumentDataModule(DataModule[Pages]):
    """Crops of dirty pages with the same crops of their clean twins; whole pages for validation and test.

    Batches are float32 (N, 1, height, width) in [0, 1], 1 is white paper. Pages with the same clean twin (Kaggle's
    144 have only 36 different ones) are a group and stay together under ``split=grouped``.

    Args:
        crop_size: side of a training crop in pixels.
        crops_per_page: crops of each page an epoch.
        eval_batch_size: whole pages a step; more than 1 only where all are of one size.
        arguments: those of DataModule.
    """

    slug = "denoising-dirty-documents"
    task = "denoise"
    kaggle = "competitions/denoising-dirty-documents"
    contents = ("train", "train_cleaned", "test")
    augmentations = ("flip",)
    published = ("mle_bench",)

    def __init__(
        self, crop_size: int = 96, crops_per_page: int = 8, eval_batch_size: int = 1, **arguments: Any
    ) -> None:
        super().__init__(eval_batch_size=eval_batch_size, **arguments)
        if crop_size < 1 or crops_per_page < 1:
            raise ValueError("data.crop_size and data.crops_per_page: expected numbers from 1")
        self.crop_size = crop_size
        self.crops_per_page = crops_per_page

    @classmethod
    def synthesize(cls, folder: Path) -> None:
        write_pages(folder, pages=7)

    def read(self, folder: Path) -> tuple[Pages, str]:
        dirty, clean = (
            {path.relative_to(folder / part).as_posix(): path for path in find_images(folder / part, ".png")}
            for part in ("train", "train_cleaned")
        )
        for name in sorted(dirty.keys() ^ clean.keys()):
            there, lacking = ("train", "train_cleaned") if name in dirty else ("train_cleaned", "train")
            raise DataError(f"{folder / there / name} has no twin {folder / lacking / name}: add that, or remove both")
        files = {f"train/{name}": path for name, path in dirty.items()}
        files |= {f"train_cleaned/{name}": path for name, path in clean.items()}
        mark = fingerprint(folder, files.values())
        arrays = cached(
            self.cache, f"documents-{mark}-{DECODER}", lambda: {name: decode(path) for name, path in files.items()}
        )
        pages = [(name, arrays[f"train/{name}"], arrays[f"train_cleaned/{name}"]) for name in dirty]
        for name, page, twin in pages:
            if page.shape != twin.shape:
                sizes = " and ".join(f"{width} x {height}" for height, width in (page.shape, twin.shape))
                path = folder / "train" / name
                raise DataError(f"{path}: page and clean twin differ in size ({sizes}); replace or remove both")
        return pages, mark

    def make_split(self, samples: Pages) -> Split:
        if self.split_rule == "mle_bench":
            return self._mle_bench(samples)
        twins = [hashlib.sha256(repr(clean.shape).encode() + clean.tobytes()).hexdigest() for _, _, clean in samples]
        return self.draw_split(samples, twins if self.split_rule == "grouped" else None)

    def _mle_bench(self, samples: Pages) -> Split:
        """MLE-bench's rule: a fifth of the sorted pages tests. A tenth of the others validates."""
        order = sorted(range(len(samples)), key=lambda index: samples[index][0])
        stand_in = None
        if len(samples) != COMPLETE:
            stand_in = f"MLE-bench's rule applied to {len(samples)} of {COMPLETE} pages"
        return splits.published(order, val_share=0.1, val_seed=0, stand_in=stand_in)

    def sample_name(self, samples: Pages, index: int) -> str:
        return samples[index][0]

    def make_dataset(self, samples: Pages, indices: np.ndarray, training: bool) -> PageDataset:
        dirty = [torch.from_numpy(samples[index][1])[None] for index in indices]
        clean = [torch.from_numpy(samples[index][2])[None] for index in indices]
        if training:
            return CropDataset(dirty, clean, self.crop_size, self.crops_per_page)
        if self.eval_batch_size > 1 and len({page.shape for page in dirty}) > 1:
            raise DataError(
                f"data.eval_batch_size={self.eval_batch_size}: the pages differ in size and cannot be stacked; choose 1"
            )
        return PageDataset(dirty, clean)

    def make_augmentation(self) -> nn.Module:
        return BatchTurns() if "flip" in self.augment_names else nn.Identity()

    def prepare_batch(self, batch: Batch, training: bool) -> Batch:
        pair = torch.cat(batch, dim=1).float() / 255
        if training:
            pair = self.augmentation(pair)
        dirty, clean = pair.chunk(2, dim=1)
        return dirty, clean

    def examples(self, count: int) -> Batch:
        """Windows of ``count`` pages, from their middle, so that letters can be seen."""
        dataset = self.datasets.get("val", self.datasets["train"])
        assert isinstance(dataset, PageDataset)
        rows = spread(count, len(dataset.dirty))
        height = min(160, *(page.shape[-2] for page in dataset.dirty))
        width = min(320, *(page.shape[-1] for page in dataset.dirty))
        dirty, clean = (
            torch.stack([_middle(pages[row], height, width) for row in rows])
            for pages in (dataset.dirty, dataset.clean)
        )
        return self.prepare_batch((dirty, clean), training=False)

    def predict_files(
        self, model: Predictor, source: Path, output: Path, submission: bool = False, **options: Any
    ) -> Iterator[str]:
        """A cleaned PNG of the same name and size for each page; ``submission`` adds Kaggle's ``submission.csv``."""
        base = source if source.is_dir() else source.parent
        if output.resolve() == base.resolve():
            raise DataError(f"cleaned pages in {output} would replace the dirty ones: choose another folder")
        with ExitStack() as stack:
            table = None
            if submission:
                aside = stack.enter_context(replaced(output / "submission.csv"))
                table = csv.writer(stack.enter_context(aside.open("w", newline="")))
                table.writerow(("id", "value"))
            for path in find_images(source):
                try:
                    page = torch.from_numpy(decode(path))[None, None].float() / 255
                except DataError as error:
                    yield str(error)
                    continue
                cleaned = model.predict(page)["page"][0, 0]
                target = (output / path.relative_to(base)).with_suffix(".png")
                target.parent.mkdir(parents=True, exist_ok=True)
                with replaced(target) as image:
                    Image.fromarray((cleaned * 255).round().byte().numpy()).save(image)
                if table:
                    table.writerows(_submission_rows(path.stem, cleaned))


def _middle(page: Tensor, height: int, width: int) -> Tensor:
    top, left = (page.shape[-2] - height) // 2, (page.shape[-1] - width) // 2
    return page[..., top : top + height, left : left + width]


def _submission_rows(stem: str, page: Tensor) -> Iterator[tuple[str, str]]:
    """Kaggle's ``image_row_column`` (counted from 1) and value in [0, 1] of each pixel."""
    for row, values in enumerate(page.tolist(), start=1):
        for column, value in enumerate(values, start=1):
            yield f"{stem}_{row}_{column}", f"{value:.4f}"
