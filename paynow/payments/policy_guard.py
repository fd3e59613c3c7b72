"""Whether the active policy decides as it was meant to: the shares of reviews and of blocks, held against their bands; and the way back if not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import orjson
from loguru import logger

from paynow.clock import Clock, rfc3339
from paynow.errors import ConfigurationRefused, Refusal
from paynow.ids import new_id
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

    async def run(self) -> None:
        """Goes on until it is cancelled; trouble with the store is waited out."""
        while True:
            try:
                while await self.look():
                    pass
            except Refusal as refusal:
                logger.bind(error=refusal.code).warning("the policy guard waits for the store")
            except Exception as error:  # whatever it is: who does not look lets a wrong policy decide on
                logger.bind(error=type(error).__name__).opt(exception=True).error("the policy guard failed")
            await self._clock.sleep(self._every_s)

    async def look(self) -> bool:
        """Looks once, and judges if the counting fell to this process and is done. Whether more is to be counted. Raises the store's refusals."""
        seen = await self._band.watch(self._window_s, every_s=self._every_s, late_s=self._late_s)
        if seen is None:
            return False
        self._metrics.policy_watched(seen.decisions, seen.reviews, seen.blocks, outside=seen.outside)
        if seen.counted and seen.complete and seen.decisions >= self._settings.decisions_min:
            await self._judge(seen)
        return seen.counted and not seen.complete

    async def _judge(self, seen: WatchedPolicy) -> None:
        outside = not (_within(seen.reviews, seen, self._settings.review_band) and _within(seen.blocks, seen, self._settings.block_band))
        if outside and not (seen.outside and seen.told_of == seen.activation):
            await self._leave(seen)
        elif seen.outside and not outside:
            await self._return(seen)

    async def _leave(self, seen: WatchedPolicy) -> None:
        back_to = await self._way_back(seen)
        if not await self._cross(seen, LEFT, outside=True, back_to=back_to):
            return
        self._metrics.policy_band_left(rolled_back=back_to is not None)
        facts = logger.bind(
            policy_version=seen.version,
            count=seen.decisions,
            review_share=seen.reviews / seen.decisions,
            block_share=seen.blocks / seen.decisions,
            action="told" if back_to is None else "rolled_back",
        )
        facts.warning("the decisions of the active policy have left their band")

    async def _return(self, seen: WatchedPolicy) -> None:
        if await self._cross(seen, RETURNED, outside=False, back_to=None):
            logger.bind(policy_version=seen.version, count=seen.decisions).info("the decisions of the active policy are back in their band")

    async def _cross(self, seen: WatchedPolicy, event_type: str, *, outside: bool, back_to: str | None) -> bool:
        """Whether it was told now, by us."""
        data = orjson.dumps(self._event_data(seen, back_to)).decode()
        came = await self._band.cross(seen, new_id(EVENTS), event_type, data, outside=outside, back_to=back_to, author=AUTHOR)
        if came != "told":
            return False
        self._metrics.policy_watched(seen.decisions, seen.reviews, seen.blocks, outside=outside)
        self._told()
        return True

    async def _way_back(self, seen: WatchedPolicy) -> str | None:
        """The version to return to, if it is to be and can be."""
        settings = self._settings
        if not settings.roll_back or seen.cause != "activated" or seen.age_s > settings.roll_back_within_s:
            return None
        before = await self._band.policy_before(seen.activation)
        if before is None:
            return None
        try:
            await asyncio.to_thread(self._compile, before.body, f"the earlier policy {before.version}")
        except ConfigurationRefused:
            logger.bind(policy_version=before.version).error("the policy before does not fit the tools any more, so the active one stays")
            return None
        return before.version

    def _event_data(self, seen: WatchedPolicy, back_to: str | None) -> dict[str, object]:
        return {
            "policyVersion": seen.version,
            "activatedAt": rfc3339(seen.activated_at),
            "windowS": self._window_s,
            "decisions": seen.decisions,
            "reviewShare": round(seen.reviews / seen.decisions, 4),
            "reviewBand": self._settings.review_band,
            "blockShare": round(seen.blocks / seen.decisions, 4),
            "blockBand": self._settings.block_band,
            "rolledBackTo": back_to,
        }


def _within(count: int, seen: WatchedPolicy, band: tuple[float, float]) -> bool:
    least, most = band
    return least <= count / seen.decisions <= most
