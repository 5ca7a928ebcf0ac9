"""The folder that a command writes into."""

import os
from pathlib import Path

import pytest

from triptych.results.output import make_folder


def test_it_is_made_with_those_above_it_and_may_be_there(tmp_path: Path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b").is_dir()


def test_one_that_cannot_be_made_is_refused_with_the_option_the_folder_and_why(tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="file is a file: --root names a folder") as refused:
        make_folder(file, "--root")
    assert str(refused.value).startswith(str(file))
    with pytest.raises(ValueError, match="name another with --output") as refused:
        make_folder(file / "a")
    assert str(refused.value).startswith(f"the folder {file / 'a'} cannot be made (Not a directory)")
    # A name is too long before it is looked at whether it is taken.
    with pytest.raises(ValueError, match=r"cannot be made \(File name too long\)"):
        make_folder(tmp_path / ("x" * 300))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_nothing_can_be_made_below_proc():
    with pytest.raises(ValueError, match=rf"the folder {os.sep}proc{os.sep}x cannot be made"):
        make_folder(Path("/proc/x"))
