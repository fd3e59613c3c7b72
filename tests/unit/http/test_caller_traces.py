"""Whose trace a request belongs to, at the real middleware: the caller's, if it may say so."""

from __future__ import annotations

import pytest
from aiohttp import web

from paynow.http import middlewares
from paynow.observability.correlation import current_serving

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


async def _tell(request: web.Request) -> web.Response:
    serving = current_serving()
    assert serving
    return web.Response(text=serving.trace.trace_id if serving.trace else "none")


@pytest.mark.parametrize(
    ("follow", "headers", "told"),
    [
        (True, [("traceparent", SENT)], TRACE_ID),
        (True, [("Traceparent", SENT)], TRACE_ID),
        (True, [("traceparent", SENT), ("traceparent", SENT)], "none"),
        (True, [("traceparent", SENT.upper())], "none"),
        (True, [], "none"),
        (False, [("traceparent", SENT)], "none"),
    ],
)
async def test_a_callers_trace_counts_if_it_is_valid_and_followed(aiohttp_client, follow: bool, headers: list, told: str) -> None:
    app = web.Application(middlewares=[middlewares.request_ids(follow_traceparent=follow)])
    app.router.add_get("/", _tell)
    client = await aiohttp_client(app)
    async with client.get("/", headers=headers) as response:
        assert await response.text() == told
