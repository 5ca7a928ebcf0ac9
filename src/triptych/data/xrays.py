"""Chest X-Ray Images (Pneumonia): X-rays of children's chests, NORMAL or PNEUMONIA."""

import csv
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, WeightedRandomSampler

from triptych.data.augment import BatchAffine, BatchExposure
from triptych.data.base import DataModule
from triptych.data.cache import fingerprint
from triptych.data.datasets import ArrayDataset, Batch, StoredDataset, spread
from triptych.data.errors import DataError
from triptych.data.images import DECODER, SUFFIXES, decode, find_images
from triptych.data.predicting import THREADS, Predictor, Progress, find_inputs, no_progress, submit_ahead
from triptych.data.resumable_table import ResumableTable
from triptych.data.serving import xrays
from triptych.data.serving.contract import Port, Sample, Serving
from triptych.data.slices import SLICES, select_atypical
from triptych.data.splits import Split
from triptych.data.stored import StoredImages, load_images
from triptych.data.synthetic.chests import write_chests

CLASSES = ("NORMAL", "PNEUMONIA")
OFFICIAL_TEST = 624
"""X-rays in Kaggle's test folder."""

SHIFT = nn.Sequential(
    BatchAffine(rotation=8, scale=(0.9, 1.1), translation=0.06),
    BatchExposure(brightness=0.1, contrast=0.25, gamma=1.3),
)
"""The distribution shift that ``shifted_batches`` applies to the X-rays."""


@dataclass(frozen=True)
class Xrays:
    """All X-rays: names relative to ``chest_xray``, uint8 (count, side, side), and labels (count,), indices of CLASSES.

    ``images[index][...]`` is the pixels of one image, whether they are in memory or on disk.
    """

    names: list[str]
    images: np.ndarray | StoredImages
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


def patient(name: str) -> str:
    """Return the patient in a file name, ``person<N>`` or ``IM-<N>``, or the name itself if it has neither.

    >>> patient("train/PNEUMONIA/person1000_virus_1681.jpeg"), patient("train/NORMAL/NORMAL2-IM-0959-0001.jpeg")
    ('person1000', 'IM-0959')
    """
    found = re.search(r"person\d+|IM-\d+", name)
    return found.group() if found else name


