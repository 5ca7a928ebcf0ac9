"""Cache keys (file contents and code versions) and the location of the cache."""

from pathlib import Path

import pytest

from triptych.data.cache import cache_folder, code_version, fingerprint
from triptych.data.errors import DataError


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(name.encode())
    return [folder / "a.png", folder / "b.png"]


def test_the_fingerprint_depends_on_names_and_bytes_only(files: list[Path], tmp_path: Path):
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


def test_an_unreadable_file_is_named(files: list[Path]):
    files[1].unlink()
    files[1].symlink_to("gone.png")
    with pytest.raises(
        DataError, match=r"b\.png: not a readable file \(No such file or directory\); replace or remove"
    ):
        fingerprint(files[1].parent, files)


def test_the_code_version_changes_with_the_code(tmp_path: Path):
    path = tmp_path / "module.py"
    path.write_text("x = 1\n")
    before = code_version(path)
    assert code_version(path) == before
    path.write_text("x = 2\n")
    assert code_version(path) != before


def test_the_cache_is_the_given_folder_or_the_users_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(None).name == "triptych"
    assert cache_folder(None).is_relative_to(tmp_path)
    assert cache_folder("some/folder") == Path("some/folder")
    assert cache_folder("~/folder") == tmp_path / "folder"
    with pytest.raises(DataError, match=r"data\.cache_dir=~no-such-user/x: there is no such home folder; write the"):
        cache_folder("~no-such-user/x")
