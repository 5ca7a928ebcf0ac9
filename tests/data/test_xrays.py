"""The X-rays: folders and labels, patients, class counts, damaged files, predictions."""

import csv
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from triptych.data import xrays as module
from triptych.data.errors import DataError
from triptych.data.images import decode
from triptych.data.slices import SLICES
from triptych.data.xrays import XrayDataModule, patient


def xrays(root: Path, **arguments: Any) -> XrayDataModule:
    data = XrayDataModule(root=str(root), source="files", **{"batch_size": 4, "image_size": 24} | arguments)
    data.setup()
    return data


@pytest.fixture
def folder(data_copy: Path) -> Path:
    return data_copy / XrayDataModule.slug / "chest_xray"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train/PNEUMONIA/person1000_virus_1681.jpeg", "person1000"),
        ("train/PNEUMONIA/person1000_bacteria_2931.jpeg", "person1000"),
        ("train/PNEUMONIA/person100_virus_184.jpeg", "person100"),
        ("train/NORMAL/IM-0115-0001.jpeg", "IM-0115"),
        ("train/NORMAL/NORMAL2-IM-0959-0001-0002.jpeg", "IM-0959"),
        ("train/NORMAL/other.jpeg", "train/NORMAL/other.jpeg"),
    ],
)
def test_the_patient_is_parsed_from_the_file_name(name: str, expected: str):
    assert patient(name) == expected


def test_x_rays_keep_their_file_name_and_patient(data_root: Path):
    data = xrays(data_root, split="random")
    patients = data.groups(data.samples)
    files = [data.samples.names[row] for row in data.split.test]
    assert data.sample_names(range(len(files)), "test") == files
    assert [patients[row] for row in data.split.test] == [patient(file) for file in files]
    assert data.sample_names([0]) == [data.samples.names[data.split.train[0]]]


def test_labels_come_from_the_folders(data_root: Path):
    data = xrays(data_root)
    assert len(data.samples) == 60
    assert data.samples.labels.tolist() == [int("/PNEUMONIA/" in name) for name in data.samples.names]
    path = data_root / data.slug / "chest_xray" / data.samples.names[20]
    assert np.array_equal(data.samples.images[20], decode(path, 24))


def test_a_subfolder_of_a_class_belongs_to_it(folder: Path):
    hospital = folder / "train" / "NORMAL" / "PNEUMONIA hospital"
    hospital.mkdir()
    shutil.copy(next((folder / "train" / "NORMAL").glob("*.jpeg")), hospital / "IM-9999-0001.jpeg")
    samples = xrays(folder.parents[1]).samples
    assert samples.labels[samples.names.index("train/NORMAL/PNEUMONIA hospital/IM-9999-0001.jpeg")] == 0


def test_a_class_folder_may_be_a_symlink(folder: Path, tmp_path: Path):
    expected = xrays(folder.parents[1]).samples.names
    (folder / "train" / "NORMAL").rename(tmp_path / "elsewhere")
    (folder / "train" / "NORMAL").symlink_to(tmp_path / "elsewhere")
    assert xrays(folder.parents[1]).samples.names == expected


@pytest.mark.parametrize("place", ["train/COVID/1.jpeg", "train/COVID/ward/1.PNG", "test/1.jpeg"])
def test_an_x_ray_outside_the_class_folders_is_refused(place: str, folder: Path):
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    shutil.copy(next((folder / "train" / "NORMAL").glob("*.jpeg")), folder / "train" / "._1.jpeg")
    xrays(folder.parents[1])
    (folder / place).parent.mkdir(exist_ok=True, parents=True)
    shutil.copy(next((folder / "train" / "NORMAL").glob("*.jpeg")), folder / place)
    with pytest.raises(DataError, match=rf"{place} is neither in NORMAL nor in PNEUMONIA \(1 such in "):
        xrays(folder.parents[1])


