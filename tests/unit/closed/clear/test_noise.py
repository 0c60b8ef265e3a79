"""The sampler of noise has the distribution that it says, and the tests that say so would notice another."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest

from bunker.closed.clear import noise

DRAWS = 40_000
SCALES = [0.5, 1.0, 2.0, 7.3, 100.0]
Sampler = Callable[[float], int]


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> random.Random:
    """The kernel's randomness replaced by one that repeats."""
    source = random.Random(20_260_101)
    monkeypatch.setattr(noise, "randbelow", source.randrange)
    return source


def probability(value: int, scale: float) -> float:
    """Of the discrete Laplace distribution: (1 - r) / (1 + r) * r^|x| with r = exp(-1 / scale)."""
    ratio = math.exp(-1 / scale)
    return (1 - ratio) / (1 + ratio) * ratio ** abs(value)


def chi_square(drawn: list[int], scale: float) -> tuple[float, int]:
    """Distance from the exact probabilities, and how many cells it has: values, and both tails together."""
    least = 25 / len(drawn)
    cells = [value for value in range(-2000, 2001) if probability(value, scale) >= least]
    expected = {value: probability(value, scale) * len(drawn) for value in cells}
    tails = len(drawn) - sum(expected.values())
    seen = Counter(drawn)
    distance = sum((seen[value] - number) ** 2 / number for value, number in expected.items())
    beyond = len(drawn) - sum(seen[value] for value in cells)
    if tails >= 5:
        distance += (beyond - tails) ** 2 / tails
    return distance, len(cells)


def fits(drawn: list[int], scale: float) -> bool:
    """Whether the distance is one that chance makes: 4.5 deviations by the approximation of Wilson and Hilferty."""
    distance, freedom = chi_square(drawn, scale)
    spread = 2 / (9 * freedom)
    return ((distance / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread) < 4.5


@pytest.mark.parametrize("scale", SCALES)
def test_draws_have_the_exact_probabilities(scale: float, seeded: random.Random) -> None:
    assert fits([noise.discrete_laplace(scale) for _ in range(DRAWS)], scale)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_same_test_notices_other_distributions(scale: float, seeded: random.Random) -> None:
    def rounded(scale: float) -> int:
        return round(seeded.expovariate(1 / scale) * seeded.choice((-1, 1)))

    def zero_twice(scale: float) -> int:
        # What is drawn if a negative zero is not drawn again.
        return 0 if seeded.random() < probability(0, scale) * 0.1 else noise.discrete_laplace(scale)

    def shifted(scale: float) -> int:
        return noise.discrete_laplace(scale) + (seeded.random() < 0.1)

    others: list[Sampler] = [rounded, zero_twice, shifted, lambda scale: noise.discrete_laplace(scale * 1.1)]
    for other in others:
        assert not fits([other(scale) for _ in range(DRAWS)], scale)


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_the_odds_of_neighbours_are_what_epsilon_promises(epsilon: float, seeded: random.Random) -> None:
    """A count that one unit changes by one: no number is told more than exp(epsilon) times as often for the one as for
    the other (checked where there are draws enough), and some is told nearly that much more often.
    """
    one = Counter(10 + noise.discrete_laplace(1 / epsilon) for _ in range(DRAWS))
    other = Counter(11 + noise.discrete_laplace(1 / epsilon) for _ in range(DRAWS))
    odds = []
    for value in range(-50, 80):
        if min(one[value], other[value]) >= 200:
            error = math.sqrt(1 / one[value] + 1 / other[value])
            logarithm = math.log(one[value] / other[value])
            assert abs(logarithm) < epsilon + 4.5 * error
            odds.append(abs(logarithm))
    assert len(odds) >= 8 and max(odds) > epsilon / 2


def test_windows_add_up(seeded: random.Random) -> None:
    """The mean of n windows is known n times better, which is what the budget counts: the spread of a sum of n draws is
    sqrt(n) times that of one.
    """
    scale, windows = 5.0, 16
    sums = [sum(noise.discrete_laplace(scale) for _ in range(windows)) for _ in range(2_000)]
    ratio = math.exp(-1 / scale)
    variance = windows * 2 * ratio / (1 - ratio) ** 2
    assert abs(sum(value * value for value in sums) / len(sums) / variance - 1) < 0.15


def test_without_a_seed_draws_differ() -> None:
    assert len({tuple(noise.discrete_laplace(50.0) for _ in range(8)) for _ in range(4)}) == 4
