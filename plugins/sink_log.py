"""The event sink `log`: one log line per event, with ids only; the log's own redaction writes the customer as a hash."""

from collections.abc import Mapping, Sequence
from typing import Any

from loguru import logger

from paynow.plugin_api import EventSink, hookimpl


class LogSink:
    """Writes events to the log."""

    name = "log"

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        for event in events:
            data = event["data"]
            bound = logger.bind(event_id=event["id"], event_type=event["type"])
            if event["type"].startswith("paynow.policy."):
                bound = bound.bind(policy_version=event["subject"])
            else:
                bound = bound.bind(payment_id=event["subject"], customer_id=data.get("customerId"))
            if "decision" in data:
                bound = bound.bind(decision=data["decision"])
            bound.info("event")

    async def close(self) -> None:
        """Nothing is held open."""


@hookimpl
def paynow_register_event_sinks(settings) -> Sequence[EventSink]:
    return [LogSink()]
