"""Where data come from: the user's folder, Kaggle or the synthetic stand-in, and never one silently for another."""

import logging
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import triptych.data.synthetic
from triptych.data.catalogue import data_sets
from triptych.data.errors import DataError
from triptych.data.sources import Source, data_root, locate, synthetic_folder, write_atomically, write_synthetic

SLUG = "some-data"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def find(root: Path, cache: Path) -> Callable[[str], Source]:
    """``locate`` as a function of ``data.source`` alone."""

    def download(root: Path) -> Path:
        folder = root / SLUG
        folder.mkdir(parents=True)
        (folder / "from_kaggle.csv").touch()
        return folder

    return lambda source: locate(SLUG, source, root, cache, synthesize, download)


def synthesize(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "made_up.csv").write_text("1\n")


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_root_is_argument_then_environment_variable_then_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert data_root(None) == Path("data")
    monkeypatch.setenv("TRIPTYCH_DATA", "/of/the/variable")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root(None) == Path("/of/the/variable")
    assert data_root("given") == Path("given")
    assert data_root("~/given") == tmp_path / "given"
    with pytest.raises(DataError, match=r"data\.root=~no-such-user/x: there is no such home folder; write the whole"):
        data_root("~no-such-user/x")
    monkeypatch.setenv("TRIPTYCH_DATA", "~no-such-user/y")
    with pytest.raises(DataError, match=r"^TRIPTYCH_DATA=~no-such-user/y: there is no such home folder"):
        data_root(None)


@pytest.mark.parametrize("source", ["auto", "files", "kaggle"])
def test_an_existing_folder_is_used(source: str, find, root: Path):
    (root / SLUG).mkdir(parents=True)
    assert find(source) == Source(root / SLUG, "files")
    assert files_below(root) == []


def test_synthetic_data_in_the_users_folder_are_still_marked_synthetic(find, root: Path):
    root.mkdir()
    write_synthetic(root / SLUG, synthesize)
    assert find("files").kind == "files"
    assert find("files").is_synthetic
    shutil.rmtree(root / SLUG)
    synthesize(root / SLUG)
    assert not find("files").is_synthetic


def test_auto_without_a_folder_is_synthetic_and_says_so_in_one_line(find, root: Path, caplog):
    caplog.set_level(logging.INFO)
    found = find("auto")
    assert found.kind == "synthetic"
    assert files_below(found.folder) == ["made_up.csv"]
    (message,) = caplog.messages
    assert "\n" not in message
    assert message == f"No folder {root / SLUG}: training on SYNTHETIC data instead (data.source=files would refuse)."


def test_synthetic_is_used_even_where_files_exist(find, root: Path, cache: Path, caplog):
    caplog.set_level(logging.INFO)
    (root / SLUG).mkdir(parents=True)
    found = find("synthetic")
    assert found.kind == "synthetic"
    assert found.folder.is_relative_to(cache)
    assert caplog.messages == []


def test_files_without_a_folder_says_where_it_looked_and_the_remedy(find, root: Path, cache: Path):
    with pytest.raises(DataError) as caught:
        find("files")
    for part in (str(root / SLUG), f"triptych data download {SLUG}", "data.root", "TRIPTYCH_DATA", "data.source="):
        assert part in str(caught.value)
    assert not root.exists()
    assert not cache.exists()


def test_kaggle_downloads_a_missing_folder(find, root: Path):
    assert find("kaggle") == Source(root / SLUG, "files")
    assert files_below(root) == [f"{SLUG}/from_kaggle.csv"]


def test_an_unknown_source_is_refused(find):
    with pytest.raises(DataError, match=r"data.source=file: choose one of auto, files, kaggle, synthetic"):
        find("file")


@pytest.mark.parametrize("source", ["auto", "files", "kaggle"])
def test_a_broken_symlink_is_an_error_not_a_missing_folder(source: str, find, root: Path):
    root.mkdir()
    (root / SLUG).symlink_to(root / "unmounted")
    with pytest.raises(DataError, match=f"{SLUG} is a link to .*unmounted, which is not there"):
        find(source)


@pytest.mark.parametrize("wrong", ["empty", "file", "other files"])
@pytest.mark.parametrize("source", ["auto", "files"])
@pytest.mark.parametrize("name", data_sets())
def test_an_invalid_folder_is_an_error_never_a_fallback(name: str, source: str, wrong: str, root: Path):
    module = data_sets()[name]
    folder = root / module.slug
    if wrong == "file":
        root.mkdir()
        folder.touch()
    else:
        folder.mkdir(parents=True)
        if wrong == "other files":
            (folder / "readme.txt").touch()
    with pytest.raises(DataError, match=str(folder)):
        module(root=str(root), source=source, cache_dir=str(root.parent / "cache")).setup()
    assert not (root.parent / "cache").exists()


def test_synthetic_data_are_written_once(cache: Path):
    folder = synthetic_folder(SLUG, cache, synthesize)
    (folder / "made_up.csv").write_text("kept\n")
    assert synthetic_folder(SLUG, cache, synthesize) == folder
    assert (folder / "made_up.csv").read_text() == "kept\n"


def test_an_unwritable_cache_is_named_with_the_remedy(cache: Path):
    cache.touch()
    with pytest.raises(
        DataError, match=rf"{cache}: the synthetic data cannot be kept here \(.*\); .* data\.cache_dir="
    ):
        synthetic_folder(SLUG, cache, synthesize)


def test_synthetic_data_are_rewritten_when_the_generator_code_changes(cache: Path, tmp_path: Path, monkeypatch):
    writers = shutil.copytree(triptych.data.synthetic.__path__[0], tmp_path / "synthetic")
    monkeypatch.setattr(triptych.data.synthetic, "__path__", [str(writers)])
    before = synthetic_folder(SLUG, cache, synthesize)
    with next(writers.glob("*.py")).open("a") as file:
        file.write("# changed\n")
    assert synthetic_folder(SLUG, cache, synthesize) != before


def test_concurrent_runs_share_one_complete_synthetic_folder(cache: Path):
    together = threading.Barrier(6)

    def write(folder: Path) -> None:
        together.wait(timeout=30)
        synthesize(folder)

    write.__module__ = synthesize.__module__
    with ThreadPoolExecutor(6) as pool:
        folders = set(pool.map(lambda _: synthetic_folder(SLUG, cache, write), range(6)))
    assert len(folders) == 1
    (path,) = (path for path in cache.rglob("*") if path.is_file())
    assert path == folders.pop() / "made_up.csv"


def test_a_failed_writer_leaves_nothing(tmp_path: Path):
    def fail(folder: Path) -> None:
        synthesize(folder)
        raise OSError(28, os.strerror(28))

    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / SLUG, fail)
    assert list(tmp_path.iterdir()) == []
