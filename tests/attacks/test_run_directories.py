"""An untrusted run directory runs no code, writes or deletes nothing outside, and reveals no secret."""

import builtins
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from tests.attacks.commands import COMMANDS
from tests.attacks.payloads import SECRET, Evil, checkpoint, config, fill, linked, victims
from tests.attacks.table import ATTACKS, DIFFERENT, OPEN, OWN, SHELL, UNREAD
from tests.harness import EXPERIMENTS, small, train
from tests.harness import command as train_py

from triptych.callbacks import checkpoint_paths
from triptych.data.base import DataModule
from triptych.results import saved_config


@pytest.fixture(scope="session")
def victim_run(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A trained run with one epoch left, to be copied and poisoned."""
    if "housing" not in EXPERIMENTS:
        pytest.skip("the housing panel is not here")
    run = tmp_path_factory.mktemp("trained") / "run"
    train(run, *small("housing", data_root, "model=mlp", "scheduler=constant", "trainer.max_epochs=1"))
    (run / "DONE").unlink()
    config("trainer.max_epochs", 2)(run, run)
    (run / ".hydra/overrides.yaml").write_text("[experiment=housing, seed=0]")
    return run


@pytest.fixture
def case(victim_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A copy of the run, and a folder outside with a file that must not change."""
    run, outside = tmp_path / "logs/housing/run", tmp_path / "outside"
    shutil.copytree(victim_run, run)
    outside.mkdir()
    (outside / "victim").write_text(SECRET)
    (outside / "evil.pkl").write_bytes(pickle.dumps(Evil(outside), protocol=2))
    (tmp_path / "evil_project.py").write_text(f"open({str(outside / 'ran')!r}, 'w')\nclass Net: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["triptych"])
    monkeypatch.setenv("TRIPTYCH_SECRET", SECRET)
    monkeypatch.setenv("HOME", str(outside))
    monkeypatch.setattr(DataModule, "download", classmethod(lambda *_: (outside / "downloaded").touch()))
    return run, outside


def finish(run: Path) -> None:
    """Mark the run as finished, for commands that accept only finished runs."""
    config("trainer.max_epochs", 1)(run, run)
    (run / "DONE").touch()


def traces(outside: Path) -> dict[str, str]:
    """The files in the folder outside, by name, except those that the attack itself moved there."""
    files = [path for path in outside.rglob("*") if path.is_file() and "moved" not in path.relative_to(outside).parts]
    return {path.name: path.read_text("latin-1") for path in files}


def _pair(attack: str, command: str) -> Any:
    _, refusing = ATTACKS[attack]
    # Refusals are fast; predict and export load a run as evaluate does, and reproduce as resume does.
    own = ("export", "reproduce") if attack in OWN else ("evaluate", "report", "resume")
    quick = command in refusing and command in own and "deep" not in attack
    return pytest.param(attack, command, id=f"{command}: {attack}", marks=[] if quick else [pytest.mark.slow])


PAIRS = [
    _pair(attack, command) for attack in ATTACKS for command in COMMANDS if command != "export" or attack not in UNREAD
]


@pytest.mark.parametrize(("attack", "command"), PAIRS)
def test_a_poisoned_run_directory_does_no_harm(
    attack: str,
    command: str,
    case: tuple[Path, Path],
    data_root: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
):
    run, outside = case
    poison, refusing = ATTACKS[attack]
    if command == "reproduce":
        finish(run)
    poison(run, outside)
    around = run.parents[2]
    before, files, own = traces(outside), sorted(around.iterdir()), sorted(run.rglob("*"))
    code = COMMANDS[command](run, next(data_root.glob("california*")) / "housing.csv")
    said = "".join(capsys.readouterr())
    different = command == "reproduce" and attack in DIFFERENT
    assert code == (2 if command in refusing else int(different)), said
    assert traces(outside) == before
    assert "\x1b]" not in said
    assert "\x1b[2J" not in said
    assert SECRET not in said
    assert "Traceback" not in said
    if command in refusing:
        assert sum(line.startswith("error: ") for line in said.splitlines()) == 1
        # A refused command leaves nothing behind.
        assert sorted(around.iterdir()) == files
    elif command in ("report", "export"):
        folder = run / "export" if command == "export" else run.parent / "report"
        written = [path.read_text() for path in folder.glob("*.*") if path.suffix in (".html", ".md")]
        assert written
        assert not any(sign in text for text in written for sign in (SECRET, "\x1b"))
        # report.md is exempt, as it shows commands in a code block.
        assert not any(
            "<script>alert" in path.read_text() for path in (*folder.glob("*.html"), *folder.glob("README.md"))
        )
    if command not in ("resume", "export"):
        assert sorted(run.rglob("*")) == own
    record_property("attacks refused", 1)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["callback runs a program", "a pickle in the checkpoint's callbacks"])
def test_train_py_refuses_in_its_own_process(attack: str, case: tuple[Path, Path]):
    run, outside = case
    ATTACKS[attack][0](run, outside)
    before = traces(outside)
    ended = train_py(f"resume={run}", cwd=outside.parent)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr
    assert traces(outside) == before


# Controls: each kind of payload, read unsafely, leaves a trace that the tests would detect.


def fire_pickle(run: Path, outside: Path) -> None:
    pickle.loads((outside / "evil.pkl").read_bytes())


def fire_target(run: Path, outside: Path) -> None:
    for payload in (SHELL, OPEN):
        arguments = fill(payload, outside)
        locate(arguments.pop("_target_"))(*arguments.values())


def fire_yaml(run: Path, outside: Path) -> None:
    yaml.unsafe_load(f"!!python/object/apply:os.system ['touch {outside}/ran']")


def fire_package(run: Path, outside: Path) -> None:
    builtins.__import__("evil_project")


def fire_link(run: Path, outside: Path) -> None:
    linked("train.log", "OUTSIDE/victim")(run, outside)
    with (run / "train.log").open("a") as file:
        file.write("a line")


@pytest.mark.parametrize("fire", [fire_pickle, fire_target, fire_yaml, fire_package, fire_link])
def test_a_payload_leaves_a_trace_when_read_unsafely(fire: Callable[[Path, Path], None], case: tuple[Path, Path]):
    run, outside = case
    before = traces(outside)
    fire(run, outside)
    assert traces(outside) != before


def test_a_resolver_reveals_the_secret_when_allowed(case: tuple[Path, Path]):
    assert OmegaConf.create({"x": "${oc.env:TRIPTYCH_SECRET}"}).x == SECRET


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["checkpoint up and out", "TensorBoard up and out", "CSVLogger deletes a file"])
def test_a_path_leads_outside_when_allowed(attack: str, case: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    run, outside = case
    ATTACKS[attack][0](run, outside)
    if "CSVLogger" in attack:
        (outside / "victim").unlink()
        (outside / "victim/version_0").mkdir(parents=True)
        (outside / "victim/version_0/metrics.csv").write_text(SECRET)
    before = traces(outside)
    monkeypatch.setattr(saved_config, "leads_outside", lambda text: False)
    COMMANDS["resume"](run, run)
    assert traces(outside) != before


@pytest.mark.slow
def test_a_checkpoint_deletes_a_file_when_allowed(case: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    run, outside = case
    checkpoint(victims)(run, outside)
    monkeypatch.setattr(checkpoint_paths.CheckpointPaths, "on_load_checkpoint", lambda *_: None)
    COMMANDS["resume"](run, run)
    assert not (outside / "victim").exists()
