"""What a run says of its data in its results, and keeps of them in its checkpoints, to go on with no others."""

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
    """The fingerprint of the files and a digest of the samples of each split, in their order."""
    parts = (split.train, split.val, split.test)
    samples = b"".join(hashlib.sha256(part.astype("<i8").tobytes()).digest() for part in parts)
    return {"fingerprint": fingerprint, "split": hashlib.sha256(samples).hexdigest()[:16]}


def refuse_others(saved: Mapping[str, Any], now: Mapping[str, Any], root: str) -> None:
    """Refuse data that are not those of a checkpoint: what was trained on could be what is tested on.

    Args:
        saved: the identity in the checkpoint.
        now: that of the data.
        root: where they lie.

    Raises:
        DataError: the files, or the samples of a split, are others, or are made of the files in another way.
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