@pytest.mark.parametrize("rule", ["grouped", "random", "papers"])
def test_the_test_folder_is_the_test_split_and_val_joins_train(rule: str, data_root: Path):
    data = xrays(data_root, split=rule)
    folders = np.array([name.split("/")[0] for name in data.samples.names])
    assert np.flatnonzero(folders == "test").tolist() == data.split.test.tolist()
    rest = [*data.split.train, *data.split.val]
    assert set(folders[rest]) == {"train", "val"}
    assert len(rest) == sum(folders != "test")


def test_the_val_folder_may_be_missing(folder: Path):
    shutil.rmtree(folder / "val")
    assert len(xrays(folder.parents[1]).samples) == 58


@pytest.mark.parametrize("rule", ["grouped", "random", "papers"])
def test_an_unofficial_test_folder_is_marked_a_stand_in(rule: str, data_root: Path, monkeypatch):
    message = "the test folder holds 12 X-rays, not the official 624"
    assert xrays(data_root, split=rule).describe()["stand_in"] == message
    monkeypatch.setattr(module, "OFFICIAL_TEST", 12)
    assert xrays(data_root, split=rule).describe()["stand_in"] is None


@pytest.mark.parametrize("split_seed", range(3))
def test_class_counts_are_those_of_the_training_split(split_seed: int, data_root: Path):
    data = xrays(data_root, split_seed=split_seed)
    labels = data.samples.labels[data.split.train]
    counts = [int((labels == 0).sum()), int((labels == 1).sum())]
    told = {"class_names": ["NORMAL", "PNEUMONIA"], "class_counts": counts}
    assert data.model_arguments() == told | {"drawn_evenly": False}
    assert sum(counts) == len(data.split.train) < len(data.samples)
    even = xrays(data_root, split_seed=split_seed, sampler="balanced")
    assert even.model_arguments() == told | {"drawn_evenly": True}


def test_resuming_requires_the_same_image_size_and_sampler(data_root: Path):
    data = xrays(data_root)
    data.load_state_dict(data.state_dict())
    with pytest.raises(DataError, match=r"data\.image_size=32: a resumed run keeps its own, 24;"):
        xrays(data_root, image_size=32).load_state_dict(data.state_dict())
    with pytest.raises(DataError, match=r"data\.sampler=balanced: a resumed run keeps its own, shuffle;"):
        xrays(data_root, sampler="balanced").load_state_dict(data.state_dict())


def test_a_batch_is_grey_squares_scaled_to_0_1_with_labels(data_root: Path):
    data = xrays(data_root, image_size=40)
    raw = next(iter(data.train_dataloader()))
    assert raw[0].dtype == torch.uint8
    for training in (True, False):
        images, labels = data.prepare_batch(raw, training)
        assert images.shape == (4, 1, 40, 40)
        assert images.dtype == torch.float32
        assert images.min() >= 0
        assert images.max() <= 1
        assert labels.dtype == torch.int64


@pytest.mark.parametrize("name", [*XrayDataModule.augmentations, "all"])
def test_each_augmentation_changes_each_x_ray_by_its_own_amount(name: str, data_root: Path):
    torch.manual_seed(0)
    data = xrays(data_root, augment=name)
    alike = torch.from_numpy(data.samples.images[:1])[:, None].expand(64, -1, -1, -1)
    images, _ = data.prepare_batch((alike, torch.zeros(64)), training=True)
    assert len(images.unique(dim=0)) == (2 if name == "flip" else 64)


def test_without_augmentation_pixels_are_unchanged(data_root: Path):
    data = xrays(data_root, augment="none")
    raw, labels = next(iter(data.train_dataloader()))
    assert torch.equal(data.prepare_batch((raw, labels), training=True)[0], raw.float() / 255)


