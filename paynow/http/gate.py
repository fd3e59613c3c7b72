"""How many payments one process decides at a time, and the quick refusal of those that are more.

When twice as much is asked as can be done, saying no must cost next to nothing, or the refusals use up what the decisions need: a request that
would be refused is recognised in the bytes as they arrive, and is neither parsed nor authenticated. Whatever is not plainly such a request goes
the ordinary way, and is refused at its end.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from functools import lru_cache
from secrets import token_hex
from types import TracebackType

from loguru import logger

from paynow.errors import Overloaded
from paynow.http.problems import problem

TELL_EVERY_S = 1.0
ON_THEIR_WAY_S = 0.01
"""After so long a request that was let in does not come to be decided any more: it had no key, or a fault."""

_HEAD = re.compile(rb"POST /api/payments/decide HTTP/1\.1\r\n((?:[A-Za-z0-9-]+: [\x20-\x7e]*\r\n)+)\r\n")
_FRAMING = re.compile(rb"^(content-length|connection|expect|transfer-encoding|upgrade): (.*)\r$", re.IGNORECASE | re.MULTILINE)
_REQUEST_ID = re.compile(rb"^x-request-id: ([A-Za-z0-9_.-]{8,64})\r$", re.IGNORECASE | re.MULTILINE)


class Gate:
    """Counts the payments that are being decided: `with gate:` around each. Raises `Overloaded` where there is no room.

    `turned_away` is told of each that was refused.
    """

    def __init__(self, in_flight_max: int, turned_away: Callable[[], None] = lambda: None) -> None:
        self._in_flight_max = in_flight_max
        self._turned_away = turned_away
        self._in_flight = 0
        self._on_their_way = 0
        self._untold = 0
        self._tell_at = 0.0

    def __enter__(self) -> None:
        self._on_their_way = max(0, self._on_their_way - 1)
        if self._in_flight >= self._in_flight_max:
            self._refused()
            raise Overloaded(retry_after_s=1)
        self._in_flight += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._in_flight -= 1

    @property
    def full(self) -> bool:
        """Whether one more would be refused, those counted that have just been let in."""
        return self._in_flight + self._on_their_way >= self._in_flight_max

    def let_in(self) -> None:
        """A request goes the ordinary way: it will be counted in a moment, and others must not take its place meanwhile."""
        if not self._on_their_way:
            asyncio.get_running_loop().call_later(ON_THEIR_WAY_S, self._arrived)
        self._on_their_way += 1

    def refusal(self, request: bytes) -> bytes:
        """The answer to one whole request: 503 `overloaded`, to be asked again after a second, under the caller's request id if it is sane."""
        self._refused()
        given = _REQUEST_ID.search(request)
        request_id = given[1] if given else token_hex(16).encode()
        head, body = _answer()
        body = request_id.join(body)
        return b"%b%d\r\nX-Request-Id: %b\r\n\r\n%b" % (head, len(body), request_id, body)

    def _arrived(self) -> None:
        self._on_their_way = 0

    def _refused(self) -> None:
        """One line in a second at most: a line for each would cost more than the refusal."""
        self._turned_away()
        self._untold += 1
        now = time.monotonic()
        if now >= self._tell_at:
            logger.bind(count=self._untold).warning("overloaded: payments are refused")
            self._untold, self._tell_at = 0, now + TELL_EVERY_S


def is_whole(data: bytes) -> bool:
    """Whether these bytes are one request for a decision from its first byte to its last, written as nearly everybody writes it, so that nobody can
    read it otherwise (RFC 9112, section 11.2)."""
    head = _HEAD.match(data)
    if head is None:
        return False
    framing = [(name.lower(), value) for name, value in _FRAMING.findall(head[1]) if (name.lower(), value.lower()) != (b"connection", b"keep-alive")]
    if len(framing) != 1:
        return False
    name, value = framing[0]
    return name == b"content-length" and len(value) < 10 and value.isdigit() and len(data) == head.end() + int(value)


@lru_cache(maxsize=1)
def _answer() -> tuple[bytes, tuple[bytes, bytes]]:
    """The head of the refusal up to its length, and the body before and after the request id: made by what makes every problem answer."""
    response = problem(Overloaded(retry_after_s=1), "\0")
    written = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items() if name != "Content-Length")
    before, _, after = bytes(response.body).partition(b"\\u0000")
    return f"HTTP/1.1 503 Service Unavailable\r\n{written}Content-Length: ".encode(), (before, after)
