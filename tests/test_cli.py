"""triptych evaluate, predict and data, as users call them."""

import csv
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from tests.harness import EXPERIMENTS, cheapest, small, train

from triptych.cli import main
from triptych.data.catalogue import data_sets


def call(*arguments: object) -> int:
    """Run ``triptych ARGUMENTS`` in this process; return the exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def trained(experiment: str, data_root: Path, directory: Path) -> Path:
    """Train briefly and return the run directory; skip the test if the project has no such experiment."""
    if experiment not in EXPERIMENTS:
        pytest.skip(f"the {experiment} panel is not here")
    train(directory, *small(experiment, data_root, "trainer.max_epochs=1", "logger=none", "test=false"))
    return directory


def test_missing_command_lists_the_available_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 2
    said = capsys.readouterr().err
    assert all(f"    {name}" in said for name in ("evaluate", "predict", "export", "report", "reproduce", "data"))


def test_predicted_pages_keep_their_names_and_sizes(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("denoise", data_root, tmp_path / "run")
    pages = tmp_path / "pages"
    sizes = {"one.png": (67, 45), "below/two.png": (33, 80)}
    for name, size in sizes.items():
        (pages / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 200).save(pages / name)
    (pages / "broken.png").write_bytes(b"no image")

    out = tmp_path / "out"
    assert call("predict", run, pages, "--output", out, "--submission") == 1
    assert "broken.png" in capsys.readouterr().err
    written = {path.relative_to(out).as_posix(): Image.open(path) for path in out.rglob("*.png")}
    assert {name: image.size for name, image in written.items()} == sizes
    assert all(image.mode == "L" for image in written.values())

    # Kaggle's format: ids image_row_column counted from 1, values in [0, 1], the same pixels as in the image.
    with (out / "submission.csv").open() as file:
        rows = {row["id"]: float(row["value"]) for row in csv.DictReader(file)}
    assert len(rows) == sum(width * height for width, height in sizes.values())
    pixels = np.asarray(written["one.png"]) / 255
    assert rows["one_3_7"] == pytest.approx(pixels[2, 6], abs=1 / 255)

    assert call("predict", run, pages / "one.png", "--output", tmp_path / "single") == 0
    assert [path.name for path in (tmp_path / "single").iterdir()] == ["one.png"]

    assert call("predict", run, pages, "--output", tmp_path / "strict", "--strict") == 2
    assert "broken.png: not a readable image" in capsys.readouterr().err
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    (pages / "broken.png").unlink()
    Image.new("L", (220, 90), 99).save(pages / "large.png")
    assert call("predict", run, pages, "--output", out, "--resume") == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert call("predict", run, pages / "large.png", "--output", tmp_path / "tiled", "--tile", 128) == 0
    with Image.open(out / "large.png") as whole, Image.open(tmp_path / "tiled" / "large.png") as tiled:
        assert whole.size == tiled.size == (220, 90)
        # Within 1e-3 before rounding to bytes.
        assert np.abs(np.asarray(whole).astype(int) - np.asarray(tiled)).max() <= 1
    assert call("predict", run, pages / "large.png", "--output", tmp_path / "tiled", "--tile", 16) == 2
    assert "tiles of 16 pixels are too small" in capsys.readouterr().err


def test_each_xray_gets_a_probability_and_a_label(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("pneumonia", data_root, tmp_path / "run")
    folder = data_root / "chest-xray-pneumonia/chest_xray/test"
    assert call("predict", run, folder, "--output", tmp_path / "out") == 0
    with (tmp_path / "out/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "probability", "label"]
    assert [row["file"] for row in rows] == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert {row["label"] for row in rows} <= {"NORMAL", "PNEUMONIA"}
    ill = [float(row["probability"]) for row in rows if row["label"] == "PNEUMONIA"]
    well = [float(row["probability"]) for row in rows if row["label"] == "NORMAL"]
    assert min(ill, default=1.0) >= max(well, default=0.0)  # a single threshold
    assert call("predict", run, folder, "--output", tmp_path / "none", "--submission") == 2
    assert "--submission is not for this run's task" in capsys.readouterr().err


def test_evaluate_reproduces_the_metrics_of_each_split(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "pneumonia" not in EXPERIMENTS:
        pytest.skip("the pneumonia panel is not here")
    train(tmp_path / "run", *small("pneumonia", data_root, "trainer.max_epochs=1", "logger=none"))
    capsys.readouterr()
    for split, least in (("val", 9), ("test", 7)):
        assert call("evaluate", tmp_path / "run", "--split", split) == 0
        printed = capsys.readouterr().out
        rows = [line.split() for line in printed.splitlines()[2:]]
        assert len(rows) >= least
        assert all(now == stored for _, now, stored in rows), rows


@pytest.mark.parametrize("with_target", [True, False])
def test_predicted_prices_are_added_to_the_rows_of_the_table(
    with_target: bool, data_root: Path, tmp_path: Path
) -> None:
    run = trained("housing", data_root, tmp_path / "run")
    lines = (data_root / "california-housing-prices/housing.csv").read_text().splitlines()[:6]
    if not with_target:
        lines = [",".join(cells[:8] + cells[9:]) for cells in (line.split(",") for line in lines)]
    (tmp_path / "houses.csv").write_text("\n".join(lines) + "\n")
    assert call("predict", run, tmp_path / "houses.csv", "--output", tmp_path / "out") == 0
    written = (tmp_path / "out/predictions.csv").read_text().splitlines()
    assert written[0] == f"{lines[0]},prediction"
    assert [line.rpartition(",")[0] for line in written[1:]] == lines[1:]
    assert all(0 < float(line.rpartition(",")[2]) < 2_000_000 for line in written[1:])


def test_evaluate_finds_the_data_of_the_run_or_at_another_root(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIPTYCH_DATA", str(data_root))
    options = cheapest(data_root, "data.root=null", "data.source=auto", "trainer.max_epochs=1")
    train(tmp_path / "run", *options, "logger=none", "trainer.precision=32-true")
    monkeypatch.delenv("TRIPTYCH_DATA")  # by itself, data.source=auto would now choose synthetic data
    assert call("evaluate", tmp_path / "run", "--root", data_root) == 0
    assert call("evaluate", "latest") == 0
    printed = capsys.readouterr().out
    assert printed.count("metrics.json") == 2
    assert "not those of the run" not in printed
    # As a killed run leaves it.
    (tmp_path / "run/metrics.json").unlink()
    assert call("evaluate", tmp_path / "run", "--root", data_root) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [[name, now, "-"] for name, now, _ in map(str.split, printed.splitlines()[-len(rows) :])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "not a run directory"),
        (["evaluate", "latest"], "train one first"),
        (["data", "synthesize", "huosing"], "no data set"),
    ],
)
def test_user_error_gets_one_message_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_closed_pipe_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `triptych data list | head -1` does."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        assert call("data", "list") == 1
        print("what is said afterwards goes nowhere", flush=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("action", ["synthesize", "download"])
def test_root_that_is_a_file_is_reported(action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").touch()
    assert call("data", action, min(data_sets()), "--root", tmp_path / "taken") == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'taken'} is a file: --root names a folder\n"


def test_synthesized_data_set_is_named_as_a_command_line_takes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "it's = mine"
    assert call("data", "synthesize", min(data_sets()), "--root", root) == 0
    argument, source = shlex.split(capsys.readouterr().out.partition("train on it with ")[2])
    (override,) = OverridesParser.create().parse_overrides([argument])
    assert (override.key_or_group, override.value(), source) == ("data.root", str(root), "data.source=files")


def test_synthesized_data_set_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = min(data_sets())
    assert call("data", "synthesize", name, "--root", tmp_path / "made") == 0
    assert call("data", "synthesize", data_sets()[name].task, "--root", tmp_path / "made") == 2
    assert call("data", "list", "--root", tmp_path / "made") == 0
    listed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:1] + line[2:3] for line in listed].count([name, "synthetic"]) == 1
