"""Metadata stored inside an exported file."""

from collections.abc import Mapping
from typing import Any

from triptych.results.provenance import versions
from triptych.results.record import Record
from triptych.results.report.text import printable
from triptych.results.untrusted import mapping


def metadata(record: Record, config: Mapping[str, Any], serving: Any) -> dict[str, str]:
    """Return names and text: run, model, data, monitor, versions, and the facts that the ``Serving`` states."""
    metrics = record.metrics
    data = mapping(metrics.get("data"))
    found = {
        "task": metrics.get("experiment"),
        "run": record.name,
        "model": config["model"]["_target_"],
        "network": mapping(config["model"].get("network")).get("_target_"),
        "data": config["data"]["_target_"],
        "data_source": data.get("source"),
        "data_split": data.get("split"),
        "data_fingerprint": data.get("fingerprint"),
        "monitor": record.monitor,
        "versions": " ".join(f"{name}={version}" for name, version in versions().items()),
    }
    return {name: printable(value) for name, value in found.items() if value} | dict(serving.facts)
