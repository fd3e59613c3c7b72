"""What makes two requests under one key the same payment: the four business fields, normalised, and nothing else."""

from __future__ import annotations

import hashlib


def fingerprint(customer_id: str, payee_id: str, amount_minor: int, currency: str) -> bytes:
    """SHA-256 over the four fields; the amount in minor units, so that `125.5` and `125.500` USD are the same."""
    return hashlib.sha256("\n".join((customer_id, payee_id, str(amount_minor), currency)).encode()).digest()
