"""What consumers were promised stays: fields may be added to an event, and none may go, change its type or become optional."""

from __future__ import annotations

from typing import Any

import pytest

from paynow.events import schemas

PAYMENT = {"paymentId": "string", "customerId": "string", "payeeId": "string", "amount": "string", "currency": "string"}
BAND = {
    "policyVersion": "string",
    "activatedAt": "string",
    "windowS": "number",
    "decisions": "integer",
    "reviewShare": "number",
    "reviewBand": "array",
    "blockShare": "number",
    "blockBand": "array",
    "rollback": ["string", "null"],
    "rolledBackTo": ["string", "null"],
}
PROMISED: dict[str, dict[str, Any]] = {
    "paynow.payment.decided": {
        **PAYMENT,
        "decision": "string",
        "reasons": "array",
        "degraded": "boolean",
        "policyVersion": "string",
        "caseId": ["string", "null"],
        "decidedAt": "string",
    },
    "paynow.reservation.captured": {**PAYMENT, "reservation": "string"},
    "paynow.reservation.released": {**PAYMENT, "reservation": "string"},
    "paynow.reservation.expired": {**PAYMENT, "reservation": "string"},
    "paynow.case.resolved": {**PAYMENT, "caseId": "string", "resolution": "string", "resolvedBy": "string", "reservation": ["string", "null"]},
    "paynow.policy.band_left": BAND,
    "paynow.policy.band_returned": BAND,
}
"""The data of each type, as far as it was ever released. Only add to it."""
WORDS = {
    "decision": ["allow", "review", "block"],
    "resolution": ["approved", "declined"],
}
"""Lists of words that are closed: a consumer may rely on there being no other."""
ENVELOPE = ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "sequence", "partitionkey", "data"]


def data_of(kind: str) -> dict[str, Any]:
    """The schema of a type's data; an assertion if there is no such type any more."""
    definitions = schemas.document()["$defs"]
    events = [form for form in definitions.values() if form["properties"].get("type", {}).get("const") == kind]
    assert len(events) == 1, kind
    return definitions[events[0]["properties"]["data"]["$ref"].removeprefix("#/$defs/")]


@pytest.mark.parametrize("kind", PROMISED)
def test_every_promised_field_is_there_with_its_type(kind: str) -> None:
    form = data_of(kind)
    assert {name: form["properties"].get(name, {}).get("type") for name in PROMISED[kind]} == PROMISED[kind]
    assert set(PROMISED[kind]) <= set(form["required"])
    for name, words in WORDS.items():
        assert form["properties"].get(name, {"enum": words})["enum"] == words


def test_every_promised_attribute_of_the_envelope_is_there() -> None:
    form = schemas.document()["$defs"]["Event"]
    assert set(ENVELOPE) <= set(form["required"])


def test_what_is_new_is_promised_too() -> None:
    types = {one["if"]["properties"]["type"]["const"] for one in schemas.document()["allOf"]}
    assert types == set(PROMISED)
    assert {kind: set(data_of(kind)["properties"]) for kind in types} == {kind: set(fields) for kind, fields in PROMISED.items()}
