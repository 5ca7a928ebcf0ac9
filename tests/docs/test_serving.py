"""The examples of docs/serving.md run on exported models, where PyTorch and this project cannot be imported."""

import json
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from tests.harness import CHEAPEST, EXPERIMENTS, small, train

from triptych.results.export import export

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
ALONE = "import sys\nfor name in ('torch', 'triptych', 'pandas', 'PIL', 'onnx'): sys.modules[name] = None\n"


def example(experiment: str) -> str:
    """The page's code for the model of this experiment."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if f"logs/{experiment}/latest" in block]
    return ALONE + code


@pytest.fixture
def folder(request: pytest.FixtureRequest, data_root: Path, tmp_path: Path) -> Path:
    """A folder with ``logs/EXPERIMENT/latest`` as produced by the page's commands."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="make setup EXTRAS=export")
    if request.param not in EXPERIMENTS:
        pytest.skip(f"the {request.param} panel is not here")
    run = tmp_path / "logs" / request.param / "latest"
    # The outputs of exports are tested elsewhere, for each network.
    quick = ("trainer.max_epochs=1", "logger=none", "test=false")
    train(run, *small(request.param, data_root, *CHEAPEST[request.param], *quick))
    assert f"triptych export logs/{request.param}/latest" in PAGE
    export(str(run))
    return tmp_path


def run(code: str, folder: Path) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("folder", ["denoise"], indirect=True)
def test_a_page_is_cleaned(folder: Path):
    printed = run(example("denoise") + "print(cleaned.shape, cleaned.dtype, len(set(cleaned.ravel())) > 1)", folder)
    assert printed.split(")")[0] == "(420, 540"
    assert "uint8" in printed


@pytest.mark.parametrize("folder", ["pneumonia"], indirect=True)
def test_an_xray_gets_a_probability_and_a_label(folder: Path):
    assert re.fullmatch(r"0\.\d{3} (NORMAL|PNEUMONIA)\n", run(example("pneumonia"), folder))


@pytest.mark.parametrize("folder", ["housing"], indirect=True)
def test_a_server_responds_with_a_price(folder: Path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    (command,) = re.findall(r"^curl (.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    question = shlex.split(command)[2]
    code = example("housing")
    assert "8000" in code
    server = subprocess.Popen([sys.executable, "-c", code.replace("8000", str(port))], cwd=folder)
    try:
        (price,) = ask(f"http://localhost:{port}", question.encode(), server)
    finally:
        server.terminate()
        server.wait()
    assert 0 < price < 2_000_000


def ask(address: str, question: bytes, server: subprocess.Popen[bytes]) -> Any:
    """The response, once the server is up."""
    for _ in range(600):
        try:
            with urlopen(address, question) as answer:
                return json.loads(answer.read())
        except URLError:
            assert server.poll() is None, "the server ended"
            time.sleep(0.1)
    raise AssertionError("the server never came up")
