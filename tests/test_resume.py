"""What resume= accepts and reads from a run directory; test_run and test_train cover the resumed training itself."""

import errno
import fcntl
import os
import shutil
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from tests.harness import CONF, FASTEST

from triptych.config import ConfigError
from triptych.job import resume_run
from triptych.results.directory import LOCK, try_lock
from triptych.resume import parse_resumption

SAVED = """
data: {_target_: triptych.data.base.DataModule, batch_size: 32, form: null}
model: {_target_: triptych.models.base.Model, activation: relu}
optimizer: {_target_: torch.optim.SGD, lr: 0.1, betas: [0.9, 0.999]}
trainer: {max_epochs: 10}
monitor: val/rmse
callbacks: {early_stopping: {monitor: "${monitor}"}}
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with a config and no checkpoint, ``logs/sums/one``, in the current folder."""
    directory = tmp_path / "logs/sums/one"
    (directory / ".hydra").mkdir(parents=True)
    (directory / ".hydra/config.yaml").write_text(SAVED)
    (directory / ".hydra/hydra.yaml").write_text("hydra: {runtime: {choices: {experiment: sums}}}")
    return directory


def test_command_line_without_resume_is_ignored() -> None:
    assert parse_resumption(["experiment=housing", "seed=1"]) is None


@pytest.mark.parametrize("name", ["logs/sums/one", "'logs/sums/one'", "latest"])
def test_saved_config_is_loaded_and_resolved(name: str, run: Path) -> None:
    resumed = parse_resumption([f"resume={name}"])
    assert resumed is not None
    assert (resumed.directory, resumed.experiment, resumed.checkpoint) == (run, "sums", None)
    assert resumed.config.callbacks.early_stopping.monitor == "val/rmse"
    assert not resumed.finished


def test_new_values_are_recorded_and_the_first_config_is_kept(run: Path) -> None:
    first = parse_resumption(["resume=latest", "trainer.max_epochs=20"])
    assert first is not None
    assert not list(run.glob(".hydra/resume-*"))  # only once training starts
    first.record()
    resumed = parse_resumption(["trainer.max_epochs=30", "resume=latest", "optimizer.betas=[0.8,0.9]"])
    assert resumed is not None
    assert (resumed.config.trainer.max_epochs, resumed.config.optimizer.betas) == (30, [0.8, 0.9])
    resumed.record()
    assert (run / ".hydra/config.yaml").read_text() == SAVED
    recorded = [yaml.safe_load((run / f".hydra/resume-{number}/overrides.yaml").read_text()) for number in (1, 2)]
    assert recorded == [["trainer.max_epochs=20"], ["trainer.max_epochs=30", "optimizer.betas=[0.8,0.9]"]]
    # The next resume starts from the values of the last one.
    again = parse_resumption(["resume=latest"])
    assert again is not None
    assert again.config.trainer.max_epochs == 30
    # Its own folder gets the highest number, even if earlier ones were deleted.
    shutil.rmtree(run / ".hydra/resume-1")
    again.record()
    assert sorted(path.name for path in run.glob(".hydra/resume-*")) == ["resume-2", "resume-3"]


def test_latest_skips_a_run_that_another_process_trains(run: Path) -> None:
    older = run.with_name("older")
    shutil.copytree(run, older)
    os.utime(older / ".hydra/config.yaml", (0, 0))
    with try_lock(run / LOCK):
        resumed = parse_resumption(["resume=latest"])
    assert resumed is not None
    assert resumed.directory == older
    with (
        try_lock(run / LOCK),
        try_lock(older / LOCK),
        pytest.raises(ConfigError, match=r"no unfinished run .* all have ended or are still training"),
    ):
        parse_resumption(["resume=latest"])
    again = parse_resumption(["resume=latest"])
    assert again is not None
    assert again.directory == run


def test_two_processes_never_train_in_one_directory(run: Path) -> None:
    resumed = parse_resumption([f"resume={run}"])
    assert resumed is not None
    with (
        try_lock(run / LOCK),
        pytest.raises(ConfigError, match=r"another process is training .*logs/sums/one: wait for it"),
    ):
        resume_run(resumed)
    assert [path.name for path in run.iterdir()] == [".hydra"]


