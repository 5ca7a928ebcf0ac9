"""The commands of docs/starting-your-own.md, run on a copy of the repository, leave a project that passes its tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness import EXPERIMENTS

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "starting-your-own.md"
NAME = "workshop"
# Without the variables that the outer pytest, or a git hook, sets for its child processes.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "GIT_"))}

OF_NO_PANEL = (
    *("models/", "callbacks/", "hydra_plugins/", "attacks/", "results/"),
    *("test_direct_steps.py", "test_exact_resume.py", "test_reproduce.py", "test_train.py", "test_trainer.py"),
)
"""Tests of code that all panels share, and tests that already ran for each panel in the complete project."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A new git repository with this one's files as they are, committed or not."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, tmp_path / name)
    for arguments in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, env=ENVIRONMENT, check=True)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kept", EXPERIMENTS)
def test_project_reduced_to_one_panel_passes_its_tests(kept: str, copy: Path):
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    script = "\n".join(blocks)
    assert script.startswith("NAME=workshop\nKEEP=")
    script = re.sub(r"^NAME=.*\nKEEP=.*$", f"NAME={NAME}\nKEEP={kept}", script, count=1, flags=re.MULTILINE)
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("TRIPTYCH_")}
    environment["PYTHONPATH"] = str(copy / "src")

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5000:]
        return done.stdout

    run("bash", "-euo", "pipefail", "-c", script)
    assert {path.stem.removesuffix("_best") for path in (copy / "conf" / "experiment").iterdir()} == {kept}
    left = [path for path in copy.rglob("*") if path.is_file() and ".git" not in path.relative_to(copy).parts]
    assert not [path for path in left if "triptych" in str(path.relative_to(copy))]
    told = [path.name for path in left if path.suffix != ".png" and "triptych" in path.read_text("utf-8").lower()]
    assert told == ["LICENSE"]

    run(sys.executable, "-m", "ruff", "check")
    run(sys.executable, "train.py", f"experiment={kept}", "debug=smoke", "trainer=cpu")
    assert (copy / "logs" / kept / "latest" / "DONE").exists()
    # Tests that depend on the new name but on no panel run for the first panel only; their files are still imported.
    once = [] if kept == EXPERIMENTS[0] else OF_NO_PANEL
    left_out = [f"--deselect=tests/{place}" for place in ("networks/", *once)]
    print(run(sys.executable, "-m", "pytest", "-q", "-n", "auto", *left_out))
