"""What all models share: losses over whole epochs, weight decay, optimizers, schedules, resuming, precision."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import Logger
from omegaconf import OmegaConf
from tests.tiny import (
    ADAM,
    CNN,
    CONSTANT,
    MLP,
    Batches,
    autoencoder,
    classifier,
    fit,
    measured,
    pages,
    regressor,
    rows,
    trainer,
    xrays,
)
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from triptych.models import metric_buffer
from triptych.models.base import Model, regression_loss
from triptych.models.metric_buffer import MAX_BATCHES
from triptych.models.regressor import Regressor
from triptych.progress_bar import ProgressBar
from triptych.results.history import History
from triptych.terminal import quiet_lightning

CONF = Path(__file__).parents[2] / "conf"
TABULAR = {"_target_": "triptych.networks.tabular.Tabular", "bins": 4, "embedding_size": 4, "width": 8, "depth": 1}
UNET = {"_target_": "triptych.networks.unet.UNet", "width": 4, "depth": 1}
RESNET = {"_target_": "triptych.networks.resnet.SmallResNet", "width": 4, "stages": 1}
STILL = {"_target_": "torch.optim.SGD", "lr": 0.0}


def choices(group: str) -> dict[str, dict[str, Any]]:
    files = sorted((CONF / group).glob("*.yaml"))
    trees = {path.stem: OmegaConf.merge({"mode": "min"}, {group: OmegaConf.load(path)}) for path in files}
    return {name: OmegaConf.to_container(tree, resolve=True)[group] for name, tree in trees.items()}  # type: ignore


OPTIMIZERS, SCHEDULERS = choices("optimizer"), choices("scheduler")


# Losses


@pytest.mark.parametrize(("name", "expected"), [("mse", (4 + 0.25) / 2), ("mae", 1.25), ("huber", (1.5 + 0.125) / 2)])
def test_regression_losses(name: str, expected: float):
    loss = regression_loss(name)(torch.tensor([2.0, 0.5]), torch.zeros(2))
    assert loss.item() == pytest.approx(expected)


def test_an_unknown_loss_names_the_choices():
    with pytest.raises(ValueError, match="mse, mae, huber"):
        regression_loss("l2")


def test_a_ragged_last_batch_is_weighted_by_its_size(tmp_path: Path):
    batches = rows(5, 1)
    model = regressor(optimizer=STILL)
    logged = fit(model, Batches(batches, batches), tmp_path).callback_metrics
    inputs, targets = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    with torch.no_grad():
        expected = model.loss(model(inputs), targets).item()
    assert logged["train/loss"].item() == pytest.approx(expected, rel=1e-5)
    assert logged["val/loss"].item() == pytest.approx(expected, rel=1e-5)


def test_training_metrics_see_every_buffered_batch(tmp_path: Path):
    batches = rows(*[3] * (2 * MAX_BATCHES), 2, 1)
    model = regressor(optimizer=STILL)
    logged = fit(model, Batches(batches, batches), tmp_path, max_epochs=2).callback_metrics
    assert not model.metric_buffer.batches
    for name in ("loss", "rmse", "mae", "r2"):
        assert logged[f"train/{name}"].item() == pytest.approx(logged[f"val/{name}"].item(), rel=1e-5, abs=1e-4)


def test_training_batches_of_different_sizes_are_all_measured(tmp_path: Path):
    batches = pages((8, 8), (8, 8), (12, 8), (8, 8))
    model = autoencoder(optimizer=STILL, norm="none")
    logged = fit(model, Batches(batches, batches), tmp_path).callback_metrics
    for name in ("loss", "rmse"):
        assert logged[f"train/{name}"].item() == pytest.approx(logged[f"val/{name}"].item(), rel=1e-5)


def test_training_metrics_of_a_truncated_epoch_cover_its_batches(tmp_path: Path):
    batches = rows(4, 4, 4, 4)
    model = regressor(optimizer=STILL)
    logged = fit(model, Batches(batches), tmp_path, max_steps=2).callback_metrics
    assert logged["train/rmse"].item() == pytest.approx(measured(model, batches[:2], tmp_path)["rmse"], rel=1e-5)


class Points(Logger):
    """Records the step and value of each logged training loss."""

    name = version = "points"

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[int, float]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if "train/loss_step" in metrics:
            self.points.append((step or 0, metrics["train/loss_step"]))

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...


@pytest.mark.parametrize(("every", "accumulated", "steps"), [(1, 1, range(8)), (3, 1, [2, 5]), (1, 4, [0, 1])])
def test_the_loss_of_every_nth_step_is_logged_once(every: int, accumulated: int, steps: Any, tmp_path: Path):
    points, losses = Points(), list[float]()
    listen = LambdaCallback(on_train_batch_end=lambda trainer, module, *_: losses.append(module.step_loss.item()))
    options = {"log_every_n_steps": every, "accumulate_grad_batches": accumulated, "callbacks": [listen]}
    run = fit(regressor(), Batches(rows(*[4] * 8)), tmp_path, logger=points, **options)
    assert points.points == [(step, losses[(step + 1) * accumulated - 1]) for step in steps]
    last = pytest.approx(points.points[-1][1])
    assert run.callback_metrics["train/loss_step"].item() == last
    assert run.progress_bar_metrics["train/loss_step"] == last


class Looks(TorchDispatchMode):
    """Records the batches at which a number is read from a tensor, which on a GPU synchronises host and device."""

    def __init__(self) -> None:
        super().__init__()
        self.trainer: Trainer | None = None
        self.seen: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.trainer and self.trainer.training and function is torch.ops.aten._local_scalar_dense.default:
            self.seen.add(self.trainer.fit_loop.batch_idx)
        return function(*args, **(kwargs or {}))


def test_no_step_between_logged_losses_synchronises_with_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metric_buffer, "MAX_BATCHES", 8)
    looks, points = Looks(), Points()
    begin = LambdaCallback(on_train_start=lambda trainer, _: setattr(looks, "trainer", trainer))
    options = {"log_every_n_steps": 5, "callbacks": [begin, ProgressBar()], "enable_progress_bar": True}
    with looks:
        # SGD, because Adam reads its step count, which lies on the host.
        fit(regressor(optimizer=STILL), Batches(rows(*[4] * 20)), tmp_path, logger=points, **options)
    assert [step for step, _ in points.points] == [4, 9, 14, 19]
    # Besides the logged steps, only where the metric buffer is flushed, and at the end of the epoch.
    assert looks.seen - {7, 15, 19} == {4, 9, 14}


def test_accumulated_gradients_are_averaged_also_in_an_epochs_smaller_last_group(tmp_path: Path):
    gradients: list[Tensor] = []

    class Look(Callback):
        def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            gradient = next(pl_module.parameters()).grad
            assert gradient is not None
            gradients.append(gradient.clone())

    model = regressor(optimizer={"_target_": "torch.optim.SGD", "lr": 0.0})
    same = rows(8) * 5
    fit(model, Batches(same), tmp_path, max_epochs=1, accumulate_grad_batches=3, callbacks=[Look()])
    first, last = gradients
    assert first.abs().sum() > 0
    torch.testing.assert_close(last, first)


def test_training_metrics_are_reset_each_epoch(tmp_path: Path):
    model = regressor(optimizer=STILL)
    first = fit(model, Batches(rows(4, 4)), tmp_path, max_epochs=1).callback_metrics["train/rmse"]
    third = fit(model, Batches(rows(4, 4)), tmp_path, max_epochs=3).callback_metrics["train/rmse"]
    assert first == third


def test_batch_hooks_are_looked_up_again_for_each_run(tmp_path: Path):
    """Lightning is asked once per run whether the model or the datamodule overrides them."""
    seen: list[str] = []

    class Counted(Batches):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            seen.append("data")
            return batch

    class Own(Regressor):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            seen.append("model")
            return batch

    model = regressor()
    model.__class__ = Own
    run = fit(model, Counted(rows(4, 4)), tmp_path)
    assert seen == ["model", "data"] * 2
    seen.clear()
    run.fit_loop.max_epochs = 2
    with quiet_lightning():
        run.fit(regressor(), datamodule=Batches(rows(4, 4)))
    assert (seen, run.global_step) == ([], 4)


# L1 and weight decay


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_l1_adds_the_absolute_sum_of_weights_only():
    (batch,) = rows(4)
    model = regressor(norm="layer")
    model.fit_scalers(*batch)
    plain = model.training_step(batch, 0)
    model.l1 = 0.1
    weights = [layer.weight for layer in model.network.modules() if isinstance(layer, nn.Linear)]
    assert len(weights) == 2
    added = model.training_step(batch, 0) - plain
    assert added.item() == pytest.approx(0.1 * sum(weight.abs().sum().item() for weight in weights), rel=1e-4)
    assert added > 0


def test_the_logged_loss_excludes_l1(tmp_path: Path):
    model = regressor(optimizer=STILL)
    plain = fit(model, Batches(rows(4)), tmp_path).callback_metrics["train/loss"]
    model.l1 = 10.0
    assert fit(model, Batches(rows(4)), tmp_path).callback_metrics["train/loss"] == plain


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "group"])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda **more: autoencoder(**more), id="autoencoder"),
        pytest.param(lambda **more: autoencoder(UNET, **more), id="unet"),
        pytest.param(lambda **more: classifier(CNN, **more), id="cnn"),
        pytest.param(lambda **more: classifier(RESNET, **more), id="resnet"),
        pytest.param(lambda **more: regressor(**more), id="mlp"),
        pytest.param(lambda **more: regressor(network=TABULAR, **more), id="tabular"),
    ],
)
def test_weight_decay_applies_to_weights_but_not_to_biases_and_norms(make: Any, norm: str):
    model: Model = make(norm=norm, weight_decay=0.3)
    decayed, others = model.make_optimizer().param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    names = {id(parameter): name for name, parameter in model.network.named_parameters()}
    assert {id(parameter) for group in (decayed, others) for parameter in group["params"]} == names.keys()
    assert decayed["params"]
    assert all(names[id(parameter)].endswith("weight") for parameter in decayed["params"])
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
    kept = {id(p) for layer in model.network.modules() if isinstance(layer, norms) for p in layer.parameters()}
    biases = {id(parameter) for name, parameter in model.network.named_parameters() if name.endswith("bias")}
    assert {id(parameter) for parameter in others["params"]} == kept | biases


# Optimizers and schedules


class LearningRates(Callback):
    """Records the learning rate of each step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, *others: Any) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def learning_rates(folder: Path, scheduler: dict[str, Any], optimizer: dict[str, Any] = ADAM, **options: Any) -> Any:
    rates = LearningRates()
    model = regressor(optimizer=optimizer, scheduler=scheduler, monitor="val/loss")
    fit(model, Batches(rows(8, 8), rows(8)), folder, **{"callbacks": [rates], "max_epochs": 10} | options)
    return rates.seen


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains_under_every_schedule(optimizer: str, scheduler: str, tmp_path: Path):
    torch.manual_seed(0)
    model = regressor(optimizer=OPTIMIZERS[optimizer], scheduler=SCHEDULERS[scheduler], monitor="val/loss")
    before = nn.utils.parameters_to_vector(model.parameters())
    run = fit(model, Batches(rows(8, 8), rows(8)), tmp_path, max_epochs=2)
    after = nn.utils.parameters_to_vector(model.parameters())
    assert run.global_step == 4
    assert after.isfinite().all()
    assert not torch.equal(before, after)
    assert run.callback_metrics["learning_rate"] <= OPTIMIZERS[optimizer]["lr"] * (1 + 1e-6)


