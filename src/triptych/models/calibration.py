"""Calibrated probabilities, and where to draw the line between the classes."""

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_roc
from torchmetrics.utilities import dim_zero_cat

SPAN = 20
"""Temperatures from 1 / SPAN to SPAN are considered."""


class Calibration(Metric):
    """Temperature, bias and threshold of a binary classifier, chosen on the logits (N,) and targets (N,) it is shown.

    The temperature divides the logits, so that the probabilities lose what they have too much of confidence, or too
    little (Guo et al. 2017). The bias is added then, so that they are right on average (Platt 1999). Being the same for
    all samples, both keep the ranking. The threshold has the largest sum of sensitivity and specificity
    (Youden 1950) by these probabilities.

    Args:
        prior: share of positives for which the probabilities are right on average; None: that of the samples shown.
        threshold: ``youden``, or the threshold itself, which is not chosen then.
        scaled: whether to choose temperature and bias; without, they are 1 and 0, whatever the prior.
        options: torchmetrics' own.
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
        """``temperature``, ``bias`` and ``threshold``, numbers."""
        logits, targets = dim_zero_cat(self.logits), dim_zero_cat(self.targets)
        temperature, bias = logits.new_tensor(1.0), logits.new_tensor(0.0)
        if self.scaled:
            temperature, bias = map(logits.new_tensor, platt_scaling(logits, targets))
            share = targets.float().mean()
            # Of one class alone nothing was learnt that could be moved.
            if self.prior is not None and 0 < share < 1:
                bias = bias + logits.new_tensor(self.prior).logit() - share.logit()
        if self.threshold == "youden":
            threshold = youden((logits / temperature + bias).sigmoid(), targets)
        else:
            threshold = logits.new_tensor(self.threshold)
        return {"temperature": temperature, "bias": bias, "threshold": threshold}


def platt_scaling(logits: Tensor, targets: Tensor) -> tuple[float, float]:
    """The temperature and bias under which the targets (N,), 0 or 1, are likeliest, given the logits (N,).

    Targets are moved towards a half by as much as one more sample of either class would (Platt 1999). Without that,
    classes that are told apart without an error would get probabilities of exactly 0 and 1; and two samples, one of
    each class, get no more than 1/3 and 2/3. Where the targets are of one class, or the logits all alike or not finite,
    nothing can be learnt: temperature 1 and bias 0, which leave the logits as they are.
    """
    z = logits.cpu().double().numpy()  # not the other way round: Apple's GPUs have no doubles
    positive = targets.cpu().numpy() == 1
    if not np.isfinite(z).all() or positive.all() or not positive.any() or np.ptp(z) == 0:
        return 1.0, 0.0
    count = positive.sum()
    soft = np.where(positive, (count + 1) / (count + 2), 1 / (len(z) - count + 2))
    # Around the logits' middle, in their own unit: slope and height then hardly depend on each other.
    middle, unit = z.mean(), z.std()
    scaled = (z - middle) / unit

    def loss_and_gradient(line: np.ndarray) -> tuple[float, np.ndarray]:
        slope, height = line
        fitted = slope * scaled + height
        above = (1 + np.tanh(fitted / 2)) / 2 - soft
        return np.mean(np.logaddexp(0, fitted) - soft * fitted), np.array([np.mean(above * scaled), np.mean(above)])

    # The loss is convex in slope and height: the minimum within the bounds is the only one. A slope above 0 keeps the
    # samples' order.
    bounds = [(unit / SPAN, unit * SPAN), (None, None)]
    start = np.clip(1.0, *bounds[0]), np.log(soft.mean() / (1 - soft.mean()))
    options = {"ftol": 1e-14, "gtol": 1e-9}
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    slope, height = found.x
    return float(unit / slope), float(height - slope * middle / unit)


def youden(probabilities: Tensor, targets: Tensor) -> Tensor:
    """The threshold above which a probability (N,) is called positive: Youden's, half-way to the next one below."""
    false_positives, true_positives, thresholds = binary_roc(probabilities, targets)
    best = int((true_positives - false_positives).argmax())
    below = thresholds[best + 1] if best + 1 < len(thresholds) else torch.zeros_like(thresholds[best])
    threshold = (thresholds[best].clamp(max=1) + below) / 2
    # The best one itself must lie above the threshold; half-way to its next neighbour may be rounded up to it.
    return torch.where(threshold < thresholds[best], threshold, below)
