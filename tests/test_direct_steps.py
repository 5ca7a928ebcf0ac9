"""Direct training steps do what Lightning's do, and leave to Lightning whatever is not the plain case."""

import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from tests.tiny import Batches, regressor, rows, trainer
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, IterableDataset

from triptych.direct_steps import HOOKS, use_direct_loop
from triptych.terminal import quiet_lightning


class Listener(Callback):
    """Records each hook of a step: its name, scalar arguments and outputs, Lightning's current hook, the gradients."""

    def __init__(self, hooks: tuple[str, ...] = HOOKS) -> None:
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


def train(
    folder: Path,
    direct: bool,
    module: LightningModule | None = None,
    data: LightningDataModule | None = None,
    **options: Any,
) -> Trainer:
    """Train two epochs of four steps, with direct steps or with those of Lightning."""
    torch.manual_seed(0)
    run = trainer(folder, **{"max_epochs": 2, "limit_val_batches": 0, **options})
    if direct:
        use_direct_loop(run)
    with quiet_lightning():
        run.fit(module or regressor(), datamodule=data or Batches(rows(4, 5, 6, 3)))
    return run


def weights(run: Trainer) -> dict[str, Tensor]:
    return run.lightning_module.state_dict()


def assert_same(found: Sequence[tuple[Any, ...]]) -> None:
    """Compare what Lightning's loop and the direct one left: the weights, then whatever else was recorded."""
    expected, actual = found
    assert all(torch.equal(expected[0][name], value) for name, value in actual[0].items())
    assert actual[1:] == expected[1:]


class Dicts(LightningModule):
    """Returns the loss in a dict; with ``skips``, the second batch of each epoch is skipped."""

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
def test_direct_steps_match_lightning_exactly(module: Any, options: dict[str, Any], tmp_path: Path):
    if module is SKIPS and options.get("gradient_clip_algorithm") == "value":
        module = Dicts  # torch fails to clip by value if there are no gradients
    found = []
    for direct in (False, True):
        listener = Listener()
        torch.manual_seed(1)
        run = train(tmp_path, direct, module(), callbacks=[listener], **options)
        found.append((weights(run), listener.heard, run.fit_loop.state_dict()))
    # Make sure that Lightning was not compared with itself.
    assert run.fit_loop.epoch_loop.direct == ("accumulate_grad_batches" not in options)
    assert {call[0] for call in found[1][1]} == set(HOOKS)
    assert_same(found)


class Validates(Dicts):
    """Also validates, and logs per step and per epoch; ``schedule`` configures a learning rate scheduler."""

    def __init__(self, schedule: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.schedule = schedule

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        output = super().training_step(batch, batch_idx)
        self.log("both", output["loss"], on_step=True, on_epoch=True)
        self.log("step", output["loss"], on_step=True, prog_bar=True)
        return output

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.log("behind", outputs["loss"], on_step=False, on_epoch=True)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        self.log("held_out", nn.functional.mse_loss(self.network(inputs)[:, 0], targets / 1e5))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), 0.1)
        if self.schedule is None:
            return optimizer
        scheduler = ReduceLROnPlateau(optimizer, patience=0) if "monitor" in self.schedule else StepLR(optimizer, 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **self.schedule}}


class Book(Logger):
    """A logger that keeps what is logged in memory."""

    name = version = "book"

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Any] = []

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.entries.append((step, metrics))


LENGTHS: list[dict[str, Any]] = [
    {},
    {"val_check_interval": 2},
    {"val_check_interval": 0.25},
    {"val_check_interval": 3, "check_val_every_n_epoch": None},
    {"check_val_every_n_epoch": 2},
    {"val_check_interval": "00:00:00:00"},
    {"max_steps": 5},
    {"max_steps": 5, "max_epochs": -1},
    {"limit_train_batches": 3},
    {"overfit_batches": 2},
    {"fast_dev_run": 3},
    {"num_sanity_val_steps": 1},
]
SCHEDULES: list[dict[str, Any]] = [
    {"interval": "step"},
    {"interval": "step", "frequency": 3},
    {"interval": "epoch"},
    {"interval": "epoch", "monitor": "held_out"},
    {"interval": "step", "monitor": "both"},
]


