"""One process that serves until it is told to stop: the whole of `paynow serve` with one worker, and each of several."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable

from paynow.app import Assembly, Service
from paynow.observability.sharing import Shared

GARBAGE_OBJECTS = 20_000


async def run_service(assembly: Assembly, dsn: str, *, ready: Callable[[int], None], shared: Shared | None = None) -> None:
    """Until SIGINT or SIGTERM; `ready` is told the port. Raises what `Service.start` does."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    service = Service(assembly, dsn, shared=shared)
    port = await service.start()
    # What exists now stays: the collector need not look at it again, nor as often as its defaults say at what payments leave behind.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 20, 20)
    try:
        ready(port)
        await stopping.wait()
    finally:
        await service.stop()
