"""From measured values to a verdict: effects with their intervals, paired by seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from triptych.results.study.spec import FAILS, HOLDS, UNDECIDED

CONFIDENCE = 0.95
FEWEST = 3
"""Pairs from which on an expectation is decided; two have an interval of thirteen deviations."""


@dataclass(frozen=True)
class Finding:
    """What came of one expectation.

    Attributes:
        verdict: HOLDS, FAILS or UNDECIDED.
        effect: the mean difference, the geometric mean of the ratios, or the relative deviation; NaN without values.
        low, high: the ends of the 95 % interval of the effect.
        pairs: how many seeds (or pairs) it is from.
    """

    verdict: str
    effect: float
    low: float
    high: float
    pairs: int


def compare(arm: Sequence[float], against: Sequence[float], direction: str, scale: str, by: float) -> Finding:
    """Whether the values of an arm are lower (or higher) than those of another, by at least ``by``.

    Student's interval of the mean paired difference, of the logarithms where ``scale`` is ratio. The expectation holds
    where the whole interval lies beyond ``by``, does not where the whole interval falls short of it.

    Args:
        arm: values (pairs,), all finite; positive where the scale is ratio.
        against: the values (pairs,) with the same seeds.
        direction: ``lower`` or ``higher``.
        scale: ``difference`` or ``ratio``.
        by: least difference, or least factor (2 is half as large, or twice).
    """
    pairs = len(arm)
    sign = 1.0 if direction == "higher" else -1.0
    ratio = scale == "ratio"
    if not pairs or (ratio and min(*arm, *against) <= 0):
        return Finding(UNDECIDED, math.nan, math.nan, math.nan, pairs)
    one, other = np.asarray(arm, float), np.asarray(against, float)
    differences = np.log(one) - np.log(other) if ratio else one - other
    mean = float(differences.mean())
    margin = math.inf
    if pairs >= 2:
        error = float(differences.std(ddof=1)) / math.sqrt(pairs)
        margin = error * float(stats.t.ppf((1 + CONFIDENCE) / 2, pairs - 1)) if error else 0.0
    least = math.log(by) if ratio and by > 0 else by
    verdict = _decided(sign * mean - margin, sign * mean + margin, least, pairs)
    ends = np.array([mean, mean - margin, mean + margin])
    with np.errstate(over="ignore"):
        effect, low, high = map(float, np.exp(ends) if ratio else ends)
    return Finding(verdict, effect, low, high, pairs)


def spread(values: Sequence[float], above: float) -> Finding:
    """Whether the standard deviation of values (seeds,) is more than the share ``above`` of their mean.

    The interval is that of the variance of normal values, by the chi-squared distribution.
    """
    seeds = len(values)
    if seeds < 2 or not np.mean(values):
        return Finding(UNDECIDED, math.nan, math.nan, math.nan, seeds)
    share = float(np.std(values, ddof=1) / abs(np.mean(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = (share * math.sqrt((seeds - 1) / stats.chi2.ppf(q, seeds - 1)) for q in (1 - tail, tail))
    return Finding(_decided(low, high, above, seeds), share, low, high, seeds)


def together(findings: Sequence[Finding]) -> str:
    """A claim holds if all it says does, and does not if any of it does not."""
    verdicts = {finding.verdict for finding in findings}
    if FAILS in verdicts:
        return FAILS
    return HOLDS if verdicts == {HOLDS} else UNDECIDED


def seeds_for(gain: float, deviation: float, power: float = 0.8) -> int:
    """Seeds of each of two settings that show a gain, both relative to the mean, at the level 0.05 (two-sided).

    The normal approximation of the two-sample test (Cohen 1988); two at least, for one has no deviation.
    """
    quantiles = stats.norm.ppf((1 + CONFIDENCE) / 2) + stats.norm.ppf(power)
    return max(2, math.ceil(2 * (quantiles * deviation / gain) ** 2))


def _decided(low: float, high: float, least: float, count: int) -> str:
    if count < FEWEST:
        return UNDECIDED
    if low > least:
        return HOLDS
    return FAILS if high < least or low == high == least else UNDECIDED
