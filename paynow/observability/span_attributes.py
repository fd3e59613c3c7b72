"""What a span may say: an allow-list of attributes, each with the shape of its values, as log lines have one. All else is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paynow.observability import shapes
from paynow.observability.shapes import WITHHELD, Check

ALLOWED: Mapping[str, Check] = {
    "http.request.method": shapes.like(r"[A-Z]{3,7}|_OTHER"),
    "http.route": shapes.route,
    "http.response.status_code": shapes.whole,
    "error.type": shapes.either(shapes.code, shapes.like(r"[1-5][0-9]{2}")),
    "paynow.payment.id": shapes.uuid,
    "paynow.decision": shapes.decision,
    "paynow.degraded": shapes.flag,
    "paynow.policy.version": shapes.like(r"[0-9a-f]{6,64}", numbers=True),
    "paynow.outcome": shapes.word,
    "paynow.tool.name": shapes.word,
    "paynow.tool.attempt": shapes.whole,
    "paynow.tool.status": shapes.tool_status,
    "db.system.name": shapes.one_of("postgresql"),
    "db.operation.name": shapes.word,
    "db.operation.batch.size": shapes.whole,
    "messaging.system": shapes.word,
    "messaging.operation.name": shapes.word,
    "messaging.operation.type": shapes.one_of("send"),
    "messaging.batch.message_count": shapes.whole,
}
"""Every attribute that PayNow's own spans may have. A new one is a line here and one in docs/observability.md."""


def written(attributes: Mapping[str, object]) -> dict[str, Any]:
    """What may be sent of a span's attributes."""
    checked = ((name, ALLOWED[name](value)) for name, value in attributes.items() if name in ALLOWED)
    return {name: value for name, value in checked if value is not WITHHELD}
