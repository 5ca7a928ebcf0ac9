"""The jobs that a study plans."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from hydra_plugins.triptych.search import SearchSweeper
from hydra_plugins.triptych.study import StudySweeper, plan
from triptych.results.directory import SWEEP

PARSER = OverridesParser.create()


@pytest.mark.parametrize(
    "arm",
    ["relu", "group norm", "1e-3", "0.10", "1_000", "true", "null", "a,b", "größer", "L1 (0.1)", "a=b", "it's", r"a\b"],
)
def test_an_arm_may_have_any_name(arm: str):
    ((line,),) = plan({arm: {}}, {}, set(), [], PARSER)
    (override,) = PARSER.parse_overrides([line])
    assert (override.key_or_group, override.value(), override.is_sweep_override()) == ("study.arm", arm, False)


def test_an_arm_is_quoted_only_if_necessary():
    jobs = plan({"relu": {}, "1e-3": {}}, {}, set(), [], PARSER)
    assert jobs == [["+study.arm=relu"], ["+study.arm='1e-3'"]]


def test_jobs_are_arms_times_values_and_the_command_line_wins():
    arms = {"sgd": {"optimizer": "sgd", "optimizer.lr": "0.1,0.3"}, "adam": {"optimizer": "adam"}}
    params = {"experiment": "housing", "trainer.max_epochs": 8, "seed": "0,1"}
    jobs = plan(arms, params, set(), ["study=optimizers", "trainer.max_epochs=2"], PARSER)
    common = ["study=optimizers", "trainer.max_epochs=2"]
    assert [sorted(job) for job in jobs] == [
        sorted(["experiment=housing", f"seed={seed}", "optimizer=sgd", f"optimizer.lr={lr}", "+study.arm=sgd", *common])
        for seed in (0, 1)
        for lr in ("0.1", "0.3")
    ] + [
        sorted(["experiment=housing", f"seed={seed}", "optimizer=adam", "+study.arm=adam", *common]) for seed in (0, 1)
    ]


def test_debug_settings_override_the_study():
    jobs = plan({}, {"experiment": "housing", "trainer.max_epochs": 8}, {"trainer.max_epochs"}, ["study=seeds"], PARSER)
    assert jobs == [["experiment=housing", "study=seeds"]]


def test_a_study_without_arms_is_a_grid():
    jobs = plan({}, {"a": "1,2", "b": "3,4"}, set(), ["b=5"], PARSER)
    assert jobs == [["a=1", "b=5"], ["a=2", "b=5"]]


def test_values_are_written_in_command_line_syntax():
    (job,) = plan({}, {"test": False, "threads": None, "data.augment": ["flip", "crop"]}, set(), [], PARSER)
    assert job == ["test=False", "threads=null", "data.augment=[flip,crop]"]


@pytest.mark.parametrize("sweeper", [StudySweeper, partial(SearchSweeper, 1)])
def test_nested_params_are_flattened(sweeper: Any):
    params = OmegaConf.create({"threads": None, "data.augment": ["flip", "a,b"], "trainer.max_epochs": 8})
    OmegaConf.update(params, "trainer.max_epochs", 2)
    own = sweeper(params=params).params
    assert own == {"threads": None, "data.augment": ["flip", "a,b"], "trainer.max_epochs": 2}
    assert plan({}, own, {"threads"}, [], PARSER) == [["data.augment=['flip','a,b']", "trainer.max_epochs=2"]]


STUDY: dict[str, Any] = {
    "claim": "Blue is better than red.",
    "choose": "optimizer.lr",
    "arms": {"red": {"model.colour": "red"}, "blue": {"model.colour": "blue"}},
    "measures": {"RMSE": {"best": "val/rmse"}},
    "expect": [{"measure": "RMSE", "arm": "blue", "against": "red"}],
}


def swept(folder: Path, study: Mapping[str, Any] = STUDY, *arguments: str) -> list[list[str]]:
    """The jobs that a study launches."""
    launched: list[list[str]] = []

    def launch(jobs: Sequence[Sequence[str]], initial_job_idx: int) -> None:
        launched.extend(map(list, jobs))

    sweeper = StudySweeper({"optimizer.lr": "1,2", "experiment": "housing"})
    hydra = {"runtime": {"choices": {"study": "colours"}}, "sweep": {"dir": str(folder)}}
    sweeper.config = OmegaConf.create({"study": study, "monitor": "val/rmse", "mode": "min", "hydra": hydra})
    sweeper.hydra_context = SimpleNamespace(config_loader=None)  # type: ignore[assignment]
    sweeper.launcher = SimpleNamespace(launch=launch)  # type: ignore[assignment]
    sweeper.sweep(list(arguments))
    return launched


def test_a_second_call_keeps_the_record_of_the_first(tmp_path: Path):
    assert len(swept(tmp_path)) == 4
    (kept,) = tmp_path.iterdir()
    first = kept.read_text()
    assert OmegaConf.load(kept).study == STUDY
    swept(tmp_path, {**STUDY, "claim": "Another one."})
    assert (tmp_path / SWEEP).read_text() == first
    assert list(tmp_path.iterdir()) == [kept]


RATE = {"largest": "optimizer.lr", "of": "val/odd"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choose": "optimizer.rl"}, "choose: no arm and no hydra.sweeper.params sets optimizer.rl; did you mean"),
        ({"plots": [{"lines": "RMSE", "x": "model.width"}]}, "plots[0].x: no arm"),
        ({"measures": {"RMSE": {"largest": "lr", "of": "val/rmse"}}}, "measures.RMSE.largest: no arm"),
        ({"expect": [STUDY["expect"][0] | {"arm": {"model.width": 8}}]}, "expect[0].arm.model.width: no arm"),
        ({"measures": {"RMSE": RATE}}, "measures.RMSE: which values of val/odd are better? Add mode: min or mode: max"),
    ],
)
def test_an_invalid_study_is_refused_before_its_jobs_run(
    change: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit, match="2"):
        swept(tmp_path / "sweep", {**STUDY, **change})
    assert f"error: conf/study/colours.yaml: {message}" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_settings_named_by_a_study_may_come_from_the_command_line(tmp_path: Path):
    study = {**STUDY, "measures": {"RMSE": RATE | {"mode": "max"}}, "plots": [{"lines": "RMSE", "x": "model.width"}]}
    assert len(swept(tmp_path, study, "model.width=4,8")) == 8
