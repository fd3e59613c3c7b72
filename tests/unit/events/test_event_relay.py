"""The relay delivers every event to every sink, in order, whatever happens to sinks and store meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest
from event_doubles import HandTime, MetersDouble, OutboxInMemory, SinkDouble

from event_source_contract import an_event
from paynow.errors import OutcomeUnknown, StoreUnavailable
from paynow.events import Relay
from paynow.events.relay import ROUND_MIN_S, STORE_BACKOFF_MAX_S, TURN_ASK_S, TURN_MAX_S, WINDOW_EVENTS_MAX
from paynow.plugin_api import DeliveryRefused

Start = Callable[..., Relay]


async def test_events_reach_every_sink_as_cloudevents_and_leave_the_outbox(
    time: HandTime, outbox: OutboxInMemory, meters: MetersDouble, relay_to: Start
) -> None:
    outbox.put_many(3)
    ids = [str(event.event_id) for event in outbox.rows.values()]
    one, two = SinkDouble("one"), SinkDouble("two")
    relay_to(one, two)
    await time.until(lambda: not outbox.rows)
    assert [event["id"] for event in one.got] == ids
    assert one.got == two.got
    assert one.got[0]["specversion"] == "1.0"
    assert meters.delivered == {"one": 3, "two": 3}
    assert not meters.failed


async def test_a_wake_delivers_without_a_poll(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    sink = SinkDouble()
    relay = relay_to(sink, poll_s=1000.0)
    await time.advance(1)
    outbox.put_many(1)
    relay.wake()
    await time.advance(ROUND_MIN_S)
    assert sink.sequences() == [1]


async def test_a_poll_finds_what_nobody_woke_the_relay_for(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    sink = SinkDouble()
    relay_to(sink, poll_s=1.0)
    await time.advance(5)
    outbox.put_many(1)
    await time.until(lambda: sink.got, within_s=1 + 2 * ROUND_MIN_S)


async def test_many_events_are_delivered_in_batches_and_in_order(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    outbox.put_many(2345, customers=7)
    sink = SinkDouble()
    relay_to(sink)
    await time.until(lambda: not outbox.rows)
    assert all(sink.sequences(f"c_{customer}") == [*range(1, len(sink.sequences(f"c_{customer}")) + 1)] for customer in range(7))
    assert len(sink.got) == 2345
    assert sink.deliveries <= 30


async def test_one_relay_at_a_time_and_the_next_takes_over(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    first, second = SinkDouble("first"), SinkDouble("second")
    relay = relay_to(first)
    await time.rest()
    relay_to(second)
    outbox.put_many(1)
    await time.until(lambda: not outbox.rows)
    assert (len(first.got), len(second.got)) == (1, 0)
    await relay.stop(0)
    outbox.put_many(1)
    await time.until(lambda: second.got, within_s=TURN_ASK_S + 1)


async def test_who_does_not_have_the_turn_asks_at_its_pace_however_often_woken(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    outbox.taken = True
    relay = relay_to(SinkDouble())
    for _ in range(100):
        relay.wake()
        await time.advance(0.1)
    assert outbox.calls["turn"] <= 1 + 10 / TURN_ASK_S
    assert outbox.calls["pending"] == 0


async def test_a_turn_is_given_back_and_asked_for_again(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    relay_to(SinkDouble())
    await time.advance(3 * TURN_MAX_S + 5)
    assert outbox.calls["turn"] == 4


async def test_an_idle_relay_asks_no_more_than_it_polls(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    relay_to(SinkDouble(), poll_s=1.0)
    await time.advance(50)
    assert 45 <= outbox.calls["pending"] <= 51


async def test_a_relay_that_is_woken_all_the_time_keeps_its_pace(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    relay = relay_to(SinkDouble())
    for _ in range(1000):
        relay.wake()
        await time.advance(0.001)
    assert outbox.calls["pending"] <= 1 / ROUND_MIN_S + 2


async def test_the_lag_is_measured_every_few_seconds(time: HandTime, outbox: OutboxInMemory, meters: MetersDouble, relay_to: Start) -> None:
    sink = SinkDouble()
    sink.open.clear()
    outbox.put(an_event("c_0", 1, age_s=70))
    relay_to(sink)
    await time.advance(30)
    assert 5 <= len(meters.lags) <= 7
    assert meters.lags[-1][0] == 1
    assert meters.lags[-1][1] == pytest.approx(70, abs=10)


async def test_the_lag_is_measured_by_those_who_wait_for_their_turn_too(
    time: HandTime, outbox: OutboxInMemory, meters: MetersDouble, relay_to: Start
) -> None:
    outbox.taken = True
    relay_to(SinkDouble())
    await time.advance(30)
    assert 4 <= len(meters.lags) <= 7


async def test_a_lag_that_cannot_be_measured_stops_nothing(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    outbox.trouble["lag"] = StoreUnavailable()
    outbox.put_many(3)
    sink = SinkDouble()
    relay_to(sink)
    await time.until(lambda: not outbox.rows, within_s=1)
    await time.advance(30)
    assert outbox.calls["lag"] <= 7
    assert outbox.calls["turn"] == 1


@pytest.mark.parametrize("method", ["turn", "pending", "delivered"])
@pytest.mark.parametrize("error", [StoreUnavailable(), OutcomeUnknown(), RuntimeError("of ours")], ids=lambda error: type(error).__name__)
async def test_trouble_in_the_store_is_waited_out_for_ever(
    method: str, error: Exception, time: HandTime, outbox: OutboxInMemory, relay_to: Start
) -> None:
    outbox.put_many(3)
    outbox.trouble[method] = error
    sink = SinkDouble()
    relay_to(sink)
    await time.advance(600)
    assert 600 / STORE_BACKOFF_MAX_S * 0.8 <= outbox.calls[method] <= 600 / STORE_BACKOFF_MAX_S * 1.2 + 10
    outbox.trouble.clear()
    await time.until(lambda: not outbox.rows, within_s=STORE_BACKOFF_MAX_S + 3)
    assert sink.sequences() == [1, 2, 3]


async def test_short_trouble_in_the_store_is_over_soon(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
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
    time: HandTime, outbox: OutboxInMemory, relay_to: Start
) -> None:
    outbox.put_many(3)
    outbox.trouble["delivered"] = OutcomeUnknown()
    sink = SinkDouble()
    relay_to(sink)
    await time.advance(60)
    outbox.trouble.clear()
    await time.until(lambda: not outbox.rows)
    assert len(sink.got) == 3


async def test_wakes_do_not_shorten_the_wait_for_a_store_in_trouble(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    outbox.trouble["pending"] = StoreUnavailable()
    relay = relay_to(SinkDouble())
    for _ in range(300):
        relay.wake()
        await time.advance(0.1)
    assert outbox.calls["pending"] <= 12


async def test_a_full_window_that_does_not_move_is_not_read_again(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    outbox.put_many(WINDOW_EVENTS_MAX + 1)
    sink = SinkDouble()
    sink.open.clear()
    relay_to(sink)
    await time.advance(50)
    assert outbox.calls["pending"] == 1


async def test_what_the_relay_remembers_is_bounded_by_its_window(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    outbox.put_many(5000)
    relay = relay_to(SinkDouble())
    await time.until(lambda: not outbox.rows)
    await time.advance(5)
    assert all(len(lane.has) <= WINDOW_EVENTS_MAX and not lane.refused for lane in relay._lanes)


@pytest.mark.parametrize("seed", range(15))
async def test_through_any_mix_of_trouble_nothing_is_lost_and_order_is_kept(
    seed: int, time: HandTime, outbox: OutboxInMemory, relay_to: Start
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
            outbox.trouble[chance.choice(["turn", "pending", "delivered", "lag"])] = StoreUnavailable()
        if chance.random() < 0.3:
            outbox.trouble.clear()
            relay.wake()
        await time.advance(chance.random() / 5)
    outbox.trouble.clear()
    await time.until(lambda: not outbox.rows, within_s=3000)
    for sink in sinks:
        assert all(sink.sequences(f"c_{customer}") == [*range(1, 61)] for customer in range(5))


async def test_a_relay_without_a_sink_is_refused(outbox: OutboxInMemory, meters: MetersDouble, time: HandTime) -> None:
    with pytest.raises(ValueError, match="at least one sink"):
        Relay(outbox, [], meters, poll_s=1, clock=time.clock())


async def test_a_stop_lets_the_delivery_that_runs_finish(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    outbox.put_many(250)
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


async def test_a_stop_gives_up_what_takes_longer_than_its_grace(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    outbox.put_many(3)
    sink, quick = SinkDouble(), SinkDouble("quick")
    sink.open.clear()
    relay = relay_to(sink, quick)
    await time.until(lambda: sink.running)
    await relay.stop(0.01)
    assert sink.cancelled == 1
    assert (sink.closed, quick.closed) == (1, 1)
    assert len(outbox.rows) == 3
    assert not outbox.taken


async def test_a_stop_does_not_wait_for_a_sink_that_is_to_be_tried_again_later(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    outbox.put_many(3)
    sink = SinkDouble()
    sink.failures = [OSError()] * 50
    relay = relay_to(sink)
    await time.advance(60)
    stopping = asyncio.create_task(relay.stop(60))
    await time.rest()
    assert stopping.done()


@pytest.mark.parametrize("method", ["turn", "pending"])
async def test_a_stop_does_not_wait_for_a_store_in_trouble(method: str, time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    outbox.trouble[method] = StoreUnavailable()
    relay = relay_to(SinkDouble())
    await time.advance(60)
    stopping = asyncio.create_task(relay.stop(60))
    await time.rest()
    assert stopping.done()


async def test_a_relay_that_never_ran_can_be_stopped(outbox: OutboxInMemory, meters: MetersDouble, time: HandTime) -> None:
    sink = SinkDouble()
    await Relay(outbox, [sink], meters, poll_s=1, clock=time.clock()).stop(1)
    assert sink.closed == 1


async def test_a_relay_whose_task_is_cancelled_ends_and_gives_its_turn_back(time: HandTime, outbox: OutboxInMemory, meters: MetersDouble) -> None:
    outbox.put_many(3)
    sink = SinkDouble()
    sink.open.clear()
    running = asyncio.create_task(Relay(outbox, [sink], meters, poll_s=1, clock=time.clock()).run())
    await time.until(lambda: sink.running)
    running.cancel()
    await time.until(running.done)
    await time.rest()
    assert running.cancelled()
    assert (sink.running, sink.cancelled, outbox.taken) == (0, 1, False)


async def test_trouble_while_a_dead_letter_is_written_loses_neither_it_nor_the_event(time: HandTime, outbox: OutboxInMemory, relay_to: Start) -> None:
    outbox.put_many(3)
    refused = str(outbox.rows[2].event_id)
    sink = SinkDouble()
    sink.refuses[refused] = DeliveryRefused("too large")
    outbox.trouble["dead_letter"] = StoreUnavailable()
    relay_to(sink)
    await time.advance(60)
    assert refused in {str(event.event_id) for event in outbox.rows.values()}
    outbox.trouble.clear()
    await time.until(lambda: not outbox.rows)
    assert [str(event_id) for _, event_id in outbox.dead] == [refused]
