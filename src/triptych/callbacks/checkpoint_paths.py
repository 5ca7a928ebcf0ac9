"""Keep the file paths in a loaded checkpoint within the run's own checkpoint folder."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class CheckpointPaths(Callback):
    """Rewrite the paths in a loaded checkpoint to files in the run's own folder.

    ModelCheckpoint stores the paths of the files it wrote, and later deletes and tests what lies there. If the run
    directory was moved, these files no longer exist, and an untrusted checkpoint could name any file.

    Args:
        folder: the checkpoint folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Rewrite the paths before Lightning restores the states of the callbacks."""
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
        """The path of the file of that name in the run's own folder; empty for an empty path."""
        name = Path(str(path or "").replace("\\", "/")).name
        return str(self.folder / name) if name not in ("", "..") else ""
