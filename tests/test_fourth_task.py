"""The task added in docs/adding-a-task.md: the page's files are written into a copy of the project and run there."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from triptych.config import ConfigError, check

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "adding-a-task.md"
FILES = dict(re.findall(r"^\*\*`(\S+)`\*\*\n\n```\w+\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL))
COMMAND = ("-m", "triptych.cli")


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the parts of the project that a run needs, with the page's files."""
    if any((REPOSITORY / name).exists() for name in FILES if name.startswith("conf/experiment/")):
        pytest.skip("the page's task is a part of this project already")
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(REPOSITORY / "train.py", folder)
    for name in ("conf", "src"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    assert len(FILES) == 6
    for name, content in FILES.items():
        path = folder / name
        assert not path.exists(), f"{name} is not a new file"
        path.write_text(content, "utf-8")
    return folder


def digests(folder: Path) -> dict[Path, str]:
    files = [path for name in ("conf", "src") for path in (folder / name).rglob("*") if path.suffix in (".py", ".yaml")]
    return {path.relative_to(folder): sha256(path.read_bytes()).hexdigest() for path in files}


def run(copy: Path, *arguments: str, code: int = 0) -> str:
    """Run a command; return its stdout, or its stderr if an error ``code`` is expected."""
    environment = os.environ | {"PYTHONPATH": str(copy / "src")}
    done = subprocess.run([sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


@pytest.mark.slow
def test_new_files_alone_add_a_complete_task(copy: Path):
    before = digests(copy)
    # data.source=kaggle downloads missing files; those of this task come from elsewhere.
    assert "files data" in run(copy, "train.py", "experiment=diabetes", "data.source=kaggle", "trainer=cpu")

    data = copy / "data" / "diabetes" / "diabetes.csv"
    logs = copy / "logs" / "diabetes" / "latest"
    assert (logs / "DONE").exists()
    assert (logs / "figures" / "epoch-010.png").stat().st_size > 0
    metrics = json.loads((logs / "metrics.json").read_text())
    assert metrics["data"]["sizes"] == {"train": 352, "val": 45, "test": 45}
    # The standard deviation of the target is 77; a linear regression reaches about 55.
    assert metrics["best"]["val/rmse"] < 65
    assert metrics["test"]["test/rmse"] < 65

    run(copy, *COMMAND, "predict", "latest", str(data), "--output", "out")
    with (copy / "out" / "predictions.csv").open(newline="") as file, data.open(newline="") as original:
        rows, patients = list(csv.DictReader(file)), list(csv.DictReader(original))
    errors = [float(row["prediction"]) - float(row["progression"]) for row in rows]
    assert (sum(error**2 for error in errors) / len(errors)) ** 0.5 < 65
    assert [{name: row[name] for name in patients[0]} for row in rows] == patients
    assert re.search(r"^diabetes +diabetes +here ", run(copy, *COMMAND, "data", "list"), re.MULTILINE)
    refused = run(copy, *COMMAND, "export", "latest", "--format", "torch", code=2)
    assert refused.startswith("error: DiabetesDataModule has no method `serving`")
    assert digests(copy) == before


@pytest.mark.slow
def test_new_task_runs_on_synthetic_data(copy: Path):
    assert "synthetic data" in run(
        copy, "train.py", "experiment=diabetes", "debug=smoke", "trainer=cpu", "hydra.run.dir=made-up"
    )
    assert (copy / "made-up" / "DONE").exists()


def test_config_of_the_new_task_is_checked(copy: Path):
    check(["experiment=diabetes", "model.network.width=8", "data.batch_size=full"], copy / "conf")
    with pytest.raises(ConfigError, match=r"did you mean model\.network\.width"):
        check(["experiment=diabetes", "model.network.widht=8"], copy / "conf")
    with pytest.raises(ConfigError, match="  diabetes "):
        check([], copy / "conf")
