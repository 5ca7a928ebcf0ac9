import gc
from pathlib import Path

import pytest

from triptych.imports import without_collector


@pytest.fixture(autouse=True)
def _collecting():
    yield
    gc.enable()


def test_the_collector_rests_and_then_leaves_out_what_was_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "much_code.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    before = gc.get_freeze_count()
    with without_collector():
        assert not gc.isenabled()
        import much_code  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()
    assert gc.get_freeze_count() > before


def test_where_all_was_imported_before_nothing_is_left_out():
    """Else what is garbage by then would stay, each time."""
    before = gc.get_freeze_count()
    with without_collector():
        import pathlib  # noqa: F401
    assert gc.get_freeze_count() == before


def test_an_import_that_fails_wakes_the_collector_too():
    with pytest.raises(ModuleNotFoundError), without_collector():
        import triptych.nothing_of_that_name  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()


def test_one_that_was_off_stays_off():
    gc.disable()
    with without_collector():
        pass
    assert not gc.isenabled()
