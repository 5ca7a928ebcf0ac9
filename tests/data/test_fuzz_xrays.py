"""Fuzzed X-rays of every format, intact and damaged, under any name: read to the right greys or refused by name."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.pictures import PLACES, Picture, lay, names, pictures

from triptych.data.errors import DataError
from triptych.data.xrays import XrayDataModule

SIZE = 5
"""More than half a picture's side, because a JPEG decoded at half its size has slightly different grey levels."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_any_x_ray_is_read_correctly_or_refused_by_name(tmp_path: Path, record_property: Callable[[str, object], None]):
    tried: Counter[str] = Counter()
    folder, cache = tmp_path / "data", tmp_path / "cache"
    for part in ("train/NORMAL", "train/PNEUMONIA", "test/NORMAL", "test/PNEUMONIA"):
        (folder / "chest_xray" / part).mkdir(parents=True)
        Image.new("L", (6, 5), 7).save(folder / "chest_xray" / part / "good.png")
    data = XrayDataModule(image_size=SIZE, cache_dir=str(cache))

    @settings(max_examples=1500, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        picture=pictures(), name=names(), place=st.sampled_from(PLACES), label=st.sampled_from(("NORMAL", "PNEUMONIA"))
    )
    def read(picture: Picture, name: str, place: str, label: str) -> None:
        for old in (cache, *folder.glob("chest_xray/train/*/ward")):
            shutil.rmtree(old, ignore_errors=True)
        ward = folder / "chest_xray" / "train" / label / "ward"
        path = ward / f"{name}.{picture.suffix}"
        ward.mkdir()
        right = lay(path, picture.content, place) and picture.grey is not None and not picture.torn
        refusal = ""
        try:
            xrays, mark = data.read(folder)
        except DataError as error:
            refusal = str(error)
        tried["refused" if refusal else "read"] += 1
        if refusal:
            assert not right, refusal
            assert refusal.startswith(f"{path}: not a readable ")
            assert refusal.endswith("replace or remove it")
            assert not cache.exists()
            return
        assert right or picture.torn
        assert len(xrays) == 5
        index = xrays.names.index(f"train/{label}/ward/{path.name}")
        assert xrays.labels[index] == (label == "PNEUMONIA")
        assert xrays.images.shape == (5, SIZE, SIZE)
        assert xrays.images.dtype == np.uint8
        np.testing.assert_array_equal(np.delete(xrays.images, index, axis=0), 7)
        if picture.grey is not None:
            grey = Image.fromarray(picture.grey.astype(np.uint8))
            square = grey.resize((SIZE, grey.height), Image.Resampling.BILINEAR)
            square = square.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            found = xrays.images[index].astype(int)
            np.testing.assert_allclose(found, np.asarray(square), rtol=0, atol=picture.error)
        assert sorted(path.suffix for path in cache.iterdir()) == [".npz", ".pixels"]
        again, same = data.read(folder)
        np.testing.assert_array_equal(again.images, xrays.images)
        assert same == mark

    read()
    for outcome in ("read", "refused"):
        record_property(f"corrupt inputs {outcome}", tried[outcome])
    assert tried.total() >= 1000
    assert min(tried["read"], tried["refused"]) >= 200
