"""A step written out does what Lightning's own does, and leaves to it what is not the plain case."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from tests.tiny import Batches, regressor, rows, trainer
from torch import Tensor, nn

from triptych.direct_optimization import HOOKS, write_out_steps
from triptych.terminal import quiet_lightning
from triptych.trainer import STEP_HOOKS


class Listener(Callback):
    """Notes each hook of a step: its name, its numbers, which hook Lightning believes to be in, the gradients."""

    def __init__(self, hooks: tuple[str, ...] = STEP_HOOKS) -> None:
        self.heard: list[Any] = []
        for hook in hooks:
            setattr(self, hook, self.listener(hook))

    def listener(self, hook: str) -> Any:
        def listen(trainer: Trainer, module: LightningModule, *arguments: Any) -> None:
            numbers = [value.item() for value in arguments if isinstance(value, Tensor)]
            outputs = [
                {name: float(value) for name, value in each.items()} for each in arguments if isinstance(each, dict)
            ]
            gradients = [None if each.grad is None else each.grad.sum().item() for each in module.parameters()]
            self.heard.append((hook, module._current_fx_name, trainer.global_step, numbers, outputs, gradients))

        return listen


def train(folder: Path, direct: bool, module: LightningModule | None = None, **options: Any) -> Trainer:
    """Two epochs of four steps."""
    torch.manual_seed(0)
    run = trainer(folder, max_epochs=2, limit_val_batches=0, **options)
    if direct:
        write_out_steps(run)
    with quiet_lightning():
        run.fit(module or regressor(), datamodule=Batches(rows(4, 5, 6, 3)))
    return run


def weights(run: Trainer) -> dict[str, Tensor]:
    return run.lightning_module.state_dict()


class Dicts(LightningModule):
    """Returns what it is told to; the second batch of an epoch is skipped."""

    def __init__(self, skips: bool = False) -> None:
        super().__init__()
        self.network = nn.Linear(3, 1)
        self.skips = skips

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        if self.skips and batch_idx == 1:
            return None
        inputs, targets = batch
        loss = nn.functional.mse_loss(self.network(inputs)[:, 0], targets / 1e5)
        return {"loss": loss, "size": len(inputs)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.1)


SKIPS = partial(Dicts, skips=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_clip_val": 0.01},
        {"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value"},
        {"precision": "64-true"},
        {"precision": "bf16-mixed"},
        {"accumulate_grad_batches": 3},
        {"detect_anomaly": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("module", [regressor, Dicts, SKIPS], ids=["model", "dicts", "skips"])
def test_nothing_but_the_speed_is_another(module: Any, options: dict[str, Any], tmp_path: Path):
    if module is SKIPS and options.get("gradient_clip_algorithm") == "value":
        module = Dicts  # torch has no values to clip where there is no gradient, and fails
    found = []
    for direct in (False, True):
        listener = Listener()
        torch.manual_seed(1)
        run = train(tmp_path, direct, module(), callbacks=[listener], **options)
        found.append((weights(run), listener.heard, run.fit_loop.state_dict()))
    # Now that Lightning was compared with something else, and not with itself.
    assert run.fit_loop.epoch_loop.automatic_optimization.direct
    (expected, expected_calls, progress), (actual, calls, other_progress) = found
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert {call[0] for call in calls} == set(STEP_HOOKS)
    assert calls == expected_calls
    assert progress == other_progress


def test_a_step_is_written_out_in_the_plain_case(tmp_path: Path):
    run = train(tmp_path, direct=True)
    assert run.fit_loop.epoch_loop.automatic_optimization.direct
    assert run.fit_loop.epoch_loop.automatic_optimization.heard == set()
    assert run.global_step == 8


class NoNumber(Dicts):
    def training_step(self, batch: tuple[Tensor, Tensor]) -> Any:  # type: ignore[override]
        return super().training_step(batch, -1)


class OddNames(Dicts):
    def training_step(self, some: tuple[Tensor, Tensor], number: int) -> Any:  # type: ignore[override]
        self.numbers = [*getattr(self, "numbers", ()), number]
        return super().training_step(some, number)


def test_a_training_step_is_given_what_it_takes(tmp_path: Path):
    run = train(tmp_path, direct=True, module=(first := NoNumber()))
    assert run.global_step == 8
    second = OddNames()  # in the same Trainer
    run.fit_loop.max_epochs = 3
    with quiet_lightning():
        run.fit(second, datamodule=Batches(rows(4, 5)))
    assert second.numbers == [0, 1]
    assert not hasattr(first, "numbers")


class OwnStep(Dicts):
    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        self.stepped = True
        super().optimizer_step(*arguments, **options)


class OwnBackward(Dicts):
    def backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:
        self.stepped = True
        super().backward(loss, *arguments, **options)


class OwnZeroGrad(Dicts):
    def optimizer_zero_grad(self, *arguments: Any, **options: Any) -> None:
        self.stepped = True
        super().optimizer_zero_grad(*arguments, **options)


class NeedsClosure(Dicts):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.parameters())


class Twice(torch.optim.SGD):
    """Looks at the loss twice a step, and says of its closure that it may be missing."""

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            closure()
        return super().step(closure)


class UnknownOptimizer(Dicts):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return Twice(self.parameters(), 0.1)


@pytest.mark.parametrize("kind", [OwnStep, OwnBackward, OwnZeroGrad, NeedsClosure, UnknownOptimizer])
def test_a_module_with_ways_of_its_own_keeps_them(kind: type[Dicts], tmp_path: Path):
    found = []
    for direct in (False, True):
        torch.manual_seed(1)
        found.append(train(tmp_path, direct, kind()))
    assert not found[1].fit_loop.epoch_loop.automatic_optimization.direct
    assert getattr(found[1].lightning_module, "stepped", kind in (NeedsClosure, UnknownOptimizer))
    assert all(torch.equal(weights(found[0])[name], value) for name, value in weights(found[1]).items())


class Scaling(MixedPrecision):
    """bfloat16 with a loss that is scaled as float16 needs it."""

    def __init__(self) -> None:
        super().__init__("bf16-mixed", "cpu")
        self.scaler = torch.amp.GradScaler("cpu")


class Halving(Precision):
    """Steps on half of the gradient."""

    def post_backward(self, tensor: Tensor, module: LightningModule) -> Tensor:  # type: ignore[override]
        for parameter in module.parameters():
            parameter.grad /= 2
        return super().post_backward(tensor, module)


@pytest.mark.parametrize("precision", [Scaling, Halving])
def test_another_precision_is_left_to_lightning(precision: type[Precision], tmp_path: Path):
    found = []
    for direct in (False, True):
        torch.manual_seed(1)
        found.append(train(tmp_path, direct, Dicts(), plugins=[precision()]))
    assert not found[1].fit_loop.epoch_loop.automatic_optimization.direct
    assert all(torch.equal(weights(found[0])[name], value) for name, value in weights(found[1]).items())


def test_another_strategy_is_left_to_lightning(tmp_path: Path):
    class Other(SingleDeviceStrategy):
        pass

    run = train(tmp_path, direct=True, strategy=Other(torch.device("cpu")))
    assert not run.fit_loop.epoch_loop.automatic_optimization.direct


class Later(Callback):
    """Does something at the start of the second epoch."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            self.what(trainer)


