"""The orchestrator: calls the plan's tools side by side, tries again what failed, and says which tools gave no answer.

It takes no decision: it hands over outputs, and floors below which the verdict must not fall.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple, Protocol

import pluggy
from loguru import logger

from paynow.agent.observers import Observer
from paynow.agent.outcome import OK, SKIPPED, Outcome, skipped
from paynow.agent.plan import Plan, PlannedTool
from paynow.agent.ports import Ports, Withheld
from paynow.agent.retry import Deadline, backoff_s
from paynow.agent.toolbox import Attempt, Errand, ToolRunner, end_span
from paynow.agent.trace import Trace
from paynow.agent.watchdog import Watchdog
from paynow.clock import Clock
from paynow.observability.spans import Spans
from paynow.plugin_api import Cases, Payment, ToolCall, ToolOutcome, Verdict
from paynow.settings import AgentSettings
from paynow.store.records import Seen

_NO_CASES: Any = Withheld("cases_are_for_write_tools")


class Meters(Protocol):
    """What is counted of tools."""

    def tool_attempt(self, tool: str, status: str, seconds: float) -> None:
        """One attempt ended, or was skipped."""

    def tool_fell_back(self, tool: str, on_failure: str) -> None:
        """No attempt of a READ tool gave an answer."""

    def breaker_state(self, tool: str, state: str) -> None:
        """A tool's breaker is now `closed`, `open` or `half_open`. Called once for each tool at the start."""


class Gathered(NamedTuple):
    """What the READ tools said: the output of each that answered, and the fallback of each that did not, in the plan's order."""

    outputs: dict[str, dict[str, Any]]
    floors: dict[str, str]


