"""Axis scales for settings, and the charts of a report."""

import random
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tests.fake_sweep import begun, done

from triptych.results.record import read_records
from triptych.results.report.charts import curves, parallel, parameter
from triptych.results.report.comparison import Ranking, compare
from triptych.results.report.pictures import png
from triptych.results.report.scales import scale, view


@pytest.mark.parametrize(
    ("values", "kind", "labels"),
    [
        (["64", "16", "32", "16"], "log", ["16", "32", "64"]),
        (["1e-4", "0.1", "1e-3"], "log", ["1e-4", "1e-3", "0.1"]),
        (["0", "0.25", "0.5"], "linear", ["0", "0.25", "0.5"]),
        (["1", "2", "3", "4", "5"], "linear", ["1", "2", "3", "4", "5"]),
        (["1e-3", "0.001", "0.01"], "categories", ["1e-3", "0.01"]),
        (["full", "256", "64"], "categories", ["64", "256", "full"]),
        (["tanh", "relu", ""], "categories", ["tanh", "relu", "none"]),
    ],
)
def test_a_parameter_gets_a_suitable_axis(values: list[str], kind: str, labels: list[str]):
    made = scale(values)
    assert made.kind == kind
    assert made.labels == labels
    assert set(made.places) == set(values)
    assert all(0 <= made.fraction(value) <= 1 for value in values)


def test_fractions_are_positions_between_the_ends():
    assert scale(["1", "10", "100"]).fraction("10") == pytest.approx(0.5)
    assert scale(["relu", "tanh", "gelu"]).fraction("tanh") == 0.5
    assert scale(["relu"]).fraction("relu") == 0.5


def test_an_empty_scale_still_gives_an_axis():
    axis = Figure().subplots()
    scale([]).apply(axis)
    assert axis.get_xscale() == "linear"


def test_an_outlier_does_not_flatten_the_view():
    values = [48.0, 49.0, 50.0, 51.0, 1e9]
    low, high = view(values, "min")
    assert (low, high < 100) == (48.0, True)
    assert view([0.9, 0.91, 0.92, 0.93, -40.0], "max")[0] > 0.5
    assert view([1.0, 1.0, 1.0, 5.0], "min") == (1.0, 5.0)
    assert view([2.0], "min") == (2.0, 2.0)


def ranking(sweep: Path) -> Ranking:
    (made,) = compare(read_records([sweep])).rankings
    return made


def only(figure: Figure | None) -> Axes:
    assert figure is not None
    assert png(figure).startswith(b"\x89PNG")
    return figure.axes[0]


def test_the_line_passes_through_the_means(tmp_path: Path):
    for name, (width, value) in enumerate([(16, 2.0), (16, 4.0), (32, 1.0), (64, 5.0), (64, 7.0)]):
        done(tmp_path, str(name), f"model.width={width}", f"seed={name}", value=value)
    axis = only(parameter(ranking(tmp_path), "model.width"))
    (line,) = axis.lines
    assert np.asarray(line.get_xydata()).tolist() == [[16, 3], [32, 1], [64, 6]]
    points = np.concatenate([np.asarray(drawn.get_offsets()) for drawn in axis.collections])
    assert sorted(points.tolist()) == [[16, 2], [16, 4], [32, 1], [64, 5], [64, 7]]
    assert axis.get_xscale() == "log"


def test_means_of_unique_values_average_neighbours(tmp_path: Path):
    draw = random.Random(0)
    for name in range(60):
        lr = draw.uniform(0, 1)
        done(tmp_path, str(name), f"optimizer.lr={lr}", value=10 * lr)
    (line,) = only(parameter(ranking(tmp_path), "optimizer.lr")).lines
    x, y = np.asarray(line.get_xydata()).T
    assert len(x) == 12
    assert np.allclose(y, 10 * x, atol=0.5)


def test_an_outlier_does_not_extend_the_axis(tmp_path: Path):
    for name, value in enumerate([48.0, 49.0, 50.0, 51.0, 1e9]):
        done(tmp_path, str(name), f"optimizer=o{name % 2}", f"seed={name}", value=value)
    axis = only(parameter(ranking(tmp_path), "optimizer"))
    assert axis.get_ylim()[1] < 100


