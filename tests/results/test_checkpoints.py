"""Resuming never uses a damaged checkpoint."""

from pathlib import Path

import pytest
import torch

from triptych.results.checkpoints import is_intact, resumable


def save(path: Path) -> int:
    """Write a checkpoint; returns its size in bytes."""
    path.parent.mkdir(exist_ok=True)
    torch.save({"weights": torch.randn(10_000)}, path)
    return path.stat().st_size


def zero(path: Path, start: int, end: int) -> None:
    content = bytearray(path.read_bytes())
    content[start:end] = bytes(end - start)
    path.write_bytes(content)


def cut(path: Path, start: int, end: int) -> None:
    path.write_bytes(path.read_bytes()[:start])


@pytest.mark.parametrize("damage", [zero, cut])
@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_damage_anywhere_is_detected(damage: object, where: float, tmp_path: Path):
    path = tmp_path / "last.ckpt"
    size = save(path)
    assert is_intact(path)
    damage(path, int(where * size), min(size, int(where * size) + 512))  # type: ignore[operator]
    assert not is_intact(path)


def test_the_previous_checkpoint_replaces_a_damaged_last_one(tmp_path: Path):
    last, previous = (tmp_path / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    assert resumable(tmp_path) == (None, [])
    size = save(last)
    assert resumable(tmp_path) == (last, [])
    save(previous)
    assert resumable(tmp_path) == (last, [])
    zero(last, size // 2, size // 2 + 64)
    assert resumable(tmp_path) == (previous, [last])
    previous.write_bytes(b"")
    assert resumable(tmp_path) == (None, [last, previous])