def test_a_clipping_that_comes_later_is_heeded(tmp_path: Path):
    found = []
    for direct in (False, True):
        torch.manual_seed(1)
        clip = Later(lambda trainer: setattr(trainer, "gradient_clip_val", 1e-9))
        found.append(weights(train(tmp_path, direct, Dicts(), callbacks=[clip])))
    assert all(torch.equal(found[0][name], value) for name, value in found[1].items())


def test_callbacks_that_come_later_are_heard(tmp_path: Path):
    """Lightning's finders of batch size and learning rate train without callbacks first."""
    listener = Listener(("on_before_backward",))
    later = Later(lambda trainer: setattr(trainer, "callbacks", [*trainer.callbacks, listener]))
    for hook in STEP_HOOKS:
        setattr(later, hook, None)
    train(tmp_path, direct=True, callbacks=[later])
    assert [call[2] for call in listener.heard] == [4, 5, 6, 7]


def test_a_run_that_skips_backward_is_left_to_lightning(tmp_path: Path):
    class Forward(Callback):
        def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
            trainer.fit_loop._skip_backward = True

    torch.manual_seed(1)
    module = Dicts()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    after = weights(train(tmp_path, direct=True, module=module, callbacks=[Forward()]))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_profiler_times_lightnings_own_parts(tmp_path: Path):
    run = train(tmp_path, direct=True, profiler="simple")
    assert not run.fit_loop.epoch_loop.automatic_optimization.direct
    assert "[Strategy]SingleDeviceStrategy.backward" in run.profiler.recorded_durations


def test_a_modules_own_clipping_is_asked(tmp_path: Path):
    class Clips(Dicts):
        def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
            for parameter in self.parameters():
                parameter.grad.zero_()

    torch.manual_seed(1)
    module = Clips()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    after = weights(train(tmp_path, direct=True, module=module))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_modules_own_hook_is_called(hook: str, tmp_path: Path):
    module = Dicts()
    heard: list[str] = []
    setattr(module, hook, lambda *_: heard.append(hook))
    train(tmp_path, direct=True, module=module)
    assert heard == [hook] * 8


@pytest.mark.parametrize("direct", [False, True])
def test_what_is_no_loss_is_refused(direct: bool, tmp_path: Path):
    class NoLoss(Dicts):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
            return {"los": torch.ones(())}

    with pytest.raises(MisconfigurationException, match="'loss' key"):
        train(tmp_path, direct, NoLoss())


class InPlace(torch.autograd.Function):
    """Gives the loss at the same place in memory each time, as CUDA graphs do."""

    place = torch.zeros(())

    @staticmethod
    def forward(loss: Tensor) -> Tensor:
        return InPlace.place.detach().copy_(loss)

    @staticmethod
    def setup_context(*_: Any) -> None: ...

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient


def test_what_is_kept_of_a_step_does_not_change_with_the_next(tmp_path: Path):
    kept: list[Tensor] = []

    class Keep(Callback):
        def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, *_: Any) -> None:
            kept.append(outputs["loss"])

    class Graphed(Dicts):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
            return InPlace.apply(super().training_step(batch, batch_idx)["loss"])

    train(tmp_path, direct=True, module=Graphed(), callbacks=[Keep()])
    assert len({loss.item() for loss in kept}) == 8
    assert not any(loss.requires_grad for loss in kept)
