"""Which jobs a study plans."""

from functools import partial
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from hydra_plugins.triptych.search import SearchSweeper
from hydra_plugins.triptych.study import StudySweeper, plan

PARSER = OverridesParser.create()


@pytest.mark.parametrize(
    "arm",
    ["relu", "group norm", "1e-3", "0.10", "1_000", "true", "null", "a,b", "größer", "L1 (0.1)", "a=b", "it's", r"a\b"],
)
def test_an_arm_may_have_any_name(arm: str):
    ((line,),) = plan({arm: {}}, {}, set(), [], PARSER)
    (override,) = PARSER.parse_overrides([line])
    assert (override.key_or_group, override.value(), override.is_sweep_override()) == ("study.arm", arm, False)


def test_an_arm_is_quoted_only_where_it_must_be():
    jobs = plan({"relu": {}, "1e-3": {}}, {}, set(), [], PARSER)
    assert jobs == [["+study.arm=relu"], ["+study.arm='1e-3'"]]


def test_every_arm_with_every_value_and_the_command_line_last():
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


def test_debug_wins_over_the_study():
    jobs = plan({}, {"experiment": "housing", "trainer.max_epochs": 8}, {"trainer.max_epochs"}, ["study=seeds"], PARSER)
    assert jobs == [["experiment=housing", "study=seeds"]]


def test_a_study_without_arms_is_a_grid():
    jobs = plan({}, {"a": "1,2", "b": "3,4"}, set(), ["b=5"], PARSER)
    assert jobs == [["a=1", "b=5"], ["a=2", "b=5"]]


def test_values_are_written_as_the_command_line_has_them():
    (job,) = plan({}, {"test": False, "threads": None, "data.augment": ["flip", "crop"]}, set(), [], PARSER)
    assert job == ["test=False", "threads=null", "data.augment=[flip,crop]"]


@pytest.mark.parametrize("sweeper", [StudySweeper, partial(SearchSweeper, 1)])
def test_params_may_be_nested_as_a_key_on_the_command_line_is(sweeper: Any):
    params = OmegaConf.create({"threads": None, "data.augment": ["flip", "a,b"], "trainer.max_epochs": 8})
    OmegaConf.update(params, "trainer.max_epochs", 2)
    own = sweeper(params=params).params
    assert own == {"threads": None, "data.augment": ["flip", "a,b"], "trainer.max_epochs": 2}
    assert plan({}, own, {"threads"}, [], PARSER) == [["data.augment=['flip','a,b']", "trainer.max_epochs=2"]]
