from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from agent_doubles import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Callable[..., Bench]]:
    """Makes agents, and closes them."""
    made: list[Bench] = []

    def make(*tools: Any, **more: Any) -> Bench:
        made.append(Bench(*tools, **more))
        return made[-1]

    yield make
    for one in made:
        await one.agent.close()
