"""The pool on a real PostgreSQL: what aiopg and its own pool get wrong is not wrong here, and every wait has its end."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial

import aiopg
import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from database import OwnServer, execute
from paynow.errors import InternalFault, OutcomeUnknown, Overloaded, StoreUnavailable
from paynow.store import pool as pool_module
from paynow.store.pool import WAITING_MAX, Pool
from waiting import eventually, meanwhile
from wire import wire_to

LONG_S = 30.0
"""A wait that no test waits for: what ends before it ended by itself."""
SOON_S = 5.0
SLEEP = f"select pg_sleep({LONG_S})"
SLEEPERS = "select pid from pg_stat_activity where datname = current_database() and state = 'active' and query like 'select pg_sleep%'"
PID = "select pg_backend_pid()"


@pytest.fixture
async def pool_of(empty_database: str) -> AsyncIterator[Callable[..., Pool]]:
    """Makes pools on an empty database whose limits are too long to be met, but for those a test gives; closes them."""
    made: list[Pool] = []

    def make(size: int, *, dsn: str = empty_database, **limits: object) -> Pool:
        limits = {"connect_timeout_s": LONG_S, "acquire_timeout_s": LONG_S, "statement_timeout_s": LONG_S, **limits}
        made.append(Pool(dsn, size=size, **limits))
        return made[-1]

    yield make
    for pool in made:
        await pool.close()


async def pid_of(pool: Pool) -> int:
    return (await pool.call("pid", PID))[0][0]


async def idle(pool: Pool, count: int) -> set[int]:
    """Opens `count` connections that are then free; their backends."""
    rows = await asyncio.gather(*(pool.call("pid", "select pg_backend_pid(), pg_sleep(0.05)") for _ in range(count)))
    assert pool.counts == (count, 0, 0)
    return {row[0][0] for row in rows}


async def sleeper(pool: Pool, dsn: str) -> asyncio.Task[list[tuple]]:
    """A call that PostgreSQL is busy with, seen there."""
    before = len(execute(dsn, SLEEPERS))
    call = asyncio.create_task(pool.call("sleep", SLEEP))
    await meanwhile(lambda: len(execute(dsn, SLEEPERS)) > before)
    return call


async def ended(call: asyncio.Task[list[tuple]]) -> None:
    """Cancels a call, which has to end so."""
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


@asynccontextmanager
async def soon() -> AsyncIterator[None]:
    async with asyncio.timeout(SOON_S):
        yield


# ---------------------------------------------------------------- who waits


async def test_a_waiter_behind_a_cancelled_query_gets_a_connection(pool_of: Callable[..., Pool], empty_database: str) -> None:
    pool = pool_of(1)
    busy = await sleeper(pool, empty_database)
    waiter = asyncio.create_task(pool.call("next", "select 1"))
    await meanwhile(lambda: pool.counts == (1, 1, 1))
    await ended(busy)
    async with soon():
        assert await waiter == [(1,)]


async def test_waiters_get_connections_in_their_order(pool_of: Callable[..., Pool], empty_database: str) -> None:
    pool, served = pool_of(1), []

    async def ask(number: int) -> None:
        await pool.call("next", "select 1")
        served.append(number)

    busy = await sleeper(pool, empty_database)
    waiters = [asyncio.create_task(ask(number)) for number in range(10)]
    await meanwhile(lambda: pool.counts[2] == 10)
    waiters[3].cancel()
    await ended(busy)
    async with soon():
        await asyncio.wait(waiters)
    assert served == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert pool.counts == (1, 0, 0)


async def test_a_connection_handed_to_a_waiter_who_is_cancelled_at_that_moment_goes_to_the_next(pool_of: Callable[..., Pool]) -> None:
    def leave(step: str, seconds: float, outcome: str) -> None:
        if step == "first":  # Its connection is the waiter's now, but the waiter has not run yet.
            leaving.cancel()

    pool = pool_of(1, observe=leave)
    first = asyncio.create_task(pool.call("first", "select pg_sleep(0.1)"))
    await meanwhile(lambda: pool.counts == (1, 1, 0))
    leaving, next_one = (asyncio.create_task(pool.call(step, "select 1")) for step in ("leaving", "next"))
    await meanwhile(lambda: pool.counts == (1, 1, 2))
    async with soon():
        await first
        assert await next_one == [(1,)]
    assert leaving.cancelled()
    assert pool.counts == (1, 0, 0)


async def test_who_waits_for_a_connection_that_cannot_be_opened_tries_to_open_one_himself(pool_of: Callable[..., Pool], empty_database: str) -> None:
    with listener(answers=True) as port:
        pool = pool_of(1, dsn=make_dsn(empty_database, host="127.0.0.1", port=port))
        opening, waiter = (asyncio.create_task(pool.call("opens", "select 1")) for _ in range(2))
        await meanwhile(lambda: pool.counts == (1, 1, 1))
        await ended(opening)
        await meanwhile(lambda: pool.counts == (1, 1, 0))
        await ended(waiter)
        assert pool.counts == (0, 0, 0)


async def test_who_finds_no_connection_in_time_is_refused_and_waits_no_longer(pool_of: Callable[..., Pool], empty_database: str) -> None:
    pool = pool_of(1, acquire_timeout_s=0.5)
    busy = await sleeper(pool, empty_database)
    outcomes = await asyncio.gather(*(pool.call("late", "select 1") for _ in range(5)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 5
    assert pool.counts == (1, 1, 0), "who gave up takes no place in the queue"
    await ended(busy)


async def test_a_full_queue_refuses_at_once_and_lets_in_again_when_there_is_room(pool_of: Callable[..., Pool], empty_database: str) -> None:
    pool = pool_of(1)
    busy = await sleeper(pool, empty_database)
    waiters = [asyncio.create_task(pool.call("waits", "select 1")) for _ in range(WAITING_MAX)]
    await meanwhile(lambda: pool.counts == (1, 1, WAITING_MAX))
    began = time.monotonic()
    with pytest.raises(Overloaded):
        await pool.call("too many", "select 1")
    assert time.monotonic() - began < 1
    for waiter in waiters[1:]:
        waiter.cancel()
    await asyncio.wait(waiters[1:])
    next_one = asyncio.create_task(pool.call("next", "select 1"))
    await meanwhile(lambda: pool.counts == (1, 1, 2))
    await ended(busy)
    async with soon():
        assert [await waiters[0], await next_one] == [[(1,)], [(1,)]]


async def test_closing_sends_waiters_away_lets_the_busy_finish_and_refuses_who_comes_later(pool_of: Callable[..., Pool], empty_database: str) -> None:
    pool = pool_of(2)
    await idle(pool, 2)
    execute(empty_database, "create table gate ()")
    with closing(psycopg2.connect(empty_database)) as locker, locker.cursor() as cursor:
        cursor.execute("lock table gate")
        busy = [asyncio.create_task(pool.call("busy", "select count(*) from gate")) for _ in range(2)]
        await meanwhile(lambda: pool.counts == (2, 2, 0))
        waiter = asyncio.create_task(pool.call("waits", "select 1"))
        await meanwhile(lambda: pool.counts == (2, 2, 1))
        await pool.close()
        async with soon():
            with pytest.raises(StoreUnavailable, match="shutting down"):
                await waiter
        with pytest.raises(StoreUnavailable, match="shutting down"):
            await pool.call("late", "select 1")
        locker.commit()
    async with soon():
        assert await asyncio.gather(*busy) == [[(0,)]] * 2
    assert pool.counts == (0, 0, 0)


async def test_closing_ends_the_free_connections(pool_of: Callable[..., Pool], empty_database: str) -> None:
    pool = pool_of(3)
    pids = await idle(pool, 3)
    await pool.close()
    assert pool.counts == (0, 0, 0)
    alive = "select count(*) from pg_stat_activity where pid = any (%s)"
    await meanwhile(lambda: execute(empty_database, alive, list(pids)) == [(0,)])


# ---------------------------------------------------------------- how a statement ends


async def test_a_time_limit_of_the_server_is_an_unknown_outcome_and_no_cancellation(pool_of: Callable[..., Pool]) -> None:
    pool = pool_of(1, statement_timeout_s=0.6)
    async with soon():
        with pytest.raises(OutcomeUnknown):
            await pool.call("sleep", SLEEP)
    assert asyncio.current_task().cancelling() == 0
    assert pool.counts == (1, 0, 0), "the server ended it, so the connection is still good"
    assert await pool.call("next", "select 1") == [(1,)]


async def test_every_connection_has_the_limits_that_end_a_statement_nobody_waits_for(pool_of: Callable[..., Pool], empty_database: str) -> None:
    pool = pool_of(1, dsn=make_dsn(empty_database, options="-c search_path=mine"), statement_timeout_s=1.5)
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "client_connection_check_interval", "search_path")
    rows = await pool.call("limits", "select current_setting(name) from unnest(%s) with ordinality n (name, i) order by i", (list(names),))
    assert [row[0] for row in rows] == ["1500ms", "500ms", "5s", "500ms", "mine"]


async def test_a_time_limit_of_the_server_in_a_task_that_outlived_a_cancellation_is_no_second_one(pool_of: Callable[..., Pool]) -> None:
    pool = pool_of(1, statement_timeout_s=0.6)

    async def tidies_up() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await pool.call("tidy", SLEEP)

    task = asyncio.create_task(tidies_up())
    await asyncio.sleep(0)
    task.cancel()
    async with soon():
        with pytest.raises(OutcomeUnknown):
            await task


async def test_a_statement_that_an_operator_cancels_is_repeated(pool_of: Callable[..., Pool], empty_database: str) -> None:
    execute(empty_database, "create sequence tries")
    pool = pool_of(1)
    call = asyncio.create_task(pool.call("sleep", "select pg_sleep(case nextval('tries') when 1 then 30 else 0 end)"))
    await meanwhile(lambda: execute(empty_database, SLEEPERS))
    execute(empty_database, f"select pg_cancel_backend(pid) from ({SLEEPERS}) s")
    async with soon():
        await call
    assert execute(empty_database, "select last_value from tries") == [(2,)]


async def test_a_cancellation_is_a_cancellation_and_ends_the_statement_on_the_server(pool_of: Callable[..., Pool], empty_database: str) -> None:
    pool = pool_of(1)
    call = await sleeper(pool, empty_database)
    await ended(call)
    assert pool.counts == (0, 0, 0)
    await meanwhile(lambda: not execute(empty_database, SLEEPERS), within_s=SOON_S)


@pytest.mark.parametrize(
    "meets", ["select 'meets', pg_sleep(0.05)", "select 'meets', 1 / length(pg_sleep(0.05)::text)"], ids=["the result", "an error"]
)
async def test_a_cancellation_that_meets_the_end_of_the_statement_is_not_swallowed(
    pool_of: Callable[..., Pool], empty_database: str, meets: str
) -> None:
    """CPython's gh-86296: `asyncio.wait_for` gives the result or raises the error if it is there when the cancellation comes."""
    pool, loop = pool_of(1), asyncio.get_running_loop()
    await idle(pool, 1)
    call = asyncio.create_task(pool.call("meets", meets))
    await asyncio.sleep(0)
    answered = "select 1 from pg_stat_activity where datname = current_database() and state = 'idle' and query like 'select ''meets''%'"
    eventually(lambda: execute(empty_database, answered))
    # The loop has stood still: in its next round it reads the answer, and in the one after that the cancellation comes first.
    loop.call_soon(loop.call_soon, call.cancel)
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await pool.call("next", "select 1") == [(1,)]


