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


BY_SOMETHING_ELSE = {
    "outbox": "position",  # in the order of writing, which the relay reads; rows are gone when they are delivered
    "event_log": "partition",  # of the customers; its order is the one in which sinks get them
    "event_retries": "retry_id",  # few, each event by itself
    "dead_letters": "sink",  # few, and asked for by their sink
    "payee_customers": "payee_id",  # a fact about the payee over all customers, counted behind the payments
}
"""Tables with rows of customers whose keys do not begin with the customer."""
FIRST_OF_KEY = """
select c.relname, (select a.attname from pg_attribute a where a.attrelid = i.indrelid and a.attnum = i.indkey[0])
from pg_class c join pg_index i on i.indrelid = c.oid and i.indisprimary
where c.relnamespace = 'public'::regnamespace
    and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'customer_id' and not a.attisdropped)
"""
REFERENCES = """
select r.conrelid::regclass::text, r.confrelid::regclass::text,
    (select attname from pg_attribute where attrelid = r.conrelid and attnum = r.conkey[1]),
    (select attname from pg_attribute where attrelid = r.confrelid and attnum = r.confkey[1])
from pg_constraint r
where r.contype = 'f'
    and exists (select from pg_attribute where attrelid = r.conrelid and attname = 'customer_id')
"""
NOT_UNIQUE_BY_CUSTOMER = """
select i.indexrelid::regclass::text
from pg_index i join pg_class c on c.oid = i.indrelid
where i.indisunique and c.relname = any (%s)
    and not exists (select from pg_attribute a where a.attrelid = i.indexrelid and a.attname = 'customer_id')
order by 1
"""


def test_the_key_of_every_table_of_customers_begins_with_the_customer_so_that_it_can_be_distributed(database: str) -> None:
    keys = dict(execute(database, FIRST_OF_KEY))
    assert {table: first for table, first in keys.items() if first != "customer_id"} == BY_SOMETHING_ELSE
    assert len(keys) > len(BY_SOMETHING_ELSE)


def test_what_rows_of_customers_refer_to_is_the_same_customers(database: str) -> None:
    found = execute(database, REFERENCES)
    assert found
    assert [one for one in found if one[2:] != ("customer_id", "customer_id")] == []


def test_an_id_alone_leads_to_its_customer_by_an_index_and_no_other_uniqueness_goes_across_customers(database: str) -> None:
    distributed = [table for table, first in execute(database, FIRST_OF_KEY) if first == "customer_id"]
    assert execute(database, NOT_UNIQUE_BY_CUSTOMER, distributed) == [("cases_by_id",), ("payments_by_id",)]
