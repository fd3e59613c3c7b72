"""The outbox that the relay's tests use does what PostgreSQL's does."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest
from event_doubles import OutboxInMemory

from event_source_contract import DeadLetters, EventSourceContract, Put
from paynow.store.records import StoredEvent


class TestOutboxInMemory(EventSourceContract):
    @pytest.fixture
    def source(self) -> OutboxInMemory:
        return OutboxInMemory()

    @pytest.fixture
    def put(self, source: OutboxInMemory) -> Put:
        async def write(event: StoredEvent) -> None:
            source.put(event)

        return write

    @pytest.fixture
    def dead_letters(self, source: OutboxInMemory) -> DeadLetters:
        async def read() -> Sequence[tuple[str, UUID, str]]:
            return [(sink, event_id, error) for (sink, event_id), error in source.dead.items()]

        return read
