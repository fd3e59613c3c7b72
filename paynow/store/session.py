"""A plain session with PostgreSQL for long work of commands, where the pool's time limits would be in the way. Knows nothing of that work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from typing import TypeVar

import psycopg2
import psycopg2.extensions as pg

from paynow.errors import ConfigurationFault, ConfigurationRefused, PayNowError

CONNECT_TIMEOUT_S = 10
CANCEL_EVERY_S = 0.1

Result = TypeVar("Result")


class DatabaseFailed(PayNowError):
    """PostgreSQL cannot be reached, went away, or refused a statement; what was not committed is undone."""


def check_dsn(dsn: str, name: str = "DATABASE_URL") -> None:
    """Raises `ConfigurationRefused` if the secret of that name cannot be read. The driver's own words would repeat it, password and all."""
    try:
        pg.parse_dsn(dsn)
    except psycopg2.Error:
        message = "cannot be read: expected postgresql://user:password@host:5432/database"
        raise ConfigurationRefused([ConfigurationFault(name, "", message)]) from None


def check_reachable(dsn: str) -> None:
    """Raises `DatabaseFailed` in one line if the server does not take us."""
    with session(dsn, "paynow"):
        pass


@contextmanager
def session(dsn: str, program: str) -> Iterator[pg.connection]:
    """A connection without time limits on statements, outside a transaction; what is not committed at the end is undone.

    All that the driver raises comes out as `DatabaseFailed`.
    """
    try:
        with closing(psycopg2.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S, application_name=program)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("set statement_timeout = 0; set idle_in_transaction_session_timeout = 0")
            connection.autocommit = False
            yield connection
    except psycopg2.OperationalError as error:
        if error.pgcode is None:
            raise DatabaseFailed(f"PostgreSQL cannot be reached: {_one_line(error)}") from error
        raise DatabaseFailed(f"PostgreSQL could not do it: {_one_line(error)}") from error
    except psycopg2.Error as error:
        raise DatabaseFailed(f"PostgreSQL refused it: {_one_line(error)}") from error


def interruptible(connection: pg.connection, work: Callable[[], Result]) -> Result:
    """Does `work` on a thread, so that Ctrl-C is heard during a long statement: the driver waits in C, where Python hears nothing.

    When it is heard the statement is cancelled, the thread has ended, and `KeyboardInterrupt` goes on.
    """
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(work)
        try:
            return working.result()
        except KeyboardInterrupt:
            while not working.done():
                connection.cancel()
                wait([working], timeout=CANCEL_EVERY_S)
            raise


def _one_line(error: psycopg2.Error) -> str:
    return " ".join((error.diag.message_primary or str(error)).split())
