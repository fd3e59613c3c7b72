"""What the relay relies on: the events of a database on their way to the sinks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from paynow.store.records import RelayShare, StoredEvent


class EventSource(Protocol):
    """The events of one database, shared by all relays: each has some partitions of the customers to itself, for as long as it says that it lives.

    Any method may raise when the store is in trouble; nothing has to be undone then, only asked again. Repeating any of them is harmless.
    An event is `fresh`, or is one that the sink gets by itself (`StoredEvent.retry_id`); methods take both.
    """

    async def share(self, sinks: Sequence[str], lives_s: float) -> RelayShare:
        """Says that this relay lives for so many seconds and serves these sinks, and takes its share of the partitions."""

    async def leave(self, partitions: Sequence[int] | None) -> None:
        """Leaves partitions to other relays; None: all of them, because this relay ends."""

    async def log(self, limit: int) -> int:
        """Gives at most so many events that were written since their place among those of their partition, and says how many."""

    async def begin(self, sink: str) -> None:
        """The sink is served. One that never was begins with the events that are given their place from now on."""

    async def pending(self, sink: str, limit: int) -> Sequence[StoredEvent]:
        """The sink's next fresh events in this relay's partitions, a customer's in their sequence; none while the sink is disabled."""

    async def due(self, sink: str, limit: int) -> Sequence[StoredEvent]:
        """The events that the sink is to get by themselves now, in the order in which that was said; none while the sink is disabled."""

    async def delivered(self, sink: str, events: Sequence[StoredEvent]) -> None:
        """The sink has these. Of fresh ones: and all before them in their partitions."""

    async def retry(self, sink: str, waits: Sequence[tuple[StoredEvent, float]]) -> None:
        """The sink is to get these by themselves, each after so many seconds. Fresh ones are to be told as delivered afterwards."""

    async def bury(self, sink: str, refused: Sequence[tuple[StoredEvent, str]]) -> None:
        """Keeps these with the sink's dead letters, and why. Fresh ones are to be told as delivered afterwards."""

    async def disable(self, sink: str, reason: str) -> None:
        """The sink gets nothing until somebody enables it."""

    async def forget(self, older_than_s: float, limit: int) -> int:
        """Forgets at most so many events of each partition that every sink has and that are older, and says how many."""
