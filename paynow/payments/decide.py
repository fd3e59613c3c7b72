"""The way of a payment: claim, gather, decide, act, settle, answer. Everything else in PayNow serves this page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol
from uuid import UUID, uuid4

from loguru import logger

from paynow.agent import Agent, Deadline, Observer, Trace
from paynow.clock import Clock
from paynow.errors import IdempotencyMismatch, InFlight, LimiterUnavailable, LimitState, OutcomeUnknown, RateLimited, Refusal
from paynow.ids import new_id
from paynow.payments import answer
from paynow.payments.in_flight import Held
from paynow.payments.in_flight import InFlight as Underway
from paynow.payments.policy_versions import PolicyVersions
from paynow.payments.staged_cases import StagedCases
from paynow.plugin_api import DecidedPayment, Limit, Payment, RateLimiter, Verdict
from paynow.store.decisions import Decisions
from paynow.store.records import Allowance, Claim, ClaimRequest, Settled, Settlement

POLL_FIRST_S = 0.02
POLL_MAX_S = 0.2


class Meters(Protocol):
    """What is counted of decisions."""

    def payment_decided(self, decision: str, degraded: bool, seconds: float) -> None:
        """A decision was stored."""

    def payment_replayed(self) -> None:
        """A stored answer was given again."""

    def rate_limited(self, kind: str) -> None:
        """A new payment was refused for its customer's limit."""

    def limiter_failed(self, action: str) -> None:
        """The limiter's store was down, and this is what was done."""


@dataclass(frozen=True, slots=True)
class DecideRequest:
    """A valid request: who pays whom how much, under which key. `fingerprint` covers the four business fields."""

    customer_id: str
    payee_id: str
    amount_minor: int
    currency: str
    key: str
    request_id: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The stored bytes, whether they had been given before, and what is left of the customer's limit if it was asked."""

    body: bytes
    replayed: bool
    limit: LimitState | None = None


@dataclass(frozen=True, slots=True)
class DecideLimits:
    """Times in seconds: the agent's deadline, how long to wait for the same key in flight, how long a reservation holds."""

    deadline_s: float
    wait_s: float
    reservation_ttl_s: float
    customer: Limit | None
    limiter_failure: str


