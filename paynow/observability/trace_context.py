"""W3C Trace Context (https://www.w3.org/TR/trace-context/): the headers `traceparent` and `tracestate`, read strictly and written. Knows no spans."""

from __future__ import annotations

import re
from collections.abc import Sequence
from secrets import token_hex
from typing import NamedTuple

STATE_LENGTH_MAX = 512
"""A longer `tracestate` is not passed on, as the recommendation permits (3.3.1.5)."""

STATE_MEMBERS_MAX = 32

_PARENT = re.compile(r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?P<more>-.*)?", re.ASCII)
_KEY = r"[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}"
_MEMBER = re.compile(rf"(?P<key>{_KEY})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]", re.ASCII)
_SAMPLED = 0x01


class TraceContext(NamedTuple):
    """A place in a trace: its id (32 hexadecimal digits), the span there (16), whether the trace is recorded, and what `tracestate` said."""

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""

    @property
    def traceparent(self) -> str:
        """The header's value that makes this place the parent of what is asked for."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def read_trace_context(parents: Sequence[str], states: Sequence[str]) -> TraceContext | None:
    """What the headers of those names say, each given as often as it was sent; None if `traceparent` is not exactly one valid value.

    Of a version that is not known yet, what version 00 has is read (3.2.4). A `tracestate` that is not valid is as good as none.
    """
    match = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if match is None or (match["version"] == "00" and match["more"]):
        return None
    return TraceContext(match[2], match[3], bool(int(match[4], 16) & _SAMPLED), _state(",".join(states)))


def new_trace_id() -> str:
    """A random id of a trace."""
    return token_hex(16)


def new_span_id() -> str:
    """A random id of a span."""
    return token_hex(8)


def _state(written: str) -> str:
    if not written or len(written) > STATE_LENGTH_MAX:
        return ""
    members = [member for member in (part.strip(" \t") for part in written.split(",")) if member]
    matches = [_MEMBER.fullmatch(member) for member in members]
    keys = {match["key"] for match in matches if match}
    return ",".join(members) if len(keys) == len(members) <= STATE_MEMBERS_MAX else ""
