"""Files of payments: exact amounts, stable keys, and every fault with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from paynow.payments.payment_file import PaymentFileRefused, read_payments

HEADER = "customer_id,payee_id,amount,currency"


def file(tmp_path: Path, text: str) -> Path:
    written = tmp_path / "payments.csv"
    written.write_text(text, encoding="utf-8")
    return written


def test_a_payment_keeps_its_amount_as_written_and_its_key(tmp_path: Path) -> None:
    (payment,) = read_payments(file(tmp_path, f"{HEADER},idempotency_key\nc_1,p_1,12.50,USD,order 1\n"))
    assert (payment.line, payment.customer_id, payment.payee_id, payment.amount, payment.currency, payment.key) == (
        2, "c_1", "p_1", "12.50", "USD", "order 1",
    )  # fmt: skip


def test_keys_that_are_made_tell_content_and_how_often_it_stood_above(tmp_path: Path) -> None:
    text = f"{HEADER}\nc_1,p_1,1.00,USD\nc_1,p_1,1.00,USD\n\nc_1,p_1,2,JPY\n"
    keys = [payment.key for payment in read_payments(file(tmp_path, text))]
    assert keys == [payment.key for payment in read_payments(file(tmp_path, text))]
    assert len(set(keys)) == 3
    same = read_payments(file(tmp_path, text.replace("1.00", "1.0")))
    assert [payment.key for payment in same] == keys


def test_a_line_that_is_added_changes_no_key_of_the_others(tmp_path: Path) -> None:
    text = f"{HEADER}\nc_1,p_1,1.00,USD\nc_1,p_1,2,JPY\n"
    keys = {payment.key for payment in read_payments(file(tmp_path, text))}
    more = [payment.key for payment in read_payments(file(tmp_path, text.replace("c_1", "c_0,p_1,5,JPY\nc_1", 1) + "c_1,p_1,2,JPY\n"))]
    assert len(set(more)) == 4
    assert keys < set(more)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("c_1,p_1,1.00", "has 3 fields instead of 4"),
        ("c 1,p_1,1.00,USD", "customer_id must be"),
        ("c_1,,1.00,USD", "payee_id must be"),
        ("c_1,p_1,1.00,XYZ", "currency must be"),
        ("c_1,p_1,1.001,USD", "amount must have at most 2 decimals in USD"),
        ("c_1,p_1,0,USD", "amount must be more than zero"),
        ("c_1,p_1,-1,USD", "amount must be a decimal"),
        ("c_1,p_1,1e3,USD", "amount must be a decimal"),
        ("c_1,p_1,99999999999999.99,USD", "amount must be more than zero and not too large"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(PaymentFileRefused) as refused:
        read_payments(file(tmp_path, f"{HEADER}\nc_1,p_1,1.00,USD\n{row}\n"))
    ((line, said),) = refused.value.faults
    assert line == 3
    assert said.startswith(message)


@pytest.mark.parametrize("text", ["", "customer,payee\n", "c_1,p_1,1.00,USD\n"])
def test_a_file_without_its_header_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(PaymentFileRefused) as refused:
        read_payments(file(tmp_path, text))
    assert refused.value.faults[0][0] == 1


def test_a_key_outside_of_ascii_is_refused_and_so_is_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(PaymentFileRefused):
        read_payments(file(tmp_path, f"{HEADER},idempotency_key\nc_1,p_1,1,USD,é\n"))
    (tmp_path / "latin").write_bytes(f"{HEADER}\nc_\xe9".encode("latin-1"))
    with pytest.raises(PaymentFileRefused):
        read_payments(tmp_path / "latin")