def test_curves_have_one_colour_per_setting(tmp_path: Path):
    for name in range(6):
        done(tmp_path, str(name), f"model.width={16 * (name // 2 + 1)}", f"seed={name % 2}", curve=[3.0, 2.0 + name])
    begun(tmp_path, "6", "model.width=16", "seed=9")
    axis = only(curves(ranking(tmp_path), {}))
    drawn = [line for line in axis.lines if len(line.get_xydata())]
    assert len(drawn) == 6
    assert len({line.get_color() for line in drawn}) == 3
    assert {tuple(line.get_xdata()) for line in drawn} == {(1.0, 2.0)}
    assert {line.get_label() for line in axis.lines if not len(line.get_xydata())} == {
        *("width=16", "width=32", "width=48")
    }


def test_a_truncated_row_is_not_drawn(tmp_path: Path):
    run = done(tmp_path, "0", curve=[3.0, 2.0])
    with (run / "metrics.csv").open("a") as file:
        file.write("156,2,nan,\n208,3,1")
    (line,) = (line for line in only(curves(ranking(tmp_path), {run: "0"})).lines if len(line.get_xydata()))
    assert np.asarray(line.get_xydata()).tolist() == [[1, 3], [2, 2]]


def history(run: Path, *rows: tuple[float, float, float | str]) -> None:
    lines = [",".join(map(str, row)) for row in rows]
    (run / "metrics.csv").write_text("\n".join(["step,epoch,val/rmse", *lines]) + "\n")


def drawn(figure: Figure | None) -> list[list[float]]:
    (line,) = (line for line in only(figure).lines if len(line.get_xydata()))
    return np.asarray(line.get_xydata()).round(6).tolist()


def test_validations_within_an_epoch_are_drawn_at_fractional_epochs(tmp_path: Path):
    run = done(tmp_path, "0")
    # Epochs of ten steps, validated after three, six and nine steps; the last row is that of the test.
    first = [(2, 0, 9.0), (5, 0, 8.0), (8, 0, 7.0), (9, 0, "")]
    history(run, *first, (12, 1, 6.0), (15, 1, 5.0), (19, 1, 4.0), (20, 2, ""))
    expected = [[0.3, 9], [0.6, 8], [0.9, 7], [1.3, 6], [1.6, 5], [2, 4]]
    assert drawn(curves(ranking(tmp_path), {run: "0"})) == expected


def test_an_unfinished_epoch_is_drawn_at_its_fraction(tmp_path: Path):
    run = begun(tmp_path, "0")
    history(run, (4, 0, 9.0), (9, 0, 8.0), (14, 1, 7.0))
    assert drawn(curves(ranking(tmp_path), {run: "0"})) == [[0.5, 9], [1, 8], [1.5, 7]]


def test_epochs_without_validation_keep_their_width(tmp_path: Path):
    run = done(tmp_path, "0")
    history(run, (19, 1, 9.0), (39, 3, 8.0))
    assert drawn(curves(ranking(tmp_path), {run: "0"})) == [[2, 9], [4, 8]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("row", [(-5, -1, 3.0), (5, -1, 3.0), (1e308, 1e308, 3.0), (1, 7, 3.0), (3, 1e-300, 3.0)])
def test_implausible_steps_and_epochs_do_not_break_the_chart(row: tuple[float, float, float], tmp_path: Path):
    run = begun(tmp_path, "0")
    history(run, (4, 0, 9.0), row, (9, 0, 8.0))
    only(curves(ranking(tmp_path), {run: "0"}))


def test_parallel_lines_end_at_the_monitor(tmp_path: Path):
    for name, value in enumerate([1.0, 2.0, 3.0]):
        width = 2 ** (4 + name)
        done(tmp_path, str(name), f"model.width={width}", f"optimizer=o{name % 2}", value=value)
    axis = only(parallel(ranking(tmp_path)))
    ends = {round(float(path.vertices[-1][1]), 6) for path in axis.collections[0].get_paths()}
    assert ends == {0.0, 0.5, 1.0}
    assert [label.get_text() for label in axis.get_xticklabels()] == ["model.width", "optimizer", "val/rmse"]


def test_a_single_parameter_has_no_parallel_plot(tmp_path: Path):
    for name in range(3):
        done(tmp_path, str(name), f"model.width={name}")
    assert parallel(ranking(tmp_path)) is None


@pytest.mark.filterwarnings("error")
def test_names_in_any_script_are_not_parsed_as_math(tmp_path: Path):
    for name in range(3):
        done(tmp_path, str(name), f"model.$\\frac$=$x_{name}^$漢", f"model.b$=\\alpha{name}$", curve=[2.0, 1.0])
    made = ranking(tmp_path)
    for figure in (*(parameter(made, key) for key in made.parameters), curves(made, {}), parallel(made)):
        assert figure is None or png(figure)
