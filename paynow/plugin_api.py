"""All that a plugin imports: the hooks, and the few types that travel through them.

A plugin is a file in a configured folder, or an installed package with an entry point in the group `paynow`. It runs only if the
configuration enables it. Every hook is synchronous: it registers something or observes something; awaiting is the orchestrator's.

    from paynow.plugin_api import Effect, Tool, ToolContext, flag, hookimpl

    async def get_device_trust(context: ToolContext) -> dict:
        return {"trusted": context.payment.customer_id.startswith("c_")}

    @hookimpl
    def paynow_register_tools(settings):
        return [Tool("getDeviceTrust", Effect.READ, {"trusted": flag()}, get_device_trust)]

The policy may then say `getDeviceTrust.trusted`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import pluggy

from paynow.limits import Limit
from paynow.money import exponents, to_minor

if TYPE_CHECKING:
    import aiohttp
    from loguru import Logger

    from paynow.settings import Settings

hookspec = pluggy.HookspecMarker("paynow")
hookimpl = pluggy.HookimplMarker("paynow")


# ---------------------------------------------------------------- what a tool says


@dataclass(frozen=True, slots=True)
class Field:
    """One named value of a tool's output: its kind, and the bounds or choices within which it always lies.

    Policy rules are type-checked against it, a rule that its bounds make impossible is refused, and every output is checked by it.
    """

    kind: type[int] | type[float] | type[bool] | type[str]
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    length_max: int = 200
    doc: str = ""

    def accepts(self, value: object) -> bool:
        """Whether a value is of this kind and within the bounds. `True` is no integer, NaN is no number."""
        if self.kind is bool:
            return isinstance(value, bool)
        if self.kind is str:
            return isinstance(value, str) and len(value) <= self.length_max and (not self.choices or value in self.choices)
        if isinstance(value, bool) or not isinstance(value, int if self.kind is int else (int, float)):
            return False
        if self.kind is int and not -(2**63) <= value < 2**63:
            return False
        if self.kind is float and not abs(value) <= sys.float_info.max:  # false for NaN too
            return False
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)


def whole(*, minimum: int | None = None, maximum: int | None = None, doc: str = "") -> Field:
    """A whole number of at most 64 bits: a count, seconds, an amount in minor units."""
    return Field(int, minimum=minimum, maximum=maximum, doc=doc)


def real(*, minimum: float | None = None, maximum: float | None = None, doc: str = "") -> Field:
    """A finite number: a ratio, a score. Never money."""
    return Field(float, minimum=minimum, maximum=maximum, doc=doc)


def flag(*, doc: str = "") -> Field:
    """True or false."""
    return Field(bool, doc=doc)


def choice(*choices: str, doc: str = "") -> Field:
    """One of a closed list of words."""
    return Field(str, choices=choices, doc=doc)


def text(*, length_max: int = 200, doc: str = "") -> Field:
    """A short text."""
    return Field(str, length_max=length_max, doc=doc)


# ---------------------------------------------------------------- what a tool is handed


NEVER_S = 315_360_000
"""Ten years: the longest time that an activity tells, and what stands for never."""


def minor_units(amount: str, currency: str) -> int:
    """An amount of money as people write it in settings (`"250.00"`, `"USD"`), in minor units. Raises `ValueError` that says what was expected."""
    if currency not in exponents():
        raise ValueError(f"{currency!r} is no currency of ISO 4217 that has minor units")
    try:
        minor = to_minor(Decimal(amount), currency) if isinstance(amount, str) else 0
    except (ArithmeticError, ValueError):
        minor = 0
    if minor <= 0:
        raise ValueError(f'expected an amount of {currency} above zero in quotes, like "250", not {amount!r}')
    return minor


@dataclass(frozen=True, slots=True)
class Payment:
    """The payment being decided. Amounts are integer minor units of the currency (ISO 4217)."""

    payment_id: UUID
    customer_id: str
    payee_id: str
    amount_minor: int
    currency: str

    @property
    def decimals(self) -> int:
        """How many decimals the currency has: JPY 0, USD 2, BHD 3."""
        return exponents()[self.currency]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a WRITE tool is told of the decision so far: `allow`, `review` or `block`, and the codes of its reasons."""

    decision: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Balance:
    """One account's money in minor units: what may be spent, and what is reserved for payments that have not ended."""

    available_minor: int
    reserved_minor: int


