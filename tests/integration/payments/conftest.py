"""Desks on one database in which `c_1` has 100.00 USD."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from desk import Desk

from service import open_account


@pytest.fixture
async def desk_of(database: str) -> AsyncIterator[Callable[..., Awaitable[Desk]]]:
    """Starts desks, and closes them. Each is a process of its own, as far as the others can tell."""
    open_account(database, "c_1", 10_000)
    started: list[Desk] = []

    async def start(dsn: str = database, **settings: Any) -> Desk:
        started.append(Desk(dsn, **settings))
        return await started[-1].start()

    yield start
    for desk in started:
        await desk.close()


@pytest.fixture
async def desk(desk_of: Callable[..., Awaitable[Desk]]) -> Desk:
    return await desk_of()
