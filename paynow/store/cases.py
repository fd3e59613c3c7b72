"""Cases as they are kept: the queue, what is done to one, its history, and the labels that policies are measured against."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from paynow.plugin_api import Payment
from paynow.store.pool import Pool, Row
from paynow.store.records import CaseAct, CaseFilter, CaseOutcome, StoredCase


class Cases:
    """Cases are opened by the settle, or by `Payments.open_case`; all else that happens to them is here."""

    def __init__(self, pool: Pool, queries: dict[str, str]) -> None:
        self._pool = pool
        self._queries = queries

    async def find(self, case_id: UUID) -> StoredCase | None:
        """The case, or None."""
        rows = await self._pool.read("case_by_id", self._queries["case_by_id"], (str(case_id),))
        return _case(rows[0]) if rows else None

    async def payment(self, case_id: UUID) -> Payment | None:
        """The payment that the case is about, or None if there is no such case."""
        rows = await self._pool.read("case_payment", self._queries["case_payment"], (str(case_id),))
        return Payment(UUID(rows[0][0]), *rows[0][1:]) if rows else None

    async def page(self, wanted: CaseFilter, *, before: UUID | None, limit: int) -> list[StoredCase]:
        """At most `limit` cases, newest first, older than `before`."""
        asked = {**_asked(wanted), "before": before and str(before), "limit": limit}
        return [_case(row) for row in await self._pool.read("cases_page", self._queries["cases_page"], asked)]

    async def queue(self, wanted: CaseFilter, *, after: tuple[int, datetime, UUID] | None, limit: int) -> list[StoredCase]:
        """At most `limit` cases that are not resolved, the highest priority first, then as they are due; `after` a priority, due time and id."""
        priority, due_at, case_id = after or (None, None, None)
        place = {"after_priority": priority, "after_due": due_at, "after_case": case_id and str(case_id)}
        rows = await self._pool.read("cases_queue", self._queries["cases_queue"], {**_asked(wanted), **place, "limit": limit})
        return [_case(row) for row in rows]

    async def history(self, case: StoredCase) -> list[CaseAct]:
        """What was done to it, in its order."""
        rows = await self._pool.read("case_history", self._queries["case_history"], (case.customer_id, str(case.case_id)))
        return [CaseAct(*row) for row in rows]

    async def work(
        self, customer_id: str, case_id: UUID, act: str, actor: str, *, any_holder: bool = False, note: str | None = None, label: str | None = None
    ) -> CaseOutcome:
        """`claimed`, `unclaimed`, `noted` or `labelled`, with its entry in the history. Repeating it changes nothing."""
        asked = (customer_id, str(case_id), act, actor, any_holder, note, label)
        return _outcome((await self._pool.call("work_case", self._queries["work_case"], asked))[0])

    async def resolve(
        self, customer_id: str, case_id: UUID, resolution: str, actor: str, reservation_ttl: timedelta, event_id: UUID, event_data: str
    ) -> CaseOutcome:
        """`approved` (its money is reserved) or `declined`, with its event and its entry in the history. Repeating it changes nothing."""
        asked = (customer_id, str(case_id), resolution, actor, reservation_ttl, str(event_id), event_data)
        return _outcome((await self._pool.call("resolve_case", self._queries["resolve_case"], asked))[0])

    async def waiting(self) -> tuple[int, int, float]:
        """How many cases are not resolved, how many of them are overdue, and how many seconds the oldest waits."""
        rows = await self._pool.read("cases_waiting", self._queries["cases_waiting"])
        return rows[0][0], rows[0][1], rows[0][2]


def _asked(wanted: CaseFilter) -> dict[str, object]:
    return {
        "status": wanted.status,
        "holder": wanted.holder,
        "label": wanted.label,
        "currency": wanted.currency,
        "amount_min": wanted.amount_min_minor,
        "amount_max": wanted.amount_max_minor,
        "age_min": None if wanted.age_min_s is None else timedelta(seconds=wanted.age_min_s),
        "age_max": None if wanted.age_max_s is None else timedelta(seconds=wanted.age_max_s),
        "overdue": wanted.overdue,
    }


def _case(row: Row) -> StoredCase:
    case_id, payment_id, *rest = row
    return StoredCase(UUID(case_id), UUID(payment_id), *rest)


def _outcome(row: Row) -> CaseOutcome:
    outcome, *case = row
    return CaseOutcome(outcome, _case(tuple(case)) if case[0] is not None else None)
