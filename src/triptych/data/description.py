"""Description of the data in a run's results, and their identity in its checkpoints, verified on resuming."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from triptych.data.errors import DataError
from triptych.data.splits import Split


@dataclass(frozen=True)
class Description:
    """What the results say about the data."""

    source: str
    root: str
    split: str
    fold: str | None
    stand_in: str | None
    fingerprint: str
    sizes: dict[str, int]


def identity(fingerprint: str, split: Split) -> dict[str, str]:
    """Return the fingerprint of the files and a digest of the sample indices of each split, in order."""
    parts = (split.train, split.val, split.test)
    samples = b"".join(hashlib.sha256(part.astype("<i8").tobytes()).digest() for part in parts)
    return {"fingerprint": fingerprint, "split": hashlib.sha256(samples).hexdigest()[:16]}


def refuse_others(saved: Mapping[str, Any], now: Mapping[str, Any], root: str) -> None:
    """Reject data that differ from those of a checkpoint: a run could be tested on samples that it trained on.

    Args:
        saved: the identity in the checkpoint.
        now: that of the data.
        root: the folder of the data.

    Raises:
        DataError: the files or the samples of a split differ, or samples are made from the files in another way.
    """
    if saved.get("fingerprint") != now["fingerprint"]:
        raise DataError(
            f"the files in {root} are not those that the run was trained on: give it its own (data.root=...), "
            "or start a new run"
        )
    if saved.get("split") != now["split"]:
        raise DataError(
            "the splits hold other samples than the run's, which could be tested on what it was trained on: leave "
            "data.split, split_seed, folds, fold and train_size as they were, or start a new run"
        )
    for key, value in now.items():
        if key in saved and saved[key] != value:
            raise DataError(
                f"data.{key}={value}: a resumed run keeps its own, {saved[key]}; start a new one to change it"
            )
