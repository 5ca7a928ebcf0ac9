"""The reliability page: what it counts, and how it reports it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.large_predictions import Measured, rows_in, side_of_page, write_page, write_rows, write_xrays
from benchmarks.reliability import ATTACKS, KILLS, READ, REFUSED, REPOSITORY, page, read_counts, recording, sums, total
from PIL import Image

CASES = """
  <testcase classname="tests.test_kills" name="test_k[a]"><properties>
    <property name="kills survived" value="7" /></properties></testcase>
  <testcase classname="tests.test_kills" name="test_k[b]"><properties>
    <property name="kills survived" value="1004" /></properties></testcase>
  <testcase classname="tests.data.test_fuzz" name="test_f"><properties>
    <property name="corrupt inputs read" value="40" /><property name="corrupt inputs refused" value="2" />
    <property name="something else" value="many" /></properties></testcase>
  <testcase classname="tests.test_plain" name="test_p" />
  <testcase classname="tests.attacks.test_a" name="test_a[x]"><properties>
    <property name="attacks refused" value="1" /></properties></testcase>
  <testcase classname="tests.attacks.test_a" name="test_a[y]"><properties>
    <property name="attacks refused" value="1" /></properties></testcase>
"""


def junit(folder: Path, cases: str) -> Path:
    path = folder / "junit.xml"
    path.write_text(f'<?xml version="1.0"?><testsuites><testsuite name="pytest">{cases}</testsuite></testsuites>')
    return path


def test_recorded_counts_are_summed_by_name(tmp_path: Path):
    counts = read_counts(junit(tmp_path, CASES))
    assert [total(counts, name) for name in (KILLS, READ, REFUSED, ATTACKS)] == [1011, 40, 2, 2]
    assert total(counts, READ, REFUSED) == 42
    assert sums(counts, KILLS, lambda count: count.case) == {"test_k[a]": 7, "test_k[b]": 1004}
    assert sums(counts, ATTACKS, lambda count: count.path) == {"tests/attacks/test_a.py": 2}


@pytest.mark.parametrize("ended", ["failure", "error"])
def test_a_failed_test_is_named(ended: str, tmp_path: Path):
    bad = f'<testcase classname="tests.test_bad" name="test_bad"><{ended} message="no" /></testcase>'
    with pytest.raises(RuntimeError, match="test_bad failed"):
        read_counts(junit(tmp_path, CASES + bad))


def test_a_count_that_no_test_recorded_is_an_error(tmp_path: Path):
    with pytest.raises(RuntimeError, match="no test recorded 'kills survived'"):
        read_counts(junit(tmp_path, CASES.replace("kills survived", "kills")))


def test_the_page_gives_each_figure_and_its_source(tmp_path: Path):
    measured = [Measured("5 pages", 174.0, 1234.5, 600.0), Measured("3 rows", 2.0, 700.0, 650.0)]
    text = page(read_counts(junit(tmp_path, CASES)), measured, "`abc`", 2)
    for row in (
        "| kills survived | 1,011 |",
        "| corrupt inputs tried | 42 |",
        "| attacks refused | 2 |",
        "| b | 1,004 |",
        "| [test_fuzz.py](../tests/data/test_fuzz.py) | 40 | 2 |",
        "| [test_a.py](../tests/attacks/test_a.py) | 2 |",
        "| 5 pages | 1,234 MB | 600 MB | 170 |",
        "| 3 rows | 700 MB | 650 MB | 10 |",
    ):
        assert f"\n{row}\n" in text
    assert "Counted in [test_kills.py](../tests/test_kills.py)." in text
    assert "was `abc`." in text


def test_the_tests_that_record_counts_are_found():
    found = {path.relative_to(REPOSITORY).as_posix() for path in recording(REPOSITORY / "tests")}
    assert {"tests/test_kills.py", "tests/attacks/test_run_directories.py"} <= found
    assert "tests/test_run.py" not in found


def test_inputs_have_the_requested_size(tmp_path: Path):
    for name in ("page", "rows", "xrays"):
        (tmp_path / name).mkdir()
    assert side_of_page(write_page(tmp_path / "page", 700)) == 700
    header, *rows = write_rows(tmp_path / "rows", 5).read_text().splitlines()
    assert len(header.split(",")) == 9
    assert len(set(rows)) == 5
    (tmp_path / "rows" / "predictions.csv").write_text("\n".join(["prediction", *"12345"]) + "\n")
    assert rows_in(tmp_path / "rows") == 5
    xrays = [np.asarray(Image.open(path)) for path in sorted(write_xrays(tmp_path / "xrays", 3).glob("*.jpeg"))]
    assert [xray.shape for xray in xrays] == [(80, 80)] * 3
    assert (xrays[0] != xrays[1]).any()


def test_the_peak_is_that_of_the_command_alone(tmp_path: Path):
    held = np.ones(300 * 2**20, np.uint8)  # what this process has resident is not the command's
    program = REPOSITORY / "benchmarks" / "peak_memory.py"

    def peak(code: str) -> tuple[int, float]:
        command = [sys.executable, program, tmp_path / "peak", sys.executable, "-S", "-c", code]
        ended = subprocess.run(command, stderr=subprocess.DEVNULL).returncode
        return ended, int((tmp_path / "peak").read_text()) / 1024

    ended, little = peak("raise SystemExit(3)")
    assert ended == 3
    assert little < 100
    ended, much = peak("b'x' * (200 * 2**20)")
    assert ended == 0
    assert 200 < much < 300
    assert held[0]
