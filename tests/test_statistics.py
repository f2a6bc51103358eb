"""Intervals and p-values against published and closed-form values."""

import math

import numpy as np
import pytest

from agent.statistics import exact_mcnemar, paired_bootstrap, wilson_interval
from agent.types import WhetstoneError


def test_the_mean_difference_stands_between_its_bounds_and_is_the_same_for_a_seed() -> None:
    differences = np.random.default_rng(3).normal(1.0, 2.0, size=40).tolist()
    first, second = paired_bootstrap(differences), paired_bootstrap(differences)
    assert first == second
    assert first.mean == pytest.approx(np.mean(differences))
    assert first.low < first.mean < first.high
    assert paired_bootstrap(differences, seed=1) != first


def test_the_bootstrap_interval_is_that_of_the_resampled_mean() -> None:
    # With two pairs 0 and 1 the resampled mean is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4: quantiles are known.
    assert (paired_bootstrap([0.0, 1.0]).low, paired_bootstrap([0.0, 1.0]).high) == (0.0, 1.0)
    assert paired_bootstrap([0.0, 1.0], confidence=0.4) == paired_bootstrap([1.0, 0.0], confidence=0.4)
    assert paired_bootstrap([0.0, 1.0], confidence=0.4).low == 0.5
    # For many pairs it comes close to the normal interval of the mean.
    values = np.random.default_rng(7).normal(3.0, 2.0, size=400)
    found = paired_bootstrap(values.tolist())
    half = 1.96 * values.std(ddof=0) / math.sqrt(400)
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_a_95_percent_interval_holds_the_true_mean_about_95_times_in_100() -> None:
    random = np.random.default_rng(11)
    held = 0
    for _ in range(300):
        found = paired_bootstrap(random.normal(0.5, 1.0, size=60).tolist(), samples=500)
        held += found.low <= 0.5 <= found.high
    assert 0.90 <= held / 300 <= 0.98


def test_more_pairs_than_fit_a_block_are_resampled_whole() -> None:
    found = paired_bootstrap([1.0] * 3_000_000, samples=3)
    assert found.mean == found.low == found.high == 1.0


def test_exact_mcnemar_gives_the_known_p_values() -> None:
    assert exact_mcnemar(0, 0) == 1.0
    assert exact_mcnemar(3, 3) == 1.0
    assert exact_mcnemar(5, 0) == pytest.approx(2 / 32)
    assert exact_mcnemar(0, 6) == pytest.approx(2 / 64)
    # Fagerland, Lydersen and Laake (2013), airway hyper-responsiveness: 1 and 7 discordant pairs, p = .0703.
    assert exact_mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)
    assert exact_mcnemar(7, 1) == exact_mcnemar(1, 7)
    assert exact_mcnemar(900, 1100) == pytest.approx(8.46e-06, rel=0.02)


def test_wilson_interval_gives_the_known_bounds() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    for successes, trials, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]:
        found = wilson_interval(successes, trials)
        assert (found.mean, found.low) == pytest.approx((successes / trials, low), abs=5e-5)
        assert found.high == pytest.approx(high, abs=5e-5)
    assert wilson_interval(29, 29).high == 1.0
    assert wilson_interval(29, 29).low == pytest.approx(0.8830, abs=5e-5)


def test_no_trials_leave_everything_possible() -> None:
    found = wilson_interval(0, 0)
    assert math.isnan(found.mean)
    assert (found.low, found.high) == (0.0, 1.0)


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(WhetstoneError, match="nothing to compare"):
        paired_bootstrap([])
    with pytest.raises(WhetstoneError, match="not a finite number"):
        paired_bootstrap([1.0, math.nan])
    with pytest.raises(WhetstoneError, match="no share between 0 and 1"):
        wilson_interval(1, 2, confidence=95)
    with pytest.raises(WhetstoneError, match="bootstrap samples"):
        paired_bootstrap([1.0], samples=0)
    with pytest.raises(WhetstoneError, match="negative"):
        exact_mcnemar(-1, 2)
    with pytest.raises(WhetstoneError, match="cannot be"):
        wilson_interval(3, 2)
