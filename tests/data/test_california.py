"""The housing data: both file formats, the papers' split, valid and invalid cells."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import train_test_split
from tests.houses import HEADER, ROW, lines

from triptych.data import california as module
from triptych.data.block_groups import NUMBERS, PROXIMITIES
from triptych.data.california import CaliforniaDataModule
from triptych.data.errors import DataError


def houses(root: Path, **arguments: Any) -> CaliforniaDataModule:
    data = CaliforniaDataModule(root=str(root), source="files", **{"batch_size": "full"} | arguments)
    data.setup()
    return data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / CaliforniaDataModule.slug).mkdir()
    return tmp_path


@pytest.fixture
def table(root: Path) -> Path:
    return root / CaliforniaDataModule.slug / "housing.csv"


@pytest.fixture
def statlib(root: Path) -> Path:
    return root / CaliforniaDataModule.slug / "cal_housing.data"


def test_kaggle_form_has_eight_numbers_and_one_hot_proximity(table: Path, root: Path):
    table.write_text("\n".join(lines(ocean_proximity="ISLAND", median_income="1.5")))
    data = houses(root)
    assert data.samples.features.dtype == data.samples.prices.dtype == np.float32
    expected = np.float32([-122.23, 37.88, 41, 880, 129, 322, 126, 8.3252, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(data.samples.features[0], expected)
    np.testing.assert_array_equal(data.samples.features[3, 7:], np.float32([1.5, 0, 0, 1, 0, 0]))
    assert data.samples.prices.tolist() == [452_600] * 10
    assert data.model_arguments() == {"feature_names": [*NUMBERS, *PROXIMITIES]}


def test_statlib_form_has_eight_numbers_and_no_header(statlib: Path, root: Path):
    statlib.write_text("\n".join(",".join(ROW[:9]) for _ in range(10)) + "\n")
    data = houses(root)
    assert data.samples.features.shape == (10, 8)
    np.testing.assert_array_equal(data.samples.features[0], np.float32(ROW[:8]))
    assert data.samples.prices[0] == 452_600


@pytest.mark.parametrize(("form", "count"), [("kaggle", 10), ("statlib", 12)])
def test_form_chooses_between_two_present_files(form: str, count: int, table: Path, statlib: Path, root: Path):
    table.write_text("\n".join(lines(10)))
    statlib.write_text("\n".join(",".join(ROW[:9]) for _ in range(12)))
    assert len(houses(root, form=form).samples) == count
    assert len(houses(root).samples) == 10


@pytest.mark.parametrize("form", ["kaggle", "statlib"])
def test_a_missing_form_falls_back_to_the_other_with_a_log_message(
    form: str, table: Path, statlib: Path, root: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    table.write_text("\n".join(lines(10)))
    statlib.write_text("\n".join(",".join(ROW[:9]) for _ in range(12)))
    houses(root, form=form)
    assert caplog.messages == []
    asked, other = (table, statlib) if form == "kaggle" else (statlib, table)
    asked.unlink()
    houses(root, form=form)
    assert caplog.messages == [
        f"data.form={form}: no {asked.name} in {root / table.parent}, reading {other.name} instead."
    ]


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match=r"data.form=csv: choose kaggle or statlib"):
        CaliforniaDataModule(form="csv")


def test_missing_bedrooms_are_read_as_nan(table: Path, root: Path):
    table.write_text("\n".join(lines(total_bedrooms="")))
    assert np.argwhere(np.isnan(houses(root).samples.features)).tolist() == [[3, 4]]


def test_ratios_are_added_columns_and_nan_without_a_denominator(table: Path, root: Path):
    table.write_text("\n".join(lines(households="0", total_bedrooms="")))
    samples = houses(root, ratios=True, rotations=1).samples
    ratios = ["rooms_per_household", "people_per_household", "bedrooms_per_room"]
    assert samples.names == [*NUMBERS, *ratios, "place_at_90", *PROXIMITIES]
    np.testing.assert_array_equal(samples.features[0, 8:11], np.float32([880, 322, 129]) / np.float32([126, 126, 880]))
    assert np.isnan(samples.features[3, 8:11]).all()


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "BOM"])
def test_windows_newlines_and_a_bom_are_accepted(newline: str, mark: str, table: Path, root: Path):
    table.write_bytes((mark + newline.join([*lines(), "", ""])).encode())
    np.testing.assert_array_equal(houses(root).samples.features[:, 0], np.float32(-122.23))


def test_columns_are_found_by_name_in_any_order(table: Path, root: Path):
    table.write_text("\n".join(",".join(["more", *reversed(line.split(","))]) for line in lines()))
    np.testing.assert_array_equal(houses(root).samples.features[0, :8], np.float32(ROW[:8]))


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_is_unscaled_rows_and_prices(training: bool, data_root: Path):
    data = houses(data_root, augment="none", batch_size=32)
    inputs, prices = data.prepare_batch(next(iter(data.train_dataloader())), training)
    assert inputs.shape == (32, 13)
    assert inputs.dtype == prices.dtype == torch.float32
    assert prices.min() > 10_000


def test_training_rows_are_those_of_the_training_split(data_root: Path):
    data = houses(data_root)
    inputs, prices = data.training_rows()
    np.testing.assert_array_equal(inputs, data.samples.features[data.split.train])
    np.testing.assert_array_equal(prices, data.samples.prices[data.split.train])
    assert len(inputs) == 320 < len(data.samples)


def test_noise_scales_with_training_deviation_and_spares_proximity(data_root: Path):
    data = houses(data_root, augment="noise")
    deviation = np.nanstd(data.samples.features[data.split.train], axis=0)
    np.testing.assert_allclose(data.augmentation.deviation[:8], 0.05 * deviation[:8], rtol=1e-6)
    assert data.augmentation.deviation[8:].tolist() == [0] * 5
    alike = torch.from_numpy(data.samples.features[:1]).expand(16, -1)
    noisy, _ = data.prepare_batch((alike, torch.zeros(16)), training=True)
    assert len(noisy[:, :8].unique(dim=0)) == 16
    assert torch.equal(noisy[:, 8:], alike[:, 8:])


def test_the_papers_split_is_that_of_train_test_split(data_root: Path):
    data = houses(data_root, split="papers")
    rest, test = train_test_split(np.arange(400), test_size=0.2, random_state=0)
    train, val = train_test_split(rest, test_size=0.2, random_state=1)
    assert [part.tolist() for part in (data.split.train, data.split.val, data.split.test)] == [
        part.tolist() for part in (train, val, test)
    ]


def test_a_published_split_of_incomplete_data_is_marked_a_stand_in(data_root: Path, monkeypatch: pytest.MonkeyPatch):
    assert houses(data_root, split="papers").describe()["stand_in"] == "the papers' rule applied to 400 of 20640 rows"
    assert houses(data_root).describe()["stand_in"] is None
    monkeypatch.setattr(module, "COMPLETE", 400)
    assert houses(data_root, split="papers").describe()["stand_in"] is None


# Invalid input


@pytest.mark.parametrize(
    ("name", "cell", "expected"),
    [
        ("median_income", "high", "a number"),
        ("median_income", "", "a number"),
        ("longitude", "-122,23", "a number"),
        ("total_bedrooms", "NA", "a number or nothing"),
        ("median_house_value", "", "a number"),
        ("median_house_value", "nan", "a number"),
        ("median_house_value", "inf", "a number"),
        ("median_house_value", "-Infinity", "a number"),
        ("population", "1e39", "a number"),
        ("population", "1e400", "a number"),
        ("population", "9" * 25, "a number, at most 1e+12 in size"),
        ("total_bedrooms", "-2e12", "a number or nothing, at most 1e+12 in size"),
        ("total_rooms", "1_000", "a number"),
        ("total_rooms", "0x1F", "a number"),
        ("ocean_proximity", "NEAR LAKE", "one of <1H OCEAN, INLAND, ISLAND, NEAR BAY, NEAR OCEAN"),
        ("ocean_proximity", "", "one of <1H OCEAN"),
    ],
)
def test_an_invalid_cell_is_named_by_line_and_column(name: str, cell: str, expected: str, table: Path, root: Path):
    quoted = f'"{cell}"' if "," in cell else cell
    table.write_text("\n".join(lines(**{name: quoted})))
    with pytest.raises(DataError) as caught:
        houses(root)
    assert f"{table}, line 5: {name} is {cell!r}, expected {expected}" in str(caught.value)
    assert str(caught.value).endswith("fix or remove the row")


def test_a_long_cell_is_abbreviated_in_the_message(table: Path, root: Path):
    table.write_text("\n".join(lines(population="x" * 100_000)))
    with pytest.raises(DataError, match=r"line 5: population is 'xx+\.\.\.x+', expected a number"):
        houses(root)


def test_large_numbers_and_duplicate_rows_are_valid(table: Path, root: Path):
    table.write_text("\n".join(lines(population="9.9e11", longitude=" -1e2 ", households="+3.5E-1")))
    samples = houses(root).samples
    assert samples.features[3, [5, 0, 6]].tolist() == np.float32([9.9e11, -100, 0.35]).tolist()
    assert len(samples) == 10


def test_the_first_of_several_invalid_cells_is_named_counting_blank_lines(table: Path, root: Path):
    header, *rows = lines()
    rows[2] = rows[2].replace("8.3252", "high")
    rows[7] = rows[7].replace("8.3252", "low")
    table.write_text("\n".join([header, rows[0], "", "  ", *rows[1:]]))
    with pytest.raises(DataError, match=r"line 6 \(and 1 more\): median_income is 'high'"):
        houses(root)


def test_an_invalid_cell_of_the_statlib_form_is_named_by_line(statlib: Path, root: Path):
    rows = [list(ROW[:9]) for _ in range(10)]
    rows[3][8] = "NaN"
    statlib.write_text("\n".join(map(",".join, rows)))
    with pytest.raises(DataError, match=r"cal_housing\.data, line 4: median_house_value is 'NaN'"):
        houses(root)


@pytest.mark.parametrize("name", [*NUMBERS, "median_house_value"])
def test_a_missing_column_is_named(name: str, table: Path, root: Path):
    table.write_text("\n".join(lines()).replace(name, "other"))
    with pytest.raises(DataError, match=rf"housing\.csv: no column {name}; .* found .*other"):
        houses(root)


def test_duplicate_column_names_are_refused(table: Path, root: Path):
    table.write_text("\n".join(f"{line},{line.split(',')[0]}" for line in lines()))
    with pytest.raises(DataError, match=r"housing\.csv: 2 columns are named 'longitude'; rename or remove the others"):
        houses(root)


def test_a_broken_symlink_is_named(table: Path, root: Path):
    table.symlink_to("nowhere")
    with pytest.raises(DataError, match=r"housing\.csv: not a readable table \(No such file or directory\)"):
        houses(root)


def row_with(cells: int) -> str:
    return ",".join((ROW * 2)[:cells])


NO_TABLES = {
    "empty": ("", "not a readable table"),
    "no rows": (",".join(HEADER) + "\n", "no rows"),
    "semicolons": (
        "\n".join(lines()).replace(",", ";"),
        "no column longitude; expected commas between columns, found longitude;",
    ),
    "no header": ("\n".join(lines()[1:]), "no column longitude; .* found -122.23"),
    "commas at the end": (
        "\n".join([lines()[0], *(f"{row}," for row in lines()[1:])]),
        "line 2: 11 cells for 10 columns, expected commas between cells",
    ),
    "long row": ("\n".join([*lines(), row_with(11)]), "line 12: 11 cells for 10 columns"),
    "short row": ("\n".join([*lines(), row_with(7)]), "line 12: 7 cells for 10 columns"),
    "quote": ("\n".join([*lines(), '"unfinished']), "line 12: not a readable table .unexpected end of data"),
    "utf-16": ("\n".join(lines()).encode("utf-16"), "not a readable table .*expected comma-separated text"),
    "noise": (b"\x00\xff random bytes" * 50, "not a readable table"),
}


@pytest.mark.parametrize(("content", "message"), NO_TABLES.values(), ids=NO_TABLES)
def test_a_malformed_table_is_refused(content: str | bytes, message: str, table: Path, root: Path):
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=rf"(?s)housing\.csv.*{message}"):
        houses(root)


@pytest.mark.parametrize("cells", [7, 10])
def test_a_statlib_file_without_nine_columns_is_refused(cells: int, statlib: Path, root: Path):
    statlib.write_text("\n".join([row_with(cells)] * 10))
    with pytest.raises(DataError, match=rf"cal_housing\.data: {cells} columns; expected 9: longitude, latitude"):
        houses(root)


def test_a_folder_without_either_file_is_named(root: Path):
    with pytest.raises(DataError, match=r"neither housing.csv nor cal_housing.data in .*put one of them there"):
        houses(root)


@pytest.mark.parametrize("rule", ["grouped", "random", "papers"])
def test_too_few_rows_to_split_are_refused_but_can_all_train(rule: str, table: Path, root: Path):
    table.write_text("\n".join(lines(10)[:3]))
    with pytest.raises(DataError, match=r"2 samples .* at least 3.*data.split=all"):
        houses(root, split=rule)
    assert houses(root, split="all").describe()["sizes"] == {"train": 2, "val": 0, "test": 0}


@pytest.mark.real
@pytest.mark.parametrize(("form", "columns"), [("kaggle", 13), ("statlib", 8)])
def test_the_real_data_have_the_expected_rows_and_gaps(form: str, columns: int):
    data = CaliforniaDataModule(form=form)
    data.setup()
    assert data.samples.features.shape == (16_512, columns)
    missing = np.isnan(data.samples.features).sum(axis=0)
    assert missing.sum() == missing[4]
    assert (missing[4] > 0) == (form == "kaggle")
    assert data.describe()["sizes"] == {"train": 13_208, "val": 1_652, "test": 1_652}
    assert math.isclose(data.samples.prices.max(), 500_001)


@pytest.mark.real
def test_both_real_forms_hold_the_same_rows():
    kaggle, statlib = (CaliforniaDataModule(form=form) for form in ("kaggle", "statlib"))
    for data in (kaggle, statlib):
        data.setup()
    np.testing.assert_array_equal(kaggle.samples.prices, statlib.samples.prices)
