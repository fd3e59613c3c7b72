"""How many payments one process decides at a time, and the quick refusal of those that are more.

When twice as much is asked as can be done, saying no must cost next to nothing, or the refusals use up what the decisions need: a request that
would be refused is recognised in the bytes as they arrive, and is neither parsed nor authenticated.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from secrets import token_hex

from loguru import logger

from paynow.errors import Overloaded
from paynow.http.problems import problem

ASKS_FOR_A_DECISION = b"POST /api/payments/decide "
TELL_EVERY_S = 1.0

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*(?=\r\n)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-request-id:[ \t]*([A-Za-z0-9_.-]{8,64})[ \t]*(?=\r\n)", re.IGNORECASE)
_UNUSUAL = re.compile(rb"\r\n(?:connection|expect|transfer-encoding|upgrade):(?![ \t]*keep-alive[ \t]*\r\n)", re.IGNORECASE)


class Gate:
    """Counts the payments that are being decided, and answers those for which there is no room. `refused` is told of each."""

    def __init__(self, in_flight_max: int, refused: Callable[[], None] = lambda: None) -> None:
        self._in_flight_max = in_flight_max
        self._refused = refused
        self._untold = 0
        self._tell_at = 0.0
        self.in_flight = 0

    @property
    def full(self) -> bool:
        """Whether there is no room for another payment."""
        return self.in_flight >= self._in_flight_max

    def refusal(self, request: bytes) -> bytes:
        """The answer to one whole request: 503 `overloaded`, to be asked again after a second, under the caller's request id if it is sane."""
        self._refused()
        self._tell()
        given = _REQUEST_ID.search(request)
        request_id = given[1] if given else token_hex(16).encode()
        body = request_id.join(_BODY)
        return b"%b%d\r\nX-Request-Id: %b\r\n\r\n%b" % (_HEAD, len(body), request_id, body)

    def _tell(self) -> None:
        """One line in a second at most: a line for each would cost more than the refusal."""
        self._untold += 1
        now = time.monotonic()
        if now >= self._tell_at:
            logger.bind(count=self._untold).warning("overloaded: payments are refused")
            self._untold, self._tell_at = 0, now + TELL_EVERY_S


def is_whole(data: bytes) -> bool:
    """Whether these bytes are one request for a decision from its first byte to its last, with nothing about it that aiohttp would have to see to."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0 or not data.startswith(ASKS_FOR_A_DECISION) or data.find(b" HTTP/1.1\r\n", 0, 64) < 0:
        return False
    head = data[: head_end + 2]
    lengths = _LENGTH.findall(head)
    return len(lengths) == 1 and len(data) == head_end + 4 + int(lengths[0]) and not _UNUSUAL.search(head)


def _made_ready() -> tuple[bytes, tuple[bytes, bytes]]:
    """The head of the refusal up to its length, and the body before and after the request id: made by what makes every problem answer."""
    response = problem(Overloaded(retry_after_s=1), "\0")
    body = bytes(response.body)
    written = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items() if name != "Content-Length")
    before, _, after = body.partition(b"\\u0000")
    return f"HTTP/1.1 503 Service Unavailable\r\n{written}Content-Length: ".encode(), (before, after)


_HEAD, _BODY = _made_ready()
