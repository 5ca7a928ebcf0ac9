"""Decoded images in the cache: decoded once, never torn; speed for those in memory, needed by those on disk."""

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
from triptych.data.stored import StoredImages, decoded

FILES = [Path(f"{number}.png") for number in range(5)]
"""They need not exist: what decodes them makes the pixels up."""

BOTH = pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "disk"])


class Decoder:
    """Makes an image up for each file, of a size of its own, and counts how often it is asked."""

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
    """What is in the cache but for its locks, by keys as they were given."""
    return sorted(f"{path.stem.split('-')[0]}{path.suffix}" for path in folder.iterdir() if path.suffix != ".lock")


def kept(folder: Path, suffix: str) -> Path:
    """The one file in the cache that ends so."""
    (path,) = folder.glob(f"key-????????.{suffix}")
    return path


@BOTH
@pytest.mark.parametrize("then_in_memory", [True, False], ids=["memory", "disk"])
def test_the_second_time_nothing_is_decoded_wherever_images_are(
    in_memory: bool, then_in_memory: bool, tmp_path: Path, decode: Decoder
):
    folder = tmp_path / "new" / "folder"
    assert_whole(decoded(folder, "key", FILES, decode, in_memory))
    assert_whole(decoded(folder, "key", FILES, decode, then_in_memory))
    assert decode.calls == len(FILES)
    assert names(folder) == ["key.npz", "key.pixels"]


@BOTH
def test_another_key_is_decoded_anew(in_memory: bool, tmp_path: Path, decode: Decoder):
    for key in ("key", "other"):
        decoded(tmp_path, key, FILES, decode, in_memory)
    assert decode.calls == 2 * len(FILES)


@BOTH
def test_other_files_another_order_or_another_pillow_are_decoded_anew(
    in_memory: bool, tmp_path: Path, decode: Decoder, monkeypatch: pytest.MonkeyPatch
):
    def assert_right(files: list[Path]) -> None:
        images = decoded(tmp_path, "key", files, decode, in_memory)
        found = [images[index][...].tolist() for index in range(len(images))]
        assert found == [Decoder()(path).tolist() for path in files]

    for files in (FILES, FILES[::-1], FILES[:3], [Path("0/1.png"), Path("2.png")]):
        assert_right(files)
    before = decode.calls
    assert_right([Path("/elsewhere") / path for path in FILES])  # wherever their folder lies
    assert decode.calls == before
    monkeypatch.setattr("PIL.__version__", "99.0")
    assert_right(FILES)
    assert decode.calls == before + len(FILES)


@BOTH
def test_an_index_of_another_number_of_images_is_made_again(in_memory: bool, tmp_path: Path, decode: Decoder):
    decoded(tmp_path, "key", FILES, decode, in_memory)
    decoded(tmp_path / "few", "key", FILES[:3], decode, in_memory)
    for suffix in ("npz", "pixels"):
        kept(tmp_path, suffix).write_bytes(kept(tmp_path / "few", suffix).read_bytes())
    assert_whole(decoded(tmp_path, "key", FILES, decode, in_memory))


@BOTH
@pytest.mark.parametrize("suffix", ["npz", "pixels"])
@pytest.mark.parametrize("damage", ["gone", "empty", "half", "noise", "folder"])
def test_a_damaged_cache_is_made_again(damage: str, suffix: str, in_memory: bool, tmp_path: Path, decode: Decoder):
    decoded(tmp_path, "key", FILES, decode, in_memory)
    path = kept(tmp_path, suffix)
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "noise": b"noise" * 99}[damage])
    if damage == "folder" and not in_memory:
        with pytest.raises(DataError, match=r"cannot be kept here"):
            decoded(tmp_path, "key", FILES, decode, in_memory)
        return
    for _ in range(2):
        assert_whole(decoded(tmp_path, "key", FILES, decode, in_memory))
    assert decode.calls == (3 if damage == "folder" else 2) * len(FILES)


def test_an_index_that_is_a_pickle_is_made_again(tmp_path: Path, decode: Decoder):
    decoded(tmp_path, "key", FILES, decode, in_memory=False)
    np.savez(kept(tmp_path, "npz"), shapes=np.array([{"an": "object"}], dtype=object))
    assert_whole(decoded(tmp_path, "key", FILES, decode, in_memory=False))
    assert decode.calls == 2 * len(FILES)


def test_a_changed_pixel_is_made_again_in_memory_and_named_where_it_is_read(tmp_path: Path, decode: Decoder):
    decoded(tmp_path, "key", FILES, decode, in_memory=False)
    path = kept(tmp_path, "pixels")
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    images = decoded(tmp_path, "key", FILES, decode, in_memory=False)
    np.testing.assert_array_equal(images[0][...], Decoder()(FILES[0]))
    for read in (lambda: images[4][...], lambda: images.stacked([4])):  # type: ignore[union-attr]
        with pytest.raises(
            DataError, match=r"key-\w+\.pixels: .* damaged \(a checksum differs\); remove this file, and"
        ):
            read()
    assert_whole(decoded(tmp_path, "key", FILES, decode, in_memory=True))
    assert_whole(images)  # the file is sound again


