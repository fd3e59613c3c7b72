"""Reading a JSON body strictly: exact numbers, no duplicate names, UTF-8 only, and not a byte of it repeated in an error."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from aiohttp import web

from paynow.errors import FieldFault, InvalidRequest, NotJson

NUMBER_DIGITS_MAX = 400
ENCODINGS = ("identity", "gzip", "deflate")
"""What aiohttp unpacks. It would read any other as if it were plain."""


class NotANumber:
    """Stands for NaN and the infinities, which JSON does not have, and for numbers beyond all bounds: no field accepts it, so the field is named."""


class _DuplicateName(ValueError):
    def __init__(self, name: str) -> None:
        super().__init__("duplicate name")
        self.name = name


async def read_json_object(request: web.Request, known_fields: frozenset[str]) -> dict[str, Any]:
    """The body as a dict. Numbers with a fraction or exponent are `Decimal`.

    Raises `NotJson` (415) for another content type or encoding and `InvalidRequest` (400) for anything that is not one JSON object.
    """
    if request.headers.get("Content-Type") != "application/json" and (
        request.content_type != "application/json" or (request.charset or "utf-8").lower() not in ("utf-8", "utf8")
    ):
        raise NotJson()
    if request.headers.get("Content-Encoding", "identity").lower() not in ENCODINGS:
        raise NotJson("The body must be sent plain, or compressed with gzip or deflate")
    raw = await _read(request)
    try:
        document = _DECODER.decode(raw.decode("utf-8"))
    except _DuplicateName as error:
        name = error.name if error.name in known_fields else "body"
        raise _refused(name, "duplicate", "stands more than once; each field may be given once") from None
    except UnicodeDecodeError:
        raise _refused("body", "encoding", "is not valid UTF-8; send the body in UTF-8") from None
    except RecursionError:
        raise _refused("body", "depth", "is nested too deeply; send one flat JSON object") from None
    except ValueError:
        raise _refused("body", "json", "is not valid JSON; send one JSON object (RFC 8259)") from None
    if not isinstance(document, dict):
        raise _refused("body", "type", "is not a JSON object; send the fields as one object")
    return document


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.RequestPayloadError:
        raise _refused("body", "content_encoding", "is not what Content-Encoding or Transfer-Encoding says; send it plain") from None
    except ConnectionError:
        # Nobody is there to read this answer, but it is the caller's failure and not ours.
        raise _refused("body", "incomplete", "ended before its time; send all of it") from None


def _refused(field: str, code: str, message: str) -> InvalidRequest:
    return InvalidRequest("The body cannot be read", errors=[FieldFault(field, code, message)])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in pairs:
        if name in document:
            raise _DuplicateName(name)
        document[name] = value
    return document


def _integer(digits: str) -> int | NotANumber:
    return int(digits) if len(digits) <= NUMBER_DIGITS_MAX else NotANumber()


def _fraction(digits: str) -> Decimal | NotANumber:
    try:
        return Decimal(digits) if len(digits) <= NUMBER_DIGITS_MAX else NotANumber()
    except InvalidOperation:
        # An exponent beyond what even a Decimal can hold.
        return NotANumber()


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_fraction, parse_int=_integer, parse_constant=lambda _: NotANumber(), strict=True)
