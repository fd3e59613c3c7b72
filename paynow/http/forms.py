"""From a JSON object to the values of a form, or to every fault of every field at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from marshmallow import Schema, ValidationError

from paynow.errors import FieldFault, InvalidRequest
from paynow.http.body import read_json_object

UNKNOWN_SHOWN_MAX = 10
# A name that is repeated in an answer: letters only, so that it cannot carry a number or an address.
_REPEATABLE = re.compile(r"[A-Za-z_]{1,32}\Z")


class Form:
    """A schema as a body is held against it. Messages never repeat what was sent."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._fields = {field.data_key or name: field for name, field in schema.fields.items()}
        self.known = frozenset(self._fields)

    def load(self, document: dict[str, Any]) -> dict[str, Any]:
        """The values. Raises `ValidationError`; `faults` makes its messages faults."""
        return dict(self._schema.load(document))

    async def read(self, request: web.Request) -> dict[str, Any]:
        """The values of a request's body. Raises `NotJson`, `InvalidRequest` with all faults."""
        document = await read_json_object(request, self.known)
        try:
            return self.load(document)
        except ValidationError as error:
            raise InvalidRequest("One or more fields are wrong", errors=self.faults(error.messages, document)) from None

    def faults(self, messages: Any, document: Mapping[str, Any]) -> list[FieldFault]:
        """What the schema says of a document, a fault a field."""
        found = []
        for name in (name for name in self._fields if name in messages):
            about, expected = messages[name], getattr(self._fields[name], "expected", "is needed")
            if isinstance(about, dict):
                found.append(FieldFault(name, about["code"], about["message"]))
            elif name in document:
                found.append(FieldFault(name, "type", expected))
            else:
                found.append(FieldFault(name, "required", f"is missing: it {expected}"))
        # A small body can hold thousands of wrong names: the answer names a few of them, in an order that does not change.
        unknown = sorted({name if _REPEATABLE.match(name) else "body" for name in messages.keys() - self.known})
        about_unknown = f"is not a field of this request; the fields are {', '.join(sorted(self.known))}"
        return found + [FieldFault(name, "unknown", about_unknown) for name in unknown[:UNKNOWN_SHOWN_MAX]]
