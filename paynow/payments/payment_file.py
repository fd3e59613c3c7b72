"""Reading a file of payments: `customer_id,payee_id,amount,currency` and perhaps `idempotency_key`, the amount in major units, exactly."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from paynow.errors import PayNowError
from paynow.money import AMOUNT_MINOR_MAX, exponents, to_minor
from paynow.payments.fingerprint import fingerprint

COLUMNS = ["customer_id", "payee_id", "amount", "currency"]
KEY_COLUMN = "idempotency_key"
FAULTS_MAX = 1_000

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")
_KEY = re.compile(r"[ -~]{1,255}\Z")
_AMOUNT = re.compile(r"[0-9]{1,16}(\.[0-9]{1,10})?\Z", re.ASCII)


class PaymentFileRefused(PayNowError):
    """Nothing of the file is sent; `faults` holds (line, message) pairs."""

    def __init__(self, faults: list[tuple[int, str]]) -> None:
        super().__init__("the file has faults")
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class PaymentLine:
    """A payment of the file. `amount` is its text, in major units."""

    line: int
    customer_id: str
    payee_id: str
    amount: str
    currency: str
    key: str


def read_payments(file: Path) -> list[PaymentLine]:
    """Every payment of the file. Raises `PaymentFileRefused` with all faults, and `OSError` if it cannot be opened.

    A line without a key gets one made of its content and how often that stood above it: the same file again is the same payments again,
    also with lines added, removed or moved.
    """
    payments: list[PaymentLine] = []
    faults: list[tuple[int, str]] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            for line, payment in _rows(csv.reader(stream)):
                if isinstance(payment, PaymentLine):
                    payments.append(payment)
                    continue
                faults.append((line, payment))
                if len(faults) >= FAULTS_MAX:
                    break
    except (UnicodeDecodeError, csv.Error) as error:
        faults.append((0, f"is not a CSV file in UTF-8: {type(error).__name__}"))
    if faults:
        raise PaymentFileRefused(faults)
    return payments


def _rows(reader: Iterator[list[str]]) -> Iterator[tuple[int, PaymentLine | str]]:
    header = next(reader, None)
    if header not in (COLUMNS, [*COLUMNS, KEY_COLUMN]):
        yield 1, f"the first line must be {','.join(COLUMNS)} or {','.join([*COLUMNS, KEY_COLUMN])}"
        return
    seen: Counter[bytes] = Counter()
    for row in reader:
        if row:
            line = reader.line_num  # type: ignore[attr-defined]
            try:
                yield line, _payment(line, row, len(header), seen)
            except ValueError as fault:
                yield line, str(fault)


def _payment(line: int, row: list[str], width: int, seen: Counter[bytes]) -> PaymentLine:
    if len(row) != width:
        raise ValueError(f"has {len(row)} fields instead of {width}")
    customer_id, payee_id, amount, currency, key = [*row, ""][: len(COLUMNS) + 1]
    for name, value in (("customer_id", customer_id), ("payee_id", payee_id)):
        if not _ID.match(value):
            raise ValueError(f"{name} must be 1 to 64 of the characters A-Z a-z 0-9 _ . : -")
    minor = _minor(amount, currency)
    if key and not _KEY.match(key):
        raise ValueError("idempotency_key must be 1 to 255 printable ASCII characters")
    return PaymentLine(line, customer_id, payee_id, amount, currency, key or _made_key(fingerprint(customer_id, payee_id, minor, currency), seen))


def _minor(amount: str, currency: str) -> int:
    if currency not in exponents():
        raise ValueError("currency must be an ISO 4217 code in capitals")
    if not _AMOUNT.match(amount):
        raise ValueError("amount must be a decimal of digits and at most one point")
    try:
        minor = to_minor(Decimal(amount), currency)
    except ValueError:
        raise ValueError(f"amount must have at most {exponents()[currency]} decimals in {currency}") from None
    if not 0 < minor <= AMOUNT_MINOR_MAX:
        raise ValueError("amount must be more than zero and not too large")
    return minor


def _made_key(content: bytes, seen: Counter[bytes]) -> str:
    seen[content] += 1
    return f"file-{content.hex()[:32]}-{seen[content]}"
