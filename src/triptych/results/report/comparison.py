"""Comparison of runs: which may be ranked together, their ranking, and means over seeds and folds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from triptych.results.metric_mode import mode_of
from triptych.results.record import Record
from triptych.results.report.settings import REPEATS, Settings, same, swept
from triptych.results.report.text import join_first, printable, shortened
from triptych.results.untrusted import mapping


@dataclass(frozen=True)
class Group:
    """Runs whose settings are the same except for seed and fold.

    Attributes:
        settings: the swept settings, without seed and fold.
        records: all runs, whatever their state.
        values: the monitor of the runs that are done.
        tests: the test metric of the runs that are done and have one.
    """

    settings: Settings
    records: list[Record]
    values: list[float]
    tests: list[float]


@dataclass(frozen=True)
class Ranking:
    """Runs that may be ranked together.

    Attributes:
        title: what distinguishes their data; empty if there is only one ranking.
        monitor: the metric to rank by.
        mode: ``min`` or ``max``: which values are better.
        records: the runs, whatever their state.
    """

    title: str
    monitor: str
    mode: str
    records: list[Record]

    @cached_property
    def settings(self) -> dict[Path, Settings]:
        """The settings in which these runs differ, by run directory."""
        return swept(self.records)

    @property
    def keys(self) -> list[str]:
        """The names of the swept settings."""
        return list(next(iter(self.settings.values()), {}))

    @cached_property
    def parameters(self) -> list[str]:
        """The swept settings without seed and fold; of settings that always change together only the first."""
        seen: dict[tuple[int | str, ...], str] = {}
        for key in self.keys:
            if key not in REPEATS:
                values = [same(settings[key]) for settings in self.settings.values()]
                # If no value occurs twice, as in a search, nothing tells which settings change together: keep all.
                parted = [values.index(value) for value in values] if len(set(values)) < len(values) else [key]
                seen.setdefault(tuple(parted), key)
        return list(seen.values())

    @property
    def test_metric(self) -> str:
        """The monitor's counterpart on the test split; empty if no run has it or it is the monitor itself."""
        name = f"test/{self.monitor.partition('/')[2]}"
        return "" if name == self.monitor or not any(record.test(name) is not None for record in self.records) else name

    def value(self, record: Record) -> float | None:
        """Return the run's value of the monitor; None if the run has not ended normally or lacks it."""
        return metric(record, self.monitor) if record.ended else None

    @cached_property
    def ranked(self) -> list[Record]:
        """The runs that have a value of the monitor, the best first."""
        valued = [record for record in self.records if self.value(record) is not None]
        return sorted(valued, key=lambda record: self.value(record) or 0.0, reverse=self.mode == "max")

    @cached_property
    def groups(self) -> list[Group]:
        """The runs grouped by settings without seed and fold, the best mean first, groups without a value last."""
        parted: dict[tuple[Any, ...], list[Record]] = {}
        for record in self.records:
            settings = self.settings[record.directory]
            parted.setdefault(tuple(same(settings[key]) for key in self.keys if key not in REPEATS), []).append(record)
        groups = [self._group(records) for records in parted.values()]
        sign = -1 if self.mode == "max" else 1
        return sorted(groups, key=lambda group: sign * statistics.fmean(group.values) if group.values else float("inf"))

    def _group(self, records: list[Record]) -> Group:
        settings = self.settings[records[0].directory]
        done = [record for record in records if record.state == "done"]
        return Group(
            {key: value for key, value in settings.items() if key not in REPEATS},
            records,
            [value for record in done if (value := self.value(record)) is not None],
            [value for record in done if self.test_metric and (value := record.test(self.test_metric)) is not None],
        )

    @property
    def repeated(self) -> bool:
        """Whether any group has more than one run."""
        return any(len(group.records) > 1 for group in self.groups)


