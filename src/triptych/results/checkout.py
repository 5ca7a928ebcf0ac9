"""The Git checkout that a run's code comes from: its commit, uncommitted changes, and the hash of its lock file.

Git is used read-only: it runs no hook, no external diff and no file monitor, and never prompts. Clean filters, such as
those of Git LFS, do run.
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
"""Most bytes of one file in a patch; larger ones are taken for data or weights, not code."""
PATCH_LIMIT = 10 * 2**20
FILES_LIMIT = 200
"""Most new files in a patch."""
SECONDS = 20

# If set by a hook or an editor that starts a run, these would point Git to another checkout than the code's.
GIT_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
ASK_ONLY = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "LC_ALL": "C",
}
NO_PROGRAMS = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
# The format that `git apply` reads, whatever the user's config says.
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
    """The state of a checkout.

    Attributes:
        commit: the hash of HEAD.
        dirty: whether files differ from the commit, or are new and not ignored.
        patch: turns the commit into the present files with ``git apply``; empty for a clean checkout.
        left_out: the files that the patch lacks, each with the reason.
    """

    commit: str
    dirty: bool = False
    patch: bytes = b""
    left_out: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the entry for ``metrics.json``, with the SHA-256 of the patch, or None without one."""
        digest = hashlib.sha256(self.patch).hexdigest() if self.patch else None
        return {"commit": self.commit, "dirty": self.dirty, "patch": digest, "left_out": self.left_out}


def read_code(folder: Path = PACKAGE) -> Code | None:
    """Return the checkout that contains ``folder``; None without Git, without a commit, or if Git ignores the folder.

    An ignored folder is a package installed into another project's environment; that project's commit says nothing
    about it.
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
    """Return the SHA-256 of the checkout's ``requirements.lock``; None if missing, as for an installed package."""
    try:
        return hashlib.sha256(lock.read_bytes()).hexdigest()
    except OSError:
        return None


def _changes(top: Path) -> tuple[bytes, list[str]]:
    """Return the patch of changed, then new files, up to the size limits, and the files left out."""
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
            # Exits with 1 if there is a difference, which is the case for any new file.
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
    """Return why a new file is left out; empty if it is not."""
    if path.is_symlink() or not path.is_file():
        return "no plain file"
    size = path.stat().st_size
    if size > FILE_LIMIT:
        return f"{size / 2**20:.1f} MB"
    return "not text" if b"\0" in path.read_bytes() else ""


def _name(piece: bytes) -> str:
    """Return the name of the file in a piece of a patch that begins with ``diff --git a/NAME b/NAME``."""
    line = os.fsdecode(piece.partition(b"\n")[0]).removeprefix("diff --git ")
    return line[len(line) // 2 + 1 :].removeprefix("b/")


def _git(folder: Path, *arguments: str, may_fail: bool = False) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", "--no-pager", *NO_PROGRAMS, "-C", str(folder), *arguments],
        env={name: value for name, value in os.environ.items() if name not in GIT_VARIABLES} | ASK_ONLY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=not may_fail,
        timeout=SECONDS,
    )
