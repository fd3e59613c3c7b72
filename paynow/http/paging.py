"""Pages: `limit`, `cursor` and filters in the query; `items` and `nextCursor` in the answer. A cursor says where the next page begins."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from aiohttp import web

from paynow.errors import FieldFault, InvalidRequest
from paynow.http.schemas import ID_PATTERN, Fault

LIMIT_DEFAULT = 50
LIMIT_MAX = 200

_ID = re.compile(ID_PATTERN[:-1] + r"\Z")
_LIMIT = re.compile(r"[0-9]{1,4}\Z", re.ASCII)

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A query that was checked."""

    limit: int
    cursor: str | None
    filters: Mapping[str, Any]


def read(request: web.Request, *, filters: Mapping[str, Sequence[str] | Callable[[str], Any]]) -> PageQuery:
    """The page that is asked for. A filter with words takes one of them, one without takes an id, and one that is a function gives what the
    function makes of it (or raises `Fault`). Raises `InvalidRequest` with all faults."""
    faults: list[FieldFault] = []
    known = {*filters, "limit", "cursor"}
    if any(name not in known for name in request.query):
        faults.append(FieldFault("query", "unknown", f"holds a name that is not known here; known are {', '.join(sorted(known))}"))
    faults += [FieldFault(name, "duplicate", "stands more than once") for name in sorted(known) if len(request.query.getall(name, [])) > 1]
    limit = LIMIT_DEFAULT
    if (text := request.query.get("limit")) is not None:
        if _LIMIT.match(text) and 1 <= int(text) <= LIMIT_MAX:
            limit = int(text)
        else:
            faults.append(FieldFault("limit", "range", f"must be a whole number from 1 to {LIMIT_MAX}"))
    chosen: dict[str, Any] = {name: request.query[name] for name in filters if name in request.query}
    for name, value in chosen.items():
        words = filters[name]
        if callable(words):
            try:
                chosen[name] = words(value)
            except Fault as fault:
                assert isinstance(fault.messages, dict)
                faults.append(FieldFault(name, fault.messages["code"], fault.messages["message"]))
        elif words and value not in words:
            faults.append(FieldFault(name, "choice", f"must be one of {', '.join(words)}"))
        elif not words and not is_id(value):
            faults.append(FieldFault(name, "format", "must be 1 to 64 of the characters A-Z a-z 0-9 _ . : -"))
    if faults:
        raise InvalidRequest("The query cannot be answered", errors=faults)
    return PageQuery(limit, request.query.get("cursor"), chosen)


def page(found: Sequence[Item], limit: int, show: Callable[[Item], dict[str, Any]], position: Callable[[Item], UUID | int | str]) -> dict[str, Any]:
    """A page out of `limit + 1` items at most: one more than fits says that there is a next page."""
    items = found[:limit]
    more = len(found) > limit
    return {"items": [show(item) for item in items], "nextCursor": _encoded(position(items[-1])) if more else None}


def uuid_cursor(cursor: str | None) -> UUID | None:
    """The id that a cursor of ours holds."""
    return None if cursor is None else _decoded(cursor, UUID)


def text_cursor(cursor: str | None, parts: re.Pattern[str]) -> tuple[str, ...] | None:
    """The parts of the text that a cursor of ours holds, which the pattern matches as a whole."""
    if cursor is None:
        return None
    match = parts.fullmatch(_decoded(cursor, str))
    if match is None:
        raise no_cursor()
    return match.groups()


def integer_cursor(cursor: str | None) -> int | None:
    """The position that a cursor of ours holds."""
    return None if cursor is None else _decoded(cursor, int)


def is_id(text: str) -> bool:
    """Whether it has the form of a customer's or payee's id."""
    return _ID.match(text) is not None


def _encoded(position: UUID | int | str) -> str:
    return base64.urlsafe_b64encode(str(position).encode()).decode().rstrip("=")


def _decoded(cursor: str, kind: Callable[[str], Any]) -> Any:
    try:
        position = kind(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii"))
    except (ValueError, binascii.Error):
        position = None
    # Decoding skips what it does not know, so a cursor is ours only if it is what we would have written.
    if position is None or _encoded(position) != cursor:
        raise no_cursor()
    return position


def no_cursor() -> InvalidRequest:
    """What is told of a cursor that is none of ours."""
    return InvalidRequest("The query cannot be answered", errors=[FieldFault("cursor", "format", "must be a nextCursor of this route")])
