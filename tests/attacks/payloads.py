"""Building blocks of malicious run directories. A payload that works leaves a trace ``outside``."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

Poison = Callable[[Path, Path], None]
"""Poisons a run directory (first argument) so that reading it has an effect outside (second argument)."""
SECRET = "the-secret-of-the-environment"


class Evil:
    """Writes a file when unpickled."""

    def __init__(self, outside: Path) -> None:
        self.outside = outside

    def __reduce__(self) -> Any:
        return Path.touch, (self.outside / "ran",)


def fill(value: Any, outside: Path) -> Any:
    """The value with OUTSIDE and UP replaced by the folder's absolute path and its path from the run directory."""
    if isinstance(value, str):
        return value.replace("OUTSIDE", str(outside)).replace("UP", f"../../../{outside.name}")
    if isinstance(value, dict):
        return {key: fill(item, outside) for key, item in value.items()}
    return [fill(item, outside) for item in value] if isinstance(value, list) else value


def config(key: str, value: Any) -> Poison:
    """Set a value in the saved config."""

    def poison(run: Path, outside: Path) -> None:
        path = run / ".hydra/config.yaml"
        whole = yaml.safe_load(path.read_text())
        place = whole
        *above, last = key.split(".")
        for name in above:
            place = place.setdefault(name, {})
        place[last] = fill(value, outside)
        path.write_text(yaml.safe_dump(whole))

    return poison


def appended(name: str, text: str) -> Poison:
    """Append text to a file."""

    def poison(run: Path, outside: Path) -> None:
        with (run / name).open("a") as file:
            file.write(fill(text, outside))

    return poison


def written(name: str, text: str) -> Poison:
    """Replace a file by this text."""

    def poison(run: Path, outside: Path) -> None:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(fill(text, outside))

    return poison


def metrics(**values: Any) -> Poison:
    """Set values in metrics.json."""

    def poison(run: Path, outside: Path) -> None:
        path = run / "metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fill(values, outside)))

    return poison


def data_used(**values: Any) -> Poison:
    """Set values in the description of the data in metrics.json."""

    def poison(run: Path, outside: Path) -> None:
        used = json.loads((run / "metrics.json").read_text())["data"]
        metrics(data=used | values)(run, outside)

    return poison


def removed(key: str) -> Poison:
    """Delete a key from the saved config."""

    def poison(run: Path, outside: Path) -> None:
        path = run / ".hydra/config.yaml"
        whole = yaml.safe_load(path.read_text())
        del whole[key]
        path.write_text(yaml.safe_dump(whole))

    return poison


def nested(depth: int) -> Any:
    """An empty list nested in ``depth`` lists."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def checkpoint(change: Callable[[dict[str, Any], Path], Any]) -> Poison:
    """Apply ``change`` to the contents of both checkpoints."""

    def poison(run: Path, outside: Path) -> None:
        for path in (run / "checkpoints").glob("*.ckpt"):
            content = torch.load(path, weights_only=True)
            torch.save(change(content, outside) or content, path)

    return poison


def compressed(run: Path, outside: Path) -> None:
    """Rewrite the checkpoints with deflated entries, which could unpack to a thousand times their size."""
    for path in (run / "checkpoints").glob("*.ckpt"):
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in entries.items():
                archive.writestr(name, content)


def linked(name: str, to: str) -> Poison:
    """Replace a file or folder of the run by a symlink out of the run directory."""

    def poison(run: Path, outside: Path) -> None:
        path = run / name
        if path.is_dir():
            path.rename(outside / "moved")
        else:
            path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(fill(to, outside))

    return poison


def pipe(name: str) -> Poison:
    """Replace a file by a pipe without a writer: opening it blocks forever."""

    def poison(run: Path, outside: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return poison


def victims(content: dict[str, Any], outside: Path) -> None:
    """Name files outside as earlier best checkpoints, which ModelCheckpoint deletes when a better one comes."""
    for name, state in content["callbacks"].items():
        if not name.startswith("ModelCheckpoint"):
            continue
        # Lexically below the checkpoint folder, until the steps up are resolved.
        folder = outside.parent / "logs/housing/run/checkpoints"
        victim = f"{folder}/../../../../{outside.name}/victim"
        state.update(
            dirpath=str(folder),
            best_k_models={victim: torch.tensor(1e9)},
            kth_best_model_path=victim,
            best_model_path=victim,
        )
        state.update(kth_value=torch.tensor(1e9), best_model_score=torch.tensor(1e9))
