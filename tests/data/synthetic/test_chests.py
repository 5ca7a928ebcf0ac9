"""Synthetic X-rays: layout and format of the original, and a learnable signal without shortcuts."""

import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from triptych.data.synthetic.chests import split_sizes, write_chests


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def read(path: Path, blur: float) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.filter(ImageFilter.GaussianBlur(blur)), np.float64) / 255


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counting half."""
    differences = scores[labels][:, None] - scores[~labels]
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))


@pytest.fixture(scope="module")
def chests(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chests")
    write_chests(folder, images=200, size=96)
    return folder / "chest_xray"


def test_the_seed_determines_every_byte(tmp_path):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_chests(tmp_path / folder, images=12, size=64, seed=seed)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert set(digests(tmp_path / "a").values()).isdisjoint(digests(tmp_path / "c").values())


@pytest.mark.parametrize("wrong", [{"images": 11}, {"size": 31}])
def test_invalid_sizes_are_refused_before_anything_is_written(wrong, tmp_path):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be at least"):
        write_chests(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_every_folder_has_the_prevalence_of_the_original(chests):
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


def test_files_are_named_as_on_kaggle_and_no_patient_is_in_two_folders(chests):
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


def test_x_rays_vary_in_size(chests):
    sizes = set()
    for path in chests.rglob("*.jpeg"):
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("JPEG", "L")
            sizes.add(image.size)
    widths, heights = np.array(sorted(sizes)).T
    assert heights.min() >= 86
    assert heights.max() <= 106
    assert (widths / heights).max() > 1.3


def test_opacities_are_visible_and_exposure_or_size_give_no_shortcut(chests):
    paths = sorted(chests.rglob("*.jpeg"))
    labels = np.array([path.parent.name == "PNEUMONIA" for path in paths])
    brightness, contrast, aspect, lungs = np.array([statistics(read(path, blur=1.5)) for path in paths]).T
    for shortcut in (brightness, contrast, aspect):
        assert 0.3 < auroc(shortcut, labels) < 0.7
    assert 0.72 < auroc(lungs, labels) < 0.99


def statistics(image: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, deviation, aspect ratio; and the lungs' median grey, scaled from their dark decile (0) to the spine (1)."""
    height, width = image.shape
    middle = image[int(0.25 * height) : int(0.68 * height)]
    from_spine = np.abs(np.arange(width) - width / 2) / height
    spine, lungs = middle[:, from_spine < 0.04].mean(), middle[:, (from_spine > 0.13) & (from_spine < 0.38)]
    dark, half = np.percentile(lungs, (10, 50))
    return image.mean(), image.std(), width / height, (half - dark) / (spine - dark)
