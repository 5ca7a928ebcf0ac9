"""A checkpoint that names files names those beside it."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class CheckpointPaths(Callback):
    """Turn the paths in a checkpoint into those of its own folder.

    A ModelCheckpoint keeps the paths of what it wrote, and goes on by deleting and testing what lies there. Those of a
    run directory that was moved are no longer there, and those of a stranger's could be anyone's files.

    Args:
        folder: where the run has its checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Before the states of the callbacks are handed to them."""
        for state in checkpoint.get("callbacks", {}).values():
            if not isinstance(state, dict) or "best_model_path" not in state:
                continue
            state["dirpath"] = str(self.folder)
            for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
                state[name] = self._own(state.get(name))
            best = state.get("best_k_models")
            best = best if isinstance(best, dict) else {}
            state["best_k_models"] = {self._own(path): score for path, score in best.items()}

    def _own(self, path: Any) -> str:
        """The file of that name in the run's own folder; of no path none."""
        name = Path(str(path or "").replace("\\", "/")).name
        return str(self.folder / name) if name not in ("", "..") else ""
