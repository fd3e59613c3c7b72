"""One attempt of one tool: awaited in a task of its own, timed, bounded, its output checked, its failures turned into an outcome.

It knows nothing of retries, fallbacks or the trace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from loguru import logger

from paynow.agent.breaker import Breaker
from paynow.agent.outcome import ERROR, OK, TIMEOUT, Outcome, failed, skipped
from paynow.agent.output import OutputCheck
from paynow.agent.plan import PlannedTool
from paynow.agent.ports import Guard, Ports, Withheld
from paynow.agent.retry import Deadline
from paynow.agent.threads import Threads
from paynow.agent.trace import Trace
from paynow.agent.watchdog import Watchdog
from paynow.clock import Clock
from paynow.errors import StoreUnavailable
from paynow.observability.spans import Span, Spans
from paynow.plugin_api import Cases, Payment, ToolContext, Verdict
from paynow.settings import AgentSettings
from paynow.store.records import Seen

STRAYS_MAX = 64
"""So many attempts of one tool may still be running after they were given up; then the tool is skipped until some have ended."""

_OFF_LOOP: Any = Withheld("no_ports_on_a_thread")


class Errand(NamedTuple):
    """What one payment's calls have in common."""

    payment: Payment
    deadline: Deadline
    trace: Trace
    cases: Cases
    verdict: Verdict | None
    seen: Seen | None = None


class Attempt:
    """One attempt that runs in a task of its own, since `started` and for `limit_s` at most; `reason` says what set the limit.

    `ended` is told the outcome as the task's last deed; `span` is there if it is recorded.
    """

    __slots__ = ("admitted", "ended", "guard", "limit_s", "reason", "span", "started", "task")

    def __init__(self, guard: Guard, admitted: int, started: float, limit_s: float, reason: str) -> None:
        self.guard = guard
        self.admitted = admitted
        self.started = started
        self.limit_s = limit_s
        self.reason = reason
        self.ended: Callable[[Outcome], None] | None = None
        self.span: Span | None = None
        self.task: asyncio.Task[Outcome]

    @property
    def went_well(self) -> bool:
        """Whether it has ended with an output and nothing else is to be said of it."""
        task = self.task
        return task.done() and not task.cancelled() and task.result().status == OK and self.guard.trouble is None


