"""The envelope keeps the rules of CloudEvents 1.0 and of the two extensions that it uses."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_source_contract import an_event
from paynow.events.envelope import envelope, partition_key
from paynow.store.records import StoredEvent

ids = st.text("ABCXYZabcxyz0189_.:-", min_size=1, max_size=64)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))
events = st.builds(
    StoredEvent,
    partition=st.integers(0, 15),
    place=st.integers(1, 2**63 - 1),
    event_id=st.uuids(),
    customer_id=ids,
    sequence=st.integers(1, 2**63 - 1),
    type=st.sampled_from(["paynow.payment.decided", "paynow.payment.captured"]),
    subject=st.uuids().map(str),
    occurred_at=moments,
    data=st.dictionaries(st.text(), st.text() | st.booleans() | st.none() | st.integers()),
)
RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})")


@given(events)
def test_every_attribute_keeps_the_rules_of_the_specification(event: StoredEvent) -> None:
    made = envelope(event)
    attributes = {name: value for name, value in made.items() if name != "data"}
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in made), "names: lower-case letters and digits, at most 20"
    assert all(isinstance(value, str) and value for value in attributes.values()), "required attributes: non-empty strings"
    assert made["specversion"] == "1.0"
    assert urlsplit(made["source"]).path == made["source"], "source: a URI reference"
    assert RFC3339.fullmatch(made["time"]), "time: RFC 3339"
    assert datetime.fromisoformat(made["time"]) == event.occurred_at.replace(microsecond=event.occurred_at.microsecond // 1000 * 1000)
    assert made["datacontenttype"] == "application/json"
    assert json.loads(json.dumps(made)) == made


@given(events, events)
def test_sequences_sort_as_text_as_they_count(one: StoredEvent, other: StoredEvent) -> None:
    assert (envelope(one)["sequence"] < envelope(other)["sequence"]) == (one.sequence < other.sequence)
    assert int(envelope(one)["sequence"]) == one.sequence


@given(events)
def test_the_customer_is_named_by_the_data_only(event: StoredEvent) -> None:
    made = envelope(replace(event, customer_id="customer-4711"))
    assert "customer-4711" not in json.dumps({name: value for name, value in made.items() if name != "data"})


def test_an_event_has_the_same_envelope_each_time() -> None:
    event = an_event()
    assert envelope(event) == envelope(event)


def test_source_and_id_tell_events_apart() -> None:
    one, other = envelope(an_event()), envelope(an_event())
    assert (one["source"], one["id"]) != (other["source"], other["id"])


def test_the_partition_key_is_stable_over_releases() -> None:
    assert partition_key("c_123") == "4ad5f175f12fa7da7c135d03d4760dfc"


@pytest.mark.parametrize("other", ["c_124", "C_123", "c_123 "])
def test_customers_have_partition_keys_of_their_own(other: str) -> None:
    assert partition_key("c_123") != partition_key(other)


def test_a_sink_that_changes_what_it_was_handed_does_not_change_the_event() -> None:
    event = an_event()
    envelope(event)["data"].clear()
    assert envelope(event)["data"]["decision"] == "allow"
