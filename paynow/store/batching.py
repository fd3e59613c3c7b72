"""Natural batching: what waits while every lane is busy leaves together on the next free one. It knows nothing of SQL.

A row that finds a lane free leaves at once, alone; there is no timer, so nothing waits when there is little to do, and batches grow by themselves
under load.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from paynow.errors import InternalFault, OutcomeUnknown, Overloaded, StoreUnavailable
from paynow.observability.spans import Span, Spans, current_span
from paynow.store.pool import met_a_lock

APART_WAITS_MAX = 3
"""Rows that are tried one by one have so many times the longest wait for a lane, all together: who comes after waits for them."""

Row = TypeVar("Row")
Result = TypeVar("Result")


@dataclass(slots=True)
class _Waiting(Generic[Row, Result]):
    row: Row
    answer: asyncio.Future[Result]
    since: float
    span: Span | None = None


class Batcher(Generic[Row, Result]):
    """Runs rows in batches: `run` takes up to `batch_max` rows and returns their results in the same order.

    `once_per` names what may stand in a batch only once, and `alike` what all rows of a batch have in common. At most `lanes` batches run at once.
    At most `waiting_max` rows wait, and none of them longer than `wait_max_s`. A batch that is refused because of what is in it, or that meets
    somebody's lock, is split, so that a poisonous row fails alone. A caller that goes away harms no other.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Row]], Awaitable[Sequence[Result]]],
        *,
        lanes: int,
        batch_max: int,
        waiting_max: int,
        wait_max_s: float,
        once_per: Callable[[Row], Hashable] | None = None,
        alike: Callable[[Row], Hashable] | None = None,
        observe: Callable[[int], None] = lambda rows: None,
        step: str = "",
        spans: Spans | None = None,
    ) -> None:
        """With `spans` each batch is recorded as one of `step`, linked to the spans that its rows were handed over in."""
        self._run = run
        self._step = step
        self._spans = spans
        self._free = lanes
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._wait_max_s = wait_max_s
        self._once_per = once_per
        self._alike = alike
        self._observe = observe
        self._waiting: deque[_Waiting[Row, Result]] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Rows that no lane has taken yet."""
        return len(self._waiting)

    def __call__(self, row: Row) -> asyncio.Future[Result]:
        """The result of one row, to be awaited. Raises `Overloaded` at once if too many wait.

        The future ends in `StoreUnavailable` if no lane took the row in time, and in what `run` raised.
        """
        if len(self._waiting) >= self._waiting_max:
            raise Overloaded(retry_after_s=1)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        self._waiting.append(_Waiting(row, answer, time.monotonic(), None if self._spans is None else current_span()))
        if self._free:
            self._free -= 1
            lane = loop.create_task(self._serve())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        elif self._alarm is None:
            self._alarm = loop.call_later(self._wait_max_s, self._give_up_late)
        return answer

    async def _serve(self) -> None:
        """One lane: batch after batch until nobody waits."""
        try:
            while batch := self._next_batch():
                try:
                    self._observe(len(batch))
                    await self._run_batch(batch)
                finally:
                    _fail(batch, InternalFault("A batch has left a row without an answer"))
        finally:
            self._free += 1

    def _next_batch(self) -> list[_Waiting[Row, Result]]:
        waiting = self._waiting
        if self._once_per is None and self._alike is None:
            batch = []
            while waiting and len(batch) < self._batch_max:
                entry = waiting.popleft()
                if not entry.answer.done():
                    batch.append(entry)
            return batch
        return self._next_fitting()

    def _next_fitting(self) -> list[_Waiting[Row, Result]]:
        batch: list[_Waiting[Row, Result]] = []
        rest: deque[_Waiting[Row, Result]] = deque()
        seen: set[Hashable] = set()
        common: Hashable = None
        while self._waiting and len(batch) < self._batch_max:
            entry = self._waiting.popleft()
            if entry.answer.done():
                continue
            once = self._once_per(entry.row) if self._once_per else None
            kind = self._alike(entry.row) if self._alike else None
            if not batch:
                common = kind
            if kind != common or (self._once_per and once in seen):
                rest.append(entry)
            else:
                seen.add(once)
                batch.append(entry)
        rest.extend(self._waiting)
        self._waiting = rest
        return batch

    async def _run_batch(self, batch: list[_Waiting[Row, Result]]) -> None:
        try:
            rows = [entry.row for entry in batch]
            if self._spans is None:
                results = await self._run(rows)
            else:
                with self._spans.batch(self._step, rows, [entry.span for entry in batch]):
                    results = await self._run(rows)
        except (StoreUnavailable, OutcomeUnknown) as error:
            if met_a_lock(error):
                until = time.monotonic() + APART_WAITS_MAX * self._wait_max_s
                await self._run_apart([[entry] for entry in batch], batch, error, until)
            else:
                _fail(batch, error)
        except asyncio.CancelledError:
            _fail(batch, OutcomeUnknown(retry_after_s=1))
            raise
        except Exception as error:
            middle = len(batch) // 2
            await self._run_apart([batch[:middle], batch[middle:]], batch, error)
        else:
            for entry, result in zip(batch, results, strict=True):
                if not entry.answer.done():
                    entry.answer.set_result(result)

    async def _run_apart(
        self, parts: Sequence[list[_Waiting[Row, Result]]], batch: list[_Waiting[Row, Result]], error: Exception, until: float = math.inf
    ) -> None:
        if len(batch) == 1:
            _fail(batch, error)
            return
        for part in parts:
            left = [entry for entry in part if not entry.answer.done()]
            if time.monotonic() > until:
                _fail(left, error)
            elif left:
                await self._run_batch(left)

    def _give_up_late(self) -> None:
        """All lanes are busy, or stuck: who has waited too long is sent away, and certainly nothing has happened for them."""
        self._alarm = None
        late = time.monotonic() - self._wait_max_s
        while self._waiting and (self._waiting[0].answer.done() or self._waiting[0].since <= late):
            entry = self._waiting.popleft()
            if not entry.answer.done():
                entry.answer.set_exception(StoreUnavailable("No connection to the store in time", retry_after_s=1))
        if self._waiting:
            left_s = self._waiting[0].since - late
            self._alarm = asyncio.get_running_loop().call_later(left_s, self._give_up_late)


@dataclass(frozen=True, slots=True)
class Batching:
    """The limits that all steps share; `observe` is told each batch's step and how many rows it holds, `spans` records it."""

    lanes: int
    batch_max: int
    waiting_max: int
    wait_max_s: float
    observe: Callable[[str, int], None] = lambda step, rows: None
    spans: Spans | None = None

    def batcher(
        self,
        step: str,
        run: Callable[[Sequence[Row]], Awaitable[Sequence[Result]]],
        *,
        once_per: Callable[[Row], Hashable] | None = None,
        alike: Callable[[Row], Hashable] | None = None,
    ) -> Batcher[Row, Result]:
        """A batcher of one step."""
        return Batcher(
            run,
            lanes=self.lanes,
            batch_max=self.batch_max,
            waiting_max=self.waiting_max,
            wait_max_s=self.wait_max_s,
            once_per=once_per,
            alike=alike,
            observe=partial(self.observe, step),
            step=step,
            spans=self.spans,
        )


def complete(results: Sequence[Result | None]) -> list[Result]:
    """The results, each row's. Raises `InternalFault` if one is missing, before anybody gets another's."""
    found = [result for result in results if result is not None]
    if len(found) != len(results):
        raise InternalFault("PostgreSQL left a row of a batch without a result")
    return found


def _fail(batch: Sequence[_Waiting[Row, Result]], error: BaseException) -> None:
    for entry in batch:
        if not entry.answer.done():
            entry.answer.set_exception(error)
