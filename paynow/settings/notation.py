"""Short notations that people write: times like `7d`, rates like `5/s`, and the name they may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration_s(text: str) -> float:
    """Seconds of a time like `90s`, `15m`, `12h` or `7d`. Raises `ValueError` for anything else."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match is None:
        raise ValueError("expected a time like 90s, 15m, 12h or 7d")
    return float(int(match[1]) * SECONDS[match[2]])


def rate_per_s(text: str) -> float:
    """How many a second, of a rate like `5/s`, `100/m`, `1000/h` or `5000/d`. Raises `ValueError` for anything else, and for zero."""
    match = re.fullmatch(r"([0-9]{1,9})/([smhd])", text)
    if match is None or int(match[1]) == 0:
        raise ValueError("expected a rate like 5/s, 100/m, 1000/h or 5000/d, greater than zero")
    return int(match[1]) / SECONDS[match[2]]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint to end a message with: the nearest known name, or all of them if none is near."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    if near:
        return f"did you mean {by_lower[near[0]]}?"
    return f"known here: {', '.join(sorted(by_lower.values())) or 'none'}"
