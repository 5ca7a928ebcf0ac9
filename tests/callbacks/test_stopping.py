"""Several processes stop at the same step; tests/test_distributed.py checks it with real processes."""

from types import SimpleNamespace
from typing import Any

import pytest

from triptych.callbacks.stopping import StopTogether


class Others:
    """The strategy of one of two processes; ``asked`` says whether the other was signalled."""

    def __init__(self, asked: bool) -> None:
        self.asked = asked

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        assert not all
        return decision or self.asked


@pytest.mark.parametrize(("asked", "others"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_end"])
def test_a_signal_to_any_process_stops_all_after_a_step_or_validation(asked: bool, others: bool, hook: str):
    signals = SimpleNamespace(received_sigterm=False)
    trainer: Any = SimpleNamespace(strategy=Others(others), _signal_connector=signals)
    stop = StopTogether()
    if asked:
        stop._request_stop()
    assert not signals.received_sigterm
    getattr(stop, hook)(trainer, None)
    assert signals.received_sigterm == (asked or others)
