"""Probabilities that are as often right as they say, and where to draw the line between the classes."""

import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_roc
from torchmetrics.utilities import dim_zero_cat

SPAN = 20
"""Temperatures from 1 / SPAN to SPAN are considered."""


class Calibration(Metric):
    """Temperature and threshold of a binary classifier, chosen on the logits (N,) and targets (N,) it is shown.

    The temperature (Guo et al. 2017) divides the logits, so that the probabilities lose what they have too much of
    confidence, or too little; no sample overtakes another. It takes back nothing that shifts all logits alike, as the
    class weights of the loss do. The threshold has the largest sum of sensitivity and
    specificity (Youden 1950) by these probabilities.
    """

    full_state_update = False
    logits: list[Tensor]
    targets: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        self.logits.append(logits.detach().float())
        self.targets.append(targets)

    def compute(self) -> dict[str, Tensor]:
        """``temperature`` and ``threshold``, numbers."""
        logits, targets = dim_zero_cat(self.logits), dim_zero_cat(self.targets)
        temperature = logits.new_tensor(fit_temperature(logits, targets))
        return {"temperature": temperature, "threshold": youden((logits / temperature).sigmoid(), targets)}


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature under which the targets (N,), 0 or 1, are likeliest, given the logits (N,).

    Targets are moved towards a half by as much as one more sample of either class would (Platt 1999). Without that,
    classes that are told apart without an error would get probabilities of exactly 0 and 1.
    """
    z = logits.double().cpu().numpy()
    if not np.isfinite(z).all():
        return 1.0  # training diverges
    positive = targets.cpu().numpy() == 1
    count = positive.sum()
    soft = np.where(positive, (count + 1) / (count + 2), 1 / (len(z) - count + 2))

    def loss(log_temperature: float) -> float:
        scaled = z / math.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - soft * scaled))

    # In the inverse of the temperature the loss is convex: the minimum within the bounds is the only one.
    found = minimize_scalar(loss, bounds=(-math.log(SPAN), math.log(SPAN)), method="bounded", options={"xatol": 1e-6})
    # Logits that are all 0 tell nothing.
    return math.exp(found.x) if found.fun < loss(0) else 1.0


def youden(probabilities: Tensor, targets: Tensor) -> Tensor:
    """The threshold above which a probability (N,) is called positive: Youden's, half-way to the next one below."""
    false_positives, true_positives, thresholds = binary_roc(probabilities, targets)
    best = int((true_positives - false_positives).argmax())
    below = thresholds[best + 1] if best + 1 < len(thresholds) else torch.zeros_like(thresholds[best])
    # The best one itself must lie above the threshold.
    return (thresholds[best].clamp(max=1) + below) / 2
