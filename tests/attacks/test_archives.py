"""Malicious archives write nothing outside their folder and leave nothing that looks complete."""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from triptych.data import archives
from triptych.data.archives import unpack_all
from triptych.data.errors import DataError
from triptych.data.sources import write_atomically

OUT = "../../out.txt"


def _zip(path: Path, *names: str, content: bytes = b"evil") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)


def _named(*names: str) -> Callable[[Path], None]:
    return lambda path: _zip(path, "good.txt", *names)


def _special(kind: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        entry = zipfile.ZipInfo("link")
        entry.create_system = 3
        entry.external_attr = (kind | 0o777) << 16
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(entry, "../..")
            archive.writestr("link/out.txt", "evil")

    return write


def _overlapping(path: Path) -> None:
    """Two directory entries that share the same bytes, as in overlapping zip bombs."""
    _zip(path, "a.txt", "b.txt", content=bytes(1000))
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\1\2")
    content[second + 42 : second + 46] = bytes(4)  # the offset of its local header: that of the first entry
    path.write_bytes(content)


def _torn(path: Path) -> None:
    _zip(path, "a.txt", "b.txt", content=bytes(range(256)) * 40)
    path.write_bytes(path.read_bytes()[:-40])


def _flipped(path: Path) -> None:
    _zip(path, "a.txt", "b.txt", content=bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"b.txt", 0, content.index(b"PK\1\2")) + 40] ^= 255
    path.write_bytes(content)


def _many(path: Path) -> None:
    _zip(path, *(f"{number}.txt" for number in range(50)))


ATTACKS: dict[str, Callable[[Path], None]] = {
    "a step up": _named(OUT),
    "a step up on the way": _named("a/../../../out.txt"),
    "the root": _named("/out.txt"),
    "a backslash": _named("..\\..\\out.txt"),
    "a drive": _named("C:/out.txt"),
    "a share": _named("//host/share/out.txt"),
    "one name twice": lambda path: _zip(path, "a.txt", "A.TXT"),
    "a link": _special(stat.S_IFLNK),
    "a pipe": _special(stat.S_IFIFO),
    "a device": _special(stat.S_IFBLK),
    "entries that overlap": _overlapping,
    "torn": _torn,
    "a flipped byte": _flipped,
    "too many files": _many,
    "too many bytes": lambda path: _zip(path, "zeros", content=bytes(2_000_000)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_refused_archive_leaves_nothing(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
):
    monkeypatch.setattr(archives, "MAX_ENTRIES", 40)
    monkeypatch.setattr(archives, "MAX_BYTES", 1_000_000)
    ATTACKS[attack](tmp_path / "train.zip")
    folder = tmp_path / "in" / "data-set"
    folder.parent.mkdir()

    def fill(aside: Path) -> None:
        aside.mkdir()
        shutil.copy(tmp_path / "train.zip", aside)
        unpack_all(aside)

    with pytest.raises(DataError, match=r"^(train\.zip|the archives)"):
        write_atomically(folder, fill)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in", "train.zip"]
    record_property("attacks refused", 1)


def test_the_traces_would_be_detected(tmp_path: Path):
    """Unpacked without checks, path traversal leaves a file outside the folder."""
    path = tmp_path / "in/deep/out.tar"
    path.parent.mkdir(parents=True)
    (tmp_path / "evil").write_text("evil")
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "evil", OUT)
    with tarfile.open(path) as archive:
        archive.extractall(path.parent, filter="fully_trusted")
    assert (tmp_path / "out.txt").exists()
