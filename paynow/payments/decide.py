"""The way of a payment: claim, gather, decide, act, settle, answer. Everything else in PayNow serves this page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from secrets import token_hex
from typing import NamedTuple, Protocol
from uuid import UUID

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
from paynow.settings import CaseSettings
from paynow.store.decisions import Decisions
from paynow.store.records import Allowance, Claim, ClaimRequest, Seen, Settled, Settlement

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


class DecideRequest(NamedTuple):
    """A valid request: who pays whom how much, under which key. `fingerprint` covers the four business fields."""

    customer_id: str
    payee_id: str
    amount_minor: int
    currency: str
    key: str
    request_id: str
    fingerprint: bytes


class Told(NamedTuple):
    """What the log says of a decision that was made now."""

    payment_id: UUID
    customer_id: str
    payee_id: str
    decision: str
    degraded: bool
    policy_version: str


class Answer(NamedTuple):
    """The stored bytes, whether they had been given before, and what is left of the customer's limit if it was asked.

    `told` is set if the decision was made now.
    """

    body: bytes
    replayed: bool
    limit: LimitState | None = None
    told: Told | None = None


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
        case_settings: CaseSettings,
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
        self._case_settings = case_settings
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
            request = ClaimRequest(payment, key, fingerprint, token_hex(16), request_id, self._policies.active.version)
            claim = await self._decisions.claim(request, None)
            if claim.outcome not in ("claimed", "taken_over"):
                return False
            settled, told = await self._finish(_claimed(request, claim), claim.seen)
            if settled.answer is not None:
                held = Held(fingerprint, settled.answer)
            if told is not None:
                logger.bind(
                    payment_id=told.payment_id,
                    customer_id=told.customer_id,
                    payee_id=told.payee_id,
                    decision=told.decision,
                    degraded=told.degraded,
                    policy_version=told.policy_version,
                ).info("payment decided")
            return settled.outcome == "settled"
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
                    settled, told = await self._finish(_claimed(claiming, claim), claim.seen)
                    if settled.answer is not None:
                        return Answer(settled.answer, False, self._state(claim.allowance), told)
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
        return ClaimRequest(payment, request.key, request.fingerprint, token_hex(16), request.request_id, self._policies.active.version)

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
        return claim._replace(allowance=allowance)

    async def _ask_limiter(self, customer: str, limit: Limit) -> Allowance | None:
        try:
            grant = await self._limiter.take("customer", customer, limit)
        except Exception as error:
            self._metrics.limiter_failed(self._limits.limiter_failure)
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

    async def _finish(self, claim: ClaimRequest, seen: Seen | None) -> tuple[Settled, Told | None]:
        """Gather, decide, act and settle a claim that is ours. A failure that certainly changed nothing ends our lease.

        Returns what the settle says, and what the log should say if it is settled.
        """
        began = self._clock.monotonic()
        settling = False
        try:
            decision = await self._deliberate(claim, seen)
            settling = True
            settled = await self._settle(self._settlement(claim, decision))
            if settled.outcome == "short":
                decision = answer.overruled(decision)
                settled = await self._settle(self._settlement(claim, decision))
        except Refusal as refusal:
            # Only the settle writes: before it, an unknown outcome is that of a read.
            if not (settling and isinstance(refusal, OutcomeUnknown)):
                await self._abandon(claim)
            raise
        if settled.decision is None:
            return settled, None
        return settled, self._tell(decision, settled.decision, self._clock.monotonic() - began)

    async def _deliberate(self, claim: ClaimRequest, seen: Seen | None) -> answer.Decision:
        payment = claim.payment
        policy = await self._policies.get(claim.policy_version)
        deadline = Deadline(self._limits.deadline_s, self._clock.monotonic)
        trace = Trace()
        trace.plan(self._tools, policy.version)
        gathered = await self._agent.gather(payment, deadline, trace, seen)
        evaluation = policy.evaluate(payment, gathered.outputs, gathered.floors)
        trace.decide(
            evaluation.decision,
            evaluation.fired,
            evaluation.unknown,
            score=evaluation.score,
            score_max=evaluation.score_max,
            shadow_fired=evaluation.shadow_fired,
            shadow_unknown=evaluation.shadow_unknown,
        )
        staged = StagedCases(evaluation.reasons, self._case_settings, degraded=bool(gathered.floors), score=evaluation.score_max)
        acted: Collection[str] = self._on_review
        if evaluation.decision == "review":
            verdict = Verdict("review", tuple(reason.code for reason in evaluation.reasons))
            acted = await self._agent.act(payment, verdict, staged, deadline, trace)
        now = self._clock.now()
        return answer.Decision(
            payment=payment,
            request_id=claim.request_id,
            decision=evaluation.decision,
            reasons=evaluation.reasons,
            degraded=bool(gathered.floors),
            policy_version=policy.version,
            case=staged.case,
            case_pending=staged.case is None and not self._on_review.issubset(acted),
            decided_at=now,
            reserved_until=now + timedelta(seconds=self._limits.reservation_ttl_s),
            trace=trace,
        )

    def _settlement(self, claim: ClaimRequest, decision: answer.Decision) -> Settlement:
        return Settlement(
            claim=claim,
            policy_version=decision.policy_version,
            decision=decision.decision,
            degraded=decision.degraded,
            decided_at=decision.decided_at,
            reserved_until=decision.reserved_until,
            event_id=new_id(decision.payment.customer_id),
            finished=answer.finish(decision),
            case=decision.case,
            case_pending=decision.case_pending,
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

    def _tell(self, ours: answer.Decision, decision: str, seconds: float) -> Told:
        payment = ours.payment
        self._metrics.payment_decided(decision, ours.degraded, seconds)
        self._settled()
        if self._decided:
            reasons = tuple(reason.code for reason in ours.reasons)
            self._decided(decision=DecidedPayment(payment.payment_id, decision, reasons, ours.degraded, round(seconds * 1000, 2)))
        return Told(payment.payment_id, payment.customer_id, payment.payee_id, decision, ours.degraded, ours.policy_version)


def _claimed(request: ClaimRequest, claim: Claim) -> ClaimRequest:
    """The request as it is now ours: a claim that was taken over keeps its first payment id and policy version."""
    if (claim.payment_id, claim.policy_version) == (request.payment.payment_id, request.policy_version):
        return request
    assert claim.payment_id is not None
    assert claim.policy_version is not None
    return request._replace(payment=replace(request.payment, payment_id=claim.payment_id), policy_version=claim.policy_version)
