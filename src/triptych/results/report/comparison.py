"""Which runs may be compared, and how they compare: ranked, and averaged over seeds and folds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from triptych.results.metric_mode import mode_of
from triptych.results.record import Record
from triptych.results.report.settings import REPEATS, Settings, same, swept
from triptych.results.report.text import printable, shortened, some
from triptych.results.untrusted import mapping


@dataclass(frozen=True)
class Group:
    """Runs with the same settings but for seed and fold.

    Attributes:
        settings: the swept settings, without seed and fold.
        records: all runs, however they stand.
        values: the monitor of those that ended.
        tests: their metric of the test split, where they have one.
    """

    settings: Settings
    records: list[Record]
    values: list[float]
    tests: list[float]


@dataclass(frozen=True)
class Ranking:
    """Runs that may be compared.

    Attributes:
        title: the data that they share; empty where all runs share them.
        monitor: the metric that ranks them.
        mode: ``min`` or ``max``: which is better.
        records: the runs, however they stand.
    """

    title: str
    monitor: str
    mode: str
    records: list[Record]

    @cached_property
    def settings(self) -> dict[Path, Settings]:
        """By run directory, the settings in which these runs differ."""
        return swept(self.records)

    @property
    def keys(self) -> list[str]:
        """The names of the swept settings."""
        return list(next(iter(self.settings.values()), {}))

    @cached_property
    def parameters(self) -> list[str]:
        """The swept settings without seed and fold, and of those that always change together the first."""
        seen: dict[tuple[int | str, ...], str] = {}
        for key in self.keys:
            if key not in REPEATS:
                values = [same(settings[key]) for settings in self.settings.values()]
                # Of values that never come twice, as a search draws them, nothing tells whether they go together.
                parted = [values.index(value) for value in values] if len(set(values)) < len(values) else [key]
                seen.setdefault(tuple(parted), key)
        return list(seen.values())

    @property
    def test_metric(self) -> str:
        """The monitor's namesake on the test split; empty where that is the monitor."""
        name = f"test/{self.monitor.partition('/')[2]}"
        return "" if name == self.monitor or not any(record.test(name) is not None for record in self.records) else name

    def value(self, record: Record) -> float | None:
        """The metric that ranks the run; None where it has not ended or has none."""
        return metric(record, self.monitor) if record.ended else None

    @cached_property
    def ranked(self) -> list[Record]:
        """The runs that have a value, the best first."""
        valued = [record for record in self.records if self.value(record) is not None]
        return sorted(valued, key=lambda record: self.value(record) or 0.0, reverse=self.mode == "max")

    @cached_property
    def groups(self) -> list[Group]:
        """The runs by their settings but for seed and fold, the best mean first, those without a value last."""
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
        """Whether any settings were run more than once."""
        return any(len(group.records) > 1 for group in self.groups)


@dataclass(frozen=True)
class Comparison:
    """A set of runs, parted into those that may be ranked together.

    Attributes:
        records: all runs.
        rankings: one for each set of data, or one for all.
        differences: what differs among the data; nothing where all is alike.
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
        """What each run is called, see ``labels_of``."""
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
    """Find out which runs may be ranked together.

    Args:
        records: the runs.
        monitor: the metric that ranks; None for the one by which they were trained.
        mode: ``min`` or ``max``; None for what is known of the metric.
        mixed: whether runs on different data are ranked all the same.
        apart: whether runs on different data are ranked apart.

    Raises:
        ValueError: the data or the monitors differ, and neither ``mixed`` nor ``apart`` was asked for; or no run has
            the monitor, or nothing says which of its values are better.
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
        _place(records, list(parted.values()))
        rankings = [_ranking(title, alike, monitor, mode) for title, alike in zip(titles, parted.values(), strict=True)]
        return Comparison(records, rankings, differences)
    monitors = {record.monitor for record in ended}
    if monitor is None and len(monitors) > 1:
        # Their data may differ too, which is refused next.
        also = not mixed and _differences(_kinds(ended, monitors.pop()), labels)
        raise ValueError(
            f"the runs cannot be ranked: {'; '.join(differences)}. Choose what ranks them with --monitor METRIC"
            f"{', and --mixed, for their data differ too' if also else ''}"
        )
    if not mixed:
        told = "; ".join(differences)
        raise ValueError(f"the runs cannot be ranked, for they differ: {told}. To rank them all the same: --mixed")
    return Comparison(records, [_ranking("", records, monitor, mode)], differences)


