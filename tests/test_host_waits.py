"""No forward pass, loss or metric makes the host wait for the GPU; checked with fake CUDA tensors, without a GPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.pace import Parts
from hydra import compose, initialize_config_dir
from tests.harness import CONF, EXPERIMENTS, small
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HERE, THERE = "cpu", "cuda"
LOOKS = ("_linalg_check_errors", "_local_scalar_dense", "nonzero", "is_nonzero", "equal")
"""Operations whose result the host reads."""
COPIES = ("_to_copy", "copy_")


class Waits(TorchDispatchMode):
    """Records operations that make the host wait: values it reads, and copies between its memory and the GPU's."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function.__name__.partition(".")[0]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if name not in COPIES:
            tensors = [tensor for tensor in tensors if tensor.ndim]  # host scalars are passed along with the launch
        devices = {tensor.device.type for tensor in tensors}
        if devices and kwargs.get("device") is not None:
            devices.add(torch.device(kwargs["device"]).type)
        if name in LOOKS or devices == {HERE, THERE}:
            self.found.append(name)
        return function(*args, **kwargs)


def to_gpu(module: nn.Module, mode: FakeTensorMode) -> None:
    """Replace a module's parameters and buffers by fake CUDA tensors."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    there = on_gpu(tensor, mode)
                    tensors[name] = nn.Parameter(there) if isinstance(tensor, nn.Parameter) else there


def on_gpu(tensor: Tensor, mode: FakeTensorMode) -> Tensor:
    with mode:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=THERE)


def waits_of(module: nn.Module, *inputs: Tensor, mode: FakeTensorMode | None = None) -> list[str]:
    """Return the operations in a module's forward pass, in training mode, that make the host wait."""
    mode = mode or FakeTensorMode()
    to_gpu(module.train(), mode)
    given = [on_gpu(part, mode) for part in inputs]
    with mode, Waits() as waits:
        module(*given)
    return waits.found


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # torchmetrics copies its states
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_forward_pass_loss_and_metrics_of_an_experiment_never_wait(experiment: str, data_root: Path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        parts = Parts.of(compose("config", small(experiment, data_root)))
    model = parts.model()
    dataset: Any = parts.datamodule.datasets["train"]
    batch = parts.datamodule.prepare_batch(dataset.__getitems__([0, 1, 2, 3]), training=False)

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, inputs: Tensor, targets: Tensor) -> None:
            outputs = self.model(inputs)
            self.model.loss(outputs, targets)
            for metrics in (self.model.train_metrics, test_metrics):  # a classifier updates the latter in another way
                self.model.update_metrics(metrics, outputs, targets)

    with (mode := FakeTensorMode()), torch.device(THERE):
        model.train_metrics, test_metrics = model.metrics_of_split(), model.metrics_of_split()
    assert waits_of(Step(), *batch, mode=mode) == []


class Listed(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return rows[:, [0, 2]]


class Solved(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return torch.linalg.solve(rows @ rows.mT, rows)


class Sent(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return rows * torch.arange(3.0).to(rows.device)


class Read(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return rows.sum().cpu()


class Number(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return rows * torch.tensor(2.0).to(rows.device)


@pytest.mark.parametrize("module", [Listed, Solved, Sent, Read, Number])
def test_waiting_modules_are_detected(module: type[nn.Module]):
    assert waits_of(module(), torch.rand(3, 3)) != []


def test_module_without_waits_is_not_reported():
    assert waits_of(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()), torch.rand(5, 3)) == []
