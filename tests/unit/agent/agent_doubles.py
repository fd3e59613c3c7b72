"""Doubles for the agent's neighbours: time, chance, PostgreSQL's ports and the meters; each does what its protocol says, by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pluggy

from paynow.agent import Agent, Deadline, Gathered, Ports, Trace, make_plan
from paynow.clock import Clock
from paynow.plugin_api import Balance, Effect, Hooks, Payment, Tool, Verdict, flag
from paynow.settings import AgentSettings, ToolSettings
from paynow.store.records import Seen

PAYMENT = Payment(UUID("01920000-0000-7000-8000-00000000abcd"), "c_123", "p_789", 12_550, "USD")
CASE_ID = UUID("01920000-0000-7000-8000-00000000cafe")
REVIEW = Verdict("review", ("velocity_1m",))

TOOL_SETTINGS = ToolSettings(attempts=1, timeout_ms=5000, backoff_ms=20, on_failure="review")
SETTINGS = AgentSettings(
    plan=(),
    on_review=(),
    deadline_ms=10_000,
    loop_hold_max_ms=10_000,
    breaker_failures_share=0.5,
    breaker_calls_min=10_000,
    breaker_window_s=60,
    breaker_open_s=5,
    tools={},
)


class HandTime:
    """Time that moves only when told to, or when someone sleeps; `slept_s` lists those sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now_s, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


class Highest(Random):
    """Chance that always gives the highest value."""

    def uniform(self, a: float, b: float) -> float:
        return b


class StoreDouble:
    """The three ports in one. `refusal` is raised by every port while it is set; `hangs` keeps every port waiting."""

    def __init__(self) -> None:
        self.refusal: BaseException | None = None
        self.hangs = False
        self.asked: list[str] = []

    async def balance(self, customer_id: str, currency: str) -> Balance:
        await self._answer("balance")
        return Balance(50_000, 100)

    async def activity(self, payment: Payment) -> Any:
        await self._answer("activity")
        return SimpleNamespace(attempts_1m=1)

    async def listed(self, kind: str, subject: str) -> str:
        await self._answer("listed")
        return "none"

    async def _answer(self, port: str) -> None:
        self.asked.append(port)
        await (asyncio.Event().wait() if self.hangs else asyncio.sleep(0))
        if self.refusal is not None:
            raise self.refusal


class CasesDouble:
    def __init__(self) -> None:
        self.refusal: BaseException | None = None
        self.staged: list[Payment] = []

    def stage(self, payment: Payment, verdict: Verdict) -> UUID:
        if self.refusal is not None:
            raise self.refusal
        self.staged.append(payment)
        return CASE_ID


class MetersDouble:
    def __init__(self) -> None:
        self.attempts: list[tuple[str, str]] = []
        self.fallbacks: list[tuple[str, str]] = []
        self.breakers: list[tuple[str, str]] = []

    def tool_attempt(self, tool: str, status: str, seconds: float) -> None:
        assert seconds >= 0
        self.attempts.append((tool, status))

    def tool_fell_back(self, tool: str, on_failure: str) -> None:
        self.fallbacks.append((tool, on_failure))

    def breaker_state(self, tool: str, state: str) -> None:
        self.breakers.append((tool, state))


class Bench:
    """An agent with tools, and everything around it within reach."""

    def __init__(self, *tools: Tool, plugins: tuple[object, ...] = (), time: HandTime | None = None, limits: dict | None = None, **settings: Any):
        self.clock = time.clock() if time else Clock()
        self.store = StoreDouble()
        self.meters = MetersDouble()
        self.cases = CasesDouble()
        self.trace = Trace()
        self.http = object()
        manager = pluggy.PluginManager("paynow")
        manager.add_hookspecs(Hooks)
        for plugin in plugins:
            manager.register(plugin, type(plugin).__name__)
        limits = limits or {}
        agent_settings = replace(
            SETTINGS,
            plan=tuple(tool.name for tool in tools if tool.effect is Effect.READ),
            on_review=tuple(tool.name for tool in tools if tool.effect is Effect.WRITE),
            tools={tool.name: replace(TOOL_SETTINGS, **limits) for tool in tools},
            **settings,
        )
        plan = make_plan(agent_settings, {tool.name: tool for tool in tools})
        ports = Ports(self.store, self.store, self.store, self.http)
        self.agent = Agent(plan, agent_settings, ports, manager.hook, self.meters, clock=self.clock, random=Highest())

    async def gather(self, *, deadline_s: float = 10, payment: Payment = PAYMENT, seen: Seen | None = None) -> Gathered:
        self.trace = Trace()
        return await self.agent.gather(payment, Deadline(deadline_s, self.clock.monotonic), self.trace, seen)

    async def act(self, *, deadline_s: float = 10) -> dict[str, Any]:
        self.trace = Trace()
        return dict(await self.agent.act(PAYMENT, REVIEW, self.cases, Deadline(deadline_s, self.clock.monotonic), self.trace))

    def steps(self) -> list[tuple[Any, ...]]:
        """The trace's tool steps in short: tool, attempt, status, error."""
        return [(step["tool"], step["attempt"], step["status"], step.get("error")) for step in self.trace.steps if step["step"] == "tool"]


def read_tool(call: Any, name: str = "look", **more: Any) -> Tool:
    """A READ tool that says `{"fine": …}`."""
    return Tool(name, Effect.READ, {"fine": flag()}, call, **more)


def write_tool(call: Any, name: str = "note", **more: Any) -> Tool:
    """A WRITE tool that says `{"fine": …}`."""
    return Tool(name, Effect.WRITE, {"fine": flag()}, call, **more)


async def says_fine(context: Any) -> dict[str, bool]:
    return {"fine": True}


def raises(error: BaseException | type[BaseException]) -> Any:
    """A tool's function that raises."""

    async def call(context: Any) -> dict[str, bool]:
        raise error

    return call