def labels_of(records: Sequence[Record]) -> dict[Path, str]:
    """By run directory what each run is called: its name, behind that of its sweep or experiment if these are more."""
    labels: dict[Path, str] = {}
    parts = {record.directory: record.directory.resolve().parts for record in records}
    several = len({place[:-1] for place in parts.values()}) > 1
    for count in range(2 if several else 1, max(map(len, parts.values()), default=0) + 1):
        labels = {directory: printable("/".join(place[-count:])) for directory, place in parts.items()}
        if len(set(labels.values())) == len(labels):
            break
    return labels


def metric(record: Record, name: str) -> float | None:
    """A metric of the best epoch, or of the test split."""
    return record.test(name) if name.startswith("test/") else record.best(name)


def data_of(record: Record) -> dict[str, Any]:
    """What ``metrics.json`` says about the data."""
    return mapping(record.metrics.get("data"))


def metric_names(record: Record) -> list[str]:
    """The metrics that a run has, of validation and test first."""
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
    """By run directory, what must be the same of runs that are ranked together."""
    seeds = {record.settings.get("data.split_seed") for record in records}
    kinds = {}
    for record in records:
        about = data_of(record)
        kind: dict[str, Any] = {
            "data fingerprint": about.get("fingerprint"),
            "data.split": about.get("split"),
            "data.folds": str(about["fold"]).rpartition(" ")[2] if about.get("fold") else None,
        }
        if monitor is None:
            kind = {"experiment": record.metrics.get("experiment"), "monitor": record.monitor} | kind
        sizes: Any = about.get("sizes")
        # The training split may well be what is swept (data.train_size). Folds and drawn splits differ by a few.
        fixed = isinstance(sizes, dict) and not kind["data.folds"] and len(seeds) == 1
        kind |= {f"{name} samples": sizes.get(name) if fixed else None for name in ("val", "test")}
        kinds[record.directory] = {key: "none" if value is None else printable(value) for key, value in kind.items()}
    return kinds


def _differences(kinds: dict[Path, dict[str, str]], labels: dict[Path, str]) -> list[str]:
    """``data.split is grouped (run 0, 1 and 6 more), random (run 8)``: a line for each thing that differs."""
    lines = []
    for key in dict.fromkeys(key for kind in kinds.values() for key in kind):
        runs: dict[str, list[str]] = {}
        for directory, kind in kinds.items():
            runs.setdefault(kind.get(key, "none"), []).append(labels[directory])
        if len(runs) > 1:
            lines.append(f"{key} is " + ", ".join(f"{value} (run {some(names)})" for value, names in runs.items()))
    return lines


def _titles(kinds: list[tuple[str, ...]], keys: list[str]) -> list[str]:
    """What tells each kind from the others, as the title of its ranking."""
    different = [place for place in range(len(keys)) if len({kind[place] for kind in kinds}) > 1]
    titles: list[str] = []
    for count in range(min(3, len(different)), len(different) + 1):
        told = different[:count]
        titles = [", ".join(shortened(f"{keys[place]} {kind[place]}", 60) for place in told) for kind in kinds]
        if len(set(titles)) == len(titles):
            break
    return titles


def _place(records: list[Record], parts: list[list[Record]]) -> None:
    """Add the runs that did not end, which cannot say what data they had, to the part whose settings of the data fit.

    One that fits several parts, or none, is added to none.
    """
    settings = swept(records)
    about = ("experiment", "monitor", "data")
    keys = [key for key in next(iter(settings.values())) if key.partition(".")[0] in about and key not in REPEATS]

    def values(record: Record, keys: Sequence[str]) -> list[float | str]:
        return [same(settings[record.directory][key]) for key in keys]

    # What differs within a part too tells nothing of the parts.
    keys = [key for key in keys if all(len({values(record, [key])[0] for record in part}) == 1 for part in parts)]
    wanted = [values(part[0], keys) for part in parts]
    for record in records:
        if record.config and not record.ended and wanted.count(values(record, keys)) == 1:
            parts[wanted.index(values(record, keys))].append(record)
