"""The specification of a study: its claim, its arms, what is measured and what is expected.

A study is a sweep that answers a question. ``conf/study/NAME.yaml`` has under ``study``:

- ``claim``: the claim under test, in one sentence.
- ``arms``: what is compared, by name; each is a mapping of overrides, several values of a key separated by commas.
- ``choose``: a swept key, such as ``optimizer.lr``; in each arm only its value with the best mean monitor counts.
- ``measures``: what is measured, by the name shown in tables; one key of each is one of KINDS.
- ``expect``: what the claim predicts for the measures; the verdict follows from it.
- ``plots``: the plots; one key of each is one of PLOTS.
- ``discussion``: a remark for each verdict, of which the report shows the one that applies.

The metric name ``monitor`` stands for the metric that the experiment monitors.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from triptych.hint import did_you_mean
from triptych.results.metric_mode import mode_of

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"

KINDS = {
    "best": "a metric at the epoch with the best monitor",
    "first": "a metric when it was first logged",
    "last": "a metric at the last epoch",
    "test": "a metric of the test split",
    "median": "the median of a metric over the run",
    "number": "a number of metrics.json, such as seconds",
    "per_epoch": "a number of metrics.json divided by the epochs",
    "steps_to": "optimizer steps until a metric is `within` a factor of the best that any run reached",
    "noise": "deviation of a metric from one point to the next, as a share of its mean, over the second half",
    "gap": "a metric on validation samples less the same on training samples, at the last epoch",
    "memory": "what the run added to the memory of its process, in megabytes",
    "largest": "the largest value of a swept key at which the metric `of` is `within` a factor of the best",
    "preferred": "the value of a swept key at which the metric `of` is best",
}
PLOTS = {
    "dots": "a measure of each arm, a dot a seed",
    "curves": "a metric over the steps, a line an arm",
    "layers": "the first values of the metrics that begin with it, from the first layer to the last, a line an arm",
    "lines": "measures over a swept key",
    "heat": "a measure over two swept keys",
}


@dataclass(frozen=True)
class Measure:
    """One measured quantity. ``target`` is a metric, the name of a number or a swept key, depending on ``kind``.

    ``mode`` (min or max) says which values of the metric are better, and is needed if neither its name nor the
    experiment's monitor tells.
    """

    name: str
    kind: str
    target: str
    of: str = ""
    within: float = 1.05
    mode: str = ""

    @property
    def compared_metric(self) -> str:
        """The metric for which it matters which values are better; empty for kinds that do not compare values."""
        return {"steps_to": self.target, "largest": self.of, "preferred": self.of}.get(self.kind, "")

    def resolve_mode(self, monitor: str, mode: str) -> str:
        """Return ``min`` or ``max``: which values of the metric are better, in runs with this monitor and mode.

        Raises:
            ValueError: neither ``mode``, the monitor nor the metric's name tells.
        """
        metric = self.compared_metric
        found = self.mode or mode_of(metric, monitor, mode)
        if found is None:
            raise ValueError(
                f"measures.{self.name}: which values of {metric} are better? Add mode: min or mode: max to it"
            )
        return found


@dataclass(frozen=True)
class Expectation:
    """What the claim predicts for one measure.

    Either the measure of ``arm`` is lower or higher (``direction``) than that of ``against``, by at least ``by``, which
    is a difference or, with ``scale`` ratio, a factor. Or, with ``spread_above``, the standard deviation over the seeds
    exceeds this share of the mean. An arm is given by its name, or as swept keys and their values. In a comparison of
    arms, all other swept keys are averaged out within each seed.
    """

    measure: str
    arm: str | dict[str, str] = ""
    against: str | dict[str, str] = ""
    direction: str = "lower"
    scale: str = "difference"
    by: float = 0.0
    spread_above: float | None = None


@dataclass(frozen=True)
class Plot:
    """One plot; see PLOTS."""

    kind: str
    of: str | tuple[str, ...]
    x: str = ""
    y: str = ""
    log: bool = False


@dataclass(frozen=True)
class Study:
    """A study as specified in its file."""

    name: str
    claim: str
    arms: dict[str, dict[str, str]]
    measures: dict[str, Measure]
    expect: list[Expectation]
    plots: list[Plot]
    discussion: dict[str, str]
    choose: str = ""

    def check(self, given: Collection[str], monitor: str, mode: str) -> None:
        """Check, before any job runs, that all keys in use are swept and each measure knows which values are better.

        Args:
            given: the keys that any job sets.
            monitor: the metric that the experiment monitors.
            mode: which of its values are better, ``min`` or ``max``.

        Raises:
            ValueError: naming the part that is wrong, and what would be right.
        """
        for where, key in self._keys().items():
            if key not in given:
                raise ValueError(f"{where}: no arm and no hydra.sweeper.params sets {key}{did_you_mean(key, given)}")
        for measure in self.monitoring(monitor).measures.values():
            if measure.compared_metric:
                measure.resolve_mode(monitor, mode)

    def _keys(self) -> dict[str, str]:
        """Return the keys that the study assumes to be swept, by the place in its file that names them."""
        named = {"choose": self.choose}
        for name, measure in self.measures.items():
            if measure.kind in ("largest", "preferred"):
                named[f"measures.{name}.{measure.kind}"] = measure.target
        for index, expectation in enumerate(self.expect):
            for side in ("arm", "against"):
                if isinstance(keys := getattr(expectation, side), Mapping):
                    named |= {f"expect[{index}].{side}.{key}": key for key in keys}
        for index, plot in enumerate(self.plots):
            named |= {f"plots[{index}].x": plot.x, f"plots[{index}].y": plot.y}
        return {where: key for where, key in named.items() if key}

    def monitoring(self, metric: str) -> "Study":
        """Return the study with the word ``monitor`` replaced by the experiment's monitor, such as ``val/rmse``."""

        def named(of: Any) -> Any:
            return metric if of == "monitor" else of

        tested = f"test/{metric.partition('/')[2]}"
        measures = {
            name: replace(
                measure,
                target=tested if (measure.kind, measure.target) == ("test", "monitor") else named(measure.target),
                of=named(measure.of),
            )
            for name, measure in self.measures.items()
        }
        return replace(self, measures=measures, plots=[replace(plot, of=named(plot.of)) for plot in self.plots])