@pytest.mark.parametrize("rounds", range(5))
async def test_a_cancellation_that_meets_the_loss_of_its_connection_is_not_followed_by_a_repetition(
    pool_of: Callable[..., Pool], empty_database: str, rounds: int
) -> None:
    """In one of these rounds of the loop the loss is known and the call is not awake yet."""
    execute(empty_database, "create sequence tries")
    pool, loop = pool_of(1), asyncio.get_running_loop()
    (pid,) = await idle(pool, 1)
    call = asyncio.create_task(pool.call("meets", "select nextval('tries'), pg_terminate_backend(pg_backend_pid()), pg_sleep(1)"))
    await asyncio.sleep(0)
    eventually(lambda: not execute(empty_database, "select from pg_stat_activity where pid = %s", pid))
    cancel = call.cancel
    for _ in range(rounds):
        cancel = partial(loop.call_soon, cancel)
    loop.call_soon(cancel)
    with pytest.raises(asyncio.CancelledError):
        await call
    assert execute(empty_database, "select last_value from tries") == [(1,)]


async def test_a_time_limit_of_the_caller_is_the_callers(pool_of: Callable[..., Pool]) -> None:
    pool = pool_of(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await pool.call("sleep", SLEEP)
    assert await pool.call("next", "select 1") == [(1,)]


async def test_hundreds_of_cancellations_at_any_moment_lose_no_connection(pool_of: Callable[..., Pool]) -> None:
    pool = pool_of(3)

    async def give_up(number: int) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(number % 40 / 4000):
                await pool.call("some", "select pg_sleep(0.02)")

    for start in range(0, 400, 40):
        await asyncio.gather(*(give_up(number) for number in range(start, start + 40)))
    open_now, busy, waiting = pool.counts
    assert (busy, waiting) == (0, 0)
    assert open_now <= 3
    async with soon():
        assert await asyncio.gather(*(pool.call("next", "select 1") for _ in range(9))) == [[(1,)]] * 9


async def test_who_gives_up_listening_at_any_moment_has_ended(pool_of: Callable[..., Pool]) -> None:
    """A cancellation that is lost while the connection is made would leave a service that cannot stop."""
    pool = pool_of(1)

    async def listen() -> None:
        async with pool.listening("news") as notice:
            await notice(LONG_S)

    async def give_up(turns: int) -> None:
        listening = asyncio.create_task(listen())
        for _ in range(turns):
            await asyncio.sleep(0)
        listening.cancel()
        ended_in_time, _ = await asyncio.wait({listening}, timeout=SOON_S)
        assert ended_in_time, f"cancelled after {turns} turns of the loop"

    for start in range(150):
        await asyncio.gather(*(give_up(turns) for turns in range(start, start + 200, 10)))


async def test_what_postgresql_refuses_is_a_fault_and_the_connection_stays(pool_of: Callable[..., Pool]) -> None:
    pool = pool_of(1)
    pid = await pid_of(pool)
    for wrong in ("selekt", "select 1 / 0", "select * from nowhere"):
        with pytest.raises(InternalFault):
            await pool.call("wrong", wrong)
    assert await pid_of(pool) == pid


async def test_a_lock_not_had_in_time_is_a_definite_failure(pool_of: Callable[..., Pool], empty_database: str) -> None:
    execute(empty_database, "create table gate ()")
    pool = pool_of(1)
    with closing(psycopg2.connect(empty_database)) as locker, locker.cursor() as cursor:
        cursor.execute("lock table gate")
        with pytest.raises(StoreUnavailable):
            await pool.call("locks", "lock table gate nowait; select 1")


async def test_a_connection_left_inside_a_transaction_is_not_used_again(pool_of: Callable[..., Pool]) -> None:
    pool = pool_of(1)
    await pool.call("begins", "begin")
    assert pool.counts == (0, 0, 0)
    assert await pool.call("next", "select 1") == [(1,)]


async def test_every_call_is_observed_with_its_end(pool_of: Callable[..., Pool]) -> None:
    seen: list[tuple[str, str]] = []
    pool = pool_of(1, statement_timeout_s=0.6, observe=lambda step, seconds, outcome: seen.append((step, outcome)))
    await pool.call("good", "select 1")
    with pytest.raises(InternalFault):
        await pool.call("bad", "selekt")
    with pytest.raises(OutcomeUnknown):
        await pool.call("slow", SLEEP)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await pool.call("left", SLEEP)
    assert seen == [("good", "ok"), ("bad", "error"), ("slow", "timeout"), ("left", "error")]


# ---------------------------------------------------------------- servers that go away


async def test_a_statement_whose_backend_dies_is_repeated_on_another(pool_of: Callable[..., Pool], empty_database: str) -> None:
    execute(empty_database, "create sequence tries")
    pool = pool_of(1)
    call = asyncio.create_task(pool.call("sleep", "select pg_sleep(case nextval('tries') when 1 then 30 else 0 end)"))
    await meanwhile(lambda: execute(empty_database, SLEEPERS))
    execute(empty_database, f"select pg_terminate_backend(pid) from ({SLEEPERS}) s")
    async with soon():
        await call
    assert execute(empty_database, "select last_value from tries") == [(2,)]


async def test_a_statement_whose_answer_is_lost_twice_is_an_unknown_outcome(pool_of: Callable[..., Pool], empty_database: str) -> None:
    execute(empty_database, "create sequence tries")
    async with wire_to(empty_database) as wire:
        pool = pool_of(1, dsn=wire.dsn)
        wire.lose_answers("nextval", times=2)
        async with soon():
            with pytest.raises(OutcomeUnknown):
                await pool.call("counts", "select nextval('tries')")
            assert await pool.call("counts", "select nextval('tries')") == [(3,)]


async def test_after_a_restart_no_call_fails(pool_of: Callable[..., Pool], own_server: OwnServer) -> None:
    """The loop stands still meanwhile, as in a process that was paused: no connection could notice that its server is gone."""
    pool = pool_of(8, dsn=own_server.dsn)
    await idle(pool, 8)
    own_server.stop_immediate()
    own_server.start()
    for _ in range(8):
        async with soon():
            assert await pool.call("next", "select 1") == [(1,)]
    assert pool.counts == (1, 0, 0)


async def test_after_a_reboot_of_its_host_the_idle_connections_are_not_tried_one_by_one(pool_of: Callable[..., Pool], empty_database: str) -> None:
    """No connection hears that its server is gone before it is used."""
    async with wire_to(empty_database) as wire:
        pool = pool_of(8, dsn=wire.dsn)
        before = await idle(pool, 8)
        wire.reboot()
        for _ in range(8):
            async with soon():
                assert await pid_of(pool) not in before
        assert pool.counts == (1, 0, 0)


async def test_after_a_restart_idle_connections_are_replaced_for_all_who_come_at_once(pool_of: Callable[..., Pool], own_server: OwnServer) -> None:
    pool = pool_of(8, dsn=own_server.dsn)
    before = await idle(pool, 8)
    own_server.stop_immediate()
    own_server.start()
    async with soon():
        assert await asyncio.gather(*(pool.call("next", "select 1") for _ in range(30))) == [[(1,)]] * 30
    assert before.isdisjoint(await idle(pool, 8))


async def test_a_server_that_says_nothing_at_all_is_given_up_with_all_its_idle_connections(pool_of: Callable[..., Pool], empty_database: str) -> None:
    """The server cannot even end the statement itself: its processes stand still, and nothing on the wire says so."""
    pool = pool_of(4, statement_timeout_s=0.6)
    pids = await idle(pool, 4)
    with stopped(pids):
        async with soon():
            with pytest.raises(OutcomeUnknown):
                await pool.call("nothing", "select 1")
        for _ in range(4):
            assert await pid_of(pool) not in pids


async def test_while_the_server_is_away_everyone_is_refused_at_once_and_then_served(pool_of: Callable[..., Pool], own_server: OwnServer) -> None:
    pool = pool_of(4, dsn=own_server.dsn)
    await idle(pool, 4)
    own_server.kill()
    async with soon():
        outcomes = await asyncio.gather(*(pool.call("away", "select 1") for _ in range(30)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {StoreUnavailable, OutcomeUnknown}
    assert pool.counts == (0, 0, 0)
    own_server.start()
    async with soon():
        assert await pool.call("back", "select 1") == [(1,)]


async def test_a_server_that_has_become_read_only_is_left(pool_of: Callable[..., Pool], empty_database: str) -> None:
    """As after a failover: the open sessions are with what is a standby now, new ones come to a server that writes."""
    pool = pool_of(5)
    with read_only(empty_database):
        await idle(pool, 5)
    with pytest.raises(StoreUnavailable):
        await pool.call("writes", "create table anything ()")
    assert pool.counts == (0, 0, 0)
    for number in range(5):
        await pool.call("writes", f"create table thing_{number} ()")


async def test_a_connection_that_was_busy_when_the_server_became_read_only_is_left_too(pool_of: Callable[..., Pool], empty_database: str) -> None:
    execute(empty_database, "create table gate ()")
    pool = pool_of(2)
    with read_only(empty_database):
        await idle(pool, 2)
    with closing(psycopg2.connect(empty_database)) as locker, locker.cursor() as cursor:
        cursor.execute("lock table gate")
        busy = asyncio.create_task(pool.call("busy", "select count(*) from gate"))
        await meanwhile(lambda: execute(empty_database, "select count(*) from pg_locks where not granted") != [(0,)])
        with pytest.raises(StoreUnavailable):
            await pool.call("writes", "create table anything ()")
        locker.commit()
    await busy
    for number in range(2):
        await pool.call("writes", f"create table thing_{number} ()")


async def test_a_connection_is_replaced_when_it_is_old_however_busy(pool_of: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "AGE_MAX_S", 0.0)
    pool = pool_of(1)
    assert len({await pid_of(pool) for _ in range(3)}) == 3
    assert pool.counts == (1, 0, 0)


# ---------------------------------------------------------------- sockets and hosts


@contextmanager
def read_only(dsn: str) -> Iterator[None]:
    """Sessions that begin meanwhile can only read, also afterwards."""
    name = parse_dsn(dsn)["dbname"]
    execute(dsn, f"alter database {name} set default_transaction_read_only = on")
    yield
    execute(make_dsn(dsn, options="-c default_transaction_read_only=off"), f"alter database {name} reset default_transaction_read_only")


@contextmanager
def stopped(pids: set[int]) -> Iterator[None]:
    """These processes stand still meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def many_files_open() -> Iterator[None]:
    """All file descriptors below 1024 are taken, so that what is opened next has a higher one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this user may not open 2048 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    taken = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while taken[-1] < 1024:
            taken.append(os.dup(taken[0]))
        yield
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_dying_backend_is_noticed_on_sockets_above_1024_too(pool_of: Callable[..., Pool], empty_database: str) -> None:
    execute(empty_database, "create sequence tries")
    pool = pool_of(1)
    with many_files_open():
        call = asyncio.create_task(pool.call("sleep", "select pg_sleep(case nextval('tries') when 1 then 30 else 0 end)"))
        await meanwhile(lambda: execute(empty_database, SLEEPERS))
        execute(empty_database, f"select pg_terminate_backend(pid) from ({SLEEPERS}) s")
        async with soon():
            await call
        (link,) = pool._free
        assert link.connection.raw.fileno() >= 1024
        await pool.close()


@contextmanager
def listener(*, answers: bool) -> Iterator[int]:
    """A port on which nobody listens (any more), or one where connections are taken and nothing is ever said."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        if answers:
            taken.listen()
        yield taken.getsockname()[1]


def with_first_host(dsn: str, port: int) -> str:
    parts = parse_dsn(dsn)
    return make_dsn(dsn, host=f"127.0.0.1,{parts['host']}", port=f"{port},{parts['port']}")


async def test_of_several_hosts_one_that_refuses_is_passed_over(pool_of: Callable[..., Pool], empty_database: str) -> None:
    with listener(answers=False) as port:
        pool = pool_of(2, dsn=with_first_host(empty_database, port), acquire_timeout_s=5)
        async with soon():
            await idle(pool, 2)


async def test_of_several_hosts_one_that_says_nothing_is_passed_over(pool_of: Callable[..., Pool], empty_database: str) -> None:
    with listener(answers=True) as port:
        pool = pool_of(2, dsn=with_first_host(empty_database, port), connect_timeout_s=0.5)
        async with soon():
            await idle(pool, 2)


async def test_of_several_hosts_one_that_said_nothing_is_not_asked_each_time(
    pool_of: Callable[..., Pool], empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "AGE_MAX_S", 0.0)  # each call connects
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        pool = pool_of(1, dsn=with_first_host(empty_database, silent.getsockname()[1]), connect_timeout_s=0.5)
        for _ in range(4):
            await pid_of(pool)
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


async def test_of_several_hosts_one_that_takes_longer_than_anyone_waits_is_not_tried_first_again(
    pool_of: Callable[..., Pool], empty_database: str
) -> None:
    """With the limits of the configuration: nobody waits as long for a connection as one connect may take."""
    with listener(answers=True) as port:
        pool = pool_of(2, dsn=with_first_host(empty_database, port), connect_timeout_s=2, acquire_timeout_s=1)
        with pytest.raises(StoreUnavailable):
            await pool.call("first", "select 1")
        async with soon():
            await idle(pool, 2)


async def test_of_several_hosts_one_that_only_reads_is_passed_over(pool_of: Callable[..., Pool], own_server: OwnServer, empty_database: str) -> None:
    execute(own_server.dsn, "alter system set default_transaction_read_only = on")
    execute(own_server.dsn, "select pg_reload_conf()")
    eventually(lambda: execute(own_server.dsn, "show default_transaction_read_only") == [("on",)])
    name = parse_dsn(empty_database)["dbname"]
    execute(make_dsn(own_server.dsn, options="-c default_transaction_read_only=off"), f"create database {name}")
    hosts = [parse_dsn(dsn)["host"] for dsn in (own_server.dsn, empty_database)]
    pool = pool_of(2, dsn=make_dsn(empty_database, host=",".join(hosts), port="5432"))
    async with soon():
        await pool.call("writes", "create table anything ()")
    assert execute(empty_database, "select count(*) from pg_tables where tablename = 'anything'") == [(1,)]


async def test_a_frozen_server_costs_all_who_come_one_wait_together(pool_of: Callable[..., Pool], empty_database: str) -> None:
    with listener(answers=True) as port:
        pool = pool_of(20, dsn=make_dsn(empty_database, host="127.0.0.1", port=port), acquire_timeout_s=0.3)
        began = time.monotonic()
        outcomes = await asyncio.gather(*(pool.call("waits", "select 1") for _ in range(100)), return_exceptions=True)
        assert time.monotonic() - began < SOON_S
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    assert pool.counts == (0, 0, 0)


async def test_when_no_host_answers_who_would_listen_is_refused(pool_of: Callable[..., Pool], empty_database: str) -> None:
    with listener(answers=False) as port:
        pool = pool_of(1, dsn=make_dsn(empty_database, host="127.0.0.1", port=port))
        with pytest.raises(StoreUnavailable):
            async with pool.listening("anything"):
                raise AssertionError


async def test_a_statement_leaves_nothing_for_the_collector_of_cycles(pool_of: Callable[..., Pool]) -> None:
    pool = pool_of(1)
    gc.collect()
    gc.disable()
    try:
        for number in range(20):
            assert await pool.call("number", "select %s::int", (number,)) == [(number,)]
        left = [found for found in gc.get_objects() if isinstance(found, aiopg.Cursor)]
    finally:
        gc.enable()
    assert len(left) == 1, "each statement's text and rows stay until the collector stops everything to find them"
