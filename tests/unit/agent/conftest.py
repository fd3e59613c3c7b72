from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from agent_doubles import Bench
from loguru import logger


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


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """What is logged meanwhile: each line's message with its fields."""
    lines: list[dict[str, Any]] = []

    def keep(message: Any) -> None:
        record = message.record
        lines.append({"message": record["message"], "exception": record["exception"], **record["extra"]})

    sink = logger.add(keep, level="DEBUG", format="{message}")
    yield lines
    logger.remove(sink)