def test_a_constant_schedule_keeps_the_learning_rate(tmp_path: Path):
    assert set(learning_rates(tmp_path, SCHEDULERS["constant"])) == {0.01}


def test_cosine_falls_from_the_learning_rate_to_zero(tmp_path: Path):
    rates = learning_rates(tmp_path, SCHEDULERS["cosine"])
    assert rates[0] == 0.01
    assert rates[10] == pytest.approx(0.005)
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.0002


def test_onecycle_warms_up_to_the_learning_rate_then_anneals(tmp_path: Path):
    rates = learning_rates(tmp_path, SCHEDULERS["onecycle"])
    assert rates[0] == pytest.approx(0.01 / 25)
    assert max(rates) == rates[3] == pytest.approx(0.01)
    assert rates[-1] < 1e-5


@pytest.mark.parametrize("steps", range(1, 8))
def test_onecycle_works_for_runs_of_any_length(steps: int, tmp_path: Path):
    rates = learning_rates(tmp_path, SCHEDULERS["onecycle"], max_epochs=-1, max_steps=steps)
    assert len(rates) == steps
    assert all(0 < rate <= 0.01 for rate in rates)


def test_a_schedule_counts_accumulated_batches_as_one_step(tmp_path: Path):
    rates = learning_rates(tmp_path, SCHEDULERS["cosine"], accumulate_grad_batches=2)
    assert rates[10] == pytest.approx(0.005)


