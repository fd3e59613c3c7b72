"""Lets the calls that tools make over HTTP belong to the trace of the request that they serve."""

from __future__ import annotations

from types import SimpleNamespace

import aiohttp

from paynow.observability.correlation import current_serving
from paynow.observability.spans import current_span
from paynow.observability.trace_context import TraceContext


def propagating() -> aiohttp.TraceConfig:
    """For a client session: its requests carry `traceparent` and `tracestate`, unless they bring a `traceparent` of their own.

    Where nothing is recorded, what came in goes out as it came.
    """
    config = aiohttp.TraceConfig()
    config.on_request_start.append(_tell)
    return config


async def _tell(_session: aiohttp.ClientSession, _context: SimpleNamespace, request: aiohttp.TraceRequestStartParams) -> None:
    place = _place()
    if place is None or "traceparent" in request.headers:
        return
    request.headers["traceparent"] = place.traceparent
    if place.state:
        request.headers["tracestate"] = place.state


def _place() -> TraceContext | None:
    span, serving = current_span(), current_serving()
    if span is not None:
        return span.place
    return serving.trace if serving else None
