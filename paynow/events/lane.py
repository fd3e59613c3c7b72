"""One sink's way through the outbox: hands it events in their order, remembers which it has, and waits longer after each failure.

Knows nothing of the other sinks, nor of where events come from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from loguru import logger

from paynow.clock import Clock
from paynow.events.envelope import envelope
from paynow.plugin_api import DeliveryRefused, EventSink
from paynow.store.records import StoredEvent

BATCH_EVENTS_MAX = 100
DELIVER_MAX_S = 10.0
CLOSE_MAX_S = 5.0
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 30.0
ERROR_LENGTH_MAX = 500


class LaneMetrics(Protocol):
    """What a lane counts."""

    def events_delivered(self, sink: str, count: int) -> None: ...

    def delivery_failed(self, sink: str) -> None: ...


class _Failed(Exception):
    """A delivery that has to be tried again; the text is the class of what the sink raised."""


class Lane:
    """At most one delivery at a time. `changed` is called whenever the relay may have something to do because of this lane."""

    def __init__(
        self,
        sink: EventSink,
        metrics: LaneMetrics,
        *,
        clock: Clock,
        jitter: Callable[[], float],
        changed: Callable[[], None],
        deliver_max_s: float = DELIVER_MAX_S,
    ) -> None:
        self.name = sink.name
        self.has: set[int] = set()
        """Positions that the sink has, or that lie with its dead letters."""
        self.refused: dict[int, str] = {}
        """Positions that the sink refused for good and why, until they lie with the dead letters."""
        self.delivering = False
        self.paused = False
        """Set: the delivery that runs is the last, whatever else was begun with it."""
        self._sink = sink
        self._metrics = metrics
        self._clock = clock
        self._jitter = jitter
        self._changed = changed
        self._deliver_max_s = deliver_max_s
        self._batch_events = BATCH_EVENTS_MAX
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    def keep(self, positions: set[int]) -> None:
        """Forgets all but these positions: the others have left the outbox."""
        self.has &= positions
        self.refused = {position: error for position, error in self.refused.items() if position in positions}

    def buried(self, position: int) -> None:
        """A refused event lies with the dead letters now."""
        del self.refused[position]
        self.has.add(position)

    def advance(self, window: Sequence[StoredEvent]) -> None:
        """Begins to deliver what the sink lacks, unless it is busy or waits after a failure."""
        if self._task is not None:
            return
        lacking = [event for event in window if event.position not in self.has and event.position not in self.refused]
        if lacking:
            self.delivering = True
            self._task = asyncio.create_task(self._advance(lacking))
            self._task.add_done_callback(self._ended)

    def cancel(self) -> None:
        """Ends the delivery or the waiting that goes on. The events of a delivery that is cut off count as not delivered."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Closes the sink, whatever it makes of it."""
        error = await self._bounded(self._sink.close, CLOSE_MAX_S)
        if error is not None:
            logger.bind(sink=self.name, error=type(error).__name__).error("event sink did not close")

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self.delivering = False
        self._task = None
        self._changed()

    async def _advance(self, events: Sequence[StoredEvent]) -> None:
        try:
            while events and not self.paused:
                batch, events = events[: self._batch_events], events[self._batch_events :]
                await self._deliver(batch)
                self._failures = 0
                self._batch_events = min(BATCH_EVENTS_MAX, self._batch_events * 2)
                self._changed()
        except _Failed as failed:
            await self._back_off(str(failed))

    async def _deliver(self, events: Sequence[StoredEvent]) -> None:
        """Hands over a batch. One that is refused is halved until the refused events are found; the others are delivered, in order."""
        batch = [envelope(event) for event in events]
        error = await self._bounded(lambda: self._sink.deliver(batch), self._deliver_max_s)
        if error is None:
            self.has.update(event.position for event in events)
            self._metrics.events_delivered(self.name, len(events))
        elif not isinstance(error, DeliveryRefused):
            raise _Failed(type(error).__name__)
        elif len(events) == 1:
            self.refused[events[0].position] = f"{type(error).__name__}: {error}"[:ERROR_LENGTH_MAX]
            self._metrics.delivery_failed(self.name)
            logger.bind(sink=self.name, event_id=events[0].event_id, event_type=events[0].type).error("event refused by its sink")
        else:
            middle = len(events) // 2
            await self._deliver(events[:middle])
            await self._deliver(events[middle:])

    async def _back_off(self, error: str) -> None:
        # The next try is smaller, so that a batch which cannot be delivered within the time limit is not tried for ever.
        self._batch_events = max(1, self._batch_events // 2)
        self._failures += 1
        wait_s = backoff_s(self._failures, BACKOFF_FIRST_S, BACKOFF_MAX_S, self._jitter)
        self._metrics.delivery_failed(self.name)
        logger.bind(sink=self.name, error=error, attempt=self._failures, wait_s=wait_s).warning("event sink failed, trying again later")
        self._pause_delivering()
        await self._clock.sleep(wait_s)

    def _pause_delivering(self) -> None:
        self.delivering = False
        self._changed()

    async def _bounded(self, call: Callable[[], Awaitable[None]], limit_s: float) -> BaseException | None:
        """What the call raised, `TimeoutError` if it took too long. One that will not be cancelled is waited for: two at once would mix up
        the order; meanwhile it counts as not delivering, so that nothing else waits for it."""
        task = asyncio.create_task(_caught(call))
        try:
            await asyncio.wait({task}, timeout=limit_s)
            if task.done():
                return task.result()
            task.cancel()
            await asyncio.wait({task}, timeout=1)
            if not task.done():
                logger.bind(sink=self.name).error("event sink ignores that it is cancelled")
                self._pause_delivering()
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


def backoff_s(failures: int, first_s: float, longest_s: float, jitter: Callable[[], float]) -> float:
    """Seconds to wait after so many failures in a row: doubling up to the longest, between half of it and all of it at random."""
    return min(longest_s, first_s * 2 ** min(failures - 1, 30)) * (0.5 + jitter() / 2)
