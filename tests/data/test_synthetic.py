"""The synthetic data sets: the originals' layout and formats, and values to learn from without a shortcut."""

import csv
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sklearn.neighbors import NearestNeighbors

from triptych.data.synthetic.chests import split_sizes, write_chests
from triptych.data.synthetic.homes import write_homes
from triptych.data.synthetic.pages import write_pages


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def read(path: Path, blur: float = 0) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.filter(ImageFilter.GaussianBlur(blur)), np.float64) / 255


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Chance that a positive scores above a negative."""
    differences = scores[labels][:, None] - scores[~labels]
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    write_pages(folder, pages=2)
    return folder


@pytest.fixture(scope="module")
def chests(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chests")
    write_chests(folder, images=200, size=96)
    return folder / "chest_xray"


@pytest.fixture(scope="module")
def homes(tmp_path_factory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("homes")
    write_homes(folder, rows=3000)
    with (folder / "housing.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(homes: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name] or "nan") for row in homes])


WRITERS = {
    "pages": (write_pages, {"pages": 1}),
    "chests": (write_chests, {"images": 12, "size": 64}),
    "homes": (write_homes, {"rows": 60}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_same_seed_same_bytes_other_seed_other_bytes(name, tmp_path):
    write, size = WRITERS[name]
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        write(tmp_path / folder, **size, seed=seed)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert set(digests(tmp_path / "a").values()).isdisjoint(digests(tmp_path / "c").values())


@pytest.mark.parametrize(
    ("write", "wrong"),
    [
        (write_pages, {"pages": 0}),
        (write_chests, {"images": 11}),
        (write_chests, {"size": 31}),
        (write_homes, {"rows": 0}),
    ],
)
def test_wrong_sizes_are_refused_before_anything_is_written(write, wrong, tmp_path):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be at least"):
        write(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_pages_are_laid_out_and_numbered_as_on_kaggle(pages):
    numbers = {split: sorted(int(p.stem) for p in (pages / split).glob("*.png")) for split in ("train", "test")}
    assert numbers == {"train": [2, 3, 5, 6, 8, 9, 11, 12], "test": [1, 4, 7, 10]}
    assert {p.name for p in (pages / "train").iterdir()} == {p.name for p in (pages / "train_cleaned").iterdir()}
    sizes = set()
    for path in pages.rglob("*.png"):
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("PNG", "L")
            sizes.add(image.size)
    assert sizes == {(540, 420), (540, 258)}


def test_each_clean_page_has_four_identical_twins(pages):
    clean = digests(pages / "train_cleaned")
    copies: dict[str, list[int]] = {}
    for name, digest in clean.items():
        copies.setdefault(digest, []).append(int(name.removesuffix(".png")))
    assert sorted(sorted(group) for group in copies.values()) == [[2, 5, 8, 11], [3, 6, 9, 12]]
    assert len(set(digests(pages / "train").values())) == 8


def test_dirt_is_as_strong_as_in_the_original_and_leaves_the_text(pages):
    errors = []
    for path in (pages / "train").iterdir():
        noisy, clean = read(path), read(pages / "train_cleaned" / path.name)
        errors.append(np.mean((noisy - clean) ** 2))
        assert np.mean(clean == 1) > 0.5, "paper of a clean page is pure white"
        assert 0.8 < clean.mean() < 0.95, "text covers the page"
        assert noisy[clean < 0.2].mean() < 0.3 < 0.7 < np.median(noisy[clean == 1]), "ink stays darker than paper"
    assert np.sqrt(errors).min() > 0.08
    assert 0.12 < np.sqrt(np.mean(errors)) < 0.18


def test_the_four_scans_of_a_page_differ_where_the_paper_is_blank(pages):
    blank = read(pages / "train_cleaned" / "2.png") == 1
    scans = np.stack([read(pages / "train" / f"{n}.png")[blank] for n in (2, 5, 8, 11)])
    correlation = np.corrcoef(scans)[np.triu_indices(4, 1)]
    assert np.abs(correlation).max() < 0.5


def test_chests_fill_every_folder_with_the_original_prevalence(chests):
    found = {(split, label): len(list((chests / split / label).glob("*.jpeg"))) for split, label in split_sizes(200)}
    assert found == split_sizes(200)
    assert sum(found.values()) == 200
    assert found["val", "NORMAL"] == found["val", "PNEUMONIA"] == 4
    for split, prevalence in (("train", 0.74), ("test", 0.625)):
        ill, healthy = found[split, "PNEUMONIA"], found[split, "NORMAL"]
        assert ill / (ill + healthy) == pytest.approx(prevalence, abs=0.02)


@pytest.mark.parametrize("images", range(12, 60))
def test_small_sets_have_both_classes_in_every_split(images):
    sizes = split_sizes(images)
    assert sum(sizes.values()) == images
    assert all(count >= (1 if split == "val" else 2) for (split, _), count in sizes.items())


def test_chests_are_named_as_on_kaggle_and_no_patient_is_in_two_folders(chests):
    pattern = {
        "NORMAL": r"(?P<patient>(NORMAL2-)?IM-\d{4})-0001(-\d{4})?\.jpeg",
        "PNEUMONIA": r"(?P<patient>person\d+)_(bacteria|virus)_\d+\.jpeg",
    }
    folders: dict[str, set[Path]] = {}
    names = [path.name for path in chests.rglob("*.jpeg")]
    for path in chests.rglob("*.jpeg"):
        match = re.fullmatch(pattern[path.parent.name], path.name)
        assert match, path
        folders.setdefault(match["patient"], set()).add(path.parent)
    assert all(len(places) == 1 for places in folders.values())
    assert 100 < len(folders) < 170 < len(set(names)) == 200, "some patients have several pictures"
    for kind in ("bacteria", "virus", "NORMAL2"):
        assert any(kind in name for name in names)


def test_chests_vary_in_size(chests):
    sizes = set()
    for path in chests.rglob("*.jpeg"):
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("JPEG", "L")
            sizes.add(image.size)
    widths, heights = np.array(sorted(sizes)).T
    assert heights.min() >= 86
    assert heights.max() <= 106
    assert (widths / heights).max() > 1.3


def test_opacities_can_be_seen_but_exposure_and_size_do_not_betray_them(chests):
    paths = sorted(chests.rglob("*.jpeg"))
    labels = np.array([path.parent.name == "PNEUMONIA" for path in paths])
    brightness, contrast, aspect, lungs = np.array([statistics(read(path, blur=1.5)) for path in paths]).T
    for shortcut in (brightness, contrast, aspect):
        assert 0.3 < auroc(shortcut, labels) < 0.7
    assert 0.72 < auroc(lungs, labels) < 0.99


def statistics(image: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, spread and aspect of a picture; then how far its lungs are from their darkest part towards the spine."""
    height, width = image.shape
    middle = image[int(0.25 * height) : int(0.68 * height)]
    from_spine = np.abs(np.arange(width) - width / 2) / height
    spine, lungs = middle[:, from_spine < 0.04].mean(), middle[:, (from_spine > 0.13) & (from_spine < 0.38)]
    dark, half = np.percentile(lungs, (10, 50))
    return image.mean(), image.std(), width / height, (half - dark) / (spine - dark)


