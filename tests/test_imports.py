import gc

import pytest

from triptych.imports import without_collector


@pytest.fixture(autouse=True)
def _collecting():
    yield
    gc.enable()
    gc.unfreeze()


def test_the_collector_rests_and_then_leaves_out_what_was_imported():
    before = gc.get_freeze_count()
    with without_collector():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > before


def test_an_import_that_fails_wakes_the_collector_too():
    with pytest.raises(ModuleNotFoundError), without_collector():
        import triptych.nothing_of_that_name  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()


def test_one_that_was_off_stays_off():
    gc.disable()
    with without_collector():
        pass
    assert not gc.isenabled()
