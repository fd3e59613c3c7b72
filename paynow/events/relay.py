"""The outbox relay: hands each event to every sink, at least once and a customer's events in order, and removes what all of them have.

At most one process relays at a time. Whatever happens to a sink or to the store, the relay waits and goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from loguru import logger

from paynow.clock import Clock
from paynow.events.lane import DELIVER_MAX_S, Lane, LaneMetrics, backoff_s
from paynow.plugin_api import EventSink
from paynow.store.records import StoredEvent

WINDOW_EVENTS_MAX = 500
"""A sink that fails holds the others back after so many events."""
ROUND_MIN_S = 0.02
TURN_MAX_S = 60.0
"""A turn is given back and asked for again, so that one whose session was lost unnoticed ends."""
TURN_ASK_S = 2.0
LAG_EVERY_S = 5.0
STORE_BACKOFF_FIRST_S = 0.2
STORE_BACKOFF_MAX_S = 5.0
ABANDON_S = 1.0


class EventSource(Protocol):
    """The outbox. Any method may raise when the store is in trouble; nothing has to be undone then, only asked again."""

    def turn(self) -> AbstractAsyncContextManager[bool]:
        """True while this process is the one that may relay; others get False meanwhile. It ends with the process, however that ends."""

    async def pending(self, limit: int) -> Sequence[StoredEvent]:
        """The first events that are not delivered, by position; a customer's in their sequence."""

    async def delivered(self, positions: Sequence[int]) -> None:
        """Removes events. Repeating it is harmless."""

    async def dead_letter(self, positions: Sequence[int], sink: str, error: str) -> None:
        """Keeps aside for one sink what it refused for good; the events themselves stay. Repeating it is harmless."""

    async def lag(self) -> tuple[int, float]:
        """How many events wait, and how many seconds the oldest has."""


class RelayMetrics(LaneMetrics, Protocol):
    """What the relay counts."""

    def event_buried(self, sink: str) -> None: ...

    def outbox(self, rows: int, oldest_s: float) -> None: ...


class Relay:
    """`run` it in a task of its own, `wake` it when an event was written, `stop` it at the end."""

    def __init__(
        self,
        source: EventSource,
        sinks: Sequence[EventSink],
        metrics: RelayMetrics,
        *,
        poll_s: float,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        deliver_max_s: float = DELIVER_MAX_S,
    ) -> None:
        """Raises `ValueError` without a sink: the relay would remove events that nobody got."""
        if not sinks:
            raise ValueError("a relay needs at least one sink")
        self._source = source
        self._metrics = metrics
        self._poll_s = poll_s
        self._clock = clock
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._lanes = [Lane(sink, metrics, clock=clock, jitter=jitter, changed=self.wake, deliver_max_s=deliver_max_s) for sink in sinks]
        self._window: list[StoredEvent] = []
        self._failures = 0
        self._measure_at_s = clock.monotonic()
        self._loop: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There may be an event. Cheap, and free to be called at any rate from the event loop's thread."""
        self._wake.set()

    async def run(self) -> None:
        """Relays until `stop` is called. Never ends because of a sink or the store."""
        self._loop = asyncio.create_task(self._relay(), name="event relay")
        try:
            await asyncio.wait({self._loop})
        except asyncio.CancelledError:
            self._abandon()
            raise
        if not self._loop.cancelled():
            self._loop.result()

    async def stop(self, grace_s: float) -> None:
        """Lets the deliveries that run finish for at most `grace_s`, gives up what takes longer, and closes the sinks."""
        self._stopping.set()
        self.wake()
        if self._loop is not None:
            await asyncio.wait({self._loop}, timeout=grace_s)
            self._abandon()
            await asyncio.wait({self._loop}, timeout=ABANDON_S)
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    def _abandon(self) -> None:
        for lane in self._lanes:
            lane.cancel()
        if self._loop is not None:
            self._loop.cancel()

    async def _relay(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._measure()
                async with self._source.turn() as mine:
                    if mine:
                        await self._take_turn()
                    else:
                        self._failures = 0
                wait_s = 0.0 if mine else TURN_ASK_S
            except Exception as error:
                self._failures += 1
                wait_s = backoff_s(self._failures, STORE_BACKOFF_FIRST_S, STORE_BACKOFF_MAX_S, self._jitter)
                bound = logger.bind(error=type(error).__name__, attempt=self._failures, wait_s=wait_s)
                bound.warning("outbox cannot be read, trying again later")
            await self._until(self._stopping, wait_s)

    async def _take_turn(self) -> None:
        self._window = []
        for lane in self._lanes:
            lane.paused = False
        ends_at_s = self._clock.monotonic() + TURN_MAX_S
        try:
            while not self._stopping.is_set() and self._clock.monotonic() < ends_at_s:
                self._wake.clear()
                if await self._round():
                    self._failures = 0
                await self._until(self._wake, self._poll_s)
                await self._until(self._stopping, ROUND_MIN_S)  # under load: so many events a round, not a round for each event
        finally:
            await self._quiet()
        await self._settle()

    async def _round(self) -> bool:
        """Whether the store is well as far as this round could tell: it removed what it was told to, or has nothing."""
        moved = await self._settle()
        if moved or len(self._window) < WINDOW_EVENTS_MAX:  # a full window that did not move holds the same events still
            self._window = list(await self._source.pending(WINDOW_EVENTS_MAX))
            positions = {event.position for event in self._window}
            for lane in self._lanes:
                lane.keep(positions)
        for lane in self._lanes:
            lane.advance(self._window)
        await self._measure()
        return moved or not self._window

    async def _settle(self) -> bool:
        """Puts aside what sinks refused, removes what every sink has. Whether anything was removed."""
        for lane in self._lanes:
            for position, error in list(lane.refused.items()):
                await self._source.dead_letter([position], lane.name, error)
                lane.buried(position)
                self._metrics.event_buried(lane.name)
        done = {event.position for event in self._window if all(event.position in lane.has for lane in self._lanes)}
        if done:
            await self._source.delivered(sorted(done))
            self._window = [event for event in self._window if event.position not in done]
        return bool(done)

    async def _quiet(self) -> None:
        """Before the turn ends: lets every delivery that runs come to its end, and no other begin."""
        for lane in self._lanes:
            lane.paused = True
        while any(lane.delivering for lane in self._lanes):
            self._wake.clear()
            await self._wake.wait()

    async def _measure(self) -> None:
        if self._clock.monotonic() < self._measure_at_s:
            return
        self._measure_at_s = self._clock.monotonic() + LAG_EVERY_S
        try:
            self._metrics.outbox(*await self._source.lag())
        except Exception as error:  # a lag that cannot be told is no reason not to deliver
            logger.bind(error=type(error).__name__).warning("outbox lag cannot be measured")

    async def _until(self, event: asyncio.Event, seconds: float) -> None:
        """Waits for the event, for at most so many seconds of the clock."""
        waits = {asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._clock.sleep(seconds))}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
