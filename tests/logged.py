"""What is logged while a test runs, as the code hands it over: nothing is redacted or left out yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """Each line's message, level and exception, with its fields."""
    lines: list[dict[str, Any]] = []

    def keep(message: Any) -> None:
        record = message.record
        lines.append({"message": record["message"], "level": record["level"].name, "exception": record["exception"], **record["extra"]})

    sink = logger.add(keep, level="DEBUG", format="{message}")
    yield lines
    logger.remove(sink)
