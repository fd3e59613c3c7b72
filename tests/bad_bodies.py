"""Bodies that `POST /api/payments/decide` must refuse: one table, used against the reading code alone and against the whole service.

Whatever could be told back to the caller carries `CANARY`, so that a test can show that no problem and no log repeats what was sent.
Each is sent with its own headers and no others that a client would add (`skip_auto_headers=["Content-Type"]`).
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import Any

CANARY = "canary7f3a"
CANARY_DIGITS = "4111111111111111"
JSON_TYPE = ("Content-Type", "application/json")
REQUEST_MAX_BYTES = 65_536
"""The shipped limit, which the largest body of the table is beyond."""


@dataclass(frozen=True, slots=True)
class BadBody:
    """What is sent, and what must come back: the status, and the field that the problem names (None: the status says it all)."""

    name: str
    raw: bytes
    field: str | None
    status: int = 400
    headers: tuple[tuple[str, str], ...] = (JSON_TYPE,)


VALID: dict[str, Any] = {
    "customerId": f"c_{CANARY}",
    "payeeId": f"p_{CANARY}",
    "amount": "125.50",
    "currency": "USD",
    "idempotencyKey": f"k-{CANARY}",
}
"""A body that is accepted."""

ABSENT: Any = object()


def body(**changes: Any) -> bytes:
    """The valid body with some fields changed, added or (`ABSENT`) left out."""
    return json.dumps({name: value for name, value in {**VALID, **changes}.items() if value is not ABSENT}).encode()


def written(field: str, text: str) -> bytes:
    """The valid body with a value written as it stands, which `json.dumps` would not write so."""
    return body(**{field: "@@"}).replace(b'"@@"', text.encode("utf-8", "surrogatepass"))


def header(name: str, value: str) -> tuple[tuple[str, str], ...]:
    return (JSON_TYPE, (name, value))


def typed(content_type: str) -> tuple[tuple[str, str], ...]:
    return (("Content-Type", content_type),)


_WRONG_TYPES = {
    "null": "null",
    "true": "true",
    "an empty list": "[]",
    "an empty object": "{}",
    "a list": f'["{CANARY}"]',
    "an object": f'{{"{CANARY}": "{CANARY}"}}',
    "NaN": "NaN",
    "a lone high surrogate": f'"\\ud800{CANARY}"',
    "a lone low surrogate": f'"\\udfff{CANARY}"',
}
"""What no field may be."""

_NUMBERS = {
    "Infinity": "Infinity",
    "minus Infinity": "-Infinity",
    "1e400": "1e400",
    "1e-400": "1e-400",
    "an exponent beyond any decimal": "1e9999999999999999999",
    "a negative exponent beyond any decimal": "1e-9999999999999999999",
    "zero with an exponent beyond any decimal": "0e9999999999999999999",
    "an exponent that a decimal can just hold": "1e999999999",
    "zero": "0",
    "minus zero": "-0",
    "minus zero with decimals": "-0.00",
    "zero with a decimal": "0.0",
    "zero as text": '"0.00"',
    "negative": "-125.50",
    "negative as text": '"-125.50"',
    "a hundred thousandth of a cent": "0.0000001",
    "a hundred thousandth of a cent as an exponent": "1e-7",
    "a tenth of a cent": "0.001",
    "three decimals in USD": "0.125",
    "three decimals in USD that a binary float would round off": "1.005",
    "decimals that no binary float can tell": "125.500000000000000000001",
    "three decimals in USD as text": '"0.125"',
    "more than any payment may be": "10000000000000.01",
    "more than any payment may be, whole and as text": '"9999999999999999"',
    "a huge whole number": "1" + "0" * 30,
    "four hundred digits": "9" * 400,
    "thousands of digits": "9" * 5000,
    "thousands of digits behind the point": "0." + "1" * 5000,
    "thousands of digits as text": f'"{"9" * 5000}"',
    "an exponent as text": '"1e2"',
    "NaN as text": '"NaN"',
    "Infinity as text": '"Infinity"',
    "a comma": '"125,50"',
    "two points": '"1.2.3"',
    "nothing behind the point": '"125."',
    "nothing before the point": '".5"',
    "a plus sign": '"+125.50"',
    "spaces": '" 125.50 "',
    "a space before it": '" 125.50"',
    "a space behind it": '"125.50 "',
    "an underscore": '"1_000"',
    "hexadecimal": '"0x10"',
    "digits of another script": '"١٢٥"',
    "full-width digits": '"１２５"',
    "one full-width digit": '"１25.50"',
    "a line feed at its end": '"125.50\\n"',
    "a currency sign": '"$125.50"',
    "an empty text": '""',
    "a word": f'"{CANARY}"',
    "a list of one": '["125.50"]',
    "an object with one": '{"value": "125.50"}',
    "a card number": f'"{CANARY_DIGITS}x"',
}

_CURRENCIES = {
    "in small letters": "usd",
    "unknown": "ZZZ",
    "withdrawn": "DEM",
    "a metal": "XAU",
    "of tests": "XTS",
    "empty": "",
    "with a space": "USD ",
    "too short": "US",
    "four characters": "XXX1",
    "of look-alike letters": "UЅD",
    "too long": CANARY,
    "a number": 840,
    "a list of one": ["USD"],
}

_IDS = {
    "empty": "",
    "65 characters": "c" * 65,
    "a space": f"c {CANARY}",
    "a space at its end": f"c_{CANARY} ",
    "a slash": f"c/{CANARY}",
    "a NUL": f"c\0{CANARY}",
    "a line feed at its end": f"c_{CANARY}\n",
    "a letter outside ASCII": f"ç_{CANARY}",
    "an e-mail address": f"{CANARY}@example.com",
    "SQL": f"'; drop table payments; -- {CANARY}",
    "markup": f"<script>{CANARY}</script>",
    "a number": 4111111111111111,
    "a list of one": [f"c_{CANARY}"],
}

_KEYS = {
    "empty": "",
    "256 characters": "k" * 256,
    "a letter outside ASCII": f"schlüssel-{CANARY}",
    "a tab": f"k\t{CANARY}",
    "a line feed at its end": f"k-{CANARY}\n",
    "a bell": f"k-{CANARY}\a",
    "a NUL": f"k\0{CANARY}",
    "a number": 4111111111111111,
    "a list of one": [f"k-{CANARY}"],
}

_SYNTAX = {
    "nothing": b"",
    "white space": b" \n\t ",
    "not JSON": f"customerId={CANARY}&amount=1".encode(),
    "cut off": body()[:-1],
    "trailing garbage": body() + f" {CANARY}".encode(),
    "two documents": body() + body(),
    "a trailing comma": body()[:-1] + b",}",
    "single quotes": str(VALID).encode(),
    "a comment": body() + f"// {CANARY}".encode(),
    "names without quotes": f"{{customerId: '{CANARY}'}}".encode(),
    "a raw NUL in a text": written("payeeId", f'"p\0{CANARY}"'),
    "a raw NUL in the first text": written("customerId", f'"c\0{CANARY}"'),
    "a raw line feed in a text": written("payeeId", f'"p\n{CANARY}"'),
    "NULs behind it": body() + b"\0\0",
    "a broken escape": written("payeeId", f'"\\x41{CANARY}"'),
    "leading zeros": written("amount", "0125.50"),
    "a bare point": written("amount", ".5"),
    "a list": b"[" + body() + b"]",
    "an empty list": b"[]",
    "a text": f'"{CANARY}"'.encode(),
    "a number": CANARY_DIGITS.encode(),
    "null": b"null",
    "NaN": b"NaN",
    "a byte order mark": b"\xef\xbb\xbf" + body(),
    "UTF-16 with a byte order mark": body().decode().encode("utf-16"),
    "UTF-16 without one": body().decode().encode("utf-16-le"),
    "UTF-32": body().decode().encode("utf-32"),
    "Latin-1": body(payeeId="@@").replace(b"@@", b"p\xe9" + CANARY.encode()),
    "bytes that start no character": b"\xff\xfe" + CANARY.encode(),
    "a character that breaks off": body(customerId="@@").replace(b"@@", b"\xc3\x28" + CANARY.encode()),
    "an overlong encoding": body(payeeId="@@").replace(b"@@", b"\xc0\xaf" + CANARY.encode()),
    "a raw surrogate": written("payeeId", f'"\ud800{CANARY}"'),
    "deep lists": written("amount", "[" * 30_000 + "]" * 30_000),
    "lists that never end": b"[" * 20_000,
    "deep objects": b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
    "objects that never end": b'{"amount":' * 6_000,
    "compressed without saying so": gzip.compress(body()),
}

_DUPLICATES = [
    BadBody("the amount twice", body()[:-1] + b', "amount": "999.99"}', "amount"),
    BadBody("the amount twice, the wrong one first", b'{"amount": "999.99", ' + body()[1:], "amount"),
    BadBody("the amount twice, the same", body()[:-1] + b', "amount": "125.50"}', "amount"),
    BadBody("the customer twice, once escaped", body()[:-1] + f', "customer\\u0049d": "{CANARY}"}}'.encode(), "customerId"),
    BadBody("an unknown field twice", body()[:-1] + f', "{CANARY}": 1, "{CANARY}": 2}}'.encode(), "body"),
    BadBody("a name twice, deep within", written("amount", f'{{"{CANARY}": 1, "{CANARY}": 2}}'), "body"),
    BadBody("one of thousands of names twice", b"{" + b",".join(b'"%d":1' % n for n in [*range(6000), 5999]) + b"}", "body"),
]

_UNKNOWN = [
    BadBody("a field that is not known", body(note=CANARY), "note"),
    BadBody("a field in other letters", body(customerid=f"c_{CANARY}"), "customerid"),
    BadBody("a field with a name that is not repeated", body(**{f"{CANARY}": 1}), "body"),
    BadBody("a field with a card number for a name", body(**{CANARY_DIGITS: CANARY}), "body"),
    BadBody("a field without a name", body(**{"": CANARY}), "body"),
    BadBody("a field with a lone surrogate for a name", body()[:-1] + f', "\\ud800": "{CANARY}"}}'.encode(), "body"),
    BadBody("a field of the schema's own", body(_schema=CANARY), "_schema"),
    BadBody("a field by its inner name", body(customer_id=f"c_{CANARY}"), "customer_id"),
    BadBody("thousands of fields", b"{" + b",".join(b'"%d":1' % n for n in range(6000)) + b"}", "body"),
    BadBody("a prototype", body(__proto__={"amount": CANARY}), "__proto__"),
]

_KEY_HEADERS = [
    BadBody("another key in the header", body(), "idempotencyKey", headers=header("Idempotency-Key", f"other-{CANARY}")),
    BadBody("an empty key in the header", body(idempotencyKey=ABSENT), "idempotencyKey", headers=header("Idempotency-Key", "")),
    BadBody("a header key too long", body(idempotencyKey=ABSENT), "idempotencyKey", headers=header("Idempotency-Key", "k" * 256)),
    BadBody("a header key outside ASCII", body(idempotencyKey=ABSENT), "idempotencyKey", headers=header("Idempotency-Key", f"é{CANARY}")),
    BadBody(
        "two header keys",
        body(idempotencyKey=ABSENT),
        "Idempotency-Key",
        headers=(JSON_TYPE, ("Idempotency-Key", f"a-{CANARY}"), ("Idempotency-Key", f"b-{CANARY}")),
    ),
    BadBody("a number for a key beside a header", body(idempotencyKey=5), "idempotencyKey", headers=header("Idempotency-Key", "5")),
]

_MEDIA_TYPES = {
    "no content type": (),
    "plain text": typed("text/plain"),
    "a form": typed("application/x-www-form-urlencoded"),
    "something like JSON": typed("application/jsonp"),
    "a JSON patch": typed("application/json-patch+json"),
    "UTF-16 announced": typed("application/json; charset=utf-16"),
    "Latin-1 announced": typed("application/json; charset=iso-8859-1"),
    "an unknown charset": typed(f"application/json; charset={CANARY}"),
    "nonsense": typed(f";;;{CANARY}"),
}

FIELDS: dict[str, list[tuple[str, bytes]]] = {
    "amount": [
        *((name, written("amount", text)) for name, text in _NUMBERS.items()),
        ("decimals in JPY", body(amount="125.50", currency="JPY")),
        ("one decimal in JPY", body(amount="1.5", currency="JPY")),
        ("four decimals in BHD", body(amount="1.2345", currency="BHD")),
    ],
    "currency": [(name, body(currency=value)) for name, value in _CURRENCIES.items()],
    "customerId": [(name, body(customerId=value)) for name, value in _IDS.items()],
    "payeeId": [(name, body(payeeId=value)) for name, value in _IDS.items()],
    "idempotencyKey": [(name, body(idempotencyKey=value)) for name, value in _KEYS.items()],
}

BAD_BODIES: list[BadBody] = [
    *(BadBody(f"{field}: {name}", raw, field) for field, bad in FIELDS.items() for name, raw in bad),
    *(BadBody(f"{field}: {name}", written(field, text), field) for field in FIELDS for name, text in _WRONG_TYPES.items()),
    *(BadBody(f"{field}: missing", body(**{field: ABSENT}), field) for field in FIELDS),
    *(BadBody(f"body: {name}", raw, "body") for name, raw in _SYNTAX.items()),
    *_DUPLICATES,
    *_UNKNOWN,
    *_KEY_HEADERS,
    BadBody("an empty object", b"{}", "customerId"),
    BadBody("gzip announced and not sent", body(), "body", headers=header("Content-Encoding", "gzip")),
    BadBody("gzip cut off", gzip.compress(body())[:-20], "body", headers=header("Content-Encoding", "gzip")),
    *(BadBody(f"content type: {name}", body(), None, 415, headers) for name, headers in _MEDIA_TYPES.items()),
    BadBody("too large", body(note="x" * REQUEST_MAX_BYTES), None, 413),
    BadBody("too large, and nothing but white space", b" " * 70_000, None, 413),
    BadBody("too large once unpacked", gzip.compress(b" " * 50_000_000), None, 413, header("Content-Encoding", "gzip")),
]
