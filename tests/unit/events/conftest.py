"""A relay over doubles, started when a test says so and stopped at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from event_doubles import EventsInMemory, HandTime, MetersDouble, SinkDouble

from paynow.events import Relay


@pytest.fixture
def time() -> HandTime:
    return HandTime()


@pytest.fixture
def outbox(time: HandTime) -> EventsInMemory:
    return EventsInMemory(now_s=lambda: time.now_s)


@pytest.fixture
def meters() -> MetersDouble:
    return MetersDouble()


@pytest.fixture
async def relay_to(time: HandTime, outbox: EventsInMemory, meters: MetersDouble) -> AsyncIterator[Callable[..., Relay]]:
    """Starts a relay from the outbox to these sinks. Waits after failures are the longest that chance allows."""
    started: list[tuple[Relay, asyncio.Task[None]]] = []

    def start(*sinks: SinkDouble, source: EventsInMemory = outbox, **changes: Any) -> Relay:
        settings: dict[str, Any] = {"poll_s": 1.0, "keep_s": 3600.0, "clock": time.clock(), "jitter": lambda: 1.0} | changes
        relay = Relay(source, sinks, meters, **settings)
        started.append((relay, asyncio.create_task(relay.run())))
        return relay

    yield start
    for relay, task in started:
        await relay.stop(0)
        await task
