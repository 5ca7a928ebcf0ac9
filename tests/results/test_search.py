"""The report of a hyperparameter search, from synthetic trials."""

import math
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from triptych.results.directory import CONFIG, DONE, METRICS, write_json
from triptych.results.record import read_records
from triptych.results.search import FEWEST, sections
from triptych.results.section import Section
from triptych.results.trials import DATABASE, create_study

SPACE = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "dropout": FloatDistribution(0.0, 0.5),
    "activation": CategoricalDistribution(["relu", "gelu"]),
}
RMSE = {"val/rmse": "minimize"}


def search(folder: Path, objectives: Mapping[str, str] = RMSE) -> optuna.Study:
    folder.mkdir(parents=True, exist_ok=True)
    study = create_study(folder, {"objectives": dict(objectives), "settings": {}, "pruning": None})
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    return study


def error(params: Mapping[str, Any]) -> float:
    return 40_000 + 10_000 * (math.log10(params["lr"]) + 2) ** 2 + 100 * params["dropout"]


def tried(study: optuna.Study, *values: float, state: TrialState = TrialState.COMPLETE) -> optuna.Trial:
    """Add a finished trial with these values, or with those that ``error`` computes from its settings."""
    trial = study.ask(SPACE)
    if state == TrialState.PRUNED:
        trial.report(90_000, 3)
    found = (values or (error(trial.params),)) if state == TrialState.COMPLETE else None
    study.tell(trial, found, state)
    return trial


