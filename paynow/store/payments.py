"""Decisions after the fact: reading them, ending their reservations, and opening the cases that reviews still lack."""

from __future__ import annotations

from uuid import UUID

from paynow.plugin_api import Payment
from paynow.store.pool import Pool, Row
from paynow.store.records import Account, Case, ReservationEnd, StoredPayment


class Payments:
    """Stored payments and accounts."""

    def __init__(self, pool: Pool, queries: dict[str, str]) -> None:
        self._pool = pool
        self._queries = queries

    async def find(self, payment_id: UUID) -> StoredPayment | None:
        """The payment, or None."""
        rows = await self._pool.read("payment_by_id", self._queries["payment_by_id"], (str(payment_id),))
        return _payment(rows[0]) if rows else None

    async def page(self, *, customer_id: str | None, decision: str | None, before: UUID | None, limit: int) -> list[StoredPayment]:
        """At most `limit` payments, newest first, older than `before`."""
        rows = await self._pool.read(
            "payments_page",
            self._queries["payments_page"],
            {"customer_id": customer_id, "decision": decision, "before": before and str(before), "limit": limit},
        )
        return [_payment(row) for row in rows]

    async def accounts(self, customer_id: str) -> list[Account]:
        """All accounts of a customer, by currency; none if the customer is unknown."""
        return [Account(*row) for row in await self._pool.read("accounts_of", self._queries["accounts_of"], (customer_id,))]

    async def end_reservation(self, payment: Payment, end: str, event_id: UUID, event_type: str, event_data: str) -> ReservationEnd:
        """Ends a reservation as `captured`, `released` or `expired`, with its ledger entry and event. Repeating it changes nothing."""
        rows = await self._pool.call(
            "end_reservations",
            self._queries["end_reservations"],
            ([payment.customer_id], [str(payment.payment_id)], end, [str(event_id)], event_type, [event_data]),
        )
        return ReservationEnd(*rows[0][1:])

    async def due(self, limit: int) -> list[Payment]:
        """Payments whose reservation nobody ended in time, the longest due first."""
        rows = await self._pool.read("due_reservations", self._queries["due_reservations"], (limit,))
        return [Payment(UUID(payment_id), customer, payee, amount, currency) for customer, payment_id, payee, amount, currency in rows]

    async def without_case(self, limit: int, *, after: UUID | None = None) -> list[tuple[Payment, bytes]]:
        """Reviews whose case could not be opened yet, the oldest first, `after` a payment, with their answers."""
        rows = await self._pool.read("pending_cases", self._queries["pending_cases"], {"limit": limit, "after": after and str(after)})
        return [
            (Payment(UUID(payment_id), customer, payee, amount, currency), answer.encode())
            for customer, payment_id, payee, amount, currency, answer in rows
        ]

    async def open_case(self, payment: Payment, case: Case | None) -> bool:
        """Opens the case of a review that waits for one, or ends the waiting if there is to be none; False if nothing was opened."""
        opened = (str(case.case_id), case.reasons.decode(), case.priority, case.due_s) if case else (None, None, None, None)
        parameters = (payment.customer_id, str(payment.payment_id), *opened)
        rows = await self._pool.call("open_case", self._queries["open_case"], parameters)
        return bool(rows[0][0])


def _payment(row: Row) -> StoredPayment:
    customer, payment_id, payee, amount, currency, decision, reservation, until, ended_at, case_id, policy, decided_at, answer = row
    return StoredPayment(
        Payment(UUID(payment_id), customer, payee, amount, currency),
        decision,
        reservation,
        until,
        ended_at,
        case_id and UUID(case_id),
        policy,
        decided_at,
        answer.encode(),
    )
