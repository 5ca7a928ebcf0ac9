"""The folder of a run or sweep: created beforehand, and refused before anything in it changes if it holds runs."""

from pathlib import Path

import pytest
from tests.harness import FASTEST, command

from triptych.config import ConfigError
from triptych.output_folder import make_output_folder
from triptych.results.directory import SWEEP


def contents(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "arguments",
    [
        "hydra.run.dir=runs/0",
        pytest.param("hydra.run.dir='runs'", marks=pytest.mark.slow),
        "++hydra.run.dir=runs/0",
        "hydra.run.dir=runs/${seed}",
        pytest.param("hydra.run.dir=runs/${hydra:job.name}", marks=pytest.mark.slow),
        "-m hydra.sweep.dir=runs seed=0,1",
        pytest.param("-m ++hydra.sweep.dir=runs/${seed}", marks=pytest.mark.slow),
        "hydra.mode=MULTIRUN hydra.sweep.dir=runs",
    ],
)
def test_a_folder_with_runs_is_not_overwritten(arguments: str, tmp_path: Path) -> None:
    for name in ("0", "train"):
        (tmp_path / "runs" / name / ".hydra").mkdir(parents=True)
        (tmp_path / "runs" / name / ".hydra/config.yaml").write_text("seed: 3")
    before = contents(tmp_path)
    ended = command(f"experiment={FASTEST}", *arguments.split(), cwd=tmp_path)
    assert ended.returncode == 2
    assert "there are runs in that folder; name another, resume one with resume=RUN, or a whole" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert contents(tmp_path) == before


def test_a_sweep_that_has_not_begun_a_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / SWEEP).write_text("seed: 3")
    ended = command("-m", f"experiment={FASTEST}", "hydra.sweep.dir=sweep", "seed=0,1", cwd=tmp_path)
    assert ended.returncode == 2
    assert "-m resume=SWEEP" in ended.stderr
    assert contents(tmp_path) == {str(tmp_path / "sweep" / SWEEP): "seed: 3"}


def test_a_folder_that_cannot_be_resolved_is_reported(tmp_path: Path) -> None:
    ended = command(f"experiment={FASTEST}", "hydra.run.dir=runs/${seeds}", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == "error: hydra.run.dir cannot be used: Interpolation key 'seeds' not found\n"


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    for key, folder in (("hydra.run.dir", "taken/run"), ("hydra.sweep.dir", "'taken'")):
        with pytest.raises(ConfigError, match=rf"taken.*: .*{key}=FOLDER|taken is a file: {key}=FOLDER"):
            make_output_folder(["experiment=sums", f"{key}={folder}"])
    make_output_folder(["--help", "hydra.run.dir=taken/run"])
    make_output_folder(["experiment=sums", "hydra.run.dir=taken/${seed}"])  # left to Hydra, which resolves it
    make_output_folder(["-m", "experiment=sums", r"++hydra.sweep.dir='it\'s a sweep/of mine'"])
    assert (tmp_path / "it's a sweep/of mine").is_dir()
    assert not (tmp_path / "logs").exists()
    (tmp_path / "logs").touch()
    with pytest.raises(ConfigError, match=r"logs is a file: hydra\.run\.dir=FOLDER names"):
        make_output_folder(["experiment=sums"])
