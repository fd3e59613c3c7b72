"""The end of a reservation: captured when the money leaves, released when it does not, expired when nobody said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
from loguru import logger

from paynow.errors import NotFound, NotReserved, ReservationEnded
from paynow.events.forms import End, ReservationEndedData
from paynow.ids import new_id
from paynow.payments.answer import payment_json
from paynow.plugin_api import Payment
from paynow.store.payments import Payments
from paynow.store.records import ReservationEnd


@dataclass(frozen=True, slots=True)
class EndedReservation:
    """A reservation that has ended: how (`captured`, `released`, `expired`) and when."""

    payment: Payment
    state: str
    ended_at: datetime


class Reservations:
    """Ends reservations, each once and for the full amount."""

    def __init__(self, payments: Payments) -> None:
        self._payments = payments

    async def end(self, payment_id: UUID, wish: End) -> EndedReservation:
        """Ends it as wished (`captured` or `released`); asking again gives the same answer.

        Raises `NotFound`, `NotReserved`, `ReservationEnded` if it ended the other way, and the store's refusals.
        """
        stored = await self._payments.find(payment_id)
        if stored is None:
            raise NotFound("There is no such payment")
        ended = await self._end(stored.payment, wish)
        match ended.outcome:
            case "not_reserved":
                raise NotReserved()
            case "other":
                raise ReservationEnded(f"The reservation was {ended.state} before")
        assert ended.state is not None
        assert ended.ended_at is not None
        return EndedReservation(stored.payment, ended.state, ended.ended_at)

    async def expire_due(self, limit: int) -> int:
        """Gives back what nobody captured or released in time, at most `limit`; returns how many."""
        expired = 0
        for payment in await self._payments.due(limit):
            expired += (await self._end(payment, "expired")).outcome == "ended"
        return expired

    async def _end(self, payment: Payment, wish: End) -> ReservationEnd:
        data = orjson.dumps(ReservationEndedData(**payment_json(payment), reservation=wish)).decode()
        ended = await self._payments.end_reservation(payment, wish, new_id(payment.customer_id), f"paynow.reservation.{wish}", data)
        if ended.outcome == "ended":
            logger.bind(payment_id=payment.payment_id, customer_id=payment.customer_id, state=wish).info("reservation ended")
        return ended
