"""How checkpoints come to the disk."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

UNFINISHED = ".tmp"
"""Suffix of a file that is being written; a run that is killed may leave one."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Write checkpoints aside, to the disk itself, then rename them: under its name a checkpoint is always whole.

    Lightning's own way goes through the folder for temporary files; from there to another disk it copies, and a file
    copied in part has the name already.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # torch.save itself would hide that the disk is full behind an error of its own
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