class Agent:
    """Calls the tools of a plan for one payment after another. One per process and event loop; `close` ends it."""

    def __init__(
        self,
        plan: Plan,
        settings: AgentSettings,
        ports: Ports,
        hooks: pluggy.HookRelay,
        metrics: Meters,
        *,
        clock: Clock,
        random: Random,
        spans: Spans | None = None,
    ) -> None:
        self._started = Observer(hooks.paynow_tool_call_started)
        self._retry_scheduled = Observer(hooks.paynow_tool_retry_scheduled)
        self._finished = Observer(hooks.paynow_tool_call_finished)
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._watchdog = Watchdog(settings.loop_hold_max_ms / 1000, clock.monotonic)
        self._settings = settings
        self._ports = ports
        self._spans = spans
        self._readers = tuple(self._runner(planned) for planned in plan.gather)
        self._writers = tuple(self._runner(planned) for planned in plan.on_review)

    async def gather(self, payment: Payment, deadline: Deadline, trace: Trace, seen: Seen | None = None) -> Gathered:
        """Calls all READ tools side by side. A tool that gives no answer is no error: its fallback stands in `floors`.

        `seen` is what is known of the payment already: first attempts get it from there.

        Raises the `Refusal` that a port to PostgreSQL raised; the other calls are cancelled then.
        """
        outcomes = await self._side_by_side(self._readers, Errand(payment, deadline, trace, _NO_CASES, None, seen))
        outputs: dict[str, dict[str, Any]] = {}
        floors: dict[str, str] = {}
        for runner, outcome in zip(self._readers, outcomes, strict=True):
            if outcome.output is not None:
                outputs[runner.name] = outcome.output
            else:
                floors[runner.name] = on_failure = runner.settings.on_failure
                trace.fallback(runner.name, on_failure)
                self._metrics.tool_fell_back(runner.name, on_failure)
        return Gathered(outputs, floors)

    async def act(
        self, payment: Payment, verdict: Verdict, cases: Cases, deadline: Deadline, trace: Trace, *, only: Collection[str] | None = None
    ) -> Mapping[str, dict[str, Any]]:
        """Calls the WRITE tools (`only` those named, if it is given) for a verdict of `review`, side by side. One that fails is recorded in the
        trace, and nothing else changes.

        Returns the outputs of those that succeeded. Raises a port's `Refusal` as `gather` does.
        """
        writers = [runner for runner in self._writers if only is None or runner.name in only]
        outcomes = await self._side_by_side(writers, Errand(payment, deadline, trace, cases, verdict))
        return {runner.name: outcome.output for runner, outcome in zip(writers, outcomes, strict=True) if outcome.output is not None}

    async def close(self) -> None:
        """Ends the threads, and what is left of attempts that were given up. No call may be under way."""
        self._watchdog.stop()
        for runner in (*self._readers, *self._writers):
            await runner.close()

    def _runner(self, planned: PlannedTool) -> ToolRunner:
        tool = planned.tool.name

        def state_changed(state: str) -> None:
            self._metrics.breaker_state(tool, state)
            logger.bind(tool=tool, state=state).warning("breaker changed its state")

        self._metrics.breaker_state(tool, "closed")
        return ToolRunner(
            planned, self._settings, self._ports, watchdog=self._watchdog, clock=self._clock, state_changed=state_changed, spans=self._spans
        )

    async def _side_by_side(self, runners: Sequence[ToolRunner], errand: Errand) -> list[Outcome]:
        firsts = [self._begin(runner, errand, 1) for runner in runners]
        begun = [(runner, first) for runner, first in zip(runners, firsts, strict=True) if isinstance(first, Attempt)]
        if begun:
            try:
                await _FirstAttempts([attempt for _, attempt in begun]).over
            except BaseException:
                for runner, attempt in begun:
                    runner.give_up(attempt)
                raise
            if len(begun) == len(runners) and all(attempt.went_well for _, attempt in begun):
                return self._all_well(begun, errand)
        return await self._one_by_one(runners, firsts, errand) if runners else []

    def _all_well(self, begun: Sequence[tuple[ToolRunner, Attempt]], errand: Errand) -> list[Outcome]:
        """Nearly every payment: each tool has answered at once."""
        outcomes = [runner.conclude(attempt) for runner, attempt in begun]
        for outcome, (runner, attempt) in sorted(zip(outcomes, begun, strict=True), key=_when_ended):
            self._record(runner, errand, 1, outcome)
            self._tell_finished(runner, errand, 1, outcome, attempt.started)
        return outcomes

    async def _one_by_one(self, runners: Sequence[ToolRunner], firsts: Sequence[Attempt | Outcome], errand: Errand) -> list[Outcome]:
        """Each tool goes its own way from its first attempt on."""
        loop = asyncio.get_running_loop()
        calls = [loop.create_task(self._call(runner, errand, first)) for runner, first in zip(runners, firsts, strict=True)]
        try:
            ended, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for call in calls:
                call.cancel()
        # Every exception is fetched, so that asyncio does not complain of the second; the first in the plan's order is raised.
        errors = [call.exception() for call in calls if call in ended]
        for error in errors:
            if error is not None:
                raise error
        return [call.result() for call in calls]

    async def _call(self, runner: ToolRunner, errand: Errand, first: Attempt | Outcome) -> Outcome:
        began = first.started if isinstance(first, Attempt) else self._clock.monotonic()
        attempt = 1
        outcome = await self._end(runner, errand, attempt, first)
        while outcome.again and attempt < runner.settings.attempts:
            wait_s = backoff_s(attempt, runner.settings.backoff_ms / 1000, self._random)
            attempt += 1
            if wait_s >= errand.deadline.left():
                outcome = self._record(runner, errand, attempt, skipped("deadline"))
                break
            if self._retry_scheduled:
                call = ToolCall(errand.payment.payment_id, runner.name)
                self._retry_scheduled(call=call, attempt=attempt - 1, wait_s=wait_s, error=outcome.error)
            await self._clock.sleep(wait_s)
            outcome = await self._end(runner, errand, attempt, self._begin(runner, errand, attempt))
        self._tell_finished(runner, errand, attempt, outcome, began)
        return outcome

    def _begin(self, runner: ToolRunner, errand: Errand, number: int) -> Attempt | Outcome:
        admitted = runner.admit(errand.deadline)
        if isinstance(admitted, Outcome):
            return admitted
        if number == 1 and self._started:
            self._started(call=ToolCall(errand.payment.payment_id, runner.name))
        return runner.begin(errand, number, admitted)

    async def _end(self, runner: ToolRunner, errand: Errand, number: int, begun: Attempt | Outcome) -> Outcome:
        outcome = begun if isinstance(begun, Outcome) else await runner.end(begun)
        return self._record(runner, errand, number, outcome)

    def _tell_finished(self, runner: ToolRunner, errand: Errand, attempt: int, outcome: Outcome, began: float) -> None:
        if self._finished:
            made = attempt - (outcome.status == SKIPPED)
            call = ToolCall(errand.payment.payment_id, runner.name)
            self._finished(call=call, outcome=ToolOutcome(outcome.status, made, round((self._clock.monotonic() - began) * 1000, 2)))

    def _record(self, runner: ToolRunner, errand: Errand, number: int, outcome: Outcome) -> Outcome:
        errand.trace.tool(runner.name, number, outcome.status, outcome.seconds, output=outcome.output, error=outcome.error)
        self._metrics.tool_attempt(runner.name, outcome.status, outcome.seconds)
        if outcome.status == SKIPPED and self._spans is not None:
            end_span(self._spans.tool(runner.name, number), outcome)
        if outcome.status not in (OK, SKIPPED):
            runner.log.bind(attempt=number, error=outcome.error).opt(exception=outcome.raised).warning("tool attempt failed")
        return outcome


class _FirstAttempts:
    """`over` when all of them have ended well, when one has not, and when the time of one has run out."""

    __slots__ = ("_left", "_timer", "over")

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        loop = asyncio.get_running_loop()
        self._left = len(attempts)
        self.over: asyncio.Future[None] = loop.create_future()
        self._timer = loop.call_later(min([attempt.limit_s for attempt in attempts]), self._end)
        for attempt in attempts:
            attempt.ended = self._ended

    def _ended(self, outcome: Outcome) -> None:
        self._left -= 1
        if not self._left or outcome.status != OK:
            self._end()

    def _end(self) -> None:
        self._timer.cancel()
        if not self.over.done():
            self.over.set_result(None)


def _when_ended(ended: tuple[Outcome, Any]) -> float:
    return ended[0].seconds
