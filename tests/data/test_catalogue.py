"""The catalogue of data sets, discovered without a list."""

from pathlib import Path

import pytest

import triptych.data
from triptych.data.catalogue import data_set, data_sets

REPOSITORY = Path(__file__).parents[2]


def test_every_data_module_is_found_by_its_modules_name():
    found = data_sets()
    sources = Path(triptych.data.__path__[0]).glob("*.py")
    assert found.keys() == {path.stem for path in sources if "(DataModule[" in path.read_text("utf-8")}
    assert all(module.__module__ == f"triptych.data.{name}" for name, module in found.items())


@pytest.mark.parametrize("name", data_sets())
def test_name_and_slug_find_the_same_class(name: str):
    assert data_set(name) is data_set(data_set(name).slug) is data_sets()[name]


@pytest.mark.parametrize("name", data_sets())
def test_each_kaggle_data_set_declares_handle_and_contents(name: str):
    module = data_set(name)
    if not module.kaggle:
        pytest.skip(f"{name} does not come from Kaggle")
    assert module.kaggle.split("/")[0] in ("competitions", "datasets")
    assert module.kaggle.endswith(module.slug)
    assert module.contents


@pytest.mark.parametrize("name", data_sets())
def test_an_unknown_name_is_refused_with_the_nearest_suggestion(name: str):
    with pytest.raises(ValueError, match=rf"no data set {name}z: choose one of .*; did you mean {name}\?"):
        data_set(f"{name}z")


def test_a_name_unlike_any_is_refused_with_all_names():
    with pytest.raises(ValueError, match=f"no data set 42: choose one of {', '.join(data_sets())}$"):
        data_set("42")


def test_a_new_module_is_found_without_registration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "stars_for_a_test.py").write_text(
        "from triptych.data.base import DataModule\nclass StarDataModule(DataModule[list[int]]):\n    slug = 'stars'\n"
    )
    before = data_sets()
    monkeypatch.setattr(triptych.data, "__path__", [*triptych.data.__path__, str(tmp_path)])
    assert data_set("stars").__name__ == "StarDataModule"
    assert data_sets().keys() == before.keys() | {"stars_for_a_test"}
