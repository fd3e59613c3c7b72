"""Whether the active policy decides as it was meant to: the shares of reviews and of blocks, held against their bands; and the way back if not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import orjson
from loguru import logger

from paynow.clock import Clock, rfc3339
from paynow.errors import ConfigurationRefused, OutcomeUnknown, Refusal
from paynow.events.forms import PolicyBandData, Rollback
from paynow.ids import new_id
from paynow.payments.duties import see_to
from paynow.payments.policy_versions import Compile
from paynow.settings import PolicyGuardSettings
from paynow.store.policy_band import PolicyBand
from paynow.store.records import WatchedPolicy

LOOK_EVERY_S = 5.0
AUTHOR = "paynow policy guard"
"""Who has rolled back, in the history of activations."""
EVENTS = "paynow.policy"
"""Stands for a customer in the events of policies, which have none."""
LEFT, RETURNED = "paynow.policy.band_left", "paynow.policy.band_returned"


@dataclass(frozen=True, slots=True)
class _Crossing:
    """What is to be told, under one event id however often it is tried. `rollback` is None if the shares are back."""

    seen: WatchedPolicy
    event_id: UUID
    rollback: Rollback | None
    back_to: str | None

    @property
    def outside(self) -> bool:
        return self.rollback is not None


class Meters(Protocol):
    """What is counted of the guard's work."""

    def policy_watched(self, decisions: int, reviews: int, blocks: int, *, outside: bool) -> None:
        """So many decisions lie in the window; `outside` is what was told last."""

    def policy_band_left(self, *, rolled_back: bool) -> None:
        """The shares have left their band; `rolled_back`: the policy before is the active one again."""


class PolicyGuard:
    """Runs in every process; whoever looks first when it is time counts and judges for all. `told` is called when an event waits for the relay.

    It rolls back what was activated and nothing else, its own rollbacks least of all: after one it only tells, until somebody activates again.
    """

    def __init__(
        self,
        band: PolicyBand,
        compile_text: Compile,
        settings: PolicyGuardSettings,
        window_s: float,
        metrics: Meters,
        clock: Clock,
        *,
        late_s: float,
        told: Callable[[], None],
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        """`late_s`: how long after its beginning a payment may be decided and still count."""
        self._band = band
        self._compile = compile_text
        self._settings = settings
        self._window_s = window_s
        self._metrics = metrics
        self._clock = clock
        self._late_s = late_s
        self._told = told
        self._every_s = every_s
        self._unknown: _Crossing | None = None

    async def run(self) -> None:
        """Goes on until it is cancelled; trouble with the store is waited out."""
        while True:
            await see_to("watch_policy", self._look_at_all)
            await self._clock.sleep(self._every_s)

    async def _look_at_all(self) -> None:
        while await self.look():
            pass

    async def look(self) -> bool:
        """Looks once, and judges if the counting fell to this process and is done. Whether more is to be counted. Raises the store's refusals."""
        if self._unknown:
            await self._cross(self._unknown)
        seen = await self._band.watch(self._window_s, every_s=self._every_s, late_s=self._late_s)
        if seen is None:
            return False
        self._metrics.policy_watched(seen.decisions, seen.reviews, seen.blocks, outside=seen.outside)
        if seen.counted and seen.complete and seen.decisions >= self._settings.decisions_min:
            await self._judge(seen)
        return seen.counted and not seen.complete

    async def _judge(self, seen: WatchedPolicy) -> None:
        outside = not (_within(seen.reviews, seen, self._settings.review_band) and _within(seen.blocks, seen, self._settings.block_band))
        told = seen.outside and seen.told_of == seen.activation
        if outside and told:
            await self._band.seen_outside(seen.activation)
        elif outside:
            rollback, back_to = await self._way_back(seen)
            await self._cross(_Crossing(seen, new_id(EVENTS), rollback, back_to))
        elif seen.outside and (not told or seen.inside_s is None or seen.inside_s >= self._window_s):
            await self._cross(_Crossing(seen, new_id(EVENTS), None, None))

    async def _cross(self, crossing: _Crossing) -> None:
        """Tells it, unless it was told by another or is overtaken. What may have been told is tried again, under its id, at the next look."""
        seen, event_type = crossing.seen, LEFT if crossing.outside else RETURNED
        data = orjson.dumps(self._event_data(crossing)).decode()
        rollback, back_to = crossing.rollback, crossing.back_to
        try:
            came = await self._band.cross(
                seen, crossing.event_id, event_type, data, outside=crossing.outside, rollback=rollback, back_to=back_to, author=AUTHOR
            )
        except Refusal as refusal:
            if isinstance(refusal, OutcomeUnknown):
                self._unknown = crossing
            raise
        self._unknown = None
        if came == "told":
            self._report(crossing)

    def _report(self, crossing: _Crossing) -> None:
        seen, rollback = crossing.seen, crossing.rollback
        self._metrics.policy_watched(seen.decisions, seen.reviews, seen.blocks, outside=crossing.outside)
        self._told()
        if rollback is None:
            logger.bind(policy_version=seen.version, count=seen.decisions).info("the decisions of the active policy are back in their band")
            return
        self._metrics.policy_band_left(rolled_back=rollback == "done")
        facts = logger.bind(
            policy_version=seen.version,
            count=seen.decisions,
            review_share=seen.reviews / seen.decisions,
            block_share=seen.blocks / seen.decisions,
            rollback=rollback,
        )
        facts.warning("the decisions of the active policy have left their band")

    async def _way_back(self, seen: WatchedPolicy) -> tuple[Rollback, str | None]:
        """What becomes of the way back, and the version to return to if it is done."""
        settings = self._settings
        if not settings.roll_back:
            return "not_wanted", None
        if seen.cause != "activated":
            return "not_an_activation", None
        if seen.age_s > settings.roll_back_within_s:
            return "late", None
        good = await self._band.policy_to_return_to(seen.activation, proven_s=settings.roll_back_within_s)
        if good is None:
            return "none_good", None
        try:
            await asyncio.to_thread(self._compile, good.body, f"the earlier policy {good.version}", run_examples=False)
        except ConfigurationRefused:
            logger.bind(policy_version=good.version).error("the policy to return to does not fit the tools any more, so the active one stays")
            return "does_not_fit", None
        return "done", good.version

    def _event_data(self, crossing: _Crossing) -> PolicyBandData:
        seen = crossing.seen
        return PolicyBandData(
            policyVersion=seen.version,
            activatedAt=rfc3339(seen.activated_at),
            windowS=self._window_s,
            decisions=seen.decisions,
            reviewShare=round(seen.reviews / seen.decisions, 4),
            reviewBand=self._settings.review_band,
            blockShare=round(seen.blocks / seen.decisions, 4),
            blockBand=self._settings.block_band,
            rollback=crossing.rollback,
            rolledBackTo=crossing.back_to,
        )


def _within(count: int, seen: WatchedPolicy, band: tuple[float, float]) -> bool:
    least, most = band
    return least <= count / seen.decisions <= most
