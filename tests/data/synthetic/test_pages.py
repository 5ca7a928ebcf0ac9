"""Synthetic pages: layout and format of the original, and a learnable signal without shortcuts."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from triptych.data.synthetic.pages import write_pages


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image, np.float64) / 255


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    write_pages(folder, pages=2)
    return folder


def test_the_seed_determines_every_byte(tmp_path):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_pages(tmp_path / folder, pages=1, seed=seed)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert set(digests(tmp_path / "a").values()).isdisjoint(digests(tmp_path / "c").values())


def test_invalid_sizes_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="pages must be at least"):
        write_pages(tmp_path / "new", pages=0)
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


def test_each_clean_page_belongs_to_four_dirty_scans(pages):
    clean = digests(pages / "train_cleaned")
    copies: dict[str, list[int]] = {}
    for name, digest in clean.items():
        copies.setdefault(digest, []).append(int(name.removesuffix(".png")))
    assert sorted(sorted(group) for group in copies.values()) == [[2, 5, 8, 11], [3, 6, 9, 12]]
    assert len(set(digests(pages / "train").values())) == 8


def test_dirt_is_as_strong_as_in_the_original_and_keeps_the_text_legible(pages):
    errors = []
    for path in (pages / "train").iterdir():
        noisy, clean = read(path), read(pages / "train_cleaned" / path.name)
        errors.append(np.mean((noisy - clean) ** 2))
        assert np.mean(clean == 1) > 0.5, "paper of a clean page is pure white"
        assert 0.8 < clean.mean() < 0.95, "text covers the page"
        assert noisy[clean < 0.2].mean() < 0.3 < 0.7 < np.median(noisy[clean == 1]), "ink stays darker than paper"
    assert np.sqrt(errors).min() > 0.08
    assert 0.12 < np.sqrt(np.mean(errors)) < 0.18


def test_the_four_scans_of_a_page_have_independent_dirt(pages):
    blank = read(pages / "train_cleaned" / "2.png") == 1
    scans = np.stack([read(pages / "train" / f"{n}.png")[blank] for n in (2, 5, 8, 11)])
    correlation = np.corrcoef(scans)[np.triu_indices(4, 1)]
    assert np.abs(correlation).max() < 0.5
