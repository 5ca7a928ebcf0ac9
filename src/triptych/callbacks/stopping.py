"""Stop a distributed run on Ctrl-C or SIGTERM without a deadlock."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class StopTogether(Callback):
    """Let all processes stop at the same place, whichever of them receives a signal.

    Lightning communicates between processes within its signal handler, which collides with the collectives of the
    current step and deadlocks. Here the handler only sets a flag, and the processes agree after each step and each
    validation.
    """

    def __init__(self) -> None:
        self.stop_requested = False

    def attach(self, trainer: Trainer) -> None:
        """Replace Lightning's signal handling with this callback, and add it to the Trainer."""
        trainer._signal_connector._sigterm_notifier_fn = self._request_stop  # type: ignore[method-assign, assignment]
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        trainer.callbacks.append(self)  # type: ignore[attr-defined]

    def _request_stop(self, *_: Any) -> None:
        self.stop_requested = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._sync_stop(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._sync_stop(trainer)

    def _sync_stop(self, trainer: Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(self.stop_requested, all=False):
            trainer._signal_connector.received_sigterm = True
