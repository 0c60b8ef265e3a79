"""Noise for aggregates: whole numbers of the discrete Laplace distribution, exact, from the kernel's randomness.

Place in the flow: the gate adds a number from here to each exact one, which itself never leaves the core.

Rules of this file:
1. Whole numbers and fractions only: a sampler that rounds floating-point numbers gives away what it hides
   (Mironov 2012).
2. The algorithm is the one that OpenDP uses; why OpenDP itself is not here: ADR 0041.

Source: Canonne, Kamath, Steinke 2020, "The Discrete Gaussian for Differential Privacy", algorithms 1 and 2.
"""

from __future__ import annotations

from fractions import Fraction
from secrets import randbelow

from bunker.native.clear import Gate
from bunker.policy.load import Policy


def provide_noise(gate: Gate, policy: Policy) -> None:
    """Give the gate its noise if the policy has aggregates."""
    if policy.aggregates:
        gate.set_noise(discrete_laplace)


def discrete_laplace(scale: float) -> int:
    """A whole number x with probability proportional to exp(-|x| / scale).

    Args:
        scale: Above 0; taken as the exact fraction that the float is.
    """
    step, base = Fraction(scale).denominator, Fraction(scale).numerator
    while True:
        low = randbelow(base)
        if not _bernoulli_exp(Fraction(low, base)):
            continue
        high = 0
        while _bernoulli_exp(Fraction(1)):
            high += 1
        size = (low + base * high) // step
        negative = randbelow(2) == 1
        if not (negative and size == 0):
            return -size if negative else size


def _bernoulli_exp(gamma: Fraction) -> bool:
    """True with probability exp(-gamma), for gamma from 0 to 1."""
    count = 1
    while randbelow(gamma.denominator * count) < gamma.numerator:
        count += 1
    return count % 2 == 1
