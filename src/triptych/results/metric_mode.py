"""Tell whether larger or smaller values of a metric are better."""

LARGER_IS_BETTER = (
    "accuracy",
    "auroc",
    "f1",
    "precision",
    "psnr",
    "r2",
    "recall",
    "sensitivity",
    "specificity",
    "ssim",
)
SMALLER_IS_BETTER = ("brier", "ece", "loss", "mae", "mse", "rmse")


def mode_of(metric: str, monitor: str, mode: str) -> str | None:
    """Return ``min`` or ``max``: which values are better; None if neither the monitor nor the metric's name tells.

    Args:
        metric: its name, such as ``val/rmse``.
        monitor: the metric that the run monitors.
        mode: which values of the monitor are better, ``min`` or ``max``.
    """
    if metric.partition("/")[2] == monitor.partition("/")[2]:
        return mode
    for known, names in (("max", LARGER_IS_BETTER), ("min", SMALLER_IS_BETTER)):
        if any(word in names for word in metric.replace("/", "_").split("_")):
            return known
    return None