def run(folder: Path, number: int, *overrides: str) -> None:
    directory = folder / str(number)
    (directory / CONFIG).parent.mkdir(parents=True)
    (directory / CONFIG).write_text("mode: min\n")
    (directory / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    write_json(directory / METRICS, {"monitor": "val/rmse", "best": {"val/rmse": 1.0}})
    (directory / DONE).touch()


def told(folder: Path) -> tuple[Section, Section]:
    records = read_records([folder]) if any(folder.glob(f"*/{CONFIG}")) else []
    first, second = sections(records, folder)
    return first, second


def test_the_report_counts_trials_and_gives_the_best_with_its_command(tmp_path: Path):
    study = search(tmp_path)
    for value in (47_000, 45_123, 46_000):
        tried(study, value)
    tried(study, state=TrialState.PRUNED)
    tried(study, state=TrialState.FAIL)
    study.ask(SPACE)
    for number in range(5):
        run(tmp_path, number, "experiment=housing", "test=false", f"lr={number}", "name='a b'", "search=housing")
    found, _ = told(tmp_path)
    assert found.lines[0] == "6 trials: 3 done, 1 pruned, 1 failed, 1 under way."
    assert found.lines[1] == "Trial 1 is the best: val/rmse 45,123."
    # Without test=false: the test split played no part in the choice.
    assert found.lines[2].endswith("""python train.py experiment=housing lr=1 'name='"'"'a b'"'"''""")
    assert found.header == ["trial", "val/rmse", "lr", "dropout", "activation"]
    assert [row[:2] for row in found.rows] == [["1", "45,123"], ["2", "46,000"], ["0", "47,000"]]
    assert found.rows[0][4] == study.trials[1].params["activation"]
    (axis,) = found.figures["search-history"].axes
    (best,) = axis.lines
    assert list(best.get_xdata()) == [0, 1, 2]
    assert list(best.get_ydata()) == [47_000, 45_123, 45_123]
    completed, pruned = axis.collections
    assert completed.get_offsets().tolist() == [[0, 47_000], [1, 45_123], [2, 46_000]]
    assert pruned.get_offsets().tolist() == [[3, 90_000]]


def test_a_maximized_objective_ranks_the_largest_first(tmp_path: Path):
    study = search(tmp_path, {"val/auroc": "maximize"})
    for value in (0.9, 0.99, 0.95):
        tried(study, value)
    found, _ = told(tmp_path)
    assert found.lines[1] == "Trial 1 is the best: val/auroc 0.99."
    (axis,) = found.figures["search-history"].axes
    assert list(axis.lines[0].get_ydata()) == [0.9, 0.99, 0.99]


def test_an_outlying_trial_does_not_flatten_the_plot(tmp_path: Path):
    study = search(tmp_path)
    for value in (47_000, 45_000, 46_000, 1e12, 46_500):
        tried(study, value)
    (axis,) = told(tmp_path)[0].figures["search-history"].axes
    low, high = axis.get_ylim()
    assert low < 45_000
    assert 47_000 < high < 60_000
    assert axis.get_title() == "1 trial lies beyond this picture"


@pytest.mark.parametrize("way", ["minimize", "maximize"])
def test_the_most_important_setting_comes_first(tmp_path: Path, way: str):
    study = search(tmp_path, {"val/score": way})
    for _ in range(24):
        trial = study.ask(SPACE)
        study.tell(trial, error(trial.params) * (1 if way == "minimize" else -1))
    _, found = told(tmp_path)
    assert found.header == ["setting", "val/score"]
    assert found.rows[0][0] == "lr"
    shares = [float(row[1].rstrip("%")) for row in found.rows]
    assert shares[0] > 60
    assert sum(shares) == pytest.approx(100, abs=2)
    (axis,) = found.figures["search-importances"].axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [row[0] for row in found.rows]


def test_too_few_trials_give_no_importances(tmp_path: Path):
    study = search(tmp_path)
    for _ in range(FEWEST - 1):
        tried(study)
    _, found = told(tmp_path)
    assert found.lines == [f"Too few trials to tell: it takes {FEWEST} completed ones."]
    assert not found.rows
    assert not found.figures
    tried(study)
    assert told(tmp_path)[1].rows


@pytest.mark.parametrize(("count", "share"), [(12, 42), (15, 33), (24, 25)])
def test_importances_state_the_share_that_counts_as_best(tmp_path: Path, count: int, share: int):
    study = search(tmp_path)
    for _ in range(count):
        tried(study)
    tried(study, state=TrialState.FAIL)
    (line,) = told(tmp_path)[1].lines
    assert f"among the best {share} % of the {count} completed ones" in line


def test_several_objectives_show_the_pareto_front(tmp_path: Path):
    study = search(tmp_path, {"val/auroc": "maximize", "parameters": "minimize"})
    for values in ((0.9, 100), (0.8, 10), (0.85, 200), (0.95, 300)):
        tried(study, *values)
    for number in range(4):
        run(tmp_path, number, f"lr={number}")
    found, _ = told(tmp_path)
    assert "lie 3 trials" in found.lines[1]
    assert found.lines[2].endswith("lr=3")
    assert [row[:3] for row in found.rows] == [["3", "0.95", "300"], ["0", "0.9", "100"], ["1", "0.8", "10"]]
    (axis,) = found.figures["search-front"].axes
    assert len(axis.collections[0].get_offsets()) == 4
    assert axis.lines[0].get_xydata().tolist() == [[0.95, 300], [0.9, 100], [0.8, 10]]


def test_without_a_completed_trial_there_is_no_best(tmp_path: Path):
    tried(search(tmp_path), state=TrialState.FAIL)
    found, _ = told(tmp_path)
    assert found.lines[0] == "1 trials: 1 failed."
    assert not found.rows


def test_untrusted_dollar_signs_are_not_parsed_as_math(tmp_path: Path):
    study = search(tmp_path, {r"val/$\frac{$": "minimize"})
    for _ in range(FEWEST):
        trial = study.ask({r"$\bad{$": FloatDistribution(0, 1), "other": FloatDistribution(0, 1)})
        study.tell(trial, trial.number)
    for section in told(tmp_path):
        for name, figure in section.figures.items():
            figure.savefig(tmp_path / f"{name}.png")


def test_reading_a_search_writes_nothing(tmp_path: Path):
    tried(search(tmp_path))
    before = (tmp_path / DATABASE).read_bytes()
    (tmp_path / DATABASE).chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        told(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [DATABASE]
        assert (tmp_path / DATABASE).read_bytes() == before
    finally:
        tmp_path.chmod(0o700)


def test_the_journal_of_a_killed_writer_is_rolled_back(tmp_path: Path):
    tried(search(tmp_path / "alive"), 45_000)
    writer = sqlite3.connect(tmp_path / "alive" / DATABASE, isolation_level=None)
    writer.execute("PRAGMA cache_size = 1")
    writer.execute("BEGIN")
    writer.execute("UPDATE trial_values SET value = 1")
    writer.execute("CREATE TABLE filler AS SELECT randomblob(100000) AS bytes")  # spills into the database file
    shutil.copytree(tmp_path / "alive", tmp_path / "killed")
    writer.execute("ROLLBACK")
    writer.close()
    assert (tmp_path / "killed" / f"{DATABASE}-journal").stat().st_size > 0
    assert told(tmp_path / "killed")[0].lines[1] == "Trial 0 is the best: val/rmse 45,000."


@pytest.mark.parametrize("content", [b"", b"no database" * 100, None])
def test_a_damaged_database_is_reported(tmp_path: Path, content: bytes | None):
    if content is None:
        with sqlite3.connect(tmp_path / DATABASE) as database:
            database.execute("CREATE TABLE studies (study_id TEXT)")
        database.close()
    else:
        (tmp_path / DATABASE).write_bytes(content)
    (found,) = sections([], tmp_path)
    assert "cannot be read" in found.lines[0]
    assert not found.figures
