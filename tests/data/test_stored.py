"""The cache of decoded images: decoded once, never torn, optional in memory, required on disk."""

import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from triptych.data.errors import DataError
from triptych.data.stored import StoredImages, load_images

FILES = [Path(f"{number}.png") for number in range(5)]
"""They need not exist: ``Decoder`` invents their pixels."""

BOTH = pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "disk"])


class Decoder:
    """Invents an image for each file, each of a different size, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.lock = threading.Lock()

    def __call__(self, path: Path) -> np.ndarray:
        with self.lock:
            self.calls += 1
        number = int(path.stem)
        return (np.arange((2 + number) * 3).reshape(2 + number, 3) + 10 * number).astype(np.uint8)


@pytest.fixture
def decode() -> Decoder:
    return Decoder()


def assert_whole(images: object) -> None:
    assert len(images) == len(FILES)  # type: ignore[arg-type]
    for index, path in enumerate(FILES):
        np.testing.assert_array_equal(images[index][...], Decoder()(path), strict=True)  # type: ignore[index]


def names(folder: Path) -> list[str]:
    """The files in the cache except locks, by their keys without hashes."""
    return sorted(f"{path.stem.split('-')[0]}{path.suffix}" for path in folder.iterdir() if path.suffix != ".lock")


def kept(folder: Path, suffix: str) -> Path:
    """The only file in the cache with this suffix."""
    (path,) = folder.glob(f"key-????????.{suffix}")
    return path


@BOTH
@pytest.mark.parametrize("then_in_memory", [True, False], ids=["memory", "disk"])
def test_the_second_call_decodes_nothing_in_memory_or_on_disk(
    in_memory: bool, then_in_memory: bool, tmp_path: Path, decode: Decoder
):
    folder = tmp_path / "new" / "folder"
    assert_whole(load_images(folder, "key", FILES, decode, in_memory))
    assert_whole(load_images(folder, "key", FILES, decode, then_in_memory))
    assert decode.calls == len(FILES)
    assert names(folder) == ["key.npz", "key.pixels"]


@BOTH
def test_another_key_is_decoded_separately(in_memory: bool, tmp_path: Path, decode: Decoder):
    for key in ("key", "other"):
        load_images(tmp_path, key, FILES, decode, in_memory)
    assert decode.calls == 2 * len(FILES)


@BOTH
def test_other_files_order_or_pillow_version_are_decoded_again(
    in_memory: bool, tmp_path: Path, decode: Decoder, monkeypatch: pytest.MonkeyPatch
):
    def assert_right(files: list[Path]) -> None:
        images = load_images(tmp_path, "key", files, decode, in_memory)
        found = [images[index][...].tolist() for index in range(len(images))]
        assert found == [Decoder()(path).tolist() for path in files]

    for files in (FILES, FILES[::-1], FILES[:3], [Path("0/1.png"), Path("2.png")]):
        assert_right(files)
    before = decode.calls
    assert_right([Path("/elsewhere") / path for path in FILES])  # the parent folder is not part of the key
    assert decode.calls == before
    monkeypatch.setattr("PIL.__version__", "99.0")
    assert_right(FILES)
    assert decode.calls == before + len(FILES)


@BOTH
def test_an_index_with_another_number_of_images_is_rebuilt(in_memory: bool, tmp_path: Path, decode: Decoder):
    load_images(tmp_path, "key", FILES, decode, in_memory)
    load_images(tmp_path / "few", "key", FILES[:3], decode, in_memory)
    for suffix in ("npz", "pixels"):
        kept(tmp_path, suffix).write_bytes(kept(tmp_path / "few", suffix).read_bytes())
    assert_whole(load_images(tmp_path, "key", FILES, decode, in_memory))


@BOTH
@pytest.mark.parametrize("suffix", ["npz", "pixels"])
@pytest.mark.parametrize("damage", ["gone", "empty", "half", "noise", "folder"])
def test_a_damaged_cache_is_rebuilt(damage: str, suffix: str, in_memory: bool, tmp_path: Path, decode: Decoder):
    load_images(tmp_path, "key", FILES, decode, in_memory)
    path = kept(tmp_path, suffix)
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "noise": b"noise" * 99}[damage])
    if damage == "folder" and not in_memory:
        with pytest.raises(DataError, match=r"cannot be kept here"):
            load_images(tmp_path, "key", FILES, decode, in_memory)
        return
    for _ in range(2):
        assert_whole(load_images(tmp_path, "key", FILES, decode, in_memory))
    assert decode.calls == (3 if damage == "folder" else 2) * len(FILES)


def test_an_index_containing_a_pickle_is_rebuilt(tmp_path: Path, decode: Decoder):
    load_images(tmp_path, "key", FILES, decode, in_memory=False)
    np.savez(kept(tmp_path, "npz"), shapes=np.array([{"an": "object"}], dtype=object))
    assert_whole(load_images(tmp_path, "key", FILES, decode, in_memory=False))
    assert decode.calls == 2 * len(FILES)


def test_a_corrupt_pixel_is_rebuilt_in_memory_and_reported_on_disk(tmp_path: Path, decode: Decoder):
    load_images(tmp_path, "key", FILES, decode, in_memory=False)
    path = kept(tmp_path, "pixels")
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    images = load_images(tmp_path, "key", FILES, decode, in_memory=False)
    np.testing.assert_array_equal(images[0][...], Decoder()(FILES[0]))
    for read in (lambda: images[4][...], lambda: images.stacked([4])):  # type: ignore[union-attr]
        with pytest.raises(
            DataError, match=r"key-\w+\.pixels: .* damaged \(a checksum differs\); remove this file, and"
        ):
            read()
    assert_whole(load_images(tmp_path, "key", FILES, decode, in_memory=True))
    assert_whole(images)  # the file has been rebuilt


def test_a_cache_file_lost_while_in_use_is_named(tmp_path: Path, decode: Decoder):
    images = load_images(tmp_path, "key", FILES, decode, in_memory=False)
    path = kept(tmp_path, "pixels")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"key-\w+\.pixels: .* damaged \(it ends too early\)"):
        images[4][...]
    path.unlink()
    with pytest.raises(DataError, match=r"key-\w+\.pixels: .* damaged \(No such file or directory\)"):
        images[0][...]


def a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file"


def test_an_unwritable_cache_is_skipped_in_memory(tmp_path: Path, decode: Decoder):
    folder = a_file(tmp_path)
    for _ in range(2):
        assert_whole(load_images(folder, "key", FILES, decode, in_memory=True))
    assert decode.calls == 2 * len(FILES)


def test_an_unwritable_cache_is_an_error_with_a_remedy_on_disk(tmp_path: Path, decode: Decoder):
    folder = a_file(tmp_path)
    with pytest.raises(DataError, match=rf"{folder}: .* cannot be kept here \(.*; make room, or .* data\.cache_dir="):
        load_images(folder, "key", FILES, decode, in_memory=False)
    assert decode.calls == 0


@BOTH
def test_failed_decoding_leaves_no_files(in_memory: bool, tmp_path: Path):
    def fail(path: Path) -> np.ndarray:
        if path == FILES[3]:
            raise DataError(f"{path}: not a readable image")
        return Decoder()(path)

    with pytest.raises(DataError, match=r"^3\.png: not a readable image"):
        load_images(tmp_path, "key", FILES, fail, in_memory)
    assert names(tmp_path) == []


@contextmanager
def small_disk() -> Iterator[None]:
    """Limit files to 20 bytes, as if the disk were full."""
    resource = pytest.importorskip("resource", reason="Windows limits no file")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_no_partial_files(tmp_path: Path, decode: Decoder):
    with small_disk():
        images = load_images(tmp_path, "key", FILES, decode, in_memory=True)
    assert_whole(images)
    assert names(tmp_path) == []
    with small_disk(), pytest.raises(DataError, match=r"cannot be kept here \(File too large\).* data\.cache_dir="):
        load_images(tmp_path, "key", FILES, decode, in_memory=False)
    assert names(tmp_path) == []


@BOTH
def test_concurrent_runs_all_get_complete_images(in_memory: bool, tmp_path: Path, decode: Decoder):
    together = threading.Barrier(6)

    def start(_: int) -> None:
        together.wait(timeout=30)
        assert_whole(load_images(tmp_path, "key", FILES, decode, in_memory))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(start, range(6)))
    assert names(tmp_path) == ["key.npz", "key.pixels"]
    # On disk, one run decodes and the others wait for it.
    assert in_memory or decode.calls == len(FILES)


SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from triptych.data.stored import load_images

def decode(path):
    time.sleep(0.05)
    return np.zeros((100, 100), np.uint8)

load_images(Path(sys.argv[1]), "key", [Path(f"{number}.png") for number in range(10_000)], decode, in_memory=False)
"""