@dataclass(frozen=True, slots=True)
class Activity:
    """What a customer did, the current attempt included; amounts are minor units in the payment's currency.

    Windows are sums of buckets (10 s, 5 min, 1 h), so each covers at least its name and at most one bucket more. Times are whole seconds.
    """

    attempts_1m: int
    attempts_1h: int
    attempts_24h: int
    attempted_minor_1m: int
    attempted_minor_1h: int
    attempted_minor_24h: int
    allowed_minor_1m: int
    allowed_minor_1h: int
    allowed_minor_24h: int
    allowed_count: int
    """Payments allowed in this currency, ever."""
    allowed_mean_minor: int
    """Their mean amount; 0 if there are none."""
    payee_known: bool
    """Whether a payment of this customer to this payee was allowed before, or approved in its case."""
    payee_list: str
    """`none`, `allow` or `block`."""
    customer_list: str
    """`none`, `allow` or `block`."""
    failed_attempts_24h: int
    """Payments of the customer that were blocked, in any currency."""
    usual_count: int
    """How many allowed payments in this currency the usual amount is made of."""
    usual_mean_minor: float
    """Their mean amount, in which the last 30 count most; 0 if there are none. `allowed_mean_minor` is that of all payments ever."""
    usual_deviation_minor: float
    """Their standard deviation, weighed alike."""
    since_allowed_s: int
    """Since the last allowed payment in any currency, to 10 s; `NEVER_S` if it is longer ago or there is none."""
    customer_age_s: int
    """Since the customer's first attempt, in any currency."""
    payee_known_s: int
    """Since the first payment of this customer to this payee that was allowed; 0 if there is none."""
    payee_age_s: int
    """Since the first decided payment of anybody to this payee; 0 if none is counted yet."""
    payee_customers_24h: int
    """Customers of whom a payment to this payee was decided, each once. Like `payee_age_s` it follows the payments, mostly within two seconds."""


class Accounts(Protocol):
    """Balances in PostgreSQL."""

    async def balance(self, customer_id: str, currency: str) -> Balance:
        """The customer's money in one currency; zeros if there is no such account."""


class ActivityReader(Protocol):
    """The customer's own history, read in a time that does not depend on its length."""

    async def activity(self, payment: Payment) -> Activity:
        """What the customer did, up to and including this attempt."""


class Lists(Protocol):
    """The allow and block lists."""

    async def listed(self, kind: str, subject: str) -> str:
        """`none`, `allow` or `block` for a `kind` of `payee` or `customer`; a block outweighs an allow."""


class Cases(Protocol):
    """Review cases. A case is staged here, and opened by the settle in the same transaction as the decision."""

    def stage(self, payment: Payment, verdict: Verdict) -> UUID:
        """The id of the payment's case, to be opened with the decision. Staging twice gives the same id."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """All that a tool may use. `verdict` is set for WRITE tools only. Database trouble inside these ports ends the request in 503;
    it is never taken for the tool's own failure."""

    payment: Payment
    attempt: int
    deadline_s: float
    """Seconds that are left for this attempt."""
    accounts: Accounts
    activity: ActivityReader
    lists: Lists
    cases: Cases
    http: aiohttp.ClientSession
    log: Logger
    verdict: Verdict | None = None


class ToolError(Exception):
    """A tool says that it failed. `code` (letters, digits, `_`) stands in the trace; the text is not shown anywhere.
    `retry=False` goes straight to the fallback."""

    def __init__(self, code: str, *, retry: bool = True) -> None:
        super().__init__(code)
        self.code = code
        self.retry = retry


class Effect(StrEnum):
    """What calling a tool does to the world: READ tools are called side by side and again at will; WRITE tools only after the verdict,
    keyed by our own payment id."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its name (as the plan and the policy write it), its effect, the fields of its output, and the function that is called.

    `blocking` tools are plain functions and run on a thread. A WRITE tool with `outside=True` acts outside PostgreSQL:
    the claim is made durable before it is called, so that a crash cannot forget that it was.
    """

    name: str
    effect: Effect
    output: Mapping[str, Field]
    call: Callable[[ToolContext], Awaitable[Mapping[str, Any]]] | Callable[[ToolContext], Mapping[str, Any]]
    blocking: bool = False
    outside: bool = False
    doc: str = ""


# ---------------------------------------------------------------- events and limits


class DeliveryRefused(Exception):
    """A sink refuses an event for good: it goes to the dead letters instead of being tried again."""


