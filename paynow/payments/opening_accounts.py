"""Reading a file of accounts: `customer_id,currency,balance`, the balance in major units, exactly."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from paynow.errors import PayNowError
from paynow.money import AMOUNT_MINOR_MAX, exponents, to_minor
from paynow.store.imports import OpeningAccount

COLUMNS = ["customer_id", "currency", "balance"]
FAULTS_MAX = 1_000

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")
_BALANCE = re.compile(r"[0-9]{1,16}(\.[0-9]{1,10})?\Z", re.ASCII)


class FileRefused(PayNowError):
    """The file cannot be brought in; `faults` holds (line, message) pairs."""

    def __init__(self, faults: list[tuple[int, str]]) -> None:
        super().__init__("the file has faults")
        self.faults = tuple(faults)


def read_accounts(file: Path) -> list[OpeningAccount]:
    """Every account of the file. Raises `FileRefused` with all faults, and `OSError` if it cannot be opened."""
    accounts: list[OpeningAccount] = []
    faults: list[tuple[int, str]] = []
    first_line: dict[tuple[str, str], int] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            for line, read in _rows(csv.reader(stream)):
                if isinstance(read, str):
                    faults.append((line, read))
                elif (earlier := first_line.setdefault((read.customer_id, read.currency), line)) != line:
                    faults.append((line, f"the account stands on line {earlier} already"))
                else:
                    accounts.append(read)
                if len(faults) >= FAULTS_MAX:
                    break
    except (UnicodeDecodeError, csv.Error) as error:
        faults.append((0, f"is not a CSV file in UTF-8: {type(error).__name__}"))
    if faults:
        raise FileRefused(faults)
    return accounts


def _rows(reader: Iterator[list[str]]) -> Iterator[tuple[int, OpeningAccount | str]]:
    header = next(reader, None)
    if header != COLUMNS:
        yield 1, f"the first line must be {','.join(COLUMNS)}"
        return
    for row in reader:
        if row:
            line = reader.line_num  # type: ignore[attr-defined]
            yield line, _account(line, row)


def _account(line: int, row: list[str]) -> OpeningAccount | str:
    if len(row) != len(COLUMNS):
        return f"has {len(row)} fields instead of {len(COLUMNS)}"
    customer_id, currency, balance = row
    if not _ID.match(customer_id):
        return "customer_id must be 1 to 64 of the characters A-Z a-z 0-9 _ . : -"
    if currency not in exponents():
        return "currency must be an ISO 4217 code in capitals"
    if not _BALANCE.match(balance):
        return "balance must be a decimal of digits and at most one point, zero or more"
    try:
        opening = to_minor(Decimal(balance), currency)
    except ValueError:
        return f"balance must have at most {exponents()[currency]} decimals in {currency}"
    if opening > AMOUNT_MINOR_MAX:
        return "balance is too large"
    return OpeningAccount(line, customer_id, currency, opening)