def test_killed_while_decoding_leaves_no_usable_partial_cache(tmp_path: Path, decode: Decoder):
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)])
    waited_until(lambda: list(tmp_path.glob(".key-*.pixels")))
    process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.wait(timeout=30)
    assert names(tmp_path) == [".key.pixels"]
    assert_whole(load_images(tmp_path, "key", FILES, decode, in_memory=False))
    assert names(tmp_path) == ["key.npz", "key.pixels"]


def waited_until(happened: Callable[[], object]) -> None:
    for _ in range(600):
        if happened():
            return
        time.sleep(0.05)
    pytest.fail("it never happened")


@pytest.fixture
def squares(tmp_path: Path) -> tuple[StoredImages, np.ndarray]:
    """Thirty stored images of one size, and their pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 6, 7), dtype=np.uint8)
    files = [Path(str(number)) for number in range(30)]
    images = load_images(tmp_path, "squares", files, lambda path: pixels[int(path.name)], in_memory=False)
    assert isinstance(images, StoredImages)
    return images, pixels


@pytest.mark.parametrize("rows", [[4], [29, 0, 7, 7], list(range(30))])
def test_a_batch_has_its_images_in_the_order_requested(rows: list[int], squares: tuple[StoredImages, np.ndarray]):
    images, pixels = squares
    np.testing.assert_array_equal(images.stacked(rows), pixels[rows])
    some = images.take(rows)
    assert len(some) == len(rows)
    np.testing.assert_array_equal(some.stacked(range(len(rows))), pixels[rows])
    np.testing.assert_array_equal(some[0][...], pixels[rows[0]])


@pytest.mark.parametrize(
    "window", [np.s_[2:5, 1:4], np.s_[:, :], np.s_[0:1, 6:], np.s_[-2:, :-1], np.s_[3:100, 0:100]], ids=str
)
def test_a_window_equals_the_array_slice(window: tuple[slice, slice], squares: tuple[StoredImages, np.ndarray]):
    images, pixels = squares
    np.testing.assert_array_equal(images[11][window], pixels[11][window])


def test_stored_images_are_pickled_by_reference_to_their_file(squares: tuple[StoredImages, np.ndarray]):
    images, pixels = squares
    sent = pickle.dumps(images)
    np.testing.assert_array_equal(pickle.loads(sent).stacked([3, 1]), pixels[[3, 1]])
