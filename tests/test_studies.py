"""Every study in conf/study: its file is valid, and scaled down it runs to a verdict."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.harness import CONF, EXPERIMENTS, SMALL, command, without_pictures

from triptych.config import ConfigError, check
from triptych.results.record import read_records
from triptych.results.study.reading import read_study

STUDIES = sorted(path.stem for path in (CONF / "study").glob("*.yaml"))


def content(study: str) -> dict[str, Any]:
    return yaml.safe_load((CONF / "study" / f"{study}.yaml").read_text())


@pytest.mark.parametrize("study", STUDIES)
def test_study_is_valid_and_has_at_least_three_seeds(study: str):
    assert read_study(study, content(study)["study"]).expect
    check(["-m", f"study={study}"], CONF)
    seeds = str(content(study)["hydra"]["sweeper"]["params"]["seed"]).split(",")
    assert len(seeds) >= 3


@pytest.mark.parametrize("study", STUDIES)
def test_study_file_states_its_command_and_run_time(study: str):
    head = (CONF / "study" / f"{study}.yaml").read_text().splitlines()[1:3]
    assert f"python train.py -m study={study}" in head[0]
    assert re.search(r"\d+ runs.*(minutes|seconds) on two cores", head[1])


def test_study_must_be_started_as_a_sweep():
    with pytest.raises(ConfigError, match=rf"python train.py -m study={STUDIES[0]}"):
        check([f"study={STUDIES[0]}"], CONF)


@pytest.mark.parametrize("study", [study for study in STUDIES if content(study)["study"].get("arms")])
def test_keys_that_a_study_compares_cannot_be_overridden(study: str):
    asked = content(study)["study"]
    pairs = {(key, str(value)) for arm in asked["arms"].values() for key, value in arm.items()}
    for key, value in pairs:
        if key != asked.get("choose"):
            with pytest.raises(ConfigError, match=f"{key} is what conf/study/{study}.yaml compares; leave it out"):
                check(["-m", f"study={study}", f"{key}={value}"], CONF)


@pytest.mark.skipif("housing" not in EXPERIMENTS, reason="the study made up here is of the housing experiment")
@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("{model.activatoin: relu}", "did you mean model.activation?"),
        ("{model.activation: rleu}", "did you mean relu?"),
        ("{optimizer: adan}", "did you mean adam"),
    ],
)
def test_mistake_in_an_arm_is_found_before_the_first_job(tmp_path: Path, arm: str, message: str):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text(
        "# @package _global_\n"
        "defaults: [{override /hydra/sweeper: study}]\n"
        f"study:\n  arms:\n    good: {{model.activation: tanh}}\n    bad: {arm}\n"
        "hydra: {sweeper: {params: {experiment: housing, seed: '0,1,2'}}}\n"
    )
    with pytest.raises(ConfigError, match=message) as found:
        check(["-m", "study=mine", "--config-dir", str(tmp_path)], CONF)
    assert "mine.yaml" in str(found.value)


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_scaled_down_study_runs_to_a_verdict(study: str, tmp_path: Path):
    asked = content(study)
    settings = [asked["hydra"]["sweeper"]["params"], *(asked["study"].get("arms") or {}).values()]
    # One value of each swept key, except for keys whose values the study compares.
    compared = str(asked["study"]["expect"])
    pairs = [(key, str(value)) for part in settings for key, value in part.items()]
    first = {key: value.partition(",")[0] for key, value in pairs if "," in value and key not in compared}
    overrides = [f"study={study}", "debug=smoke", *(f"{key}={value}" for key, value in first.items())]
    experiment = dict(pairs)["experiment"]
    # Two seeds where they are what is compared, as one has no spread.
    overrides += [f"seed={'0,1' if study == 'seeds' else 0}", "threads=1", *without_pictures(experiment)]
    tiny = SMALL.get(experiment, [])
    overrides += [option for option in tiny if option.partition("=")[0] not in dict(pairs)]
    result = command("-m", *overrides, f"hydra.sweep.dir={tmp_path / 'sweep'}", cwd=tmp_path, timeout=540)
    assert result.returncode == 0, result.stdout + result.stderr
    report = (tmp_path / "sweep" / "report.md").read_text()
    # So few seeds decide nothing.
    assert re.findall(r"^Verdict: (.*)$", report, re.MULTILINE) == ["undecided"]
    assert re.search(r"^Effect.*(interval|not measured).*: \d+", report, re.MULTILINE)
    assert {record.state for record in read_records([tmp_path / "sweep"])} <= {"done", "diverged"}
