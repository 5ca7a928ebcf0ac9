"""Loading the model of a run directory, which may be untrusted."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.tiny import Batches, fit, regressor, rows

from triptych import build
from triptych.data.catalogue import data_sets
from triptych.results import load_run

MODULE = next(iter(data_sets().values()))
DATA = {"_target_": f"{MODULE.__module__}.{MODULE.__name__}"}
MODEL = {"_target_": "triptych.models.regressor.Regressor"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The contents of the checkpoint of a trained model."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    fit(regressor(), Batches(rows(8)), folder).save_checkpoint(folder / "best.ckpt")
    return torch.load(folder / "best.ckpt", weights_only=True)


def directory(folder: Path, checkpoint: Any, data: Any = DATA, model: Any = MODEL) -> Path:
    """Write a run directory with this config and checkpoint."""
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"data": data, "model": model}))
    (folder / "checkpoints").mkdir()
    torch.save(checkpoint, folder / "checkpoints" / "best.ckpt")
    return folder


def test_a_loaded_run_has_model_data_and_config(checkpoint: dict[str, Any], tmp_path: Path):
    run = load_run(directory(tmp_path, checkpoint))
    assert run.directory == tmp_path
    assert run.config == {"data": DATA, "model": MODEL}
    assert type(run.datamodule) is MODULE
    assert not run.model.training
    torch.manual_seed(1)
    expected = regressor()
    expected.load_state_dict(checkpoint["state_dict"])
    inputs = rows(4)[0][0]
    assert torch.equal(run.model.predict(inputs)["prediction"], expected.eval().predict(inputs)["prediction"])


def test_custom_classes_require_trust(checkpoint: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "_packages", set(build._packages))
    run = directory(tmp_path, checkpoint, data={"_target_": "tests.tiny.Batches", "train": [], "held_out": []})
    with pytest.raises(ValueError, match="its package is not one of"):
        load_run(run)
    assert type(load_run(run, trust=["tests"]).datamodule).__name__ == "Batches"


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        ({"_target_": "os.system", "command": "touch ran"}, MODEL, "package"),
        ({"_target_": "torch.hub.load", "github": "a/b", "model": "c"}, MODEL, "kinds"),
        ({"_target_": "torch.nn.Linear"}, MODEL, "kinds LightningDataModule"),
        ({"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "."}, MODEL, "kinds LightningDataModule"),
        ({"_target_": ["os.system"]}, MODEL, "dotted path"),
        (DATA | {"depth": 3}, MODEL, "depth"),
        (DATA | {"_args_": [1]}, MODEL, "_args_"),
        (DATA, {"_target_": "torch.load", "f": "evil.pkl"}, "kinds"),
        (DATA, {"_target_": "torchmetrics.MeanSquaredError"}, "kinds LightningModule"),
        (DATA, {"_target_": None}, "dotted path"),
        ({"root": "/"}, MODEL, "not the config of a run"),
        ("text", MODEL, "not the config of a run"),
    ],
)
def test_a_config_may_only_name_data_and_model_classes(
    data: Any, model: Any, message: str, checkpoint: dict[str, Any], tmp_path: Path
):
    with pytest.raises(ValueError, match=message):
        load_run(directory(tmp_path, checkpoint, data, model))


class Evil:
    """Runs code when unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("place", ["callbacks", "hyper_parameters", "state_dict", "hparams_type"])
def test_a_checkpoint_runs_no_code(place: str, checkpoint: dict[str, Any], tmp_path: Path):
    run = directory(tmp_path, checkpoint | {place: {"a": Evil()}})
    with pytest.raises(ValueError, match="is not a checkpoint of this run"):
        load_run(run)
    (run / "checkpoints" / "best.ckpt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ValueError, match="is not a checkpoint of this run"):
        load_run(run)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"network": {"_target_": "os.system", "command": "touch ran"}},
        {"network": {"_target_": "torch.hub.load"}},
        {"network": None},
        {"feature_names": None},
        {"loss": "l2"},
    ],
)
def test_classes_named_by_a_checkpoint_obey_the_same_rules(
    change: dict[str, Any], checkpoint: dict[str, Any], tmp_path: Path
):
    wrong = checkpoint | {"hyper_parameters": dict(checkpoint["hyper_parameters"]) | change}
    with pytest.raises(ValueError, match="is not a checkpoint of this run"):
        load_run(directory(tmp_path, wrong))


def test_a_checkpoint_cannot_choose_the_instantiator(checkpoint: dict[str, Any], tmp_path: Path):
    named = {"_instantiator": "lightning.pytorch.cli.instantiate_module"}
    loaded = load_run(directory(tmp_path, checkpoint | {"hyper_parameters": checkpoint["hyper_parameters"] | named}))
    assert type(loaded.model).__name__ == "Regressor"


@pytest.mark.parametrize("damage", ["torn", "empty", "missing"])
def test_a_damaged_checkpoint_is_one_clear_error(damage: str, checkpoint: dict[str, Any], tmp_path: Path):
    run = directory(tmp_path, checkpoint)
    path = run / "checkpoints" / "best.ckpt"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 1000 if damage == "torn" else 0])
    with pytest.raises(ValueError, match=r"best\.ckpt"):
        load_run(run)


def test_the_last_checkpoint_can_be_loaded(checkpoint: dict[str, Any], tmp_path: Path):
    run = directory(tmp_path, checkpoint)
    with pytest.raises(ValueError, match=r"no checkpoint .*last\.ckpt"):
        load_run(run, checkpoint="last")
    (run / "checkpoints" / "best.ckpt").rename(run / "checkpoints" / "last.ckpt")
    assert load_run(run, checkpoint="last").directory == run