@dataclass(frozen=True)
class Comparison:
    """A set of runs, split into rankings of comparable runs.

    Attributes:
        records: all runs.
        rankings: one for each set of data, or one for all.
        differences: what differs between the data of the runs, a line each; empty if nothing does.
    """

    records: list[Record]
    rankings: list[Ranking]
    differences: list[str]

    @property
    def mixed(self) -> bool:
        """Whether runs on different data are ranked together."""
        return bool(self.differences) and len(self.rankings) == 1

    @cached_property
    def labels(self) -> dict[Path, str]:
        """The label of each run by its directory; see ``labels_of``."""
        return labels_of(self.records)

    @property
    def unfinished(self) -> list[Record]:
        """The runs that diverged, failed or were interrupted."""
        return [record for record in self.records if not record.ended]


def compare(
    records: Sequence[Record],
    monitor: str | None = None,
    mode: str | None = None,
    mixed: bool = False,
    apart: bool = False,
) -> Comparison:
    """Rank runs, after checking which may be ranked together.

    Args:
        records: the runs.
        monitor: the metric to rank by; None for the one that the runs monitored.
        mode: ``min`` or ``max``: which values are better; None to infer it from the metric.
        mixed: rank runs on different data together.
        apart: rank runs on different data, or with different monitors, separately.

    Raises:
        ValueError: the data differ without ``mixed`` or ``apart``, the monitors differ without ``monitor`` or
            ``apart``, no run has the monitor, or nothing tells which of its values are better.
    """
    records = list(records)
    ended = [record for record in records if record.ended]
    if monitor is not None and ended and all(metric(record, monitor) is None for record in ended):
        known = dict.fromkeys(name for record in ended for name in metric_names(record))
        raise ValueError(f"no run has the metric {monitor}: choose one of {', '.join(known)}")
    kinds = _kinds(ended, monitor)
    labels = labels_of(records)
    differences = _differences(kinds, labels)
    parted: dict[tuple[str, ...], list[Record]] = {}
    for record in ended:
        parted.setdefault(tuple(kinds[record.directory].values()), []).append(record)
    if len(parted) <= 1:
        return Comparison(records, [_ranking("", records, monitor, mode)], [])
    if apart:
        titles = _titles(list(parted), list(next(iter(kinds.values()))))
        _assign_unfinished(records, list(parted.values()))
        rankings = [_ranking(title, alike, monitor, mode) for title, alike in zip(titles, parted.values(), strict=True)]
        return Comparison(records, rankings, differences)
    monitors = {record.monitor for record in ended}
    if monitor is None and len(monitors) > 1:
        # If their data differ too, ask for --mixed as well: it would be the next error.
        also = not mixed and _differences(_kinds(ended, monitors.pop()), labels)
        raise ValueError(
            f"the runs cannot be ranked: {'; '.join(differences)}. Choose what ranks them with --monitor METRIC"
            f"{', and --mixed, because their data differ too' if also else ''}"
        )
    if not mixed:
        told = "; ".join(differences)
        raise ValueError(f"the runs cannot be ranked, because they differ: {told}. To rank them all the same: --mixed")
    return Comparison(records, [_ranking("", records, monitor, mode)], differences)


def labels_of(records: Sequence[Record]) -> dict[Path, str]:
    """Return a unique label of each run by directory: its name, preceded by parent folders if these differ."""
    labels: dict[Path, str] = {}
    parts = {record.directory: record.directory.resolve().parts for record in records}
    several = len({place[:-1] for place in parts.values()}) > 1
    for count in range(2 if several else 1, max(map(len, parts.values()), default=0) + 1):
        labels = {directory: printable("/".join(place[-count:])) for directory, place in parts.items()}
        if len(set(labels.values())) == len(labels):
            break
    return labels


def metric(record: Record, name: str) -> float | None:
    """Return a metric of the test split (``test/...``) or of the best epoch; None if missing."""
    return record.test(name) if name.startswith("test/") else record.best(name)


def data_of(record: Record) -> dict[str, Any]:
    """Return the entry ``data`` of ``metrics.json``; empty if missing."""
    return mapping(record.metrics.get("data"))


