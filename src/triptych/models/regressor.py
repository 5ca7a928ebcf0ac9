"""A row of numbers in, a number out."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection

from triptych.models.base import Model, regression_loss
from triptych.models.metrics import R2
from triptych.networks.scaling import InputScaler, TargetScaler


class Regressor(Model):
    """Regression on tables: raw columns, float32 (N, columns) with NaN where missing, to values in their own unit.

    Scalers are part of the model and lie in its checkpoint. They, and the network where it has a ``fit``, see the
    training rows once before training (``training_rows`` of the DataModule) and no others.

    Args:
        network: a network that takes ``in_features`` columns and gives (N, outputs). Each output is trained by a loss
            of its own, and their mean is the prediction.
        feature_names: the columns.
        columns: lists of columns that the network is told by their numbers, each as an argument of that name.
        clip: whether predictions are kept within the range of the training targets.
        input_scaling: ``none``, ``minmax``, ``standard``, ``log`` or ``quantile``.
        loss: ``mse``, ``mae`` or ``huber``, of targets scaled to mean 0 and standard deviation 1.
        others: see Model and ``conf/model/_housing.yaml``.
    """

    def __init__(
        self,
        network: dict[str, Any],
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        feature_names: list[str],
        monitor: str | None = None,
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
        l1: float = 0.0,
        weight_decay: float = 0.0,
        input_scaling: str = "standard",
        loss: str = "mse",
        columns: dict[str, list[str]] | None = None,
        clip: bool = False,
    ) -> None:
        knobs: dict[str, Any] = {
            "activation": activation,
            "norm": norm,
            "dropout": dropout,
            "in_features": len(feature_names),
        }
        knobs |= {name: _numbers(name, wanted, feature_names) for name, wanted in (columns or {}).items()}
        super().__init__(network, optimizer, scheduler, knobs, monitor, l1, weight_decay)
        self.save_hyperparameters()
        self.input_scaler = InputScaler(len(feature_names), input_scaling)
        self.target_scaler = TargetScaler()
        self.clip = clip
        self.criterion = regression_loss(loss)

    def metrics_of_split(self) -> MetricCollection:
        return MetricCollection(
            {"rmse": MeanSquaredError(squared=False), "mae": MeanAbsoluteError(), "r2": R2()},
            compute_groups=False,
        )

    def setup(self, stage: str) -> None:
        if stage == "fit":
            # On a resumed run the checkpoint overwrites this with the same numbers.
            self.fit_scalers(*self.trainer.datamodule.training_rows())  # type: ignore[attr-defined]

    def fit_scalers(self, inputs: Tensor, targets: Tensor) -> None:
        """Learn scaling and embeddings from training rows (N, columns) and targets (N,)."""
        self.input_scaler.fit(inputs)
        self.target_scaler.fit(targets)
        if hasattr(self.network, "fit"):
            self.network.fit(self.input_scaler(inputs), self.target_scaler.transform(targets))

    def forward(self, rows: Tensor) -> Tensor:
        """(N, columns) -> scaled values (N, outputs)."""
        return self.network(self.input_scaler(rows))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.criterion(outputs, self.target_scaler.transform(targets)[:, None].expand_as(outputs))

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        metrics.update(self._values(outputs), targets)

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """``prediction`` (N,) in the target's unit."""
        return {"prediction": self._values(self(inputs))}

    def _values(self, outputs: Tensor) -> Tensor:
        """Outputs (N, outputs) -> predictions (N,) in the target's unit."""
        values = self.target_scaler.inverse(outputs.float().mean(dim=1))
        return self.target_scaler.clip(values) if self.clip else values


def _numbers(argument: str, wanted: Sequence[str], names: list[str]) -> list[int]:
    """Where the wanted columns stand among the names."""
    if unknown := [name for name in wanted if name not in names]:
        raise ValueError(f"model.columns.{argument}: no column {', '.join(unknown)}; there are {', '.join(names)}")
    return [names.index(name) for name in wanted]
