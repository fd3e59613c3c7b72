"""Identifiers that lead to their shard: UUIDv7 (RFC 9562, section 5.7) whose last 16 bits are bits of the customer's hash.

A route that names only a payment can thereby find the shard that holds the customer's rows; this cannot be added later.
Layout, high to low: 48 bits milliseconds since the epoch, 4 bits version, 12 bits random, 2 bits variant, 46 bits random, 16 bits customer.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from uuid import UUID


@lru_cache(maxsize=8_192)
def shard_of(customer_id: str) -> int:
    """The 16 bits of the customer's hash that every id of the customer ends with."""
    return int.from_bytes(hashlib.sha256(customer_id.encode()).digest()[:2], "big")


def new_id(
    customer_id: str,
    *,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    random_bits: Callable[[int], int] = secrets.randbits,
) -> UUID:
    """A new id for something of this customer, ordered by time."""
    random = random_bits(58)
    high = (now_ms() & 0xFFFF_FFFF_FFFF) << 16 | 0x7000 | random >> 46
    low = 0b10 << 62 | (random & 0x3FFF_FFFF_FFFF) << 16 | shard_of(customer_id)
    return UUID(int=high << 64 | low)
