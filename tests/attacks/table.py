"""The attacks on whoever is handed a run directory: what is poisoned, and which commands refuse it.

The other commands do not read what is poisoned, or read it without harm, and end well.
"""

from typing import Any

import torch
from tests.attacks.payloads import (
    SECRET,
    Evil,
    Poison,
    appended,
    checkpoint,
    compressed,
    config,
    linked,
    metrics,
    pipe,
    victims,
    written,
)

LOADERS = {"evaluate", "predict"}
"""Build the model and the data."""
TRAINERS = {"resume"}
"""Build all of the config, and write into the run directory."""
BOTH = LOADERS | TRAINERS

OPEN = {"_target_": "builtins.open", "file": "OUTSIDE/ran", "mode": "w"}
SHELL = {"_target_": "os.system", "command": "touch OUTSIDE/ran"}
CALLBACKS, LOGGERS = "lightning.pytorch.callbacks", "lightning.pytorch.loggers"


def _class(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"_target_": name, **arguments}


def _hyperparameters(**values: Any) -> Poison:
    return checkpoint(lambda content, _: content["hyper_parameters"].update(values))


def _content(**values: Any) -> Poison:
    return checkpoint(lambda content, _: content.update(values))


def _evil(place: str) -> Poison:
    return checkpoint(lambda content, outside: content.update({place: {"a": Evil(outside)}}))


LAUGHS = "\n".join(
    [f"l0: &l0 [{'x,' * 9}]", *(f"l{n}: &l{n} [{f'*l{n - 1},' * 9}]" for n in range(1, 12)), "pool: *l11\n"]
)

CLASSES: dict[str, tuple[Poison, set[str]]] = {
    # A class or function that runs what it is given.
    "data runs a program": (config("data", SHELL), BOTH),
    "data writes a file": (config("data", OPEN), BOTH),
    "data fetches a repository": (config("data", _class("torch.hub.load", repo_or_dir="OUTSIDE", model="m")), BOTH),
    "data unpickles a file": (config("data", _class("torch.load", f="OUTSIDE/evil.pkl", weights_only=False)), BOTH),
    "model runs a program": (config("model", SHELL | {"network": {}}), BOTH),
    "network runs a program": (config("model.network", SHELL), TRAINERS),
    "optimizer runs a program": (config("optimizer", SHELL), TRAINERS),
    "scheduler runs a program": (config("scheduler", SHELL | {"interval": "step"}), TRAINERS),
    "callback runs a program": (config("callbacks.extra", SHELL), TRAINERS),
    "logger runs a program": (config("logger.extra", SHELL), TRAINERS),
    "a class of the stranger's package": (config("callbacks.extra", _class("evil_project.Net")), TRAINERS),
    "a package that calls itself trusted": (config("packages", ["evil_project"]), set()),
    "data is a logger": (config("data", _class(f"{LOGGERS}.CSVLogger", save_dir="OUTSIDE/made")), BOTH),
    "network is a logger": (config("model.network", _class("triptych.results.history.History", path="x")), TRAINERS),
    "a module with code of its own": (
        config("model.network", _class("torch.fx.GraphModule", root={}, graph="import os")),
        TRAINERS,
    ),
    "a module that is a script": (
        config("model.network", _class("torch.jit.RecursiveScriptModule", cpp_module="OUTSIDE/evil.pkl")),
        TRAINERS,
    ),
    "a module on another machine": (
        config("model.network", _class("torch.distributed.nn.RemoteModule", remote_device="x", module_cls="y")),
        TRAINERS,
    ),
    "a metric that fetches weights": (
        config("model.network", _class("torchmetrics.multimodal.CLIPScore", model_name_or_path="OUTSIDE")),
        TRAINERS,
    ),
    "a callback that writes where it likes": (
        config("callbacks.extra", _class(f"{CALLBACKS}.spike.SpikeDetection", exclude_batches_path="train.py")),
        TRAINERS,
    ),
    "a logger of the stranger's account": (
        config("logger.extra", _class(f"{LOGGERS}.CometLogger", api_key="strangers")),
        TRAINERS,
    ),
}

PLACES: dict[str, tuple[Poison, set[str]]] = {
    # Where a run writes, deletes and calls.
    "checkpoint up and out": (config("callbacks.checkpoint.filename", "../UP/made"), TRAINERS),
    "checkpoint elsewhere": (config("callbacks.checkpoint.filename", "OUTSIDE/made"), TRAINERS),
    "checkpoint spelled by a format": (config("callbacks.checkpoint.filename", "{epoch:/>9}"), TRAINERS),
    "checkpoint's folder": (config("callbacks.last_checkpoint.dirpath", "OUTSIDE/made"), TRAINERS),
    "TensorBoard up and out": (config("logger.tensorboard.name", "UP/made"), TRAINERS),
    "TensorBoard elsewhere": (config("logger.tensorboard.version", "OUTSIDE/made"), TRAINERS),
    "TensorBoard in a home": (config("logger.tensorboard.sub_dir", "~/made"), TRAINERS),
    "CSVLogger deletes a file": (config("logger.extra", _class(f"{LOGGERS}.CSVLogger", name="UP/victim")), TRAINERS),
    "MLflow calls a stranger": (
        config("logger.mlflow", _class(f"{LOGGERS}.MLFlowLogger", tracking_uri="http://127.0.0.1:9/")),
        TRAINERS,
    ),
    "MLflow's database elsewhere": (
        config("logger.mlflow", _class(f"{LOGGERS}.MLFlowLogger", tracking_uri="sqlite:///UP/made.db")),
        TRAINERS,
    ),
    "Weights & Biases calls a stranger": (
        config("logger.wandb", _class(f"{LOGGERS}.WandbLogger", settings={"base_url": "http://127.0.0.1:9"})),
        TRAINERS,
    ),
    "Trainer's folder": (config("trainer.default_root_dir", "OUTSIDE/made"), TRAINERS),
    "Trainer's callbacks": (config("trainer.callbacks", [SHELL]), TRAINERS),
    "the cache elsewhere": (config("data.cache_dir", "OUTSIDE/made"), set()),
    "a download": (config("data.source", "kaggle"), set()),
    "an experiment above logs": (
        written(".hydra/hydra.yaml", "hydra: {runtime: {choices: {experiment: '..'}}}"),
        TRAINERS,
    ),
}

