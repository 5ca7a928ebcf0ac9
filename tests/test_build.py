"""Untrusted configs: which classes they can name, and which arguments they can pass."""

import inspect
import pickle
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.loggers import Logger
from torch import nn

from triptych import build as module
from triptych.build import HOMES, build, resolve, trust


@pytest.fixture(autouse=True)
def _no_lasting_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_packages", set(module._packages))
    monkeypatch.setattr(module, "_whole", set(module._whole))


@pytest.mark.parametrize(
    "target",
    [
        "torch.nn.Linear",
        "torch.optim.AdamW",
        "torch.optim.lr_scheduler.OneCycleLR",
        "torchmetrics.MeanSquaredError",
        "torchvision.transforms.v2.RandomHorizontalFlip",
        "lightning.pytorch.callbacks.EarlyStopping",
        "lightning.pytorch.loggers.TensorBoardLogger",
        "triptych.networks.mlp.Mlp",
        "triptych.models.regressor.Regressor",
    ],
)
def test_allowed_classes_of_every_kind_resolve(target: str):
    assert resolve(target).__name__ == target.rpartition(".")[2]


FUNCTIONS = [
    "torch.load",
    "torch.hub.load",
    "torch.save",
    "torch.jit.load",
    "torch.compile",
    "torch.utils.cpp_extension.load_inline",
    "torch.multiprocessing.spawn",
    "torchvision.models.resnet18",
    "lightning.pytorch.seed_everything",
    "triptych.run.run",
    "triptych.build.trust",
]
FOREIGN = ["os.system", "builtins.eval", "subprocess.Popen", "pathlib.Path", "hydra.utils.instantiate", "numpy.load"]
OTHER_CLASSES = [
    "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler",
    "torch.utils.data.DataLoader",
    "torch.package.PackageImporter",
    "torch.fx.Graph",
    "torch.Tensor",
    "lightning.pytorch.Trainer",
    "lightning.pytorch.cli.LightningCLI",
]
MADE_ELSEWHERE = [
    "torch.nn.modules.module.OrderedDict",
    "torch.serialization.pickle.Unpickler",
    "torch.serialization.os.system",
    "triptych.run.Path",
    "triptych.results.provenance.subprocess.Popen",
]
PRIVATE = [
    "torch.nn.Linear.__init__.__globals__",
    "torch.nn.Linear.__class__",
    "torch.__builtins__.eval",
    "torch.utils.bottleneck.__main__.main",
    "torch.nn.modules.conv._ConvNd",
    "torch._dynamo.eval_frame.OptimizedModule",
]
NOT_A_PATH = ["torch", "", ".", "torch.", ".torch.nn.Linear", "torch..nn", "torch.nn.Linear()", "torch.nn Linear"]
ABSENT = ["torch.nn.NoSuchLayer", "torch.no_such_module.Linear", "torch.nn.Linear.forward", "triptych.nowhere.Network"]


@pytest.mark.parametrize(
    "target", FUNCTIONS + FOREIGN + OTHER_CLASSES + MADE_ELSEWHERE + PRIVATE + NOT_A_PATH + ABSENT, ids=str
)
def test_everything_else_is_refused(target: str):
    with pytest.raises(ValueError, match="_target_"):
        resolve(target)


@pytest.mark.parametrize("target", [None, 3, True, b"torch.nn.Linear", ["torch.nn.Linear"], {"a": 1}, nn.Linear])
def test_non_string_target_is_refused(target: Any):
    with pytest.raises(ValueError, match="dotted path"):
        build({"_target_": target})


@pytest.mark.parametrize("config", [None, "torch.nn.Linear", ["torch.nn.Linear"], {}, {"in_features": 3}, 0])
def test_config_without_a_target_is_refused(config: Any):
    with pytest.raises(ValueError, match="_target_"):
        build(config)


def test_class_imported_from_an_untrusted_package_is_refused(monkeypatch: pytest.MonkeyPatch):
    class Stranger(nn.Module):
        """Looks as if a module of an allowed package had imported it from ``stranger``."""

    Stranger.__module__ = "stranger.networks"
    monkeypatch.setattr(torch.nn, "Stranger", Stranger, raising=False)
    with pytest.raises(ValueError, match=r"made in stranger\.networks"):
        resolve("torch.nn.Stranger")