@pytest.mark.parametrize("every", [1, 2])
def test_plateau_counts_validations_without_improvement(every: int, tmp_path: Path):
    # With mode=max a falling loss never counts as an improvement.
    plateau = SCHEDULERS["plateau"] | {"patience": 1, "mode": "max"}
    rates = learning_rates(tmp_path, plateau, max_epochs=8, check_val_every_n_epoch=every)[::2]
    halvings = [epoch for epoch in range(1, 8) if rates[epoch] < rates[epoch - 1]]
    assert halvings == {1: [3, 5, 7], 2: [6]}[every]


@pytest.mark.parametrize(("interval", "expected"), [(5, [5]), (1, [2, 3, 4, 5, 6, 7])])
def test_plateau_counts_validations_scheduled_by_steps(interval: int, expected: list[int], tmp_path: Path):
    # Two steps per epoch, validation at steps 5, 10 and 15: the first is an improvement, the second precedes epoch 5.
    plateau = SCHEDULERS["plateau"] | {"patience": 0, "mode": "max"}
    options = {"max_epochs": 8, "check_val_every_n_epoch": None, "val_check_interval": interval}
    rates = learning_rates(tmp_path, plateau, **options)[::2]
    assert [epoch for epoch in range(1, 8) if rates[epoch] < rates[epoch - 1]] == expected


