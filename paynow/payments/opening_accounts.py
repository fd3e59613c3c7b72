"""Reading a file of accounts: `customer_id,currency,balance`, the balance in major units, exactly. Knows nothing of who has accounts already."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

from paynow.money import AMOUNT_MINOR_MAX, exponents, to_minor, to_text
from paynow.store.imports import FAULTS_KEPT_MAX, ImportRefused, OpeningAccount

COLUMNS = ["customer_id", "currency", "balance"]
PROGRESS_EVERY_LINES = 1_000

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z", re.ASCII)
_BALANCE = re.compile(r"[0-9]{1,16}(\.[0-9]{1,10})?\Z", re.ASCII)


def read_accounts(file: Path, *, progress: Callable[[int], None] = lambda read_bytes: None) -> Iterator[OpeningAccount]:
    """The accounts of the file, one after the other, however many there are; `progress` is told the bytes read, now and then.

    Raises `ImportRefused` at its end with every line that is wrong, and `OSError`.
    """
    faults: list[tuple[int, str]] = []
    faults_in_all = 0
    # What is no UTF-8 becomes a character that no field may have, so that the fault has its line.
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        for number, (line, row) in enumerate(_rows(csv.reader(stream))):
            read = _account(line, row) if isinstance(row, list) else row
            if isinstance(read, OpeningAccount):
                yield read
            else:
                faults_in_all += 1
                if len(faults) < FAULTS_KEPT_MAX:
                    faults.append((line, read))
            if number % PROGRESS_EVERY_LINES == 0:
                progress(stream.buffer.tell())
        progress(stream.buffer.tell())
    if faults:
        raise ImportRefused("the file has faults", faults, faults_in_all)


def _rows(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str] | str]]:
    """Each row with the line that it begins on, after the header; a message instead of the row where reading cannot go on."""
    line = 1
    try:
        if next(reader, None) != COLUMNS:
            yield line, f"expected the first line to be {','.join(COLUMNS)}"
            return
        line = 2
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1  # type: ignore[attr-defined]
    except csv.Error as error:
        yield line, f"is not CSV: {error}"


def _account(line: int, row: list[str]) -> OpeningAccount | str:
    if len(row) != len(COLUMNS):
        return f"has {len(row)} fields, expected {len(COLUMNS)}: {','.join(COLUMNS)}"
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
