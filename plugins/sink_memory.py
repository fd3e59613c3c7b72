"""The event sink `memory`: the last events of this process, for `GET /api/events/recent`."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from paynow.plugin_api import EventSink, hookimpl


class MemorySink:
    """Holds the last `last` events, each once: an event that is delivered again while it is held changes nothing."""

    name = "memory"

    def __init__(self, last: int, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._last = last
        self._now_ns = now_ns
        self._place = 0
        self._held: OrderedDict[str, tuple[int, Mapping[str, Any]]] = OrderedDict()

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        for event in events:
            if event["id"] in self._held:
                continue
            self._place = max(self._place + 1, self._now_ns())
            self._held[event["id"]] = (self._place, event)
            if len(self._held) > self._last:
                self._held.popitem(last=False)

    def recent(self, limit: int, before: int | None = None) -> list[tuple[int, Mapping[str, Any]]]:
        """At most `limit` events, newest first, each with its place; only places below `before`, if that is given.

        A place is the time of arrival in nanoseconds, or the next number if that is taken: it rises, and can be compared over processes.
        """
        older = (entry for entry in reversed(self._held.values()) if before is None or entry[0] < before)
        return list(islice(older, limit))

    async def close(self) -> None:
        """Nothing is held open; what was delivered can still be read."""


@hookimpl
def paynow_register_event_sinks(settings) -> Sequence[EventSink]:
    return [MemorySink(settings.events.memory_last)]
