"""Doubles for the relay's neighbours: time, the outbox, sinks and meters; each does what its protocol says, by hand."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Any
from uuid import UUID

from event_source_contract import an_event
from paynow.clock import Clock
from paynow.events.envelope import partition_key
from paynow.store.records import RelayShare, StoredEvent

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

    async def leap(self, seconds: float) -> None:
        """Lets so much time pass at once: whoever slept meanwhile wakes only now."""
        self.now_s += seconds
        await self.until(lambda: not self._sleepers or self._sleepers[0][0] > self.now_s)

    def _step(self, end_s: float) -> bool:
        while self._sleepers and self._sleepers[0][0] <= end_s:
            due_s, _, waking = heappop(self._sleepers)
            if not waking.done():
                self.now_s = max(self.now_s, due_s)
                waking.set_result(None)
                return True
        return False


class EventsInMemory:
    """The events of a database, and one relay's view of them. Methods named in `trouble` raise its error; `calls` counts each's calls."""

    def __init__(self, shared: EventsInMemory | None = None, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self.trouble: dict[str, Exception] = {}
        self.calls: Counter[str] = Counter()
        self._now_s = now_s
        self._name = object()
        one = shared or self
        if shared is None:
            self.written: list[StoredEvent] = []
            self.logged: dict[int, list[StoredEvent]] = {partition: [] for partition in range(16)}
            self.last = dict.fromkeys(range(16), 0)
            self.had: dict[str, dict[int, int]] = {}
            self.retries: dict[tuple[str, UUID], tuple[float, StoredEvent]] = {}
            self.dead: dict[tuple[str, UUID], str] = {}
            self.disabled: set[str] = set()
            self.holders: dict[int, object] = {}
            self.lives: dict[object, float] = {}
            self.serves: dict[object, set[str]] = {}
            self.counter = count(1)
        self._one = one

    @property
    def rows(self) -> list[StoredEvent]:
        """The events that some sink lacks."""
        one = self._one
        behind = [event for events in one.logged.values() for event in events if any(had[event.partition] < event.place for had in one.had.values())]
        return [*one.written, *behind, *(event for _, event in one.retries.values())]

    def put(self, *events: StoredEvent) -> None:
        self._one.written += events

    def put_many(self, count: int, customers: int = 1) -> None:
        for number in range(count):
            self.put(an_event(f"c_{number % customers}", number // customers + 1))

    async def share(self, sinks: Sequence[str], lives_s: float) -> RelayShare:
        one = self._called("share")
        one.serves[self._name] = set(sinks)
        one.lives[self._name] = self._now_s() + lives_s
        one.lives = {name: until_s for name, until_s in one.lives.items() if until_s > self._now_s() or name is self._name}
        part = -(-16 // len(one.lives))
        held = [partition for partition, name in sorted(one.holders.items()) if name is self._name]
        free = [partition for partition in range(16) if one.holders.get(partition) not in one.lives]
        for partition in free[: max(0, part - len(held))]:
            one.holders[partition] = self._name
        held = sorted(partition for partition, name in one.holders.items() if name is self._name)
        differ = any(one.serves[name] != set(sinks) for name in one.lives)
        return RelayShare(tuple(held), tuple(held[part:]), differ)

    async def leave(self, partitions: Sequence[int] | None) -> None:
        one = self._called("leave")
        one.holders = {
            partition: name
            for partition, name in one.holders.items()
            if name is not self._name or (partitions is not None and partition not in partitions)
        }
        if partitions is None:
            one.lives.pop(self._name, None)

    async def log(self, limit: int) -> int:
        one = self._called("log")
        mine = [event for event in one.written if self._holds(_partition(event))][:limit]
        one.written = [event for event in one.written if event not in mine]
        for event in mine:
            partition = _partition(event)
            one.last[partition] += 1
            one.logged[partition].append(replace(event, partition=partition, place=one.last[partition]))
        return len(mine)

    async def begin(self, sink: str) -> None:
        one = self._called("begin")
        one.had.setdefault(sink, dict(one.last))

    async def pending(self, sink: str, limit: int) -> Sequence[StoredEvent]:
        one = self._called("pending")
        if sink in one.disabled or sink not in one.had:
            return []
        lacking = {
            partition: [event for event in events if event.place > one.had[sink][partition]]
            for partition, events in one.logged.items()
            if self._holds(partition)
        }
        behind = [events for events in lacking.values() if events]
        return [event for events in behind for event in events[: -(-limit // len(behind))]]

    async def due(self, sink: str, limit: int) -> Sequence[StoredEvent]:
        one = self._called("due")
        due = [(at_s, event) for (name, _), (at_s, event) in one.retries.items() if name == sink and at_s <= self._now_s()]
        if sink in one.disabled:
            return []
        return [event for _, event in sorted(due, key=lambda entry: (entry[0], entry[1].retry_id)) if self._holds(_partition(event))][:limit]

    async def delivered(self, sink: str, events: Sequence[StoredEvent]) -> None:
        one = self._called("delivered")
        for event in events:
            if event.retry_id is None:
                one.had[sink][event.partition] = max(one.had[sink][event.partition], event.place)
            else:
                one.retries.pop((sink, event.event_id), None)

    async def retry(self, sink: str, waits: Sequence[tuple[StoredEvent, float]]) -> None:
        one = self._called("retry")
        for event, wait_s in waits:
            if event.retry_id is not None or (sink, event.event_id) not in one.retries:
                retry_id = event.retry_id or next(one.counter)
                again = replace(event, partition=0, place=0, retry_id=retry_id, attempts=event.attempts + 1)
                one.retries[sink, event.event_id] = (self._now_s() + wait_s, again)

    async def bury(self, sink: str, refused: Sequence[tuple[StoredEvent, str]]) -> None:
        one = self._called("bury")
        for event, error in refused:
            one.dead.setdefault((sink, event.event_id), error)
            if event.retry_id is not None:
                one.retries.pop((sink, event.event_id), None)

    async def disable(self, sink: str, reason: str) -> None:
        self._called("disable").disabled.add(sink)

    async def forget(self, older_than_s: float, limit: int) -> int:
        one = self._called("forget")
        before = datetime.now(UTC) - timedelta(seconds=older_than_s)
        forgotten = 0
        for partition, events in one.logged.items():
            while events and events[0].occurred_at < before and all(had[partition] >= events[0].place for had in one.had.values()):
                events.pop(0)
                forgotten += 1
        return forgotten

    def _holds(self, partition: int) -> bool:
        return self._one.holders.get(partition) is self._name and self._one.lives.get(self._name, 0) > self._now_s()

    def _called(self, method: str) -> EventsInMemory:
        self.calls[method] += 1
        if method in self.trouble:
            raise self.trouble[method]
        return self._one


def _partition(event: StoredEvent) -> int:
    return int(partition_key(event.customer_id)[0], 16)


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

    def events_delivered(self, sink: str, count: int) -> None:
        self.delivered[sink] += count

    def delivery_failed(self, sink: str) -> None:
        self.failed[sink] += 1

    def event_buried(self, sink: str) -> None:
        self.buried[sink] += 1
