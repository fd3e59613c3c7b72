"""What PayNow relies on holds through a pooler in transaction mode, and a start on a way on which it would not hold is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import psycopg2
import pytest

from database import execute, server_folder
from paynow.errors import ConfigurationRefused, OutcomeUnknown, StoreUnavailable
from paynow.settings.load import load
from paynow.store.capacity import check_connections
from paynow.store.pool import Pool, met_a_lock
from paynow.store.session import DatabaseFailed
from paynow.store.way import check_way
from servers.pgbouncer import Pgbouncer

TO_THE_POOLER = 'set database.pooler = "transaction", and DATABASE_DIRECT_URL to the address of PostgreSQL itself'


@pytest.fixture
async def pool(pgbouncer: Pgbouncer, database: str) -> AsyncIterator[Pool]:
    made = Pool(pgbouncer.dsn(database), size=2, pooled=True, direct_dsn=database, statement_timeout_s=0.6)
    yield made
    await made.close()


@pytest.fixture
def deaf_pgbouncer(database: str) -> Iterator[Pgbouncer]:
    """It takes whatever a client sends when it connects, and forgets it."""
    with server_folder() as folder:
        pooler = Pgbouncer(folder, database, pool_mode="transaction\nignore_startup_parameters = options")
        pooler.start()
        yield pooler
        pooler.stop()


def start_on(*, pooler: str = "none", **secrets: str) -> None:
    """What a start asks of the way to the database."""
    loaded = load(None, {"PAYNOW_DATABASE__POOLER": pooler, **secrets})
    check_way(secrets.get("DATABASE_DIRECT_URL", secrets["DATABASE_URL"]), loaded.settings, loaded.origin_of)


async def test_a_statement_through_the_pooler_ends_at_its_time_limit_and_one_that_meets_a_lock_before(pool: Pool, database: str) -> None:
    with pytest.raises(OutcomeUnknown) as ended:
        await pool.call("sleep", "select pg_sleep(30)")
    assert isinstance(ended.value.__cause__.__context__, psycopg2.errors.QueryCanceled)
    execute(database, "create table held (n int)")
    with closing(psycopg2.connect(database)) as holder:
        holder.cursor().execute("lock table held")
        with pytest.raises(StoreUnavailable) as refused:
            await pool.call("locked", "insert into held values (1)")
    assert met_a_lock(refused.value)


async def test_a_statement_through_the_pooler_ends_when_nobody_waits_for_it_any_more(pgbouncer: Pgbouncer, database: str) -> None:
    pool = Pool(pgbouncer.dsn(database), size=1, pooled=True, statement_timeout_s=30)
    asking = asyncio.create_task(pool.call("sleep", "select pg_sleep(20)"))
    sleeping = "select count(*) from pg_stat_activity where datname = current_database() and query like '%%pg_sleep(20)' and state = 'active'"
    async with asyncio.timeout(10):
        while not execute(database, sleeping)[0][0]:
            await asyncio.sleep(0.01)
        asking.cancel()
        while execute(database, sleeping)[0][0]:
            await asyncio.sleep(0.01)
    await pool.close()


async def test_the_time_limits_of_payments_are_nobody_elses_behind_the_pooler(pool: Pool, pgbouncer: Pgbouncer, database: str) -> None:
    limits = "current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('client_connection_check_interval')"
    (mine,) = await pool.read("limit", f"select pg_backend_pid(), {limits}")
    other = execute(pgbouncer.dsn(database), "select pg_backend_pid(), current_setting('statement_timeout')")
    assert mine[1:] == ("600ms", "200ms", "500ms")
    assert other == [(mine[0], "0")]


async def test_what_is_listened_to_is_heard_past_the_pooler(pool: Pool, database: str) -> None:
    async with pool.listening("paynow_policy") as notice:
        execute(database, "notify paynow_policy")
        async with asyncio.timeout(5):
            await notice(60)


def test_a_start_through_a_pooler_with_the_way_past_it_is_taken(pgbouncer: Pgbouncer, database: str) -> None:
    start_on(pooler="transaction", DATABASE_URL=pgbouncer.dsn(database), DATABASE_DIRECT_URL=database)
    start_on(DATABASE_URL=database)


def test_a_pooler_that_nobody_told_of_refuses_the_start(pgbouncer: Pgbouncer, deaf_pgbouncer: Pgbouncer, database: str) -> None:
    with pytest.raises(ConfigurationRefused, match=f"environment DATABASE_URL: leads to a pooler in transaction mode: {TO_THE_POOLER}"):
        start_on(DATABASE_URL=pgbouncer.dsn(database))
    with pytest.raises(DatabaseFailed, match=r"in the way of DATABASE_URL: .*unsupported startup parameter: options"):
        start_on(DATABASE_URL=pgbouncer.dsn(database), DATABASE_DIRECT_URL=database)
    with pytest.raises(ConfigurationRefused, match="environment DATABASE_URL: leads to a pooler that drops the time limits of statements"):
        start_on(DATABASE_URL=deaf_pgbouncer.dsn(database), DATABASE_DIRECT_URL=database)


def test_a_way_past_the_pooler_that_is_none_refuses_the_start(pgbouncer: Pgbouncer, database: str, empty_database: str) -> None:
    through = pgbouncer.dsn(database)
    with pytest.raises(ConfigurationRefused, match="environment DATABASE_DIRECT_URL: leads to a pooler too"):
        start_on(pooler="transaction", DATABASE_URL=through, DATABASE_DIRECT_URL=through)
    with pytest.raises(ConfigurationRefused, match="environment DATABASE_DIRECT_URL: leads to another database than DATABASE_URL"):
        start_on(pooler="transaction", DATABASE_URL=through, DATABASE_DIRECT_URL=empty_database)


def test_behind_a_pooler_only_what_goes_past_it_needs_room_in_postgresql(database: str, pgbouncer: Pgbouncer) -> None:
    many = {"DATABASE_URL": pgbouncer.dsn(database), "DATABASE_DIRECT_URL": database, "PAYNOW_DATABASE__CONNECTIONS_MAX": "900"}
    loaded = load(None, {**many, "PAYNOW_DATABASE__POOLER": "transaction"})
    check_connections(database, loaded.settings, loaded.origin_of)
    too_many = load(None, {**many, "PAYNOW_DATABASE__POOLER": "transaction", "PAYNOW_SERVER__WORKERS": "250"})
    with pytest.raises(ConfigurationRefused, match=r"server.workers: 250 workers may open .* connections, past the pooler"):
        check_connections(database, too_many.settings, too_many.origin_of)
    without = load(None, many)
    with pytest.raises(ConfigurationRefused, match=r"database.connections_max: 1 worker may open"):
        check_connections(database, without.settings, without.origin_of)
