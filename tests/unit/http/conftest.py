"""A client of the small door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from small_door import small_door


@pytest.fixture
async def door(aiohttp_client: Callable[..., Awaitable[TestClient[Any, Any]]]) -> TestClient[Any, Any]:
    return await aiohttp_client(small_door(), skip_auto_headers=["Content-Type"])