HEADER = (
    "longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,households,median_income,"
    "median_house_value,ocean_proximity"
)
NUMBERS = (
    r"-\d{3}\.\d{1,2},\d\d\.\d{1,2},\d+\.0,\d+\.0,(\d+\.0)?,\d+\.0,\d+\.0,\d+\.\d{1,4},\d+\.0,"
    r"(<1H OCEAN|INLAND|NEAR BAY|NEAR OCEAN|ISLAND)"
)


def test_homes_are_written_as_on_kaggle(tmp_path):
    write_homes(tmp_path, rows=60)
    header, *lines = (tmp_path / "housing.csv").read_bytes().decode("ascii").removesuffix("\n").split("\n")
    assert header == HEADER
    assert len(lines) == 60
    assert all(re.fullmatch(NUMBERS, line) for line in lines)
    assert sum(",," in line for line in lines) == 1


def test_homes_have_gaps_a_cap_and_every_place(homes):
    value = column(homes, "median_house_value")
    assert sum(row["total_bedrooms"] == "" for row in homes) == 30
    assert value.max() == 500_001
    assert 0.01 < np.mean(value == 500_001) < 0.1
    assert 150_000 < value.mean() < 260_000
    places = [row["ocean_proximity"] for row in homes]
    assert set(places) == {"<1H OCEAN", "INLAND", "NEAR BAY", "NEAR OCEAN", "ISLAND"}
    assert places.count("ISLAND") == 1


def test_homes_hold_together(homes):
    rooms, bedrooms, households = (column(homes, n) for n in ("total_rooms", "total_bedrooms", "households"))
    assert not np.any(bedrooms > rooms)
    assert 4 < np.median(rooms / households) < 7
    assert 2 < np.median(column(homes, "population") / households) < 4
    age, income = column(homes, "housing_median_age"), column(homes, "median_income")
    assert (age.min(), age.max()) == (1, 52)
    assert 0.4999 <= income.min() < income.max() <= 15.0001


def test_price_has_its_place_and_no_linear_model_knows_it(homes):
    value = column(homes, "median_house_value")
    place = np.column_stack([column(homes, "longitude"), column(homes, "latitude")])
    income = column(homes, "median_income")
    linear = np.column_stack([np.ones(len(value)), place, income])
    straight = value - linear @ np.linalg.lstsq(linear, value, rcond=None)[0]
    alike = neighbour_error(np.column_stack([place / 0.15, income / 0.7]), value)
    assert alike < 0.85 * straight.std()
    assert neighbour_error(place, value) < 0.7 * value.std()


def neighbour_error(points: np.ndarray, value: np.ndarray) -> float:
    """RMSE of guessing each value as the mean of its eight nearest others."""
    nearest = NearestNeighbors(n_neighbors=8).fit(points).kneighbors(return_distance=False)
    return float(np.sqrt(np.mean((value - value[nearest].mean(axis=1)) ** 2)))
