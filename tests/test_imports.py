"""Imports without the garbage collector."""

import gc
from pathlib import Path

import pytest

from triptych.imports import without_collector


@pytest.fixture(autouse=True)
def _collecting():
    yield
    gc.enable()


def test_collector_pauses_and_then_ignores_imported_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "much_code.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    before = gc.get_freeze_count()
    with without_collector():
        assert not gc.isenabled()
        import much_code  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()
    assert gc.get_freeze_count() > before


def test_nothing_is_frozen_if_all_was_imported_before():
    """Otherwise each call would make the current garbage permanent."""
    before = gc.get_freeze_count()
    with without_collector():
        import pathlib  # noqa: F401
    assert gc.get_freeze_count() == before


def test_failing_import_enables_the_collector_again():
    with pytest.raises(ModuleNotFoundError), without_collector():
        import triptych.nothing_of_that_name  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()


def test_collector_that_was_off_stays_off():
    gc.disable()
    with without_collector():
        pass
    assert not gc.isenabled()
