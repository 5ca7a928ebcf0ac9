"""Access to the whole weights of a network that is sharded over several devices (FSDP)."""

from contextlib import AbstractContextManager, nullcontext

from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import FSDPStrategy


def unsharded_weights(model: LightningModule) -> AbstractContextManager[None]:
    """Context manager in which a sharded model has its whole weights in their original shapes; otherwise a no-op.

    All processes must enter it together, because each sends its shards to the others. Within it, a single process may
    run the model alone. Changes to the weights are discarded.
    """
    strategy = None if model._trainer is None else model._trainer.strategy
    if not isinstance(strategy, FSDPStrategy):
        return nullcontext()
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel.summon_full_params(strategy.model, writeback=False)  # type: ignore[arg-type]
