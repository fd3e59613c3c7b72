"""One sink's way: hands it its events in their order, tells the store which it has, and waits longer after each failure.

Knows nothing of the other sinks, nor of where events come from.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from loguru import logger

from paynow.clock import Clock
from paynow.events.envelope import envelope
from paynow.events.pace import RETRY_WAITS_S, backoff_s, retry_wait_s, until
from paynow.events.source import EventSource
from paynow.observability.spans import Publishing, untraced
from paynow.plugin_api import DeliveryFailed, DeliveryRefused, EventSink, SinkGone, TryLater
from paynow.store.records import StoredEvent

BATCH_EVENTS_MAX = 500
DELIVER_MAX_S = 10.0
CLOSE_MAX_S = 5.0
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 30.0
STORE_BACKOFF_FIRST_S = 0.2
STORE_BACKOFF_MAX_S = 5.0
LOOK_EVERY_S = 1.0
"""So often a lane looks for events that nobody woke it for: those that are due to be tried again, those of partitions that came to its relay."""
OUTAGE_RETRY_S = 3_600.0
"""So often an event is tried whose last try is over while its sink takes nothing."""
WHOLE_FAILURES_MAX = 3
"""So often a batch of which nothing was delivered counts as an outage of a sink without order, before its events are let to their own retries."""
ERROR_LENGTH_MAX = 500


class LaneMetrics(Protocol):
    """What a lane counts."""

    def events_delivered(self, sink: str, count: int) -> None: ...

    def delivery_failed(self, sink: str) -> None: ...

    def event_buried(self, sink: str) -> None: ...


class _Failed(Exception):
    """A delivery that has to be tried again; the text is the class of what the sink raised."""


class _Untold:
    """What came of deliveries, until the store knows it."""

    def __init__(self) -> None:
        self.delivered: list[StoredEvent] = []
        self.later: list[tuple[StoredEvent, float]] = []
        self.refused: list[tuple[StoredEvent, str]] = []


class Lane:
    """At most one delivery at a time. `run` it in a task of its own, `wake` it when there are events, `stop` it at the end."""

    def __init__(
        self,
        sink: EventSink,
        source: EventSource,
        metrics: LaneMetrics,
        *,
        clock: Clock,
        jitter: Callable[[], float],
        deliver_max_s: float = DELIVER_MAX_S,
        publishing: Publishing = untraced,
    ) -> None:
        self.name = sink.name
        self._ordered = getattr(sink, "ordered", True)
        self._sink = sink
        self._wants: Callable[[str], bool] = getattr(sink, "wants", lambda event_type: True)
        self._source = source
        self._metrics = metrics
        self._clock = clock
        self._jitter = jitter
        self._deliver_max_s = deliver_max_s
        self._publishing = publishing
        self._batch_events = BATCH_EVENTS_MAX
        self._failures = 0
        self._store_failures = 0
        self._took_at_s = -math.inf
        self._untold = _Untold()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._resting = asyncio.Event()

    def wake(self) -> None:
        """There may be events."""
        self._wake.set()

    async def pause(self, within_s: float) -> None:
        """Begins no delivery until `resume`, and lets the one that runs end, for at most so many seconds."""
        self._open.clear()
        self._wake.set()
        await until(self._resting, within_s, self._clock)

    def resume(self) -> None:
        """Goes on after `pause`."""
        self._open.set()

    def stop(self) -> None:
        """Lets `run` end when what it delivers now is delivered and told."""
        self._stopping.set()
        self._open.set()
        self._wake.set()

    async def close(self) -> None:
        """Closes the sink, whatever it makes of it."""
        error = await self._bounded(self._sink.close, CLOSE_MAX_S)
        if error is not None:
            logger.bind(sink=self.name, error=type(error).__name__).error("event sink did not close")

    async def run(self) -> None:
        """Delivers until `stop` is called. Never ends because of the sink or the store."""
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                more = await self._pass()
                self._store_failures = 0
                wait_s = 0.0 if more else LOOK_EVERY_S
            except _Failed as failed:
                wait_s = self._failed(str(failed))
            except Exception as error:
                self._store_failures += 1
                wait_s = backoff_s(self._store_failures, STORE_BACKOFF_FIRST_S, STORE_BACKOFF_MAX_S, self._jitter)
                bound = logger.bind(sink=self.name, error=type(error).__name__, attempt=self._store_failures, wait_s=wait_s)
                bound.warning("events cannot be read, trying again later")
            await self._rest(wait_s)

    async def _rest(self, seconds: float) -> None:
        failing = self._failures or self._store_failures
        self._resting.set()
        await until(self._stopping if failing else self._wake, seconds, self._clock)
        await self._open.wait()
        self._resting.clear()

    async def _pass(self) -> bool:
        """Delivers the next fresh events and those that are due to be tried by themselves. Whether there may be more."""
        await self._tell()
        limit = self._batch_events
        fresh = await self._source.pending(self.name, limit)
        await self._hand_over(fresh)
        due = await self._source.due(self.name, limit)
        await self._hand_over(due)
        return bool(fresh or due)

    async def _hand_over(self, events: Sequence[StoredEvent]) -> None:
        if not events:
            return
        wanted = [event for event in events if self._wants(event.type)]
        try:
            if wanted:
                await self._deliver(wanted)
                self._failures = 0
            self._untold.delivered += [event for event in events if not self._wants(event.type)]
            self._batch_events = min(BATCH_EVENTS_MAX, self._batch_events * 2)
        finally:
            await self._tell()

    async def _tell(self) -> None:
        """Tells the store what came of deliveries, which may be told again; what failed or was refused first, so that none of it is lost."""
        untold = self._untold
        if untold.later:
            await self._source.retry(self.name, untold.later)
        if untold.refused:
            await self._source.bury(self.name, untold.refused)
        handled = [*untold.delivered, *(event for event, _ in (*untold.later, *untold.refused) if event.retry_id is None)]
        if handled:
            await self._source.delivered(self.name, handled)
        for _ in untold.refused:
            self._metrics.event_buried(self.name)
        self._untold = _Untold()

    async def _deliver(self, events: Sequence[StoredEvent]) -> None:
        """Hands over a batch. One that is refused is halved until the refused events are found; the others are delivered, in order."""
        batch = [envelope(event) for event in events]
        with self._publishing(self.name, batch) as span:
            error = await self._bounded(lambda: self._sink.deliver(batch), self._deliver_max_s)
            if error is not None and span is not None:
                span.fail(type(error).__name__)
        if error is None:
            self._took(events)
        elif isinstance(error, DeliveryFailed) and not self._ordered:
            self._sort(events, error)
        elif isinstance(error, SinkGone):
            await self._source.disable(self.name, _told(error))
            logger.bind(sink=self.name).error("event sink is disabled, its receiver wants no more")
            raise _Failed(type(error).__name__)
        elif not isinstance(error, DeliveryRefused):
            raise _Failed(type(error).__name__)
        elif len(events) == 1:
            self._refused(events[0], error)
        else:
            middle = len(events) // 2
            await self._deliver(events[:middle])
            await self._deliver(events[middle:])

    def _sort(self, events: Sequence[StoredEvent], failed: DeliveryFailed) -> None:
        """Of a batch that a sink without order took in part. Raises `_Failed` if it took nothing of fresh events, as in an outage."""
        errors = [failed.errors.get(str(event.event_id)) for event in events]
        self._took([event for event, error in zip(events, errors, strict=True) if error is None])
        outage = events[0].retry_id is None and all(error is not None and not isinstance(error, DeliveryRefused) for error in errors)
        if outage and self._failures < WHOLE_FAILURES_MAX and not any(map(_asked_s, errors)):
            raise _Failed(type(errors[0]).__name__)
        for event, error in zip(events, errors, strict=True):
            if error is not None:
                self._let_to_itself(event, error)
        if outage:
            raise _Failed(type(errors[0]).__name__)
        tried = [getattr(error, "tried", True) for error in errors]
        if not all(tried):
            self._batch_events = min(self._batch_events, max(2, sum(tried) // 2))  # twice as many are handed over next
        self._metrics.delivery_failed(self.name)
        logger.bind(sink=self.name, rows=len(failed.errors)).warning("events were not delivered, each is tried again later")

    def _let_to_itself(self, event: StoredEvent, error: Exception) -> None:
        tried = getattr(error, "tried", True)
        wait_s = retry_wait_s(event.attempts + 1 if tried else 1, self._jitter)
        if wait_s is None and self._clock.monotonic() - self._took_at_s > RETRY_WAITS_S[-1]:  # an outage loses nothing, however long it lasts
            wait_s = OUTAGE_RETRY_S
        if wait_s is None or isinstance(error, DeliveryRefused):
            self._refused(event, error)
        else:
            self._untold.later.append((event, max(wait_s, _asked_s(error))))

    def _took(self, events: Sequence[StoredEvent]) -> None:
        if events:
            self._took_at_s = self._clock.monotonic()
        self._untold.delivered += events
        self._metrics.events_delivered(self.name, len(events))

    def _refused(self, event: StoredEvent, error: Exception) -> None:
        self._untold.refused.append((event, _told(error)))
        self._metrics.delivery_failed(self.name)
        logger.bind(sink=self.name, event_id=event.event_id, event_type=event.type).error("event refused by its sink")

    def _failed(self, error: str) -> float:
        """Seconds until the next try, which is smaller, so that a batch which cannot be delivered within the time limit is not tried for ever."""
        self._batch_events = max(1 if self._ordered else 2, self._batch_events // 2)
        self._failures += 1
        wait_s = backoff_s(self._failures, BACKOFF_FIRST_S, BACKOFF_MAX_S, self._jitter)
        self._metrics.delivery_failed(self.name)
        logger.bind(sink=self.name, error=error, attempt=self._failures, wait_s=wait_s).warning("event sink failed, trying again later")
        return wait_s

    async def _bounded(self, call: Callable[[], Awaitable[None]], limit_s: float) -> BaseException | None:
        """What the call raised, `TimeoutError` if it took too long. One that will not be cancelled is waited for: two at once would mix up
        the order; meanwhile it counts as resting, so that nothing else waits for it."""
        task = asyncio.create_task(_caught(call))
        try:
            await asyncio.wait({task}, timeout=limit_s)
            if task.done():
                return task.result()
            task.cancel()
            await asyncio.wait({task}, timeout=1)
            if not task.done():
                logger.bind(sink=self.name).error("event sink ignores that it is cancelled")
                self._resting.set()
                await asyncio.wait({task})
            return TimeoutError()
        finally:
            task.cancel()


async def _caught(call: Callable[[], Awaitable[None]]) -> BaseException | None:
    # Everything ends here: a task hands SystemExit on to the event loop, and so to the whole process.
    try:
        await call()
    except BaseException as error:
        return error
    return None


def _asked_s(error: Exception | None) -> float:
    """For how many seconds a receiver asked to be left alone, up to the longest wait there is."""
    asked_s = error.retry_after_s if isinstance(error, TryLater) else 0.0
    return min(asked_s, RETRY_WAITS_S[-1]) if asked_s > 0 else 0.0


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:ERROR_LENGTH_MAX]