@pytest.mark.parametrize(
    ("schedule", "options"),
    [(None, options) for options in LENGTHS] + [(schedule, each) for schedule in SCHEDULES for each in LENGTHS[:2]],
    ids=str,
)
def test_validation_logging_and_schedules_match_lightning(
    schedule: dict[str, Any] | None, options: dict[str, Any], tmp_path: Path
):
    found = []
    for direct in (False, True):
        listener, book = Listener((*HOOKS, "on_validation_start", "on_validation_end", "on_train_epoch_end")), Book()
        torch.manual_seed(1)
        run = train(
            tmp_path,
            direct,
            Validates(schedule),
            Batches(rows(4, 5, 6, 3), rows(5)),
            **{"limit_val_batches": 1.0, "callbacks": [listener], "logger": book, "log_every_n_steps": 2, **options},
        )
        rate = run.optimizers[0].param_groups[0]["lr"]
        found.append(
            (weights(run), listener.heard, book.entries, run.fit_loop.state_dict(), rate, run.callback_metrics)
        )
    assert run.fit_loop.epoch_loop.direct == (schedule != {"interval": "step", "monitor": "both"})
    assert_same(found)
    assert found[1][2] or "fast_dev_run" in options  # in which Lightning logs nothing


class Ends(Dicts):
    """Ends each epoch after its second batch."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 2 else None


class EndsFirst(Validates):
    """Ends the first epoch after its second batch."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 2 and self.current_epoch == 0 else None


class Holes(Batches):
    """Has a batch that is None."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader([self.train[0], None, *self.train[1:]], batch_size=None)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch


class Endless(Batches):
    """Has a loader without a length, and transforms batches before and after their transfer."""

    def train_dataloader(self) -> Any:
        class Stream(IterableDataset[Any]):
            def __iter__(stream) -> Any:
                return iter(self.train)

        return DataLoader(Stream(), batch_size=None)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] + 1, batch[1]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] * 2, batch[1]


class Several(Batches):
    """Has two loaders; a step gets the sum of their batches."""

    def train_dataloader(self) -> Any:
        return {"first": super().train_dataloader(), "second": super().train_dataloader()}

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [one + other for one, other in zip(batch["first"], batch["second"], strict=True)]


class Fewer(Batches):
    """Has a loader that yields one batch fewer than its length says."""

    def train_dataloader(self) -> Any:
        class Stream(IterableDataset[Any]):
            def __len__(stream) -> int:
                return len(self.train)

            def __iter__(stream) -> Any:
                return iter(self.train[:-1])

        return DataLoader(Stream(), batch_size=None)


@pytest.mark.parametrize(
    ("module", "data", "steps"),
    [
        (Ends, Batches, 4),
        (Dicts, Holes, 8),
        (Dicts, Endless, 8),
        (Ends, Endless, 4),
        (Dicts, Several, 8),
        (Dicts, Fewer, 6),
    ],
)
def test_irregular_epochs_match_lightning(module: Any, data: Any, steps: int, tmp_path: Path):
    found = []
    for direct in (False, True):
        listener = Listener()
        torch.manual_seed(1)
        run = train(tmp_path, direct, module(), data(rows(4, 5, 6, 3)), callbacks=[listener])
        found.append((weights(run), listener.heard, run.fit_loop.state_dict()))
    assert run.fit_loop.epoch_loop.direct
    assert run.global_step == steps
    assert_same(found)


def test_validation_by_steps_can_fall_within_an_epoch(tmp_path: Path):
    found = []
    for direct in (False, True):
        listener = Listener((*HOOKS, "on_validation_start"))
        torch.manual_seed(1)
        every = {"val_check_interval": 4, "check_val_every_n_epoch": None, "limit_val_batches": 1.0}
        data = Batches(rows(4, 5, 6, 3), rows(5))
        run = train(tmp_path, direct, EndsFirst(), data, callbacks=[listener], **every)
        found.append((listener.heard, run.fit_loop.state_dict()))
    assert found[0] == found[1]
    assert [call[2] for call in found[1][0] if call[0] == "on_validation_start"] != [4]


class Accumulates(Callback):
    """Starts gradient accumulation in the middle of the first epoch."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            trainer.accumulate_grad_batches = 2


