"""Studies from synthetic runs to the verdict shown in a report."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from triptych.results.record import Record, read_records
from triptych.results.study import sections
from triptych.results.study.measures import chosen_units, measure, units_of
from triptych.results.study.reading import read_study
from triptych.results.study.spec import Measure

STUDY = {
    "claim": "Blue is better than red.",
    "arms": {"red": {"model.colour": "red"}, "blue": {"model.colour": "blue"}},
    "measures": {"RMSE": {"best": "val/rmse"}},
    "expect": [{"measure": "RMSE", "arm": "blue", "against": "red"}],
    "plots": [{"dots": "RMSE"}, {"curves": "val/rmse"}],
    "discussion": {"holds": "So it is.", "does not hold": "A surprise."},
}

Sweep = Callable[..., list[Record]]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """A function that writes runs, each (arm, settings, val/rmse per epoch), and reads their records."""

    def write(runs: Sequence[tuple[str, Mapping[str, Any], Sequence[float]]], study: Mapping[str, Any] = STUDY) -> Any:
        for number, (arm, settings, values) in enumerate(runs):
            directory = tmp_path / str(number)
            (directory / ".hydra").mkdir(parents=True)
            config = {"monitor": "val/rmse", "mode": "min", "study": {**study, "arm": arm}}
            (directory / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
            overrides = ["study=colours", f"+study.arm={arm}", *(f"{key}={value}" for key, value in settings.items())]
            (directory / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
            rows = [f"{10 * (epoch + 1)},{value}" for epoch, value in enumerate(values)]
            (directory / "metrics.csv").write_text("\n".join(["step,val/rmse", *rows, ""]))
            if values:
                metrics = {
                    "monitor": "val/rmse",
                    "best": {"val/rmse": min(values)},
                    "epochs": len(values),
                    "seconds": 8,
                }
                (directory / "metrics.json").write_text(json.dumps(metrics))
                (directory / "DONE").touch()
            else:
                (directory / "error.txt").write_text("Diverged: the loss is NaN\n")
        return read_records([tmp_path])

    return write


def colours(red: Sequence[float], blue: Sequence[float]) -> list[tuple[str, dict[str, Any], list[float]]]:
    """One run of one epoch per value; the seeds within an arm are 0, 1, ..."""
    both = (("red", red), ("blue", blue))
    return [(arm, {"seed": seed}, [value]) for arm, values in both for seed, value in enumerate(values)]


@pytest.mark.parametrize("count", [1, 2])
def test_one_of_several_expectations_may_fail_by_chance(count: int, sweep: Sweep, tmp_path: Path):
    # Mean difference 0.8, deviation 0.3: the interval is 0.055 to 1.545 with t(0.975, 2), -0.276 to 1.876 with
    # t(0.9875, 2).
    study = {
        **STUDY,
        "expect": [*STUDY["expect"], *[{"measure": "RMSE", "arm": "red", "against": "blue"}] * (count - 1)],
    }
    (section,) = sections(sweep(colours([1.0, 1.0, 1.0], [1.5, 1.8, 2.1]), study), tmp_path)
    assert section.lines[2].endswith("seeds: 3: does not hold")
    told = "One of 2 expectations may fail by chance: with an interval widened for that none does."
    assert (section.lines[1], told in section.lines) == (
        ("Verdict: does not hold", False) if count == 1 else ("Verdict: undecided", True)
    )


@pytest.mark.parametrize(
    ("red", "blue", "verdict", "remark"),
    [
        ([3.0, 3.1, 2.9], [1.0, 1.1, 1.0], "holds", "So it is."),
        ([1.0, 1.1, 1.0], [3.0, 3.1, 2.9], "does not hold", "A surprise."),
        ([3.0, 1.0, 2.0], [2.0, 2.1, 1.9], "undecided", None),
        ([3.0, 3.1], [1.0, 1.1], "undecided", None),  # too few seeds
    ],
)
def test_the_verdict_follows_from_the_runs(sweep: Sweep, tmp_path: Path, red, blue, verdict, remark):
    (section,) = sections(sweep(colours(red, blue)), tmp_path)
    assert section.title == "Study: colours"
    assert section.lines[:2] == ["Blue is better than red.", f"Verdict: {verdict}"]
    effect = section.lines[2]
    assert effect.startswith("Effect: RMSE of blue less that of red is")
    assert "95 % interval" in effect
    assert f"seeds: {len(red)}" in effect
    assert (remark in section.lines) if remark else len(section.lines) == 3
    assert section.header == ["arm", "RMSE", "runs"]
    assert [row[0] for row in section.rows] == ["red", "blue"]
    assert section.figures["study"].axes


def test_diverged_runs_are_named_and_their_pair_is_left_out(sweep: Sweep, tmp_path: Path):
    runs = colours([3.0, 3.1, 2.9, 3.0], [1.0, 1.1, 1.0])
    runs.append(("blue", {"seed": 3}, []))
    (section,) = sections(sweep(runs), tmp_path)
    assert "Verdict: holds" in section.lines
    assert "seeds: 3" in section.lines[2]
    assert any("1 of 8 runs diverged: 7" in line for line in section.lines)


@pytest.mark.parametrize("end", ["killed", "failed"])
@pytest.mark.parametrize("measured", [{"last": "val/rmse"}, {"steps_to": "val/rmse", "within": 9}])
def test_metrics_of_unfinished_runs_do_not_count(sweep: Sweep, tmp_path: Path, end: str, measured: dict[str, Any]):
    runs = colours([3.0, 3.1, 2.9, 3.0], [1.0, 1.1, 1.0, 1.0])
    study = {**STUDY, "measures": {"RMSE": measured}}
    sweep(runs, study)
    for name in ("DONE", "metrics.json"):
        (tmp_path / "7" / name).unlink()
    if end == "failed":
        (tmp_path / "7/error.txt").write_text("MemoryError: \n")
    (section,) = sections(read_records([tmp_path]), tmp_path)
    assert "seeds: 3" in section.lines[2]
    assert section.rows[1][-1] == "3 of 4"


GRID = {
    **STUDY,
    "arms": {},
    "expect": [{"measure": "RMSE", "arm": {"width": "64"}, "against": {"width": "4"}}],
    "plots": [],
}


def test_other_swept_settings_are_averaged_within_each_seed(sweep: Sweep, tmp_path: Path):
    # Differences at depths 1 and 3: -1 and -3 with seed 0, -2 and -4 with seed 1, -3 and -5 with seed 2.
    runs = [
        ("", {"width": width, "depth": depth, "seed": seed}, [10.0 - (width == 64) * (seed + depth)])
        for width in (4, 64)
        for depth in (1, 3)
        for seed in range(3)
    ]
    (section,) = sections(sweep(runs, GRID | {"plots": [{"lines": "RMSE", "x": "width"}]}), tmp_path)
    axis = section.figures["study"].axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["4", "64"]
    assert axis.lines[0].get_ydata().tolist() == [10, 8]
    # Means -2, -3, -4, deviation 1: 4.3027 / sqrt(3) = 2.484.
    assert "is -3 (expected: lower), 95 % interval -5.484 to -0.5159, seeds: 3: holds" in section.lines[2]


@pytest.mark.parametrize(
    ("values", "scale", "places"),
    [
        (["0", "0.1", "0.2", "0.5"], "linear", [0, 0.1, 0.2, 0.5]),
        (["1e-4", "0.001", "0.01"], "log", [1e-4, 1e-3, 1e-2]),
        (["32", "128", "full"], "linear", [0, 1, 2]),  # evenly spaced
    ],
)
def test_every_swept_value_has_its_axis_position(sweep: Sweep, tmp_path: Path, values: list[str], scale: str, places):
    numbered = list(enumerate(values))
    runs = [("", {"x": text, "y": y, "seed": 0}, [rank + y]) for rank, text in reversed(numbered) for y in (1, 2)]
    plots = [{"lines": "RMSE", "x": "x"}, {"heat": "RMSE", "x": "x", "y": "y"}]
    expect = [{"measure": "RMSE", "spread_above": 0.1}]
    (section,) = sections(sweep(runs, {**GRID, "expect": expect, "plots": plots}), tmp_path)
    lines, heat, *_ = section.figures["study"].axes
    means = [[rank + y for rank, _ in numbered] for y in (1, 2)]
    assert lines.get_xscale() == scale
    assert [line.get_xdata().tolist() for line in lines.lines] == [places] * 2
    assert [line.get_ydata().tolist() for line in lines.lines] == means
    assert heat.images[0].get_array().tolist() == means
    for axis in (lines, heat):
        assert [label.get_text() for label in axis.get_xticklabels()] == values


def test_a_grid_with_one_seed_is_undecided(sweep: Sweep, tmp_path: Path):
    runs = [("", {"width": width, "depth": depth}, [100.0 / width]) for width in (4, 64) for depth in (1, 2, 3)]
    (section,) = sections(sweep(runs, GRID), tmp_path)
    assert "seeds: 1: undecided" in section.lines[2]


def test_further_settings_do_not_count_as_seeds(sweep: Sweep, tmp_path: Path):
    runs = [
        (arm, {"width": width, "seed": seed}, [value + 10 * width + 0.1 * seed * value])
        for arm, value in (("red", 3.0), ("blue", 1.0))
        for width in (1, 2, 4)
        for seed in (0, 1)
    ]
    (section,) = sections(sweep(runs), tmp_path)
    assert "is -2.1 (expected" in section.lines[2]
    assert "seeds: 2: undecided" in section.lines[2]


def test_a_key_named_on_one_side_only_is_averaged_on_the_other(sweep: Sweep, tmp_path: Path):
    values = {(64, 1): 1.0, (64, 2): 1.0, (64, 4): 9.0, (4, 1): 5.0, (4, 2): 2.0, (4, 4): 7.0}
    runs = [
        ("", {"width": width, "depth": depth, "seed": seed}, [value])
        for (width, depth), value in values.items()
        for seed in range(3)
    ]
    expect = [{"measure": "RMSE", "arm": {"width": "64"}, "against": {"width": "4.0", "depth": "2"}}]
    (section,) = sections(sweep(runs, {**GRID, "expect": expect}), tmp_path)
    assert "is 1.667 (expected" in section.lines[2]  # (1 + 1 + 9) / 3 - 2


def test_ratios_are_averaged_geometrically_within_a_seed(sweep: Sweep, tmp_path: Path):
    runs = [
        ("", {"width": width, "depth": depth, "seed": seed}, [(2.0 if depth == 1 else 8.0) if width == 64 else 1.0])
        for width in (4, 64)
        for depth in (1, 2)
        for seed in range(3)
    ]
    expect = [GRID["expect"][0] | {"direction": "higher", "scale": "ratio", "by": 2}]  # type: ignore[index]
    (section,) = sections(sweep(runs, {**GRID, "expect": expect}), tmp_path)
    assert "is 4 times that of width=4" in section.lines[2]
    assert "Verdict: holds" in section.lines


def test_a_ratio_of_non_positive_values_is_not_measured(sweep: Sweep, tmp_path: Path):
    expect = [STUDY["expect"][0] | {"scale": "ratio"}]  # type: ignore[index]
    (section,) = sections(sweep(colours([1.0, 2.0, 0.0], [1.0, 1.0, 1.0]), {**STUDY, "expect": expect}), tmp_path)
    assert section.lines[2] == "Effect on RMSE: not measured, seeds: 3: undecided"


def test_the_spread_over_seeds_excludes_that_over_settings(sweep: Sweep, tmp_path: Path):
    runs = [("", {"width": width, "seed": seed}, [width + seed]) for width in (100, 1000) for seed in range(5)]
    expect = [{"measure": "RMSE", "spread_above": 0.1}]
    (section,) = sections(sweep(runs, {**GRID, "expect": expect}), tmp_path)
    # A deviation of 1.5811 around means of 102 and 1002.
    assert "is 0.01102 of its mean" in section.lines[2]
    assert "seeds: 5: does not hold" in section.lines[2]


def test_monitor_is_replaced_by_the_monitored_metric():
    measures = {"rate": {"preferred": "lr", "of": "monitor"}, "error": {"test": "monitor"}, "m": {"best": "monitor"}}
    expect = [{"measure": "rate", "arm": "red", "against": "blue"}]
    study = read_study("colours", {**STUDY, "measures": measures, "expect": expect, "plots": []}).monitoring("val/rmse")
    assert [(of.target, of.of) for of in study.measures.values()] == [
        ("lr", "val/rmse"),
        ("test/rmse", ""),
        ("val/rmse", ""),
    ]


def test_dollar_signs_in_an_arms_name_are_not_parsed_as_math(sweep: Sweep, tmp_path: Path):
    arms = {"red": {}, "a$^$": {}}
    study = {**STUDY, "arms": arms, "expect": [{"measure": "RMSE", "arm": "a$^$", "against": "red"}]}
    runs = [(arm, {"seed": 0}, [1.0]) for arm in arms]
    (section,) = sections(sweep(runs, study), tmp_path)
    section.figures["study"].savefig(tmp_path / "study.png")


def test_nothing_measured_is_undecided(sweep: Sweep, tmp_path: Path):
    (section,) = sections(sweep([("red", {}, []), ("blue", {}, [])]), tmp_path)
    assert "Verdict: undecided" in section.lines
    assert not section.figures


def test_choose_selects_the_value_with_the_best_mean_over_seeds(sweep: Sweep):
    runs = [
        ("red", {"lr": "0.1", "seed": 0}, [1.0]),
        ("red", {"lr": "0.1", "seed": 1}, [9.0]),
        ("red", {"lr": "0.2", "seed": 0}, [3.0]),
        ("red", {"lr": "0.2", "seed": 1}, [3.0]),
        ("red", {"lr": "0.3", "seed": 0}, [0.5]),
        ("red", {"lr": "0.3", "seed": 1}, []),  # diverged, which rules this value out
    ]
    units, choices = chosen_units(units_of(sweep(runs)), "lr")
    assert choices == {"red": "0.2"}
    assert {unit.record.name for unit in units} == {"2", "3"}


def test_arms_are_compared_at_their_own_chosen_value(sweep: Sweep, tmp_path: Path):
    runs = [("red", {"lr": lr, "seed": seed}, [lr]) for lr in (0.3, 0.4) for seed in range(3)]
    runs += [("blue", {"lr": lr, "seed": seed}, [lr]) for lr in (0.1, 0.2) for seed in range(3)]
    (section,) = sections(sweep(runs, {**STUDY, "choose": "lr"}), tmp_path)
    assert "Verdict: holds" in section.lines
    assert "is -0.2 (expected" in section.lines[2]
    assert "Chosen lr: red 0.3, blue 0.1." in section.lines


def killed(directory: Path) -> None:
    for name in ("DONE", "metrics.json"):
        (directory / name).unlink()


RATES = [
    *(("red", {"lr": lr, "seed": seed}, [value]) for lr, value in ((0.1, 3.0), (0.2, 1.0)) for seed in range(3)),
    *(("blue", {"lr": lr, "seed": seed}, [value]) for lr, value in ((0.1, 2.0), (0.2, 4.0)) for seed in range(3)),
]


@pytest.mark.parametrize("end", ["killed", "failed"])
def test_an_unfinished_run_does_not_count_against_its_value(sweep: Sweep, tmp_path: Path, end: str):
    study = {**STUDY, "choose": "lr"}
    sweep(RATES, study)
    killed(tmp_path / "4")  # red, at its better learning rate
    if end == "failed":
        (tmp_path / "4/error.txt").write_text("MemoryError: \n")
    (section,) = sections(read_records([tmp_path]), tmp_path)
    assert "Chosen lr: red 0.2, blue 0.1." in section.lines
    assert "1 of 12 runs did not end, and are missing from this choice." in section.lines
    assert section.rows == [["red", "0.2", "1 ± 0", "2 of 3"], ["blue", "0.1", "2 ± 0", "3"]]


def test_an_arm_without_a_usable_value_stays_in_the_table(sweep: Sweep, tmp_path: Path):
    measures = {"RMSE": {"best": "val/rmse"}, "largest": {"largest": "lr", "of": "val/rmse", "within": 2}}
    study = {**STUDY, "choose": "lr", "measures": measures}
    runs = [(arm, own, [] if (arm, own["seed"]) == ("red", 0) else values) for arm, own, values in RATES]
    (section,) = sections(sweep(runs, study), tmp_path)
    assert "Chosen lr: red no value, blue 0.1." in section.lines
    assert "No value: with each a run diverged, or none ended." in section.lines
    assert not any("did not end" in line for line in section.lines)
    assert section.header == ["arm", "lr", "RMSE", "largest", "runs"]
    assert section.rows == [["blue", "0.1", "2 ± 0", "0.1 ± 0", "3"], ["red", "no value", "-", "0.2 ± 0", "0 of 6"]]
    assert "Verdict: undecided" in section.lines


def test_a_value_with_an_infinite_monitor_is_not_chosen(sweep: Sweep, tmp_path: Path):
    sweep(RATES, {**STUDY, "choose": "lr"})
    (tmp_path / "4/metrics.json").write_text('{"monitor": "val/rmse", "best": {"val/rmse": null}}')
    (section,) = sections(read_records([tmp_path]), tmp_path)
    assert "Chosen lr: red 0.1, blue 0.1." in section.lines


def test_steps_to_an_unlogged_metric_are_not_measured(sweep: Sweep, tmp_path: Path):
    study = {**STUDY, "measures": {"RMSE": {"steps_to": "val/mae"}}, "plots": []}
    (section,) = sections(sweep(colours([1.0], [2.0]), study), tmp_path)
    assert section.lines[2:] == ["Effect on RMSE: not measured, seeds: 0: undecided"]


def test_the_table_says_so_if_no_arm_has_a_usable_value(sweep: Sweep, tmp_path: Path):
    runs = [("red", {"lr": lr, "seed": 0}, []) for lr in (0.1, 0.2)]
    (section,) = sections(sweep(runs, {**STUDY, "choose": "lr"}), tmp_path)
    assert section.header == ["arm", "lr", "RMSE", "runs"]
    assert section.rows == [["red", "no value", "-", "0 of 2"]]


def test_each_metric_has_its_own_direction(sweep: Sweep, tmp_path: Path):
    # The runs monitor an error, but for accuracy larger is better.
    records = sweep([("red", {"lr": lr, "seed": 0}, [value]) for lr, value in ((0.1, 1.0), (0.2, 2.0), (0.3, 3.0))])
    for number, accuracy in enumerate((0.5, 0.9, 0.8)):
        (tmp_path / f"{number}/metrics.csv").write_text(f"step,val/accuracy,val/odd\n0,0.4,1\n9,{accuracy},2\n")
        best = {"val/rmse": number + 1.0, "val/accuracy": accuracy, "val/odd": accuracy}
        (tmp_path / f"{number}/metrics.json").write_text(json.dumps({"monitor": "val/rmse", "best": best}))
    records = read_records([tmp_path])

    def values(kind: str, target: str, of: str = "", mode: str = "") -> list[float | None]:
        return [value.value for value in measure(Measure("m", kind, target, of, 1.2, mode), units_of(records))]

    assert values("preferred", "lr", "val/accuracy") == [0.2]
    assert values("largest", "lr", "val/accuracy") == [0.3]
    assert values("steps_to", "val/accuracy") == [10, 10, 10]  # 0.9 / 1.2 = 0.75
    assert values("preferred", "lr", "val/odd", "max") == [0.2]
    with pytest.raises(ValueError, match=r"measures\.m: which values of val/odd are better"):
        values("preferred", "lr", "val/odd")


def test_a_target_reached_at_the_first_step_has_a_finite_logarithm(sweep: Sweep, tmp_path: Path):
    study = {
        **STUDY,
        "measures": {"steps": {"steps_to": "val/rmse", "within": 2}},
        "expect": [{"measure": "steps", "arm": "blue", "against": "red", "scale": "ratio"}],
        "plots": [],
    }
    sweep(colours([3.0, 3.0, 3.0], [1.0, 1.0, 1.0]), study)
    for number in range(6):
        rows = "0,9\n7,1.5\n" if number < 2 else "0,9\n7,8\n" if number == 2 else "0,1\n7,1\n"
        (tmp_path / f"{number}/metrics.csv").write_text(f"step,val/rmse\n{rows}")
    (section,) = sections(read_records([tmp_path]), tmp_path)
    assert "steps of blue is 0.125 times that of red" in section.lines[2]
    assert section.lines[3] == "steps: 1 of 6 runs never reached it, and count with the steps of the longest."


def test_a_negative_target_is_relaxed_too(sweep: Sweep):
    """Within a factor of 2 of the best, -9, are -4.5 and less."""
    curves = {"0.1": [-1.0, -5.0, -9.0], "0.2": [-1.0, -4.0, -4.6], "0.3": [-1.0, -2.0, -4.4]}
    units = units_of(sweep([("red", {"lr": lr, "seed": 0}, curve) for lr, curve in curves.items()]))
    found = measure(Measure("", "steps_to", "val/rmse", "", 2.0), units)
    assert [(value.value, value.reached) for value in found] == [(21, True), (31, True), (31, False)]


def test_each_kind_of_measure_matches_hand_computation(sweep: Sweep):
    records = sweep(
        [
            ("red", {"lr": "0.1", "seed": 0}, [9.0, 5.0, 2.0]),
            ("red", {"lr": "0.2", "seed": 0}, [8.0, 1.0, 1.05]),
            ("red", {"lr": "0.3", "seed": 0}, [9.0, 9.0, 9.0]),
        ]
    )
    units = units_of(records)
    assert [unit.swept for unit in units] == [{"lr": "0.1"}, {"lr": "0.2"}, {"lr": "0.3"}]

    def values(kind: str, target: str, of: str = "", within: float = 1.05) -> list[float | None]:
        return [value.value for value in measure(Measure("", kind, target, of, within), units)]

    assert values("best", "val/rmse") == [2.0, 1.0, 9.0]
    assert values("first", "val/rmse") == [9.0, 8.0, 9.0]
    assert values("last", "val/rmse") == [2.0, 1.05, 9.0]
    assert values("median", "val/rmse") == [5.0, 1.05, 9.0]
    assert values("per_epoch", "seconds") == [pytest.approx(8 / 3)] * 3
    # With a target of 2.0: reached at step 30 (from 0, so 31 steps), at step 20, and never (the longest run's steps).
    assert values("steps_to", "val/rmse", within=2.0) == [31, 21, 31]
    assert [value.reached for value in measure(Measure("", "steps_to", "val/rmse", "", 2.0), units)] == [
        True,
        True,
        False,
    ]
    assert values("largest", "lr", "val/rmse", 2.0) == [0.2]
    assert values("preferred", "lr", "val/rmse") == [0.2]
    assert values("best", "val/nothing") == [None] * 3


def test_noise_excludes_the_initial_descent(sweep: Sweep):
    down = [100.0 - index for index in range(40)]
    wavering = [50.0 + (-1) ** index for index in range(40)]
    units = units_of(sweep([("red", {"seed": 0}, down), ("blue", {"seed": 0}, wavering)]))
    smooth, rough = (value.value for value in measure(Measure("", "noise", "val/rmse"), units))
    assert smooth == pytest.approx(0, abs=1e-9)
    assert rough == pytest.approx(2**0.5 / 50, rel=0.1)  # differences of +-2, divided by sqrt(2), relative to 50


def test_nested_settings_are_flattened():
    arms = {"red": {"model": {"colour": None, "size": {"x": 1}}}, "blue": {"model.colour": "blue", "model.size": {}}}
    expect = [{"measure": "RMSE", "arm": {"model": {"colour": "blue"}}, "against": "red"}]
    study = read_study("colours", {**STUDY, "arms": arms, "expect": expect})
    assert study.arms == {
        "red": {"model.colour": "null", "model.size.x": "1"},
        "blue": {"model.colour": "blue", "model.size": "{}"},
    }
    assert study.expect[0].arm == {"model.colour": "blue"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"claim": None}, "claim"),
        ({"measure": {}}, "did you mean measures?"),
        ({"measures": {"RMSE": {"bset": "val/rmse"}}}, r"measures.RMSE: one of its keys must be best"),
        ({"measures": {"RMSE": {"steps_to": "val/rmse", "withn": 2}}}, "did you mean within?"),
        ({"measures": {"RMSE": {"steps_to": "val/rmse", "within": "x"}}}, "wrong type"),
        ({"expect": []}, "a verdict needs something"),
        (
            {"expect": [{"measure": "RMSE", "arm": "green", "against": "red"}]},
            "green is no arm: choose one of red, blue",
        ),
        ({"expect": [{"measure": "MAE", "arm": "red", "against": "blue"}]}, "MAE is none of RMSE"),
        ({"expect": [{"measure": "RMSE", "arm": "red", "against": "blue", "scale": "x"}]}, "scale is difference or"),
        ({"plots": [{"dots": "MAE"}]}, "MAE is none of RMSE"),
        ({"measures": {"RMSE": {"best": "val/rmse", "within": 2}}}, "RMSE.within: best takes no other key"),
        ({"measures": {"RMSE": {"largest": "lr"}}}, "measures.RMSE: largest needs of"),
        ({"measures": {"RMSE": {"preferred": "lr", "of": "x", "within": 2}}}, "preferred takes of, mode"),
        ({"measures": {"RMSE": {"steps_to": "x", "mode": "low"}}}, "RMSE.mode: min or max"),
        ({"expect": [{"measure": "RMSE", "against": "red"}]}, r"expect\[0\]: an arm against another needs arm"),
        ({"expect": [{"measure": "RMSE", "arm": "red"}]}, r"expect\[0\]: an arm against another needs against"),
        ({"expect": [{"arm": "blue", "against": "red"}]}, "needs measure"),
        ({"expect": [{"measure": "RMSE", "spread_above": 0.1, "by": 2}]}, "spread_above takes measure"),
        ({"plots": [{"lines": "RMSE"}]}, r"plots\[0\]: lines needs x"),
        ({"plots": [{"heat": "RMSE", "x": "lr"}]}, r"plots\[0\]: heat needs y"),
        ({"plots": [{"dots": "RMSE", "x": "lr"}]}, r"plots\[0\].x: dots takes log"),
        ({"plots": [{"dots": ["RMSE"]}]}, "one name"),
        ({"discussion": {"fails": "x"}}, "choose one of does not hold, holds, undecided"),
    ],
)
def test_an_invalid_study_names_the_remedy(change: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        read_study("colours", {**STUDY, **change})
