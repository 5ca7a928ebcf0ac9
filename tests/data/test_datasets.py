"""The datasets: single samples, whole batches at once, and matching crops of page and twin."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from triptych.data.datasets import ArrayDataset, Batch, CropDataset, PageDataset, as_is


def page(height: int, width: int, number: int = 0) -> Tensor:
    """A page (1, height, width) whose pixels encode their position: 64 * row + column + 10,000 * ``number``."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (64 * rows + columns)[None] + 10_000 * number


@pytest.fixture
def arrays() -> ArrayDataset:
    return ArrayDataset(torch.arange(20, dtype=torch.uint8).reshape(10, 2), torch.arange(10.0))


@pytest.fixture
def crops() -> CropDataset:
    """Three pages of two sizes; a twin is the negative of its page."""
    pages = [page(20, 30, 0), page(12, 30, 1), page(20, 30, 2)]
    return CropDataset(pages, [-page for page in pages], crop_size=8, crops_per_page=4)


def test_array_samples_are_unchanged(arrays: ArrayDataset):
    inputs, target = arrays[3]
    assert len(arrays) == 10
    assert inputs.tolist() == [6, 7]
    assert inputs.dtype == torch.uint8
    assert target.item() == 3


@pytest.mark.parametrize("indices", [[4], [0, 9, 3, 3], list(range(10))])
def test_a_batch_is_its_samples_stacked(arrays: ArrayDataset, indices: list[int]):
    pages = PageDataset(list(arrays.inputs), list(arrays.targets))
    for dataset in (arrays, pages):
        inputs, targets = dataset.__getitems__(indices)
        samples = [dataset[index] for index in indices]
        assert torch.equal(inputs, torch.stack([sample[0] for sample in samples]))
        assert torch.equal(targets, torch.stack([sample[1] for sample in samples]))


def test_a_batch_of_crops_is_its_crops_stacked(crops: CropDataset):
    torch.manual_seed(1)
    dirty, _ = crops.__getitems__([0, 5, 7, 11])
    torch.manual_seed(1)
    assert torch.equal(dirty, torch.stack([crops[index][0] for index in (0, 5, 7, 11)]))


@pytest.mark.parametrize("name", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_batch_is_the_same_from_device_memory(name: str, arrays: ArrayDataset, crops: CropDataset):
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = torch.device(name)
    for dataset in (arrays, crops):
        there = dataset.to(device)
        assert (len(there), there.nbytes, type(there)) == (len(dataset), dataset.nbytes, type(dataset))
        torch.manual_seed(1)
        here_batch = dataset.__getitems__([0, 5, 7])
        torch.manual_seed(1)
        for one, other in zip(there.__getitems__([0, 5, 7]), here_batch, strict=True):
            assert one.device.type == name
            assert torch.equal(one.cpu(), other)


def test_moving_a_subclass_to_a_device_keeps_its_type(arrays: ArrayDataset):
    class Doubled(ArrayDataset):
        def __getitems__(self, indices: Sequence[int]) -> Batch:
            inputs, targets = super().__getitems__(indices)
            return inputs, 2 * targets

    there = Doubled(arrays.inputs, arrays.targets).to(torch.device("cpu"))
    assert there.__getitems__([3, 4])[1].tolist() == [6, 8]


def test_nbytes_counts_all_samples(arrays: ArrayDataset):
    assert arrays.nbytes == 10 * 2 + 10 * 4
    pages = [torch.zeros(1, 5, 4, dtype=torch.uint8), torch.zeros(1, 3, 4, dtype=torch.uint8)]
    assert PageDataset(pages, pages).nbytes == 2 * (20 + 12)


def test_a_loader_fetches_whole_batches_at_once(arrays: ArrayDataset):
    inputs, targets = next(iter(DataLoader(arrays, batch_size=4, collate_fn=as_is)))
    assert inputs.shape == (4, 2)
    assert targets.tolist() == [0, 1, 2, 3]


def test_both_twins_are_cropped_at_the_same_place(crops: CropDataset):
    for dirty, clean in crops:
        assert dirty.shape == (1, 8, 8)
        assert torch.equal(dirty, -clean)


def test_a_crop_is_a_window_of_its_page(crops: CropDataset):
    for index in range(len(crops)):
        crop, _ = crops[index]
        corner = int(crop[0, 0, 0]) - 10_000 * (index % 3)
        assert torch.equal(crop, page(8, 8) + crop[0, 0, 0])
        assert 0 <= corner // 64 <= (4 if index % 3 == 1 else 12)


def test_crops_reach_every_corner_and_differ_each_time():
    crops = CropDataset([page(5, 6)], [page(5, 6)], crop_size=4, crops_per_page=200)
    assert {int(crop[0, 0, 0]) for crop, _ in crops} == {64 * row + column for row in (0, 1) for column in (0, 1, 2)}


def test_an_epoch_has_crops_per_page_crops_of_each_page(crops: CropDataset):
    assert len(crops) == 12
    assert [int(crop[0, 0, 0]) // 10_000 for crop, _ in crops] == [0, 1, 2] * 4
    with pytest.raises(IndexError):
        crops[12]


@pytest.mark.parametrize(("asked", "given"), [(8, 8), (12, 12), (96, 12)])
def test_a_crop_is_no_larger_than_the_smallest_page(asked: int, given: int):
    pages = [page(20, 30), page(12, 30)]
    assert CropDataset(pages, pages, asked, crops_per_page=1)[0][0].shape == (1, given, given)