class Calls(Callback):
    """Adds another callback in the middle of the first epoch."""

    def __init__(self, other: Callback) -> None:
        self.other = other

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2 and self.other not in trainer.callbacks:  # type: ignore[attr-defined]
            trainer.callbacks.append(self.other)  # type: ignore[attr-defined]


@pytest.mark.parametrize("change", [lambda _: Accumulates(), Calls], ids=["accumulation", "callback"])
def test_changes_within_an_epoch_take_effect(change: Any, tmp_path: Path):
    found = []
    for direct in (False, True):
        torch.manual_seed(1)
        # Lightning calls a callback that is added while it iterates over them from the next hook on.
        listener = Listener(("on_train_batch_start", "on_before_backward"))
        given = [change(listener)] if change is Calls else [listener, change(listener)]
        run = train(tmp_path, direct, Dicts(), callbacks=given)
        found.append((weights(run), listener.heard, run.fit_loop.state_dict()))
    assert_same(found)
    assert len(found[1][1]) == (12 if change is Calls else 16)


def test_new_data_and_hooks_are_noticed_with_the_same_optimizer(tmp_path: Path):
    class Keeps(Dicts):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            self.kept = getattr(self, "kept", None) or torch.optim.SGD(self.parameters(), 0.1)
            return self.kept

    found = []
    for direct in (False, True):
        torch.manual_seed(1)
        module, heard = Keeps(), []
        run = train(tmp_path, direct, module, Endless(rows(4, 5, 6, 3)))
        run.fit_loop.max_epochs = 3
        module.on_after_backward = lambda heard=heard: heard.append(1)  # type: ignore[method-assign]
        with quiet_lightning():
            run.fit(module, datamodule=Batches(rows(4, 5)))
        found.append((weights(run), heard, run.fit_loop.state_dict()))
    assert_same(found)
    assert found[1][1] == [1, 1]


def test_hook_set_to_none_is_not_called(tmp_path: Path):
    module = Dicts()
    module.on_after_backward = None  # type: ignore[method-assign, assignment]
    assert train(tmp_path, direct=True, module=module).fit_loop.epoch_loop.direct


def test_batch_iterator_is_released_after_its_epoch(tmp_path: Path):
    """Loader workers live as long as the iterator does."""
    sources: list[Any] = []
    alive: list[int] = []

    class Tracked(Batches):
        def train_dataloader(self) -> Any:
            batches = self.train

            class Loader:
                def __len__(self) -> int:
                    return len(batches)

                def __iter__(self) -> Any:
                    source = (batch for batch in batches)
                    sources.append(weakref.ref(source))
                    return source

            return Loader()

    def count(*_: Any) -> None:
        alive.append(sum(source() is not None for source in sources))

    run = train(
        tmp_path, True, Dicts(), Tracked(rows(4, 5, 6, 3)), callbacks=[LambdaCallback(on_train_batch_start=count)]
    )
    assert run.fit_loop.epoch_loop.direct
    count()
    assert alive == [1] * 8 + [0]


def test_epoch_checkpoint_is_not_called_in_each_step(tmp_path: Path):
    by_epochs, by_steps = ModelCheckpoint(tmp_path / "a"), ModelCheckpoint(tmp_path / "b", every_n_train_steps=3)
    by_time = ModelCheckpoint(tmp_path / "c", train_time_interval=timedelta(0), save_top_k=-1)
    saved = [by_epochs, by_steps, by_time]
    run = train(tmp_path, True, Dicts(), callbacks=saved, enable_checkpointing=True)
    listeners = run.fit_loop.epoch_loop.listeners["on_train_batch_end"]
    assert [listener.func.__self__ for listener in listeners] == [by_steps, by_time]
    assert [len(list(Path(each.dirpath).iterdir())) for each in saved] == [1, 1, 8]


