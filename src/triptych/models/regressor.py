"""The regressor for tables: rows of numbers in, predictions in the target's unit out."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection

from triptych.models.base import Model, regression_loss
from triptych.models.metrics import R2
from triptych.networks.scaling import InputScaler, TargetScaler


class Regressor(Model):
    """Regression on tables: raw columns, float32 (N, columns), NaN where missing, to values (N,) in the target's unit.

    The scalers are part of the model and saved in its checkpoint. They, and the network if it has a ``fit`` method, are
    fitted once before training, on the training rows only (``training_rows`` of the DataModule).

    Args:
        network: a network that takes ``in_features`` columns and returns (N, outputs). Each output is trained by its
            own loss, and their mean is the prediction.
        feature_names: names of the columns.
        columns: lists of column names by the network argument that receives their indices, such as ``place``.
        clip: whether predictions are clipped to the range of the training targets.
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
            # In a resumed run the checkpoint overwrites this with the same values.
            self.fit_scalers(*self.trainer.datamodule.training_rows())  # type: ignore[attr-defined]

    def fit_scalers(self, inputs: Tensor, targets: Tensor) -> None:
        """Fit the scalers, and the network's embeddings, to training rows (N, columns) and targets (N,)."""
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
        """Return the ``prediction`` (N,) in the target's unit."""
        return {"prediction": self._values(self(inputs))}

    def _values(self, outputs: Tensor) -> Tensor:
        """Outputs (N, outputs) -> predictions (N,) in the target's unit."""
        values = self.target_scaler.inverse(outputs.float().mean(dim=1))
        return self.target_scaler.clip(values) if self.clip else values


def _numbers(argument: str, wanted: Sequence[str], names: list[str]) -> list[int]:
    """Indices of the wanted columns among the names; ValueError if there is no such column."""
    if unknown := [name for name in wanted if name not in names]:
        raise ValueError(f"model.columns.{argument}: no column {', '.join(unknown)}; there are {', '.join(names)}")
    return [names.index(name) for name in wanted]
