"""The scanned pages: dirty and clean twins, crops, published split, damaged files, cleaned output."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.model_selection import train_test_split
from torch import Tensor

from triptych.data import documents as module
from triptych.data.documents import DocumentDataModule
from triptych.data.errors import DataError
from triptych.data.images import decode


def documents(root: Path, **arguments: Any) -> DocumentDataModule:
    data = DocumentDataModule(root=str(root), source="files", **{"batch_size": 4} | arguments)
    data.setup()
    return data


def parts(data: DocumentDataModule) -> dict[str, list[str]]:
    return {part: [data.samples[index][0] for index in getattr(data.split, part)] for part in ("train", "val", "test")}


@pytest.fixture
def folder(data_copy: Path) -> Path:
    return data_copy / DocumentDataModule.slug


def test_pages_and_their_clean_twins_are_read(data_root: Path):
    data = documents(data_root)
    assert len(data.samples) == 40
    name, dirty, clean = data.samples[7]
    folder = data_root / data.slug
    assert np.array_equal(dirty, decode(folder / "train" / name))
    assert np.array_equal(clean, decode(folder / "train_cleaned" / name))
    assert not np.array_equal(dirty, clean)


@pytest.mark.parametrize(("key", "value", "own"), [("crop_size", 40, 32), ("crops_per_page", 2, 3)])
def test_resuming_requires_the_same_crop_size_and_count(key: str, value: int, own: int, data_root: Path):
    arguments = {"crop_size": 32, "crops_per_page": 3}
    data = documents(data_root, **arguments)
    data.load_state_dict(data.state_dict())
    with pytest.raises(DataError, match=rf"data\.{key}={value}: a resumed run keeps its own, {own};"):
        documents(data_root, **arguments | {key: value}).load_state_dict(data.state_dict())


def test_a_training_batch_is_crops_scaled_to_0_1(data_root: Path):
    data = documents(data_root, crop_size=32, crops_per_page=3, batch_size=8)
    assert len(data.datasets["train"]) == 3 * len(data.split.train)  # type: ignore[arg-type]
    raw = next(iter(data.train_dataloader()))
    assert raw[0].dtype == torch.uint8
    for batch in data.prepare_batch(raw, training=True):
        assert batch.shape == (8, 1, 32, 32)
        assert batch.dtype == torch.float32
        assert batch.min() >= 0
        assert 0.9 < batch.max() <= 1


def test_validation_uses_whole_pages_at_their_own_sizes(data_root: Path):
    data = documents(data_root)
    pages = [data.prepare_batch(batch, training=False) for batch in data.val_dataloader()]
    assert [dirty.shape[2:] for dirty, _ in pages] == [data.samples[index][1].shape for index in data.split.val]
    for (_, clean), index in zip(pages, data.split.val, strict=True):
        np.testing.assert_array_equal((clean[0, 0] * 255).round().byte(), data.samples[index][2])


def test_pages_of_different_sizes_cannot_be_validated_in_batches(data_root: Path):
    with pytest.raises(DataError, match=r"data.eval_batch_size=2: the pages differ in size and cannot be stacked"):
        documents(data_root, split="random", eval_batch_size=2)


def test_pages_of_one_size_can_be_validated_in_batches(folder: Path):
    for part in ("train", "train_cleaned"):
        for path in (folder / part).iterdir():
            with Image.open(path) as page:
                cropped = page.crop((0, 0, 64, 64))
            cropped.save(path)
    (dirty, _), *_ = documents(folder.parent, eval_batch_size=4).val_dataloader()
    assert dirty.shape == (4, 1, 64, 64)


@pytest.mark.parametrize("augment", ["flip", "none"])
def test_both_twins_are_augmented_alike(augment: str, data_root: Path):
    """Each crop is its own twin, so any difference afterwards means that they were augmented differently."""
    data = documents(data_root, augment=[augment])
    crops = torch.randint(0, 256, (1, 1, 24, 24), dtype=torch.uint8).expand(16, -1, -1, -1)
    dirty, clean = data.prepare_batch((crops, crops), training=True)
    assert torch.equal(dirty, clean)
    assert len(dirty.unique(dim=0)) > 1 or augment == "none"
    assert torch.equal(dirty, crops.float() / 255) or augment == "flip"


def test_dirt_is_added_to_the_dirty_twin_only(data_root: Path):
    data = documents(data_root, augment=["dirt"])
    crops = torch.randint(0, 256, (100, 1, 24, 24), dtype=torch.uint8)
    dirty, clean = data.prepare_batch((crops, crops), training=True)
    assert torch.equal(clean, crops.float() / 255)
    changed = (dirty != clean).flatten(1).any(dim=1)
    assert 0 < changed.sum() < 50
    assert len(data.augmentation[0].papers) == data.describe()["sizes"]["train"]


def test_the_random_split_leaks_clean_texts_and_the_grouped_one_does_not(data_root: Path):
    """The leak in the original data: each text was scanned four times."""
    for rule, leaks in (("random", True), ("grouped", False)):
        data = documents(data_root, split=rule)
        train, test = ({data.samples[i][2].tobytes() for i in part} for part in (data.split.train, data.split.test))
        assert bool(train & test) is leaks


def test_the_mle_bench_test_pages_are_a_fifth_of_the_sorted_paths(data_root: Path):
    data = documents(data_root, split="mle_bench")
    paths = sorted((data_root / data.slug / "train").glob("*.png"))
    kept, test = train_test_split(paths, test_size=0.2, random_state=0)
    assert parts(data)["test"] == [path.name for path in test]
    assert sorted(parts(data)["train"] + parts(data)["val"]) == sorted(path.name for path in kept)


def test_a_published_split_of_incomplete_data_is_marked_a_stand_in(data_root: Path, monkeypatch: pytest.MonkeyPatch):
    assert (
        documents(data_root, split="mle_bench").describe()["stand_in"] == "MLE-bench's rule applied to 40 of 144 pages"
    )
    assert documents(data_root).describe()["stand_in"] is None
    monkeypatch.setattr(module, "COMPLETE", 40)
    assert documents(data_root, split="mle_bench").describe()["stand_in"] is None


@pytest.mark.parametrize(("key", "least"), [("crop_size", 3), ("crops_per_page", 1)])
def test_too_small_crop_settings_are_refused(key: str, least: int):
    with pytest.raises(ValueError, match=f"data.{key}={least - 1}: expected a number from {least}"):
        DocumentDataModule(**{key: least - 1})


def test_cached_pages_are_not_decoded_again(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = documents(data_root, cache_dir=str(tmp_path))
    monkeypatch.setattr(module, "decode", lambda path: pytest.fail(f"decoded {path} again"))
    again = documents(data_root, cache_dir=str(tmp_path))
    np.testing.assert_equal(again.samples, first.samples)
    monkeypatch.setattr(module, "DECODER", "another")
    with pytest.raises(pytest.fail.Exception):
        documents(data_root, cache_dir=str(tmp_path))


def test_a_changed_page_changes_the_fingerprint_and_is_read(folder: Path, tmp_path: Path):
    before = documents(folder.parent, cache_dir=str(tmp_path / "cache"))
    path = folder / "train" / "2.png"
    Image.new("L", (180, 104), 9).save(path)
    after = documents(folder.parent, cache_dir=str(tmp_path / "cache"))
    assert before.describe()["fingerprint"] != after.describe()["fingerprint"]
    assert {name: dirty for name, dirty, _ in after.samples}["2.png"].max() == 9


# Invalid input


@pytest.mark.parametrize(
    ("gone", "there"), [("train_cleaned/5.png", "train/5.png"), ("train/5.png", "train_cleaned/5.png")]
)
def test_a_page_without_its_twin_is_named(gone: str, there: str, folder: Path):
    (folder / gone).unlink()
    with pytest.raises(DataError, match=f"{folder / there} has no twin {folder / gone}: add that, or remove both"):
        documents(folder.parent)


def test_a_twin_in_another_subfolder_does_not_count(folder: Path):
    (folder / "train_cleaned" / "more").mkdir()
    (folder / "train_cleaned" / "5.png").rename(folder / "train_cleaned" / "more" / "5.png")
    with pytest.raises(DataError, match="has no twin"):
        documents(folder.parent)


def test_twins_of_different_sizes_are_named_with_their_sizes(folder: Path):
    Image.new("L", (100, 50)).save(folder / "train_cleaned" / "5.png")
    with pytest.raises(DataError, match=r"train/5\.png: page and clean twin differ in size \(180 x 104 and 100 x 50\)"):
        documents(folder.parent)


def test_pages_may_have_any_format_and_twins_share_a_name(folder: Path):
    for name, grey in (("5.jpg", 9), ("5.JPG", 90)):
        for part in ("train", "train_cleaned"):
            Image.new("L", (100, 90), grey).save(folder / part / name, quality=100)
    pages = {name: dirty for name, dirty, _ in documents(folder.parent).samples}
    assert len(pages) == 42
    assert [int(pages[name][0, 0]) for name in ("5.jpg", "5.JPG")] == [9, 90]
    (folder / "train_cleaned" / "5.JPG").unlink()
    with pytest.raises(DataError, match=r"train/5\.JPG has no twin .*train_cleaned/5\.JPG"):
        documents(folder.parent)


def test_a_small_page_shrinks_the_crops_and_a_tiny_one_is_refused(folder: Path, caplog):
    assert documents(folder.parent, split="all").datasets["train"][0][0].shape == (1, 80, 80)
    assert "data.crop_size=96: crops are 80 pixels, because train/" in caplog.text
    for side, crop_size in ((1, 96), (1, 16), (15, 96)):
        for part in ("train", "train_cleaned"):
            Image.new("L", (40, side)).save(folder / part / "5.png")
        with pytest.raises(
            DataError, match=rf"train/5\.png is 40 x {side} pixels, .*at least 16 a side; remove the page"
        ):
            documents(folder.parent, split="all", crop_size=crop_size)
    assert documents(folder.parent, split="all", crop_size=15).datasets["train"][0][0].shape == (1, 15, 15)


@pytest.mark.parametrize("part", ["train", "train_cleaned"])
@pytest.mark.parametrize("content", [None, b"", b"random bytes" * 50], ids=["truncated", "empty", "noise"])
def test_a_damaged_page_is_named_and_nothing_is_cached(part: str, content: bytes | None, folder: Path, tmp_path: Path):
    path = folder / part / "5.png"
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(DataError, match=f"{path}: not a readable image .*; replace or remove it"):
        documents(folder.parent, cache_dir=str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("part", ["train", "train_cleaned"])
def test_a_missing_or_empty_folder_is_named(part: str, folder: Path):
    for path in (folder / part).iterdir():
        path.unlink()
    with pytest.raises(DataError, match=f"no images .* in {folder / part}: put some there"):
        documents(folder.parent)
    (folder / part).rmdir()
    with pytest.raises(DataError, match=f"no folder {folder / part}"):
        documents(folder.parent)


@pytest.mark.parametrize("rule", ["grouped", "random", "mle_bench"])
def test_too_few_pages_to_split_are_refused_but_can_all_train(rule: str, folder: Path):
    for part in ("train", "train_cleaned"):
        for path in (folder / part).iterdir():
            if path.name not in ("2.png", "5.png"):
                path.unlink()
    with pytest.raises(DataError, match=r"a split needs at least 3.*data.split=all"):
        documents(folder.parent, split=rule)
    assert documents(folder.parent, split="all").describe()["sizes"] == {"train": 2, "val": 0, "test": 0}


# Prediction


class Negative:
    """A model that inverts its input."""

    hparams = SimpleNamespace()

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"page": 1 - inputs}


@pytest.fixture
def dirty(tmp_path: Path) -> Path:
    """Two pages of different sizes, and a text file named like a third."""
    folder = tmp_path / "dirty"
    (folder / "more").mkdir(parents=True)
    Image.new("L", (3, 2), 255).save(folder / "1.png")
    Image.new("L", (5, 4), 55).save(folder / "more" / "2.jpeg", quality=100)
    (folder / "3.png").write_text("no image")
    return folder


def test_each_page_is_cleaned_into_a_png_of_the_same_name_and_size(dirty: Path, tmp_path: Path):
    skipped = list(DocumentDataModule().predict_files(Negative(), dirty, tmp_path))
    assert decode(tmp_path / "1.png").tolist() == [[0, 0, 0]] * 2
    assert decode(tmp_path / "more" / "2.png").tolist() == [[200] * 5] * 4
    (line,) = skipped
    assert line.startswith(f"{dirty / '3.png'}: not a readable image")
    assert {path.name for path in tmp_path.rglob("*.png")} - {"3.png"} == {"1.png", "2.png"}
    assert not (tmp_path / "3.png").exists()


def test_a_submission_has_one_line_per_pixel_counted_from_1(dirty: Path, tmp_path: Path):
    list(DocumentDataModule().predict_files(Negative(), dirty / "1.png", tmp_path, submission=True))
    with (tmp_path / "submission.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["id", "value"]
    assert lines == [[f"1_{row}_{column}", "0.0000"] for row in (1, 2) for column in (1, 2, 3)]


def test_cleaned_pages_never_replace_the_dirty_ones(dirty: Path):
    before = (dirty / "1.png").read_bytes()
    with pytest.raises(DataError, match="would replace the dirty ones: choose another folder"):
        list(DocumentDataModule().predict_files(Negative(), dirty, dirty / "more" / ".."))
    assert (dirty / "1.png").read_bytes() == before


@pytest.mark.real
def test_the_real_pages_and_their_splits():
    data = DocumentDataModule()
    data.setup()
    twins = [clean.tobytes() for _, _, clean in data.samples]
    assert len(data.samples) == 115
    assert 10 < len(set(twins)) <= 36
    train, val, test = (
        {twins[index] for index in part} for part in (data.split.train, data.split.val, data.split.test)
    )
    assert not train & val
    assert not train & test
    assert not val & test
    published = DocumentDataModule(split="mle_bench")
    published.setup()
    assert published.describe()["sizes"] == {"train": 82, "val": 10, "test": 23}
    assert published.describe()["stand_in"] == "MLE-bench's rule applied to 115 of 144 pages"
