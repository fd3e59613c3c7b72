"""Natural batching: who leaves when, with whom, and what one row's trouble means to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import psycopg2.errors
import pytest

from paynow.errors import InternalFault, OutcomeUnknown, Overloaded, StoreUnavailable
from paynow.store.batching import Batcher, complete
from waiting import eventually_async


class Server:
    """Answers each row with `(row, number of its batch)`; batches wait at the gate while it is shut."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.refuses: dict[str, Exception] = {}

    async def __call__(self, rows: Sequence[str]) -> list[tuple[str, int]]:
        self.batches.append(list(rows))
        number = len(self.batches)
        await self.gate.wait()
        for row in rows:
            if row in self.refuses:
                raise self.refuses[row]
        return [(row, number) for row in rows]


def batcher_of(server: Server, **limits) -> Batcher[str, tuple[str, int]]:
    return Batcher(server, **{"lanes": 1, "batch_max": 8, "waiting_max": 100, "wait_max_s": 5.0, **limits})


async def crowd(batcher: Batcher, server: Server, *rows: str) -> list[asyncio.Future]:
    """The first row is at the server, whose gate is shut; these wait behind it."""
    server.gate.clear()
    first = batcher("first")
    await eventually_async(lambda: asyncio.sleep(0, bool(server.batches)))
    return [first, *(batcher(row) for row in rows)]


def locked() -> StoreUnavailable:
    error = StoreUnavailable(retry_after_s=1)
    error.__cause__ = psycopg2.errors.LockNotAvailable()
    return error


async def test_a_row_that_finds_a_lane_free_leaves_alone() -> None:
    server = Server()
    batcher = batcher_of(server)
    assert await batcher("a") == ("a", 1)
    assert await batcher("b") == ("b", 2)


async def test_rows_that_wait_leave_together_and_each_gets_its_own_result() -> None:
    server = Server()
    answers = await crowd(batcher_of(server), server, "a", "b", "c")
    server.gate.set()
    assert await asyncio.gather(*answers) == [("first", 1), ("a", 2), ("b", 2), ("c", 2)]


async def test_rows_of_one_turn_of_the_loop_share_the_first_batch() -> None:
    server = Server()
    batcher = batcher_of(server)
    await asyncio.gather(batcher("a"), batcher("b"))
    assert server.batches == [["a", "b"]]


async def test_a_batch_has_its_limit_and_the_rest_follow_in_their_order() -> None:
    server = Server()
    answers = await crowd(batcher_of(server, batch_max=2), server, "a", "b", "c")
    server.gate.set()
    await asyncio.gather(*answers)
    assert server.batches == [["first"], ["a", "b"], ["c"]]


async def test_as_many_batches_run_at_once_as_there_are_lanes() -> None:
    server = Server()
    batcher = batcher_of(server, lanes=2)
    server.gate.clear()
    answers = []
    for row in ("a", "b", "c", "d"):
        answers.append(batcher(row))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert server.batches == [["a"], ["b"]]
    server.gate.set()
    await asyncio.gather(*answers)
    assert server.batches == [["a"], ["b"], ["c", "d"]]


async def test_what_may_stand_in_a_batch_once_waits_for_the_next() -> None:
    server = Server()
    answers = await crowd(batcher_of(server, once_per=lambda row: row[0]), server, "a1", "a2", "b1", "a3")
    server.gate.set()
    await asyncio.gather(*answers)
    assert server.batches == [["first"], ["a1", "b1"], ["a2"], ["a3"]]


async def test_rows_that_are_not_alike_leave_apart() -> None:
    server = Server()
    answers = await crowd(batcher_of(server, alike=str.isupper), server, "a", "B", "c", "D")
    server.gate.set()
    await asyncio.gather(*answers)
    assert server.batches == [["first"], ["a", "c"], ["B", "D"]]


async def test_a_full_queue_refuses_at_once() -> None:
    server = Server()
    batcher = batcher_of(server, waiting_max=2)
    answers = await crowd(batcher, server, "a", "b")
    with pytest.raises(Overloaded):
        batcher("c")
    server.gate.set()
    assert len(await asyncio.gather(*answers)) == 3


async def test_a_row_that_no_lane_takes_in_time_is_sent_away_and_never_sent() -> None:
    server = Server()
    first, late = await crowd(batcher_of(server, wait_max_s=0.02), server, "late")
    with pytest.raises(StoreUnavailable):
        await late
    server.gate.set()
    await first
    assert server.batches == [["first"]]