def test_a_file_that_goes_while_it_is_read_is_named(tmp_path: Path, decode: Decoder):
    images = decoded(tmp_path, "key", FILES, decode, in_memory=False)
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


def test_a_cache_that_cannot_be_written_is_done_without_in_memory(tmp_path: Path, decode: Decoder):
    folder = a_file(tmp_path)
    for _ in range(2):
        assert_whole(decoded(folder, "key", FILES, decode, in_memory=True))
    assert decode.calls == 2 * len(FILES)


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy_on_disk(tmp_path: Path, decode: Decoder):
    folder = a_file(tmp_path)
    with pytest.raises(DataError, match=rf"{folder}: .* cannot be kept here \(.*; make room, or .* data\.cache_dir="):
        decoded(folder, "key", FILES, decode, in_memory=False)
    assert decode.calls == 0


@BOTH
def test_a_failed_decoding_leaves_nothing(in_memory: bool, tmp_path: Path):
    def fail(path: Path) -> np.ndarray:
        if path == FILES[3]:
            raise DataError(f"{path}: not a readable image")
        return Decoder()(path)

    with pytest.raises(DataError, match=r"^3\.png: not a readable image"):
        decoded(tmp_path, "key", FILES, fail, in_memory)
    assert names(tmp_path) == []


@contextmanager
def small_disk() -> Iterator[None]:
    """No file may grow beyond 20 bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource", reason="Windows limits no file")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, decode: Decoder):
    with small_disk():
        images = decoded(tmp_path, "key", FILES, decode, in_memory=True)
    assert_whole(images)
    assert names(tmp_path) == []
    with small_disk(), pytest.raises(DataError, match=r"cannot be kept here \(File too large\).* data\.cache_dir="):
        decoded(tmp_path, "key", FILES, decode, in_memory=False)
    assert names(tmp_path) == []


@BOTH
def test_runs_that_start_at_the_same_time_have_whole_images(in_memory: bool, tmp_path: Path, decode: Decoder):
    together = threading.Barrier(6)

    def start(_: int) -> None:
        together.wait(timeout=30)
        assert_whole(decoded(tmp_path, "key", FILES, decode, in_memory))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(start, range(6)))
    assert names(tmp_path) == ["key.npz", "key.pixels"]
    # On disk one decodes and the others wait for it.
    assert in_memory or decode.calls == len(FILES)


SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from triptych.data.stored import decoded

def decode(path):
    time.sleep(0.05)
    return np.zeros((100, 100), np.uint8)

decoded(Path(sys.argv[1]), "key", [Path(f"{number}.png") for number in range(10_000)], decode, in_memory=False)
"""


def test_of_a_run_that_is_killed_as_it_decodes_nothing_is_taken_or_left(tmp_path: Path, decode: Decoder):
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)])
    waited_until(lambda: list(tmp_path.glob(".key-*.pixels")))
    process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.wait(timeout=30)
    assert names(tmp_path) == [".key.pixels"]
    assert_whole(decoded(tmp_path, "key", FILES, decode, in_memory=False))
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
    images = decoded(tmp_path, "squares", files, lambda path: pixels[int(path.name)], in_memory=False)
    assert isinstance(images, StoredImages)
    return images, pixels


@pytest.mark.parametrize("rows", [[4], [29, 0, 7, 7], list(range(30))])
def test_a_batch_is_its_images_in_the_order_asked(rows: list[int], squares: tuple[StoredImages, np.ndarray]):
    images, pixels = squares
    np.testing.assert_array_equal(images.stacked(rows), pixels[rows])
    some = images.take(rows)
    assert len(some) == len(rows)
    np.testing.assert_array_equal(some.stacked(range(len(rows))), pixels[rows])
    np.testing.assert_array_equal(some[0][...], pixels[rows[0]])


@pytest.mark.parametrize(
    "window", [np.s_[2:5, 1:4], np.s_[:, :], np.s_[0:1, 6:], np.s_[-2:, :-1], np.s_[3:100, 0:100]], ids=str
)
def test_a_window_is_that_of_the_array(window: tuple[slice, slice], squares: tuple[StoredImages, np.ndarray]):
    images, pixels = squares
    np.testing.assert_array_equal(images[11][window], pixels[11][window])


def test_images_go_to_other_processes_as_the_place_where_they_are(squares: tuple[StoredImages, np.ndarray]):
    images, pixels = squares
    sent = pickle.dumps(images)
    np.testing.assert_array_equal(pickle.loads(sent).stacked([3, 1]), pixels[[3, 1]])
