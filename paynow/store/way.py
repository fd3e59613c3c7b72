"""Whether the way to PostgreSQL keeps what PayNow relies on, whatever pooler stands in it: asked at the start, not found out under load.

A pooler in transaction mode forgets a session as soon as a transaction ends, and some let drop without a word what a client sends when it connects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

import psycopg2

from paynow.errors import ConfigurationFault, ConfigurationRefused, StoreUnavailable
from paynow.resources import folder
from paynow.settings import Settings
from paynow.store.pool import Pool
from paynow.store.queries import load_queries
from paynow.store.session import CONNECT_TIMEOUT_S, DatabaseFailed

ACQUIRE_TIMEOUT_S = 10.0


class Seen(NamedTuple):
    """What the other end of a connection says of itself: which process it is, of which database of which running server, and its time limit."""

    pid: int
    database: str
    statement_timeout_ms: int


def check_way(dsn: str, settings: Settings, origin_of: Callable[[str], str]) -> None:
    """`dsn` is the way past the pooler. Raises `ConfigurationRefused` if no session lasts on it, if it leads to another database than payments
    go to, or if their time limits do not get there; and `DatabaseFailed`."""
    statement = load_queries(folder("sql") / "queries")["other_end"]
    payments, direct = settings.secrets.database_url or dsn, settings.secrets.database_direct_url
    with closing(_connected(dsn)) as first, closing(_connected(dsn)) as second:
        here, beside = _seen(first, statement), _seen(second, statement)
    if here.pid == beside.pid:
        if direct is not None:
            _refuse(origin_of("DATABASE_DIRECT_URL"), "leads to a pooler too, where no session lasts: give the address of PostgreSQL itself")
        _refuse(
            origin_of("DATABASE_URL"),
            'leads to a pooler in transaction mode: set database.pooler = "transaction", and DATABASE_DIRECT_URL to the address of PostgreSQL itself',
        )
    through = asyncio.run(_seen_by_payments(payments, settings, statement))
    if through.database != here.database:
        _refuse(origin_of("DATABASE_DIRECT_URL"), "leads to another database than DATABASE_URL: both have to lead to one")
    if through.statement_timeout_ms != settings.database.statement_timeout_ms:
        _refuse(
            origin_of("DATABASE_URL"),
            "leads to a pooler that drops the time limits of statements (ignore_startup_parameters): set "
            'database.pooler = "transaction", and DATABASE_DIRECT_URL to the address of PostgreSQL itself',
        )


def _connected(dsn: str) -> psycopg2.extensions.connection:
    try:
        connection = psycopg2.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S, application_name="paynow")
        connection.autocommit = True
        return connection
    except psycopg2.Error as error:
        raise DatabaseFailed(f"PostgreSQL cannot be reached: {' '.join(str(error).split())}") from error


def _seen(connection: psycopg2.extensions.connection, statement: str) -> Seen:
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return Seen(*cursor.fetchone())
    except psycopg2.Error as error:
        raise DatabaseFailed(f"PostgreSQL could not do it: {' '.join(str(error).split())}") from error


async def _seen_by_payments(dsn: str, settings: Settings, statement: str) -> Seen:
    """Asked in the way in which the service asks."""
    database = settings.database
    pool = Pool(
        dsn,
        size=1,
        pooled=database.pooler == "transaction",
        connect_timeout_s=CONNECT_TIMEOUT_S,
        acquire_timeout_s=ACQUIRE_TIMEOUT_S,
        statement_timeout_s=database.statement_timeout_ms / 1000,
    )
    try:
        return Seen(*(await pool.read("other_end", statement))[0])
    except StoreUnavailable as error:
        reason = " ".join(str(error.__cause__).split()) if isinstance(error.__cause__, psycopg2.Error) else "no answer in time"
        raise DatabaseFailed(f"PostgreSQL cannot be reached in the way of DATABASE_URL: {reason}") from error
    finally:
        await pool.close()


def _refuse(origin: str, message: str) -> None:
    raise ConfigurationRefused([ConfigurationFault(origin, "", message)])
