"""The routes of cases: a request, a use case, and the case as it is then. Nothing is decided here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from aiohttp import web

from paynow.cases.vocabulary import LABELS, STATUSES
from paynow.clock import rfc3339
from paynow.errors import FieldFault, InvalidRequest, NotFound
from paynow.http import paging
from paynow.http.answers import json_answer, path_id
from paynow.http.case_schemas import LabelSchema, NoteSchema
from paynow.http.forms import Form
from paynow.http.middlewares import CALLER_ID, CALLER_SCOPES
from paynow.http.schemas import Amount, CurrencyCode, Fault, amount_minor
from paynow.http.services import SERVICES
from paynow.money import to_text
from paynow.settings.notation import duration_s
from paynow.store.records import CaseAct, CaseFilter, StoredCase

ORDERS = ("newest", "urgent")
AGE_MAX_S = 36_500 * 86_400
KEY_ID_PATTERN = r"^[0-9a-z]{1,32}$"

_KEY_ID = re.compile(KEY_ID_PATTERN[:-1] + r"\Z")
_PLACE = re.compile(r"([0-9]{1,3})\|([0-9T:.+-]{19,40})\|([0-9a-f-]{36})", re.ASCII)
_NOTE, _LABEL = Form(NoteSchema()), Form(LabelSchema())


async def cases_page(request: web.Request) -> web.Response:
    """`GET /api/cases`."""
    query = paging.read(request, filters=_FILTERS)
    wanted, urgent = _filter(query.filters), query.filters.get("order") == "urgent"
    cases = request.app[SERVICES].store.cases
    if urgent:
        found = await cases.queue(wanted, after=_place(query.cursor), limit=query.limit + 1)
    else:
        found = await cases.page(wanted, before=paging.uuid_cursor(query.cursor), limit=query.limit + 1)
    now = datetime.now(UTC)
    return json_answer(paging.page(found, query.limit, lambda case: case_json(case, now), _urgent_position if urgent else lambda case: case.case_id))


async def case(request: web.Request) -> web.Response:
    """`GET /api/cases/{caseId}`."""
    cases = request.app[SERVICES].store.cases
    found = await cases.find(path_id(request, "caseId", "case"))
    if found is None:
        raise NotFound("There is no such case")
    return json_answer({**case_json(found, datetime.now(UTC)), "history": [_act(act) for act in await cases.history(found)]})


async def claim_case(request: web.Request) -> web.Response:
    """`POST /api/cases/{caseId}/claim`."""
    return _answer(await request.app[SERVICES].case_work.claim(path_id(request, "caseId", "case"), request[CALLER_ID]))


async def unclaim_case(request: web.Request) -> web.Response:
    """`POST /api/cases/{caseId}/unclaim`."""
    any_holder = "cases:admin" in request[CALLER_SCOPES]
    return _answer(await request.app[SERVICES].case_work.unclaim(path_id(request, "caseId", "case"), request[CALLER_ID], any_holder=any_holder))


async def approve_case(request: web.Request) -> web.Response:
    """`POST /api/cases/{caseId}/approve`."""
    return _answer(await request.app[SERVICES].case_work.approve(path_id(request, "caseId", "case"), request[CALLER_ID]))


async def decline_case(request: web.Request) -> web.Response:
    """`POST /api/cases/{caseId}/decline`."""
    return _answer(await request.app[SERVICES].case_work.decline(path_id(request, "caseId", "case"), request[CALLER_ID]))


async def note_case(request: web.Request) -> web.Response:
    """`POST /api/cases/{caseId}/note`."""
    case_id = path_id(request, "caseId", "case")
    values = await _NOTE.read(request)
    return _answer(await request.app[SERVICES].case_work.note(case_id, request[CALLER_ID], values["note"]))


async def label_case(request: web.Request) -> web.Response:
    """`POST /api/cases/{caseId}/label`."""
    case_id = path_id(request, "caseId", "case")
    values = await _LABEL.read(request)
    return _answer(await request.app[SERVICES].case_work.label(case_id, request[CALLER_ID], values["label"]))


def case_json(found: StoredCase, now: datetime) -> dict[str, Any]:
    """A case as it is answered."""
    return {
        "caseId": str(found.case_id),
        "paymentId": str(found.payment_id),
        "customerId": found.customer_id,
        "status": found.status,
        "amount": to_text(found.amount_minor, found.currency),
        "currency": found.currency,
        "reasons": found.reasons,
        "priority": found.priority,
        "openedAt": rfc3339(found.opened_at),
        "dueAt": rfc3339(found.due_at),
        "overdue": found.resolved_at is None and found.due_at < now,
        "holder": found.holder,
        "claimedAt": _when(found.claimed_at),
        "label": found.label,
        "resolvedBy": found.resolved_by,
        "resolvedAt": _when(found.resolved_at),
        "reservedUntil": _when(found.reserved_until),
    }


def _answer(case: StoredCase) -> web.Response:
    return json_answer(case_json(case, datetime.now(UTC)))


def _when(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None


def _act(act: CaseAct) -> dict[str, Any]:
    entry = {"act": act.act, "keyId": act.actor, "at": rfc3339(act.acted_at), "note": act.note, "label": act.label}
    return {name: value for name, value in entry.items() if value is not None}


def _amount(text: str) -> Decimal:
    return Amount()._deserialize(text, None, None)


def _currency(text: str) -> str:
    return CurrencyCode()._deserialize(text, None, None)


def _age_s(text: str) -> float:
    try:
        seconds = duration_s(text)
    except ValueError:
        raise Fault("format", "must be a time like 90s, 15m, 12h or 7d") from None
    if seconds > AGE_MAX_S:
        raise Fault("range", "must be at most 36500d")
    return seconds


def _key_id(text: str) -> str:
    if not _KEY_ID.match(text):
        raise Fault("format", "must be the id of an API key")
    return text


_FILTERS = {
    "status": STATUSES,
    "holder": _key_id,
    "label": LABELS,
    "currency": _currency,
    "amountMin": _amount,
    "amountMax": _amount,
    "ageMin": _age_s,
    "ageMax": _age_s,
    "overdue": ("true", "false"),
    "order": ORDERS,
}


def _filter(asked: Mapping[str, Any]) -> CaseFilter:
    """What the filters come to together. Raises `InvalidRequest` with all faults."""
    faults: list[FieldFault] = []
    bounds: dict[str, int | None] = {"amountMin": None, "amountMax": None}
    for name in bounds:
        if name in asked and "currency" not in asked:
            faults.append(FieldFault("currency", "required", f"is missing: {name} counts in one currency"))
        elif name in asked:
            try:
                bounds[name] = amount_minor(asked[name], asked["currency"])
            except Fault as fault:
                assert isinstance(fault.messages, dict)
                faults.append(FieldFault(name, fault.messages["code"], fault.messages["message"]))
    if asked.get("order") == "urgent" and asked.get("status") in ("approved", "declined"):
        faults.append(FieldFault("order", "choice", "urgent is the order of what is not resolved: ask for status open or claimed, or for no status"))
    if faults:
        raise InvalidRequest("The query cannot be answered", errors=faults)
    return CaseFilter(
        asked.get("status"),
        asked.get("holder"),
        asked.get("label"),
        asked.get("currency"),
        bounds["amountMin"],
        bounds["amountMax"],
        asked.get("ageMin"),
        asked.get("ageMax"),
        asked.get("overdue") == "true",
    )


def _urgent_position(case: StoredCase) -> str:
    return f"{case.priority}|{case.due_at.astimezone(UTC).isoformat()}|{case.case_id}"


def _place(cursor: str | None) -> tuple[int, datetime, UUID] | None:
    parts = paging.text_cursor(cursor, _PLACE)
    if parts is None:
        return None
    try:
        return int(parts[0]), datetime.fromisoformat(parts[1]), UUID(parts[2])
    except ValueError:
        raise paging.no_cursor() from None
