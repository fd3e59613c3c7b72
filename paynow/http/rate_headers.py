"""The rate limit headers of draft-ietf-httpapi-ratelimit-headers-10: what the limit is, and what is left of it."""

from __future__ import annotations

import math

from paynow.errors import LimitState


def rate_headers(state: LimitState) -> dict[str, str]:
    """`RateLimit-Policy` (quota `q` in a window of `w` seconds) and `RateLimit` (remaining `r`, full again in `t` seconds)."""
    # Rounded before it is rounded up: 11 per minute is 0.18333… per second, and 11 / 0.18333… is a hair more than 60.
    window_s = max(1, math.ceil(round(state.burst / state.per_second, 6)))
    return {
        "RateLimit-Policy": f'"{state.name}";q={state.burst};w={window_s}',
        "RateLimit": f'"{state.name}";r={max(0, state.remaining)};t={max(0, math.ceil(state.reset_s))}',
    }
