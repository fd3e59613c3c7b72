"""Finds what was sent in what was told, also where it was escaped on the way."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What UTF-16 and its escapes put between characters, and the quotes and backslashes of texts within texts.
_BETWEEN = re.compile(r"""\\+x00|\\+u0000|\\+0|\0|\\|["']""")


def heard(sent: Iterable[str], told: str) -> list[str]:
    """Which of the texts that were sent stand in what was told: in any case, with escapes between, or as the hex of their bytes."""
    plain = _BETWEEN.sub("", told).lower()
    return [text for text in sent if text.lower() in plain or text.encode().hex() in plain]
