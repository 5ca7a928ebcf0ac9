"""Each experiment end to end (fit, test, reload, evaluate), on tiny data sets in the real layout."""

import csv
import json
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from tests.harness import BEST, CONF, EXPERIMENTS, cheapest, small, train, without_pictures

from triptych.errors import UserError
from triptych.results import load_run
from triptych.results.evaluate import evaluate

RECORDED = {
    "experiment", "monitor", "best", "test", "epochs", "steps", "seconds", "memory_at_start_mb", "peak_memory_mb",
    "parameters", "data", "pruned", "resumed", "resumed_with", "seed", "threads", "git", "lock", "versions", "device",
    "hardware", "precision", "command",
}  # fmt: skip
MEASURED_ONCE = {
    "housing": {"test/coverage", "test/interval_width"},
    "pneumonia": {f"test/{name}_{end}" for name in ("auroc", "accuracy") for end in ("low", "high")},
}
"""Metrics that a callback adds at the end of a run's own test; ``evaluate`` does not compute them."""


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_trains_in_double_precision(experiment: str, data_root: Path, tmp_path: Path) -> None:
    short = ("trainer.precision=64-true", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "logger=none")
    metrics = train(tmp_path / "run", *small(experiment, data_root, *short))
    assert metrics["precision"] == "64-true"
    assert metrics["test"]["test/loss"] > 0
    weights = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)["state_dict"].values()
    assert {weight.dtype for weight in weights if weight.is_floating_point()} == {torch.float64}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_leaves_a_complete_run_directory(experiment: str, data_root: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    metrics = train(directory, *small(experiment, data_root, pictures=True))

    assert json.loads((directory / "metrics.json").read_text()) == metrics
    assert metrics.keys() == RECORDED
    assert (directory / "DONE").exists()
    assert {path.name for path in (directory / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    figures = sorted(path.name for path in (directory / "figures").iterdir())
    assert [name for name in figures if not name.startswith("test-")] == ["epoch-001.png", "epoch-002.png"]
    assert len(list(directory.glob("events.out.tfevents.*"))) == 1
    assert (Path("logs") / experiment / "latest").resolve() == directory.resolve()

    # The experiment logs its own monitor, and the results hold its best value.
    with (directory / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    monitored = [float(row[metrics["monitor"]]) for row in rows if row[metrics["monitor"]]]
    assert len(monitored) == metrics["epochs"] == 2
    best = max if load_run(directory).config["mode"] == "max" else min
    assert metrics["best"][metrics["monitor"]] == best(monitored)
    assert {name.partition("/")[0] for name in metrics["best"]} >= {"train", "val"}
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows}, key=int)

    # The reloaded model gives the same metrics.
    loaded = load_run(directory)
    again = evaluate(str(directory))
    once = MEASURED_ONCE.get(experiment, set())
    stored = {name: value for name, value in metrics["test"].items() if name not in once}
    assert {f"test/{name}": value for name, value in again.items()} == pytest.approx(stored, rel=1e-5)
    assert any(name.startswith("test-") for name in figures) == ("analysis" in loaded.config["callbacks"])
    assert set(metrics["test"]) >= once
    loaded.datamodule.setup()
    inputs, _ = loaded.datamodule.examples(2)
    with torch.inference_mode():
        answers = loaded.model.predict(inputs)
    assert all(torch.isfinite(values.float()).all() for values in answers.values())
    assert metrics["data"]["fingerprint"] == loaded.datamodule.describe()["fingerprint"]


@pytest.mark.parametrize("experiment", BEST)
def test_best_experiment_runs(experiment: str, data_root: Path, tmp_path: Path) -> None:
    quick = ("logger=none", "trainer.max_epochs=1", "trainer.limit_train_batches=2")
    metrics = train(tmp_path / "run", *small(experiment, data_root, *quick))
    assert metrics["best"][metrics["monitor"]] > 0
    assert metrics["experiment"] == experiment


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_same_seed_gives_identical_metrics(experiment: str, data_root: Path, tmp_path: Path) -> None:
    quick = ("logger=none", "trainer.max_epochs=1", "trainer.limit_train_batches=3")
    drawn = small(experiment, data_root, *quick, "callbacks.figures=null", "seed=1", pictures=True)
    one, same = (train(tmp_path / name, *drawn) for name in ("one", "same"))
    other = train(tmp_path / "other", *small(experiment, data_root, *quick, "seed=2"))
    assert one["best"] == same["best"]
    assert one["test"] == same["test"]
    assert one["best"]["train/loss"] != other["best"]["train/loss"]
    assert one["data"] == other["data"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_training_on_all_data_runs_without_validation_or_test(experiment: str, data_root: Path, tmp_path: Path) -> None:
    metrics = train(tmp_path / "run", *small(experiment, data_root, "data.split=all", "logger=none", pictures=True))
    assert metrics["test"] is None
    assert not list((tmp_path / "run/figures").glob("test-*"))
    assert metrics["epochs"] == 2
    assert metrics["data"]["sizes"]["val"] == metrics["data"]["sizes"]["test"] == 0
    best, last = (
        torch.load(tmp_path / f"run/checkpoints/{name}.ckpt", weights_only=True)["state_dict"]
        for name in ("best", "last")
    )
    assert all(torch.equal(best[name], last[name]) for name in last)


@pytest.mark.filterwarnings("error:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_averaged_weights_are_validated_tested_and_saved(experiment: str, data_root: Path, tmp_path: Path) -> None:
    mean = "+callbacks.mean={_target_: lightning.pytorch.callbacks.EMAWeightAveraging, decay: 0.9}"
    # Lightning copies the model before its setup, when the neighbours' network has no training rows yet.
    model = ["model=mlp"] if experiment == "housing" else []
    options = small(experiment, data_root, *model, mean, "logger=none")
    metrics = train(tmp_path / "run", *options)
    saved = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)
    stepped = saved["current_model_state"]
    assert any(not torch.equal(weight, stepped[name]) for name, weight in saved["state_dict"].items())
    # Recalibration in `evaluate` gives a classifier the values that were chosen for the averaged weights.
    validated = {f"val/{name}": value for name, value in evaluate(str(tmp_path / "run"), split="val").items()}
    assert validated == pytest.approx({name: metrics["best"][name] for name in validated}, rel=1e-4)
    again = evaluate(str(tmp_path / "run"))
    assert {f"test/{name}": value for name, value in again.items()} == pytest.approx(metrics["test"], rel=1e-5)
    chosen = {name: metrics["best"].get(f"val/{name}") for name in ("temperature", "bias", "threshold")}
    assert all(
        value == pytest.approx(float(saved["state_dict"][name])) for name, value in chosen.items() if value is not None
    )


MODELS = sorted(path.stem for path in (CONF / "model").glob("[!_]*.yaml"))
OPTIONS = [f"model={name}" for name in MODELS] + [
    f"{group}={path.stem}"
    for group in ("optimizer", "scheduler", "logger")
    for path in sorted((CONF / group).glob("[!_]*.yaml"))
    if path.stem not in ("wandb", "mlflow")  # optional extras, perhaps not installed
]


def _experiment_for(name: str) -> str | None:
    """An experiment whose default model is of the same kind as the named one, None if there is none."""
    family = next(line for line in (CONF / f"model/{name}.yaml").read_text().splitlines() if "defaults" in line)
    for experiment in EXPERIMENTS:
        text = (CONF / f"experiment/{experiment}.yaml").read_text()
        own = text.partition("override /model: ")[2].split()[0]
        if family in (CONF / f"model/{own}.yaml").read_text():
            return experiment
    return None


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_trains(option: str, data_root: Path, tmp_path: Path) -> None:
    group, _, name = option.partition("=")
    options = cheapest(data_root)
    if group == "model":
        experiment = _experiment_for(name)
        if experiment is None:
            pytest.skip("no experiment uses this kind of model")
        # At the network's own size: not all networks have a width.
        options = [part for part in small(experiment, data_root) if not part.startswith("model.network")]
    quick = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "test=false")
    metrics = train(tmp_path / "run", *options, *quick, option)
    assert metrics["steps"] == 2
    assert metrics["best"][metrics["monitor"]] is not None


@pytest.mark.parametrize("batch_size", ["1", "full"])
def test_batch_size_ranges_from_one_to_the_full_training_set(batch_size: str, data_root: Path, tmp_path: Path) -> None:
    if "housing" not in EXPERIMENTS:
        pytest.skip("the housing panel is not here")
    options = (f"data.batch_size={batch_size}", "trainer.max_epochs=1", "trainer.limit_train_batches=5", "logger=none")
    metrics = train(tmp_path / "run", *small("housing", data_root, *options))
    assert metrics["steps"] == (5 if batch_size == "1" else 1)


def test_finished_run_resumes_with_more_epochs(data_root: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    options = cheapest(data_root, "scheduler=constant", "logger=none")
    first = train(directory, *options)
    more = train(directory, *options, "trainer.max_epochs=3", resume_from=directory / "checkpoints/last.ckpt")
    assert (first["epochs"], more["epochs"]) == (2, 3)
    assert more["resumed"] == [first["steps"]]
    assert more["steps"] == first["steps"] * 3 / 2
    with (directory / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row[more["monitor"]]]) == 3
    assert len({row["step"] for row in rows}) == len(rows)


def test_run_needs_neither_callbacks_nor_loggers(data_root: Path, tmp_path: Path) -> None:
    options = [option for option in cheapest(data_root) if not option.startswith("callbacks.")]
    metrics = train(tmp_path / "run", *options, "~callbacks", "~logger", "trainer.max_epochs=1")
    assert metrics["test"]["test/loss"] > 0
    assert not list(tmp_path.glob("run/events.*"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("trainer.max_epochs=1", "Ask for more: trainer.max_epochs=N"),
        ("model.network.width=8", r"model\.network\.width=8: a resumed run keeps its own, "),
        ("model.activation=tanh", r"model\.activation=tanh: a resumed run keeps its own, \w+; start a new run"),
    ],
)
def test_resume_refuses_incompatible_overrides(more: str, message: str, data_root: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    options = cheapest(data_root, "logger=none")
    train(directory, *options, "trainer.max_epochs=3", "trainer.limit_train_batches=2")
    with pytest.raises(UserError, match=message):
        train(directory, *options, more, resume_from=directory / "checkpoints/last.ckpt")


@pytest.mark.parametrize("more", ["trainer.max_epochs=2", "trainer.max_epochs=1"])
def test_resume_refuses_another_split(more: str, data_root: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    options = cheapest(data_root, "logger=none", "trainer.max_epochs=1")
    first = train(directory, *options)
    with pytest.raises(UserError, match=r"other samples .* start a new run"):
        train(directory, *options, more, "data.split_seed=7", resume_from=directory / "checkpoints/last.ckpt")
    assert json.loads((directory / "metrics.json").read_text()) == first


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.root=/nowhere/at/all", "data.source=synthetic"),
        ("data.batch_size=1000000", "data.batch_size=full"),
        ("data.fold=7", "data.fold"),
        ("optimizer.lr=-1", "learning rate"),
        ("optimizer.betas=[0.9]", r"optimizer\.betas=\[0\.9\]: expected two numbers"),
        ("monitor=val/rsme", "did you mean"),
        ("monitor=val/loss mode=max", "worst epoch; set mode=min"),
        ("callbacks.early_stopping.monitor=val/lss", r"callbacks\.early_stopping\.monitor=val/lss is .* mean val/loss"),
        (
            "callbacks.early_stopping.monitor=val/loss callbacks.early_stopping.mode=max",
            r"callbacks\.early_stopping\.mode=min",
        ),
        ("callbacks.checkpoint.monitor=val/loss callbacks.checkpoint.mode=min", "set monitor=val/loss instead"),
        ("trainer.check_val_every_n_epoch=3", "the run has 2 epochs, and no validation"),
        ("trainer.limit_test_batches=0.001", r"limit_test_batches=0\.001: less than one of the"),
        ("trainer.accumulate_grad_batches=3 trainer.val_check_interval=2", "after every 2 batches would come between"),
        ("callbacks.checkpoint.filename=mine", "callbacks.checkpoint.filename=mine: expected best"),
        ("trainer.accelerator=gpu", "gpu"),
        ("model.activation=nope", "activation"),
        ("threads=0", "threads"),
        ("model.l1=-1", "l1"),
        ("data.cache_dir=${nope}", "nope"),
    ],
)
def test_user_error_is_reported_and_leaves_no_results(
    override: str, message: str, data_root: Path, tmp_path: Path
) -> None:
    if override == "trainer.accelerator=gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    folds = ["data.folds=2"] if "fold" in override else []
    with pytest.raises(UserError, match=f"(?i){message}"):
        train(tmp_path / "run", *cheapest(data_root, *folds, *override.split()))
    assert not (tmp_path / "run/DONE").exists()
    assert not (tmp_path / "run/metrics.json").exists()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.stem, marks=[pytest.mark.slow] if path.stem == "overfit" else [])
        for path in sorted((CONF / "debug").glob("*.yaml"))
    ],
)
def test_every_debug_config_runs(name: str, data_root: Path, tmp_path: Path) -> None:
    few = [] if name == "smoke" else ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
    own = ("data.source", "trainer.max_epochs", "model.network")
    options = [option for option in cheapest(data_root) if not option.startswith(own)]
    if name == "overfit":
        options += ["trainer.max_epochs=40"]  # of the hundred in debug=overfit
    metrics = train(tmp_path / "run", *options, f"debug={name}", *few, "logger=none")
    if name == "overfit":
        with (tmp_path / "run/metrics.csv").open() as file:
            losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
        assert losses[-1] < losses[0] / 5
    else:
        assert metrics["epochs"] == 2


@pytest.mark.real
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_runs_on_the_real_data_sets(experiment: str, tmp_path: Path) -> None:
    few = ("data.train_size=1000", "trainer.limit_train_batches=3", "trainer.limit_val_batches=2")
    quick = (*few, "trainer.limit_test_batches=2", "trainer.max_epochs=1", "threads=1", "logger=none")
    quick = (*quick, *without_pictures(experiment))
    metrics = train(tmp_path / "run", f"experiment={experiment}", "trainer=cpu", *quick)
    assert metrics["data"]["source"] == "files"
    assert metrics["best"][metrics["monitor"]] > 0
    assert (tmp_path / "run/DONE").exists()


def test_invalid_file_among_the_checkpoints_gets_one_message(data_root: Path, tmp_path: Path) -> None:
    options = cheapest(data_root, "trainer.max_epochs=1", "logger=none", "test=false")
    train(tmp_path / "run", *options)
    with ZipFile(tmp_path / "run/checkpoints/best.ckpt.kept", "w") as archive:
        archive.writestr("data.pkl", b"")
    with pytest.raises(UserError, match=r"best\.ckpt\.kept is not a checkpoint of this run"):
        train(tmp_path / "run", *options, resume_from=tmp_path / "run/checkpoints/last.ckpt")
