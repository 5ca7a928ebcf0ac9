"""Provenance: the code, packages and machine of a run at each of its starts."""

import json
import platform
from importlib import metadata
from pathlib import Path

import pytest
import torch

from triptych.results import provenance as module
from triptych.results.checkout import Code
from triptych.results.provenance import (
    STARTED,
    device_name,
    environment,
    hardware,
    provenance,
    record_start,
    versions,
)

CPU = torch.device("cpu")


def test_a_start_records_code_packages_and_machine() -> None:
    about = environment(Code("c0ffee"), CPU)
    assert about.keys() == {"git", "lock", "versions", "device", "threads", "hardware"}
    assert about["git"]["commit"] == "c0ffee"
    assert about["threads"] == torch.get_num_threads()
    assert environment(None, CPU)["git"] is None


def test_the_first_start_counts_and_a_resume_records_differences(tmp_path: Path) -> None:
    first, second = {"git": {"commit": "a"}, "threads": 1}, {"git": {"commit": "b"}, "threads": 1}
    record_start(tmp_path, first, b"one", resumed=False)
    record_start(tmp_path, first, b"", resumed=True)
    record_start(tmp_path, second, b"two", resumed=True)
    assert provenance(tmp_path, second) == {**first, "resumed_with": [{}, {"git": {"commit": "b"}}]}
    patches = {path.name: path.read_bytes() for path in tmp_path.glob(".hydra/*.patch")}
    assert patches == {"code.patch": b"one", "code-2.patch": b"two"}


def test_a_fresh_start_replaces_the_record_of_an_abandoned_one(tmp_path: Path) -> None:
    record_start(tmp_path, {"threads": 1}, b"one", resumed=False)
    record_start(tmp_path, {"threads": 2}, b"", resumed=False)
    assert provenance(tmp_path, {"threads": 3}) == {"threads": 2, "resumed_with": []}
    assert not list(tmp_path.glob(".hydra/*.patch"))


def test_a_run_without_a_recorded_start_uses_the_current_state(tmp_path: Path) -> None:
    assert provenance(tmp_path, {"threads": 3}) == {"threads": 3, "resumed_with": []}


@pytest.mark.parametrize("text", [None, "", "[]", '{"starts": 1}', '{"starts": [1]}', "[" * 100_000])
def test_a_resume_without_a_record_does_not_count_as_the_start(text: str | None, tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    if text is not None:
        (tmp_path / STARTED).write_text(text)
    record_start(tmp_path, {"threads": 2}, b"new", resumed=True)
    assert provenance(tmp_path, {"threads": 2}) == {"threads": None, "resumed_with": [{"threads": 2}]}
    assert (tmp_path / ".hydra/code-1.patch").read_bytes() == b"new"


def test_versions_are_those_installed() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == metadata.version("torch")
    assert {"lightning", "torchmetrics", "hydra-core", "numpy"} <= found.keys()


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("torch", "no-such-package"))
    assert versions().keys() == {"python", "torch"}


def test_a_device_has_a_kind_and_a_model() -> None:
    assert device_name(CPU) == f"cpu ({platform.machine()})"


def test_the_machine_is_described(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Abacus 9000\n\nprocessor\t: 1\nmodel name\t: B\n")
    found = hardware(CPU)
    assert found["cpu"] == "Abacus 9000"
    assert found["platform"] == platform.platform()
    assert found["cores"] >= 1
    assert found["memory_mb"] is None or 100 < found["memory_mb"] < 2**27
    assert "gpus" not in found
    assert json.loads(json.dumps(found)) == found


def test_the_cpu_falls_back_to_the_architecture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "none")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert hardware(CPU)["cpu"] in (platform.machine(), None) or platform.system() == "Darwin"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpus_are_described_with_their_driver() -> None:
    found = hardware(torch.device("cuda"))
    assert found["gpus"][0]["name"] == torch.cuda.get_device_name(0)
    assert found["gpus"][0]["memory_mb"] > 1000
    assert found["driver"][0].isdigit()
