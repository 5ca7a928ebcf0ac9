"""The precision in which a run is trained and evaluated, depending on the device."""

import pytest
import torch

from triptych import precision
from triptych.precision import PRECISIONS, choose_precision, multiplies_bfloat16, recorded_precision

CPU = torch.device("cpu")


def capable(monkeypatch: pytest.MonkeyPatch, **capabilities: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)


@pytest.mark.parametrize("chosen", ["32-true", "16-mixed", "bf16-mixed", "64-true"])
def test_explicit_precision_is_used(chosen: str):
    assert choose_precision(chosen, "auto") == chosen


@pytest.mark.parametrize("recorded", PRECISIONS)
def test_run_is_evaluated_in_its_own_precision(recorded: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert recorded_precision(recorded) == recorded


@pytest.mark.parametrize("recorded", [None, 16, "float8", ["32-true"], {"a": 1}])
def test_invalid_recorded_precision_falls_back_to_single(recorded: object):
    assert recorded_precision(recorded) == "32-true"


def test_half_precision_falls_back_to_single_without_a_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert recorded_precision("16-mixed") == "32-true"


@pytest.mark.parametrize(("fast", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_precision_depends_on_the_device(fast: bool, chosen: str, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: asked.append(device) or fast)
    assert choose_precision("auto", "cpu") == chosen
    assert asked == [CPU]


@pytest.mark.parametrize(("accelerator", "device"), [("auto", "cuda"), ("gpu", "cuda"), ("cpu", "cpu")])
def test_auto_precision_asks_the_device_that_trains(accelerator: str, device: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    asked = []
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: asked.append(device.type) or True)
    choose_precision("auto", accelerator)
    assert asked == [device]


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_f": True}, False),  # bfloat16 would be emulated
        ({"bf16": True}, False),  # on Arm, not benchmarked
    ],
)
def test_cpus_with_native_bfloat16(capabilities: dict[str, bool], fast: bool, monkeypatch: pytest.MonkeyPatch):
    capable(monkeypatch, **capabilities)
    assert multiplies_bfloat16(CPU) == fast


def test_torch_without_capabilities_counts_as_emulating_bfloat16(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not multiplies_bfloat16(CPU)


def test_unknown_device_counts_as_emulating_bfloat16():
    assert not multiplies_bfloat16(torch.device("mps"))
