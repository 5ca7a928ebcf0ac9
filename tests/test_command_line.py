"""How a command line is rewritten so that Hydra accepts it and reads it as intended."""

from collections.abc import Sequence

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig
from tests.harness import CONF, EXPERIMENTS

from triptych.command_line import force_values, move_flags_first
from triptych.config import check


def of_the_sweep(overrides: Sequence[str]) -> DictConfig:
    """Compose the config of a sweep as a whole, as Hydra does."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return loader.load_configuration("config", overrides=list(overrides), run_mode=RunMode.MULTIRUN)


def test_flags_may_follow_overrides() -> None:
    command = [f"experiment={EXPERIMENTS[0]}", "-m", "seed=1,2", "--config-name", "config", "~data.augment"]
    check(command, CONF)
    expected = ["-m", "--config-name", "config", f"experiment={EXPERIMENTS[0]}", "seed=1,2", "~data.augment"]
    assert move_flags_first(command) == expected
    assert move_flags_first(expected) == expected
    assert force_values(["--help", "experiment"]) == ["--help", "experiment"]
    assert move_flags_first(["--version"]) == force_values(["--version"]) == ["--version"]


@pytest.mark.parametrize("value", ["data.batch_size=8", "data.augment=[]", "data.root='a, b'", "data.train_size=null"])
def test_sweep_over_experiments_accepts_values_of_their_groups(value: str) -> None:
    swept = [f"experiment=choice({','.join(EXPERIMENTS)})", "trainer.max_epochs=3,4", "optimizer=sgd", "seed=1"]
    with pytest.raises(ConfigCompositionException, match="Could not override 'data"):
        of_the_sweep([*swept, value])
    given = force_values(["-m", *swept, value])
    assert given == ["-m", *swept, f"++{value}"]
    assert of_the_sweep(given[1:]).seed == 1
    check(given, CONF)
    assert force_values(given) == given


def test_values_of_a_single_experiment_are_not_changed() -> None:
    command = ["-m", f"experiment={EXPERIMENTS[0]}", "data.batch_size=8", "seed=1,2"]
    assert force_values(command) == command
