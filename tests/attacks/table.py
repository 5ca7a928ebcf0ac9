"""The attacks through a run directory: what is poisoned, and which commands must refuse it.

The other commands do not read the poisoned part, or read it without harm, and succeed.
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
    data_used,
    linked,
    metrics,
    nested,
    pipe,
    removed,
    victims,
    written,
)

LOADERS = {"evaluate", "predict", "export"}
"""Commands that build the model and the data."""
TRAINERS = {"resume", "reproduce"}
"""Commands that build everything in the config."""
ONCE_MORE = {"reproduce"}
"""Reads the results of the run, but never its checkpoints."""
WRITERS = {"resume"}
"""Writes into the run directory, and reads its last checkpoint."""
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


def _kept(filename: str) -> dict[str, Any]:
    """A ModelCheckpoint beside the run's own, whose file name is checked to be ``best``."""
    return _class(f"{CALLBACKS}.ModelCheckpoint", filename=filename)


LAUGHS = "\n".join(
    [f"l0: &l0 [{'x,' * 9}]", *(f"l{n}: &l{n} [{f'*l{n - 1},' * 9}]" for n in range(1, 12)), "pool: *l11\n"]
)

CLASSES: dict[str, tuple[Poison, set[str]]] = {
    # Classes and functions that execute their arguments.
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
    "Weights & Biases in a stranger's account": (
        config("logger.wandb", _class(f"{LOGGERS}.WandbLogger", entity="stranger", log_model="all")),
        TRAINERS,
    ),
    "Weights & Biases with a stranger's key": (
        config("logger.wandb", _class(f"{LOGGERS}.WandbLogger", settings={"api_key": "strangers"})),
        TRAINERS,
    ),
    "a registry of models": (config("trainer.model_registry", "strangers"), TRAINERS),
}

PLACES: dict[str, tuple[Poison, set[str]]] = {
    # Paths and addresses where a run writes, deletes or connects.
    "checkpoint up and out": (config("callbacks.mine", _kept("../UP/made")), TRAINERS),
    "checkpoint elsewhere": (config("callbacks.mine", _kept("OUTSIDE/made")), TRAINERS),
    "checkpoint spelled by a format": (config("callbacks.mine", _kept("{epoch:/>9}")), TRAINERS),
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
    # File contents that attack their parser or the terminal.
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
    "deep metrics": (written("metrics.json", "[" * 100_000), LOADERS | ONCE_MORE),
    "metrics that are a list": (written("metrics.json", "[1]"), LOADERS | ONCE_MORE),
    "metrics of a number too large": (metrics(test={"test/rmse": 10**400}, best=[1], seconds=10**400), ONCE_MORE),
    "metrics of text": (
        metrics(test={"test/rmse": "[link=http://evil]x"}, best="x", seconds="x", epochs=None),
        ONCE_MORE,
    ),
    "metrics that ask for a download": (
        written("metrics.json", '{"data": {"root": "OUTSIDE/made/x", "source": "kaggle"}}'),
        LOADERS | ONCE_MORE,
    ),
    "metrics that are a pipe": (pipe("metrics.json"), BOTH),
    "an error that is a link to a secret": (linked("error.txt", "OUTSIDE/victim"), WRITERS),
}

LINKS: dict[str, tuple[Poison, set[str]]] = {
    f"{name} leads out": (linked(name, to), WRITERS)
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
    **{f"a pickle in the checkpoint's {place}": (_evil(place), LOADERS | WRITERS) for place in
       ("callbacks", "hyper_parameters", "state_dict", "loops", "optimizer_states", "hparams_type")},
    "a compressed checkpoint": (compressed, LOADERS | WRITERS),
    "a class in the hyperparameters": (
        _hyperparameters(network=SHELL | {"command": "touch ran"}),
        LOADERS | {"resume"},
    ),
    "a maker in the hyperparameters": (_hyperparameters(_instantiator="os.system"), set()),
    "weights of other shapes": (
        checkpoint(lambda content, _: content["state_dict"].update(
            {name: torch.zeros(3, 3, 3) for name in content["state_dict"]})),
        LOADERS | WRITERS,
    ),
    "no weights": (_content(state_dict={}), LOADERS | WRITERS),
    "a step that is text": (_content(global_step=SECRET[:3]), WRITERS),
    "loops that are text": (_content(loops="x"), WRITERS),
    "states of no optimizer": (_content(optimizer_states=[{"state": 1}]), WRITERS),
    "paths of files to delete": (checkpoint(victims), set()),
}  # fmt: skip

