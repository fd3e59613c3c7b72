"""Counts for each payee who pays it, a moment behind the payments, so that no payment waits for a payee that everybody pays."""

from __future__ import annotations

from typing import Protocol

from paynow.clock import Clock
from paynow.payments.duties import see_to
from paynow.store.payees import Payees

BATCH_MAX = 200


class Meters(Protocol):
    """What is told of the counting."""

    def payees_behind(self, seconds: float) -> None:
        """So old is the oldest settled payment that is not counted for its payee yet."""


class PayeeCounting:
    """Catches up with the settled payments once in `every_s` seconds. Many processes may do so at once: one at a time counts."""

    def __init__(self, payees: Payees, metrics: Meters, clock: Clock, *, every_s: float) -> None:
        self._payees = payees
        self._metrics = metrics
        self._clock = clock
        self._every_s = every_s

    async def run(self) -> None:
        """Goes on until it is cancelled; trouble with the store is waited out."""
        while True:
            await see_to("count_payees", self.catch_up)
            await self._clock.sleep(self._every_s)

    async def catch_up(self) -> int:
        """Counts what was settled and can be counted; returns how many payments those were."""
        counted = 0
        while (count := await self._payees.count(BATCH_MAX)) is not None:
            counted += count.payments
            self._metrics.payees_behind(count.behind_s)
            if count.payments < BATCH_MAX:
                break
        return counted