def test_failing_import_gives_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "broken_project.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    trust(["broken_project"])
    with pytest.raises(ValueError, match="no licence"):
        resolve("broken_project.Net")


def test_kinds_can_be_restricted():
    assert resolve("torch.nn.Linear", (nn.Module,)) is nn.Linear
    with pytest.raises(ValueError, match="kinds LightningModule"):
        resolve("torch.nn.Linear", (LightningModule,))


AWAY = {
    "carries code": ["torch.fx.GraphModule", "torch.jit.ScriptModule", "torch.jit.RecursiveScriptModule"],
    "derives from one that does": ["torchvision.models.feature_extraction.DualGraphModule"],
    "comes from a file": ["torch.export.unflatten.UnflattenedModule", "torch.ao.nn.quantized.Linear"],
    "calls other machines": ["torch.distributed.nn.RemoteModule", "torch.distributed.optim.ZeroRedundancyOptimizer"],
    "writes where it likes": ["lightning.pytorch.callbacks.spike.SpikeDetection"],
    "sends to an account": [f"lightning.pytorch.loggers.{name}Logger" for name in ("Comet", "Neptune")],
    "fetches": [
        "torchmetrics.multimodal.CLIPScore",
        "torchmetrics.image.fid.FrechetInceptionDistance",
        "torchmetrics.text.bert.BERTScore",
        "lightning.pytorch.demos.mnist_datamodule.MNISTDataModule",
    ],
}


@pytest.mark.parametrize("target", [pytest.param(name, id=f"{why}: {name}") for why in AWAY for name in AWAY[why]])
def test_class_outside_the_homes_of_its_package_is_refused(target: str, record_property: Callable[[str, object], None]):
    with pytest.raises(ValueError, match=r"may carry code, fetch or send|there is no such class"):
        resolve(target)
    record_property("attacks refused", 1)


def test_trusted_package_is_allowed_as_a_whole():
    trust(["torch"])
    assert resolve("torch.fx.GraphModule").__name__ == "GraphModule"
    with pytest.raises(ValueError, match="_target_"):
        resolve("torch.load")


def test_allowed_callbacks_and_loggers_take_no_unchecked_path():
    """Paths of callbacks and loggers are set by the trainer, or are checked when a saved config is read."""
    known = {
        *("dirpath", "filename", "save_dir", "name", "version", "sub_dir", "prefix", "directory"),
        *("tracking_uri", "dir", "artifact_location", "checkpoint_name"),
    }
    homes = [import_module(f"lightning.{home}") for home in HOMES["lightning"]]
    classes = {found for home in homes for found in vars(home).values() if inspect.isclass(found)}
    named = {found for found in classes if issubclass(found, (Callback, Logger)) and is_allowed(found)}
    assert len(named) > 20
    for found in named:
        words = [
            name for name in inspect.signature(found).parameters if re.search("path|dir|file(?!_policy)|ur[il]", name)
        ]
        assert set(words) <= known, found


def is_allowed(found: type) -> bool:
    try:
        return resolve(f"{found.__module__}.{found.__name__}") is found
    except ValueError:
        return False


# Arguments


def test_callers_arguments_override_those_of_the_config():
    layer = build({"_target_": "torch.nn.Linear", "in_features": 2, "bias": True}, out_features=3, bias=False)
    assert layer.weight.shape == (3, 2)
    assert layer.bias is None


def test_positional_arguments_come_first():
    assert build({"_target_": "torch.nn.Linear", "out_features": 3}, 2).in_features == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_features": 2, "out_features": 3, "depth": 4}, "depth"),
        ({"in_features": 2}, "out_features"),
        ({"in_features": 2, "out_features": 3, 4: 5}, "4"),
    ],
)
def test_wrong_or_missing_arguments_are_named(arguments: dict[Any, Any], message: str):
    with pytest.raises(ValueError, match=rf"torch\.nn\.Linear: .*{message}"):
        build({"_target_": "torch.nn.Linear"} | arguments)


