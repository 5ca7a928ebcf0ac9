"""The checkout that a run's code comes from: its commit, what differs from that, and its lock.

Git is only asked: it writes nothing, runs no hook, no external diff and no file monitor, and never waits for an answer.
Clean filters, such as those of Git LFS, do run.
"""

import hashlib
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
LOCK = PACKAGE.parents[1] / "requirements.lock"

FILE_LIMIT = 2**20
"""Bytes that one file may take in a patch; data and weights that were never committed are no code."""
PATCH_LIMIT = 10 * 2**20
FILES_LIMIT = 200
"""New files that a patch may take."""
SECONDS = 20

# Set by a hook or an editor that starts a run, these would lead to another checkout than the code's.
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
ASK_ONLY = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "LC_ALL": "C",
}
NO_PROGRAMS = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
# What `git apply` reads, whatever the user's config prefers to look at.
PLAIN = (
    "--binary",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-renames",
    "--no-relative",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--unified=3",
    "--submodule=short",
    "--ignore-submodules=dirty",
)


@dataclass(frozen=True)
class Code:
    """A checkout as it is at the moment.

    Attributes:
        commit: its hash.
        dirty: whether files differ from it, or are new and not ignored.
        patch: what ``git apply`` makes of the commit the files as they are; empty for a clean checkout.
        left_out: what the patch lacks, each with the reason.
    """

    commit: str
    dirty: bool = False
    patch: bytes = b""
    left_out: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """What ``metrics.json`` says of it: the patch by its SHA-256, None for none."""
        digest = hashlib.sha256(self.patch).hexdigest() if self.patch else None
        return {"commit": self.commit, "dirty": self.dirty, "patch": digest, "left_out": self.left_out}


def read_code(folder: Path = PACKAGE) -> Code | None:
    """The checkout around ``folder``; None without git, without a commit, and where git ignores the folder.

    The last is a package installed into the environment of another project, whose commit says nothing about it.
    """
    try:
        if _git(folder, "check-ignore", "--quiet", ".", may_fail=True).returncode == 0:
            return None
        commit, top = _git(folder, "rev-parse", "HEAD", "--show-toplevel").stdout.splitlines()
        changed = _git(folder, "status", "--porcelain", "--untracked-files=normal").stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    if not changed:
        return Code(commit.decode())
    try:
        patch, left_out = _changes(Path(os.fsdecode(top)))
    except (OSError, subprocess.SubprocessError) as error:
        patch, left_out = b"", [f"all changes ({error})"]
    return Code(commit.decode(), True, patch, left_out)


def lock_hash(lock: Path = LOCK) -> str | None:
    """SHA-256 of the checkout's ``requirements.lock``; None where there is none, as for an installed package."""
    try:
        return hashlib.sha256(lock.read_bytes()).hexdigest()
    except OSError:
        return None


def _changes(top: Path) -> tuple[bytes, list[str]]:
    """What differs from the commit, then the new files, each as long as there is room."""
    pieces = re.split(rb"^(?=diff --git )", _git(top, "diff", "HEAD", *PLAIN).stdout, flags=re.MULTILINE)
    changes = [(_name(piece), piece) for piece in pieces if piece]
    left_out = []
    new = sorted(filter(None, _git(top, "ls-files", "--others", "--exclude-standard", "-z").stdout.split(b"\0")))
    for number, raw in enumerate(new):
        name = os.fsdecode(raw)
        if number >= FILES_LIMIT:
            left_out.append(f"{len(new) - number} more new files")
            break
        if reason := _no_code(top / name):
            left_out.append(f"{name} ({reason})")
        else:
            # It exits with 1 where there is a difference, as there is to no file.
            piece = _git(top, "diff", "--no-index", *PLAIN, "--", os.devnull, name, may_fail=True).stdout
            changes.append((name, piece))
    patch = bytearray()
    for name, piece in changes:
        if len(piece) > FILE_LIMIT or len(patch) + len(piece) > PATCH_LIMIT:
            left_out.append(f"{name} ({len(piece) / 2**20:.1f} MB)")
        else:
            patch += piece
    return bytes(patch), [name.encode(errors="replace").decode() for name in left_out]


def _no_code(path: Path) -> str:
    """Why a new file is not taken; "" where it is."""
    if path.is_symlink() or not path.is_file():
        return "no plain file"
    size = path.stat().st_size
    if size > FILE_LIMIT:
        return f"{size / 2**20:.1f} MB"
    return "not text" if b"\0" in path.read_bytes() else ""


def _name(piece: bytes) -> str:
    """The file's name, of a piece that begins with ``diff --git a/NAME b/NAME``."""
    line = os.fsdecode(piece.partition(b"\n")[0]).removeprefix("diff --git ")
    return line[len(line) // 2 + 1 :].removeprefix("b/")


def _git(folder: Path, *arguments: str, may_fail: bool = False) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", "--no-pager", *NO_PROGRAMS, "-C", str(folder), *arguments],
        env={name: value for name, value in os.environ.items() if name not in ELSEWHERE} | ASK_ONLY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=not may_fail,
        timeout=SECONDS,
    )
