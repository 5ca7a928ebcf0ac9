"""Denoising Dirty Documents: scanned pages and their clean twins."""

import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from triptych.data import splits
from triptych.data.augment import BatchTurns
from triptych.data.base import DataModule
from triptych.data.cache import fingerprint
from triptych.data.cleaning import clean, load, save, write_submission
from triptych.data.datasets import Batch, CropDataset, Page, PageDataset, StoredPage, spread
from triptych.data.errors import DataError
from triptych.data.images import DECODER, decode, find_images
from triptych.data.page_augment import BatchPapers, BatchSpecks, PaperOnDemand
from triptych.data.predicting import (
    THREADS,
    Predictor,
    Progress,
    find_inputs,
    no_progress,
    refuse_namesakes,
    submit_ahead,
)
from triptych.data.serving import pages
from triptych.data.serving.contract import Sample, Serving
from triptych.data.splits import Split
from triptych.data.stored import StoredImage, load_images
from triptych.data.synthetic.pages import write_pages

log = logging.getLogger(__name__)

COMPLETE = 144
"""Labelled pages in Kaggle's data set."""
TILE = 1024
"""Side in pixels of the tiles in which larger pages are cleaned."""
SMALLEST_CROP = 16
"""Smallest side in pixels to which a small page may reduce all crops."""

Pages = list[tuple[str, np.ndarray | StoredImage, np.ndarray | StoredImage]]
"""Name, dirty page and clean page of each sample, the pages as uint8 (height, width); ``page[...]`` is the pixels."""


