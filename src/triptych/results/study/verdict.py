"""From measured values to a verdict: effects with their intervals, paired by seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from triptych.results.study.spec import FAILS, HOLDS, UNDECIDED

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
"""What an interval leaves out on either side."""
FEWEST = 3
"""Seeds from which on an expectation is decided; two have an interval of thirteen deviations."""


@dataclass(frozen=True)
class Finding:
    """What came of one expectation.

    Attributes:
        verdict: HOLDS, FAILS or UNDECIDED.
        effect: the mean difference, the geometric mean of the ratios, or the relative deviation; NaN without values.
        low, high: the ends of the 95 % interval of the effect.
        seeds: how many it is from.
        chance: the one-sided p-value: the probability of an effect that falls at least this far short of what is
            expected, if the true effect is exactly that.
    """

    verdict: str
    effect: float
    low: float
    high: float
    seeds: int
    chance: float = 1.0


def compare(differences: Sequence[float], direction: str, scale: str, by: float) -> Finding:
    """Whether an arm is lower (or higher) than another, by at least ``by``.

    Student's interval of the mean difference of the seeds. The expectation holds where the whole interval lies beyond
    ``by``, does not where the whole interval falls short of it.

    Args:
        differences: of each seed the arm less the other (seeds,); of their logarithms where the scale is ratio, NaN for
            what has none.
        direction: ``lower`` or ``higher``.
        scale: ``difference`` or ``ratio``.
        by: least difference, or least factor (2 is half as large, or twice).
    """
    seeds = len(differences)
    sign = 1.0 if direction == "higher" else -1.0
    ratio = scale == "ratio"
    if not seeds or not all(map(math.isfinite, differences)):
        return Finding(UNDECIDED, math.nan, math.nan, math.nan, seeds)
    mean = float(np.mean(differences))
    least = math.log(by) if ratio and by > 0 else by
    error = float(np.std(differences, ddof=1)) / math.sqrt(seeds) if seeds >= 2 else math.inf
    margin = error * float(stats.t.ppf(1 - TAIL, seeds - 1)) if 0 < error < math.inf else error
    verdict = _decided(sign * mean - margin, sign * mean + margin, least, seeds)
    # Without any deviation nothing is left to chance.
    chance = float(verdict != FAILS)
    if 0 < error < math.inf:
        chance = float(stats.t.cdf((sign * mean - least) / error, seeds - 1))
    ends = np.array([mean, mean - margin, mean + margin])
    with np.errstate(over="ignore"):
        effect, low, high = map(float, np.exp(ends) if ratio else ends)
    return Finding(verdict, effect, low, high, seeds, chance)


def spread(settings: Sequence[Sequence[float]], above: float) -> Finding:
    """Whether the standard deviation over the seeds is more than the share ``above`` of the mean.

    Of several settings the squared shares are averaged. The interval is that of the variance of normal values, by the
    chi-squared distribution, with the seeds of one setting: the settings share theirs, so that they say little more.

    Args:
        settings: of each setting the values of its seeds (seeds,); one with a single seed, or the mean 0, has no share.
        above: the share.
    """
    several = [values for values in settings if len(values) > 1 and np.mean(values)]
    seeds = max(map(len, several or settings), default=0)
    if not several:
        return Finding(UNDECIDED, math.nan, math.nan, math.nan, seeds)
    squares = [np.var(values, ddof=1) / np.mean(values) ** 2 for values in several]
    share = math.sqrt(np.average(squares, weights=[len(values) - 1 for values in several]))
    low, high = (share * math.sqrt((seeds - 1) / stats.chi2.ppf(q, seeds - 1)) for q in (1 - TAIL, TAIL))
    verdict = _decided(low, high, above, seeds)
    chance = float(stats.chi2.cdf((seeds - 1) * (share / above) ** 2, seeds - 1)) if above else float(verdict != FAILS)
    return Finding(verdict, share, low, high, seeds, chance)


def together(findings: Sequence[Finding]) -> str:
    """A claim holds if all it says does, and does not if any of it does not.

    The more a claim says, the likelier some of it fails by chance: what fails must do so at a level divided by their
    number (Bonferroni). That all hold by chance gets less likely, and needs no correction.
    """
    if any(finding.verdict == FAILS and finding.chance <= TAIL / len(findings) for finding in findings):
        return FAILS
    return HOLDS if {finding.verdict for finding in findings} == {HOLDS} else UNDECIDED


def seeds_for(gain: float, deviation: float, power: float = 0.8) -> int:
    """Seeds of each of two settings that show a gain, both relative to the mean, at the level 0.05 (two-sided).

    By the power of Student's two-sample test (Cohen 1988); FEWEST at least, for fewer decide nothing.
    """
    if not deviation:
        return FEWEST
    # The normal approximation, from which the search starts, takes the deviation for known: with few seeds it is not.
    quantiles = stats.norm.ppf(1 - TAIL) + stats.norm.ppf(power)
    seeds = max(FEWEST, math.ceil(2 * (quantiles * deviation / gain) ** 2))
    while _power(gain / deviation, seeds) < power:
        seeds += 1
    return seeds


def _power(effect: float, seeds: int) -> float:
    """How likely the two-sample test tells apart two means that differ by ``effect`` deviations."""
    freedom, shift = 2 * seeds - 2, effect * math.sqrt(seeds / 2)
    limit = stats.t.ppf(1 - TAIL, freedom)
    return float(stats.nct.sf(limit, freedom, shift) + stats.nct.cdf(-limit, freedom, shift))


def _decided(low: float, high: float, least: float, count: int) -> str:
    if count < FEWEST:
        return UNDECIDED
    if low > least or low == least > 0:  # by exactly as much as is asked for; but equal is neither lower nor higher
        return HOLDS
    return FAILS if high < least or low == high == least else UNDECIDED