@pytest.mark.parametrize("direct", [False, True])
def test_logging_in_a_gradient_hook_works(direct: bool, tmp_path: Path):
    module = Dicts()
    module.network.weight.register_hook(lambda gradient: module.log("gradient", gradient.norm(), on_epoch=True))
    assert "gradient" in train(tmp_path, direct, module).callback_metrics


def test_resume_within_an_epoch_matches_lightning(tmp_path: Path):
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
    whole = train(tmp_path, True, Dicts(), callbacks=[keep], enable_checkpointing=True)
    found = []
    for direct in (False, True):
        listener = Listener()
        run = trainer(tmp_path, max_epochs=2, limit_val_batches=0, callbacks=[listener])
        if direct:
            use_direct_loop(run)
        with quiet_lightning():
            run.fit(Dicts(), datamodule=Batches(rows(4, 5, 6, 3)), ckpt_path=tmp_path / "step=3.ckpt")
        found.append((weights(run), listener.heard, run.fit_loop.state_dict()))
    assert run.fit_loop.epoch_loop.direct
    assert run.global_step == whole.global_step == 8
    assert_same(found)


@pytest.mark.parametrize("stop", ["should_stop", "received_sigterm"])
@pytest.mark.parametrize("step", [2, 3, 4])
def test_stopping_run_makes_no_further_step(stop: str, step: int, tmp_path: Path):
    found = []
    for direct in (False, True):

        def end(trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == step:
                setattr(trainer if stop == "should_stop" else trainer._signal_connector, stop, True)

        torch.manual_seed(1)
        module = Dicts()
        with nullcontext() if stop == "should_stop" else pytest.raises(SIGTERMException):
            train(tmp_path, direct, module, callbacks=[LambdaCallback(on_train_batch_end=end)])
        found.append((module.trainer.global_step, module.trainer.fit_loop.state_dict()))
    assert found[0] == found[1]
    assert found[1][0] == step


def test_plain_training_uses_direct_steps(tmp_path: Path):
    run = train(tmp_path, direct=True)
    assert run.fit_loop.epoch_loop.direct
    assert [hook for hook, listeners in run.fit_loop.epoch_loop.listeners.items() if listeners] == [
        "on_train_batch_end"
    ]
    assert run.global_step == 8


class NoNumber(Dicts):
    def training_step(self, batch: tuple[Tensor, Tensor]) -> Any:  # type: ignore[override]
        return super().training_step(batch, -1)


class OddNames(Dicts):
    def training_step(self, some: tuple[Tensor, Tensor], number: int) -> Any:  # type: ignore[override]
        self.numbers = [*getattr(self, "numbers", ()), number]
        return super().training_step(some, number)


def test_training_step_gets_the_arguments_it_accepts(tmp_path: Path):
    run = train(tmp_path, direct=True, module=(first := NoNumber()))
    assert run.global_step == 8
    second = OddNames()  # with the same Trainer
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
    """Calls its closure twice per step, although its signature declares it optional."""

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            closure()
        return super().step(closure)


class UnknownOptimizer(Dicts):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return Twice(self.parameters(), 0.1)


@pytest.mark.parametrize("kind", [OwnStep, OwnBackward, OwnZeroGrad, NeedsClosure, UnknownOptimizer])
def test_module_that_overrides_parts_of_the_step_is_left_to_lightning(kind: type[Dicts], tmp_path: Path):
    found = []
    for direct in (False, True):
        torch.manual_seed(1)
        found.append(train(tmp_path, direct, kind()))
    assert not found[1].fit_loop.epoch_loop.direct
    assert getattr(found[1].lightning_module, "stepped", kind in (NeedsClosure, UnknownOptimizer))
    assert all(torch.equal(weights(found[0])[name], value) for name, value in weights(found[1]).items())


class Scaling(MixedPrecision):
    """bfloat16 with loss scaling, which only float16 needs."""

    def __init__(self) -> None:
        super().__init__("bf16-mixed", "cpu")
        self.scaler = torch.amp.GradScaler("cpu")


class Halving(Precision):
    """Halves the gradient before each step."""

    def post_backward(self, tensor: Tensor, module: LightningModule) -> Tensor:  # type: ignore[override]
        for parameter in module.parameters():
            parameter.grad /= 2
        return super().post_backward(tensor, module)


@pytest.mark.parametrize("precision", [Scaling, Halving])
def test_custom_precision_is_left_to_lightning(precision: type[Precision], tmp_path: Path):
    found = []
    for direct in (False, True):
        torch.manual_seed(1)
        found.append(train(tmp_path, direct, Dicts(), plugins=[precision()]))
    assert not found[1].fit_loop.epoch_loop.direct
    assert all(torch.equal(weights(found[0])[name], value) for name, value in weights(found[1]).items())


def test_custom_strategy_is_left_to_lightning(tmp_path: Path):
    class Other(SingleDeviceStrategy):
        pass

    run = train(tmp_path, direct=True, strategy=Other(torch.device("cpu")))
    assert not run.fit_loop.epoch_loop.direct


class Later(Callback):
    """Runs a function at the start of the second epoch."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            self.what(trainer)


def test_clipping_set_later_takes_effect(tmp_path: Path):
    found = []
    for direct in (False, True):
        torch.manual_seed(1)
        clip = Later(lambda trainer: setattr(trainer, "gradient_clip_val", 1e-9))
        found.append(weights(train(tmp_path, direct, Dicts(), callbacks=[clip])))
    assert all(torch.equal(found[0][name], value) for name, value in found[1].items())


def test_callbacks_added_later_are_called(tmp_path: Path):
    """Lightning's batch size and learning rate finders first train without callbacks."""
    listener = Listener(("on_before_backward",))
    later = Later(lambda trainer: setattr(trainer, "callbacks", [*trainer.callbacks, listener]))
    for hook in HOOKS:
        setattr(later, hook, None)
    train(tmp_path, direct=True, callbacks=[later])
    assert [call[2] for call in listener.heard] == [4, 5, 6, 7]


def test_skipped_backward_is_left_to_lightning(tmp_path: Path):
    class Forward(Callback):
        def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
            trainer.fit_loop._skip_backward = True

    torch.manual_seed(1)
    module = Dicts()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    after = weights(train(tmp_path, direct=True, module=module, callbacks=[Forward()]))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_profiler_times_the_parts_of_lightnings_step(tmp_path: Path):
    run = train(tmp_path, direct=True, profiler="simple")
    assert not run.fit_loop.epoch_loop.direct
    assert "[Strategy]SingleDeviceStrategy.backward" in run.profiler.recorded_durations


def test_configure_gradient_clipping_of_a_module_is_called(tmp_path: Path):
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
def test_hook_of_a_module_is_called(hook: str, tmp_path: Path):
    module = Dicts()
    heard: list[str] = []
    setattr(module, hook, lambda *_: heard.append(hook))
    train(tmp_path, direct=True, module=module)
    assert heard == [hook] * 8


@pytest.mark.parametrize("direct", [False, True])
def test_training_step_without_a_loss_is_refused(direct: bool, tmp_path: Path):
    class NoLoss(Dicts):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
            return {"los": torch.ones(())}

    with pytest.raises(MisconfigurationException, match="'loss' key"):
        train(tmp_path, direct, NoLoss())


class InPlace(torch.autograd.Function):
    """Writes each loss to the same memory, as CUDA graphs do."""

    place = torch.zeros(())

    @staticmethod
    def forward(loss: Tensor) -> Tensor:
        return InPlace.place.detach().copy_(loss)

    @staticmethod
    def setup_context(*_: Any) -> None: ...

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient


def test_outputs_of_a_step_survive_the_next_step(tmp_path: Path):
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
