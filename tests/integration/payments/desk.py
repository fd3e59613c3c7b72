"""A process that decides, without its HTTP door: the real store, agent, policy and use cases, with one tool that says what a test wants it to say."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pluggy

from database import execute
from paynow.agent import Agent, Observer, Ports, make_plan
from paynow.clock import Clock
from paynow.payments.completer import Completer
from paynow.payments.decide import Decide, DecideLimits, DecideRequest
from paynow.payments.fingerprint import fingerprint
from paynow.payments.policy_versions import PolicyVersions
from paynow.payments.reservations import Reservations
from paynow.plugin_api import DecidedPayment, Effect, Grant, Hooks, Limit, RateLimiter, Tool, ToolContext, choice, flag, hookimpl
from paynow.policy import Policy, compile_policy
from paynow.settings import AgentSettings, CaseSettings, ToolSettings
from paynow.store import Store

OUTPUT = {"says": choice("allow", "review", "block")}
POLICY = """
[[rule]]
id = "review"
when = 'look.says == "review"'
then = "review"
message = "The tool says review"

[[rule]]
id = "block"
when = 'look.says == "block"'
then = "block"
message = "The tool says block"
"""
LIMITS = ToolSettings(attempts=1, timeout_ms=20_000, backoff_ms=1, on_failure="review")
SETTINGS = AgentSettings(
    plan=("look",),
    on_review=("open",),
    deadline_ms=20_000,
    loop_hold_max_ms=10_000,
    breaker_failures_share=0.5,
    breaker_calls_min=10_000,
    breaker_window_s=60,
    breaker_open_s=5,
    tools={"look": LIMITS, "open": LIMITS},
)
CASES = CaseSettings(due_h=(48, 24), amount_bands=(("USD", 5_000),), score_bands=())


def compiled(text: str, origin: str = "test", *, run_examples: bool = True) -> Policy:
    return compile_policy(text, origin=origin, tools={"look": OUTPUT}, run_examples=run_examples)


def request_of(key: str = "k-1", *, amount_minor: int = 100, customer_id: str = "c_1") -> DecideRequest:
    return DecideRequest(customer_id, "p_1", amount_minor, "USD", key, f"request-of-{key}", fingerprint(customer_id, "p_1", amount_minor, "USD"))


def run_out(dsn: str) -> None:
    """All leases are over."""
    execute(dsn, "update idempotency_keys set lease_until = clock_timestamp() - interval '1 s' where state = 'processing'")


class Meters:
    """Counts what Decide, the agent and the completer report: `meters["payment_decided", "allow"]`."""

    def __init__(self) -> None:
        self.counted: Counter[tuple[str, ...]] = Counter()

    def __getitem__(self, what: tuple[str, ...] | str) -> int:
        return self.counted[(what,) if isinstance(what, str) else what]

    def payment_decided(self, decision: str, degraded: bool, seconds: float) -> None:
        assert seconds >= 0
        self.counted["payment_decided", decision] += 1

    def payment_replayed(self) -> None:
        self.counted["payment_replayed",] += 1

    def policy_taken(self, taken: bool) -> None:
        self.counted["policy_taken", taken] += 1

    def rate_limited(self, kind: str) -> None:
        self.counted["rate_limited", kind] += 1

    def limiter_failed(self, action: str) -> None:
        self.counted["limiter_failed", action] += 1

    def tool_attempt(self, tool: str, status: str, seconds: float) -> None:
        self.counted["tool_attempt", tool, status] += 1

    def tool_fell_back(self, tool: str, on_failure: str) -> None:
        self.counted["tool_fell_back", tool] += 1

    def breaker_state(self, tool: str, state: str) -> None:
        """Not of interest here."""

    def completed_claims(self, count: int) -> None:
        self.counted["completed_claims",] += count

    def expired_reservations(self, count: int) -> None:
        self.counted["expired_reservations",] += count


class HandTime:
    """Real time, and what was slept on top of it: sleeping takes no time. `meanwhile` is done in each sleep, and `slept_s` lists them."""

    def __init__(self) -> None:
        self.slept_s: list[float] = []
        self.meanwhile: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: time.monotonic() + sum(self.slept_s), sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        await self.meanwhile()


class Limiter:
    """A limiter by hand: `answer` is what it says, or raises. `asked` lists for whom."""

    name = "hand"
    shared = False

    def __init__(self, answer: Grant | Exception, *, inside_claim: bool = False) -> None:
        self.answer = answer
        self.inside_claim = inside_claim
        self.asked: list[tuple[str, str]] = []

    async def take(self, kind: str, subject: str, limit: Limit) -> Grant:
        self.asked.append((kind, subject))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


GRANTED = Grant(allowed=True, remaining=4, retry_after_s=0, reset_s=1)
REFUSED = Grant(allowed=False, remaining=0, retry_after_s=2.5, reset_s=5)


class Desk:
    """One process. `look` is what its READ tool does and says; `opens` whether its WRITE tool opens cases; `told` what observers saw."""

    def __init__(
        self,
        dsn: str,
        *,
        limiter: RateLimiter | None = None,
        local_limiter: RateLimiter | None = None,
        limit: Limit | None = None,
        limiter_failure: str = "deny",
        wait_s: float = 5,
        lease_s: float = 60,
        ttl_s: float = 3600,
        retention_h: float = 0,
        tools_dsn: str | None = None,
        statement_timeout_s: float = 5,
        policy: str = POLICY,
    ) -> None:
        self.time = HandTime()
        self.meters = Meters()
        self.told: list[DecidedPayment] = []
        self.woken = 0
        self.statements: Counter[str] = Counter()
        self.opens = True
        self.look: Callable[[ToolContext], Awaitable[str]] = self._allow
        self._policy = compiled(policy)
        limits = {"connections_max": 8, "acquire_timeout_s": 5, "statement_timeout_s": statement_timeout_s}
        self.store = Store(dsn, lease_s=lease_s, observe=self._observe, **limits)
        self.tools_store = Store(tools_dsn, **limits) if tools_dsn else self.store
        self.policies = PolicyVersions(self.store.administration, compiled, self.meters, self.time.clock())
        clock = self.time.clock()
        hook = self._hooks()
        reads = self.tools_store.reads
        tools = {
            "look": Tool("look", Effect.READ, OUTPUT, self._look),
            "open": Tool("open", Effect.WRITE, {"opened": flag()}, self._open),
        }
        self.agent = Agent(
            make_plan(SETTINGS, tools),
            SETTINGS,
            Ports(accounts=reads, activity=reads, lists=reads, http=None),
            hook,
            self.meters,
            clock=clock,
            random=random.Random(1),
        )
        self.decide = Decide(
            self.store.decisions,
            self.agent,
            self.policies,
            limiter or Limiter(AssertionError("there is no limit")),
            DecideLimits(deadline_s=20, wait_s=wait_s, reservation_ttl_s=ttl_s, customer=limit, limiter_failure=limiter_failure),
            self.meters,
            Observer(hook.paynow_payment_decided),
            tools=SETTINGS.plan,
            on_review=SETTINGS.on_review,
            case_settings=CASES,
            clock=clock,
            local_limiter=local_limiter,
            settled=self._wake,
        )
        self.completer = Completer(
            self.decide,
            self.store.decisions,
            self.store.payments,
            Reservations(self.store.payments),
            self.agent,
            self.meters,
            clock,
            every_s=1,
            deadline_s=20,
            on_review=SETTINGS.on_review,
            case_settings=CASES,
            retention_h=retention_h,
        )

    async def start(self) -> Desk:
        await self.policies.start(self._policy)
        return self

    async def close(self) -> None:
        await self.agent.close()
        await self.store.close()
        await self.tools_store.close()

    def _observe(self, step: str, seconds: float, outcome: str) -> None:
        self.statements[step] += 1

    def _wake(self) -> None:
        self.woken += 1

    def _hooks(self) -> pluggy.HookRelay:
        desk = self

        class Listener:
            @hookimpl
            def paynow_payment_decided(self, decision: DecidedPayment) -> None:
                desk.told.append(decision)

        manager = pluggy.PluginManager("paynow")
        manager.add_hookspecs(Hooks)
        manager.register(Listener(), "listener")
        return manager.hook

    async def _look(self, context: ToolContext) -> Mapping[str, Any]:
        return {"says": await self.look(context)}

    async def _open(self, context: ToolContext) -> Mapping[str, Any]:
        if not self.opens:
            raise ConnectionError
        context.cases.stage(context.payment, context.verdict)
        return {"opened": True}

    async def _allow(self, context: ToolContext) -> str:
        return "allow"


class Gate:
    """What a tool can be made to wait at: `look = gate.then("allow")`. `reached` says that it waits there."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.waiting = 0
        self._open = asyncio.Event()
        self.passed = 0

    def open(self) -> None:
        self._open.set()

    def then(self, says: str) -> Callable[[ToolContext], Awaitable[str]]:
        async def look(context: ToolContext) -> str:
            self.reached.set()
            self.waiting += 1
            await self._open.wait()
            self.passed += 1
            return says

        return look


def says(verdict: str) -> Callable[[ToolContext], Awaitable[str]]:
    """A tool that says this at once."""

    async def look(context: ToolContext) -> str:
        return verdict

    return look


async def asks_the_balance(context: ToolContext) -> str:
    """A tool that needs PostgreSQL: what the claim has not brought along is read."""
    await context.accounts.balance("c_somebody_else", context.payment.currency)
    return "allow"
