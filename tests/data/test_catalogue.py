"""The data sets there are, found without a list."""

from pathlib import Path

import pytest

import triptych.data
from triptych.data.base import DataModule
from triptych.data.catalogue import data_set, data_sets


def test_every_data_module_is_found_by_its_modules_name():
    found = data_sets()
    assert {"documents", "xrays", "california"} <= found.keys()
    assert DataModule not in found.values()
    assert all(module.__module__ == f"triptych.data.{name}" for name, module in found.items())


@pytest.mark.parametrize("name", data_sets())
def test_name_and_slug_lead_to_the_same(name: str):
    assert data_set(name) is data_set(data_set(name).slug) is data_sets()[name]


@pytest.mark.parametrize("name", data_sets())
def test_each_has_what_downloading_it_needs(name: str):
    module = data_set(name)
    assert module.kaggle.split("/")[0] in ("competitions", "datasets")
    assert module.kaggle.endswith(module.slug)
    assert module.contents


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"no data set documnts: choose one of .*; did you mean documents"):
        data_set("documnts")
    with pytest.raises(ValueError, match=r"no data set 42: choose one of [a-z, ]*$"):
        data_set("42")


def test_a_new_module_needs_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "stars_for_a_test.py").write_text(
        "from triptych.data.california import CaliforniaDataModule\n"
        "class StarDataModule(CaliforniaDataModule):\n"
        "    slug = 'stars'\n"
    )
    monkeypatch.setattr(triptych.data, "__path__", [*triptych.data.__path__, str(tmp_path)])
    assert data_set("stars").__name__ == "StarDataModule"
    assert data_set("california").__name__ == "CaliforniaDataModule"
