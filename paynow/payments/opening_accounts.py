"""Reading a file of accounts: `customer_id,currency,balance`, the balance in major units, exactly. Knows nothing of who has accounts already."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

from paynow.money import AMOUNT_MINOR_MAX, exponents, to_minor, to_text
from paynow.payments.csv_file import read_csv
from paynow.store.imports import OpeningAccount

COLUMNS = ["customer_id", "currency", "balance"]

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z", re.ASCII)
_BALANCE = re.compile(r"[0-9]{1,16}(\.[0-9]{1,10})?\Z", re.ASCII)


def read_accounts(file: Path, *, progress: Callable[[int], None] = lambda read_bytes: None) -> Iterator[OpeningAccount]:
    """The accounts of the file, one after the other, however many there are; `progress` is told the bytes read, now and then.

    Raises `ImportRefused` at its end with every line that is wrong, and `OSError`.
    """
    return read_csv(file, COLUMNS, _account, progress=progress)


def _account(line: int, row: list[str]) -> OpeningAccount | str:
    customer_id, currency, balance = row
    if not _ID.match(customer_id):
        return "customer_id: expected 1 to 64 of the characters A-Z a-z 0-9 _ . : -"
    if currency not in exponents():
        return "currency: expected an ISO 4217 code in capitals, such as USD"
    if not _BALANCE.match(balance):
        return "balance: expected a decimal in major units, zero or more, such as 125.50"
    try:
        opening_minor = to_minor(Decimal(balance), currency)
    except ValueError:
        return f"balance: expected at most {exponents()[currency]} decimals in {currency}"
    if opening_minor > AMOUNT_MINOR_MAX:
        return f"balance: expected at most {to_text(AMOUNT_MINOR_MAX, currency)} in {currency}"
    return OpeningAccount(line, customer_id, currency, opening_minor)