TEXTS: dict[str, tuple[Poison, set[str]]] = {
    # What a file's text does to its reader.
    "a resolver in a value": (config("monitor", "${oc.env:TRIPTYCH_SECRET}"), BOTH),
    "a resolver in a key": (appended(".hydra/config.yaml", "'${oc.env:TRIPTYCH_SECRET}': 1\n"), BOTH),
    "YAML that makes objects": (
        appended(".hydra/config.yaml", "x: !!python/object/apply:os.system [touch OUTSIDE/ran]\n"),
        BOTH,
    ),
    "a billion laughs": (appended(".hydra/config.yaml", LAUGHS), BOTH),
    "a billion laughs in the overrides": (written(".hydra/overrides.yaml", f"{LAUGHS}"), set()),
    "a deep config": (appended(".hydra/config.yaml", f"deep: {'[' * 30_000}"), BOTH),
    "a deep choice": (written(".hydra/hydra.yaml", "{hydra: " * 30_000), TRAINERS),
    "a large config": (appended(".hydra/config.yaml", "#" * 2**20), BOTH),
    "a config that is a device": (linked(".hydra/config.yaml", "/dev/zero"), BOTH),
    "a config that is a pipe": (pipe(".hydra/config.yaml"), BOTH),
    "commands to the terminal in a class's name": (config("data._target_", "a\x1b]0;pwned\x07.B"), BOTH),
    "commands to the terminal in a metric": (config("monitor", "\x1b[2Jpwned"), TRAINERS),
    "commands to the terminal in an error": (
        written("error.txt", "\x1b]0;pwned\x07 [link=http://evil]x[/link]"),
        set(),
    ),
    "commands to the terminal in an override": (written(".hydra/overrides.yaml", '["seed=\\e[2Jpwned"]'), set()),
    "deep metrics": (written("metrics.json", "[" * 100_000), LOADERS),
    "metrics that are a list": (written("metrics.json", "[1]"), LOADERS),
    "metrics of a number too large": (metrics(test={"test/rmse": 10**400}, best=[1], seconds=10**400), set()),
    "metrics of text": (metrics(test={"test/rmse": "[link=http://evil]x"}, best="x", seconds="x", epochs=None), set()),
    "metrics that ask for a download": (
        written("metrics.json", '{"data": {"root": "OUTSIDE/made/x", "source": "kaggle"}}'),
        LOADERS,
    ),
    "metrics that are a pipe": (pipe("metrics.json"), BOTH),
    "an error that is a link to a secret": (linked("error.txt", "OUTSIDE/victim"), TRAINERS),
}

LINKS: dict[str, tuple[Poison, set[str]]] = {
    f"{name} leads out": (linked(name, to), TRAINERS)
    for name, to in (
        ("train.log", "OUTSIDE/victim"),
        ("metrics.csv", "OUTSIDE/victim"),
        ("DONE", "OUTSIDE/victim"),
        ("checkpoints/last.ckpt", "OUTSIDE/moved.ckpt"),
        ("figures", "OUTSIDE"),
        (".hydra/resumed.json", "OUTSIDE/made"),
        (".hydra/resume-1", "OUTSIDE"),
        ("new", "UP"),
        ("dangling", "OUTSIDE/made"),
    )
}

CHECKPOINTS: dict[str, tuple[Poison, set[str]]] = {
    **{f"a pickle in the checkpoint's {place}": (_evil(place), BOTH) for place in
       ("callbacks", "hyper_parameters", "state_dict", "loops", "optimizer_states", "hparams_type")},
    "a compressed checkpoint": (compressed, BOTH),
    "a class in the hyperparameters": (_hyperparameters(network=SHELL | {"command": "touch ran"}), LOADERS),
    "a maker in the hyperparameters": (_hyperparameters(_instantiator="os.system"), set()),
    "weights of other shapes": (
        checkpoint(lambda content, _: content["state_dict"].update(
            {name: torch.zeros(3, 3, 3) for name in content["state_dict"]})),
        BOTH,
    ),
    "no weights": (_content(state_dict={}), BOTH),
    "a step that is text": (_content(global_step=SECRET[:3]), TRAINERS),
    "loops that are text": (_content(loops="x"), TRAINERS),
    "states of no optimizer": (_content(optimizer_states=[{"state": 1}]), TRAINERS),
    "paths of files to delete": (checkpoint(victims), set()),
}  # fmt: skip

ATTACKS = CLASSES | PLACES | TEXTS | LINKS | CHECKPOINTS
