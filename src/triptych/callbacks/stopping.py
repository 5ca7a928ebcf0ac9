"""Ctrl-C or SIGTERM in a run of several processes."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class StopTogether(Callback):
    """Let all processes stop at the same place, whichever of them a signal reaches.

    Lightning exchanges messages within its signal handler. They meet those of the step under way, and the processes
    wait for each other for ever. Here a handler only notes the signal, and the processes ask each other behind each
    step and each validation.
    """

    def __init__(self) -> None:
        self.asked = False

    def attach(self, trainer: Trainer) -> None:
        """Take the place of what Lightning does."""
        trainer._signal_connector._sigterm_notifier_fn = self._note  # type: ignore[method-assign, assignment]
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        trainer.callbacks.append(self)  # type: ignore[attr-defined]

    def _note(self, *_: Any) -> None:
        self.asked = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._ask(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ask(trainer)

    def _ask(self, trainer: Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            trainer._signal_connector.received_sigterm = True
