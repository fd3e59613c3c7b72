"""The relay delivers every event to every sink, in order, whatever happens to sinks and store meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest
from event_doubles import EventsInMemory, HandTime, MetersDouble, SinkDouble

from event_source_contract import an_event
from paynow.errors import OutcomeUnknown, StoreUnavailable
from paynow.events import Relay
from paynow.events.lane import BATCH_EVENTS_MAX, LOOK_EVERY_S, STORE_BACKOFF_MAX_S
from paynow.events.relay import FORGET_EVENTS_MAX, LIVES_S, LOG_EVERY_S, SHARE_EVERY_S, TIDY_EVERY_S
from paynow.plugin_api import DeliveryRefused

Start = Callable[..., Relay]


async def test_events_reach_every_sink_as_cloudevents_and_leave_the_outbox(
    time: HandTime, outbox: EventsInMemory, meters: MetersDouble, relay_to: Start
) -> None:
    outbox.put_many(3)
    ids = [str(event.event_id) for event in outbox.rows]
    one, two = SinkDouble("one"), SinkDouble("two")
    relay_to(one, two)
    await time.until(lambda: not outbox.rows)
    assert [event["id"] for event in one.got] == ids
    assert one.got == two.got
    assert one.got[0]["specversion"] == "1.0"
    assert meters.delivered == {"one": 3, "two": 3}
    assert not meters.failed


async def test_a_wake_delivers_without_a_poll(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    sink = SinkDouble()
    relay = relay_to(sink, poll_s=1000.0)
    await time.advance(1)
    outbox.put_many(1)
    relay.wake()
    await time.advance(LOG_EVERY_S)
    assert sink.sequences() == [1]


async def test_a_poll_finds_what_nobody_woke_the_relay_for(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    sink = SinkDouble()
    relay_to(sink, poll_s=1.0)
    await time.advance(5)
    outbox.put_many(1)
    await time.until(lambda: sink.got, within_s=1 + 2 * LOG_EVERY_S + 0.01)


async def test_many_events_are_delivered_in_batches_and_in_order(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(2345, customers=7)
    sink = SinkDouble()
    relay_to(sink)
    await time.until(lambda: not outbox.rows)
    assert all(sink.sequences(f"c_{customer}") == [*range(1, len(sink.sequences(f"c_{customer}")) + 1)] for customer in range(7))
    assert len(sink.got) == 2345
    assert sink.deliveries <= 30


async def test_two_relays_share_the_customers_and_each_event_comes_once(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    first, second = SinkDouble(), SinkDouble()
    relay_to(first)
    await time.rest()
    relay_to(second, source=EventsInMemory(outbox, now_s=lambda: time.now_s))
    await time.advance(2 * SHARE_EVERY_S + 1)
    outbox.put_many(400, customers=40)
    await time.until(lambda: not outbox.rows)
    assert len(first.got) + len(second.got) == 400
    assert len(first.got) >= 100
    assert len(second.got) >= 100
    assert not {event["partitionkey"] for event in first.got} & {event["partitionkey"] for event in second.got}


async def test_a_relay_that_stops_leaves_its_customers_to_the_other_soon(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    first, second = SinkDouble(), SinkDouble()
    relay = relay_to(first)
    await time.rest()
    relay_to(second, source=EventsInMemory(outbox, now_s=lambda: time.now_s))
    await time.advance(2 * SHARE_EVERY_S + 1)
    await relay.stop(0)
    outbox.put_many(40, customers=40)
    await time.until(lambda: len(second.got) == 40, within_s=SHARE_EVERY_S + LOOK_EVERY_S + 1)


async def test_a_relay_that_died_is_followed_by_another_in_order(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    died = EventsInMemory(outbox, now_s=lambda: time.now_s)
    await died.share(["one"], LIVES_S)
    await died.begin("one")
    outbox.put_many(30)
    await died.log(20)
    await died.delivered("one", (await died.pending("one", 5)))
    sink = SinkDouble()
    relay_to(sink)
    await time.advance(LIVES_S - 1)
    assert not sink.got
    await time.until(lambda: not outbox.rows, within_s=SHARE_EVERY_S + 3)
    assert sink.sequences() == [*range(6, 31)]


async def test_before_partitions_are_left_to_another_what_is_delivered_ends(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    slow = SinkDouble()
    slow.open.clear()
    relay_to(slow)
    outbox.put_many(160, customers=40)
    await time.until(lambda: slow.running)
    other = EventsInMemory(outbox, now_s=lambda: time.now_s)
    await other.share(["one"], 1_000)
    await time.advance(SHARE_EVERY_S + 1)
    assert (await other.share(["one"], 1_000)).held == ()
    slow.open.set()
    await time.until(lambda: outbox.calls["leave"])
    assert len((await other.share(["one"], 1_000)).held) == 8
    assert await other.pending("one", 1_000) == []


async def test_an_idle_relay_asks_no_more_than_it_polls(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    relay_to(SinkDouble(), poll_s=1.0)
    await time.advance(50)
    assert 40 <= outbox.calls["log"] <= 51
    assert 45 <= outbox.calls["pending"] <= 52
    assert 45 <= outbox.calls["due"] <= 52
    assert 23 <= outbox.calls["share"] <= 26


async def test_a_relay_that_is_woken_all_the_time_keeps_its_pace(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    relay = relay_to(SinkDouble())
    for number in range(1000):
        outbox.put(an_event("c_0", number + 1))
        relay.wake()
        await time.advance(0.001)
    assert outbox.calls["log"] <= 1 / LOG_EVERY_S + 2
    assert outbox.calls["pending"] <= 2 * (1 / LOG_EVERY_S + 2)


async def test_old_events_are_forgotten_in_time(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put(*(an_event("c_0", number, age_s=7200) for number in range(1, FORGET_EVENTS_MAX)), an_event("c_0", FORGET_EVENTS_MAX))
    relay_to(SinkDouble())
    await time.advance(TIDY_EVERY_S + 1)
    assert sum(len(events) for events in outbox.logged.values()) == 1


@pytest.mark.parametrize("method", ["share", "begin", "log", "pending", "due", "delivered"])
@pytest.mark.parametrize("error", [StoreUnavailable(), OutcomeUnknown(), RuntimeError("of ours")], ids=lambda error: type(error).__name__)
async def test_trouble_in_the_store_is_waited_out_for_ever(
    method: str, error: Exception, time: HandTime, outbox: EventsInMemory, relay_to: Start
) -> None:
    outbox.put_many(3)
    outbox.trouble[method] = error
    sink = SinkDouble()
    relay_to(sink)
    await time.advance(600)
    assert 600 / STORE_BACKOFF_MAX_S * 0.8 <= outbox.calls[method] <= 600 / STORE_BACKOFF_MAX_S * 1.2 + 35
    outbox.trouble.clear()
    await time.until(lambda: not outbox.rows, within_s=2 * STORE_BACKOFF_MAX_S + 3)
    assert sink.sequences() == [1, 2, 3]


async def test_short_trouble_in_the_store_is_over_soon(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    sink = SinkDouble()
    relay_to(sink)
    for _ in range(10):
        outbox.put_many(1)
        outbox.trouble["pending"] = StoreUnavailable()
        await time.advance(2)
        outbox.trouble.clear()
        await time.until(lambda: not outbox.rows, within_s=3)
        await time.advance(10)


async def test_what_a_sink_has_is_not_delivered_again_because_the_store_could_not_forget_it(
    time: HandTime, outbox: EventsInMemory, relay_to: Start
) -> None:
    outbox.put_many(3)
    outbox.trouble["delivered"] = OutcomeUnknown()
    sink = SinkDouble()
    relay_to(sink)
    await time.advance(60)
    outbox.trouble.clear()
    await time.until(lambda: not outbox.rows)
    assert len(sink.got) == 3


async def test_wakes_do_not_shorten_the_wait_for_a_store_in_trouble(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.trouble["pending"] = StoreUnavailable()
    relay = relay_to(SinkDouble())
    for _ in range(300):
        relay.wake()
        await time.advance(0.1)
    assert outbox.calls["pending"] <= 12


async def test_events_that_wait_for_a_slow_sink_are_not_read_again(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(BATCH_EVENTS_MAX + 1)
    sink = SinkDouble()
    sink.open.clear()
    relay_to(sink)
    await time.until(lambda: sink.running)
    before = outbox.calls["pending"]
    await time.advance(50)
    assert outbox.calls["pending"] == before


@pytest.mark.parametrize("seed", range(15))
async def test_through_any_mix_of_trouble_nothing_is_lost_and_order_is_kept(
    seed: int, time: HandTime, outbox: EventsInMemory, relay_to: Start
) -> None:
    chance = Random(seed)
    sinks = [SinkDouble(f"sink_{number}") for number in range(3)]
    relay = relay_to(*sinks)
    for number in range(300):
        outbox.put(an_event(f"c_{number % 5}", number // 5 + 1))
        for sink in sinks:
            if chance.random() < 0.1:
                sink.failures.append(OSError("down"))
        if chance.random() < 0.1:
            outbox.trouble[chance.choice(["share", "log", "pending", "due", "delivered", "leave"])] = StoreUnavailable()
        if chance.random() < 0.3:
            outbox.trouble.clear()
            relay.wake()
        await time.advance(chance.random() / 5)
    outbox.trouble.clear()
    await time.until(lambda: not outbox.rows, within_s=3000)
    for sink in sinks:
        assert all(sink.sequences(f"c_{customer}") == [*range(1, 61)] for customer in range(5))


async def test_a_relay_without_a_sink_is_refused(outbox: EventsInMemory, meters: MetersDouble, time: HandTime) -> None:
    with pytest.raises(ValueError, match="at least one sink"):
        Relay(outbox, [], meters, poll_s=1, keep_s=1, clock=time.clock())


async def test_a_stop_lets_the_delivery_that_runs_finish(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(BATCH_EVENTS_MAX + 150)
    sink = SinkDouble()
    sink.open.clear()
    relay = relay_to(sink)
    await time.until(lambda: sink.running)
    stopping = asyncio.create_task(relay.stop(60))
    await time.rest()
    assert not stopping.done()
    sink.open.set()
    await time.until(stopping.done)
    assert sink.deliveries == 1
    assert len(outbox.rows) == 150
    assert sink.closed == 1


async def test_a_stop_gives_up_what_takes_longer_than_its_grace(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(3)
    sink, quick = SinkDouble(), SinkDouble("quick")
    sink.open.clear()
    relay = relay_to(sink, quick)
    await time.until(lambda: sink.running)
    await relay.stop(0.01)
    assert sink.cancelled == 1
    assert (sink.closed, quick.closed) == (1, 1)
    assert len(outbox.rows) == 3
    assert not outbox.holders


async def test_a_stop_does_not_wait_for_a_sink_that_is_to_be_tried_again_later(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(3)
    sink = SinkDouble()
    sink.failures = [OSError()] * 50
    relay = relay_to(sink)
    await time.advance(60)
    stopping = asyncio.create_task(relay.stop(60))
    await time.rest()
    assert stopping.done()


@pytest.mark.parametrize("method", ["share", "log", "pending"])
async def test_a_stop_does_not_wait_for_a_store_in_trouble(method: str, time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.trouble[method] = StoreUnavailable()
    relay = relay_to(SinkDouble())
    await time.advance(60)
    stopping = asyncio.create_task(relay.stop(60))
    await time.rest()
    assert stopping.done()


async def test_a_relay_that_never_ran_can_be_stopped(outbox: EventsInMemory, meters: MetersDouble, time: HandTime) -> None:
    sink = SinkDouble()
    await Relay(outbox, [sink], meters, poll_s=1, keep_s=1, clock=time.clock()).stop(1)
    assert sink.closed == 1


async def test_a_relay_whose_task_is_cancelled_ends_and_leaves_its_partitions(time: HandTime, outbox: EventsInMemory, meters: MetersDouble) -> None:
    outbox.put_many(3)
    sink = SinkDouble()
    sink.open.clear()
    running = asyncio.create_task(Relay(outbox, [sink], meters, poll_s=1, keep_s=1, clock=time.clock()).run())
    await time.until(lambda: sink.running)
    running.cancel()
    await time.until(running.done)
    await time.rest()
    assert running.cancelled()
    assert (sink.running, sink.cancelled, outbox.holders) == (0, 1, {})


async def test_trouble_while_a_dead_letter_is_written_loses_neither_it_nor_the_event(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(3)
    refused = str(outbox.rows[1].event_id)
    sink = SinkDouble()
    sink.refuses[refused] = DeliveryRefused("too large")
    outbox.trouble["bury"] = StoreUnavailable()
    relay_to(sink)
    await time.advance(60)
    assert refused in {str(event.event_id) for event in outbox.rows}
    outbox.trouble.clear()
    await time.until(lambda: not outbox.rows)
    assert [str(event_id) for _, event_id in outbox.dead] == [refused]
