"""Requests of this process that carry the same key: the first decides, the others wait for its answer without asking the database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

Slot = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Held:
    """An answer that is stored, and the fingerprint of the payment it is for."""

    fingerprint: bytes
    answer: bytes


class InFlight:
    """One slot per (customer, key) that is being decided here. It ends with the answer, or with None if there is none to be had."""

    def __init__(self) -> None:
        # The future is made by the first who waits: mostly nobody does.
        self._ahead: dict[Slot, asyncio.Future[Held | None] | None] = {}

    def __len__(self) -> int:
        return len(self._ahead)

    async def join(self, slot: Slot, wait_s: float) -> Held | None:
        """Waits for the one ahead. None: nobody is, or it ended without an answer: the slot is free.

        Raises `TimeoutError` if it did not finish in time.
        """
        if slot not in self._ahead:
            return None
        ahead = self._ahead[slot]
        if ahead is None:
            ahead = self._ahead[slot] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(wait_s):
            return await asyncio.shield(ahead)

    def taken(self, slot: Slot) -> bool:
        """Whether somebody decides under this key now."""
        return slot in self._ahead

    def enter(self, slot: Slot) -> None:
        """Takes a free slot."""
        assert slot not in self._ahead
        self._ahead[slot] = None

    def leave(self, slot: Slot, held: Held | None) -> None:
        """Frees the slot and tells who waits."""
        ahead = self._ahead.pop(slot)
        if ahead is not None:
            ahead.set_result(held)
