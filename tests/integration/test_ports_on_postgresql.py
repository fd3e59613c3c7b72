"""The events, the token buckets and the ports of tools in PostgreSQL do what their doubles in memory do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import orjson
import pytest

from database import execute
from event_source_contract import DeadLetters, EventSourceContract, Other, Put
from limiter_contract import Later, LimiterContract, Take
from paynow.plugin_api import Payment
from paynow.store import Store
from paynow.store.event_log import EventLog
from paynow.store.records import ClaimRequest, StoredEvent
from ports_contract import PortsContract


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    store = Store(database)
    yield store
    await store.close()


class TestEventsInPostgresql(EventSourceContract):
    @pytest.fixture
    def source(self, store: Store) -> EventLog:
        return store.events

    @pytest.fixture
    async def other(self, database: str) -> AsyncIterator[Other]:
        stores: list[Store] = []

        def another() -> EventLog:
            stores.append(Store(database))
            return stores[-1].events

        yield another
        for store in stores:
            await store.close()

    @pytest.fixture
    def put(self, database: str) -> Put:
        async def write(event: StoredEvent) -> None:
            execute(
                database,
                "insert into outbox (event_id, customer_id, sequence, type, subject, occurred_at, data) values (%s, %s, %s, %s, %s, %s, %s)",
                str(event.event_id),
                event.customer_id,
                event.sequence,
                event.type,
                event.subject,
                event.occurred_at,
                orjson.dumps(event.data).decode(),
            )

        return write

    @pytest.fixture
    def dead_letters(self, database: str) -> DeadLetters:
        async def read() -> Sequence[tuple[str, UUID, str]]:
            return [
                (sink, UUID(event_id), error) for sink, event_id, error in execute(database, "select sink, event_id::text, error from dead_letters")
            ]

        return read


class TestTokensInPostgresql(LimiterContract):
    @pytest.fixture
    def take(self, store: Store) -> Take:
        return store.decisions.take

    @pytest.fixture
    def later(self, database: str) -> Later:
        async def pass_by(seconds: float) -> None:
            execute(database, "update rate_limits set full_at = full_at - %s * interval '1 s'", seconds)

        return pass_by


class PostgresqlWorld:
    def __init__(self, store: Store, dsn: str) -> None:
        self.accounts = self.activity = self.lists = store.reads
        self._store = store
        self._dsn = dsn

    async def put_account(self, customer_id: str, currency: str, available_minor: int) -> None:
        execute(self._dsn, "insert into customers (customer_id) values (%s) on conflict do nothing", customer_id)
        execute(self._dsn, "insert into accounts (customer_id, currency, available) values (%s, %s, %s)", customer_id, currency, available_minor)

    async def put_on_list(self, kind: str, subject: str, listing: str) -> None:
        await self._store.lists.put(kind, subject, listing, reason="a test", expires_at=None, author="a test")

    async def attempt(self, payment: Payment) -> None:
        await self._store.decisions.claim(ClaimRequest(payment, "key", b"f" * 32, uuid4().hex, "request-1", "sha256:0"), None)


class TestPortsInPostgresql(PortsContract):
    @pytest.fixture
    def world(self, store: Store, database: str) -> PostgresqlWorld:
        return PostgresqlWorld(store, database)
