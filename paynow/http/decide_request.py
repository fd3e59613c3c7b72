"""From a JSON object and a header to a valid request, or to every fault of every field at once."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import ValidationError

from paynow.errors import FieldFault, InvalidRequest
from paynow.http.schemas import DecideSchema, Fault, amount_minor
from paynow.payments.decide import DecideRequest
from paynow.payments.fingerprint import fingerprint

_SCHEMA = DecideSchema()
_FIELDS = {field.data_key or name: field for name, field in _SCHEMA.fields.items()}
KNOWN_FIELDS = frozenset(_FIELDS)
UNKNOWN_SHOWN_MAX = 10
# A name that is repeated in an answer: letters only, so that it cannot carry a number or an address.
_REPEATABLE = re.compile(r"[A-Za-z_]{1,32}\Z")


def read_decide_request(document: dict[str, Any], header_keys: list[str], request_id: str) -> DecideRequest:
    """The request that the body and the `Idempotency-Key` header make. Raises `InvalidRequest` with all faults."""
    faults: list[FieldFault] = []
    body_key = document.get("idempotencyKey")
    header_key = _header_key(header_keys, faults)
    if header_key is not None:
        if body_key is not None and body_key != header_key:
            faults.append(FieldFault("idempotencyKey", "different", "differs from the header Idempotency-Key; send the key once, or twice the same"))
        elif body_key is None:
            document = {**document, "idempotencyKey": header_key}
    elif body_key is None and not faults:
        faults.append(FieldFault("idempotencyKey", "required", "is missing: send it in the body or as the header Idempotency-Key"))
        document = {name: value for name, value in document.items() if name != "idempotencyKey"}
    try:
        values = _SCHEMA.load(document)
    except ValidationError as error:
        raise InvalidRequest("One or more fields are wrong", errors=faults + _faults(error.messages, document)) from None
    try:
        minor = amount_minor(values["amount"], values["currency"])
    except Fault as fault:
        faults += _faults({"amount": fault.messages}, document)
    if faults:
        raise InvalidRequest("One or more fields are wrong", errors=faults)
    customer, payee, currency = values["customer_id"], values["payee_id"], values["currency"]
    return DecideRequest(customer, payee, minor, currency, values["key"], request_id, fingerprint(customer, payee, minor, currency))


def _header_key(header_keys: list[str], faults: list[FieldFault]) -> str | None:
    """The header's value; in quotes too, as draft-ietf-httpapi-idempotency-key-header writes it (an RFC 9651 string)."""
    if not header_keys:
        return None
    if len(header_keys) > 1:
        faults.append(FieldFault("Idempotency-Key", "duplicate", "stands more than once; send the header once"))
        return None
    key = header_keys[0]
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = re.sub(r'\\(["\\])', r"\1", key[1:-1])
    return key


def _faults(messages: Any, document: dict[str, Any]) -> list[FieldFault]:
    found = []
    for name in (name for name in _FIELDS if name in messages):
        about, expected = messages[name], getattr(_FIELDS[name], "expected", "is needed")
        if isinstance(about, dict):
            found.append(FieldFault(name, about["code"], about["message"]))
        elif name in document:
            found.append(FieldFault(name, "type", expected))
        else:
            found.append(FieldFault(name, "required", f"is missing: it {expected}"))
    # A small body can hold thousands of wrong names: the answer names a few of them, in an order that does not change.
    unknown = sorted({name if _REPEATABLE.match(name) else "body" for name in messages.keys() - KNOWN_FIELDS})
    about_unknown = f"is not a field of this request; the fields are {', '.join(sorted(KNOWN_FIELDS))}"
    return found + [FieldFault(name, "unknown", about_unknown) for name in unknown[:UNKNOWN_SHOWN_MAX]]