class TryLater(Exception):
    """Why an event of a `DeliveryFailed` was not delivered, by a receiver that may have said when to come again.

    `retry_after_s` are the seconds that it wants to be left alone for; more than a day counts as a day, and 0 is nothing said.
    """

    def __init__(self, message: str = "", *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeliveryFailed(Exception):
    """Of a batch, a sink without order could not deliver these events (by their ids, with what went wrong) and delivered all others.

    They are tried again by themselves, later, those whose error is a `TryLater` not before it says; those whose error is a `DeliveryRefused` go to
    the dead letters.
    Errors that say `tried = False`, because the time was over before, let the next batch be smaller.
    """

    def __init__(self, errors: Mapping[str, Exception]) -> None:
        super().__init__(f"{len(errors)} events")
        self.errors = errors


class SinkGone(Exception):
    """Who received a sink's events has said that it wants no more: nothing is sent until somebody enables the sink again. Its events wait."""


class EventSink(Protocol):
    """Where events go. Delivery is at least once, under a stable event id, a customer's events in their sequence.

    A sink may say `ordered = False`: an event that failed then holds back no other, and it may raise `DeliveryFailed`.
    It may have a method `wants(event_type)`: events of other types are passed over.
    """

    name: str

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Takes a batch of CloudEvents 1.0 (JSON format, as dicts). Returning means delivered; raising means try all of them again,
        but for `DeliveryRefused`, `DeliveryFailed` and `SinkGone`."""

    async def close(self) -> None:
        """Called once, when the relay has stopped."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a limiter said: whether it may go on, the tokens left, and the seconds until the next token and until the bucket is full."""

    allowed: bool
    remaining: int
    retry_after_s: float
    reset_s: float


class RateLimiter(Protocol):
    """Token buckets by subject. `shared` says that they hold over all processes; `inside_claim` that the customer's limit
    is asked inside the claim's own transaction, so that `take` is used for API keys only.

    It may have an async `close()`, which is called once, when the service stops. It bounds its own waiting: a request waits for `take`.
    """

    name: str
    shared: bool
    inside_claim: bool

    async def take(self, kind: str, subject: str, limit: Limit) -> Grant:
        """Takes one token of a `kind` (`customer` or `api_key`) and subject. Raises any error if its store is down."""


@dataclass(frozen=True, slots=True)
class RateLimiterMaker:
    """A backend by its configured name, and how it is made: `make` is handed the store's own `take`, which a backend may ignore."""

    name: str
    make: Callable[[Callable[[str, str, Limit], Awaitable[Grant]]], RateLimiter]
    shared: bool


# ---------------------------------------------------------------- what observers see


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool of one payment's plan."""

    payment_id: UUID
    tool: str


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How a call ended: `ok`, `error`, `timeout`, `invalid` or `skipped`, after so many attempts and milliseconds."""

    status: str
    attempts: int
    duration_ms: float


@dataclass(frozen=True, slots=True)
class DecidedPayment:
    """What was decided and stored."""

    payment_id: UUID
    decision: str
    reasons: tuple[str, ...]
    degraded: bool
    duration_ms: float


class Hooks:
    """The extension points. A hook that raises when it registers stops the boot with the plugin's name; one that raises when it
    observes is logged and changes nothing."""

    @hookspec
    def paynow_register_tools(self, settings: Settings) -> Sequence[Tool]:
        """Called once at boot. The tools that the plan may name; a name that two plugins register stops the boot."""

    @hookspec
    def paynow_register_event_sinks(self, settings: Settings) -> Sequence[EventSink]:
        """Called once at boot. The sinks that `events.sinks` may name."""

    @hookspec
    def paynow_register_rate_limiters(self, settings: Settings) -> Sequence[RateLimiterMaker]:
        """Called once at boot. The backends that `rate_limit.backend` may name."""

    @hookspec
    def paynow_sensitive_fields(self) -> Sequence[str]:
        """Called once at boot. Names of log fields that are shown as a keyed hash only, whoever logs them."""

    @hookspec
    def paynow_tool_call_started(self, call: ToolCall) -> None:
        """Observes: a tool is about to be called for the first time for this payment."""

    @hookspec
    def paynow_tool_retry_scheduled(self, call: ToolCall, attempt: int, wait_s: float, error: str) -> None:
        """Observes: attempt `attempt` failed with the code `error`, and the next follows after `wait_s` seconds."""

    @hookspec
    def paynow_tool_call_finished(self, call: ToolCall, outcome: ToolOutcome) -> None:
        """Observes: the last attempt of a tool for this payment is over, or the tool was skipped."""

    @hookspec
    def paynow_payment_decided(self, decision: DecidedPayment) -> None:
        """Observes: a decision was stored by this process. Called after the commit, once, never for a replay."""