ESCAPE = "\x1b]0;pwned\x07\x1b[2J"
MARKUP = f"{ESCAPE}[link=http://evil]x[/link] [a](http://evil) <script>alert(1)</script> |"

AGAIN: dict[str, tuple[Poison, set[str]]] = {
    # Values that reproduce compares and repeats.
    "a resolver in the place of the data": (
        data_used(root="${oc.env:TRIPTYCH_SECRET}/california-housing-prices"),
        {"evaluate", "export"} | ONCE_MORE,
    ),
    "commands to the terminal in the fingerprint": (data_used(fingerprint=f"\ud800{ESCAPE}"), ONCE_MORE),
    "commands to the terminal in the place of the data": (
        data_used(root=f"/{ESCAPE}/x"),
        {"evaluate", "export"} | ONCE_MORE,
    ),
    "markup in all that is compared": (
        metrics(
            test={f"test/{MARKUP}": 1.0},
            git={"commit": MARKUP, "patch": MARKUP, "dirty": True, "left_out": [MARKUP]},
            versions={MARKUP: MARKUP, "torch": MARKUP},
            **dict.fromkeys(("experiment", "device", "lock", "precision"), MARKUP),
        ),
        set(),
    ),
    "metrics deeper than any run's": (metrics(git={"commit": nested(200)}), LOADERS | ONCE_MORE),
    "metrics as numerous as the drops of the sea": (metrics(best={f"val/{n}": 1 for n in range(2000)}), ONCE_MORE),
    "large metrics": (appended("metrics.json", " " * 5 * 2**20), LOADERS | ONCE_MORE),
    "threads without end": (metrics(threads=10**9), ONCE_MORE),
    "commands to the terminal in a choice": (
        written(".hydra/hydra.yaml", 'hydra: {runtime: {choices: {experiment: "\\e[2Jx"}}}'),
        TRAINERS,
    ),
    "markup in what it was resumed with": (written(".hydra/resume-1/overrides.yaml", f"[{MARKUP!a}]"), set()),
    "a config without an optimizer": (removed("optimizer"), TRAINERS),
    "a config without a seed": (removed("seed"), TRAINERS),
    "callbacks that are text": (config("callbacks", "x"), TRAINERS),
    "a trainer that is text": (config("trainer", "x"), TRAINERS),
    # Files that only resume writes and reads.
    "starts that are numbers": (written(".hydra/started.json", '{"starts": [1]}'), set()),
    "starts that are deep and large": (written(".hydra/started.json", "[" * 2**23), set()),
    "starts that are a pipe": (pipe(".hydra/started.json"), WRITERS),
    "a patch that is a pipe": (pipe(".hydra/code.patch"), WRITERS),
    "a patch that leads out": (linked(".hydra/code.patch", "OUTSIDE/victim"), WRITERS),
    "resumes that are text": (written(".hydra/resumed.json", '{"steps": "x"}'), set()),
}

EXPORTS: dict[str, tuple[Poison, set[str]]] = {
    # The output folder of export, and hyperparameters in a checkpoint.
    "the export leads out": (linked("export", "OUTSIDE"), {"export"} | WRITERS),
    "the export leads to nothing yet": (linked("export", "OUTSIDE/made"), {"export"} | WRITERS),
    "the export is a pipe": (pipe("export"), {"export"} | WRITERS),
    "commands to the terminal in the hyperparameters": (_hyperparameters(activation=ESCAPE), LOADERS | {"resume"}),
    "hyperparameters that fetch weights": (
        _hyperparameters(network=_class("torchmetrics.multimodal.CLIPScore", model_name_or_path=".")),
        LOADERS | {"resume"},
    ),
    "columns that the data lack": (_hyperparameters(feature_names=[MARKUP]), LOADERS),
    "columns that are numbers": (_hyperparameters(feature_names=3), LOADERS),
}
OWN = AGAIN | EXPORTS

ATTACKS = CLASSES | PLACES | TEXTS | LINKS | CHECKPOINTS | OWN

UNREAD = {
    attack for attack, (_, refusing) in ATTACKS.items() if refusing and refusing <= TRAINERS and attack not in OWN
}
"""Attacks irrelevant to export, which is slow where it does not refuse."""
DIFFERENT = {"markup in all that is compared"}
"""Attacks under which reproduce reports metrics that differ from the recorded ones."""
