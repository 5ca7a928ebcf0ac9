"""Fuzzed pages of every format, intact and damaged, under any name: read to the right greys or refused by name."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.pictures import PLACES, Picture, lay, names, pictures, saved

from triptych.data.documents import DocumentDataModule
from triptych.data.errors import DataError

GOOD = np.arange(12, dtype=np.uint8).reshape(3, 4)
TWINS = ("whole",) * 5 + ("same file", "of another size", "missing")
REMEDIES = ("replace or remove it", "replace or remove both", "add that, or remove both")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_any_page_is_read_correctly_or_refused_by_name(tmp_path: Path, record_property: Callable[[str, object], None]):
    tried: Counter[str] = Counter()
    folder, cache = tmp_path / "data", tmp_path / "cache"
    data = DocumentDataModule(cache_dir=str(cache))

    @settings(max_examples=1500, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(picture=pictures(), name=names(), twin=st.sampled_from(TWINS), place=st.sampled_from(PLACES))
    def read(picture: Picture, name: str, twin: str, place: str) -> None:
        for path in (folder, cache):
            shutil.rmtree(path, ignore_errors=True)
        dirty, clean = (folder / part / f"{name}.{picture.suffix}" for part in ("train", "train_cleaned"))
        for path in (dirty, clean):
            path.parent.mkdir(parents=True)
            (path.parent / "more").mkdir()
            Image.fromarray(GOOD).save(path.parent / "more" / "good.png")
        right = lay(dirty, picture.content, place) and picture.grey is not None and not picture.torn
        white = np.full((2, 2) if picture.grey is None else picture.grey.shape, 255, np.uint8)
        if twin == "same file":
            clean.write_bytes(picture.content)
        elif twin != "missing":
            blank = white if twin == "whole" else np.pad(white, 1)
            clean.write_bytes(saved(Image.fromarray(blank), "png"))
        right &= twin in ("whole", "same file")

        refusal = ""
        try:
            pages, mark = data.read(folder)
        except DataError as error:
            refusal = str(error)
        tried["refused" if refusal else "read"] += 1
        if refusal:
            assert not right, refusal
            assert str(dirty) in refusal or str(clean) in refusal
            assert refusal.endswith(REMEDIES)
            # Twins of different sizes are refused only after both were decoded into the cache.
            assert not cache.exists() or "differ in size" in refusal
            return
        assert right or picture.torn
        found = {page: (before, after) for page, before, after in pages}
        assert found.keys() == {dirty.name, "more/good.png"}
        np.testing.assert_array_equal(found["more/good.png"], (GOOD, GOOD))
        before, after = found[dirty.name]
        assert before.dtype == after.dtype == np.uint8
        if picture.grey is not None:
            np.testing.assert_allclose(before.astype(int), picture.grey, rtol=0, atol=picture.error)
            np.testing.assert_array_equal(after, before if twin == "same file" else white)
        assert sorted(path.suffix for path in cache.iterdir()) == [".npz", ".pixels"]
        np.testing.assert_equal(data.read(folder), (pages, mark))

    read()
    for outcome in ("read", "refused"):
        record_property(f"corrupt inputs {outcome}", tried[outcome])
    assert tried.total() >= 1000
    assert min(tried["read"], tried["refused"]) >= 200
