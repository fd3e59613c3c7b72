"""The relay: hands each event to every sink, at least once, and to sinks that keep order a customer's events in their sequence.

Any number of relays share the customers' partitions. Whatever happens to a sink or to the store, a relay waits and goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from loguru import logger

from paynow.clock import Clock
from paynow.events.lane import DELIVER_MAX_S, STORE_BACKOFF_FIRST_S, STORE_BACKOFF_MAX_S, Lane, LaneMetrics
from paynow.events.pace import backoff_s, until
from paynow.events.source import EventSource
from paynow.observability.spans import Publishing, untraced
from paynow.plugin_api import EventSink

LOG_EVENTS_MAX = 1_000
LOG_EVERY_S = 0.125
"""Under load: so many events at a time, not a time for each event."""
LIVES_S = 10.0
"""A relay that says nothing for so long has died: others take its partitions."""
SHARE_EVERY_S = 2.0
LEAVE_WITHIN_S = 5.0
"""So long a relay that is to give up partitions waits for the deliveries that run; what is delivered twice then comes under the same id."""
TIDY_EVERY_S = 60.0
FORGET_EVENTS_MAX = 2_000
ABANDON_S = 1.0

T = TypeVar("T")


class Relay:
    """`run` it in a task of its own, `wake` it when an event was written, `stop` it at the end."""

    def __init__(
        self,
        source: EventSource,
        sinks: Sequence[EventSink],
        metrics: LaneMetrics,
        *,
        poll_s: float,
        keep_s: float,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        deliver_max_s: float = DELIVER_MAX_S,
        publishing: Publishing = untraced,
    ) -> None:
        """`keep_s`: for so long events that every sink has can be told again. Raises `ValueError` without a sink: events would get lost."""
        if not sinks:
            raise ValueError("a relay needs at least one sink")
        self._source = source
        self._poll_s = poll_s
        self._keep_s = keep_s
        self._clock = clock
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._held: tuple[int, ...] = ()
        self._others_differ = False
        self._forget_events = FORGET_EVENTS_MAX
        self._lanes = [Lane(sink, source, metrics, clock=clock, jitter=jitter, deliver_max_s=deliver_max_s, publishing=publishing) for sink in sinks]
        self._work: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There may be an event. Cheap, and free to be called at any rate from the event loop's thread."""
        self._wake.set()

    async def run(self) -> None:
        """Relays until `stop` is called. Never ends because of a sink or the store."""
        self._work = asyncio.create_task(self._relay(), name="event relay")
        try:
            await asyncio.wait({self._work})
        except asyncio.CancelledError:
            self._work.cancel()
            raise
        if not self._work.cancelled():
            self._work.result()

    async def stop(self, grace_s: float) -> None:
        """Lets the deliveries that run finish for at most `grace_s`, gives up what takes longer, leaves the partitions, closes the sinks."""
        self._stopping.set()
        self._wake.set()
        for lane in self._lanes:
            lane.stop()
        if self._work is not None:
            await asyncio.wait({self._work}, timeout=grace_s)
            self._work.cancel()
            await asyncio.wait({self._work}, timeout=ABANDON_S)
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    async def _relay(self) -> None:
        begin = [self._insistently(lambda lane=lane: self._source.begin(lane.name)) for lane in self._lanes]
        await asyncio.gather(*begin)
        keeps = (self._keep_sharing(), self._keep_logging(), self._keep_tidy(), *(lane.run() for lane in self._lanes))
        try:
            async with asyncio.TaskGroup() as group:
                for work in keeps:
                    group.create_task(work)
        finally:
            await self._once(lambda: self._source.leave(None))

    async def _keep_sharing(self) -> None:
        while not self._stopping.is_set():
            await self._insistently(self._share)
            await until(self._stopping, SHARE_EVERY_S, self._clock)

    async def _share(self) -> None:
        share = await self._source.share([lane.name for lane in self._lanes], LIVES_S)
        if share.others_differ and not self._others_differ:
            logger.bind(sinks=[lane.name for lane in self._lanes]).error("another relay serves other sinks")
        self._others_differ = share.others_differ
        if share.surplus:
            await asyncio.gather(*(lane.pause(LEAVE_WITHIN_S) for lane in self._lanes))
            try:
                await self._source.leave(share.surplus)
            finally:
                for lane in self._lanes:
                    lane.resume()
        if share.held != self._held:
            self._held = share.held
            self._wake.set()
            self._wake_lanes()

    async def _keep_logging(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            logged = await self._insistently(lambda: self._source.log(LOG_EVENTS_MAX))
            if logged:
                self._wake_lanes()
            if not logged or logged < LOG_EVENTS_MAX:
                await until(self._wake, self._poll_s, self._clock)
                await until(self._stopping, LOG_EVERY_S, self._clock)

    async def _keep_tidy(self) -> None:
        while not self._stopping.is_set():
            await until(self._stopping, TIDY_EVERY_S, self._clock)
            await self._once(self._tidy)

    async def _tidy(self) -> None:
        """First that the sinks are served: of one that is only down nothing is forgotten."""
        for lane in self._lanes:
            await self._source.begin(lane.name)
        while not self._stopping.is_set() and await self._forget():
            pass

    async def _forget(self) -> int:
        """Less at a time after each failure, so that what takes too long is not tried for ever."""
        at_most = self._forget_events
        self._forget_events = max(1, at_most // 2)
        forgotten = await self._source.forget(self._keep_s, at_most)
        self._forget_events = min(FORGET_EVENTS_MAX, at_most * 2)
        return forgotten

    def _wake_lanes(self) -> None:
        for lane in self._lanes:
            lane.wake()

    async def _insistently(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Asks the store until it answers; None if the relay ends before that."""
        failures = 0
        while not self._stopping.is_set():
            try:
                return await ask()
            except Exception as error:
                failures += 1
                wait_s = backoff_s(failures, STORE_BACKOFF_FIRST_S, STORE_BACKOFF_MAX_S, self._jitter)
                bound = logger.bind(error=type(error).__name__, attempt=failures, wait_s=wait_s)
                bound.warning("outbox cannot be read, trying again later")
                await until(self._stopping, wait_s, self._clock)
        return None

    async def _once(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Asks the store; None if it is in trouble: it will be asked again some time."""
        try:
            return await ask()
        except Exception as error:
            logger.bind(error=type(error).__name__).warning("the event log could not be tidied up")
            return None
