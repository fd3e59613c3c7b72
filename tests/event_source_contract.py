"""What the relay relies on in its source of events: run against the memory of a process and against PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from paynow.events import EventSource
from paynow.events.envelope import partition_key
from paynow.store.records import StoredEvent

Put = Callable[[StoredEvent], Awaitable[None]]
DeadLetters = Callable[[], Awaitable[Sequence[tuple[str, UUID, str]]]]
Other = Callable[[], EventSource]

SUBJECT = "01920000-0000-7000-8000-0000000000c1"
LIVES_S = 60.0
SINK = "broker"


def an_event(customer_id: str = "c_123", sequence: int = 1, *, age_s: float = 0) -> StoredEvent:
    """An event that is `age_s` old; it gets its place when a relay sees it."""
    occurred_at = (datetime.now(UTC) - timedelta(seconds=age_s)).replace(microsecond=123_000)
    data = {"customerId": customer_id, "decision": "allow", "amount": "125.50", "reasons": []}
    return StoredEvent(0, 0, uuid4(), customer_id, sequence, "paynow.payment.decided", SUBJECT, occurred_at, data)


def sequences(events: Sequence[StoredEvent], customer_id: str = "c_123") -> list[int]:
    return [event.sequence for event in events if event.customer_id == customer_id]


class EventSourceContract:
    """To be inherited. The fixture `source` is one relay's, `other` makes another relay's of the same events, `put` writes an event, `dead_letters`
    tells sink, event id and error of each."""

    @pytest.fixture
    async def source_begun(self, source: EventSource) -> EventSource:
        await source.share([SINK], LIVES_S)
        await source.begin(SINK)
        return source

    async def test_nothing_comes_of_nothing(self, source_begun: EventSource) -> None:
        assert await source_begun.log(10) == 0
        assert [*await source_begun.pending(SINK, 10), *await source_begun.due(SINK, 10)] == []

    async def test_an_event_comes_out_as_it_went_in(self, source_begun: EventSource, put: Put) -> None:
        event = an_event()
        await put(event)
        assert await source_begun.log(10) == 1
        (found,) = await source_begun.pending(SINK, 10)
        for field in ("event_id", "customer_id", "sequence", "type", "subject", "occurred_at", "data", "retry_id", "attempts"):
            assert getattr(found, field) == getattr(event, field)
        assert found.occurred_at.utcoffset() is not None
        assert (found.partition, found.place) == (int(partition_key("c_123")[0], 16), 1)

    async def test_a_customers_events_come_in_sequence_and_places_have_no_gaps(self, source_begun: EventSource, put: Put) -> None:
        for sequence in range(1, 6):
            for customer in ("c_1", "c_2", "c_3"):
                await put(an_event(customer, sequence))
        while await source_begun.log(2):
            pass
        found = await source_begun.pending(SINK, 100)
        for customer in ("c_1", "c_2", "c_3"):
            assert sequences(found, customer) == [1, 2, 3, 4, 5]
        for partition in {event.partition for event in found}:
            places = [event.place for event in found if event.partition == partition]
            assert places == [*range(1, len(places) + 1)]

    async def test_no_more_are_logged_than_asked_for_and_the_first_first(self, source_begun: EventSource, put: Put) -> None:
        for sequence in range(1, 6):
            await put(an_event(sequence=sequence))
        assert await source_begun.log(3) == 3
        assert sequences(await source_begun.pending(SINK, 10)) == [1, 2, 3]
        assert sequences(await source_begun.pending(SINK, 2)) == [1, 2]

    async def test_of_a_limit_every_partition_has_its_part(self, source_begun: EventSource, put: Put) -> None:
        for number in range(200):
            await put(an_event(f"c_{number % 40}", number // 40 + 1))
        await source_begun.log(1_000)
        found = await source_begun.pending(SINK, 32)
        partitions = {event.partition for event in found}
        assert len(partitions) == len({partition_key(f"c_{number}")[0] for number in range(40)})
        assert 32 <= len(found) <= 32 + len(partitions)

    async def test_what_a_sink_has_does_not_come_again_and_each_sink_has_its_own(self, source_begun: EventSource, put: Put) -> None:
        await source_begun.begin("other")
        for sequence in (1, 2, 3):
            await put(an_event(sequence=sequence))
        await source_begun.log(10)
        first, second, third = await source_begun.pending(SINK, 10)
        await source_begun.delivered(SINK, [first, second])
        assert await source_begun.pending(SINK, 10) == [third]
        await source_begun.delivered(SINK, [first])
        await source_begun.delivered(SINK, [])
        assert await source_begun.pending(SINK, 10) == [third]
        assert len(await source_begun.pending("other", 10)) == 3

    async def test_a_sink_begins_with_what_comes_after_it(self, source_begun: EventSource, put: Put) -> None:
        await put(an_event(sequence=1))
        await source_begun.log(10)
        await source_begun.begin("late")
        await put(an_event(sequence=2))
        await source_begun.log(10)
        await source_begun.begin("late")
        assert sequences(await source_begun.pending("late", 10)) == [2]

    async def test_a_dead_letter_is_kept_each_once_for_each_sink(self, source_begun: EventSource, put: Put, dead_letters: DeadLetters) -> None:
        await put(an_event())
        await source_begun.log(10)
        (event,) = await source_begun.pending(SINK, 10)
        for sink in (SINK, SINK, "other"):
            await source_begun.bury(sink, [(event, "too large")])
        assert sorted(await dead_letters()) == [(SINK, event.event_id, "too large"), ("other", event.event_id, "too large")]
        assert await source_begun.pending(SINK, 10) == [event]

    async def test_an_event_to_be_tried_again_comes_by_itself_when_it_is_due(self, source_begun: EventSource, put: Put) -> None:
        for sequence in (1, 2, 3):
            await put(an_event(sequence=sequence))
        await source_begun.log(10)
        first, second, third = await source_begun.pending(SINK, 10)
        for _ in range(2):
            await source_begun.retry(SINK, [(first, 0.0), (second, 1_000.0)])
            await source_begun.delivered(SINK, [first, second, third])
        (due,) = await source_begun.due(SINK, 10)
        assert (due.event_id, due.attempts, due.data) == (first.event_id, 1, first.data)
        await source_begun.retry(SINK, [(due, 0.0)])
        (again,) = await source_begun.due(SINK, 10)
        assert again.attempts == 2
        await source_begun.delivered(SINK, [again])
        assert await source_begun.due(SINK, 10) == []

    async def test_an_event_tried_again_can_be_refused(self, source_begun: EventSource, put: Put, dead_letters: DeadLetters) -> None:
        await put(an_event())
        await source_begun.log(10)
        (event,) = await source_begun.pending(SINK, 10)
        await source_begun.retry(SINK, [(event, 0.0)])
        (due,) = await source_begun.due(SINK, 10)
        for _ in range(2):
            await source_begun.bury(SINK, [(due, "gone")])
        assert await source_begun.due(SINK, 10) == []
        assert [error for _, _, error in await dead_letters()] == ["gone"]

    async def test_a_disabled_sink_gets_nothing_and_loses_nothing(self, source_begun: EventSource, put: Put) -> None:
        for sequence in (1, 2):
            await put(an_event(sequence=sequence))
        await source_begun.log(10)
        first, _ = await source_begun.pending(SINK, 10)
        await source_begun.retry(SINK, [(first, 0.0)])
        await source_begun.disable(SINK, "gone")
        assert [*await source_begun.pending(SINK, 10), *await source_begun.due(SINK, 10)] == []

    async def test_relays_share_the_partitions(self, source_begun: EventSource, other: Other, put: Put) -> None:
        assert (await source_begun.share([SINK], LIVES_S)).held == tuple(range(16))
        second = other()
        assert (await second.share([SINK], LIVES_S)).held == ()
        share = await source_begun.share([SINK], LIVES_S)
        assert share.surplus == tuple(range(8, 16))
        await source_begun.leave(share.surplus)
        assert await second.share([SINK], LIVES_S) == (tuple(range(8, 16)), (), False)
        for number in range(40):
            await put(an_event(f"c_{number}"))
        assert await source_begun.log(100) + await second.log(100) == 40
        mine, theirs = await source_begun.pending(SINK, 100), await second.pending(SINK, 100)
        assert {event.partition < 8 for event in mine} == {True}
        assert {event.partition < 8 for event in theirs} == {False}
        assert len(mine) + len(theirs) == 40

    async def test_a_relay_takes_no_more_than_its_share_of_what_is_free(self, source_begun: EventSource, other: Other) -> None:
        await source_begun.leave(range(16))
        assert len((await other().share([SINK], LIVES_S)).held) == 8

    async def test_a_relay_hears_of_others_that_serve_other_sinks(self, source_begun: EventSource, other: Other) -> None:
        await other().share([SINK, "webhook"], LIVES_S)
        assert (await source_begun.share([SINK], LIVES_S)).others_differ
        assert not (await source_begun.share(["webhook", SINK], LIVES_S)).others_differ

    async def test_a_relay_that_ends_leaves_everything_to_the_others(self, source_begun: EventSource, other: Other) -> None:
        second = other()
        await second.share([SINK], LIVES_S)
        await source_begun.leave(None)
        assert (await second.share([SINK], LIVES_S)).held == tuple(range(16))

    async def test_a_relay_that_says_nothing_has_died(self, source_begun: EventSource, other: Other, put: Put) -> None:
        await put(an_event("c_9"))
        await source_begun.share([SINK], 0.0)
        assert await source_begun.log(10) == 0
        second = other()
        assert (await second.share([SINK], LIVES_S)).held == tuple(range(16))
        await put(an_event())
        assert await source_begun.log(10) == 0
        assert await second.log(10) == 2
        assert await source_begun.pending(SINK, 10) == []

    async def test_old_events_are_forgotten_when_every_sink_has_them(self, source_begun: EventSource, put: Put) -> None:
        await source_begun.begin("other")
        for sequence, age_s in ((1, 900), (2, 900), (3, 0)):
            await put(an_event(sequence=sequence, age_s=age_s))
        await source_begun.log(10)
        events = await source_begun.pending(SINK, 10)
        await source_begun.delivered(SINK, events)
        assert await source_begun.forget(600, 100) == 0
        await source_begun.delivered("other", events[:1])
        assert await source_begun.forget(600, 100) == 1
        await source_begun.delivered("other", events)
        assert await source_begun.forget(600, 100) == 1
        assert await source_begun.forget(600, 100) == 0
