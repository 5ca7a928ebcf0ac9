"""Exports of short runs: from raw inputs they give the run's own predictions."""

import contextlib
import csv
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.harness import EXPERIMENTS, FASTEST, small, train
from torch import Tensor, nn

from triptych.cli import main
from triptych.data.catalogue import data_sets
from triptych.results.export.program import trace
from triptych.results.summary import format_number

PANELS = {
    "denoise": ("denoise", ["model.norm=batch"]),
    "mirrored": ("denoise", ["model.padding=valid", "model.norm=instance", "model.network.depth=2"]),
    "course": ("denoise", ["model=autoencoder", "model.norm=layer", "data.eval_batch_size=1"]),
    "pneumonia": ("pneumonia", []),
    "cnn": ("pneumonia", ["model=cnn", "model.padding=valid", "model.network.depth=2", "model.standardize=false"]),
    "housing": ("housing", []),
    "tabular": ("housing", ["model=tabular", "data.ratios=false"]),
    "mlp": ("housing", ["model=mlp", "model.norm=batch", "model.input_scaling=minmax", "data.rotations=0"]),
    "periodic": (
        "housing",
        ["model=tabular", "model.network.embedding=periodic", "model.input_scaling=standard", "model.norm=layer"],
    ),
}
# The default network for housing takes ten times as long to trace.
CHEAPEST = {"denoise": "course", "pneumonia": "cnn", "housing": "mlp"}.get(FASTEST, FASTEST)


@pytest.fixture(scope="session")
def trained(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function from a name in PANELS to the directory of a short run; skips if there is no such experiment."""
    runs: dict[str, Path] = {}

    def run(name: str) -> Path:
        experiment, overrides = PANELS[name]
        if experiment not in EXPERIMENTS:
            pytest.skip(f"the {experiment} panel is not here")
        if name not in runs:
            runs[name] = tmp_path_factory.mktemp(name) / "run"
            options = small(experiment, data_root, "trainer.max_epochs=1", "logger=none", "test=false", *overrides)
            with contextlib.chdir(runs[name].parent):  # not in the folder of the first test to request it
                train(runs[name], *options)
        return runs[name]

    return run


def export(*arguments: object) -> int:
    """Run ``triptych export ARGUMENTS``; returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.fixture(scope="session")
def exported(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function from a name in PANELS and a format to the export's folder; skips if packages are missing."""
    folders: dict[tuple[str, str], Path] = {}

    def folder(name: str, form: str) -> Path:
        needs_onnx(form)
        if (name, form) not in folders:
            output = tmp_path_factory.mktemp(f"{name}-{form}") / "export"
            assert export(trained(name), "--format", form, "--output", output) == 0
            folders[name, form] = output
        return folders[name, form]

    return folder


def predict(run: Path, source: Path, output: Path) -> Path:
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(run), str(source), "--output", str(output)])
    assert not ended.value.code
    return output


def runner(path: Path) -> Any:
    """A function from arrays by name to a list of outputs, which runs the file as a user would."""
    if path.suffix == ".pt2":
        module = torch.export.load(path).module()
        return lambda inputs: [answer.detach().numpy() for answer in module(*map(torch.from_numpy, inputs.values()))]
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    return lambda inputs: session.run(None, inputs)


def needs_onnx(form: str) -> None:
    if form == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason="make setup EXTRAS=export")


FILES = {"onnx": "model.onnx", "torch": "model.pt2"}
forms = pytest.mark.parametrize("form", FILES)