def test_argument_rejected_by_a_nested_call_is_named(monkeypatch: pytest.MonkeyPatch):
    class TakesAnyKeyword(nn.Module):
        def __init__(self, **arguments: Any) -> None:
            nn.Linear(2, 3, **arguments)

    TakesAnyKeyword.__module__ = "triptych.somewhere"
    monkeypatch.setattr(torch.nn, "TakesAnyKeyword", TakesAnyKeyword, raising=False)
    with pytest.raises(ValueError, match="depth"):
        build({"_target_": "torch.nn.TakesAnyKeyword", "depth": 4})


def test_error_inside_the_class_is_not_blamed_on_the_config():
    with pytest.raises(TypeError):
        build({"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": None})


@pytest.mark.parametrize("key", ["_args_", "_partial_", "_convert_", "_recursive_", "_target", "__class__"])
@pytest.mark.parametrize("target", ["torch.nn.Linear", "torchmetrics.MetricCollection"])
def test_special_keys_of_hydra_are_refused_even_with_kwargs(key: str, target: str):
    with pytest.raises(ValueError, match=key):
        build({"_target_": target, key: True})


def test_nested_target_is_not_instantiated():
    nested = {"_target_": "os.system", "command": "false"}
    callback = build({"_target_": "lightning.pytorch.callbacks.LambdaCallback", "on_fit_start": nested})
    assert callback.on_fit_start == nested


# Classes of allowed kinds that look as if they executed their arguments

CODE = "__import__('pathlib').Path('ran').touch()"


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("torch.fx.GraphModule", {"root": {}, "graph": CODE}),
        ("torch.fx.GraphModule", {"root": CODE, "graph": CODE, "class_name": CODE}),
        ("torch.jit.ScriptModule", {}),
        ("torch.jit.RecursiveScriptModule", {"cpp_module": "evil.pkl"}),
        ("torch.export.UnflattenedModule", {"export_module": "evil.pkl"}),
        ("torch.distributed.nn.RemoteModule", {"remote_device": "worker0/cpu", "module_cls": CODE, "args": [CODE]}),
        ("torch.distributed.optim.ZeroRedundancyOptimizer", {"params": [], "optimizer_class": CODE}),
        ("torchvision.transforms.Lambda", {"lambd": CODE}),
        ("torchvision.transforms.v2.Lambda", {"lambd": CODE}),
        ("torchmetrics.MetricCollection", {"metrics": {"a": CODE}}),
        ("torchmetrics.BootStrapper", {"base_metric": CODE}),
        ("torchmetrics.image.FrechetInceptionDistance", {"feature": CODE}),
        ("lightning.pytorch.callbacks.LambdaCallback", {"setup": CODE, "on_fit_start": CODE}),
        ("lightning.pytorch.callbacks.BackboneFinetuning", {"lambda_func": CODE}),
        ("lightning.pytorch.callbacks.ModelPruning", {"pruning_fn": CODE}),
        ("lightning.pytorch.loggers.CSVLogger", {"save_dir": "evil.pkl", "name": CODE}),
        ("lightning.pytorch.loggers.TensorBoardLogger", {"save_dir": "evil.pkl", "name": CODE}),
    ],
)
def test_arguments_are_never_executed(target: str, arguments: dict[str, Any], tmp_path: Path):
    class Evil:
        def __reduce__(self) -> Any:
            return eval, (CODE,)

    Path("evil.pkl").write_bytes(pickle.dumps(Evil()))
    with suppress(Exception):
        build({"_target_": target} | arguments)
    assert {path.name for path in tmp_path.iterdir()} == {"evil.pkl"}


# Trust


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_project.py").write_text("import torch\nclass Net(torch.nn.Module): ...\ndef load(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "own_project"


def test_package_is_allowed_once_trusted(own_package: str):
    with pytest.raises(ValueError, match="its package is not one of"):
        resolve("own_project.Net")
    assert "own_project" not in sys.modules, "a package that is not trusted must not even be imported"
    trust([own_package])
    assert resolve("own_project.Net").__name__ == "Net"
    with pytest.raises(ValueError, match="not a class"):
        resolve("own_project.load")


def test_trusted_package_still_gives_no_functions():
    trust(["os", "subprocess", "builtins"])
    for target in ("os.system", "subprocess.Popen", "builtins.eval"):
        with pytest.raises(ValueError, match="not a class of one of the kinds"):
            resolve(target)