async def test_the_wait_of_a_later_row_is_its_own() -> None:
    server = Server()
    batcher = batcher_of(server, wait_max_s=0.4)
    first, early = await crowd(batcher, server, "early")
    await asyncio.sleep(0.2)
    late = batcher("late")
    with pytest.raises(StoreUnavailable):
        await early
    assert not late.done()
    server.gate.set()
    assert (await late)[0] == "late"
    await first


@pytest.mark.parametrize("error", [InternalFault("refused"), ValueError("no text")], ids=["refused by PostgreSQL", "not sendable"])
async def test_a_poisonous_row_fails_alone(error: Exception) -> None:
    server = Server()
    server.refuses["bad"] = error
    answers = await crowd(batcher_of(server), server, "a", "b", "bad", "c", "d")
    server.gate.set()
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert results[3] is error
    assert [result[0] for number, result in enumerate(results) if number != 3] == ["first", "a", "b", "c", "d"]


async def test_a_row_that_is_locked_by_somebody_fails_alone_and_the_others_are_tried_one_by_one() -> None:
    server = Server()
    server.refuses["locked"] = locked()
    answers = await crowd(batcher_of(server), server, "a", "locked", "b")
    server.gate.set()
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert results[2] is server.refuses["locked"]
    assert server.batches == [["first"], ["a", "locked", "b"], ["a"], ["locked"], ["b"]]


@pytest.mark.parametrize("error", [OutcomeUnknown(retry_after_s=1), StoreUnavailable(retry_after_s=1)], ids=["unknown", "unavailable"])
async def test_trouble_with_the_server_is_everybodys_and_nothing_is_repeated(error: Exception) -> None:
    server = Server()
    server.refuses["a"] = error
    answers = await crowd(batcher_of(server), server, "a", "b")
    server.gate.set()
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert results[1:] == [error, error]
    assert server.batches == [["first"], ["a", "b"]]


async def test_a_caller_that_goes_away_harms_no_other_whether_it_waits_or_is_under_way() -> None:
    server = Server()
    first, gone, stays = await crowd(batcher_of(server), server, "gone", "stays")
    first.cancel()
    gone.cancel()
    server.gate.set()
    assert await stays == ("stays", 2)
    assert server.batches == [["first"], ["stays"]]


async def test_the_lane_is_free_again_after_trouble() -> None:
    server = Server()
    batcher = batcher_of(server)
    server.refuses["bad"] = InternalFault("refused")
    with pytest.raises(InternalFault):
        await batcher("bad")
    assert await batcher("good") == ("good", 2)


async def test_each_batch_is_counted_with_its_rows() -> None:
    server, seen = Server(), []
    answers = await crowd(batcher_of(server, observe=seen.append), server, "a", "b")
    server.gate.set()
    await asyncio.gather(*answers)
    assert seen == [1, 2]


def test_a_result_that_is_missing_is_a_fault_and_nobody_gets_anothers() -> None:
    assert complete([1, 2]) == [1, 2]
    with pytest.raises(InternalFault):
        complete([1, None, 3])


async def test_rows_that_are_tried_one_by_one_do_not_hold_up_the_others_for_ever() -> None:
    tried: list[str] = []

    async def run(rows: list[str]) -> list[str]:
        tried.append("".join(rows))
        await asyncio.sleep(0.02)
        error = StoreUnavailable()
        error.__cause__ = psycopg2.errors.LockNotAvailable()
        raise error

    batcher = Batcher(run, lanes=1, batch_max=128, waiting_max=128, wait_max_s=0.01)
    answers = await asyncio.gather(*(batcher(row) for row in "abcdefgh"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 8
    assert tried[0] == "abcdefgh"
    assert 1 < len(tried) < 9


async def test_a_result_too_few_leaves_nobody_without_an_answer() -> None:
    async def run(rows: list[str]) -> list[str]:
        return rows[1:]

    batcher = Batcher(run, lanes=1, batch_max=8, waiting_max=8, wait_max_s=1)
    answers = await asyncio.gather(*(batcher(row) for row in "abc"), return_exceptions=True)
    assert any(isinstance(answer, InternalFault) for answer in answers)
    assert len(answers) == 3
