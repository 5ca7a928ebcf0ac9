"""The output folder of a command."""

import os
from pathlib import Path

import pytest

from triptych.results.output import make_folder


def test_a_folder_is_made_with_its_parents_and_may_exist(tmp_path: Path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b").is_dir()


def test_an_impossible_folder_is_refused_with_option_and_reason(tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="file is a file: --root names a folder") as refused:
        make_folder(file, "--root")
    assert str(refused.value).startswith(str(file))
    with pytest.raises(ValueError, match="name another with --output") as refused:
        make_folder(file / "a")
    assert str(refused.value).startswith(f"the folder {file / 'a'} cannot be made (Not a directory)")
    # The name is too long to even be looked up.
    with pytest.raises(ValueError, match=r"cannot be made \(File name too long\)"):
        make_folder(tmp_path / ("x" * 300))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_folder_below_proc_is_refused():
    with pytest.raises(ValueError, match=rf"the folder {os.sep}proc{os.sep}x cannot be made"):
        make_folder(Path("/proc/x"))
