"""How the active policy's decisions have fallen lately, over all processes, and what was told of the band of their shares."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from paynow.store.pool import Pool
from paynow.store.records import StoredPolicy, WatchedPolicy

SLICES_MAX = 12
"""So many slices of 5 s are counted for the first time in one statement at most: a minute's payments."""


class PolicyBand:
    """Counted in the database by whoever asks when it is time, and by one at a time."""

    def __init__(self, pool: Pool, queries: dict[str, str]) -> None:
        self._pool = pool
        self._queries = queries

    async def watch(self, window_s: float, *, every_s: float, late_s: float) -> WatchedPolicy | None:
        """The decisions of the last `window_s` under the active policy, counted anew if nobody has within `every_s`; None if no policy is active.

        A payment counts if it is decided within `late_s` of its beginning.
        """
        asked = (*(timedelta(seconds=seconds) for seconds in (window_s, every_s, late_s)), SLICES_MAX)
        rows = await self._pool.call("watch_policy", self._queries["watch_policy"], asked)
        return WatchedPolicy(*rows[0]) if rows else None

    async def policy_before(self, activation: int) -> StoredPolicy | None:
        """The policy that was the active one before an activation, or None."""
        rows = await self._pool.read("policy_before_activation", self._queries["policy_before_activation"], (activation,))
        return StoredPolicy(*rows[0]) if rows else None

    async def cross(
        self, seen: WatchedPolicy, event_id: UUID, event_type: str, event_data: str, *, outside: bool, back_to: str | None, author: str
    ) -> str:
        """Tells that the shares have left their band (`outside`) or are back, with its event; `back_to` is the active policy from then on.

        Returns `told`, `known` (somebody else has told it) or `overtaken` (another policy is the active one by now): then nothing was changed.
        """
        counts = (seen.decisions, seen.reviews, seen.blocks)
        asked = (seen.activation, outside, *counts, str(event_id), event_type, event_data, back_to, author)
        return str((await self._pool.call("cross_policy_band", self._queries["cross_policy_band"], asked))[0][0])