class Decide:
    """Decides payments, each key once. One per process."""

    def __init__(
        self,
        decisions: Decisions,
        agent: Agent,
        policies: PolicyVersions,
        limiter: RateLimiter,
        limits: DecideLimits,
        metrics: Meters,
        decided: Observer,
        *,
        tools: Sequence[str],
        on_review: Sequence[str],
        clock: Clock,
        local_limiter: RateLimiter | None = None,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._decisions = decisions
        self._agent = agent
        self._policies = policies
        self._limiter = limiter
        self._local_limiter = local_limiter
        self._limits = limits
        self._metrics = metrics
        self._decided = decided
        self._tools = tuple(tools)
        self._on_review = frozenset(on_review)
        self._clock = clock
        self._settled = settled
        self._underway = Underway()

    async def __call__(self, request: DecideRequest) -> Answer:
        """The one decision of (customer, key): made now, or given again.

        Raises `IdempotencyMismatch`, `InFlight`, `RateLimited`, and the store's refusals (`OutcomeUnknown`: it may still be decided).
        """
        until = self._clock.monotonic() + self._limits.wait_s
        slot = (request.customer_id, request.key)
        held = await self._wait_for_others(slot, until)
        if held is not None:
            return self._replay(held, request.fingerprint)
        self._underway.enter(slot)
        given: Answer | None = None
        try:
            given = await self._claim_and_decide(request, until)
            return given
        finally:
            self._underway.leave(slot, given and Held(request.fingerprint, given.body))

    async def take_over(self, payment: Payment, key: str, fingerprint: bytes, request_id: str) -> bool:
        """Finishes a claim whose process died. False if somebody else did, or does."""
        slot = (payment.customer_id, key)
        if self._underway.taken(slot):
            return False
        self._underway.enter(slot)
        held: Held | None = None
        try:
            request = ClaimRequest(payment, key, fingerprint, uuid4(), request_id, self._policies.active.version)
            claim = await self._decisions.claim(request, None)
            if claim.outcome not in ("claimed", "taken_over"):
                return False
            settled = await self._finish(_claimed(request, claim))
            if settled.answer is not None:
                held = Held(fingerprint, settled.answer)
            return not settled.fenced
        finally:
            self._underway.leave(slot, held)

    async def _wait_for_others(self, slot: tuple[str, str], until: float) -> Held | None:
        while self._underway.taken(slot):
            try:
                held = await self._underway.join(slot, until - self._clock.monotonic())
            except TimeoutError:
                raise InFlight(retry_after_s=1) from None
            if held is not None:
                return held
        return None

    def _replay(self, held: Held, fingerprint: bytes) -> Answer:
        if held.fingerprint != fingerprint:
            raise IdempotencyMismatch()
        self._metrics.payment_replayed()
        return Answer(held.answer, replayed=True)

    async def _claim_and_decide(self, request: DecideRequest, until: float) -> Answer:
        pause_s = POLL_FIRST_S
        while True:
            claiming = self._claim_request(request)
            claim = await self._claim(claiming)
            match claim.outcome:
                case "claimed" | "taken_over":
                    settled = await self._finish(_claimed(claiming, claim))
                    if settled.answer is not None:
                        return Answer(settled.answer, replayed=False, limit=self._state(claim.allowance))
                case "decided":
                    assert claim.answer is not None
                    self._metrics.payment_replayed()
                    return Answer(claim.answer, replayed=True)
                case "mismatch":
                    raise IdempotencyMismatch()
                case "rate_limited":
                    assert claim.allowance is not None
                    raise self._refused(claim.allowance)
            # In flight elsewhere, or taken from us: its answer is a moment away.
            if self._clock.monotonic() + pause_s >= until:
                raise InFlight(retry_after_s=1)
            await self._clock.sleep(pause_s)
            pause_s = min(pause_s * 2, POLL_MAX_S)

    def _claim_request(self, request: DecideRequest) -> ClaimRequest:
        payment = Payment(new_id(request.customer_id), request.customer_id, request.payee_id, request.amount_minor, request.currency)
        return ClaimRequest(payment, request.key, request.fingerprint, uuid4(), request.request_id, self._policies.active.version)

    async def _claim(self, request: ClaimRequest) -> Claim:
        limit = self._limits.customer
        if limit is None or self._limiter.inside_claim:
            return await self._decisions.claim(request, limit)
        customer = request.payment.customer_id
        allowance = None
        if not await self._decisions.knows(customer, request.key):
            allowance = await self._ask_limiter(customer, limit)
            if allowance is not None and allowance.retry_after_s > 0 and not await self._decisions.knows(customer, request.key):
                return Claim("rate_limited", None, None, None, allowance)
        claim = await self._decisions.claim(request, None)
        return replace(claim, allowance=allowance)

    async def _ask_limiter(self, customer: str, limit: Limit) -> Allowance | None:
        try:
            grant = await self._limiter.take("customer", customer, limit)
        except Exception as error:
            self._metrics.limiter_failed(self._limits.limiter_failure)
            logger.bind(error=type(error).__name__).error("the rate limiter's store is down")
            if self._limits.limiter_failure == "deny" or self._local_limiter is None:
                raise LimiterUnavailable(retry_after_s=1) from error
            grant = await self._local_limiter.take("customer", customer, limit)
        return Allowance(grant.remaining, 0.0 if grant.allowed else grant.retry_after_s, grant.reset_s)

    def _refused(self, allowance: Allowance) -> RateLimited:
        self._metrics.rate_limited("customer")
        return RateLimited("The customer's limit of new payments is reached", retry_after_s=allowance.retry_after_s, told=self._state(allowance))

    def _state(self, allowance: Allowance | None) -> LimitState | None:
        limit = self._limits.customer
        if allowance is None or limit is None:
            return None
        return LimitState("customer", limit.per_second, limit.burst, allowance.remaining, allowance.reset_s)

    async def _finish(self, claim: ClaimRequest) -> Settled:
        """Gather, decide, act and settle a claim that is ours. A failure that certainly changed nothing ends our lease."""
        began = self._clock.monotonic()
        settling = False
        try:
            settlement = await self._deliberate(claim)
            settling = True
            settled = await self._settle(settlement)
        except Refusal as refusal:
            # Only the settle writes: before it, an unknown outcome is that of a read.
            if not (settling and isinstance(refusal, OutcomeUnknown)):
                await self._abandon(claim)
            raise
        if settled.decision is not None:
            self._tell(settlement, settled.decision, self._clock.monotonic() - began)
        return settled

    async def _deliberate(self, claim: ClaimRequest) -> Settlement:
        payment = claim.payment
        policy = await self._policies.get(claim.policy_version)
        if policy.version != claim.policy_version:
            claim = replace(claim, policy_version=policy.version)
        deadline = Deadline(self._limits.deadline_s, self._clock.monotonic)
        trace = Trace()
        trace.plan(self._tools, policy.version)
        gathered = await self._agent.gather(payment, deadline, trace)
        evaluation = policy.evaluate(payment, gathered.outputs, gathered.floors)
        trace.decide(evaluation.decision, evaluation.fired, evaluation.unknown)
        staged = StagedCases(evaluation.reasons)
        acted: Collection[str] = self._on_review
        if evaluation.decision == "review":
            verdict = Verdict("review", tuple(reason.code for reason in evaluation.reasons))
            acted = await self._agent.act(payment, verdict, staged, deadline, trace)
        case = staged.case
        now = self._clock.now()
        decision = answer.Decision(
            payment=payment,
            request_id=claim.request_id,
            decision=evaluation.decision,
            reasons=evaluation.reasons,
            degraded=bool(gathered.floors),
            policy_version=policy.version,
            case_id=case and case.case_id,
            decided_at=now,
            reserved_until=now + timedelta(seconds=self._limits.reservation_ttl_s),
            trace=trace,
        )
        finished = answer.finish(decision)
        return Settlement(
            claim=claim,
            decision=decision.decision,
            reasons=tuple(reason.code for reason in decision.reasons),
            degraded=decision.degraded,
            decided_at=now,
            reserved_until=decision.reserved_until,
            event_id=new_id(payment.customer_id),
            finished=finished,
            if_short=answer.finish_short(decision) if decision.decision == "allow" else finished,
            case=case,
            case_pending=case is None and not self._on_review.issubset(acted),
        )

    async def _settle(self, settlement: Settlement) -> Settled:
        """An unknown outcome is read again before anything is said: repeating a settle with its token tells what holds."""
        try:
            return await self._decisions.settle(settlement)
        except OutcomeUnknown:
            await self._clock.sleep(POLL_FIRST_S)
            try:
                return await self._decisions.settle(settlement)
            except Refusal as refusal:
                raise OutcomeUnknown(retry_after_s=1) from refusal

    async def _abandon(self, claim: ClaimRequest) -> None:
        try:
            await self._decisions.abandon(claim)
        except Refusal as refusal:
            # Its lease ends by itself then.
            logger.bind(payment_id=claim.payment.payment_id, error=refusal.code).debug("a claim could not be abandoned")

    def _tell(self, settlement: Settlement, decision: str, seconds: float) -> None:
        payment = settlement.claim.payment
        overruled = decision != settlement.decision
        self._metrics.payment_decided(decision, settlement.degraded, seconds)
        self._settled()
        logger.bind(
            payment_id=payment.payment_id,
            customer_id=payment.customer_id,
            payee_id=payment.payee_id,
            decision=decision,
            degraded=settlement.degraded,
            policy_version=settlement.claim.policy_version,
            duration_ms=round(seconds * 1000, 2),
        ).info("payment decided")
        if self._decided:
            reasons = (answer.INSUFFICIENT_FUNDS.code,) if overruled else settlement.reasons
            self._decided(decision=DecidedPayment(payment.payment_id, decision, reasons, settlement.degraded, round(seconds * 1000, 2)))


def _claimed(request: ClaimRequest, claim: Claim) -> ClaimRequest:
    """The request as it is now ours: a claim that was taken over keeps its first payment id and policy version."""
    assert claim.payment_id is not None
    assert claim.policy_version is not None
    payment_id: UUID = claim.payment_id
    return replace(request, payment=replace(request.payment, payment_id=payment_id), policy_version=claim.policy_version)
