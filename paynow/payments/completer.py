"""What nobody came back for: claims whose process died, reservations past their time, reviews that still lack their case, keys past retention."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol
from uuid import UUID

from loguru import logger

from paynow.agent import Agent, Deadline, Trace
from paynow.clock import Clock
from paynow.payments.decide import Decide
from paynow.payments.duties import see_to
from paynow.payments.recorded import read_answer
from paynow.payments.reservations import Reservations
from paynow.payments.staged_cases import StagedCases
from paynow.plugin_api import Verdict
from paynow.settings import CaseSettings
from paynow.store.decisions import Decisions
from paynow.store.payments import Payments

BATCH_MAX = 100
AT_ONCE_MAX = 8


class Meters(Protocol):
    """What is counted of the completer's work."""

    def completed_claims(self, count: int) -> None:
        """Abandoned claims were finished."""

    def expired_reservations(self, count: int) -> None:
        """Reservations have run out."""


class Completer:
    """Looks around once in `every_s` seconds. Many processes may do so at once: each piece of work is done once whoever does it."""

    def __init__(
        self,
        decide: Decide,
        decisions: Decisions,
        payments: Payments,
        reservations: Reservations,
        agent: Agent,
        metrics: Meters,
        clock: Clock,
        *,
        on_review: Collection[str],
        case_settings: CaseSettings,
        every_s: float,
        deadline_s: float,
        retention_h: float,
    ) -> None:
        self._decide = decide
        self._decisions = decisions
        self._payments = payments
        self._reservations = reservations
        self._agent = agent
        self._metrics = metrics
        self._clock = clock
        self._on_review = frozenset(on_review)
        self._case_settings = case_settings
        self._every_s = every_s
        self._deadline_s = deadline_s
        self._retention_h = retention_h
        self._cases_after: UUID | None = None

    async def run(self) -> None:
        """Goes on until it is cancelled; trouble with the store is waited out."""
        duties = (self.finish_claims, self.expire_reservations, self.open_cases, self.forget_keys)
        while True:
            for duty in duties:
                await see_to(duty.__name__, duty)
            await self._clock.sleep(self._every_s)

    async def finish_claims(self) -> int:
        """Decides the payments whose process died; returns how many."""
        gate = asyncio.Semaphore(AT_ONCE_MAX)

        async def finish(payment, key, fingerprint, request_id, policy_version) -> bool:
            async with gate:
                return await self._decide.take_over(payment, key, fingerprint, request_id)

        abandoned = await self._decisions.abandoned(BATCH_MAX)
        outcomes = await asyncio.gather(*(finish(*claim) for claim in abandoned), return_exceptions=True)
        finished = sum(outcome is True for outcome in outcomes)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                logger.bind(error=type(outcome).__name__).warning("an abandoned claim could not be finished yet")
        if finished:
            self._metrics.completed_claims(finished)
            logger.bind(count=finished).info("abandoned claims finished")
        return finished

    async def expire_reservations(self) -> int:
        """Gives back the money of reservations past their time; returns how many."""
        expired = await self._reservations.expire_due(BATCH_MAX)
        if expired:
            self._metrics.expired_reservations(expired)
        return expired

    async def open_cases(self) -> int:
        """Calls again the WRITE tools that failed for a review without a case, and no others; returns how many cases were opened.

        A review that has none when all of them have succeeded wants none: none of them opens cases.
        """
        opened = 0
        waiting = await self._payments.without_case(BATCH_MAX, after=self._cases_after)
        # What fails now is not asked first the next time, so that it holds up nobody for ever.
        self._cases_after = waiting[-1][0].payment_id if len(waiting) == BATCH_MAX else None
        for payment, answer in waiting:
            recorded = read_answer(answer)
            if not recorded.acts_failed <= self._on_review:
                continue  # a tool that is not in the plan any more: the case waits for it
            staged = StagedCases(recorded.reasons, self._case_settings, degraded=recorded.degraded, score=recorded.score_max)
            verdict = Verdict("review", tuple(reason.code for reason in recorded.reasons))
            deadline = Deadline(self._deadline_s, self._clock.monotonic)
            acted = await self._agent.act(payment, verdict, staged, deadline, Trace(), only=recorded.acts_failed)
            if staged.case is None and not recorded.acts_failed <= acted.keys():
                self._cases_after = payment.payment_id
                break  # the tool still fails; the rest may as well
            opened += await self._payments.open_case(payment, staged.case)
        return opened

    async def forget_keys(self) -> int:
        """Ends the retention of old keys, if there is one; returns how many."""
        return await self._decisions.forget_keys(self._retention_h, BATCH_MAX) if self._retention_h else 0