class DocumentDataModule(DataModule[Pages]):
    """Dirty pages with their clean twins: random crops of both for training, whole pages for validation and test.

    Batches are pairs of float32 (N, 1, height, width) in [0, 1], where 1 is white paper. Pages with the same clean twin
    (Kaggle's 144 have only 36 different ones) form a group and stay together under ``split=grouped``.

    Args:
        crop_size: side of a training crop in pixels.
        crops_per_page: crops per page and epoch.
        eval_batch_size: whole pages per step; more than 1 only if all are of one size.
        arguments: those of DataModule.
    """

    slug = "denoising-dirty-documents"
    task = "denoise"
    kaggle = "competitions/denoising-dirty-documents"
    contents = ("train", "train_cleaned", "test")
    augmentations = ("flip", "dirt", "specks")
    published = ("mle_bench",)
    streams = True

    def __init__(
        self, crop_size: int = 96, crops_per_page: int = 8, eval_batch_size: int = 1, **arguments: Any
    ) -> None:
        super().__init__(eval_batch_size=eval_batch_size, **arguments)
        if crop_size < 3:  # too few pixels for the grain of stains
            raise ValueError(f"data.crop_size={crop_size}: expected a number from 3")
        if crops_per_page < 1:
            raise ValueError(f"data.crops_per_page={crops_per_page}: expected a number from 1")
        self.crop_size = crop_size
        self.crops_per_page = crops_per_page

    def state_dict(self) -> dict[str, Any]:
        # On resuming in the middle of an epoch, they determine which crops are still to come.
        return super().state_dict() | {"crop_size": self.crop_size, "crops_per_page": self.crops_per_page}

    @classmethod
    def synthesize(cls, folder: Path) -> None:
        write_pages(folder, pages=7)

    def read(self, folder: Path) -> tuple[Pages, str]:
        dirty, clean = (
            {path.relative_to(folder / part).as_posix(): path for path in find_images(folder / part)}
            for part in ("train", "train_cleaned")
        )
        for name in sorted(dirty.keys() ^ clean.keys()):
            there, lacking = ("train", "train_cleaned") if name in dirty else ("train_cleaned", "train")
            raise DataError(f"{folder / there / name} has no twin {folder / lacking / name}: add that, or remove both")
        files = [*dirty.values(), *clean.values()]
        mark = fingerprint(folder, files)
        images = load_images(self.cache, f"documents-{mark}-{DECODER}", files, decode, self.in_memory)
        # Both folders are sorted by the same names.
        pages = [(name, images[index], images[len(dirty) + index]) for index, name in enumerate(dirty)]
        for name, page, twin in pages:
            if page.shape != twin.shape:
                sizes = " and ".join(f"{width} x {height}" for height, width in (page.shape, twin.shape))
                path = folder / "train" / name
                raise DataError(f"{path}: page and clean twin differ in size ({sizes}); replace or remove both")
        return pages, mark

    def make_split(self, samples: Pages) -> Split:
        if self.split_rule == "mle_bench":
            return self._mle_bench(samples)
        return self.draw_split(samples, self.groups(samples) if self.split_rule == "grouped" else None)

    def groups(self, samples: Pages) -> list[str]:
        twins = (clean[...] for _, _, clean in samples)
        return [hashlib.sha256(repr(twin.shape).encode() + twin.tobytes()).hexdigest() for twin in twins]

    def _mle_bench(self, samples: Pages) -> Split:
        """Split by MLE-bench's rule, a fifth of the sorted pages for test; a tenth of the others is for validation."""
        order = sorted(range(len(samples)), key=lambda index: samples[index][0])
        stand_in = None
        if len(samples) != COMPLETE:
            stand_in = f"MLE-bench's rule applied to {len(samples)} of {COMPLETE} pages"
        return splits.published(order, val_share=0.1, val_seed=0, stand_in=stand_in)

    def sample_name(self, samples: Pages, index: int) -> str:
        return samples[index][0]

    def make_dataset(self, samples: Pages, indices: np.ndarray, training: bool) -> PageDataset:
        dirty = [_page(samples[index][1]) for index in indices]
        clean = [_page(samples[index][2]) for index in indices]
        if training:
            self._check_page_size(min((samples[index][:2] for index in indices), key=lambda page: min(page[1].shape)))
            return CropDataset(dirty, clean, self.crop_size, self.crops_per_page)
        if self.eval_batch_size > 1 and len({tuple(page.shape) for page in dirty}) > 1:
            raise DataError(
                f"data.eval_batch_size={self.eval_batch_size}: the pages differ in size and cannot be stacked; choose 1"
            )
        return PageDataset(dirty, clean)

    def _check_page_size(self, smallest: tuple[str, np.ndarray | StoredImage]) -> None:
        """Warn if a side of the smallest training page is below ``crop_size``: all crops then shrink to it.

        Raises:
            DataError: it is below SMALLEST_CROP as well.
        """
        name, page = smallest
        side = min(page.shape)
        if side < min(self.crop_size, SMALLEST_CROP):
            raise DataError(
                f"train/{name} is {page.shape[1]} x {page.shape[0]} pixels, and all crops would be as small: expected "
                f"at least {SMALLEST_CROP} a side; remove the page and its twin"
            )
        if side < self.crop_size:
            log.warning(
                "data.crop_size=%d: crops are %d pixels, because train/%s is that small", self.crop_size, side, name
            )

    def make_augmentation(self) -> nn.Module:
        made: list[nn.Module] = []
        if "dirt" in self.augment_names:
            pages = self.datasets["train"]
            assert isinstance(pages, CropDataset)
            papers: list[Page] = [PaperOnDemand(*pair) for pair in zip(pages.dirty, pages.clean, strict=True)]
            made.append(BatchPapers([paper[...] for paper in papers] if self.in_memory else papers))
        if "specks" in self.augment_names:
            made.append(BatchSpecks())
        if "flip" in self.augment_names:
            made.append(BatchTurns())
        return nn.Sequential(*made)

    def prepare_batch(self, batch: Batch, training: bool) -> Batch:
        pair = torch.cat(batch, dim=1).float() / 255
        if training:
            pair = self.augmentation(pair)
        dirty, clean = pair.chunk(2, dim=1)
        return dirty, clean

    def examples(self, count: int) -> Batch:
        """Return the centres of ``count`` pages, at most 160 x 320 pixels, so that letters are legible."""
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
        self,
        model: Predictor,
        source: Path,
        output: Path,
        submission: bool = False,
        tile: int | None = None,
        resume: bool = False,
        weights: str = "",
        progress: Progress = no_progress,
        **options: Any,
    ) -> Iterator[str]:
        """Write a cleaned PNG of the same name and size for each page, upright.

        ``submission`` adds Kaggle's ``submission.csv``, made from the cleaned pages. A page with a side longer than
        ``tile`` pixels is cleaned in tiles of that side; 0 disables tiling, None means TILE.

        Raises:
            DataError: there are no pages, two would become one file, or a cleaned page would replace a dirty one.
        """
        names = find_inputs(source, output)
        targets = {path: (output / name).with_suffix(".png") for path, name in names.items()}
        refuse_namesakes(targets, lambda path: targets[path].relative_to(output).as_posix())
        if submission:
            refuse_namesakes(targets, lambda path: f"image {path.stem} of the submission")
        base, out = (folder.resolve() for folder in (source if source.is_dir() else source.parent, output))
        dirty = {base / name for name in names.values()}
        if out == base or dirty & {out / target.relative_to(output) for target in targets.values()}:
            raise DataError(f"cleaned pages in {output} would replace the dirty ones: choose another folder")

        skipped: list[Path] = []
        with ThreadPoolExecutor(THREADS) as pool:
            loaded = submit_ahead(pool, lambda path: load(path, targets[path], weights, resume), names, THREADS)
            cleaned = (clean(model, page.result(), TILE if tile is None else tile) for _, page in loaded)
            for done, (_, saved) in enumerate(submit_ahead(pool, save, cleaned, THREADS), start=1):
                page = saved.result()
                if page.error:
                    skipped.append(page.path)
                    yield page.error
                progress(done, len(names))
        if submission:
            write_submission([target for path, target in targets.items() if path not in skipped], output)

    def serving(self, model: Any) -> Serving:
        dataset = self.datasets.get("val", self.datasets["train"])
        assert isinstance(dataset, PageDataset)
        whole = [dataset.dirty[row][...][None] for row in spread(4, len(dataset.dirty))]
        # Kaggle's pages have only two sizes: cut out others, including a batch of two pages.
        height, width = whole[0].shape[-2:]
        part = whole[0][..., : 2 * height // 3 + 1, width // 2 :]
        raw = [*whole, part, torch.cat([part, part.flip(-1)]).mT]
        return Serving(
            graph=pages.RawPages(model),
            inputs=[pages.INPUT],
            outputs=[pages.OUTPUT],
            samples=[Sample((page,), self.prepare_batch((page, page), training=False)[0]) for page in raw],
            limits=["It knows dark print on light paper, in the size of letters that it was trained on."],
        )


def _page(page: np.ndarray | StoredImage) -> Page:
    return StoredPage(page) if isinstance(page, StoredImage) else torch.from_numpy(page)[None]


def _middle(page: Page, height: int, width: int) -> Tensor:
    top, left = (page.shape[-2] - height) // 2, (page.shape[-1] - width) // 2
    return page[..., top : top + height, left : left + width]