# Exporting embeddings to ONNX takes ten seconds, the nearest-neighbour network half a minute.
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("mlp", "onnx"),
        pytest.param("housing", "torch", marks=pytest.mark.slow),
        pytest.param("tabular", "onnx", marks=pytest.mark.slow),
        pytest.param("housing", "onnx", marks=pytest.mark.slow),
    ],
)
def test_exported_housing_models_reproduce_predictions(
    name: str, form: str, exported: Any, trained: Any, data_root: Path, tmp_path: Path
):
    folder, run = exported(name, form), trained(name)
    model = runner(folder / FILES[form])

    source = data_root / "california-housing-prices" / "housing.csv"
    with (predict(run, source, tmp_path) / "predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    card = (folder / "README.md").read_text()
    mapping = json.loads(re.search(r"^\| ocean_proximity \| (.*) \|$", card, re.MULTILINE)[1].replace("\\", ""))
    inputs = {
        name: np.array([float(row[name] or "nan") for row in table], np.float32) for name in list(table[0])[:8]
    } | {"ocean_proximity": np.array([mapping[row["ocean_proximity"]] for row in table])}
    assert any(np.isnan(inputs["total_bedrooms"]))
    (prices,) = model(inputs)
    np.testing.assert_allclose(prices, [float(row["prediction"]) for row in table], rtol=1e-4)


@pytest.mark.parametrize("form", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
def test_the_code_in_the_model_card_runs(form: str, exported: Any, trained: Any):
    folder, run = exported(CHEAPEST, form), trained(CHEAPEST)
    card = (folder / "README.md").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    for fact in (metrics["data"]["fingerprint"], metrics["data"]["split"], f"torch={torch.__version__.split('+')[0]}"):
        assert fact in card
    assert format_number(metrics["best"][metrics["monitor"]]) in card
    assert str(run.parent) not in card
    (code,) = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    code = f"import sys; sys.modules['triptych'] = None\n{code}"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


class Dearer(nn.Module):
    """A graph whose prices are 0.1 % too high."""

    def __init__(self, true: nn.Module) -> None:
        super().__init__()
        self.true = true

    def forward(self, *columns: Tensor) -> tuple[Tensor]:
        (prices,) = self.true(*columns)
        return (1.001 * prices,)


@pytest.mark.parametrize("form", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
def test_an_export_that_differs_from_the_model_is_refused(
    form: str, trained: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
):
    needs_onnx(form)
    monkeypatch.setattr(
        "triptych.results.export.trace",
        lambda serving: trace(dataclasses.replace(serving, graph=Dearer(serving.graph))),
    )
    before = tmp_path / FILES[form]
    before.write_bytes(b"an earlier export")
    assert export(trained("mlp"), "--output", tmp_path, "--format", form) == 1
    assert "differs from PyTorch: prediction by 0.001 on an input of 40" in capsys.readouterr().err
    assert before.read_bytes() == b"an earlier export"
    assert list(tmp_path.iterdir()) == [before]


def test_missing_packages_are_named_with_the_remedy(trained: Any, monkeypatch: Any, capsys: Any):
    monkeypatch.setattr("triptych.results.export.formats.find_spec", lambda name: None)
    assert export(trained(CHEAPEST)) == 2
    error = capsys.readouterr().err
    assert "onnx, onnxscript, onnxruntime: make setup EXTRAS=export" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output", "file"], "file is a file: --output names a folder"),
        (
            ["--output", "file/below"],
            "the folder file/below cannot be made (Not a directory): name another with --output",
        ),
        (["--root", "."], "no folder "),
    ],
    ids=["file", "below a file", "no data"],
)
def test_a_user_error_gets_one_line(arguments: list[str], said: str, trained: Any, tmp_path: Path, capsys: Any):
    run = trained(CHEAPEST)
    capsys.readouterr()  # what the training said
    (tmp_path / "file").write_text("")
    assert export(run, "--format", "torch", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}")
    assert len(error.splitlines()) == 1


def test_a_data_set_without_serving_gets_one_clear_error(trained: Any, monkeypatch: Any, tmp_path: Path, capsys: Any):
    run = trained(CHEAPEST)
    capsys.readouterr()
    for module in data_sets().values():
        monkeypatch.delattr(module, "serving")
    assert export(run, "--format", "torch", "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert re.match(r"error: \w+ has no method `serving`, which says what goes into an exported model", error)
    assert len(error.splitlines()) == 1


def test_an_untraceable_network_is_one_clear_error(trained: Any, monkeypatch: Any, capsys: Any):
    from triptych.networks.mlp import Mlp

    run = trained("tabular")
    capsys.readouterr()  # what the training said
    monkeypatch.setattr(Mlp, "forward", lambda self, x: x[:, :1] if x.sum() > 0 else x[:, 1:2])
    assert export(run, "--format", "torch") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: torch.export cannot follow the model: ")
    assert len(error.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["denoise", "mirrored", "course"])
@forms
def test_exported_page_models_reproduce_predictions_at_any_size(
    form: str, name: str, exported: Any, trained: Any, tmp_path: Path
):
    model, run = runner(exported(name, form) / FILES[form]), trained(name)
    pages = tmp_path / "pages"
    pages.mkdir()
    # The torch.export program has a minimum page size, ONNX has none.
    for height, width in [(40, 64), (33, 90), (131, 57), *([(1, 1), (3, 70)] if form == "onnx" else [])]:
        page = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
        Image.fromarray(page).save(pages / f"{height}.png")
        (cleaned,) = model({"scan": np.stack([page, page])[:, None]})
        assert cleaned.shape == (2, 1, height, width)
        out = np.asarray(Image.open(predict(run, pages / f"{height}.png", tmp_path / "out") / f"{height}.png"))
        assert np.abs(cleaned * 255 - out).max() < 0.51


@pytest.mark.slow
@forms
def test_exported_xray_models_reproduce_predictions(
    form: str, exported: Any, trained: Any, data_root: Path, tmp_path: Path
):
    run = trained("pneumonia")
    model = runner(exported("pneumonia", form) / FILES[form])
    folder = data_root / "chest-xray-pneumonia" / "chest_xray" / "test"
    with (predict(run, folder, tmp_path / "out") / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        with Image.open(folder / row["file"]) as image:
            image.draft("L", (32, 32))
            probability, label = model({"xray": np.array(image.convert("L"))[None, None]})
        assert probability == pytest.approx([float(row["probability"])], abs=1e-4)
        assert ["NORMAL", "PNEUMONIA"][int(label[0])] == row["label"]
    card = (exported("pneumonia", form) / "README.md").read_text()
    assert "no medical device" in card
    assert "moved by up to" in card


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", "mlp", "periodic"])
@forms
def test_other_networks_and_scalings_can_be_exported(form: str, name: str, exported: Any):
    # An export is compared with the model before it is written.
    assert {path.name for path in exported(name, form).iterdir()} == {FILES[form], "README.md"}


def test_an_onnx_file_has_metadata_but_no_local_paths(exported: Any):
    path = exported("mlp", "onnx") / "model.onnx"
    facts = pytest.importorskip("onnxruntime").InferenceSession(path).get_modelmeta().custom_metadata_map
    assert json.loads(facts["ocean_proximity"])["INLAND"] == 1
    assert facts["network"] == "triptych.networks.mlp.Mlp"
    assert len(facts["data_fingerprint"]) == 16
    assert str(Path(__file__).parents[3]).encode() not in path.read_bytes()
