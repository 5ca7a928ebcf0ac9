"""Which floating-point format a run computes in."""

from typing import Any

import torch

from triptych.device import training_device

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed", "64-true")
"""Those of Lightning's that ``conf/trainer/auto.yaml`` names."""


def choose_precision(precision: str, accelerator: str) -> Any:
    """What Lightning's Trainer is given as its precision.

    Args:
        precision: ``trainer.precision``: one of Lightning's, or ``auto`` for ``bf16-mixed`` where the device multiplies
            bfloat16 numbers itself, else ``32-true``: where it only imitates them they cost more than they save.
        accelerator: ``trainer.accelerator``.
    """
    if precision != "auto":
        return precision
    return "bf16-mixed" if multiplies_bfloat16(training_device(accelerator)) else "32-true"


def recorded_precision(recorded: Any) -> Any:
    """The precision to measure a finished run in: the one it was trained in, if this machine has that.

    Args:
        recorded: ``precision`` as ``metrics.json`` has it, where anything may stand.
    """
    if recorded == "16-mixed" and not torch.cuda.is_available():
        return "32-true"
    return recorded if recorded in PRECISIONS else "32-true"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16, as NVIDIA's since Ampere and many server CPUs have."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # Younger than the oldest torch that will do.
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False
