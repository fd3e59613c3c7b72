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

    async def seen_outside(self, activation: int) -> None:
        """The shares were seen outside their band, of which was told before: how long they have been inside counts anew."""
        await self._pool.call("policy_seen_outside", self._queries["policy_seen_outside"], (activation,))

    async def policy_to_return_to(self, activation: int, *, proven_s: float) -> StoredPolicy | None:
        """The last good policy before an activation, or None: it was not told outside its band last, and stood for `proven_s` unless it was seeded or
        rolled back to."""
        asked = (activation, timedelta(seconds=proven_s))
        rows = await self._pool.read("policy_to_return_to", self._queries["policy_to_return_to"], asked)
        return StoredPolicy(*rows[0]) if rows else None

    async def cross(
        self,
        seen: WatchedPolicy,
        event_id: UUID,
        event_type: str,
        event_data: str,
        *,
        outside: bool,
        rollback: str | None,
        back_to: str | None,
        author: str,
    ) -> str:
        """Tells that the shares have left their band (`outside`) or are back, with its event; `back_to` is the active policy from then on, and
        `rollback` says why it is or is not another.

        Returns `told`, `known` (somebody else has told it) or `overtaken` (another policy is the active one by now): then nothing was changed.
        """
        counts = (seen.decisions, seen.reviews, seen.blocks)
        asked = (seen.activation, outside, *counts, str(event_id), event_type, event_data, rollback, back_to, author)
        return str((await self._pool.call("cross_policy_band", self._queries["cross_policy_band"], asked))[0][0])
