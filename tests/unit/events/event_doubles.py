"""Doubles for the relay's neighbours: time, the outbox, sinks and meters; each does what its protocol says, by hand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import Any
from uuid import UUID

from event_source_contract import an_event
from paynow.clock import Clock
from paynow.store.records import StoredEvent

TICKS = 40
"""So many turns of the event loop are enough for everything in memory to come to rest."""


class HandTime:
    """Time that moves only when everything rests, and then to the next moment that someone sleeps for."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now_s, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        if seconds > 0:
            waking = asyncio.get_running_loop().create_future()
            heappush(self._sleepers, (self.now_s + seconds, len(self.slept_s), waking))
            await waking

    async def rest(self) -> None:
        for _ in range(TICKS):
            await asyncio.sleep(0)

    async def until(self, seen: Callable[[], object], *, within_s: float = 300.0) -> None:
        """Lets time pass until `seen` is true; fails after so many seconds of this clock."""
        end_s = self.now_s + within_s
        await self.rest()
        while not seen():
            assert self._step(end_s), f"not seen within {within_s} s"
            await self.rest()

    async def advance(self, seconds: float) -> None:
        """Lets exactly so much time pass."""
        end_s = self.now_s + seconds
        await self.rest()
        while self._step(end_s):
            await self.rest()
        self.now_s = end_s

    def _step(self, end_s: float) -> bool:
        while self._sleepers and self._sleepers[0][0] <= end_s:
            due_s, _, waking = heappop(self._sleepers)
            if not waking.done():
                self.now_s = max(self.now_s, due_s)
                waking.set_result(None)
                return True
        return False


class OutboxInMemory:
    """An outbox. Methods named in `trouble` raise its error; `calls` counts how often each was called."""

    def __init__(self) -> None:
        self.rows: dict[int, StoredEvent] = {}
        self.dead: dict[tuple[str, UUID], str] = {}
        self.trouble: dict[str, Exception] = {}
        self.calls: Counter[str] = Counter()
        self.taken = False
        self._positions = 0

    def put(self, *events: StoredEvent) -> None:
        for event in events:
            self._positions += 1
            self.rows[self._positions] = replace(event, position=self._positions)

    def put_many(self, count: int, customers: int = 1) -> None:
        for number in range(count):
            self.put(an_event(f"c_{number % customers}", number // customers + 1))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        self._called("turn")
        mine = not self.taken
        self.taken = True
        try:
            yield mine
        finally:
            if mine:
                self.taken = False

    async def pending(self, limit: int) -> Sequence[StoredEvent]:
        self._called("pending")
        return [self.rows[position] for position in sorted(self.rows)[:limit]]

    async def delivered(self, positions: Sequence[int]) -> None:
        self._called("delivered")
        for position in positions:
            self.rows.pop(position, None)

    async def dead_letter(self, positions: Sequence[int], sink: str, error: str) -> None:
        self._called("dead_letter")
        for position in positions:
            self.dead.setdefault((sink, self.rows[position].event_id), error)

    async def lag(self) -> tuple[int, float]:
        self._called("lag")
        ages = [(datetime.now(UTC) - event.occurred_at).total_seconds() for event in self.rows.values()]
        return len(ages), max(ages, default=0)

    def _called(self, method: str) -> None:
        self.calls[method] += 1
        if method in self.trouble:
            raise self.trouble[method]


class SinkDouble:
    """Keeps what it takes. `failures` are raised by the next deliveries, one each; an event in `refuses` is refused for good."""

    def __init__(self, name: str = "one", *, at_most: int = 1_000_000) -> None:
        self.name = name
        self.got: list[Mapping[str, Any]] = []
        self.failures: list[BaseException] = []
        self.refuses: dict[str, Exception] = {}
        self.at_most = at_most
        self.deliveries = 0
        self.running = 0
        self.running_most = 0
        self.cancelled = 0
        self.closed = 0
        self.open = asyncio.Event()
        self.open.set()
        self.swallows_cancellation = False

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        self.deliveries += 1
        self.running += 1
        self.running_most = max(self.running_most, self.running)
        try:
            await self._pass()
            if self.failures:
                raise self.failures.pop(0)
            if len(events) > self.at_most:
                raise OSError("too many at once")
            for event in events:
                if event["id"] in self.refuses:
                    raise self.refuses[event["id"]]
            self.got += events
        finally:
            self.running -= 1

    async def close(self) -> None:
        self.closed += 1

    async def _pass(self) -> None:
        while not self.open.is_set():
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                if not self.swallows_cancellation:
                    raise

    def sequences(self, customer_id: str = "c_0") -> list[int]:
        """The customer's events in the order in which they first arrived."""
        found = dict.fromkeys(event["sequence"] for event in self.got if event["data"]["customerId"] == customer_id)
        return [int(sequence) for sequence in found]


class MetersDouble:
    def __init__(self) -> None:
        self.delivered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.buried: Counter[str] = Counter()
        self.lags: list[tuple[int, float]] = []

    def events_delivered(self, sink: str, count: int) -> None:
        self.delivered[sink] += count

    def delivery_failed(self, sink: str) -> None:
        self.failed[sink] += 1

    def event_buried(self, sink: str) -> None:
        self.buried[sink] += 1

    def outbox(self, rows: int, oldest_s: float) -> None:
        self.lags.append((rows, oldest_s))