class XrayDataModule(DataModule[Xrays]):
    """X-rays as float32 (N, 1, side, side) in [0, 1] with labels (N,), 0 for NORMAL and 1 for PNEUMONIA.

    Kaggle's ``val`` folder holds 16 X-rays, too few for model selection: it is merged with ``train``, and a tenth of
    both is for validation, by default split by patient. The official test folder remains the test set.

    Args:
        image_size: side in pixels of the square to which X-rays are resized, whatever their aspect ratio.
        sampler: ``shuffle`` shows each X-ray once per epoch, ``balanced`` draws as many, with replacement, from all
            classes with equal probability.
        hold_out: one of ``triptych.data.slices.SLICES``: test on those X-rays outside the test folder that are unlike
            the others, and train and validate on the others.
        arguments: those of DataModule.
    """

    slug = "chest-xray-pneumonia"
    task = "pneumonia"
    kaggle = "datasets/paultimothymooney/chest-xray-pneumonia"
    contents = tuple(f"chest_xray/{part}/{label}" for part in ("train", "test") for label in CLASSES)
    augmentations = ("rotation", "crop", "scaling", "flip", "brightness")
    published = ("papers",)
    streams = True

    def __init__(
        self, image_size: int = 80, sampler: str = "shuffle", hold_out: str | None = None, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        if sampler not in ("shuffle", "balanced"):
            raise ValueError(f"data.sampler={sampler}: choose shuffle or balanced")
        if image_size < 2:  # one pixel has no contrast
            raise ValueError(f"data.image_size={image_size}: expected a number from 2")
        if hold_out is not None and hold_out not in SLICES:
            raise ValueError(f"data.hold_out={hold_out}: choose null, or one of {', '.join(SLICES)}")
        if hold_out is not None and self.split_rule == "all":
            raise ValueError(f"data.hold_out={hold_out} is a test, and data.split=all has none: choose another split")
        self.image_size = image_size
        self.sampler = sampler
        self.hold_out = hold_out

    @classmethod
    def synthesize(cls, folder: Path) -> None:
        write_chests(folder)

    def read(self, folder: Path) -> tuple[Xrays, str]:
        top = folder / "chest_xray"
        parts = [part for part in ("train", "val", "test") if part != "val" or (top / part).exists()]
        labelled = {path: label for part in parts for label in CLASSES for path in find_images(top / part / label)}
        for part in parts:
            if others := list(_images_outside_classes(top / part)):
                raise DataError(
                    f"{others[0]} is neither in {' nor in '.join(CLASSES)} ({len(others)} such in {part}): "
                    "put it into the folder of its class, or move it out"
                )
        files = list(labelled)
        mark = fingerprint(folder, files)
        key = f"xrays-{self.image_size}-{mark}-{DECODER}"
        images = load_images(self.cache, key, files, partial(decode, size=self.image_size), self.in_memory)
        labels = np.array([CLASSES.index(label) for label in labelled.values()])
        names = [path.relative_to(top).as_posix() for path in files]
        return Xrays(names, images if isinstance(images, StoredImages) else np.stack(images), labels), mark

    def make_split(self, samples: Xrays) -> Split:
        in_test = np.array([name.startswith("test/") for name in samples.names])
        groups = self.groups(samples) if self.split_rule == "grouped" else None
        if self.hold_out is not None:
            return self._hold_out_split(samples, groups, np.flatnonzero(~in_test))
        split = self.draw_split(samples, groups, np.flatnonzero(in_test))
        if in_test.sum() == OFFICIAL_TEST:
            return split
        stand_in = f"the test folder holds {in_test.sum()} X-rays, not the official {OFFICIAL_TEST}"
        return Split(split.train, split.val, split.test, stand_in)

    def _hold_out_split(self, samples: Xrays, groups: list[str] | None, known: np.ndarray) -> Split:
        """Split that tests on the slice ``hold_out`` of the X-rays ``known``; X-rays not in ``known`` are left out."""
        assert self.hold_out is not None
        names = [samples.names[index] for index in known]
        patients = [patient(name) for name in names]
        images = samples.images
        images = images.take(known) if isinstance(images, StoredImages) else images[known]
        mask = select_atypical(self.hold_out, names, images, samples.labels[known], patients)
        held_out = known[mask]
        if not len(held_out):
            raise DataError(
                f"data.hold_out={self.hold_out} finds none of the {len(known)} X-rays outside the test folder unlike "
                "the others, and there would be no test: choose another slice, or data.hold_out=null"
            )
        split = self.draw_split(samples, groups, np.setdiff1d(np.arange(len(samples)), known[~mask]))
        what = f"data.hold_out={self.hold_out} tests on {len(held_out)} X-rays outside the test folder"
        return Split(split.train, split.val, held_out, what)

    def groups(self, samples: Xrays) -> list[str]:
        return [patient(name) for name in samples.names]

    def sample_name(self, samples: Xrays, index: int) -> str:
        return samples.names[index]

    def make_dataset(self, samples: Xrays, indices: np.ndarray, training: bool) -> Dataset[Batch]:
        images, labels = samples.images, torch.from_numpy(samples.labels[indices])
        if isinstance(images, StoredImages):
            return StoredDataset(images.take(indices), labels)
        return ArrayDataset(torch.from_numpy(images[indices])[:, None], labels)

    def labels(self, samples: Xrays) -> np.ndarray:
        return samples.labels

    def train_sampler(self, generator: torch.Generator) -> WeightedRandomSampler | None:
        if self.sampler == "shuffle":
            return None
        labels = self.samples.labels[self.split.train]
        return WeightedRandomSampler((1 / np.bincount(labels)[labels]).tolist(), len(labels), generator=generator)

    def model_arguments(self) -> dict[str, Any]:
        counts = np.bincount(self.samples.labels[self.split.train], minlength=len(CLASSES))
        for name, count in zip(CLASSES, counts, strict=True):
            if not count:
                drawn = "" if self.train_size is None else f", or choose more than data.train_size={self.train_size}"
                raise DataError(f"no {name} X-ray in the training split: add some{drawn}")
        evenly = self.sampler == "balanced"
        return {"class_names": list(CLASSES), "class_counts": counts.tolist(), "drawn_evenly": evenly}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"image_size": self.image_size, "sampler": self.sampler}

    def make_augmentation(self) -> nn.Module:
        names = self.augment_names
        zoom_out, zoom_in = (0.85, 1.15) if "scaling" in names else (1.0, 1.0)
        crop = 1.3 if "crop" in names else 1.0
        affine = BatchAffine(
            rotation=12 if "rotation" in names else 0,
            scale=(zoom_out, zoom_in * crop),
            translation=0.12 if "crop" in names else 0,
            flip="flip" in names,
        )
        exposure = BatchExposure(brightness=0.15, contrast=0.3, gamma=1.4)
        # Without geometric augmentation the images are not resampled at all.
        geometry = affine if set(names) - {"brightness"} else nn.Identity()
        return nn.Sequential(geometry, exposure if "brightness" in names else nn.Identity())

    def prepare_batch(self, batch: Batch, training: bool) -> Batch:
        images, labels = batch
        return super().prepare_batch((images.float() / 255, labels), training)

    def shifted_batches(self) -> Iterator[Batch]:
        """Yield the validation split as another hospital's machine might have taken it, the same each time.

        Each X-ray is changed by its own random amounts: rotated by up to 8 degrees, scaled by 0.9 to 1.1, shifted by up
        to 6 % of the side; brightness changed by up to 0.1, contrast by up to a quarter, a gamma of 1/1.3 to 1.3. All
        of these are smaller than what ``data.augment`` can prepare for, and nothing is mirrored.
        """
        # A fixed batch size, so that `data.eval_batch_size` does not change the result.
        for index, (images, labels) in enumerate(self.evaluation_batches("val", batch_size=64)):
            with torch.random.fork_rng([]):
                torch.default_generator.manual_seed(index)
                shifted = SHIFT(images)
            yield shifted, labels

    def predict_files(
        self,
        model: Predictor,
        source: Path,
        output: Path,
        resume: bool = False,
        weights: str = "",
        progress: Progress = no_progress,
        **options: Any,
    ) -> Iterator[str]:
        """Write ``predictions.csv``, ``file,probability,label``: P(PNEUMONIA), and the class by the model's threshold.

        Raises:
            DataError: there is no image, ``source`` is an image that cannot be read, or ``resume`` finds another run's
                predictions.
        """
        names = find_inputs(source, output)
        made_from = [weights, str(self.image_size), *(_stamp(path, name) for path, name in names.items())]
        with (
            ResumableTable(output / "predictions.csv", made_from, resume) as table,
            ThreadPoolExecutor(THREADS) as pool,
        ):
            yield from table.skipped
            left = list(names)[table.inputs :]
            loaded = submit_ahead(pool, partial(decode, size=self.image_size), left, 4 * THREADS)
            while True:
                progress(table.inputs, len(names))
                lines = [] if table.bytes else [("file", "probability", "label")]
                found, images, skipped = [], [], []
                for path, image in islice(loaded, self.eval_batch_size):
                    try:
                        images.append(torch.from_numpy(image.result()))
                        found.append(names[path])
                    except DataError as error:
                        if path == source:
                            raise  # the only input: there would be nothing in the table
                        skipped.append(str(error))
                yield from skipped
                if images:
                    lines += _rows(found, model.predict(torch.stack(images)[:, None].float() / 255))
                if not lines and not skipped:
                    return
                text = StringIO(newline="")
                csv.writer(text).writerows(lines)
                table.write(text.getvalue(), len(found) + len(skipped), skipped)

    def serving(self, model: Any) -> Serving:
        indices = self.split.val if len(self.split.val) else self.split.train
        drawn = indices[spread(16, len(indices))]
        paths = [Path(self.description.root) / "chest_xray" / self.samples.names[index] for index in drawn]
        halved = [xrays.decode_as_in_training(path, self.image_size) for path in paths]
        whole = [decode(path) for path in paths]
        part = whole[0][: 2 * len(whole[0]) // 3 + 1, 1:]
        speck = part[len(part) // 2 :, part.shape[1] // 2 :][:9, :7]
        pairs = [
            *zip(halved, (self.samples.images[index][...] for index in drawn), strict=True),
            *((raw, xrays.resized(raw, self.image_size)) for raw in (*whole[:4], part, speck)),
        ]
        graph = xrays.RawXrays(model, self.image_size)
        negative, positive = model.hparams["class_names"]
        return Serving(
            graph=graph,
            inputs=[xrays.INPUT],
            outputs=[
                Port("probability", "float32", ("xrays",), f"probability of {positive}", tolerance=1e-4),
                Port("label", "int64", ("xrays",), f"0 {negative}, 1 {positive}: probability above the threshold"),
            ],
            samples=[Sample((xrays.tensor(raw),), self._prepared(square)) for raw, square in pairs],
            facts={
                "classes": json.dumps([negative, positive]),
                **{name: f"{float(getattr(model, name)):.6f}" for name in ("temperature", "bias", "threshold")},
            },
            limits=[
                "It is no medical device: nobody may be diagnosed, treated or sent home by what it says.",
                "It was trained on X-rays of children from one hospital; elsewhere it can be wrong without a sign.",
                "Training decodes a JPEG at a half, quarter or eighth of its size while both sides stay at least "
                f"{self.image_size} pixels (Pillow's `image.draft('L', ({self.image_size}, {self.image_size}))`). "
                "Fed with the fully decoded pixels, the probability moved by up to "
                f"{xrays.largest_difference(graph, halved, whole):.2g} on {len(whole)} X-rays; decode as training does "
                "for the same probability.",
            ],
        )

    def _prepared(self, square: np.ndarray) -> Tensor:
        """Convert one X-ray, uint8 (side, side), to the model's input, float32 (1, 1, side, side)."""
        images = xrays.tensor(square)
        return self.prepare_batch((images, images), training=False)[0]


def _images_outside_classes(folder: Path) -> Iterator[Path]:
    """Yield the X-rays below ``folder`` that lie outside the folders of CLASSES."""
    for entry in sorted(folder.iterdir()):
        if entry.name not in CLASSES and not entry.name.startswith("."):
            for path in [entry, *sorted(entry.rglob("*"))]:
                if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                    yield path


def _stamp(path: Path, name: str) -> str:
    """Return the name of an X-ray with its size and modification time, by which a replaced file is noticed."""
    try:
        there = path.stat()
    except OSError:  # a broken link, which is skipped on decoding
        return name
    return f"{name} {there.st_size} {there.st_mtime_ns}"


def _rows(names: list[str], columns: dict[str, Tensor]) -> Iterator[tuple[str, str, str]]:
    for name, probability, label in zip(names, columns["probability"].tolist(), columns["label"].tolist(), strict=True):
        yield name, f"{probability:.6f}", CLASSES[label]
