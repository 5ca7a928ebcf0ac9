"""What every data set shares: finding the files, splitting, loading batches, saying what was used."""

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
from triptych.data.augment import chosen
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

    A subclass says how to ``synthesize`` a stand-in, to ``read`` a folder, to split its samples (``make_split``), to
    make a ``Dataset`` of some of them (``make_dataset``) and to predict files (``predict_files``). The arguments are
    those of ``conf/data/_base.yaml``, where each is explained.

    Raises:
        ValueError: an argument is wrong. ``setup`` raises DataError, a ValueError too, where the data are.
    """

    slug: ClassVar[str]
    """Name of the data set on Kaggle, and of its folder."""
    task: ClassVar[str] = ""
    """The experiment it is for: `triptych data` knows it by this name too."""
    kaggle: ClassVar[str] = ""
    """Its page on kaggle.com, ``competitions/NAME`` or ``datasets/OWNER/NAME``; empty where it has none."""
    contents: ClassVar[tuple[str, ...]] = ()
    """Files and folders that a complete download has."""
    augmentations: ClassVar[tuple[str, ...]] = ()
    """What ``data.augment`` can name."""
    streams: ClassVar[bool] = False
    """Whether ``read`` heeds ``self.in_memory``: where that is false, samples stay on disk until a batch needs them."""
    published: ClassVar[tuple[str, ...]] = ()
    """The published splits this data set has, out of ``mle_bench`` and ``papers``."""

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
        self.augment_names = chosen(augment, self.augmentations)
        self.cache = cache_folder(cache_dir)
        self.in_memory = in_memory
        self.on_device = on_device
        self.datasets: dict[str, Dataset[Batch]] = {}

    # What a data set says about itself

    @classmethod
    @abstractmethod
    def synthesize(cls, folder: Path) -> None:
        """Write the synthetic stand-in into ``folder``, in Kaggle's layout."""

    @classmethod
    def download(cls, root: Path) -> Path:
        """Download the data set from Kaggle to its folder below ``root``; raises DataError where that fails."""
        return from_kaggle(cls.kaggle, root / cls.slug, cls.contents)

    @abstractmethod
    def read(self, folder: Path) -> tuple[Samples, str]:
        """Decode all labelled samples below ``folder``; returns them and the fingerprint of their files.

        Raises:
            DataError: a file is missing or wrong.
        """

    @abstractmethod
    def make_split(self, samples: Samples) -> Split:
        """Split by ``self.split_rule``, one of grouped, random and what the class lists as ``published``."""

    @abstractmethod
    def make_dataset(self, samples: Samples, indices: np.ndarray, training: bool) -> Dataset[Batch]:
        """The samples with these indices."""

    @abstractmethod
    def predict_files(self, model: Predictor, source: Path, output: Path, **options: Any) -> Iterator[str]:
        """Predict what lies at ``source``, write it into the folder ``output`` and yield a line for each input skipped.

        Args:
            model: the trained model.
            source: a file or folder.
            output: a folder that exists.
            options: what the command line offers beyond that, of which a data set names those that it knows:
                ``resume``, go on with an interrupted prediction; ``weights``, a digest of the checkpoint, so that
                predictions of another one are not resumed; ``progress``, to be called with the number of inputs
                done and of all; and what is asked for by its own name, such as ``submission``.
        """

    def serving(self, model: Any) -> Serving:
        """What `triptych export` writes: the model (after ``setup``) from raw inputs to answers.

        Raises:
            NotImplementedError: the data set does not say.
        """
        lacking = f"{type(self).__name__} has no method `serving`, which says what goes into an exported model"
        raise NotImplementedError(f"{lacking}: add it, see docs/adding-a-task.md and data/serving/contract.py")

    def model_arguments(self) -> dict[str, Any]:
        """What the model must know of the training data (after ``setup``): plain numbers, strings and lists."""
        return {}

    def make_augmentation(self) -> nn.Module:
        """A transform of float batches, made from ``self.augment_names`` after the data are read."""
        return nn.Identity()

    @cached_property
    def augmentation(self) -> nn.Module:
        """What ``make_augmentation`` gives, made for the first training batch: a finished run does without."""
        return self.make_augmentation()

    def prepare_batch(self, batch: Batch, training: bool) -> Batch:
        """From the tensors of the dataset to what the model takes, on the device: floats, augmented in training."""
        inputs, targets = batch
        return (self.augmentation(inputs) if training else inputs), targets

    # What follows from it

    def setup(self, stage: str | None = None) -> None:
        """Find, read and split the data; once, whatever the stage."""
        if self.datasets:
            return
        found = locate(self.slug, self.source, self.root, self.cache, self.synthesize, self.download)
        self.samples, fingerprint = self.read(found.folder)
        split = self._fewer(self._split())
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
            stand_in="synthetic data" if found.made_up else split.stand_in,
            fingerprint=fingerprint,
            sizes={"train": len(split.train), "val": len(split.val), "test": len(split.test)},
        )

    def describe(self) -> dict[str, Any]:
        """The data's part of ``metrics.json``."""
        return asdict(self.description)

    def state_dict(self) -> dict[str, Any]:
        """What checkpoints keep of the data, and a resumed run must have; arguments that make the samples, too."""
        return identity(self.description.fingerprint, self.split)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse, with a DataError, to go on with other data than the checkpoint's."""
        refuse_others(state, self.state_dict(), self.description.root)

    def _split(self) -> Split:
        if self.split_rule == "all":
            return splits.everything(self.count(self.samples))
        return self.make_split(self.samples)

    def _fewer(self, split: Split) -> Split:
        """The split with at most as many training samples as ``data.train_size`` says: small data have fewer anyway."""
        labels = self.labels(self.samples)
        own = None if labels is None else labels[split.train]
        return replace(split, train=splits.fewer(split.train, self.train_size, self.split_seed, own))

    def labels(self, samples: Samples) -> np.ndarray | None:
        """The class of each sample, whose shares ``data.train_size`` keeps; None where samples have none."""
        return None

    @staticmethod
    def count(samples: Samples) -> int:
        """How many samples there are."""
        return len(samples)  # type: ignore[arg-type]

    def draw_split(
        self, samples: Samples, groups: Sequence[str] | None = None, official_test: np.ndarray | None = None
    ) -> Split:
        """A split by the project's own rules (see ``triptych.data.splits.draw``)."""
        return splits.draw(self.count(samples), groups, self.split_seed, official_test, self.folds, self.fold)

    def groups(self, samples: Samples) -> Sequence[str] | None:
        """What each sample belongs to, such as a patient; None where every sample stands for itself."""
        return None

    def sample_names(self, indices: Sequence[int], split: str = "train") -> list[str]:
        """What a user knows samples of a split's dataset by, from their numbers there."""
        there: np.ndarray = getattr(self.split, split)
        rows = there[np.asarray(indices, int) % len(there)]
        return [self.sample_name(self.samples, int(row)) for row in rows]

    def sample_name(self, samples: Samples, index: int) -> str:
        """What a user knows a sample by: the name of its file, where it has one of its own."""
        return f"sample {index}"

    def train_dataloader(self) -> DataLoader[Batch]:
        size = len(self.datasets["train"])  # type: ignore[arg-type]
        batch_size = size if self.batch_size == "full" else int(self.batch_size)
        # Its seed is set anew for each epoch.
        generator = torch.Generator()
        dataset, sampler = self.datasets["train"], self.train_sampler(generator)
        loading = self._loading()
        if self.trainer is not None and self.in_memory and not self.num_workers:
            there = device_placement.placed(dataset, self.trainer.strategy.root_device, self.on_device)
            loading["pin_memory"] &= there is dataset  # what is on the device need not be copied there
            dataset = there
        device = None if self.num_workers else getattr(dataset, "gathers_on", None)  # workers are sent arrays
        batches = distributed.training_batches(dataset, batch_size, sampler, generator, self.trainer, device)
        return loader.ResumableLoader(dataset, generator=generator, **batches, **loading)

    def train_sampler(self, generator: torch.Generator) -> Sampler[int] | None:
        """What draws the training samples of an epoch from ``generator``; None for each once, in random order."""
        return None

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Batch] | list[Any]:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, name: str) -> DataLoader[Batch] | list[Any]:
        if name not in self.datasets:
            return []
        # A generator, or each iteration would draw a number of the run's own for its workers.
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
            # For the copy to a GPU; a run on the CPU beside one makes none.
            "pin_memory": self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            "collate_fn": as_is,
            "worker_init_fn": loader.begin_worker,
        }

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        # Lightning would look through all that a batch may hold, in each step.
        pair = isinstance(batch, tuple | list)  # others may be what their own data module makes of them
        there = device.type == "cpu" or (pair and all(getattr(part, "device", None) == device for part in batch))
        return batch if there else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        training = self.trainer is not None and self.trainer.state.stage is RunningStage.TRAINING
        return self.prepare_batch(batch, training)

    def examples(self, count: int) -> Batch:
        """``count`` validation samples (training ones where there is no validation) spread over the split."""
        dataset = self.datasets.get("val", self.datasets["train"])
        rows = spread(count, len(dataset))  # type: ignore[arg-type]
        return self.prepare_batch(dataset.__getitems__(rows), training=False)  # type: ignore[attr-defined]

    def evaluation_batches(self, name: str, count: int | None = None, batch_size: int | None = None) -> Iterator[Batch]:
        """Batches of a split as evaluation sees them, on the CPU: whole samples in order, none of them augmented.

        No random number is drawn, so that training goes on behind them as it would have.

        Args:
            name: ``train``, ``val`` or ``test``.
            count: only so many samples, spread over the split.
            batch_size: samples a batch; None: ``data.eval_batch_size``.
        """
        indices: np.ndarray = getattr(self.split, name)
        if count is not None:
            indices = indices[spread(count, len(indices))]
        dataset = self.make_dataset(self.samples, indices, training=False)
        size = batch_size or self.eval_batch_size
        for start in range(0, len(indices), size):
            rows = range(start, min(start + size, len(indices)))
            yield self.prepare_batch(dataset.__getitems__(rows), training=False)  # type: ignore[attr-defined]
