"""Effects, intervals and verdicts, checked against values computed by hand."""

import math

import pytest

from triptych.results.study.verdict import Finding, compare, overall_verdict, seeds_for, spread


def test_the_interval_is_students_t():
    finding = compare([-1.0, -2.0, -3.0], "lower", "difference", 0)
    # Mean -2, deviation 1, t(0.975, 2) = 4.3027.
    assert finding.effect == pytest.approx(-2)
    assert finding.low == pytest.approx(-2 - 4.3027 / math.sqrt(3), abs=1e-3)
    assert finding.high == pytest.approx(-2 + 4.3027 / math.sqrt(3), abs=1e-3)
    assert (finding.verdict, finding.seeds) == ("undecided", 3)  # the interval contains zero


@pytest.mark.parametrize(
    ("differences", "direction", "by", "verdict"),
    [
        ([-4.0, -4.1, -4.0], "lower", 0, "holds"),
        ([-4.0, -4.1, -4.0], "higher", 0, "does not hold"),
        ([-4.0, -4.1, -4.0], "lower", 3, "holds"),
        ([-4.0, -4.1, -4.0], "lower", 10, "does not hold"),  # lower, but not by enough
        ([-4.0, 3.8, -0.9], "lower", 0, "undecided"),
        ([-4.0, -4.1], "lower", 0, "undecided"),  # too few seeds
        ([-4.0], "lower", 0, "undecided"),
        ([], "lower", 0, "undecided"),
        ([-4.0, -4.1, math.nan], "lower", 0, "undecided"),
        ([2.0, 2.0, 2.0], "higher", 1, "holds"),  # zero variance
        ([1.0, 1.0, 1.0], "higher", 1, "holds"),  # by at least 1
        ([1.0, 1.0, 1.0], "higher", 2, "does not hold"),
        ([0.0, 0.0, 0.0], "higher", 0, "does not hold"),
    ],
)
def test_a_verdict_needs_the_whole_interval(differences, direction, by, verdict):
    assert compare(differences, direction, "difference", by).verdict == verdict


def test_ratios_are_compared_on_a_log_scale():
    logs = [math.log(ratio) for ratio in (1 / 10, 2 / 22, 4 / 38)]
    finding = compare(logs, "lower", "ratio", 5)
    assert finding.effect == pytest.approx((1 / 10 * 2 / 22 * 4 / 38) ** (1 / 3))
    assert finding.verdict == "holds"
    assert compare(logs, "lower", "ratio", 20).verdict == "does not hold"


def test_the_spread_has_a_chi_squared_interval():
    finding = spread([[9.0, 10.0, 11.0, 10.0]], 0.05)
    share = math.sqrt(2 / 3) / 10
    assert finding.effect == pytest.approx(share)
    # chi-squared with 3 degrees of freedom: 9.3484 and 0.2158.
    assert finding.low == pytest.approx(share * math.sqrt(3 / 9.3484), rel=1e-3)
    assert finding.high == pytest.approx(share * math.sqrt(3 / 0.2158), rel=1e-3)
    assert finding.verdict == "undecided"
    assert spread([[9.0, 10.0, 11.0, 10.0]], 0.01).verdict == "holds"
    assert spread([[9.0, 10.0, 11.0, 10.0]], 0.5).verdict == "does not hold"
    assert spread([[9.0]], 0.01).verdict == "undecided"


def test_differences_between_settings_do_not_count_as_spread():
    one, other = [9.0, 10.0, 11.0, 10.0], [900.0, 1000.0, 1100.0, 1000.0]
    assert spread([one, other], 0.05) == spread([one], 0.05)  # no wider and no more certain: the seeds are the same
    steady = [5.0, 5.0, 5.0, 5.0]
    assert spread([one, steady], 0.05).effect == pytest.approx(spread([one], 0.05).effect / math.sqrt(2))
    assert spread([one, [7.0], [-1.0, 1.0]], 0.05) == spread([one], 0.05)  # no deviation in one, mean 0 in the other


def test_the_verdict_is_that_of_the_weakest_expectation():
    def finding(verdict: str) -> Finding:
        return Finding(verdict, 0, 0, 0, 3, 0.01)

    assert overall_verdict([finding("holds"), finding("holds")]) == "holds"
    assert overall_verdict([finding("holds"), finding("undecided")]) == "undecided"
    assert overall_verdict([finding("does not hold"), finding("undecided")]) == "does not hold"


def test_one_failure_among_many_may_be_chance():
    # Mean -2, deviation 1: t = 2 * sqrt(5) = 4.472, beyond which t(4) has a one-sided tail of 0.0055.
    fails = compare([-1.0, -1.0, -2.0, -3.0, -3.0], "higher", "difference", 0)
    assert fails.verdict == "does not hold"
    assert fails.p_value == pytest.approx(0.00553, abs=1e-4)
    others = [Finding("holds", 0, 0, 0, 5)]
    assert overall_verdict([fails, *others * 3]) == "does not hold"  # 0.025 / 4 = 0.00625
    assert overall_verdict([fails, *others * 4]) == "undecided"  # 0.025 / 5 = 0.005
    # chi-squared with 3 degrees of freedom has a probability of 0.025 below 0.2158.
    share = math.sqrt(2 / 3) / 10
    assert spread([[9.0, 10.0, 11.0, 10.0]], share * math.sqrt(3 / 0.2158)).p_value == pytest.approx(0.025, abs=1e-4)
    assert overall_verdict([spread([[2.0, 2.0, 2.0]], 0.0)]) == "does not hold"
    certain = compare([-1.0, -1.0, -1.0], "higher", "difference", 0)
    assert overall_verdict([certain, *others * 99]) == "does not hold"


def test_the_number_of_seeds_matches_cohens_tables():
    # Cohen's tables for the two-sample t-test: 17 for a gain of one deviation, 26 for 0.8, 393 for 0.2.
    assert seeds_for(0.01, 0.01) == 17
    assert seeds_for(0.8, 1.0) == 26
    assert seeds_for(0.2, 1.0) == 394
    assert seeds_for(0.02, 0.01) == 6
    assert seeds_for(0.1, 0.0001) == 3
    assert seeds_for(0.1, 0.0) == 3
    assert seeds_for(0.01, 100.0) == pytest.approx(2 * (2.80159 * 10_000) ** 2, rel=1e-3)
