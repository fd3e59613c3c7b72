"""The envelope of an event: CloudEvents 1.0 in the JSON format, composed from what the outbox keeps."""

from __future__ import annotations

import hashlib
from typing import Any

from paynow.clock import rfc3339
from paynow.store.records import StoredEvent

SOURCE = "/paynow"
SEQUENCE_DIGITS = 19
"""As many as the largest bigint has."""


def envelope(event: StoredEvent) -> dict[str, Any]:
    """The event as a dict that is valid CloudEvents JSON, the same each time.

    `sequence` counts the customer's own events, padded with zeros because the sequence extension demands that its text sorts;
    `partitionkey` is the same for all events of a customer and does not tell the customer's id.
    """
    return {
        "specversion": "1.0",
        "id": str(event.event_id),
        "source": SOURCE,
        "type": event.type,
        "subject": event.subject,
        "time": rfc3339(event.occurred_at),
        "datacontenttype": "application/json",
        "sequence": f"{event.sequence:0{SEQUENCE_DIGITS}d}",
        "partitionkey": partition_key(event.customer_id),
        "data": dict(event.data),
    }


def partition_key(customer_id: str) -> str:
    """The first 128 bits of the id's SHA-256 in hexadecimal."""
    return hashlib.sha256(customer_id.encode()).hexdigest()[:32]