def test_plateau_with_a_step_interval_is_refused(tmp_path: Path):
    model = regressor(scheduler=SCHEDULERS["plateau"] | {"interval": "step"}, monitor="val/loss")
    with pytest.raises(ValueError, match=r"set scheduler\.interval=epoch"):
        fit(model, Batches(rows(4), rows(4)), tmp_path)


@pytest.mark.parametrize("betas", [[0.9], [0.9, 0.99, 0.999], [0.9, 1.0], ["a", "b"], 0.9])
def test_invalid_betas_are_refused(betas: Any):
    with pytest.raises(ValueError, match=r"optimizer\.betas=.*: expected two numbers from 0 to below 1"):
        regressor(optimizer=OPTIMIZERS["adam"] | {"betas": betas}).make_optimizer()


def test_plateau_without_validation_is_refused(tmp_path: Path):
    model = regressor(scheduler=SCHEDULERS["plateau"], monitor="val/loss")
    with pytest.raises(ValueError, match="no validation split"):
        fit(model, Batches(rows(4)), tmp_path, limit_val_batches=0)


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("scheduler", ["cosine", "onecycle"])
def test_a_schedule_over_the_whole_run_needs_a_finite_run(scheduler: str, interval: str, tmp_path: Path):
    model = regressor(scheduler=SCHEDULERS[scheduler] | {"interval": interval})
    with pytest.raises(ValueError, match=r"no end: set trainer\.max_epochs"):
        fit(model, Batches(rows(4)), tmp_path, max_epochs=-1)


