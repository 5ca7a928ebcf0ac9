"""Sharded training (FSDP) with the results of training on one device: fixes to Lightning, and checks."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import FSDPStrategy


def patch_sharding(strategy: FSDPStrategy) -> None:
    """Patch the strategy so that a sharded network trains as on one device, is tested as trained, and can be resumed.

    By default Lightning shards the network again for the test, although it is sharded already, passes hooks a
    checkpoint without weights, and refuses to clip gradients by their norm. In mixed precision it also rounds targets
    and buffers, prices in dollars to hundreds, and the metrics with them.
    """
    from torch.distributed.fsdp import MixedPrecision

    load = strategy.load_checkpoint

    def load_checkpoint(path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        torch.load(path, map_location="meta", weights_only=True)  # refuses pickled code, which Lightning would run
        return {"state_dict": {}, **load(path, weights_only)}

    strategy._setup_model = cache(strategy._setup_model)  # type: ignore[method-assign]
    strategy.load_checkpoint = load_checkpoint  # type: ignore[method-assign, assignment]
    strategy.mixed_precision = MixedPrecision()  # nothing but autocast
    clipper: Any = strategy.precision_plugin
    clipper.clip_grad_by_norm = lambda _, norm: strategy.model.clip_grad_norm_(norm)  # type: ignore[union-attr, operator]
    if strategy._layer_sync is not None:
        # Reverting would restore layers that cannot handle shards; the synchronised ones do not synchronise in a test.
        strategy._layer_sync.revert = lambda model: model  # type: ignore[method-assign]


def check_sharding(trainer: Trainer, optimizer: str) -> None:
    """Refuse what needs whole weights in every step, if each process holds only shards of them.

    Raises:
        ValueError: the optimizer's class is Muon, or weights are averaged.
    """
    if trainer.world_size == 1:
        return
    if optimizer.endswith(".Muon"):
        raise ValueError(
            "optimizer=muon looks at whole matrices, and sharding leaves a process parts of them: set optimizer=adamw, "
            "or trainer=ddp"
        )
    if any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        raise ValueError("averaging weights needs whole ones, and sharding leaves a process parts: set trainer=ddp")
