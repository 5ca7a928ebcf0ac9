"""The cache: decoded once, keyed by the files' bytes, never torn, and never needed."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triptych.data.cache import Arrays, cache_folder, cached, code_version, fingerprint
from triptych.data.errors import DataError


class Decoder:
    """Counts how often it decodes."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return {"train/1.png": np.arange(6, dtype=np.uint8).reshape(2, 3), "prices": np.array([1.5], np.float32)}


@pytest.fixture
def decode() -> Decoder:
    return Decoder()


def assert_whole(arrays: Arrays) -> None:
    expected = Decoder()()
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)


def test_the_second_time_nothing_is_decoded(tmp_path: Path, decode: Decoder):
    assert_whole(cached(tmp_path / "new" / "folder", "key", decode))
    assert_whole(cached(tmp_path / "new" / "folder", "key", decode))
    assert decode.calls == 1
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["key.npz"]


def test_another_key_is_decoded_anew(tmp_path: Path, decode: Decoder):
    cached(tmp_path, "key", decode)
    cached(tmp_path, "other", decode)
    assert decode.calls == 2


@pytest.mark.parametrize("damage", ["empty", "half", "noise", "pickle", "flipped", "folder"])
def test_a_damaged_cache_is_made_again(damage: str, tmp_path: Path, decode: Decoder):
    path = tmp_path / "key.npz"
    cached(tmp_path, "key", decode)
    whole = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "pickle":
        np.savez(path, prices=np.array([{"an": "object"}], dtype=object))
    else:
        flipped = bytearray(whole)
        flipped[8] ^= 0xFF  # the method of compression
        flipped[whole.rindex(b"PK\x01\x02") + 10] ^= 0xFF
        path.write_bytes(
            {"empty": b"", "half": whole[: len(whole) // 2], "noise": b"noise" * 99, "flipped": flipped}[damage]
        )
    assert_whole(cached(tmp_path, "key", decode))
    assert decode.calls == 2
    if damage != "folder":
        assert_whole(cached(tmp_path, "key", decode))
        assert decode.calls == 2


def test_every_torn_length_is_noticed(tmp_path: Path, decode: Decoder):
    cached(tmp_path, "key", decode)
    whole = (tmp_path / "key.npz").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "key.npz").write_bytes(whole[:length])
        assert_whole(cached(tmp_path, "key", decode))


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, decode: Decoder):
    (tmp_path / "file").touch()
    for _ in range(2):
        assert_whole(cached(tmp_path / "file", "key", decode))
    assert decode.calls == 2


def test_a_failed_decoding_leaves_nothing(tmp_path: Path):
    def fail() -> Arrays:
        raise DataError("1.png: not a readable image")

    with pytest.raises(DataError):
        cached(tmp_path, "key", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, decode: Decoder, monkeypatch: pytest.MonkeyPatch):
    def write_half(path: Path, **arrays: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", write_half)
    assert_whole(cached(tmp_path, "key", decode))
    assert list(tmp_path.iterdir()) == []


def test_writers_at_the_same_time_leave_one_whole_file(tmp_path: Path):
    together = threading.Barrier(8)

    def decode() -> Arrays:
        together.wait(timeout=30)
        return Decoder()()

    with ThreadPoolExecutor(8) as pool:
        for arrays in pool.map(lambda _: cached(tmp_path, "key", decode), range(8)):
            assert_whole(arrays)
    assert [path.name for path in tmp_path.iterdir()] == ["key.npz"]
    assert_whole(cached(tmp_path, "key", lambda: pytest.fail("decoded again")))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(name.encode())
    return [folder / "a.png", folder / "b.png"]


def test_the_fingerprint_is_that_of_names_and_bytes_alone(files: list[Path], tmp_path: Path):
    folder = files[0].parent
    before = fingerprint(folder, files)
    assert len(before) == 16
    assert fingerprint(folder, reversed(files)) == before

    moved = folder.rename(tmp_path / "elsewhere")
    files = [moved / path.name for path in files]
    assert fingerprint(moved, files) == before

    files[0].write_bytes(b"A.png")
    assert fingerprint(moved, files) != before
    files[0].write_bytes(b"a.png")
    assert fingerprint(moved, files) == before
    assert fingerprint(moved, files[:1]) != before
    assert fingerprint(moved, [files[0], files[1].rename(moved / "c.png")]) != before
    (moved / "below").mkdir()
    assert fingerprint(moved, [files[0], (moved / "c.png").rename(moved / "below" / "b.png")]) != before


def test_a_file_that_cannot_be_read_is_named(files: list[Path]):
    files[1].unlink()
    files[1].symlink_to("gone.png")
    with pytest.raises(
        DataError, match=r"b\.png: not a readable file \(No such file or directory\); replace or remove"
    ):
        fingerprint(files[1].parent, files)


def test_the_version_of_code_changes_with_it(tmp_path: Path):
    path = tmp_path / "module.py"
    path.write_text("x = 1\n")
    before = code_version(path)
    assert code_version(path) == before
    path.write_text("x = 2\n")
    assert code_version(path) != before


def test_the_cache_is_the_folder_named_or_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(None).name == "triptych"
    assert cache_folder(None).is_relative_to(tmp_path)
    assert cache_folder("some/folder") == Path("some/folder")
    assert cache_folder("~/folder") == tmp_path / "folder"
