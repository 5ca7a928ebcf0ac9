"""Predicting prices for a user's table: rows in the input's order, written in chunks, resumed after an interruption."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.houses import HEADER, ROW, lines
from torch import Tensor

from triptych.data import california as module
from triptych.data.block_groups import NUMBERS, PROXIMITIES
from triptych.data.california import CaliforniaDataModule
from triptych.data.errors import DataError


class Rooms:
    """A model that predicts one dollar per room, and 0 where bedrooms are missing."""

    hparams = SimpleNamespace()

    def __init__(self, *names: str) -> None:
        self.hparams = {"feature_names": list(names)}

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        assert inputs.shape[1] == len(self.hparams["feature_names"])
        return {"prediction": inputs[:, 3] * ~inputs[:, 4].isnan()}


@pytest.mark.parametrize("columns", [HEADER, [*NUMBERS, "ocean_proximity"], ["note", *reversed(HEADER)]])
def test_predictions_keep_the_inputs_columns_and_order(columns: list[str], tmp_path: Path):
    source = tmp_path / "houses.csv"
    rows = [dict(zip(HEADER, ROW, strict=True)) | {"total_rooms": str(rooms), "note": "007"} for rooms in (5, 3, 4)]
    rows[1]["total_bedrooms"] = ""
    with source.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    data = CaliforniaDataModule(eval_batch_size=2)
    assert list(data.predict_files(Rooms(*NUMBERS, *PROXIMITIES), source, tmp_path)) == []
    with (tmp_path / "predictions.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == [*columns, "prediction"]
    assert [row.pop("prediction") for row in found] == ["5.00", "0.00", "4.00"]
    assert found == [{name: row[name] for name in columns} for row in rows]


def test_a_model_without_proximity_needs_no_such_column(tmp_path: Path):
    (tmp_path / "houses.csv").write_text("\n".join(",".join(line.split(",")[:9]) for line in lines(3)))
    assert list(CaliforniaDataModule().predict_files(Rooms(*NUMBERS), tmp_path / "houses.csv", tmp_path)) == []


def test_an_invalid_input_leaves_no_predictions(tmp_path: Path):
    (tmp_path / "houses.csv").write_text("\n".join(lines(median_income="high")))
    with pytest.raises(DataError, match="line 5: median_income is 'high'"):
        list(CaliforniaDataModule().predict_files(Rooms(*NUMBERS), tmp_path / "houses.csv", tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["houses.csv"]


@pytest.fixture
def street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eleven houses whose number of rooms is their index, read four at a time."""
    monkeypatch.setattr(module, "PART", 4)
    header, row = ",".join(HEADER), dict(zip(HEADER, ROW, strict=True))
    source = tmp_path / "houses.csv"
    rows = [",".join((row | {"total_rooms": str(rooms)}).values()) for rooms in range(11)]
    source.write_text("\n".join([header, *rows]) + "\n")
    return source


class Tired(Rooms):
    """Is interrupted in the third chunk."""

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        if 8 in inputs[:, 3]:
            raise KeyboardInterrupt
        return super().predict(inputs)


NAMES = (*NUMBERS, *PROXIMITIES)


def test_a_table_predicted_in_chunks_is_complete_and_in_order(street: Path, tmp_path: Path):
    told: list[tuple[int, int]] = []
    data = CaliforniaDataModule(eval_batch_size=3)
    list(data.predict_files(Rooms(*NAMES), street, tmp_path, progress=lambda *count: told.append(count)))
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert lines[0] == f"{','.join(HEADER)},prediction"
    assert [line.rpartition(",")[0] for line in lines] == street.read_text().splitlines()
    assert [line.rpartition(",")[2] for line in lines[1:]] == [f"{rooms}.00" for rooms in range(11)]
    assert [done for done, _ in told] == [4, 8, 11]
    assert all(11 <= total <= 12 for _, total in told)


def test_an_interrupted_table_resumes_after_its_last_row(street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole, output = tmp_path / "whole", tmp_path / "output"
    for folder in (whole, output):
        folder.mkdir()
    data = CaliforniaDataModule()
    list(data.predict_files(Rooms(*NAMES), street, whole, weights="a"))
    with pytest.raises(KeyboardInterrupt):
        list(data.predict_files(Tired(*NAMES), street, output, weights="a"))
    assert {path.name for path in output.iterdir()} == {"predictions.csv.part", "predictions.csv.part.json"}
    with pytest.raises(DataError, match="cannot be resumed"):
        list(data.predict_files(Rooms(*NAMES), street, output, weights="b", resume=True))
    monkeypatch.setattr(module, "PART", 5)  # the chunk size may differ
    list(data.predict_files(Rooms(*NAMES), street, output, weights="a", resume=True))
    assert (output / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    assert [path.name for path in output.iterdir()] == ["predictions.csv"]


def test_an_invalid_cell_in_a_later_chunk_is_named_and_leaves_no_output(street: Path, tmp_path: Path):
    lines = street.read_text().splitlines()
    lines[10] = lines[10].replace("8.3252", "high")
    street.write_text("\n".join(lines))
    with pytest.raises(DataError, match="line 11: median_income is 'high'"):
        list(CaliforniaDataModule().predict_files(Rooms(*NAMES), street, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["houses.csv"]


def test_the_input_is_never_overwritten_nor_predicted_twice(street: Path, tmp_path: Path):
    list(CaliforniaDataModule().predict_files(Rooms(*NAMES), street, tmp_path))
    (tmp_path / "again").mkdir()
    with pytest.raises(DataError, match="is a folder: prices are predicted for a CSV of houses"):
        list(CaliforniaDataModule().predict_files(Rooms(*NAMES), tmp_path, tmp_path / "again"))
    with pytest.raises(DataError, match=r"predictions\.csv would replace the input: choose another folder"):
        list(CaliforniaDataModule().predict_files(Rooms(*NAMES), tmp_path / "predictions.csv", tmp_path))
    with pytest.raises(DataError, match="a column prediction already; rename or remove it"):
        list(CaliforniaDataModule().predict_files(Rooms(*NAMES), tmp_path / "predictions.csv", tmp_path / "again"))


def test_a_missing_input_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"none\.csv: not a readable table \(No such file"):
        list(CaliforniaDataModule().predict_files(Rooms(*NAMES), tmp_path / "none.csv", tmp_path))
