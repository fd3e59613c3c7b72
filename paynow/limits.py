"""Token buckets as the configuration writes them and limiters keep them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """A token bucket: `burst` tokens at most, refilled at `per_second`."""

    per_second: float
    burst: int
