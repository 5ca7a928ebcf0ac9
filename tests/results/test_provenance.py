"""What a run was made with."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import torch

from triptych.results.provenance import device_name, git_state, versions


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout with one committed file."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "net.py").write_text("width = 1\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "net.py"], [*identity, "commit", "--quiet", "-m", "first"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    return tmp_path


def test_a_clean_checkout_is_its_commit(checkout: Path):
    state = git_state(checkout)
    assert state is not None
    assert len(state["commit"]) == 40
    assert state["dirty"] is False
    (checkout / "sub").mkdir()
    assert git_state(checkout / "sub") == state


@pytest.mark.parametrize("file", ["net.py", "new.py"])
def test_a_changed_or_new_file_makes_it_dirty(file: str, checkout: Path):
    (checkout / file).write_text("width = 2\n")
    assert git_state(checkout)["dirty"] is True  # type: ignore[index]


def test_outside_a_checkout_there_is_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None


def test_a_checkout_without_a_commit_has_no_state(tmp_path: Path):
    subprocess.run(["git", "-C", tmp_path, "init", "--quiet"], check=True)
    assert git_state(tmp_path) is None


def test_without_git_there_is_no_state(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert git_state(checkout) is None


def test_versions_are_those_installed():
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == metadata.version("torch")
    assert {"lightning", "torchmetrics", "hydra-core", "numpy"} <= found.keys()


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("triptych.results.provenance.PACKAGES", ("torch", "no-such-package"))
    assert versions().keys() == {"python", "torch"}


def test_a_device_has_a_kind_and_a_model():
    assert device_name(torch.device("cpu")) == f"cpu ({platform.machine()})"
