"""The built-in event sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from loguru import logger

from paynow.observability.redaction import Redactor
from paynow.plugin_loader import load_plugins
from paynow.settings import Settings

PAYMENT = "01920000-0000-7000-8000-0000000000c1"


def event(number: int, **changes: Any) -> dict[str, Any]:
    data = {"customerId": "c_123", "payeeId": "p_secret", "amount": "125.50", "decision": "allow"}
    return {"id": str(uuid4()), "type": "paynow.payment.decided", "subject": PAYMENT, "sequence": f"{number:019d}", "data": data} | changes


@pytest.fixture
def memory(settings_of: Callable[..., Settings]) -> Any:
    """Holds the last three, as the fixture's settings say, on a clock that stands at zero."""
    sink: Any = load_plugins(settings_of()).sinks["memory"]
    sink._now_ns = lambda: 0
    return sink


@pytest.fixture
def log(settings_of: Callable[..., Settings]) -> Any:
    return load_plugins(settings_of(sinks=("log",))).sinks["log"]


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    taken: list[Any] = []
    handler = logger.add(lambda message: taken.append(message.record), level="TRACE")
    yield taken
    logger.remove(handler)


async def test_recent_events_come_newest_first_with_their_place(memory: Any) -> None:
    first, second = event(1), event(2)
    await memory.deliver([first])
    await memory.deliver([second])
    assert memory.recent(10) == [(2, second), (1, first)]


async def test_places_are_times_so_that_those_of_several_processes_compare(memory: Any) -> None:
    memory._now_ns = lambda: 1_000
    await memory.deliver([event(1), event(2)])
    memory._now_ns = lambda: 900  # a clock that was set back
    await memory.deliver([event(3)])
    assert [place for place, _ in memory.recent(10)] == [1_002, 1_001, 1_000]


async def test_only_the_last_events_are_held(memory: Any) -> None:
    events = [event(number) for number in range(5)]
    await memory.deliver(events)
    assert [held for _, held in memory.recent(10)] == events[:1:-1]


async def test_recent_events_are_read_in_pages(memory: Any) -> None:
    await memory.deliver([event(number) for number in range(3)])
    assert [place for place, _ in memory.recent(2)] == [3, 2]
    assert [place for place, _ in memory.recent(2, before=2)] == [1]
    assert memory.recent(2, before=1) == []


async def test_an_event_that_is_delivered_again_is_held_once(memory: Any) -> None:
    first, second = event(1), event(2)
    await memory.deliver([first, second])
    await memory.deliver([first])
    assert memory.recent(10) == [(2, second), (1, first)]


async def test_what_was_delivered_can_be_read_after_the_close(memory: Any) -> None:
    await memory.deliver([event(1)])
    await memory.close()
    assert len(memory.recent(10)) == 1


async def test_an_event_is_one_line_of_ids(log: Any, lines: list[Any]) -> None:
    one = event(1)
    await log.deliver([one, event(2)])
    await log.close()
    assert [line["message"] for line in lines] == ["event", "event"]
    expected = {"event_id": one["id"], "event_type": "paynow.payment.decided", "payment_id": PAYMENT, "customer_id": "c_123", "decision": "allow"}
    assert lines[0]["extra"] == expected


async def test_the_redaction_lets_the_ids_through_and_hashes_the_customer(log: Any, lines: list[Any]) -> None:
    await log.deliver([event(1)])
    written: dict[str, object] = {}
    Redactor(b"key").write(lines[0]["extra"], written)
    assert set(written) == {"event_id", "event_type", "payment_id", "customer", "decision"}
    assert "c_123" not in str(written)


async def test_an_event_without_a_decision_is_logged_without_it(log: Any, lines: list[Any]) -> None:
    await log.deliver([event(1, type="paynow.payment.captured", data={"customerId": "c_123"})])
    assert set(lines[0]["extra"]) == {"event_id", "event_type", "payment_id", "customer_id"}


async def test_an_event_of_a_policy_is_logged_with_its_version(log: Any, lines: list[Any]) -> None:
    one = event(1, type="paynow.policy.band_left", subject="9f86d081884c7d659a2feaa0c55ad015", data={"decisions": 4})
    await log.deliver([one])
    written: dict[str, object] = {}
    Redactor(b"key").write(lines[0]["extra"], written)
    assert written == {"event_id": one["id"], "event_type": "paynow.policy.band_left", "policy_version": "9f86d081884c7d659a2feaa0c55ad015"}
