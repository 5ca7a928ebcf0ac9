"""Effects, intervals and verdicts, held against values computed by hand."""

import math

import pytest

from triptych.results.study.verdict import Finding, compare, seeds_for, spread, together


def test_the_interval_is_students():
    finding = compare([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], "lower", "difference", 0)
    # Differences -1, -2, -3: mean -2, deviation 1, t(0.975, 2) = 4.3027.
    assert finding.effect == pytest.approx(-2)
    assert finding.low == pytest.approx(-2 - 4.3027 / math.sqrt(3), abs=1e-3)
    assert finding.high == pytest.approx(-2 + 4.3027 / math.sqrt(3), abs=1e-3)
    assert (finding.verdict, finding.pairs) == ("undecided", 3)  # the interval holds zero


@pytest.mark.parametrize(
    ("arm", "against", "direction", "by", "verdict"),
    [
        ([1.0, 1.1, 0.9], [5.0, 5.2, 4.9], "lower", 0, "holds"),
        ([1.0, 1.1, 0.9], [5.0, 5.2, 4.9], "higher", 0, "does not hold"),
        ([1.0, 1.1, 0.9], [5.0, 5.2, 4.9], "lower", 3, "holds"),
        ([1.0, 1.1, 0.9], [5.0, 5.2, 4.9], "lower", 10, "does not hold"),  # lower, but not by as much
        ([1.0, 9.0, 4.0], [5.0, 5.2, 4.9], "lower", 0, "undecided"),
        ([1.0, 1.1], [5.0, 5.2], "lower", 0, "undecided"),  # too few seeds
        ([1.0], [5.0], "lower", 0, "undecided"),
        ([], [], "lower", 0, "undecided"),
        ([3.0, 3.0, 3.0], [1.0, 1.0, 1.0], "higher", 1, "holds"),  # no deviation at all
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], "higher", 0, "does not hold"),
    ],
)
def test_a_verdict_needs_the_whole_interval(arm, against, direction, by, verdict):
    assert compare(arm, against, direction, "difference", by).verdict == verdict


def test_a_ratio_is_compared_by_its_logarithm():
    finding = compare([1.0, 2.0, 4.0], [10.0, 22.0, 38.0], "lower", "ratio", 5)
    assert finding.effect == pytest.approx((1 / 10 * 2 / 22 * 4 / 38) ** (1 / 3))
    assert finding.verdict == "holds"
    assert compare([1.0, 2.0, 4.0], [10.0, 22.0, 38.0], "lower", "ratio", 20).verdict == "does not hold"
    assert compare([1.0, 0.0, 4.0], [10.0, 22.0, 38.0], "lower", "ratio", 5).verdict == "undecided"  # no logarithm


def test_the_spread_has_the_interval_of_a_variance():
    finding = spread([9.0, 10.0, 11.0, 10.0], 0.05)
    share = math.sqrt(2 / 3) / 10
    assert finding.effect == pytest.approx(share)
    # chi-squared with 3 degrees: 9.3484 and 0.2158.
    assert finding.low == pytest.approx(share * math.sqrt(3 / 9.3484), rel=1e-3)
    assert finding.high == pytest.approx(share * math.sqrt(3 / 0.2158), rel=1e-3)
    assert finding.verdict == "undecided"
    assert spread([9.0, 10.0, 11.0, 10.0], 0.01).verdict == "holds"
    assert spread([9.0, 10.0, 11.0, 10.0], 0.5).verdict == "does not hold"
    assert spread([9.0], 0.01).verdict == "undecided"


def test_a_claim_is_as_good_as_its_weakest_part():
    def finding(verdict: str) -> Finding:
        return Finding(verdict, 0, 0, 0, 3)

    assert together([finding("holds"), finding("holds")]) == "holds"
    assert together([finding("holds"), finding("undecided")]) == "undecided"
    assert together([finding("does not hold"), finding("undecided")]) == "does not hold"


def test_seeds_that_show_a_gain():
    # 2 (1.96 + 0.8416)^2 = 15.70 where the gain is one deviation.
    assert seeds_for(0.01, 0.01) == 16
    assert seeds_for(0.02, 0.01) == 4
    assert seeds_for(0.1, 0.0001) == 2
