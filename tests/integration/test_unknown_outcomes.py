"""What the pool says when a connection dies: nothing definite of a statement that may have been carried out, and of a read that it was none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from database import execute
from paynow.errors import OutcomeUnknown, StoreUnavailable
from paynow.store.pool import Pool

DIE = "select pg_terminate_backend(pg_backend_pid())"


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool with one connection, open; nobody gets another one to its database any more."""
    opened = Pool(database, size=1)
    await opened.call("test", "select 1")
    elsewhere = make_dsn(database, dbname="postgres")
    name = parse_dsn(database)["dbname"]
    execute(elsewhere, f"alter database {name} with allow_connections false")
    yield opened
    await opened.close()
    execute(elsewhere, f"alter database {name} with allow_connections true")


async def test_a_repetition_that_finds_no_connection_leaves_the_outcome_unknown(pool: Pool) -> None:
    with pytest.raises(OutcomeUnknown):
        await pool.call("test", DIE)


async def test_a_read_whose_connection_dies_is_the_store_unavailable(pool: Pool) -> None:
    with pytest.raises(StoreUnavailable):
        await pool.read("test", DIE)


async def test_a_statement_whose_completion_postgresql_does_not_know_has_an_unknown_outcome(database: str) -> None:
    pool = Pool(database, size=1)
    with pytest.raises(OutcomeUnknown):
        await pool.call("test", "do $$ begin raise exception using errcode = 'statement_completion_unknown'; end $$")
    await pool.close()
