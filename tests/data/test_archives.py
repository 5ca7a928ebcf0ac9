"""Safe unpacking: malicious and damaged archives are refused before anything is written outside their folder."""

import stat
import zipfile
from pathlib import Path

import pytest

from triptych.data import archives
from triptych.data.archives import remove_leftovers, unpack_all
from triptych.data.errors import DataError


def write_zip(path: Path, entries: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_archive_is_replaced_by_its_contents(tmp_path: Path) -> None:
    write_zip(tmp_path / "own_folder.zip", {"own_folder/1.png": b"1", "__MACOSX/._1.png": b"", "own_folder/._1": b""})
    write_zip(tmp_path / "bare.zip", {"1.png": b"1", "2.png": b"2"})
    write_zip(tmp_path / "below" / "table.csv.zip", {"table.csv": b"id"})
    unpack_all(tmp_path)
    files = [name for name in tree(tmp_path) if "." in name]
    assert files == ["bare/1.png", "bare/2.png", "below/table.csv", "own_folder/1.png"]


def test_archive_next_to_its_contents_stays_packed(tmp_path: Path) -> None:
    write_zip(tmp_path / "train.zip", {"train/other.png": b"1"})
    (tmp_path / "train").mkdir()
    unpack_all(tmp_path)
    assert tree(tmp_path) == ["train", "train.zip"]


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/out.txt", "C:\\out.txt", "..\\out.txt"])
def test_path_traversal_is_refused(tmp_path: Path, name: str) -> None:
    write_zip(tmp_path / "in" / "train.zip", {"good.txt": b"good", name: b"evil"})
    with pytest.raises(DataError, match="leaves its folder"):
        unpack_all(tmp_path / "in")
    assert tree(tmp_path) == ["in", "in/train.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_entry_that_is_a_link_or_device_is_refused(tmp_path: Path, kind: int) -> None:
    entry = zipfile.ZipInfo("link")
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(DataError, match="'link' is a link or device"):
        unpack_all(tmp_path)
    assert tree(tmp_path) == ["train.zip"]


def test_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 1_500_000)
    for name in ("a.zip", "b.zip"):
        bomb = write_zip(tmp_path / name, {"zeros": bytes(1_000_000)})
        assert bomb.stat().st_size < 2_000
    with pytest.raises(DataError, match=r"unpack to 2,000,000 bytes, more than 1,500,000: unpack them by hand"):
        unpack_all(tmp_path)
    assert tree(tmp_path) == ["a.zip", "b.zip"]


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 9)
    write_zip(tmp_path / "a.zip", {str(number): b"" for number in range(10)})
    with pytest.raises(DataError, match="hold 10 files, more than 9"):
        unpack_all(tmp_path)


def test_bomb_with_a_forged_size_is_refused(tmp_path: Path) -> None:
    bomb = write_zip(tmp_path / "a.zip", {"zeros": bytes(1_000_000)})
    honest, small = (1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    content = bomb.read_bytes()
    assert content.count(honest) == 2  # in the local header and in the central directory
    bomb.write_bytes(content.replace(honest, small))
    with pytest.raises(DataError, match=r"a\.zip is damaged"):
        unpack_all(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("zeros")) <= 10


@pytest.mark.parametrize("damage", ["no zip", "cut off", "flipped"])
def test_damaged_archive_is_named(tmp_path: Path, damage: str) -> None:
    path = write_zip(tmp_path / "train.zip", {"train/1.png": bytes(range(256)) * 10})
    content = path.read_bytes()
    middle = 60
    flipped = content[:middle] + bytes(byte ^ 255 for byte in content[middle : middle + 20]) + content[middle + 20 :]
    path.write_bytes({"no zip": b"<html>", "cut off": content[: len(content) // 2], "flipped": flipped}[damage])
    with pytest.raises(DataError, match=r"train\.zip is damaged .*download it again"):
        unpack_all(tmp_path)


def test_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "train.zip", {"1.png": b"1"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="is encrypted: unpack it by hand"):
        unpack_all(tmp_path)


def test_operating_system_leftovers_are_removed(tmp_path: Path) -> None:
    for name in ("__MACOSX/a/._1.png", "a/.DS_Store", "a/._1.png", "a/1.png", "Thumbs.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert tree(tmp_path) == ["a", "a/1.png"]
