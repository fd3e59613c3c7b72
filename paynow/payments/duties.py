"""Work that goes on behind the payments for as long as the service runs: whatever becomes of it once, it is done again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from loguru import logger

from paynow.errors import Refusal


async def see_to(name: str, duty: Callable[[], Awaitable[object]]) -> None:
    """Does it once. Trouble with the store is waited out, and a fault in it must not end what comes after: both stand in the log under its name."""
    try:
        await duty()
    except Refusal as refusal:
        logger.bind(duty=name, error=refusal.code).warning("a duty waits for the store")
    except Exception as error:
        logger.bind(duty=name, error=type(error).__name__).opt(exception=True).error("a duty failed")