def test_a_schedule_shorter_than_the_run_is_refused_before_training(tmp_path: Path):
    short = regressor(scheduler=SCHEDULERS["onecycle"] | {"total_steps": 3})
    with pytest.raises(ValueError, match=r"total_steps=3: the run has 4; set as many at least, or auto"):
        fit(short, Batches(rows(4)), tmp_path, max_epochs=4)
    rates = learning_rates(tmp_path, SCHEDULERS["onecycle"] | {"total_steps": 400})
    assert rates == sorted(rates)


def test_a_schedule_can_count_epochs(tmp_path: Path):
    rates = learning_rates(tmp_path, SCHEDULERS["cosine"] | {"interval": "epoch"})
    assert rates[::2] == rates[1::2]
    assert rates[10] == pytest.approx(0.005)


@pytest.mark.parametrize("steps", [6, 5])  # at two steps per epoch
def test_an_epoch_schedule_ends_with_the_last_step(steps: int, tmp_path: Path):
    rates = learning_rates(tmp_path, SCHEDULERS["cosine"] | {"interval": "epoch"}, max_steps=steps)
    assert rates == pytest.approx([0.01, 0.01, 0.0075, 0.0075, 0.0025, 0.0025][:steps])


def test_torch_schedulers_and_optimizers_need_only_their_class(tmp_path: Path):
    rates = learning_rates(tmp_path, {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 5})
    assert rates == pytest.approx([0.01] * 10 + [0.001] * 10)
    rates = learning_rates(tmp_path, SCHEDULERS["onecycle"], {"_target_": "torch.optim.Adam"})
    assert max(rates) == pytest.approx(0.001)


# Resuming


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"activation": "tanh"}, r"model\.activation=tanh: a resumed run keeps its own, relu; start a new run"),
        ({"network": {**MLP, "depth": 2}}, r"model\.network\.depth=2: a resumed run keeps its own, 1;"),
        ({"loss": "mae"}, r"model\.loss=mae: .* mse;"),
    ],
)
def test_resuming_with_another_architecture_or_loss_is_refused(given: dict[str, Any], message: str, tmp_path: Path):
    fit(regressor(), Batches(rows(4)), tmp_path, max_epochs=1).save_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=message):
        fit(regressor(**given), Batches(rows(4)), tmp_path, resume_from=tmp_path / "last.ckpt", max_epochs=2)


def test_training_only_settings_may_change_on_resume(tmp_path: Path):
    fit(regressor(), Batches(rows(4)), tmp_path, max_epochs=1).save_checkpoint(tmp_path / "last.ckpt")
    other = regressor(dropout=0.5, l1=0.1, weight_decay=0.1, optimizer=ADAM | {"lr": 0.5})
    run = fit(other, Batches(rows(4)), tmp_path, resume_from=tmp_path / "last.ckpt", max_epochs=2)
    assert run.global_step == 2


# Batch norm


def test_batch_norm_with_a_batch_of_one_is_refused_before_training(tmp_path: Path):
    with pytest.raises(ValueError, match=r"model\.norm=layer"):
        fit(regressor(norm="batch"), Batches(rows(1, 1), batch_size=1), tmp_path)


@pytest.mark.parametrize("norm", ["none", "layer", "group"])
def test_every_other_norm_accepts_a_batch_of_one(norm: str, tmp_path: Path):
    assert fit(regressor(norm=norm), Batches(rows(1, 1), batch_size=1), tmp_path).global_step == 2


