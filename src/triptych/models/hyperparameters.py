"""Check that a resumed run has the same model hyperparameters as its checkpoint."""

from collections.abc import Collection, Mapping
from typing import Any

MISSING = object()


def refuse_others(saved: Mapping[str, Any], now: Mapping[str, Any], changeable: Collection[str]) -> None:
    """Refuse a model that differs from the checkpoint's, even if its weights have the same names and shapes.

    Args:
        saved: the hyperparameters in the checkpoint.
        now: those of the model.
        changeable: names of the hyperparameters that may differ.

    Raises:
        ValueError: any other hyperparameter differs.
    """
    for name, was in saved.items():
        key, is_now = f"model.{name}", now.get(name, was)
        if name in changeable or is_now == was:
            continue
        while isinstance(is_now, dict) and isinstance(was, dict):
            inner = next(key for key in {**was, **is_now} if was.get(key, MISSING) != is_now.get(key, MISSING))
            key, is_now, was = f"{key}.{inner}", is_now.get(inner), was.get(inner)
        raise ValueError(f"{key}={is_now}: a resumed run keeps its own, {was}; start a new run to change it")
