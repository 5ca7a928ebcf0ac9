import pytest
import torch

from triptych.data.page_augment import BatchPapers, BatchSpecks, paper_of


def page(height: int = 40, width: int = 60) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A dirty page with a stain and a line of print, its clean twin, and the brightness of its paper."""
    paper = torch.full((1, height, width), 0.8)
    paper[..., 30:] = 0.4  # the stain
    clean = torch.ones(1, height, width)
    clean[:, 18:21, 5:55] = 0.0
    dirty = paper * (0.1 + 0.9 * clean)
    return (dirty * 255).round().byte(), (clean * 255).byte(), paper


def test_the_paper_is_the_page_without_its_print():
    dirty, clean, paper = page()
    found = paper_of(dirty, clean)
    assert found.shape == dirty.shape
    # Brightness relative to clean paper: the stain halves it, and no print remains.
    # The columns around the stain's edge are left out, where both levels mix.
    apart = torch.cat([torch.arange(22), torch.arange(38, 60)])
    assert found[..., apart] == pytest.approx((paper / 0.8)[..., apart], abs=0.02)


def test_paper_is_filled_in_under_wide_print():
    dirty, clean, _ = page(60, 60)
    clean[:, 10:50, 10:50] = 0
    dirty[:, 10:50, 10:50] = 20
    found = paper_of(dirty, clean)
    assert found.min() > 0.4
    assert found.isfinite().all()


def test_a_page_without_paper_gives_neutral_dirt():
    black = torch.zeros(1, 20, 20, dtype=torch.uint8)
    assert torch.equal(paper_of(black, black), torch.ones(1, 20, 20))


def test_dirt_multiplies_the_dirty_page_and_keeps_the_clean_one():
    pairs = torch.rand(4, 2, 16, 16)
    paper = torch.full((1, 30, 30), 0.5)
    laid = BatchPapers([paper], share=1.0, powers=(1.0, 1.0))(pairs)
    assert torch.allclose(laid[:, 0], pairs[:, 0] * 0.5)
    assert torch.equal(laid[:, 1], pairs[:, 1])


def test_each_pair_gets_its_own_piece_and_strength():
    torch.manual_seed(0)
    papers = [torch.rand(1, 40, 50) * 0.5 + 0.3 for _ in range(3)]
    pairs = torch.full((6, 2, 16, 16), 0.7)
    dirty = BatchPapers(papers, share=1.0)(pairs)[:, 0]
    assert len({tuple(one.flatten().tolist()) for one in dirty}) == 6


def test_only_a_share_of_the_pairs_gets_dirt():
    torch.manual_seed(0)
    pairs = torch.full((2000, 2, 4, 4), 0.7)
    laid = BatchPapers([torch.full((1, 8, 8), 0.5)], share=0.6)(pairs)
    untouched = (laid[:, 0] == 0.7).all(dim=(1, 2)).float().mean().item()
    assert untouched == pytest.approx(0.4, abs=0.04)


def test_a_paper_of_the_crop_size_fits():
    assert BatchPapers([torch.ones(1, 16, 16)])(torch.rand(2, 2, 16, 16)).shape == (2, 2, 16, 16)


def test_dirt_is_reproducible_from_the_seed():
    papers, pairs = [torch.rand(1, 30, 30)], torch.rand(3, 2, 16, 16)

    def laid(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return BatchPapers(papers)(pairs)

    assert torch.equal(laid(1), laid(1))
    assert not torch.equal(laid(1), laid(2))


def test_specks_darken_only_the_dirty_page():
    torch.manual_seed(0)
    pairs = torch.rand(20, 2, 64, 64)
    specked = BatchSpecks(share=1.0)(pairs)
    assert torch.equal(specked[:, 1], pairs[:, 1])
    assert (specked[:, 0] <= pairs[:, 0]).all()
    assert (specked[:, 0] >= 0).all()


def test_specks_are_small_clustered_and_darker_than_their_surroundings():
    torch.manual_seed(0)
    left = BatchSpecks(share=1.0)(torch.ones(200, 2, 64, 64))[:, :1]
    around = torch.nn.functional.avg_pool2d(left, 15, stride=1, padding=7, count_include_pad=False)
    specks = (left < 0.7 * around).float()
    assert 0.005 < specks.mean() < 0.1
    # A window wider than a speck is almost never filled by it.
    assert (torch.nn.functional.avg_pool2d(specks, 9, stride=1) > 0.6).float().mean() < 0.001
    # Some quarters of a page have many specks, others almost none.
    quarters = torch.nn.functional.avg_pool2d(specks, 32).flatten(1)
    assert quarters.max(dim=1).values.sum() / quarters.sum() > 0.4
    # Some pages are also stained, others are not.
    paper = left.flatten(1).quantile(0.8, dim=1)
    assert paper.min() < 0.6
    assert paper.max() > 0.95


def test_only_a_share_of_the_pairs_gets_specks():
    torch.manual_seed(0)
    pairs = torch.ones(2000, 2, 16, 16)
    touched = (BatchSpecks(share=0.1)(pairs) < 1).flatten(1).any(dim=1).float().mean().item()
    assert touched == pytest.approx(0.1, abs=0.03)
    assert torch.equal(BatchSpecks(share=0.0)(pairs), pairs)
