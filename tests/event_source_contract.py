"""What the relay relies on in an outbox: run against the memory of a process and against PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from paynow.events import EventSource
from paynow.store.records import StoredEvent

Put = Callable[[StoredEvent], Awaitable[None]]
DeadLetters = Callable[[], Awaitable[Sequence[tuple[str, UUID, str]]]]

SUBJECT = "01920000-0000-7000-8000-0000000000c1"


def an_event(customer_id: str = "c_123", sequence: int = 1, *, age_s: float = 0, position: int = 0) -> StoredEvent:
    """An event that is `age_s` old; an outbox gives it a position of its own."""
    occurred_at = (datetime.now(UTC) - timedelta(seconds=age_s)).replace(microsecond=123_000)
    data = {"customerId": customer_id, "decision": "allow", "amount": "125.50", "reasons": []}
    return StoredEvent(position, uuid4(), customer_id, sequence, "paynow.payment.decided", SUBJECT, occurred_at, data)


class EventSourceContract:
    """To be inherited. The fixture `source` is an empty outbox, `put` writes to it, `dead_letters` tells sink, event id and error of each."""

    async def test_an_empty_outbox_has_nothing_pending(self, source: EventSource) -> None:
        assert list(await source.pending(10)) == []

    async def test_an_event_comes_out_as_it_went_in(self, source: EventSource, put: Put) -> None:
        event = an_event()
        await put(event)
        (found,) = await source.pending(10)
        for field in ("event_id", "customer_id", "sequence", "type", "subject", "occurred_at", "data"):
            assert getattr(found, field) == getattr(event, field)
        assert found.occurred_at.utcoffset() is not None

    async def test_events_come_by_position_and_a_customers_in_sequence(self, source: EventSource, put: Put) -> None:
        for sequence in (1, 2, 3):
            for customer in ("c_1", "c_2"):
                await put(an_event(customer, sequence))
        found = await source.pending(10)
        positions = [event.position for event in found]
        assert positions == sorted(set(positions))
        assert [event.sequence for event in found if event.customer_id == "c_1"] == [1, 2, 3]

    async def test_no_more_than_asked_for_come_and_the_first_first(self, source: EventSource, put: Put) -> None:
        for sequence in range(1, 6):
            await put(an_event(sequence=sequence))
        assert [event.sequence for event in await source.pending(2)] == [1, 2]

    async def test_reading_takes_nothing_away(self, source: EventSource, put: Put) -> None:
        await put(an_event())
        assert list(await source.pending(10)) == list(await source.pending(10))

    async def test_what_is_delivered_is_gone_and_nothing_else(self, source: EventSource, put: Put) -> None:
        for sequence in (1, 2, 3):
            await put(an_event(sequence=sequence))
        first, second, third = await source.pending(10)
        await source.delivered([first.position, third.position])
        assert list(await source.pending(10)) == [second]

    async def test_delivering_again_is_harmless(self, source: EventSource, put: Put) -> None:
        await put(an_event())
        (event,) = await source.pending(10)
        await source.delivered([event.position])
        await source.delivered([event.position])
        await source.delivered([])
        assert list(await source.pending(10)) == []

    async def test_a_dead_letter_is_kept_and_its_event_stays(self, source: EventSource, put: Put, dead_letters: DeadLetters) -> None:
        await put(an_event())
        (event,) = await source.pending(10)
        await source.dead_letter([event.position], "broker", "too large")
        assert list(await dead_letters()) == [("broker", event.event_id, "too large")]
        assert list(await source.pending(10)) == [event]

    async def test_each_sink_has_dead_letters_of_its_own_each_once(self, source: EventSource, put: Put, dead_letters: DeadLetters) -> None:
        await put(an_event())
        (event,) = await source.pending(10)
        for sink in ("broker", "broker", "webhook"):
            await source.dead_letter([event.position], sink, "no")
        assert sorted(sink for sink, _, _ in await dead_letters()) == ["broker", "webhook"]

    async def test_a_dead_letter_outlives_its_event(self, source: EventSource, put: Put, dead_letters: DeadLetters) -> None:
        await put(an_event())
        (event,) = await source.pending(10)
        await source.dead_letter([event.position], "broker", "no")
        await source.delivered([event.position])
        assert len(list(await dead_letters())) == 1

    async def test_only_one_has_the_turn(self, source: EventSource) -> None:
        async with source.turn() as first, source.turn() as second:
            assert (first, second) == (True, False)

    async def test_the_turn_can_be_had_after_it_was_given_back(self, source: EventSource) -> None:
        for _ in range(2):
            async with source.turn() as mine:
                assert mine

    async def test_the_turn_is_given_back_when_its_owner_fails_or_is_cancelled(self, source: EventSource) -> None:
        with pytest.raises(ZeroDivisionError):
            async with source.turn():
                raise ZeroDivisionError
        owning = asyncio.Event()

        async def own() -> None:
            async with source.turn():
                owning.set()
                await asyncio.Event().wait()

        owner = asyncio.create_task(own())
        await owning.wait()
        owner.cancel()
        await asyncio.wait({owner})
        async with source.turn() as mine:
            assert mine

    async def test_an_empty_outbox_does_not_lag(self, source: EventSource) -> None:
        assert await source.lag() == (0, 0)

    async def test_the_lag_is_the_rows_and_the_age_of_the_oldest(self, source: EventSource, put: Put) -> None:
        for age_s in (5, 90, 10):
            await put(an_event(sequence=age_s, age_s=age_s))
        rows, oldest_s = await source.lag()
        assert rows == 3
        assert oldest_s == pytest.approx(90, abs=5)
