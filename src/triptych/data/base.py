"""Base class of all data modules: finds the files, splits the samples, loads batches, records what was used."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import RunningStage
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from triptych.data import device_placement, distributed, loader, splits
from triptych.data.augment import select_augmentations
from triptych.data.cache import cache_folder
from triptych.data.datasets import Batch, as_is, spread
from triptych.data.description import Description, identity, refuse_others
from triptych.data.download import from_kaggle
from triptych.data.errors import DataError
from triptych.data.predicting import Predictor
from triptych.data.serving.contract import Serving
from triptych.data.sources import data_root, locate
from triptych.data.splits import Split

Samples = TypeVar("Samples")


class DataModule(LightningDataModule, Generic[Samples]):
    """A data set in Kaggle's layout, or its synthetic stand-in, split into train, val and test.

    A subclass implements ``synthesize`` (write a stand-in), ``read`` (decode a folder), ``make_split`` (split the
    samples), ``make_dataset`` (wrap some of them in a ``Dataset``) and ``predict_files``. The arguments are those of
    ``conf/data/_base.yaml``, which documents each of them.

    Raises:
        ValueError: an argument is invalid. ``setup`` raises DataError, a ValueError too, if the data are.
    """

    slug: ClassVar[str]
    """Name of the data set on Kaggle, and of its folder."""
    task: ClassVar[str] = ""
    """The experiment that uses it; `triptych data` accepts this name too."""
    kaggle: ClassVar[str] = ""
    """Its page on kaggle.com, ``competitions/NAME`` or ``datasets/OWNER/NAME``; empty if it has none."""
    contents: ClassVar[tuple[str, ...]] = ()
    """Files and folders that a complete download contains."""
    augmentations: ClassVar[tuple[str, ...]] = ()
    """Names that ``data.augment`` accepts."""
    streams: ClassVar[bool] = False
    """Whether ``read`` supports ``in_memory=False``, with which samples stay on disk until a batch needs them."""
    published: ClassVar[tuple[str, ...]] = ()
    """Which of the published splits, ``mle_bench`` and ``papers``, this data set has."""

    def __init__(
        self,
        root: str | None = None,
        source: str = "auto",
        split: str = "grouped",
        split_seed: int = 0,
        folds: int | None = None,
        fold: int = 0,
        train_size: int | float | None = None,
        batch_size: int | str = 64,
        eval_batch_size: int = 256,
        num_workers: int = 0,
        augment: bool | str | Sequence[str] = "all",
        cache_dir: str | None = None,
        in_memory: bool = True,
        on_device: bool | str = "auto",
    ) -> None:
        super().__init__()
        splits.check(split, self.published, self.slug, split_seed, folds, fold)
        splits.check_train_size(train_size)
        loader.check(batch_size, eval_batch_size, num_workers)
        if not in_memory and not self.streams:
            raise ValueError(f"data.in_memory=false: {self.slug} is always read into memory; choose true")
        device_placement.check(on_device, num_workers, in_memory)
        self.root = data_root(root)
        self.source = source
        self.split_rule = split
        self.split_seed = split_seed
        self.folds = folds
        self.fold = fold
        self.train_size = train_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.augment_names = select_augmentations(augment, self.augmentations)
        self.cache = cache_folder(cache_dir)
        self.in_memory = in_memory
        self.on_device = on_device
        self.datasets: dict[str, Dataset[Batch]] = {}

    # What a data set implements or overrides

    @classmethod
    @abstractmethod
    def synthesize(cls, folder: Path) -> None:
        """Write the synthetic stand-in into ``folder``, in Kaggle's layout."""

    @classmethod
    def download(cls, root: Path) -> Path:
        """Download the data set from Kaggle to its folder below ``root``; raises DataError if that fails."""
        return from_kaggle(cls.kaggle, root / cls.slug, cls.contents)

    @abstractmethod
    def read(self, folder: Path) -> tuple[Samples, str]:
        """Decode all labelled samples below ``folder``; returns them and the fingerprint of their files.

        Raises:
            DataError: a file is missing or invalid.
        """

    @abstractmethod
    def make_split(self, samples: Samples) -> Split:
        """Split by ``self.split_rule``: ``grouped``, ``random`` or one of ``published`` (never ``all``)."""

    @abstractmethod
    def make_dataset(self, samples: Samples, indices: np.ndarray, training: bool) -> Dataset[Batch]:
        """Return a Dataset of the samples at ``indices``, for training or not; ``__getitems__`` must return a batch."""

    @abstractmethod
    def predict_files(self, model: Predictor, source: Path, output: Path, **options: Any) -> Iterator[str]:
        """Predict ``source``, write the results into ``output`` and yield a message for each skipped input.

        Args:
            model: the trained model.
            source: a file or folder.
            output: an existing folder.
            options: further options of the command line, which a data set declares as parameters if it supports them:
                ``resume``, resume an interrupted prediction; ``weights``, a digest of the checkpoint, so that
                predictions of another one are not resumed; ``progress``, a callback that receives the number of
                inputs done and the total; and options of its own, such as ``submission``.
        """

    def serving(self, model: Any) -> Serving:
        """Return what `triptych export` writes (after ``setup``): the model as a graph from raw inputs to answers.

        Raises:
            NotImplementedError: the data set does not support export.
        """
        lacking = f"{type(self).__name__} has no method `serving`, which says what goes into an exported model"
        raise NotImplementedError(f"{lacking}: add it, see docs/adding-a-task.md and data/serving/contract.py")

    def model_arguments(self) -> dict[str, Any]:
        """Return the model arguments that depend on the training data (after ``setup``): numbers, strings, lists."""
        return {}

    def make_augmentation(self) -> nn.Module:
        """Build the transform of float batches that ``self.augment_names`` selects; called after ``setup``."""
        return nn.Identity()

    @cached_property
    def augmentation(self) -> nn.Module:
        """The result of ``make_augmentation``, built lazily at the first training batch: a finished run skips it."""
        return self.make_augmentation()

    def prepare_batch(self, batch: Batch, training: bool) -> Batch:
        """Convert a batch of the dataset, on the device, to the model's input: floats, augmented in training."""
        inputs, targets = batch
        return (self.augmentation(inputs) if training else inputs), targets

    # What the base class provides, with hooks that have a default

    def setup(self, stage: str | None = None) -> None:
        """Find, read and split the data on the first call, whatever the stage; later calls are no-ops."""
        if self.datasets:
            return
        found = locate(self.slug, self.source, self.root, self.cache, self.synthesize, self.download)
        self.samples, fingerprint = self.read(found.folder)
        split = self._reduced(self._split())
        datasets = {
            name: self.make_dataset(self.samples, indices, training=name == "train")
            for name, indices in (("train", split.train), ("val", split.val), ("test", split.test))
            if len(indices)
        }
        size = len(datasets["train"])  # type: ignore[arg-type]
        if isinstance(self.batch_size, int) and self.batch_size > size:
            cut = "" if self.train_size is None else f" with data.train_size={self.train_size}"
            raise DataError(
                f"data.batch_size={self.batch_size} is larger than the training split ({size} samples{cut}): "
                f"choose at most {size}, or data.batch_size=full"
            )
        self.split, self.datasets = split, datasets
        self.description = Description(
            source=found.kind,
            root=str(found.folder.absolute()),
            split=self.split_rule,
            fold=None if self.folds is None else f"{self.fold} of {self.folds}",
            stand_in="synthetic data" if found.is_synthetic else split.stand_in,
            fingerprint=fingerprint,
            sizes={"train": len(split.train), "val": len(split.val), "test": len(split.test)},
        )

    def describe(self) -> dict[str, Any]:
        """Return what ``metrics.json`` records about the data."""
        return asdict(self.description)

    def state_dict(self) -> dict[str, Any]:
        """Identity of the data, which a resumed run must match; subclasses add arguments that affect the samples."""
        return identity(self.description.fingerprint, self.split)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raise a DataError if the data differ from those of the checkpoint."""
        refuse_others(state, self.state_dict(), self.description.root)

    def _split(self) -> Split:
        if self.split_rule == "all":
            return splits.everything(self.count(self.samples))
        return self.make_split(self.samples)

    def _reduced(self, split: Split) -> Split:
        """The split with its training part reduced to ``data.train_size``, unless it is no larger than that anyway."""
        labels = self.labels(self.samples)
        own = None if labels is None else labels[split.train]
        return replace(split, train=splits.subset(split.train, self.train_size, self.split_seed, own))

    def labels(self, samples: Samples) -> np.ndarray | None:
        """Return the class of each sample, by which ``data.train_size`` is stratified; None if there are no classes."""
        return None

    @staticmethod
    def count(samples: Samples) -> int:
        """Return the number of samples."""
        return len(samples)  # type: ignore[arg-type]

    def draw_split(
        self, samples: Samples, groups: Sequence[str] | None = None, official_test: np.ndarray | None = None
    ) -> Split:
        """Draw a split by the project's own rules (see ``triptych.data.splits.draw``)."""
        return splits.draw(self.count(samples), groups, self.split_seed, official_test, self.folds, self.fold)

    def groups(self, samples: Samples) -> Sequence[str] | None:
        """Return the group of each sample, such as its patient; None if every sample is a group of its own."""
        return None

    def sample_names(self, indices: Sequence[int], split: str = "train") -> list[str]:
        """Return the names by which users know samples of a split, given their indices in its dataset."""
        there: np.ndarray = getattr(self.split, split)
        rows = there[np.asarray(indices, int) % len(there)]
        return [self.sample_name(self.samples, int(row)) for row in rows]

    def sample_name(self, samples: Samples, index: int) -> str:
        """Return the name by which users know a sample: that of its file, if it has one of its own."""
        return f"sample {index}"

    def train_dataloader(self) -> DataLoader[Batch]:
        size = len(self.datasets["train"])  # type: ignore[arg-type]
        batch_size = size if self.batch_size == "full" else int(self.batch_size)
        # ResumableLoader reseeds it in each epoch.
        generator = torch.Generator()
        dataset, sampler = self.datasets["train"], self.train_sampler(generator)
        loading = self._loading()
        if self.trainer is not None and self.in_memory and not self.num_workers:
            there = device_placement.place_on_device(dataset, self.trainer.strategy.root_device, self.on_device)
            loading["pin_memory"] &= there is dataset  # samples on the device are not copied there
            dataset = there
        device = None if self.num_workers else getattr(dataset, "gathers_on", None)  # workers receive NumPy arrays
        batches = distributed.training_batches(dataset, batch_size, sampler, generator, self.trainer, device)
        return loader.ResumableLoader(dataset, generator=generator, **batches, **loading)

    def train_sampler(self, generator: torch.Generator) -> Sampler[int] | None:
        """Return the sampler of training samples, which draws from ``generator``; None: each sample once, shuffled."""
        return None

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Batch] | list[Any]:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, name: str) -> DataLoader[Batch] | list[Any]:
        if name not in self.datasets:
            return []
        # Without a generator of its own, each iteration would draw its workers' seed from the run's random numbers.
        return DataLoader(
            self.datasets[name],
            **distributed.evaluation_batches(self.datasets[name], name, self.eval_batch_size, self.trainer),
            persistent_workers=self.num_workers > 0,
            generator=torch.Generator(),
            **self._loading(),
        )

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            # For the copy to a GPU; a CPU run on a machine with a GPU makes no such copy.
            "pin_memory": self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            "collate_fn": as_is,
            "worker_init_fn": loader.begin_worker,
        }

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        # Lightning would search each batch for anything that can be moved, at every step.
        pair = isinstance(batch, tuple | list)  # a subclass may have batches of another type
        there = device.type == "cpu" or (pair and all(getattr(part, "device", None) == device for part in batch))
        return batch if there else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        training = self.trainer is not None and self.trainer.state.stage is RunningStage.TRAINING
        return self.prepare_batch(batch, training)

    def examples(self, count: int) -> Batch:
        """Return ``count`` validation samples (training ones if there is no validation), evenly spaced in the split."""
        dataset = self.datasets.get("val", self.datasets["train"])
        rows = spread(count, len(dataset))  # type: ignore[arg-type]
        return self.prepare_batch(dataset.__getitems__(rows), training=False)  # type: ignore[attr-defined]

    def evaluation_batches(self, name: str, count: int | None = None, batch_size: int | None = None) -> Iterator[Batch]:
        """Yield the batches of a split as in evaluation, on the CPU: whole samples, in order, not augmented.

        No random number is drawn, so that training continues afterwards as it would have without them.

        Args:
            name: ``train``, ``val`` or ``test``.
            count: only this many samples, evenly spaced in the split; None: all.
            batch_size: samples per batch; None: ``data.eval_batch_size``.
        """
        indices: np.ndarray = getattr(self.split, name)
        if count is not None:
            indices = indices[spread(count, len(indices))]
        dataset = self.make_dataset(self.samples, indices, training=False)
        size = batch_size or self.eval_batch_size
        for start in range(0, len(indices), size):
            rows = range(start, min(start + size, len(indices)))
            yield self.prepare_batch(dataset.__getitems__(rows), training=False)  # type: ignore[attr-defined]
