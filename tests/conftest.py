"""Fixtures: tiny data sets in the real layout, and an environment isolated from the user's own folders."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from triptych.imports import without_collector

REAL_DATA = Path(given).expanduser().absolute() if (given := os.environ.get("TRIPTYCH_DATA")) else None
"""The folder of the real data sets, resolved before any test changes the current folder."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect, and so import, the tests and the code under test with the garbage collector off."""
    with without_collector():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put caches into a temporary folder per worker, and hide the user's data from tests not marked ``real``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("TRIPTYCH_DATA", raising=False)
        # A run writes the link `logs/<experiment>/latest` in the folder it is started in.
        patch.chdir(tmp_path_factory.mktemp("current"))
        yield


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in its own temporary folder; fixtures of a wider scope share one."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _real_data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show tests marked ``real`` the folder of the real data sets, or skip them if there is none."""
    if request.node.get_closest_marker("real"):
        if not REAL_DATA:
            pytest.skip("needs the real data sets: name their folder in the environment variable TRIPTYCH_DATA")
        monkeypatch.setenv("TRIPTYCH_DATA", str(REAL_DATA))


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A read-only ``data.root`` with small data sets: 40 pages (with 10 clean twins), 60 X-rays, 400 rows."""
    from triptych.data.catalogue import data_sets

    root = tmp_path_factory.mktemp("data")
    for name, module in data_sets().items():
        small = {"documents": _few_pages, "xrays": _few_chests, "california": _few_homes}
        small.get(name, module.synthesize)(root / module.slug)
    return root


@pytest.fixture
def data_copy(data_root: Path, tmp_path: Path) -> Path:
    """A copy of ``data_root`` that a test may damage."""
    return shutil.copytree(data_root, tmp_path / "data")


# The writers are imported where they are used, so that a panel can be removed without touching this file.


def _few_pages(folder: Path) -> None:
    """Cut a page, with its four kinds of dirt, into ten small ones; sizes and numbers vary as in Kaggle's files."""
    from triptych.data.synthetic.pages import write_pages

    whole = folder.with_name(f".{folder.name}")
    write_pages(whole, pages=1)
    for path in sorted(whole.rglob("*.png")):
        target = folder / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as page:
            for index in range(10):
                left, top, height = 180 * (index % 3), 104 * (index // 3), (104, 80)[index % 2]
                window = page.crop((left, top, left + 180, top + height))
                window.save(target / f"{int(path.stem) + 12 * index}.png")
    shutil.rmtree(whole)


def _few_chests(folder: Path) -> None:
    from triptych.data.synthetic.chests import write_chests

    write_chests(folder, images=60, size=64)


def _few_homes(folder: Path) -> None:
    from triptych.data.synthetic.homes import write_homes

    write_homes(folder, rows=400)
