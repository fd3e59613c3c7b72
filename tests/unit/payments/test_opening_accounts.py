"""A file of accounts is read exactly, as far as it goes, and every line that is wrong is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paynow.payments.opening_accounts import read_accounts
from paynow.store.imports import FAULTS_KEPT_MAX, ImportRefused, OpeningAccount

HEADER = b"customer_id,currency,balance\n"


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], list[OpeningAccount]]:
    def run(text: bytes) -> list[OpeningAccount]:
        file = tmp_path / "accounts.csv"
        file.write_bytes(text)
        return list(read_accounts(file))

    return run


@pytest.fixture
def refused(read: Callable[[bytes], list[OpeningAccount]]) -> Callable[[bytes], list[tuple[int, str]]]:
    def run(text: bytes) -> list[tuple[int, str]]:
        with pytest.raises(ImportRefused) as error:
            read(text)
        return list(error.value.faults)

    return run


@pytest.mark.parametrize(
    ("written", "minor"),
    [
        (b"USD,125.50", 12_550),
        (b"USD,125.5", 12_550),
        (b"USD,125.500", 12_550),
        (b"USD,0", 0),
        (b"JPY,500", 500),
        (b"JPY,500.0", 500),
        (b"BHD,0.001", 1),
    ],
)
def test_a_balance_is_read_in_major_units_exactly(read, written: bytes, minor: int) -> None:
    assert [account.opening_minor for account in read(HEADER + b"c_1," + written)] == [minor]


def test_lines_are_counted_as_an_editor_does(read) -> None:
    text = "\ufeff".encode() + HEADER.replace(b"\n", b"\r\n") + b'c_1,USD,1\r\n\r\n\r\n"c_2","USD","1"\r\nc_3,USD,1'
    assert [(account.line, account.customer_id) for account in read(text)] == [(2, "c_1"), (5, "c_2"), (6, "c_3")]


def test_a_row_over_two_lines_is_named_by_its_first_and_moves_the_others_on(refused) -> None:
    assert [line for line, _ in refused(HEADER + b'"c\n1",USD,1\nc_2,USD,x\n')] == [2, 4]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"c_1,USD,1.005", "at most 2 decimals in USD"),
        (b"c_1,JPY,0.5", "at most 0 decimals in JPY"),
        (b"c_1,USD,-1", "zero or more"),
        (b"c_1,USD,+1", "zero or more"),
        (b"c_1,USD,1e2", "zero or more"),
        (b"c_1,USD,NaN", "zero or more"),
        (b"c_1,USD,", "zero or more"),
        (b"c_1,USD, 1", "zero or more"),
        (b'c_1,USD,"1,000"', "zero or more"),
        ("c_1,USD,\u0661".encode(), "zero or more"),
        (b"c_1,USD,10000000000000.01", "at most 10000000000000.00 in USD"),
        (b"c_1,usd,1", "ISO 4217"),
        (b"c_1,XAU,1", "ISO 4217"),
        (b"c_1,,1", "ISO 4217"),
        (b"c 1,USD,1", "customer_id: expected"),
        (b",USD,1", "customer_id: expected"),
        ("c_\u0661,USD,1".encode(), "customer_id: expected"),
        (b"c_\xff,USD,1", "customer_id: expected"),
        (b'"c_1\n",USD,1', "customer_id: expected"),
        (b"c" * 65 + b",USD,1", "customer_id: expected"),
        (b"c_1,USD", "has 2 fields"),
        (b"c_1,USD,1,", "has 4 fields"),
        (b"c_\x00,USD,1", "customer_id: expected"),
        (b"c_1,USD," + b"1" * 200_000, "is not CSV"),
    ],
)
def test_a_wrong_line_is_named_with_what_was_expected(refused, line: bytes, says: str) -> None:
    ((number, message),) = refused(HEADER + b"c_0,USD,1\n" + line + b"\n")
    assert number == 3
    assert says in message


def test_the_largest_balance_is_taken(read) -> None:
    assert read(HEADER + b"c_1,USD,10000000000000")[0].opening_minor == 10**15


@pytest.mark.parametrize("text", [b"", b"\n" + HEADER, b"c_1,USD,1\n", b"customer_id;currency;balance\n", b"\xff\xfec\x00u\x00"])
def test_a_file_without_its_header_is_refused(refused, text: bytes) -> None:
    ((number, message),) = refused(text)
    assert number == 1
    assert "customer_id,currency,balance" in message or "not CSV" in message


def test_a_file_of_its_header_alone_has_no_accounts(read) -> None:
    assert read(HEADER) == []


def test_all_faults_are_counted_and_the_first_kept(read) -> None:
    with pytest.raises(ImportRefused) as error:
        read(HEADER + b"c_1,USD,x\n" * 100)
    assert [line for line, _ in error.value.faults] == list(range(2, 2 + FAULTS_KEPT_MAX))
    assert error.value.faults_in_all == 100


def test_a_long_file_is_not_held_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "accounts.csv"
    file.write_bytes(HEADER + b"c_1,USD,1\n" * 50_000)
    told: list[int] = []
    accounts = read_accounts(file, progress=told.append)
    assert [next(accounts).line, next(accounts).line] == [2, 3]
    assert told[-1] < file.stat().st_size / 10
    assert sum(1 for _ in accounts) == 49_998
    assert told[-1] == file.stat().st_size
    assert told == sorted(told)
