"""Events as the relay hands them to sinks, a relay in a few lines that tries again as the real one does, and what must hold of what arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from paynow.plugin_api import DeliveryRefused, EventSink

Event = dict[str, Any]
TRY_MAX_S = 2.0
BACK_OFF_S = 0.1
ALL_MAX_S = 60.0


def events_of(customers: int, each: int, *, note: str = "") -> list[Event]:
    """So many events of each customer, mixed as they would come; `note` makes them longer."""
    run = uuid4().hex[:8]
    return [_event(f"{run}{customer:024d}", sequence, note) for sequence in range(1, each + 1) for customer in range(customers)]


def _event(partition_key: str, sequence: int, note: str) -> Event:
    return {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "/paynow",
        "type": "paynow.payment.decided",
        "subject": str(uuid4()),
        "time": "2026-11-24T10:00:00.000Z",
        "datacontenttype": "application/json",
        "sequence": f"{sequence:019d}",
        "partitionkey": partition_key,
        "data": {"decision": "allow", "amount": "125.50", "note": note},
    }


class SmallRelay:
    """Delivers to one sink. What failed, took too long or was refused is tried again in a batch half as large, until it is delivered or one event is
    refused alone."""

    def __init__(self, sink: EventSink) -> None:
        self.sink = sink
        self.delivered = 0
        self.failures: list[str] = []
        self.refused: dict[str, str] = {}
        """Why, by the event's id."""

    async def deliver(self, events: Sequence[Event], *, batch: int = 500) -> None:
        place, size = 0, batch
        async with asyncio.timeout(ALL_MAX_S):
            while place < len(events):
                share = events[place : place + size]
                if await self._done_with(share):
                    place, size = place + len(share), min(batch, size * 2)
                else:
                    size = max(1, size // 2)

    async def _done_with(self, events: Sequence[Event]) -> bool:
        try:
            async with asyncio.timeout(TRY_MAX_S):
                await self.sink.deliver(events)
        except DeliveryRefused as refusal:
            if len(events) == 1:
                self.refused[events[0]["id"]] = str(refusal)
            return len(events) == 1
        except Exception as error:
            self.failures.append(type(error).__name__)
            await asyncio.sleep(BACK_OFF_S)
            return False
        self.delivered += len(events)
        return True


def assert_all_in_order(arrived: Iterable[Mapping[str, Any]], sent: Sequence[Event]) -> int:
    """Nothing is missing, nothing is strange, nothing comes before its customer's event before it. How many came again."""
    by_id = {event["id"]: event for event in sent}
    first: dict[str, list[str]] = {}
    known: set[str] = set()
    repeats = 0
    for event in arrived:
        assert event == by_id[event["id"]]
        if event["id"] in known:
            repeats += 1
            continue
        known.add(event["id"])
        first.setdefault(event["partitionkey"], []).append(event["sequence"])
    assert known == set(by_id)
    assert all(sequences == sorted(sequences) for sequences in first.values())
    return repeats
