"""Atomic writing of checkpoints."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

UNFINISHED = ".tmp"
"""Suffix of a file that is being written; a killed run may leave one."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically: to a temporary file beside the target, flushed to disk and then renamed.

    Lightning writes to the system's folder for temporary files; from there to another disk it copies, and a partly
    copied file has the final name already.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # writing to a file, torch.save would hide a full disk behind an error of its own
        torch.save(checkpoint, content)
        aside = path.with_name(path.name + UNFINISHED)
        try:
            with aside.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
