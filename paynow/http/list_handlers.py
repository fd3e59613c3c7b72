"""The routes of the allow and block lists."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from aiohttp import web

from paynow.errors import FieldFault, InvalidRequest, NotFound
from paynow.http import paging
from paynow.http.answers import json_answer
from paynow.http.forms import Form
from paynow.http.list_schemas import Moment, PutListingSchema
from paynow.http.middlewares import CALLER_ID
from paynow.http.services import SERVICES
from paynow.payments.listings import KINDS, LISTS, listing_json

_PLACE = re.compile(r"(customer|payee)\|([A-Za-z0-9_.:-]{1,64})\|(allow|block)", re.ASCII)
_PUT = Form(PutListingSchema())


async def lists_page(request: web.Request) -> web.Response:
    """`GET /api/lists`."""
    query = paging.read(request, filters={"kind": KINDS, "id": (), "list": LISTS})
    found = await request.app[SERVICES].store.lists.page(
        kind=query.filters.get("kind"),
        subject=query.filters.get("id"),
        listing=query.filters.get("list"),
        after=paging.text_cursor(query.cursor, _PLACE),  # type: ignore[arg-type]
        limit=query.limit + 1,
    )
    now = datetime.now(UTC)
    shown = paging.page(found, query.limit, lambda entry: listing_json(entry, now), lambda entry: f"{entry.kind}|{entry.subject}|{entry.listing}")
    return json_answer(shown)


async def put_listing(request: web.Request) -> web.Response:
    """`PUT /api/lists/{kind}/{id}/{list}`."""
    kind, subject, listing = _entry(request)
    values = await _PUT.read(request)
    expires_at, now = values["expires_at"], datetime.now(UTC)
    if expires_at is not None and expires_at <= now:
        raise InvalidRequest("One or more fields are wrong", errors=[FieldFault("expiresAt", "range", Moment.expected)])
    author = request[CALLER_ID]
    entry = await request.app[SERVICES].store.lists.put(kind, subject, listing, reason=values["reason"], expires_at=expires_at, author=author)
    return json_answer(listing_json(entry, now))


async def remove_listing(request: web.Request) -> web.Response:
    """`DELETE /api/lists/{kind}/{id}/{list}`."""
    kind, subject, listing = _entry(request)
    removed = await request.app[SERVICES].store.lists.remove(kind, subject, listing, author=request[CALLER_ID])
    return json_answer({"kind": kind, "id": subject, "list": listing, "removed": removed})


def _entry(request: web.Request) -> tuple[str, str, str]:
    """The entry that the path names. Raises `NotFound` for a list that there cannot be, `InvalidRequest` for what is no id."""
    kind, subject, listing = (request.match_info[name] for name in ("kind", "id", "list"))
    if kind not in KINDS or listing not in LISTS:
        raise NotFound("There is no such list")
    if not paging.is_id(subject):
        fault = FieldFault("id", "format", "must be 1 to 64 of the characters A-Z a-z 0-9 _ . : -")
        raise InvalidRequest("The entry cannot be named so", errors=[fault])
    return kind, subject, listing
