import pytest
import torch

from triptych import precision
from triptych.precision import PRECISIONS, choose_precision, multiplies_bfloat16, recorded_precision

CPU = torch.device("cpu")


def capable(monkeypatch: pytest.MonkeyPatch, **capabilities: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)


@pytest.mark.parametrize("chosen", ["32-true", "16-mixed", "bf16-mixed", "64-true"])
def test_a_precision_that_is_named_is_taken(chosen: str):
    assert choose_precision(chosen, "auto") == chosen


@pytest.mark.parametrize("recorded", PRECISIONS)
def test_a_run_is_measured_in_its_own_precision(recorded: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert recorded_precision(recorded) == recorded


@pytest.mark.parametrize("recorded", [None, 16, "float8", ["32-true"], {"a": 1}])
def test_what_is_no_precision_is_measured_in_single_precision(recorded: object):
    assert recorded_precision(recorded) == "32-true"


def test_half_precision_needs_a_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert recorded_precision("16-mixed") == "32-true"


@pytest.mark.parametrize(("fast", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_goes_by_the_device(fast: bool, chosen: str, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: asked.append(device) or fast)
    assert choose_precision("auto", "cpu") == chosen
    assert asked == [CPU]


@pytest.mark.parametrize(("accelerator", "device"), [("auto", "cuda"), ("gpu", "cuda"), ("cpu", "cpu")])
def test_a_gpu_is_asked_where_it_computes(accelerator: str, device: str, monkeypatch: pytest.MonkeyPatch):
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
        ({"avx512_f": True}, False),  # it would imitate them
        ({"bf16": True}, False),  # Arm's, not measured
    ],
)
def test_which_cpus_multiply_bfloat16(capabilities: dict[str, bool], fast: bool, monkeypatch: pytest.MonkeyPatch):
    capable(monkeypatch, **capabilities)
    assert multiplies_bfloat16(CPU) == fast


def test_a_torch_that_cannot_tell_is_taken_to_imitate(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not multiplies_bfloat16(CPU)


def test_an_unknown_device_is_taken_to_imitate():
    assert not multiplies_bfloat16(torch.device("mps"))
