"""The JSON Schemas (2020-12) of events for consumers, made of their declarations. They are open: what consumers must pass over is not refused."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import orjson

import paynow
from paynow.events.forms import EVENT_TYPES, MAY_GAIN_WORDS, Envelope, EventType

Json = dict[str, Any]

TITLE = "PayNow events"
DESCRIPTION = (
    "Events of PayNow as CloudEvents 1.0 in JSON. Attributes, fields, types and the words of an `x-extensible-enum` may be added: "
    "pass over what you do not know."
)
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


@cache
def document() -> Json:
    """One schema that takes any event, and holds each by the form of its type; an event of an unknown type by the envelope alone."""
    return {
        "$schema": DIALECT,
        "title": TITLE,
        "description": DESCRIPTION,
        "x-version": paynow.__version__,
        "$ref": "#/$defs/Event",
        "allOf": [_if_of_type(one) for one in EVENT_TYPES],
        "$defs": definitions("#/$defs/"),
    }


@cache
def as_bytes() -> bytes:
    """The document as it is sent."""
    return orjson.dumps(document())


def definitions(place: str) -> dict[str, Json]:
    """The schemas by their names, which refer to each other under `place`: the envelope, each type's event, and each form of data."""
    found = {"Event": fields_of(Envelope)}
    for one in EVENT_TYPES:
        found[one.name] = event_of(one, f"{place}{one.data.__name__}")
    for one in EVENT_TYPES:
        found.setdefault(one.data.__name__, fields_of(one.data))
    return found


def _if_of_type(one: EventType) -> Json:
    return {"if": {"properties": {"type": {"const": one.type}}, "required": ["type"]}, "then": {"$ref": f"#/$defs/{one.name}"}}


def event_of(one: EventType, data: str) -> Json:
    """The schema of a type's events; `data` says where that of their data is."""
    form = fields_of(Envelope)
    properties = {
        **form["properties"],
        "type": {"type": "string", "const": one.type},
        "subject": form_of(one.subject),
        "data": {"$ref": data},
    }
    return {**form, "title": one.type, "description": f"{one.when}.", "properties": properties}


def fields_of(declared: type) -> Json:
    """An object with the fields of a declaration, all of them always there."""
    hints = get_type_hints(declared, include_extras=True)
    return {
        "type": "object",
        "description": (declared.__doc__ or "").strip(),
        "required": list(hints),
        "properties": {name: form_of(hint) for name, hint in hints.items()},
    }


def form_of(hint: Any) -> Json:
    """A declared field's schema."""
    if get_origin(hint) is not Annotated:
        return _of_type(hint)
    declared, *marks = get_args(hint)
    form = _of_type(declared)
    if MAY_GAIN_WORDS in marks:
        form["x-extensible-enum"] = [word for word in form.pop("enum") if word is not None]
    for mark in marks:
        form |= mark if isinstance(mark, Mapping) else {}
    return form


def _of_type(hint: Any) -> Json:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _or_null(_of_type(next(argument for argument in arguments if argument is not type(None))))
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)} if len(arguments) > 1 else {"type": "string", "const": arguments[0]}
    if origin is list:
        return {"type": "array", "items": _of_type(arguments[0])}
    if origin is tuple:
        return {"type": "array", "items": _of_type(arguments[0]), "minItems": len(arguments), "maxItems": len(arguments)}
    if origin is dict:
        return {"type": "object"}
    return {"type": _PLAIN[hint]}


def _or_null(form: Json) -> Json:
    """A form that null has too. Its other keywords say something of text only, and nothing of null, but for the words."""
    words = form.pop("enum", None) or ([form.pop("const")] if "const" in form else None)
    return {**form, "type": [form["type"], "null"], **({"enum": [*words, None]} if words else {})}
