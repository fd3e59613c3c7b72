"""The request that the running code serves, carried along by the context: tasks and threads that asyncio starts inherit it."""

from __future__ import annotations

import re
from contextvars import ContextVar, Token

from paynow.observability.shapes import holds_card
from paynow.observability.trace_context import TraceContext

_SANE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Serving:
    """One request's id, and the trace that it belongs to, if it does to one. Lines that are logged inside `with` carry both.

    A class, since a generator's context manager costs five times as much, on every request.
    """

    __slots__ = ("_token", "request_id", "trace")

    def __init__(self, request_id: str, trace: TraceContext | None) -> None:
        self.request_id = request_id
        self.trace = trace

    def __enter__(self) -> Serving:
        self._token: Token[Serving | None] = _serving.set(self)
        return self

    def __exit__(self, *_raised: object) -> None:
        _serving.reset(self._token)


_serving: ContextVar[Serving | None] = ContextVar("paynow_serving", default=None)


def request_context(request_id: str, trace: TraceContext | None = None) -> Serving:
    """Every line that is logged inside carries this request id, and the trace's. A request id that is not 1-64 of `A-Z a-z 0-9 _ . -`, or holds a
    card number, is written as `withheld`."""
    return Serving(request_id if _SANE.fullmatch(request_id) and not holds_card(request_id) else "withheld", trace)


def current_serving() -> Serving | None:
    """What the caller serves, or None outside any request."""
    return _serving.get()


def current_request_id() -> str | None:
    """The id of the request that the caller serves, or None outside any."""
    serving = _serving.get()
    return serving.request_id if serving else None
