"""One token out of a distribution: the right share of each, the same for the same seed."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from agent.engine.sampling import Sampling, choose
from agent.types import WhetstoneError

DRAWS = 4000
LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, 5.0, 0.5])
ALLOWED = torch.tensor([True, True, True, True, False, True])


def shares(temperature: float, top_p: float = 1.0) -> list[float]:
    counts = Counter(
        choose(LOGITS, ALLOWED, Sampling(temperature, top_p, seed=1, step=place // 50), place % 50)[0]
        for place in range(DRAWS)
    )
    return [counts[n] / DRAWS for n in range(len(LOGITS))]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_in_the_shares_of_the_masked_softmax(temperature: float) -> None:
    expected = (LOGITS / temperature).masked_fill(~ALLOWED, -torch.inf).softmax(0).tolist()
    # Pearson's statistic with 4 degrees of freedom; 18.5 is passed once in a thousand seeds, and the seed is fixed.
    statistic = sum(
        DRAWS * (found - share) ** 2 / share
        for found, share in zip(shares(temperature), expected, strict=True)
        if share
    )
    assert statistic < 18.5
    assert shares(temperature)[4] == 0.0


def test_nucleus_keeps_the_smallest_set_that_holds_top_p() -> None:
    # Without the masked token: 0.56, 0.21, 0.12, 0.08, 0.03.
    found = shares(1.0, top_p=0.7)
    assert [n for n, share in enumerate(found) if share] == [0, 1]
    assert found[0] == pytest.approx(0.56 / 0.77, abs=0.03)


def test_greedy_takes_the_best_allowed_token_and_tells_its_probability() -> None:
    id, logprob = choose(LOGITS, ALLOWED, Sampling(), 0)
    assert id == 0
    assert logprob == pytest.approx(2.0 - math.log(sum(math.exp(x) for x in (2.0, 1.0, 0.0, -1.0, 0.5))), abs=1e-5)


def test_the_log_probability_is_before_temperature() -> None:
    for temperature in (0.3, 3.0):
        id, logprob = choose(LOGITS, None, Sampling(temperature, seed=2), 0)
        assert logprob == pytest.approx(float(LOGITS.log_softmax(0)[id]), abs=1e-5)


def test_no_draw_makes_a_token_impossible() -> None:
    """Of 2**25 draws one is so close to 1 that float32 takes it for 1."""
    vocabulary, seed, place = 49152, 4, 18243
    only = torch.zeros(vocabulary, dtype=torch.bool)
    only[place] = True
    assert choose(torch.zeros(vocabulary), only, Sampling(1.0, seed=seed), 0)[0] == place


def test_noise_depends_on_seed_stream_step_and_place_only() -> None:
    flat = torch.zeros(50_000)

    def draw(place: int = 0, **changed: object) -> int:
        return choose(flat, None, Sampling(**{"temperature": 1.0, "seed": 3, **changed}), place)[0]  # type: ignore[arg-type]

    assert draw() == draw()
    assert len({draw(), draw(1), draw(seed=4), draw(stream="b"), draw(step=1)}) == 5


@pytest.mark.parametrize("logits", [torch.full((6,), float("nan")), torch.full((6,), -torch.inf)])
def test_what_is_not_a_number_is_an_error(logits: torch.Tensor) -> None:
    for sampling in (Sampling(), Sampling(1.0)):
        with pytest.raises(WhetstoneError, match="not a number"):
            choose(logits, ALLOWED, sampling, 0)