def test_each_image_size_has_its_own_cache_entry(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for size in (24, 32):
        assert xrays(data_root, image_size=size, cache_dir=str(tmp_path)).samples.images.shape == (60, size, size)
    monkeypatch.setattr(module, "decode", lambda path, size: pytest.fail(f"decoded {path} again"))
    for size in (24, 32):
        assert xrays(data_root, image_size=size, cache_dir=str(tmp_path)).samples.images.shape == (60, size, size)


# Invalid input


@pytest.mark.parametrize("gone", ["train", "train/NORMAL", "test/PNEUMONIA", "val/NORMAL"])
def test_a_missing_folder_is_named(gone: str, folder: Path):
    shutil.rmtree(folder / gone)
    with pytest.raises(DataError, match=f"no folder {folder / gone}"):
        xrays(folder.parents[1])


def test_an_empty_folder_is_named(folder: Path):
    for path in (folder / "test" / "NORMAL").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=f"no images .* in {folder / 'test' / 'NORMAL'}: put some there"):
        xrays(folder.parents[1])


@pytest.mark.parametrize("content", [None, b"", b"random bytes" * 50], ids=["truncated", "empty", "noise"])
def test_a_damaged_x_ray_is_named_and_nothing_is_cached(content: bytes | None, folder: Path, tmp_path: Path):
    path = sorted((folder / "train" / "PNEUMONIA").iterdir())[3]
    path.write_bytes(path.read_bytes()[:700] if content is None else content)
    with pytest.raises(DataError, match=f"{re.escape(str(path))}: not a readable image .*; replace or remove it"):
        xrays(folder.parents[1], cache_dir=str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_a_single_patient_cannot_be_split(folder: Path):
    shutil.rmtree(folder / "val")
    for label in ("NORMAL", "PNEUMONIA"):
        first, *others = (folder / "train" / label).iterdir()
        first.rename(first.with_name(f"person1_{label}.jpeg"))
        for path in others:
            path.unlink()
    with pytest.raises(DataError, match=r"1 groups .* at least 2"):
        xrays(folder.parents[1], batch_size=1)


def test_a_class_without_training_samples_is_refused(data_root: Path):
    data = xrays(data_root)
    data.samples.labels[data.split.train] = 1
    with pytest.raises(DataError, match="no NORMAL X-ray in the training split"):
        data.model_arguments()


@pytest.mark.parametrize(("sampler", "low", "high"), [("shuffle", 0.6, 0.9), ("balanced", 0.45, 0.55)])
def test_a_balanced_sampler_draws_each_class_equally_often(sampler: str, low: float, high: float, data_root: Path):
    data = xrays(data_root, sampler=sampler, batch_size=8)
    torch.manual_seed(0)
    loader = data.train_dataloader()
    epochs = [torch.cat([labels for _, labels in loader]) for _ in range(40)]
    assert all(len(labels) == len(data.split.train) for labels in epochs)
    assert low < torch.cat(epochs).float().mean() < high
    torch.manual_seed(0)
    assert torch.equal(torch.cat([labels for _, labels in loader]), epochs[0])


def test_train_size_keeps_the_class_shares(data_root: Path):
    whole, few = xrays(data_root), xrays(data_root, train_size=8)
    share = np.bincount(whole.samples.labels[whole.split.train]) / len(whole.split.train)
    assert few.model_arguments()["class_counts"] == pytest.approx((8 * share).tolist(), abs=1)
    assert xrays(data_root, train_size=2, batch_size=2).model_arguments()["class_counts"] == [1, 1]
    with pytest.raises(DataError, match=r"no \w+ X-ray in the training split: add some, or .* data\.train_size=1$"):
        xrays(data_root, train_size=1, batch_size=1).model_arguments()


@pytest.mark.parametrize("hold_out", SLICES)
def test_a_held_out_slice_is_the_test_split_and_the_test_folder_is_unused(hold_out: str, data_root: Path):
    data = xrays(data_root, hold_out=hold_out)
    names, patients = np.array(data.samples.names), np.array(data.groups(data.samples))
    rows = {part: getattr(data.split, part) for part in ("train", "val", "test")}
    outside = [name for name in data.samples.names if not name.startswith("test/")]
    assert sorted(np.concatenate([names[own] for own in rows.values()])) == sorted(outside)
    assert not set(patients[rows["test"]]) & set(patients[np.concatenate([rows["train"], rows["val"]])])
    assert not set(patients[rows["train"]]) & set(patients[rows["val"]])
    assert 0.1 < len(rows["test"]) / len(outside) < 0.5
    assert data.description.stand_in == (
        f"data.hold_out={hold_out} tests on {len(rows['test'])} X-rays outside the test folder"
    )


def test_an_unknown_slice_or_one_without_a_test_split_is_refused():
    with pytest.raises(ValueError, match=r"data.hold_out=blurred: choose null, or one of names, dark, "):
        XrayDataModule(hold_out="blurred")
    with pytest.raises(ValueError, match=r"data.hold_out=dark is a test, and data.split=all has none"):
        XrayDataModule(hold_out="dark", split="all")


def test_an_empty_slice_is_refused(folder: Path, data_copy: Path):
    for number, path in enumerate(sorted(folder.rglob("*.jpeg"))):
        path.rename(path.with_name(f"{number}.jpeg"))  # no name tells the family
    xrays(data_copy)
    with pytest.raises(DataError, match=r"data.hold_out=names finds none of the \d+ X-rays .*: choose another slice"):
        xrays(data_copy, hold_out="names")


def test_an_unknown_sampler_is_refused():
    with pytest.raises(ValueError, match=r"data.sampler=weighted: choose shuffle or balanced"):
        XrayDataModule(sampler="weighted")


def test_shifted_validation_is_the_same_each_time_and_in_each_run(data_root: Path):
    data = xrays(data_root)
    state = torch.get_rng_state()
    first = list(data.shifted_batches())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    images, labels = (torch.cat(parts) for parts in zip(*first, strict=True))
    again = torch.cat([images for images, _ in xrays(data_root, eval_batch_size=2).shifted_batches()])
    assert torch.equal(images, again)

    # The X-rays of the validation split, each changed moderately and within [0, 1].
    plain, expected = (torch.cat(parts) for parts in zip(*data.evaluation_batches("val"), strict=True))
    assert torch.equal(labels, expected)
    assert images.shape == plain.shape
    assert 0 <= images.min() <= images.max() <= 1
    change = (images - plain).abs().mean(dim=(1, 2, 3))
    assert ((change > 0.005) & (change < 0.2)).all()


def test_too_small_an_image_size_is_refused():
    with pytest.raises(ValueError, match=r"data.image_size=1: expected a number from 2"):
        XrayDataModule(image_size=1)


# Prediction


class Brightness:
    """A model whose probability of pneumonia is the mean brightness."""

    hparams = SimpleNamespace()

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        probability = inputs.mean(dim=(1, 2, 3))
        return {"probability": probability, "label": (probability > 0.5).long()}


def test_predictions_have_one_line_per_x_ray_and_skip_unreadable_files(tmp_path: Path):
    source, output = tmp_path / "source", tmp_path / "output"
    (source / "ward").mkdir(parents=True)
    output.mkdir()
    for index, grey in enumerate((0, 255, 51)):
        Image.new("RGB", (30 + index, 20), (grey,) * 3).save(source / "ward" / f"{index}.png")
    (source / "bad.jpeg").write_bytes(b"no image")
    (source / "gone.png").symlink_to("nowhere.png")
    skipped = list(XrayDataModule(eval_batch_size=2).predict_files(Brightness(), source, output))
    with (output / "predictions.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["file", "probability", "label"],
            ["ward/0.png", "0.000000", "NORMAL"],
            ["ward/1.png", "1.000000", "PNEUMONIA"],
            ["ward/2.png", "0.200000", "NORMAL"],
        ]
    assert len(skipped) == 2
    assert "bad.jpeg: not a readable image" in skipped[0]
    assert "gone.png: not a readable image" in skipped[1]
    assert [path.name for path in output.iterdir()] == ["predictions.csv"]


def test_a_single_unreadable_input_keeps_the_earlier_table(tmp_path: Path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "predictions.csv").write_text("earlier")
    with pytest.raises(DataError, match=r"bad.png: not a readable image"):
        list(XrayDataModule().predict_files(Brightness(), tmp_path / "bad.png", tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.png", "predictions.csv"]
    assert (tmp_path / "predictions.csv").read_text() == "earlier"


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """Seven X-rays from black to white, and an unreadable file as the third input."""
    folder = tmp_path / "ward"
    folder.mkdir()
    for index in range(7):
        Image.new("L", (8, 8), index * 40).save(folder / f"{index}.png")
    (folder / "1b.png").write_bytes(b"no image")
    return folder


def test_an_interrupted_table_of_predictions_is_resumed(ward: Path, tmp_path: Path):
    class Tired(Brightness):
        batches = 0

        def predict(self, inputs: Tensor) -> dict[str, Tensor]:
            self.batches += 1
            if self.batches == 3:
                raise KeyboardInterrupt
            return super().predict(inputs)

    whole, output = tmp_path / "whole", tmp_path / "output"
    for folder in (whole, output):
        folder.mkdir()
    data = XrayDataModule(eval_batch_size=2)
    skipped = list(data.predict_files(Brightness(), ward, whole))
    with pytest.raises(KeyboardInterrupt):
        list(data.predict_files(Tired(), ward, output))
    assert not (output / "predictions.csv").exists()
    told: list[tuple[int, int]] = []
    again = data.predict_files(Brightness(), ward, output, resume=True, progress=lambda *count: told.append(count))
    assert list(again) == skipped
    assert told == [(4, 8), (6, 8), (8, 8)]
    assert (output / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    assert [path.name for path in output.iterdir()] == ["predictions.csv"]


def test_a_table_of_other_weights_or_x_rays_is_not_resumed(ward: Path, tmp_path: Path):
    data = XrayDataModule(eval_batch_size=2)
    lines = data.predict_files(Brightness(), ward, tmp_path, weights="a")
    next(lines)  # the second batch contains the unreadable file
    lines.close()
    with pytest.raises(DataError, match="cannot be resumed"):
        list(data.predict_files(Brightness(), ward, tmp_path, weights="b", resume=True))
    Image.new("L", (50, 40), 255).save(ward / "0.png")
    with pytest.raises(DataError, match="cannot be resumed"):
        list(data.predict_files(Brightness(), ward, tmp_path, weights="a", resume=True))
    (ward / "0.png").unlink()
    with pytest.raises(DataError, match="cannot be resumed"):
        list(data.predict_files(Brightness(), ward, tmp_path, weights="a", resume=True))


def test_a_folder_without_readable_x_rays_gives_only_a_header(tmp_path: Path):
    (tmp_path / "ward").mkdir()
    (tmp_path / "ward" / "1.png").write_bytes(b"no image")
    assert len(list(XrayDataModule().predict_files(Brightness(), tmp_path / "ward", tmp_path))) == 1
    assert (tmp_path / "predictions.csv").read_text() == "file,probability,label\n"


@pytest.mark.real
def test_the_real_x_rays_and_their_split():
    data = XrayDataModule(image_size=16)
    data.setup()
    assert len(data.samples) == 5_216
    assert np.bincount(data.samples.labels).tolist() == [1_341, 3_875]
    assert len(data.split.test) == 548
    assert data.describe()["stand_in"] == "the test folder holds 548 X-rays, not the official 624"
    train, val = ({patient(data.samples.names[index]) for index in part} for part in (data.split.train, data.split.val))
    assert not train & val
    assert 0.08 < len(data.split.val) / (5_216 - 548) < 0.12
