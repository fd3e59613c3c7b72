"""What consumers are promised, held against the events of a running service: their schema, and the example that works each off once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from commands import paynow
from consumers import PipeConsumer, example, expected, held
from event_forms import faults, open_form, strict
from paynow.events import schemas
from paynow.events.forms import EVENT_TYPES
from reviews import in_a_loop_of_its_own
from told import CUSTOMERS, EACH, told

ROOT = Path(__file__).parents[2]
Event = dict[str, Any]


@pytest.fixture(scope="module")
def run(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Event], dict[str, Any]]:
    return in_a_loop_of_its_own(told(module_database, tmp_path_factory.mktemp("told")))


@pytest.fixture
def events(run: tuple[list[Event], dict[str, Any]]) -> list[Event]:
    return run[0]


def test_every_event_has_the_form_that_the_service_says_and_nothing_beside(run: tuple[list[Event], dict[str, Any]]) -> None:
    events, served = run
    assert served == schemas.document()
    assert {event["id"]: faults(strict(served), event) + faults(open_form(served), event) for event in events} == {
        event["id"]: [] for event in events
    }
    assert {event["type"] for event in events} == {one.type for one in EVENT_TYPES if not one.type.startswith("paynow.policy.")}
    seen = Counter((event["data"].get("decision"), event["data"].get("resolution")) for event in events)
    assert set(seen) == {("allow", None), ("review", None), ("block", None), (None, "approved"), (None, "declined"), (None, None)}


def test_the_page_with_the_forms_of_events_is_the_one_that_the_code_tells(tmp_path: Path) -> None:
    ended = paynow(tmp_path, "host=/nowhere", "events", "schema", "--markdown", LOG_HASH_KEY="")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (ROOT / "docs" / "events-schema.md").read_text(encoding="utf-8"), "make docs writes it"


def delivered(events: list[Event], chance: random.Random) -> Iterator[list[Event]]:
    """The events as a source without order may hand them over: shuffled, a third of them again at some other time, in batches."""
    deliveries = events + chance.sample(events, len(events) // 3)
    chance.shuffle(deliveries)
    while deliveries:
        size = chance.randint(1, 5)
        yield deliveries[:size]
        deliveries = deliveries[size:]


@pytest.mark.parametrize("seed", range(2))
def test_a_consumer_that_is_killed_anywhere_works_off_every_event_once(events: list[Event], seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    database = tmp_path / "payments.db"
    consumer = PipeConsumer(database)
    killed = 0
    try:
        for batch in delivered(events, chance):
            remembered = False
            while not remembered:
                consumer.send(batch)
                dies = chance.choice([None, None, None, "at once", "before the source knows", "when the source knows"]) if killed < 6 else None
                if dies != "at once":
                    consumer.asks()
                if dies is None:
                    consumer.go_on()
                else:
                    consumer.kill()
                    killed += 1
                    consumer = PipeConsumer(database)
                remembered = dies in (None, "when the source knows")
    finally:
        consumer.kill()
    assert killed == 6
    assert held(database) == expected(events)


def test_the_amounts_that_were_captured_are_those_of_the_run(events: list[Event]) -> None:
    seen, states, captured = expected(events)
    assert (seen, captured) == (EACH * len(CUSTOMERS), {"USD": len(CUSTOMERS) * Decimal("24.25")})
    assert Counter(states.values()) == dict.fromkeys(("released", "expired", "declined", "block"), len(CUSTOMERS)) | {"captured": 2 * len(CUSTOMERS)}


def test_a_batch_that_fails_leaves_nothing_behind(events: list[Event], tmp_path: Path) -> None:
    database = tmp_path / "payments.db"
    with closing(example.Inbox(str(database))) as inbox:
        inbox.work_off(events[:3])
        with pytest.raises(KeyError):
            inbox.work_off([*events[3:10], {"source": "/paynow", "id": "no event"}])
        assert held(database) == expected(events[:3])
        assert inbox.work_off(events) == len(events) - 3


def test_a_consumer_knows_which_events_are_missing_until_they_come(events: list[Event], tmp_path: Path) -> None:
    first, second, _ = (events_of(events, customer) for customer in CUSTOMERS)
    with closing(example.Inbox(str(tmp_path / "payments.db"))) as inbox:
        inbox.work_off([*first[5:], first[2], *second])
        assert inbox.missing() == [(first[0]["partitionkey"], 2)]
        inbox.work_off([first[4], first[4], first[3]])
        assert inbox.missing() == []


def test_a_type_that_nobody_knows_yet_is_passed_over(events: list[Event], tmp_path: Path) -> None:
    database = tmp_path / "payments.db"
    with closing(example.Inbox(str(database))) as inbox:
        assert inbox.work_off([{**events[0], "type": "paynow.payment.reversed", "data": {}}]) == 1
    assert held(database) == (1, {}, {})


def events_of(events: list[Event], customer: str) -> list[Event]:
    return [event for event in events if event["data"]["customerId"] == customer]
