"""Events between the settle that wrote them and the sinks that have them: the partitions, what each sink lacks, what is tried again, dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import orjson

from paynow.store.pool import Pool
from paynow.store.records import DeadLetter, RelayShare, SinkBehind, StoredEvent

PARTITIONS = 16
AT_ONCE = 5_000
"""Events that one statement looks at: each is short, however many there are."""


class EventLog:
    """The events as one relay sees them, whose id it carries, and as people look into them. Every method raises the pool's refusals."""

    def __init__(self, pool: Pool, queries: dict[str, str]) -> None:
        self._pool = pool
        self._queries = queries
        self._relay_id = str(uuid4())

    # ------------------------------------------------------------ for the relay: `paynow.events.EventSource`

    async def share(self, sinks: Sequence[str], lives_s: float) -> RelayShare:
        rows = await self._call("share_events", self._relay_id, sorted(sinks), lives_s)
        held, surplus = [partition for partition, _, _ in rows], [partition for partition, surplus, _ in rows if surplus]
        return RelayShare(tuple(held), tuple(surplus), any(differ for _, _, differ in rows))

    async def leave(self, partitions: Sequence[int] | None) -> None:
        await self._call("leave_events", self._relay_id, None if partitions is None else list(partitions))

    async def log(self, limit: int) -> int:
        return (await self._call("log_events", self._relay_id, limit))[0][0]

    async def begin(self, sink: str) -> None:
        await self._call("begin_sink", sink)

    async def pending(self, sink: str, limit: int) -> list[StoredEvent]:
        rows = await self._read("next_events", sink, self._relay_id, limit)
        return [_event(partition, place, *event) for partition, place, *event in rows]

    async def due(self, sink: str, limit: int) -> list[StoredEvent]:
        rows = await self._read("due_events", sink, self._relay_id, limit)
        return [_event(0, 0, *event, retry_id=retry_id, attempts=attempts) for retry_id, attempts, *event in rows]

    async def delivered(self, sink: str, events: Sequence[StoredEvent]) -> None:
        fresh, again = _fresh_and_again((event,) for event in events)
        if fresh:
            await self._call("events_delivered", sink, [event.partition for (event,) in fresh], [event.place for (event,) in fresh])
        if again:
            await self._call("events_retried", [event.retry_id for (event,) in again], [None for _ in again])

    async def retry(self, sink: str, waits: Sequence[tuple[StoredEvent, float]]) -> None:
        fresh, again = _fresh_and_again(waits)
        if fresh:
            await self._call("retry_events", sink, *_places(fresh), [wait_s for _, wait_s in fresh])
        if again:
            await self._call("events_retried", [event.retry_id for event, _ in again], [wait_s for _, wait_s in again])

    async def bury(self, sink: str, refused: Sequence[tuple[StoredEvent, str]]) -> None:
        fresh, again = _fresh_and_again(refused)
        if fresh:
            await self._call("bury_events", sink, *_places(fresh), [error for _, error in fresh])
        if again:
            await self._call("bury_retries", [event.retry_id for event, _ in again], [error for _, error in again])

    async def disable(self, sink: str, reason: str) -> None:
        await self._call("disable_sink", reason, sink)

    async def forget(self, older_than_s: float, limit: int) -> int:
        return (await self._call("forget_events", self._relay_id, older_than_s, limit))[0][0]

    # ------------------------------------------------------------ for people

    async def waiting(self) -> tuple[int, float]:
        """How many events wait for a relay to see them (at most 10,000 are counted), and how many seconds the oldest has."""
        rows = await self._read("outbox_lag")
        return rows[0][0], rows[0][1]

    async def behind(self) -> list[SinkBehind]:
        """How far each sink is behind that ever was served."""
        return [SinkBehind(*row) for row in await self._read("events_behind")]

    async def dead_letters(self, sink: str | None, limit: int) -> list[DeadLetter]:
        """The dead letters of one sink or of all, oldest first."""
        rows = await self._pool.read("dead_letters", self._queries["dead_letters"], {"sink": sink, "limit": limit})
        return [DeadLetter(name, UUID(event_id), *rest) for name, event_id, *rest in rows]

    async def redeliver(self, sink: str, event_ids: Sequence[UUID] | None) -> int:
        """Lets the sink have its dead letters again, all of them or these, and says how many those are."""
        ids = None if event_ids is None else [str(event_id) for event_id in event_ids]
        count = 0
        while taken := (await self._call("redeliver_events", sink, ids, AT_ONCE))[0][0]:
            count += taken
        return count

    async def replay(self, sink: str, since: datetime, until: datetime) -> int:
        """Lets the sink have again all logged events that occurred in a time, and says how many those are."""
        count = 0
        for partition in range(PARTITIONS):
            looked_to: int | None = 0
            while looked_to is not None:
                ((looked_to, events),) = await self._call("replay_events", sink, since, until, partition, looked_to, AT_ONCE)
                count += events
        return count

    async def forget_sink(self, sink: str) -> bool:
        """Forgets a sink that is served no more; its dead letters stay. Whether there was one."""
        return (await self._call("forget_sink", sink))[0][0]

    async def enable(self, sink: str) -> bool:
        """Lets the sink have its events again; whether there is such a sink."""
        return bool(await self._call("enable_sink", sink))

    async def _call(self, name: str, *parameters: Any) -> list[tuple]:
        return await self._pool.call(name, self._queries[name], parameters)

    async def _read(self, name: str, *parameters: Any) -> list[tuple]:
        return await self._pool.read(name, self._queries[name], parameters)


def _event(partition: int, place: int, event_id: str, *fields: Any, retry_id: int | None = None, attempts: int = 0) -> StoredEvent:
    *middle, data = fields
    return StoredEvent(partition, place, UUID(event_id), *middle, orjson.loads(data), retry_id, attempts)


def _fresh_and_again(noted: Iterable[tuple[StoredEvent, ...]]) -> tuple[list[Any], list[Any]]:
    fresh: list[Any] = []
    again: list[Any] = []
    for entry in noted:
        (fresh if entry[0].retry_id is None else again).append(entry)
    return fresh, again


def _places(noted: Sequence[tuple[StoredEvent, Any]]) -> tuple[list[int], list[int]]:
    return [event.partition for event, _ in noted], [event.place for event, _ in noted]
