"""From a JSON object and a header to a valid request, or to every fault of every field at once."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import ValidationError

from paynow.errors import FieldFault, InvalidRequest
from paynow.http.forms import Form
from paynow.http.schemas import DecideSchema, Fault, amount_minor
from paynow.payments.decide import DecideRequest
from paynow.payments.fingerprint import fingerprint

_FORM = Form(DecideSchema())
KNOWN_FIELDS = _FORM.known


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
        values = _FORM.load(document)
    except ValidationError as error:
        raise InvalidRequest("One or more fields are wrong", errors=faults + _FORM.faults(error.messages, document)) from None
    try:
        minor = amount_minor(values["amount"], values["currency"])
    except Fault as fault:
        faults += _FORM.faults({"amount": fault.messages}, document)
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
