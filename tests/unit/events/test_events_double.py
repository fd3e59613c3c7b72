"""The source of events that the relay's tests use does what PostgreSQL's does."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest
from event_doubles import EventsInMemory

from event_source_contract import DeadLetters, EventSourceContract, Other, Put
from paynow.store.records import StoredEvent


class TestEventsInMemory(EventSourceContract):
    @pytest.fixture
    def source(self) -> EventsInMemory:
        return EventsInMemory()

    @pytest.fixture
    def other(self, source: EventsInMemory) -> Other:
        return lambda: EventsInMemory(source)

    @pytest.fixture
    def put(self, source: EventsInMemory) -> Put:
        async def write(event: StoredEvent) -> None:
            source.put(event)

        return write

    @pytest.fixture
    def dead_letters(self, source: EventsInMemory) -> DeadLetters:
        async def read() -> Sequence[tuple[str, UUID, str]]:
            return [(sink, event_id, error) for (sink, event_id), error in source.dead.items()]

        return read
