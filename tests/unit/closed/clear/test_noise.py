"""The sampler of noise has the distribution that it says."""

from __future__ import annotations

import math

import pytest

from bunker.closed.clear.noise import discrete_laplace


@pytest.mark.parametrize("scale", [0.5, 2.0, 7.3])
def test_numbers_have_the_expected_size_and_no_bias(scale: float) -> None:
    drawn = [discrete_laplace(scale) for _ in range(4000)]
    ratio = math.exp(-1 / scale)
    size = 2 * ratio / (1 - ratio * ratio)
    deviation = math.sqrt(2 * ratio) / (1 - ratio)
    # Six standard errors: once in a billion runs.
    assert abs(sum(drawn) / len(drawn)) < 6 * deviation / math.sqrt(len(drawn))
    assert abs(sum(map(abs, drawn)) / len(drawn) - size) < 6 * deviation / math.sqrt(len(drawn))
    zeros = (1 - ratio) / (1 + ratio)
    assert abs(drawn.count(0) / len(drawn) - zeros) < 6 * math.sqrt(zeros / len(drawn))
