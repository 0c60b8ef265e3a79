"""Noise for aggregates: whole numbers of the discrete Laplace distribution, drawn by OpenDP.

Place in the flow: the gate adds a number from here to each exact one, which itself never leaves the core. Adding noise
to the data and adding data to the noise are one thing for this mechanism, so OpenDP is asked for the noise of zero.

Rules of this file:
1. OpenDP is imported only for a policy that has aggregates, and before the jail is locked.
2. What OpenDP proves about the scale is compared with what the policy spends; if it proves less, the run does not
   start.

Source: Canonne, Kamath, Steinke 2020 (discrete noise); OpenDP `make_laplace` over integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bunker.errors import ConfigurationError
from bunker.native.clear import Gate
from bunker.policy.load import Policy


def provide_noise(gate: Gate, policy: Policy) -> None:
    """Give the gate its noise if the policy has aggregates.

    Raises:
        ConfigurationError: OpenDP is not there, or proves less for a scale than the policy says.
    """
    if policy.aggregates:
        gate.set_noise(_noise(policy))


def _noise(policy: Policy) -> Callable[[float], int]:
    try:
        import opendp.prelude as dp  # noqa: PLC0415 - 50 MB and 0.8 s that only such a policy pays
    except ImportError:
        raise ConfigurationError(
            "[aggregate]", "OpenDP is not installed", "Run make setup, or delete the aggregates"
        ) from None
    dp.enable_features("contrib")
    measurements: dict[float, Any] = {}
    for aggregate in policy.aggregates:
        scale = aggregate.noise_scale
        made: Any = dp.m.make_laplace(dp.atom_domain(T=dp.i64), dp.absolute_distance(T=dp.i64), scale=scale)
        sensitivity = round(scale * aggregate.epsilon)
        if made.map(sensitivity) > aggregate.epsilon * (1 + 1e-6):
            raise ConfigurationError(
                f"[aggregate.{aggregate.name}]", "its noise does not give its epsilon", "This is a bug of ours"
            )
        measurements[scale] = made

    def draw(scale: float) -> int:
        return int(measurements[scale](0))

    return draw
