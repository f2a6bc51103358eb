"""How sure a comparison is: intervals and p-values for paired runs, the same figures on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from agent.types import WhetstoneError

_BLOCK_CELLS = 4_000_000
"""Resampled values held in memory at a time (32 MB of float64)."""


@dataclass(frozen=True)
class Interval:
    """A mean and the interval around it, all in the unit of what was measured."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    differences: Sequence[float], *, confidence: float = 0.95, samples: int = 10000, seed: int = 0
) -> Interval:
    """The mean of paired differences with its percentile bootstrap interval.

    `differences` has one entry per pair, such as steps with memory minus steps without, of the same goal and seed;
    `samples` is how often as many pairs are drawn with replacement. The same seed gives the same interval. One pair
    gives an interval of no width: it says nothing of the spread.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    Raises WhetstoneError without differences, for one that is not a finite number, or a confidence outside 0 to 1.
    """
    import numpy as np

    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise WhetstoneError("There is nothing to compare: give at least one pair of results.")
    if not np.isfinite(values).all():
        raise WhetstoneError("A difference is not a finite number: leave out the pairs that were not measured.")
    tail = _tail(confidence)
    if samples < 1:
        raise WhetstoneError(f"{samples} bootstrap samples give no interval: take at least one, 10000 is usual.")
    random = np.random.Generator(np.random.PCG64(seed))
    means = np.empty(samples)
    rows = max(1, _BLOCK_CELLS // values.size)
    for start in range(0, samples, rows):
        end = min(start + rows, samples)
        means[start:end] = values[random.integers(values.size, size=(end - start, values.size))].mean(axis=1)
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(float(values.mean()), float(low), float(high))


def exact_mcnemar(won: int, lost: int) -> float:
    """Two-sided p-value that `won` and `lost` pairs differ by chance alone; pairs that agree do not count.

    `won` pairs succeed only in the first arm, `lost` only in the second. Under chance `won` is binomial with one half.
    Source: McNemar (1947), Psychometrika 12, in the exact form of Fagerland, Lydersen and Laake (2013), BMC Medical
    Research Methodology 13:91. Raises WhetstoneError for a negative count.
    """
    if won < 0 or lost < 0:
        raise WhetstoneError(f"Counts of pairs cannot be negative, as {won} won and {lost} lost are.")
    pairs = won + lost
    tail = sum(math.comb(pairs, k) for k in range(min(won, lost) + 1))
    return float(min(1.0, 2 * tail / 2**pairs))


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """A success rate with its Wilson score interval, which stays within 0 to 1 and holds for few trials.

    No trials give a rate of nan between 0 and 1: nothing is known.
    Source: Wilson (1927), Journal of the American Statistical Association 22.
    Raises WhetstoneError for counts that cannot be, or a confidence outside 0 to 1.
    """
    if not 0 <= successes <= trials:
        raise WhetstoneError(f"{successes} successes of {trials} trials cannot be: count them again.")
    z2 = NormalDist().inv_cdf(_tail(confidence)) ** 2
    if not trials:
        return Interval(math.nan, 0.0, 1.0)
    rate = successes / trials
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (rate * (1 - rate) + z2 / (4 * trials)) / trials) / (1 + z2 / trials)
    low = 0.0 if successes == 0 else centre - half  # exactly, where rounding would leave 1e-17
    high = 1.0 if successes == trials else centre + half
    return Interval(rate, low, high)


def _tail(confidence: float) -> float:
    """The share of probability beyond each end of the interval."""
    if not 0 < confidence < 1:
        raise WhetstoneError(f"A confidence of {confidence} is no share between 0 and 1: 0.95 is usual.")
    return (1 - confidence) / 2