def test_resume_works_without_file_locks(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    (run / LOCK).touch()
    with try_lock(run / LOCK) as free, try_lock(run / LOCK) as free_again:
        assert free
        assert free_again
    resumed = parse_resumption(["resume=latest"])
    assert resumed is not None
    assert resumed.directory == run


def test_run_directory_cannot_grant_trust_to_packages(run: Path) -> None:
    with (run / ".hydra/config.yaml").open("a") as file:
        file.write("packages: [stranger]\n")
    resumed, trusted = parse_resumption([f"resume={run}"]), parse_resumption([f"resume={run}", "packages=[mine]"])
    assert resumed is not None
    assert trusted is not None
    assert (resumed.config.packages, trusted.config.packages) == ([], ["mine"])


def test_resume_uses_the_newest_checkpoint(run: Path) -> None:
    (run / "checkpoints").mkdir()
    with ZipFile(run / "checkpoints/last.ckpt", "w") as archive:
        archive.writestr("data.pkl", b"")
    resumed = parse_resumption([f"resume={run}"])
    assert resumed is not None
    assert resumed.checkpoint == run / "checkpoints/last.ckpt"


def test_finished_run_stays_finished_unless_more_epochs_are_requested(run: Path) -> None:
    (run / "DONE").touch()
    finished, more = parse_resumption([f"resume={run}"]), parse_resumption([f"resume={run}", "trainer.max_epochs=20"])
    assert finished is not None
    assert more is not None
    assert finished.finished
    assert not more.finished
    with pytest.raises(ConfigError, match="no unfinished run"):
        parse_resumption(["resume=latest"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer=adam"], "keeps its optimizer"),
        (["experiment=other"], "keeps its experiment"),
        (["monitor=val/loss"], "keeps its monitor"),
        (["mode=max"], "keeps its mode"),
        (["seed=1"], "keeps its seed"),
        (["callbacks.early_stopping.monitor=val/loss"], "keeps its monitor everywhere"),
        (["optimizer._target_=torch.optim.SGD"], "keeps its _target_ everywhere"),
        (["trainer.max_epochs=many"], "expected int"),
        (["trainer.max_epoch=3"], "did you mean trainer.max_epochs"),
        (["+trainer.max_epochs=3"], "values only"),
        (["~callbacks.early_stopping"], "values only"),
        (["optimizer.lr=0.1,0.2"], "values only"),
        (["resume=again"], "more than once"),
        (["not an override"], "resume=latest"),
    ],
)
def test_overrides_other_than_changed_values_are_refused(arguments: list[str], message: str, run: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_resumption(["resume=latest", *arguments])
    assert not list(run.glob(".hydra/resume-*"))


def test_values_are_checked_against_the_chosen_config_files(run: Path) -> None:
    choices = f"experiment: {FASTEST}, optimizer: momentum"
    (run / ".hydra/hydra.yaml").write_text(f"hydra: {{runtime: {{choices: {{{choices}}}}}}}")
    for value, expected in (("optimizer.lr=-1", r"float>=0 \(.*momentum"), ("trainer.max_epochs=-2", "int>=1 or -1")):
        with pytest.raises(ConfigError, match=expected):
            parse_resumption(["resume=latest", value], CONF)
        assert parse_resumption(["resume=latest", value])  # checked by type only
    changed = parse_resumption(["resume=latest", "optimizer.lr=0", "optimizer.betas=[0.8,0.9]"], CONF)
    assert changed is not None
    assert changed.config.optimizer == {"_target_": "torch.optim.SGD", "lr": 0, "betas": [0.8, 0.9]}


def test_values_are_checked_by_type_if_the_chosen_file_is_gone(run: Path) -> None:
    choices = f"experiment: {FASTEST}, optimizer: gone"
    (run / ".hydra/hydra.yaml").write_text(f"hydra: {{runtime: {{choices: {{{choices}}}}}}}")
    assert parse_resumption(["resume=latest", "optimizer.lr=-1"], CONF)  # not against the default option's bounds
    for value, expected in (
        ("optimizer.lr=high", "float .*the run's config"),
        ("trainer.max_epochs=-2", "int>=1 or -1"),
    ):
        with pytest.raises(ConfigError, match=expected):
            parse_resumption(["resume=latest", value], CONF)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.yaml", "data: {root: '${oc.env:HOME}'}", "more than a reference"),
        ("config.yaml", "data: [", "cannot be used"),
        ("hydra.yaml", "hydra: {runtime: {choices: {experiment: ../../elsewhere}}}", "not the name of an experiment"),
        ("hydra.yaml", "hydra: 3", "resume="),
    ],
)
def test_untrusted_run_directory_is_refused(file: str, content: str, message: str, run: Path) -> None:
    (run / ".hydra" / file).write_text(content)
    with pytest.raises(ConfigError, match=message):
        parse_resumption([f"resume={run}"])
