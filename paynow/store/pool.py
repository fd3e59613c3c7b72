"""A small pool over `aiopg.connect`, and the one place where the driver's errors end.

aiopg's own pool starves its waiters and lets a server-side timeout out as a cancellation; this one does neither. Each call is one statement in
one transaction of its own. Every statement of PayNow may be repeated without harm, so a connection that turns out to be dead costs nothing.
"""

from __future__ import annotations

import asyncio
import random
import select
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiopg
import aiopg.connection
import psycopg2
import psycopg2.errors
from psycopg2.extensions import make_dsn, parse_dsn

from paynow.errors import InternalFault, OutcomeUnknown, Overloaded, Refusal, StoreUnavailable

Row = tuple[Any, ...]
Parameters = Sequence[Any] | Mapping[str, Any]

AGE_MAX_S = 900.0
WAITING_MAX = 2_000
REPEAT_WITHIN_S = 0.5
LOCK_SHARE = 3
"""A lock is waited for a third of a statement's time: whoever meets one is told so, before the statement itself ends without a word of why."""
IDLE_IN_TRANSACTION_MS = 5000
GONE_CLIENT_MS = 500
"""How often PostgreSQL looks whether the one who asked is still there."""

# SQLSTATEs after which nobody can know whether the transaction was committed: shutdowns, lost connections, a cancelled statement, and
# `statement_completion_unknown`, the one of its class that is no definite failure.
_UNKNOWN = ("57014", "57P01", "57P02", "57P05", "08", "40003")
# Definite failures that are the server's state and not our mistake: resources, locks, deadlocks, read-only standby, starting up.
_TROUBLE = ("53", "55", "40", "57", "58", "25006", "XX")


class _Poll:
    """Stands in for `select.select` in aiopg, which fails on file descriptors above 1023 (a server with many clients has them)."""

    @staticmethod
    def select(
        reads: Sequence[int], writes: Sequence[int], errors: Sequence[int], timeout: float | None = None
    ) -> tuple[list[int], list[int], list[int]]:
        poll = select.poll()
        for fd in reads:
            poll.register(fd, select.POLLIN)
        for fd in writes:
            poll.register(fd, select.POLLOUT)
        ready = poll.poll(None if timeout is None else int(timeout * 1000))
        if any(event & select.POLLNVAL for _, event in ready):
            raise OSError(9, "bad file descriptor")
        return ([fd for fd, event in ready if event & ~select.POLLOUT], [fd for fd, event in ready if event & select.POLLOUT], [])


@dataclass(slots=True)
class _Link:
    """One connection with its one cursor, and when it is to be replaced.

    A cursor of aiopg's and its transaction hold each other. One a statement would leave its text and rows to the collector of cycles, which
    then stops everything for tens of milliseconds; one a connection leaves nothing.
    """

    connection: aiopg.Connection
    cursor: aiopg.Cursor
    generation: int
    old_at: float

    def close(self) -> None:
        with suppress(Exception):
            self.connection.close()