class ToolRunner:
    """Runs attempts of one planned tool, and keeps what outlives a payment: its breaker, its threads, the attempts that would not end.

    `state_changed` is told each new state of the breaker, `spans` records attempts.
    """

    def __init__(
        self,
        planned: PlannedTool,
        settings: AgentSettings,
        ports: Ports,
        *,
        watchdog: Watchdog,
        clock: Clock,
        state_changed: Callable[[str], None],
        spans: Spans | None = None,
    ) -> None:
        self.name = planned.tool.name
        self.settings = planned.settings
        self.log = logger.bind(plugin=getattr(planned.tool.call, "__module__", None), tool=self.name)
        self._call = planned.tool.call
        self._check = OutputCheck(planned.tool.output)
        self._timeout_s = planned.settings.timeout_ms / 1000
        self._ports = ports
        self._watchdog = watchdog
        self._monotonic = clock.monotonic
        self._breaker = Breaker(settings, clock.monotonic, state_changed)
        self._threads = Threads(f"paynow-{self.name}") if planned.tool.blocking else None
        self._strays: set[asyncio.Task[Outcome]] = set()
        self._spans = spans

    def admit(self, deadline: Deadline) -> int | Outcome:
        """The breaker's pass for one attempt, or the outcome of not calling the tool at all."""
        if deadline.left() <= 0:
            return skipped("deadline")
        if len(self._strays) >= STRAYS_MAX:
            return skipped("strays")
        admitted = self._breaker.admit()
        return skipped("breaker_open") if admitted is None else admitted

    def begin(self, errand: Errand, number: int, admitted: int) -> Attempt:
        """Calls the tool once, within its time limit and what is left of the deadline. Every attempt has to be ended or given up."""
        left_s = errand.deadline.left()
        # Who tries again wants to know how things are now.
        guard = Guard(self._ports, errand.cases, errand.payment, errand.seen if number == 1 else None)
        started = self._monotonic()
        if self._timeout_s <= left_s:
            attempt = Attempt(guard, admitted, started, self._timeout_s, "time_limit")
        else:
            attempt = Attempt(guard, admitted, started, left_s, "deadline")
        if self._spans is not None:
            attempt.span = self._spans.tool(self.name, number)
        attempt.task = asyncio.get_running_loop().create_task(self._run(self._context(errand, number, attempt.limit_s, guard), attempt))
        return attempt

    async def end(self, attempt: Attempt) -> Outcome:
        """Waits until the attempt has ended or its time is over; see `conclude`."""
        try:
            await asyncio.wait((attempt.task,), timeout=attempt.started + attempt.limit_s - self._monotonic())
        except BaseException:
            self.give_up(attempt)
            raise
        return self.conclude(attempt)

    def conclude(self, attempt: Attempt) -> Outcome:
        """What came of an attempt; if it has not ended, its time is over.

        Raises the `Refusal` that came out of a port, whatever the tool made of it, and `StoreUnavailable` if the time ran out
        while PostgreSQL was being waited for: its trouble is never the tool's failure.
        """
        guard, task = attempt.guard, attempt.task
        guard.over = True
        if task.done():
            outcome = task.result()
        else:
            self._let_go(task)
            if guard.waiting:
                guard.trouble = guard.trouble or StoreUnavailable("PostgreSQL did not answer in time", retry_after_s=1)
            outcome = Outcome(TIMEOUT, self._monotonic() - attempt.started, error=attempt.reason, again=True)
        if guard.trouble is not None:
            self._breaker.forget(attempt.admitted)
            end_span(attempt.span, outcome._replace(status=ERROR, error=guard.trouble.code))
            raise guard.trouble
        if attempt.span is not None:
            end_span(attempt.span, outcome)
        self._breaker.record(attempt.admitted, ok=outcome.status == OK)
        return outcome

    def give_up(self, attempt: Attempt) -> None:
        """Nobody wants to know any more what came of it, and it says nothing of the tool."""
        attempt.guard.over = True
        self._let_go(attempt.task)
        self._breaker.forget(attempt.admitted)
        if attempt.span is not None:
            end_span(attempt.span, Outcome(ERROR, self._monotonic() - attempt.started, error="given_up"))

    async def close(self) -> None:
        """Ends idle threads and the attempts that were given up. To be called after the watchdog has stopped, so that none can refuse."""
        if self._threads is not None:
            self._threads.stop()
        strays = set(self._strays)
        for task in strays:
            task.cancel()
        if strays:
            await asyncio.wait(strays, timeout=1)

    def _context(self, errand: Errand, number: int, limit_s: float, guard: Guard) -> ToolContext:
        ports = guard if self._threads is None else _OFF_LOOP
        http = self._ports.http if self._threads is None else _OFF_LOOP
        return ToolContext(errand.payment, number, limit_s, ports, ports, ports, ports, http, self.log, errand.verdict)

    async def _run(self, context: ToolContext, attempt: Attempt) -> Outcome:
        if attempt.span is not None:
            attempt.span.enter_task()
        outcome = await self._outcome(context, attempt.started)
        if attempt.ended is not None:
            attempt.ended(outcome)
        return outcome

    async def _outcome(self, context: ToolContext, started: float) -> Outcome:
        # Everything ends here, before asyncio sees it: a task hands SystemExit and KeyboardInterrupt on to the loop, and so to the whole process.
        try:
            if self._threads is None:
                output = await self._watchdog.steps(self.name, self._on_loop(context), self._held)
            else:
                output = self._check(await self._threads.run(self._call, context))
            return Outcome(OK, self._monotonic() - started, output)
        except BaseException as error:
            return failed(error, self._monotonic() - started)

    async def _on_loop(self, context: ToolContext) -> dict[str, Any]:
        return self._check(await self._call(context))

    def _held(self, held_s: float) -> None:
        self.log.bind(held_ms=round(held_s * 1000, 2)).error("tool held the event loop")
        self._breaker.trip()

    def _let_go(self, task: asyncio.Task[Outcome]) -> None:
        """Cancels an attempt that has not ended, without waiting for it: a tool may swallow the cancellation."""
        if not task.done():
            task.cancel()
            self._strays.add(task)
            task.add_done_callback(self._strays.discard)


def end_span(span: Span | None, outcome: Outcome) -> None:
    """Ends the span of an attempt, if it is recorded, as the attempt ended."""
    if span is None:
        return
    span.attributes["paynow.tool.status"] = outcome.status
    if outcome.error is not None:
        span.fail(outcome.error)
    span.end(outcome.seconds)