def metric_names(record: Record) -> list[str]:
    """Return the names of a run's metrics: validation first, then test, then the others."""
    found = [record.metrics.get(part) for part in ("best", "test")]
    names = [str(name) for part in found if isinstance(part, dict) for name in part]
    return sorted(names, key=lambda name: (not name.startswith("val/"), not name.startswith("test/")))


def _ranking(title: str, records: list[Record], monitor: str | None, mode: str | None) -> Ranking:
    own = next((record for record in records if record.monitor), records[0])
    name = monitor or own.monitor or "val/loss"
    better = mode or mode_of(name, own.monitor, own.mode)
    if better is None:
        raise ValueError(f"which values of {name} are better? Say --mode min or --mode max")
    return Ranking(title, name, better, records)


def _kinds(records: Sequence[Record], monitor: str | None) -> dict[Path, dict[str, str]]:
    """Return, by run directory, the properties that runs ranked together must share."""
    seeds = {record.settings.get("data.split_seed") for record in records}
    kinds = {}
    for record in records:
        about = data_of(record)
        kind: dict[str, Any] = {
            "data fingerprint": about.get("fingerprint"),
            "data.split": about.get("split"),
            "data.hold_out": mapping(record.config.get("data")).get("hold_out"),
            "data.folds": str(about["fold"]).rpartition(" ")[2] if about.get("fold") else None,
        }
        if monitor is None:
            kind = {"experiment": record.metrics.get("experiment"), "monitor": record.monitor} | kind
        sizes: Any = about.get("sizes")
        # Not the training size, which may be swept (data.train_size). Folds and random splits differ by a few samples.
        fixed = isinstance(sizes, dict) and not kind["data.folds"] and len(seeds) == 1
        kind |= {f"{name} samples": sizes.get(name) if fixed else None for name in ("val", "test")}
        kinds[record.directory] = {key: "none" if value is None else printable(value) for key, value in kind.items()}
    return kinds


def _differences(kinds: dict[Path, dict[str, str]], labels: dict[Path, str]) -> list[str]:
    """Return a line per differing property: ``data.split is grouped (run 0, 1 and 6 more), random (run 8)``."""
    lines = []
    for key in dict.fromkeys(key for kind in kinds.values() for key in kind):
        runs: dict[str, list[str]] = {}
        for directory, kind in kinds.items():
            runs.setdefault(kind.get(key, "none"), []).append(labels[directory])
        if len(runs) > 1:
            values = (f"{value} (run {join_first(names)})" for value, names in runs.items())
            lines.append(f"{key} is {', '.join(values)}")
    return lines


def _titles(kinds: list[tuple[str, ...]], keys: list[str]) -> list[str]:
    """Return a title for each kind, made of the properties that distinguish it from the others."""
    different = [place for place in range(len(keys)) if len({kind[place] for kind in kinds}) > 1]
    titles: list[str] = []
    for count in range(min(3, len(different)), len(different) + 1):
        told = different[:count]
        titles = [", ".join(shortened(f"{keys[place]} {kind[place]}", 60) for place in told) for kind in kinds]
        if len(set(titles)) == len(titles):
            break
    return titles


def _assign_unfinished(records: list[Record], parts: list[list[Record]]) -> None:
    """Add each unfinished run, whose data are unknown, to the part whose data settings match, in place.

    A run that matches several parts, or none, is added to none.
    """
    settings = swept(records)
    about = ("experiment", "monitor", "data")
    keys = [key for key in next(iter(settings.values())) if key.partition(".")[0] in about and key not in REPEATS]

    def values(record: Record, keys: Sequence[str]) -> list[float | str]:
        return [same(settings[record.directory][key]) for key in keys]

    # A setting that varies within a part does not distinguish the parts.
    keys = [key for key in keys if all(len({values(record, [key])[0] for record in part}) == 1 for part in parts)]
    wanted = [values(part[0], keys) for part in parts]
    for record in records:
        if record.config and not record.ended and wanted.count(values(record, keys)) == 1:
            parts[wanted.index(values(record, keys))].append(record)
