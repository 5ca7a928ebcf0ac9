"""Class names of an untrusted checkpoint appear in an export only as escaped text."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.attacks.payloads import checkpoint, metrics
from tests.attacks.table import MARKUP
from tests.harness import EXPERIMENTS, small, train

from triptych.cli import main


@pytest.fixture(scope="module")
def xray_run(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A run with a malicious class name wherever class names are stored."""
    if "pneumonia" not in EXPERIMENTS:
        pytest.skip("the pneumonia panel is not here")
    run = tmp_path_factory.mktemp("trained") / "run"
    train(run, *small("pneumonia", data_root, "trainer.max_epochs=1", "logger=none", "test=false"))
    metrics(experiment=f"# {MARKUP}", monitor=MARKUP, best={f"val/{MARKUP}": 1.0})(run, run)
    names = [f"\ud800{MARKUP}", "PNEUMONIA"]
    checkpoint(lambda content, _: content["hyper_parameters"].update(class_names=names))(run, run)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_malicious_class_names_are_escaped(
    form: str,
    xray_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
):
    if form == "onnx":
        pytest.importorskip("onnxscript", reason="make setup EXTRAS=export")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(xray_run), "--output", str(tmp_path), "--format", form])
    assert not ended.value.code, capsys.readouterr()
    card = (tmp_path / "README.md").read_text()
    assert "alert" in card
    assert not any(sign in card for sign in ("\x1b", "\x07", "<script>"))
    assert not re.search(r"(?<!\\)[]\[](http|a\])", card)
    # Each row has as many cells as its header, whatever the names contain.
    bars = {
        line.replace("\\|", "").count("|") for line in card.splitlines() if line.startswith("| ") and "alert" in line
    }
    assert bars <= {3, 4, 6}
    if form == "onnx":
        model = pytest.importorskip("onnx").load(tmp_path / "model.onnx")
        texts = [value.doc_string for value in model.graph.output] + [fact.value for fact in model.metadata_props]
        assert any("alert" in text for text in texts)
        assert not any("\x1b" in text for text in texts)
    record_property("attacks refused", 1)
