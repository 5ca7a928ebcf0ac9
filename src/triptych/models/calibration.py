"""Calibration of a binary classifier: temperature, bias and decision threshold."""

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_roc
from torchmetrics.utilities import dim_zero_cat

SPAN = 20
"""Temperatures are limited to the range from 1 / SPAN to SPAN."""


class Calibration(Metric):
    """Temperature, bias and threshold of a binary classifier, fitted to the logits (N,) and targets (N,) it receives.

    The logits are divided by the temperature, which corrects over- or underconfidence (Guo et al. 2017). Then the bias
    is added, so that the probabilities are right on average (Platt 1999). Both are the same for all samples and keep
    their ranking. The threshold maximises the sum of sensitivity and specificity (Youden 1950) of the calibrated
    probabilities.

    Args:
        prior: share of positives for which the probabilities are right on average; None: that of the samples received.
        threshold: ``youden``, or a fixed threshold.
        scaled: whether to fit temperature and bias; if not, they are 1 and 0, whatever the prior.
        options: arguments of ``torchmetrics.Metric``.
    """

    full_state_update = False
    logits: list[Tensor]
    targets: list[Tensor]

    def __init__(
        self, prior: float | None = None, threshold: str | float = "youden", scaled: bool = True, **options: Any
    ) -> None:
        super().__init__(**options)
        self.scaled = scaled
        self.prior = prior
        self.threshold = threshold
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        self.logits.append(logits.detach().float())
        self.targets.append(targets)

    def compute(self) -> dict[str, Tensor]:
        """Return ``temperature``, ``bias`` and ``threshold`` as scalar tensors."""
        logits, targets = dim_zero_cat(self.logits), dim_zero_cat(self.targets)
        temperature, bias = logits.new_tensor(1.0), logits.new_tensor(0.0)
        if self.scaled:
            temperature, bias = map(logits.new_tensor, platt_scaling(logits, targets))
            share = targets.float().mean()
            # With a single class nothing was fitted that could be shifted to the prior.
            if self.prior is not None and 0 < share < 1:
                bias = bias + logits.new_tensor(self.prior).logit() - share.logit()
        if self.threshold == "youden":
            threshold = youden((logits / temperature + bias).sigmoid(), targets)
        else:
            threshold = logits.new_tensor(self.threshold)
        return {"temperature": temperature, "bias": bias, "threshold": threshold}


def platt_scaling(logits: Tensor, targets: Tensor) -> tuple[float, float]:
    """The temperature and bias that maximise the likelihood of the targets (N,), 0 or 1, given the logits (N,).

    Targets are smoothed as if each class had one more sample of either label (Platt 1999). Otherwise, perfectly
    separated classes would get probabilities of exactly 0 and 1; and two samples, one of each class, get no more than
    1/3 and 2/3. If there is a single class, or the logits are all equal or not all finite, nothing can be fitted: the
    result is temperature 1 and bias 0, which leave the logits unchanged.
    """
    z = logits.cpu().double().numpy()  # in this order: Apple's GPUs have no float64
    positive = targets.cpu().numpy() == 1
    if not np.isfinite(z).all() or positive.all() or not positive.any() or np.ptp(z) == 0:
        return 1.0, 0.0
    count = positive.sum()
    soft = np.where(positive, (count + 1) / (count + 2), 1 / (len(z) - count + 2))
    # With standardised logits, slope and height hardly depend on each other.
    middle, unit = z.mean(), z.std()
    scaled = (z - middle) / unit

    def loss_and_gradient(line: np.ndarray) -> tuple[float, np.ndarray]:
        slope, height = line
        fitted = slope * scaled + height
        above = (1 + np.tanh(fitted / 2)) / 2 - soft
        return np.mean(np.logaddexp(0, fitted) - soft * fitted), np.array([np.mean(above * scaled), np.mean(above)])

    # The loss is convex in slope and height: its minimum within the bounds is unique. A positive slope keeps the order
    # of the samples.
    bounds = [(unit / SPAN, unit * SPAN), (None, None)]
    start = np.clip(1.0, *bounds[0]), np.log(soft.mean() / (1 - soft.mean()))
    options = {"ftol": 1e-14, "gtol": 1e-9}
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    slope, height = found.x
    return float(unit / slope), float(height - slope * middle / unit)


def youden(probabilities: Tensor, targets: Tensor) -> Tensor:
    """The threshold of the largest Youden index, half-way to the next lower probability (N,); positive is above it."""
    false_positives, true_positives, thresholds = binary_roc(probabilities, targets)
    best = int((true_positives - false_positives).argmax())
    below = thresholds[best + 1] if best + 1 < len(thresholds) else torch.zeros_like(thresholds[best])
    threshold = (thresholds[best].clamp(max=1) + below) / 2
    # The best probability itself must lie above the threshold, but the midpoint may be rounded up to it.
    return torch.where(threshold < thresholds[best], threshold, below)
