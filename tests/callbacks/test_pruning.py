"""Pruning: a trial that falls behind ends, and every other run is unaffected."""

import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from tests.harness import cheapest, train
from tests.tiny import Batches, fit, regressor, rows

from triptych.callbacks.pruning import Pruning
from triptych.results.trials import create_study, open_study

MONITOR = "val/loss"


def search(folder: Path, others: float, pruning: dict[str, int] | None, *more_objectives: str) -> Path:
    """Create a search with three completed trials, which reported ``others`` in each of ten epochs, and a running one.

    Returns:
        The run directory of the running trial.
    """
    objectives = dict.fromkeys([MONITOR, *more_objectives], "minimize")
    study = create_study(folder, {"objectives": objectives, "settings": {}, "pruning": pruning})
    for _ in range(3):
        trial = study.ask()
        for epoch in range(0 if more_objectives else 10):
            trial.report(others, epoch)
        study.tell(trial, [others] * len(objectives))
    study.ask()
    directory = folder / "3"
    directory.mkdir()
    return directory


def epochs(directory: Path, resume_from: Path | None = None, **options: Any) -> tuple[int, bool]:
    """Train for six epochs or until pruned; returns the number of epochs and whether the trial was pruned."""
    callback = Pruning(str(directory), MONITOR)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
        trainer = fit(
            regressor(),
            Batches(rows(8), rows(8)),
            directory,
            resume_from=resume_from,
            callbacks=[callback],
            **{"max_epochs": 6} | options,
        )
    if resume_from is None and directory.exists():
        trainer.save_checkpoint(directory / "end.ckpt")
    return trainer.current_epoch, callback.pruned


FROM_THE_THIRD = {"startup_trials": 3, "warmup_epochs": 2}


def test_a_trial_that_falls_behind_is_pruned_after_the_warm_up(tmp_path: Path):
    directory = search(tmp_path, others=0.0, pruning=FROM_THE_THIRD)
    assert epochs(directory) == (3, True)
    assert list(open_study(tmp_path).trials[3].intermediate_values) == [0, 1, 2]


def test_a_trial_is_not_pruned_after_its_last_epoch(tmp_path: Path):
    directory = search(tmp_path, others=0.0, pruning=FROM_THE_THIRD)
    assert epochs(directory, max_epochs=3) == (3, False)


def test_min_epochs_and_min_steps_do_not_prevent_pruning(tmp_path: Path):
    directory = search(tmp_path, others=0.0, pruning=FROM_THE_THIRD)
    assert epochs(directory, min_epochs=5, min_steps=6) == (3, True)


def test_a_leading_trial_continues_and_reports_each_epoch(tmp_path: Path):
    directory = search(tmp_path, others=1e9, pruning=FROM_THE_THIRD)
    assert epochs(directory) == (6, False)
    told = open_study(tmp_path).trials[3].intermediate_values
    assert list(told) == [0, 1, 2, 3, 4, 5]
    assert 0 < told[5] < told[0]


@pytest.mark.parametrize("pruning", [None, {"startup_trials": 4, "warmup_epochs": 0}])
def test_nothing_is_pruned_without_pruning_or_with_too_few_trials(tmp_path: Path, pruning: dict[str, int] | None):
    directory = search(tmp_path, others=0.0, pruning=pruning)
    assert epochs(directory) == (6, False)


def test_several_validations_of_an_epoch_are_reported_once(tmp_path: Path):
    directory = search(tmp_path, others=1e9, pruning=FROM_THE_THIRD)
    data = Batches(rows(8, 8), rows(8))
    fit(regressor(), data, directory, callbacks=[Pruning(str(directory), MONITOR)], val_check_interval=0.5)
    assert list(open_study(tmp_path).trials[3].intermediate_values) == [0]


def test_a_resumed_trial_reports_no_epoch_twice(tmp_path: Path):
    directory = search(tmp_path, others=1e9, pruning=FROM_THE_THIRD)
    assert epochs(directory, max_epochs=2) == (2, False)
    told = open_study(tmp_path).trials[3].intermediate_values
    trial = optuna.trial.Trial(open_study(tmp_path), open_study(tmp_path).trials[3]._trial_id)
    trial.report(-1.0, 2)  # reported in the epoch during which it was killed
    assert epochs(directory, resume_from=directory / "end.ckpt", max_epochs=4) == (4, False)
    after = open_study(tmp_path).trials[3].intermediate_values
    assert list(after) == [0, 1, 2, 3]
    assert {step: after[step] for step in (0, 1, 2)} == told | {2: -1.0}


def test_with_several_objectives_nothing_is_reported_or_pruned(tmp_path: Path):
    directory = search(tmp_path, 0.0, FROM_THE_THIRD, "parameters")
    assert epochs(directory) == (6, False)


def test_a_run_that_is_not_a_running_trial_is_unaffected(tmp_path: Path):
    directory = search(tmp_path, others=0.0, pruning=FROM_THE_THIRD)
    open_study(tmp_path).tell(3, 1.0)
    for name in ("3", "4", "elsewhere"):
        assert epochs(tmp_path / name) == (6, False)
    assert epochs(tmp_path / "alone" / "0") == (6, False)
    assert not open_study(tmp_path).trials[3].intermediate_values
    assert directory.exists()


def test_a_pruned_run_is_marked_in_its_metrics(data_root: Path, tmp_path: Path):
    given = cheapest(data_root, "trainer.max_epochs=5", "monitor=val/loss", "mode=min")
    directory = search(tmp_path, others=0.0, pruning=FROM_THE_THIRD)
    metrics = train(directory, *given)
    assert metrics["pruned"] is True
    assert metrics["epochs"] == 3


def test_loading_an_older_state_does_not_undo_pruning(tmp_path: Path):
    """Before testing, Lightning loads the callback states of the best epoch."""
    callback = Pruning(str(tmp_path), "val/loss")
    callback.pruned = True
    callback.load_state_dict({"pruned": False})
    assert callback.state_dict() == {"pruned": True}