class Pool:
    """At most `size` connections; who finds none free waits up to `acquire_timeout_s`, in order. Nothing here outlives its time limit."""

    def __init__(
        self,
        dsn: str,
        *,
        size: int,
        direct_dsn: str | None = None,
        pooled: bool = False,
        connect_timeout_s: float = 1.0,
        acquire_timeout_s: float = 0.5,
        statement_timeout_s: float = 1.5,
        observe: Callable[[str, float, str], None] = lambda step, seconds, outcome: None,
    ) -> None:
        """`direct_dsn` leads to the same database past whatever pooler there is. `pooled`: `dsn` leads to one in transaction mode, where no session
        lasts, so that each statement brings its time limits along."""
        limits = _time_limits(statement_timeout_s)
        in_a_session = {**limits, "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS}
        self._first = "".join(f"set local {name} = {value}; " for name, value in limits.items()) if pooled else ""
        self._dsns = deque(_one_host_each(dsn, {} if pooled else in_a_session))
        self._direct_dsns = self._dsns if direct_dsn is None else deque(_one_host_each(direct_dsn, in_a_session))
        self._size = size
        self._connect_timeout_s = connect_timeout_s
        self._acquire_timeout_s = acquire_timeout_s
        self._statement_timeout_s = statement_timeout_s
        self._observe = observe
        self._free: deque[_Link] = deque()
        self._waiters: deque[asyncio.Future[_Link | None]] = deque()
        self._open = 0
        self._generation = 0
        self._closed = False
        aiopg.connection.select = _Poll

    @property
    def counts(self) -> tuple[int, int, int]:
        """Connections open and busy, and callers waiting."""
        return self._open, self._open - len(self._free), len(self._waiters)

    async def call(self, step: str, statement: str, parameters: Parameters = ()) -> list[Row]:
        """Runs one statement and returns its rows; `step` names it in the metrics.

        Raises `StoreUnavailable` if it certainly had no effect, `OutcomeUnknown` if it may have had one, `Overloaded` if too many wait,
        and `InternalFault` if PostgreSQL refuses the statement itself. A statement that met a dead connection is repeated once.
        """
        started = time.monotonic()
        outcome = "error"
        task = _current_task()
        cancellations = task.cancelling()
        try:
            rows = await self._once_or_again(statement, parameters, started, cancellations)
            outcome = "ok"
            return rows
        except OutcomeUnknown:
            outcome = "timeout"
            raise
        finally:
            self._observe(step, time.monotonic() - started, outcome)
            _heed_cancellation(cancellations)

    async def read(self, step: str, statement: str, parameters: Parameters = ()) -> list[Row]:
        """As `call`, for a statement that changes nothing: there is no outcome to be unknown, so what `call` says of it is `StoreUnavailable`."""
        try:
            return await self.call(step, statement, parameters)
        except OutcomeUnknown as error:
            raise StoreUnavailable(retry_after_s=1) from error

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
        """A connection of its own, beside the pool's `size`, that hears a channel: what it gives waits for the next notice, at most so many seconds.

        Raises `StoreUnavailable` if there is no connection, and when it is lost. A notice that came while nobody waited is not missed.
        """
        cancellations = _current_task().cancelling()
        link = await self._connect(self._direct_dsns)
        try:
            _heed_cancellation(cancellations)
            await link.cursor.execute(f"listen {channel}")
            _heed_cancellation(cancellations)

            async def notice(within_s: float) -> None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(within_s):
                        await link.connection.notifies.get()

            yield notice
        except asyncio.CancelledError as error:
            # As in `_once`: a server-side time limit, raised as a cancellation.
            if isinstance(error.__context__, psycopg2.errors.QueryCanceled) and _current_task().cancelling() == cancellations:
                raise StoreUnavailable(retry_after_s=1) from error
            raise
        except (psycopg2.Error, OSError) as error:
            raise StoreUnavailable(retry_after_s=1) from error
        finally:
            link.close()

    async def _once_or_again(self, statement: str, parameters: Parameters, started: float, cancellations: int) -> list[Row]:
        try:
            return await self._once(statement, parameters, cancellations)
        except OutcomeUnknown:
            if self._closed or time.monotonic() - started > REPEAT_WITHIN_S or _current_task().cancelling() > cancellations:
                raise
        try:
            return await self._once(statement, parameters, cancellations)
        except Refusal as refusal:
            # However definite it is about the repetition, of the first try it tells nothing.
            raise _unknown() from refusal

    async def close(self) -> None:
        """Closes what is free now and the rest as it comes back; waiters are sent away."""
        self._closed = True
        while self._free:
            self._drop(self._free.popleft())
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(StoreUnavailable("The service is shutting down", retry_after_s=1))

    async def _once(self, statement: str, parameters: Parameters, cancellations: int) -> list[Row]:
        link = await self._acquire()
        try:
            await link.cursor.execute(self._first + statement, parameters or None, timeout=self._statement_timeout_s + 0.25)
            return await link.cursor.fetchall() if link.cursor.description else []
        except asyncio.CancelledError as error:
            # aiopg raises a server-side timeout as a cancellation.
            if isinstance(error.__context__, psycopg2.errors.QueryCanceled) and _current_task().cancelling() == cancellations:
                raise _unknown() from error
            raise
        except TimeoutError as error:
            # The server did not even end the statement itself.
            self._forget_idle(link)
            raise _unknown() from error
        except psycopg2.Error as error:
            raise self._translate(error, link) from error
        except OSError as error:
            self._forget_idle(link)
            raise _unknown() from error
        finally:
            self._release(link)

    def _translate(self, error: psycopg2.Error, link: _Link) -> Exception:
        code = error.pgcode
        if code is None or code.startswith(_UNKNOWN):
            if code != "57014":
                self._forget_idle(link)
            return _unknown()
        if code.startswith(_TROUBLE):
            if code == "25006":
                self._forget_idle(link)
            return StoreUnavailable(retry_after_s=1)
        return InternalFault("PostgreSQL refused a statement")

    def _forget_idle(self, link: _Link) -> None:
        """The server went away: connections of the same age are not to be tried one by one."""
        link.close()
        if link.generation == self._generation:
            self._generation += 1
            stale = list(self._free)
            self._free.clear()
            for other in stale:
                self._drop(other)

    async def _acquire(self) -> _Link:
        try:
            async with asyncio.timeout(self._acquire_timeout_s):
                return await self._take()
        except TimeoutError as error:
            raise StoreUnavailable("No connection to the store in time", retry_after_s=1) from error

    async def _take(self) -> _Link:
        while True:
            if self._closed:
                raise StoreUnavailable("The service is shutting down", retry_after_s=1)
            while self._free:
                link = self._free.pop()
                if self._usable(link):
                    return link
                self._drop(link)
            if self._open < self._size:
                return await self._open_one()
            if len(self._waiters) >= WAITING_MAX:
                raise Overloaded(retry_after_s=1)
            waiter: asyncio.Future[_Link | None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                handed = await waiter
            except asyncio.CancelledError:
                if waiter.cancelled():
                    # Who gives up takes no place in the queue.
                    with suppress(ValueError):
                        self._waiters.remove(waiter)
                elif waiter.exception() is None:
                    self._hand_on(waiter.result())
                raise
            if handed is not None:
                if self._usable(handed):
                    return handed
                self._drop(handed)

    async def _open_one(self) -> _Link:
        self._open += 1
        try:
            return await self._connect(self._dsns)
        except BaseException:
            self._open -= 1
            self._hand_on(None)
            raise

    async def _connect(self, dsns: deque[str]) -> _Link:
        last: Exception | None = None
        for dsn in tuple(dsns):
            try:
                connection = await aiopg.connect(dsn, timeout=self._connect_timeout_s, enable_hstore=False, enable_uuid=False)
                return _Link(connection, await connection.cursor(), self._generation, time.monotonic() + AGE_MAX_S * random.uniform(0.9, 1.0))
            except (psycopg2.Error, TimeoutError, OSError) as error:
                last = error
                _try_last(dsns, dsn)
            except asyncio.CancelledError:
                # Who waited has gone, perhaps because this host does not answer: the next one must not wait for it again.
                _try_last(dsns, dsn)
                raise
        raise StoreUnavailable(retry_after_s=1) from last

    def _usable(self, link: _Link) -> bool:
        return not link.connection.closed and link.generation == self._generation and time.monotonic() < link.old_at

    def _release(self, link: _Link) -> None:
        connection = link.connection
        if self._closed or connection.closed or connection.raw.get_transaction_status() != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
            self._drop(link)
        else:
            self._hand_on(link)

    def _drop(self, link: _Link) -> None:
        link.close()
        self._open -= 1
        self._hand_on(None)

    def _hand_on(self, link: _Link | None) -> None:
        """To the first waiter who is still there, or back; None tells a waiter that there is room for a new connection."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(link)
                return
        if link is not None:
            self._free.append(link)


def met_a_lock(error: BaseException) -> bool:
    """Whether a call ended because somebody held a row that it needs for longer than `lock_timeout`."""
    return isinstance(error.__cause__, psycopg2.errors.LockNotAvailable)


def _unknown() -> OutcomeUnknown:
    return OutcomeUnknown(retry_after_s=1)


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _heed_cancellation(cancellations: int) -> None:
    """Raises one that came since: `asyncio.wait_for`, which aiopg uses, swallows one that races with a result on CPython 3.11 (gh-86296)."""
    if _current_task().cancelling() > cancellations:
        raise asyncio.CancelledError


def _try_last(dsns: deque[str], dsn: str) -> None:
    if dsns[0] == dsn:
        dsns.rotate(-1)


def _time_limits(statement_timeout_s: float) -> dict[str, int]:
    """What ends a statement that nobody waits for, in milliseconds.

    In a session they hold for as long as it lasts. Through a pooler in transaction mode they stand before each statement in the same message, which
    PostgreSQL carries out as one transaction: they cost no trip, no other client of the pooler meets them, and nothing has to be set up for them.
    """
    timeout_ms = int(statement_timeout_s * 1000)
    return {
        "statement_timeout": timeout_ms,
        "lock_timeout": max(1, timeout_ms // LOCK_SHARE),
        "client_connection_check_interval": GONE_CLIENT_MS,
    }


def _one_host_each(dsn: str, settings: Mapping[str, int]) -> list[str]:
    """One DSN per host, since libpq's own failover confuses aiopg, each with settings for its sessions."""
    parts = parse_dsn(dsn)
    options = " ".join([parts.pop("options", ""), *(f"-c {name}={value}" for name, value in settings.items())]).strip()
    hosts = parts.pop("host", "").split(",")
    ports = parts.pop("port", "5432").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    fixed = {"application_name": "paynow", "keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3", "tcp_user_timeout": "5000"}
    if len(hosts) > 1:
        # A standby answers too, but it cannot decide.
        fixed["target_session_attrs"] = "read-write"
    return [
        make_dsn(**{**fixed, **parts, **({"host": host} if host else {}), "port": port, **({"options": options} if options else {})})
        for host, port in zip(hosts, ports, strict=True)
    ]
