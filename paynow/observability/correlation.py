"""The id of the request that the running code serves, carried along by the context: tasks and threads that asyncio starts inherit it."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token

from paynow.observability.shapes import holds_card

_request_id: ContextVar[str | None] = ContextVar("paynow_request_id", default=None)
_SANE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def request_context(request_id: str) -> AbstractContextManager[None]:
    """Every line that is logged inside carries this request id. One that is not 1-64 of `A-Z a-z 0-9 _ . -`, or holds a card number,
    is written as `withheld`."""
    return _RequestContext(request_id if _SANE.fullmatch(request_id) and not holds_card(request_id) else "withheld")


def current_request_id() -> str | None:
    """The id of the request that the caller serves, or None outside any."""
    return _request_id.get()


class _RequestContext:
    """A class, since a generator's context manager costs five times as much, on every request."""

    __slots__ = ("_request_id", "_token")

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def __enter__(self) -> None:
        self._token: Token[str | None] = _request_id.set(self._request_id)

    def __exit__(self, *_raised: object) -> None:
        _request_id.reset(self._token)
