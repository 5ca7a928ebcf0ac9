"""Choose the floating-point precision of a run."""

from typing import Any

import torch

from triptych.device import training_device

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed", "64-true")
"""The precisions of Lightning's that ``conf/trainer/auto.yaml`` names."""


def choose_precision(precision: str, accelerator: str) -> Any:
    """The ``precision`` argument for Lightning's Trainer.

    Args:
        precision: ``trainer.precision``: one of Lightning's, or ``auto`` for ``bf16-mixed`` if the device has bfloat16
            instructions, else ``32-true``: where bfloat16 is only emulated, it costs more than it saves.
        accelerator: ``trainer.accelerator``.
    """
    if precision != "auto":
        return precision
    return "bf16-mixed" if multiplies_bfloat16(training_device(accelerator)) else "32-true"


def recorded_precision(recorded: Any) -> Any:
    """The precision to evaluate a finished run in: the one it was trained in, if this machine supports it.

    Args:
        recorded: ``precision`` of ``metrics.json``, untrusted: a value of any type.
    """
    if recorded == "16-mixed" and not torch.cuda.is_available():
        return "32-true"
    return recorded if recorded in PRECISIONS else "32-true"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16 instructions, as NVIDIA's GPUs since Ampere and many server CPUs do."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # Missing in the oldest supported torch.
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False
