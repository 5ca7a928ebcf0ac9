"""The code of a run: its commit, and a patch with the uncommitted changes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from triptych.results import checkout as module
from triptych.results.checkout import LOCK, Code, lock_hash, read_code

IDENTITY = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]


def git(folder: Path, *arguments: str | Path) -> str:
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout with one commit of a few files and a ``.gitignore``."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "checkout"
    (folder / "sub").mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / "net.py").write_text("width = 1\ndepth = 2\n")
    (folder / "gone.py").write_text("old\n")
    (folder / "moved.py").write_text("kept\n" * 5)
    (folder / "picture.png").write_bytes(bytes(range(256)))
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / ".gitignore").write_text("logs/\n*.log\n")
    git(folder, "add", ".")
    git(folder, *IDENTITY, "commit", "--quiet", "-m", "first")
    return folder


def change(folder: Path) -> None:
    """Make every kind of change that a patch can represent, and an ignored file."""
    (folder / "net.py").write_text("width = 2\r\ndepth = 2\nno newline at the end")
    (folder / "gone.py").unlink()
    git(folder, "mv", "moved.py", "sub/moved to.py")
    (folder / "picture.png").write_bytes(bytes(reversed(range(256))))
    (folder / "run.sh").chmod(0o755)
    (folder / "staged.py").write_text("first\n")
    git(folder, "add", "staged.py")
    (folder / "staged.py").write_text("then\n")
    (folder / "sub/new 网络.py").write_text("diff --git a/x b/x\n\tlayers\n")
    (folder / "empty.py").touch()
    (folder / "a.log").write_text("ignored\n")


def tree(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """(content, executable) of every file, by relative path."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts]
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), os.access(path, os.X_OK))
        for path in files
        if path.suffix != ".log"
    }


def test_a_clean_checkout_is_described_by_its_commit(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD").strip()
    assert read_code(checkout) == read_code(checkout / "sub") == Code(commit)
    assert Code(commit).summary() == {"commit": commit, "dirty": False, "patch": None, "left_out": []}


def test_applying_the_patch_restores_the_working_tree(checkout: Path, tmp_path: Path) -> None:
    change(checkout)
    code = read_code(checkout / "sub")
    assert code is not None
    assert code.dirty
    assert not code.left_out
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", checkout, clone)
    assert tree(clone) != tree(checkout)
    (tmp_path / "code.patch").write_bytes(code.patch)
    git(clone, "apply", tmp_path / "code.patch")
    assert tree(clone) == tree(checkout)


def test_the_users_git_diff_settings_do_not_affect_the_patch(checkout: Path) -> None:
    change(checkout)
    plain = read_code(checkout)
    for key, value in {
        "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true",
        "diff.renames": "copies",
        "diff.relative": "true",
        "diff.context": "0",
        "color.ui": "always",
        "status.showUntrackedFiles": "no",
    }.items():
        git(checkout, "config", key, value)
    assert read_code(checkout / "sub") == plain != None  # noqa: E711


def test_no_program_from_the_git_config_is_run_and_nothing_is_written(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> {mark}\n")
    program.chmod(0o755)
    (checkout / ".gitattributes").write_text("*.py diff=loud\n")
    for key in ("diff.external", "diff.loud.command", "diff.loud.textconv", "core.fsmonitor", "core.pager"):
        git(checkout, "config", key, str(program))
    for sample in (checkout / ".git/hooks").glob("*.sample"):
        shutil.copy(program, sample.with_suffix(""))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(program))
    change_only = checkout / "net.py"
    change_only.write_text("width = 3\n")
    git(checkout, "diff", "HEAD")
    assert mark.read_text().count("program") >= 2  # plain git diff runs it
    mark.unlink()
    index = (checkout / ".git/index").read_bytes()
    code = read_code(checkout)
    assert code is not None
    assert b"+width = 3" in code.patch
    assert not mark.exists()
    assert (checkout / ".git/index").read_bytes() == index


def test_files_that_are_not_code_are_left_out_and_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_LIMIT", 2000)
    monkeypatch.setattr(module, "PATCH_LIMIT", 2500)
    (checkout / "a weights.bin").write_bytes(b"\0\1")
    (checkout / "b large.csv").write_text("1\n" * 3000)
    (checkout / "c link.py").symlink_to("net.py")
    (checkout / "d.py").write_text("x\n" * 500)
    (checkout / "e over.py").write_text("y\n" * 500)
    (checkout / "net.py").write_text("z\n" * 3000)
    git(checkout, "init", "--quiet", "f nested")
    (checkout / "f nested/inside.py").write_text("its own\n")
    code = read_code(checkout)
    assert code is not None
    assert code.left_out == [
        "a weights.bin (not text)",
        "b large.csv (0.0 MB)",
        "c link.py (no plain file)",
        "f nested/ (no plain file)",
        "net.py (0.0 MB)",
        "e over.py (0.0 MB)",
    ]
    assert b"b/d.py" in code.patch
    assert len(code.patch) <= 2500


def test_the_number_of_new_files_is_limited(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILES_LIMIT", 1)
    for name in "abc":
        (checkout / f"{name}.py").write_text("x\n")
    code = read_code(checkout)
    assert code is not None
    assert code.left_out == ["2 more new files"]


def test_a_worktree_has_its_own_state(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "worktree", "add", "--quiet", tmp_path / "tree")
    (tmp_path / "tree/net.py").write_text("width = 5\n")
    code, main = read_code(tmp_path / "tree"), read_code(checkout)
    assert code is not None
    assert main is not None
    assert (code.commit, code.dirty, main.dirty) == (main.commit, True, False)
    assert b"+width = 5" in code.patch


def test_an_ignored_package_does_not_belong_to_the_checkout(checkout: Path) -> None:
    (checkout / "logs/site-packages").mkdir(parents=True)
    assert read_code(checkout / "logs/site-packages") is None


def test_git_dir_in_the_environment_is_ignored(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "--quiet", "other")
    here = read_code(checkout)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    assert read_code(checkout) == here != None  # noqa: E711


def test_outside_a_checkout_there_is_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert read_code(tmp_path) is None


def test_a_checkout_without_a_commit_has_no_state(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert read_code(tmp_path) is None


def test_without_git_there_is_no_state(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert read_code(checkout) is None


def test_the_lock_file_is_identified_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("torch==2\n")
    # Compare with the sha256sum command.
    assert (
        lock_hash(tmp_path / "requirements.lock")
        == (
            subprocess.run(
                ["sha256sum", tmp_path / "requirements.lock"], capture_output=True, text=True
            ).stdout.split()[0]
        )
    )
    assert lock_hash(tmp_path / "none.lock") is None
    assert LOCK.is_file()
