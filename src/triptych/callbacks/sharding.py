"""The weights of a network that several devices hold in parts (FSDP)."""

from contextlib import AbstractContextManager, nullcontext

from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import FSDPStrategy


def whole_weights(model: LightningModule) -> AbstractContextManager[None]:
    """Let a sharded model have all its weights, each in its shape, while this lasts; any other has them anyway.

    All processes enter it together, for each gives its parts to the others. Within it one of them may ask the model
    alone. What is written to the weights is lost.
    """
    strategy = None if model._trainer is None else model._trainer.strategy
    if not isinstance(strategy, FSDPStrategy):
        return nullcontext()
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel.summon_full_params(strategy.model, writeback=False)  # type: ignore[arg-type]
