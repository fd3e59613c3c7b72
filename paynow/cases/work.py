"""What people do to cases: claim and give back, note, label, approve, decline. Each by an API key, each once, each in the case's history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import orjson
from loguru import logger

from paynow.errors import CaseHeld, CaseResolved, InsufficientFunds, NotFound
from paynow.events.forms import CaseResolvedData, Resolution
from paynow.ids import new_id
from paynow.payments.answer import payment_json
from paynow.plugin_api import Payment
from paynow.store.cases import Cases
from paynow.store.records import CaseOutcome, StoredCase
from paynow.turns import Turns

AT_ONCE_MAX = 4
WAITING_MAX = 2_000
WAIT_MAX_S = 20.0


class CaseWork:
    """The acts. `actor` is the id of the acting key. All raise `NotFound` and the store's refusals; repeating what the same key did is harmless.

    `resolved` is told when an event waits for the relay.
    """

    def __init__(self, cases: Cases, *, reservation_ttl_s: float, resolved: Callable[[], None]) -> None:
        self._cases = cases
        self._ttl = timedelta(seconds=reservation_ttl_s)
        self._resolved = resolved
        self._turns = Turns(at_once_max=AT_ONCE_MAX, waiting_max=WAITING_MAX, wait_max_s=WAIT_MAX_S)

    async def claim(self, case_id: UUID, actor: str) -> StoredCase:
        """The case is the actor's: nobody else resolves it meanwhile. Raises `CaseHeld` if another key has it, `CaseResolved`."""
        return await self._work(case_id, "claimed", actor)

    async def unclaim(self, case_id: UUID, actor: str, *, any_holder: bool) -> StoredCase:
        """The case is open again; `any_holder` takes it from another key too. Raises `CaseHeld`, `CaseResolved`."""
        return await self._work(case_id, "unclaimed", actor, any_holder=any_holder)

    async def note(self, case_id: UUID, actor: str, note: str) -> StoredCase:
        """A note in the history, by whoever, at any time. The same again right after is no second one."""
        return await self._work(case_id, "noted", actor, note=note)

    async def label(self, case_id: UUID, actor: str, label: str) -> StoredCase:
        """What it turned out to be (`vocabulary.LABELS`), by whoever, at any time: the last one counts."""
        return await self._work(case_id, "labelled", actor, label=label)

    async def approve(self, case_id: UUID, actor: str) -> StoredCase:
        """The payment may move after all: its money is reserved now, to be captured or released like any other.

        Raises `InsufficientFunds` if there is too little (the case stays as it was), `CaseHeld` if another key has claimed it, and `CaseResolved`
        if it was declined before, or approved by another key.
        """
        return await self._resolve(case_id, "approved", actor)

    async def decline(self, case_id: UUID, actor: str) -> StoredCase:
        """The payment does not move. Raises as `approve` does."""
        return await self._resolve(case_id, "declined", actor)

    async def _work(
        self, case_id: UUID, act: str, actor: str, *, any_holder: bool = False, note: str | None = None, label: str | None = None
    ) -> StoredCase:
        async with self._turns.take():
            payment = await self._payment(case_id)
            outcome = await self._cases.work(payment.customer_id, case_id, act, actor, any_holder=any_holder, note=note, label=label)
        return self._told(outcome, payment, act, actor)

    async def _resolve(self, case_id: UUID, resolution: Resolution, actor: str) -> StoredCase:
        async with self._turns.take():
            payment = await self._payment(case_id)
            reservation = "held" if resolution == "approved" else None
            facts = payment_json(payment)
            data = CaseResolvedData(**facts, caseId=str(case_id), resolution=resolution, resolvedBy=actor, reservation=reservation)
            event_id = new_id(payment.customer_id)
            outcome = await self._cases.resolve(payment.customer_id, case_id, resolution, actor, self._ttl, event_id, orjson.dumps(data).decode())
        case = self._told(outcome, payment, resolution, actor)
        if outcome.outcome == "done":
            self._resolved()
        return case

    async def _payment(self, case_id: UUID) -> Payment:
        payment = await self._cases.payment(case_id)
        if payment is None:
            raise NotFound("There is no such case")
        return payment

    def _told(self, came: CaseOutcome, payment: Payment, act: str, actor: str) -> StoredCase:
        case = came.case
        if came.outcome == "unknown" or case is None:
            raise NotFound("There is no such case")
        match came.outcome:
            case "held":
                raise CaseHeld(f"The case is held by the key {case.holder}", held_by=case.holder)
            case "resolved":
                raise CaseResolved(f"The case was {case.status} by the key {case.resolved_by}")
            case "short":
                raise InsufficientFunds()
            case "done":
                facts = logger.bind(case_id=case.case_id, payment_id=payment.payment_id, customer_id=payment.customer_id, key_id=actor, action=act)
                facts.info("case worked on")
        return case
