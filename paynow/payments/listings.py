"""The entries of the allow and block lists as everybody sees them, and what they may say."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from paynow.clock import rfc3339
from paynow.store.records import Listing

KINDS = ("customer", "payee")
LISTS = ("allow", "block")
REASON_LENGTH_MAX = 200


def listing_json(entry: Listing, now: datetime) -> dict[str, Any]:
    """An entry as a document: `expired` or `valid` at that moment."""
    return {
        "kind": entry.kind,
        "id": entry.subject,
        "list": entry.listing,
        "state": "expired" if entry.expires_at is not None and entry.expires_at <= now else "valid",
        "reason": entry.reason,
        "author": entry.author,
        "addedAt": rfc3339(entry.added_at),
        "expiresAt": rfc3339(entry.expires_at) if entry.expires_at else None,
    }
