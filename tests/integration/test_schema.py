"""What the schema itself takes for legal, whoever writes."""

from __future__ import annotations

import psycopg2.errors
import pytest

from database import execute

PARTIES = ["a", "c_123", "A-b.c:d_9", "x" * 64]
NO_PARTIES = ["", "x" * 65, "a b", "a\n", "\na", "é", "a/b", "a\t", "^", "ａ"]
KEYS = ["k", " ~", "x" * 255, '6f1c "quoted"']
NO_KEYS = ["", "x" * 256, "a\n", "\x7f", "é", "a\tb"]


@pytest.mark.parametrize("value", PARTIES)
def test_an_id_of_the_documented_form_is_taken(database: str, value: str) -> None:
    assert execute(database, "select %s::text::party_id", value) == [(value,)]


@pytest.mark.parametrize("value", NO_PARTIES)
def test_an_id_of_any_other_form_is_refused(database: str, value: str) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation):
        execute(database, "select %s::text::party_id", value)


@pytest.mark.parametrize("value", ["", "US", "USDX", "usd", "US1", "US\n", "\nUS"])
def test_a_currency_is_three_capitals(database: str, value: str) -> None:
    assert execute(database, "select 'USD'::text::currency_code") == [("USD",)]
    with pytest.raises(psycopg2.errors.CheckViolation):
        execute(database, "select %s::text::currency_code", value)


INSERT_KEY = """insert into idempotency_keys (customer_id, key, fingerprint, payment_id, state, claim_token)
    values ('c_1', %s, sha256('f'), gen_random_uuid(), 'decided', gen_random_uuid())"""


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_printable_ascii_is_taken(database: str, key: str) -> None:
    execute(database, INSERT_KEY, key)


@pytest.mark.parametrize("key", NO_KEYS)
def test_any_other_key_is_refused(database: str, key: str) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation):
        execute(database, INSERT_KEY, key)