# Precision


@pytest.mark.parametrize(
    ("make", "data"),
    [
        pytest.param(autoencoder, Batches(pages((8, 8), (8, 8)), pages((5, 7))), id="autoencoder"),
        pytest.param(classifier, Batches(xrays(4, 4), xrays(4)), id="classifier"),
        pytest.param(regressor, Batches(rows(8, 8), rows(8)), id="regressor"),
    ],
)
def test_half_precision_training_predicts_in_single_precision(make: Any, data: Batches, tmp_path: Path):
    model: LightningModule = make()
    run = fit(model, data, tmp_path, precision="bf16-mixed", max_epochs=2)
    assert all(value.isfinite() for value in run.callback_metrics.values())
    answers: dict[str, Tensor] = model.eval().predict(data.held_out[0][0])  # type: ignore[operator]
    assert {values.dtype for values in answers.values()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "momentum", "muon", "sgd"])
def test_gradients_are_clipped_in_half_precision_for_every_optimizer(optimizer: str, tmp_path: Path):
    settings = {**OPTIMIZERS[optimizer], "lr": 0.01}
    run = fit(
        regressor(optimizer=settings), Batches(rows(8, 8)), tmp_path, precision="bf16-mixed", gradient_clip_val=1e-3
    )
    (fitted,) = run.optimizers
    norms = [parameter.grad.norm() for group in fitted.param_groups for parameter in group["params"]]
    assert torch.stack(norms).norm() == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize(("clip", "fused"), [(None, True), (1.0, False)])
def test_the_fused_kernel_is_off_when_scaled_gradients_are_clipped(clip: float | None, fused: bool):
    model = regressor(optimizer=OPTIMIZERS["adamw"])
    scaling = SimpleNamespace(scaler=object())
    model._trainer = SimpleNamespace(precision_plugin=scaling, gradient_clip_val=clip)  # type: ignore[assignment]
    assert model.make_optimizer().defaults["fused"] is fused


def test_parameter_count_counts_trainable_parameters():
    assert regressor().parameter_count() == (3 + 1) * 8 + (8 + 1)
    model = regressor()
    model.network.output.requires_grad_(False)
    assert model.parameter_count() == (3 + 1) * 8


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        (CONSTANT, [0.01, 0.01, 0.01]),
        (SCHEDULERS["cosine"] | {"interval": "epoch"}, [0.01, 0.0075, 0.0025]),
        # Six steps in three epochs: the rates of the second, fourth and sixth.
        (SCHEDULERS["cosine"], [0.01 * (1 + math.cos(math.pi * step / 6)) / 2 for step in (1, 3, 5)]),
        (SCHEDULERS["plateau"] | {"patience": 0, "factor": 0.1, "mode": "max"}, [0.01, 0.01, 0.001]),
    ],
)
def test_an_epoch_is_logged_with_the_learning_rate_of_its_last_step(
    scheduler: dict[str, Any], rates: list[float], tmp_path: Path
):
    history = History(tmp_path / "metrics.csv")
    model = regressor(scheduler=scheduler, monitor="val/loss")
    fit(model, Batches(rows(4, 4), rows(4)), tmp_path, max_epochs=3, logger=history)
    logged = [row["learning_rate"] for row in history.rows.values() if "learning_rate" in row]
    assert logged == pytest.approx(rates)


def test_a_trainer_reused_for_another_model_logs_its_own_metrics(tmp_path: Path):
    run = trainer(tmp_path, max_epochs=1)
    with quiet_lightning():
        run.fit(regressor(), datamodule=Batches(rows(4, 5), rows(3)))
        run.fit_loop.max_epochs = 2
        run.fit(classifier(), datamodule=Batches(xrays(4, 5), xrays(4)))
    assert {"train/accuracy", "val/accuracy", "val/loss"} <= set(run.callback_metrics)
    assert "val/rmse" not in run.callback_metrics
