"""A sink that fails, hangs, refuses or exits is on its own: the other sinks go on, and it gets everything later, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from event_doubles import EventsInMemory, HandTime, MetersDouble, SinkDouble

from event_source_contract import an_event
from paynow.events import Relay
from paynow.events.lane import BACKOFF_FIRST_S, BACKOFF_MAX_S, BATCH_EVENTS_MAX, LOOK_EVERY_S, OUTAGE_RETRY_S, WHOLE_FAILURES_MAX
from paynow.events.pace import RETRY_WAITS_S, backoff_s
from paynow.events.relay import LOG_EVERY_S, SHARE_EVERY_S, TIDY_EVERY_S
from paynow.plugin_api import DeliveryFailed, DeliveryRefused, SinkGone, TryLater
from waiting import eventually_async

Start = Callable[..., Relay]
POLL_S = 1.0


class TooLarge(DeliveryRefused):
    """A sink's own kind of refusal."""


def waits(time: HandTime) -> list[float]:
    """The waits after failures: all that is no pace."""
    return [seconds for seconds in time.slept_s if seconds not in (0, POLL_S, LOG_EVERY_S, LOOK_EVERY_S, SHARE_EVERY_S, TIDY_EVERY_S)]


async def test_a_sink_that_fails_is_tried_again_after_ever_longer_waits(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(1)
    sink = SinkDouble()
    sink.failures = [OSError("down")] * 12
    relay_to(sink)
    await time.until(lambda: not outbox.rows)
    assert waits(time) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30])
    assert sink.sequences() == [1]


async def test_the_waits_start_anew_after_a_success(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    sink = SinkDouble()
    relay_to(sink)
    for _ in range(2):
        sink.failures = [OSError("down")] * 2
        outbox.put_many(1)
        await time.until(lambda: not outbox.rows)
    assert waits(time) == pytest.approx([0.1, 0.2, 0.1, 0.2])


def test_chance_spreads_the_waits_over_their_upper_half() -> None:
    assert backoff_s(1, BACKOFF_FIRST_S, BACKOFF_MAX_S, lambda: 0.0) == BACKOFF_FIRST_S / 2
    assert backoff_s(1, BACKOFF_FIRST_S, BACKOFF_MAX_S, lambda: 1.0) == BACKOFF_FIRST_S
    assert backoff_s(10_000, BACKOFF_FIRST_S, BACKOFF_MAX_S, lambda: 1.0) == BACKOFF_MAX_S


async def test_the_others_get_an_event_once_while_one_sink_is_tried_again(
    time: HandTime, outbox: EventsInMemory, meters: MetersDouble, relay_to: Start
) -> None:
    outbox.put_many(3)
    bad, good = SinkDouble("bad"), SinkDouble("good")
    bad.failures = [OSError("down")] * 8
    relay_to(bad, good)
    await time.until(lambda: not outbox.rows)
    assert (len(good.got), good.deliveries) == (3, 1)
    assert (len(bad.got), meters.failed) == (3, {"bad": 8})


async def test_later_events_reach_the_others_while_one_sink_is_down(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    bad, good = SinkDouble("bad"), SinkDouble("good")
    bad.failures = [OSError("down")] * 1000
    relay_to(bad, good)
    for sequence in range(1, 4):
        outbox.put_many(1)
        await time.until(lambda sequence=sequence: len(good.got) == sequence, within_s=POLL_S + 2 * LOG_EVERY_S)
    assert len(outbox.rows) == 3


async def test_a_sink_that_is_down_holds_back_nobody_and_loses_nothing(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    bad, good = SinkDouble("bad"), SinkDouble("good")
    bad.failures = [OSError("down")] * 20
    outbox.put_many(5 * BATCH_EVENTS_MAX)
    relay_to(bad, good)
    await time.until(lambda: len(good.got) == 5 * BATCH_EVENTS_MAX, within_s=2)
    assert not bad.got
    await time.until(lambda: not outbox.rows, within_s=1000)
    assert good.sequences() == bad.sequences() == [*range(1, 5 * BATCH_EVENTS_MAX + 1)]
    assert len(good.got) == 5 * BATCH_EVENTS_MAX


async def test_a_batch_that_fails_is_tried_smaller_until_it_fits(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(300)
    slow = SinkDouble(at_most=7)
    relay_to(slow)
    await time.until(lambda: not outbox.rows, within_s=3000)
    assert slow.sequences() == [*range(1, 301)]


async def test_a_batch_grows_again_after_successes(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    sink = SinkDouble()
    sink.failures = [OSError("down")] * 10
    outbox.put_many(1)
    relay_to(sink)
    await time.until(lambda: not outbox.rows)
    before = sink.deliveries
    outbox.put_many(10 * BATCH_EVENTS_MAX)
    await time.until(lambda: not outbox.rows)
    assert sink.deliveries - before <= 20


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), TypeError("nonsense"), GeneratorExit()], ids=repr)
async def test_a_sink_that_raises_anything_harms_nobody(error: BaseException, time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    bad, good = SinkDouble("bad"), SinkDouble("good")
    bad.failures = [error] * 3
    outbox.put_many(2)
    relay_to(bad, good)
    await time.until(lambda: not outbox.rows)
    assert bad.sequences() == good.sequences() == [1, 2]


async def test_a_sink_whose_method_does_not_fit_is_tried_again_at_the_pace_of_failures(
    time: HandTime, outbox: EventsInMemory, meters: MetersDouble, relay_to: Start
) -> None:
    bad = SinkDouble()
    bad.deliver = lambda: None  # type: ignore[assignment]
    outbox.put_many(1)
    relay_to(bad)
    await time.advance(120)
    assert 8 <= meters.failed["one"] <= 14


async def test_a_refused_event_goes_to_the_dead_letters_of_its_sink_alone(
    time: HandTime, outbox: EventsInMemory, meters: MetersDouble, relay_to: Start
) -> None:
    outbox.put_many(20)
    refused = outbox.rows[6].event_id
    picky, other = SinkDouble("picky"), SinkDouble("other")
    picky.refuses[str(refused)] = DeliveryRefused("too large")
    relay_to(picky, other)
    await time.until(lambda: not outbox.rows)
    assert outbox.dead == {("picky", refused): "DeliveryRefused: too large"}
    assert meters.buried == {"picky": 1}
    assert picky.sequences() == [*range(1, 7), *range(8, 21)]
    assert other.sequences() == [*range(1, 21)]


async def test_a_refusal_is_not_waited_after(time: HandTime, outbox: EventsInMemory, meters: MetersDouble, relay_to: Start) -> None:
    outbox.put_many(20)
    picky = SinkDouble("picky")
    picky.refuses[str(outbox.rows[6].event_id)] = TooLarge("x" * 10_000)
    relay_to(picky)
    await time.until(lambda: not outbox.rows, within_s=1)
    assert waits(time) == []
    (error,) = outbox.dead.values()
    assert error.startswith("TooLarge: xxx")
    assert len(error) == 500
    assert meters.failed == {"picky": 1}


async def test_several_refused_events_are_all_found(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(BATCH_EVENTS_MAX)
    refused = {outbox.rows[place].event_id for place in (0, 49, 50, 98, 99)}
    picky = SinkDouble("picky")
    picky.refuses = {str(event_id): DeliveryRefused("no") for event_id in refused}
    relay_to(picky)
    await time.until(lambda: not outbox.rows)
    assert {event_id for _, event_id in outbox.dead} == refused
    assert len(picky.sequences()) == BATCH_EVENTS_MAX - 5


async def test_a_sink_that_refuses_everything_ends_with_dead_letters_only(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(9)
    picky = SinkDouble("picky")
    picky.refuses = {str(event.event_id): DeliveryRefused("no") for event in outbox.rows}
    relay_to(picky)
    await time.until(lambda: not outbox.rows)
    assert len(outbox.dead) == 9
    assert picky.got == []


async def test_a_failure_while_a_refused_event_is_looked_for_is_a_failure(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(4)
    refused = outbox.rows[2].event_id
    picky = SinkDouble("picky")
    picky.refuses[str(refused)] = DeliveryRefused("no")
    picky.failures = [DeliveryRefused("look"), OSError("down")]
    relay_to(picky)
    await time.until(lambda: not outbox.rows)
    assert [event_id for _, event_id in outbox.dead] == [refused]
    assert picky.sequences() == [1, 2, 4]


async def test_a_sink_that_hangs_counts_as_failed_after_its_time_limit(
    time: HandTime, outbox: EventsInMemory, meters: MetersDouble, relay_to: Start
) -> None:
    hanging, good = SinkDouble("hanging"), SinkDouble("good")
    hanging.open.clear()
    outbox.put_many(2)
    relay_to(hanging, good, deliver_max_s=0.02)

    async def given_up() -> bool:
        return hanging.cancelled == 1

    await eventually_async(given_up)
    assert good.sequences() == [1, 2]
    hanging.open.set()
    await time.until(lambda: not outbox.rows)
    assert hanging.sequences() == [1, 2]
    assert meters.failed == {"hanging": 1}


async def test_others_are_not_held_back_by_a_delivery_that_hangs(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    hanging, good = SinkDouble("hanging"), SinkDouble("good")
    hanging.open.clear()
    relay_to(hanging, good)
    for sequence in range(1, 4):
        outbox.put_many(1)
        await time.until(lambda sequence=sequence: len(good.got) == sequence, within_s=POLL_S + 2 * LOG_EVERY_S)
    assert hanging.running == 1


async def test_a_sink_that_will_not_be_cancelled_is_never_called_twice_at_once(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    stubborn, good = SinkDouble("stubborn"), SinkDouble("good")
    stubborn.swallows_cancellation = True
    stubborn.open.clear()
    outbox.put_many(2)
    relay = relay_to(stubborn, good, deliver_max_s=0.01)

    async def free() -> bool:
        return bool(stubborn.cancelled) and relay._lanes[0]._resting.is_set()

    await eventually_async(free)
    outbox.put_many(1)
    await time.advance(100)
    assert len(good.got) == 3
    assert stubborn.running == 1
    stubborn.open.set()
    await time.until(lambda: not outbox.rows)
    assert stubborn.running_most == 1


async def test_a_stop_does_not_wait_for_a_sink_that_will_not_be_cancelled(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    stubborn = SinkDouble("stubborn")
    stubborn.swallows_cancellation = True
    stubborn.open.clear()
    outbox.put_many(1)
    relay = relay_to(stubborn)
    await time.until(lambda: stubborn.running)
    await asyncio.wait_for(relay.stop(0.01), 5)
    assert stubborn.closed == 1
    assert not outbox.holders
    stubborn.open.set()


@pytest.mark.parametrize("error", [OSError("down"), SystemExit(1)], ids=repr)
async def test_a_sink_that_cannot_close_stops_nobody(error: BaseException, time: HandTime, relay_to: Start) -> None:
    bad, good = SinkDouble("bad"), SinkDouble("good")

    async def close() -> None:
        raise error

    bad.close = close  # type: ignore[method-assign]
    relay = relay_to(bad, good)
    await time.rest()
    await relay.stop(1)
    assert good.closed == 1


class Unordered(SinkDouble):
    """Keeps no order: takes of a batch what it can. `fails` are ids that it cannot take for now."""

    ordered = False

    def __init__(self, name: str = "hook") -> None:
        super().__init__(name)
        self.fails: dict[str, Exception] = {}
        self.tried: list[str] = []

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        self.tried += [event["id"] for event in events]
        errors = {event["id"]: self.fails[event["id"]] for event in events if event["id"] in self.fails}
        await super().deliver([event for event in events if event["id"] not in errors])
        if errors:
            raise DeliveryFailed(errors)


async def test_without_order_an_event_that_fails_holds_back_no_other_and_is_tried_for_days(
    time: HandTime, outbox: EventsInMemory, relay_to: Start
) -> None:
    outbox.put_many(5)
    failing = outbox.rows[1].event_id
    hook = Unordered()
    hook.fails[str(failing)] = OSError("500")
    relay_to(hook)
    await time.until(lambda: len(hook.got) == 4, within_s=1)
    for wait_s in (*RETRY_WAITS_S, 1.0):
        outbox.put_many(1)
        await time.leap(wait_s * 1.1 + 1)
        await time.advance(3)
    assert len(hook.got) == 4 + len(RETRY_WAITS_S) + 1
    assert hook.tried.count(str(failing)) == 1 + len(RETRY_WAITS_S)
    assert outbox.dead == {("hook", failing): "OSError: 500"}


async def test_an_event_that_failed_comes_when_it_can_be_taken(time: HandTime, outbox: EventsInMemory, meters: MetersDouble, relay_to: Start) -> None:
    outbox.put_many(5)
    failing = outbox.rows[1].event_id
    hook = Unordered()
    hook.fails[str(failing)] = OSError("500")
    relay_to(hook)
    await time.until(lambda: len(hook.got) == 4, within_s=1)
    hook.fails.clear()
    await time.until(lambda: not outbox.rows, within_s=2 * RETRY_WAITS_S[0])
    assert (len(hook.got), hook.tried.count(str(failing)), outbox.dead) == (5, 2, {})
    assert meters.delivered == {"hook": 5}


@pytest.mark.parametrize(("asked_s", "waits_s"), [(1_000.0, 1_000), (float("inf"), 86_400), (1.0, 5), (-1.0, 5), (float("nan"), 5)])
async def test_a_receiver_that_says_when_to_come_again_is_left_alone_so_long_but_a_day_at_most(
    asked_s: float, waits_s: float, time: HandTime, outbox: EventsInMemory, relay_to: Start
) -> None:
    outbox.put_many(5)
    failing = str(outbox.rows[1].event_id)
    hook = Unordered()
    hook.fails[failing] = TryLater("429", retry_after_s=asked_s)
    relay_to(hook, jitter=lambda: 0.0)
    await time.until(lambda: len(hook.got) == 4, within_s=1)
    await time.leap(waits_s - 2)
    await time.advance(1)
    assert hook.tried.count(failing) == 1
    hook.fails.clear()
    await time.until(lambda: not outbox.rows, within_s=3)


async def test_a_receiver_that_takes_nothing_and_says_when_to_come_again_is_not_tried_at_once(
    time: HandTime, outbox: EventsInMemory, relay_to: Start
) -> None:
    outbox.put_many(5)
    hook = Unordered()
    hook.fails = {str(event.event_id): TryLater("503", retry_after_s=100) for event in outbox.rows}
    relay_to(hook)
    await time.advance(99)
    assert len(hook.tried) == 5
    hook.fails.clear()
    await time.until(lambda: len(hook.got) == 5, within_s=3)


async def test_an_event_refused_in_a_part_of_a_batch_goes_to_the_dead_letters(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(5)
    refused = outbox.rows[1].event_id
    hook = Unordered()
    hook.fails[str(refused)] = DeliveryRefused("413")
    relay_to(hook)
    await time.until(lambda: not outbox.rows, within_s=1)
    assert outbox.dead == {("hook", refused): "DeliveryRefused: 413"}
    assert len(hook.got) == 4


async def test_an_outage_of_a_sink_without_order_buries_nothing_however_long(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(2_000)
    hook = Unordered()
    hook.fails = {str(event.event_id): OSError("down") for event in outbox.rows}
    relay_to(hook)
    await time.advance(60)
    for _ in range(40):
        await time.leap(RETRY_WAITS_S[-1])
        await time.advance(2)
    assert outbox.dead == {}
    assert len(outbox.rows) == 2_000
    hook.fails.clear()
    await time.advance(BACKOFF_MAX_S + 60)
    await time.leap(RETRY_WAITS_S[-1] * 1.2)
    await time.until(lambda: not outbox.rows, within_s=60)
    assert len(hook.got) == 2_000


async def test_events_that_are_tried_by_themselves_outlive_an_outage_of_weeks(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(4)
    hook = Unordered()
    hook.fails = {str(event.event_id): OSError("down") for event in outbox.rows}
    relay_to(hook)
    await time.advance(120)
    assert len(outbox.retries) == 4
    for _ in range(20):
        await time.leap(RETRY_WAITS_S[-1] * 1.2)
        await time.advance(2)
    assert outbox.dead == {}
    hook.fails.clear()
    await time.leap(OUTAGE_RETRY_S * 1.2)
    await time.until(lambda: len(hook.got) == 4, within_s=60)


async def test_events_that_never_can_be_taken_do_not_hold_back_the_others_for_ever(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(20)
    hook = Unordered()
    hook.fails = {str(event.event_id): OSError("500") for event in outbox.rows}
    relay_to(hook, jitter=lambda: 0.0)
    await time.advance(3)
    outbox.put_many(20)
    await time.until(lambda: len(hook.got) == 20, within_s=(WHOLE_FAILURES_MAX + 20) * BACKOFF_MAX_S)


async def test_a_sink_whose_receiver_is_gone_is_disabled_and_keeps_its_events(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    gone, good = SinkDouble("gone"), SinkDouble("good")
    gone.failures = [SinkGone("410")]
    outbox.put_many(3)
    relay_to(gone, good)
    await time.advance(100)
    assert (gone.deliveries, len(good.got), outbox.disabled) == (1, 3, {"gone"})
    outbox.disabled.clear()
    await time.until(lambda: not outbox.rows, within_s=LOOK_EVERY_S + BACKOFF_MAX_S)
    assert gone.sequences() == [1, 2, 3]


class Choosy(Unordered):
    """Wants decisions only."""

    def wants(self, event_type: str) -> bool:
        return event_type == "paynow.payment.decided"


async def test_events_that_a_sink_does_not_want_are_passed_over_and_make_no_outage_look_like_a_part_of_one(
    time: HandTime, outbox: EventsInMemory, meters: MetersDouble, relay_to: Start
) -> None:
    for number in range(1, 41):
        event = an_event("c_0", number)
        outbox.put(event if number % 4 else replace(event, type="paynow.case.resolved"))
    hook = Choosy()
    hook.fails = {str(event.event_id): OSError("down") for event in outbox.rows}
    relay_to(hook)
    await time.advance(0.5)
    assert not outbox.retries, "nothing was taken: an outage"
    hook.fails.clear()
    await time.until(lambda: not outbox.rows)
    assert len(hook.got) == 30
    assert meters.delivered == {"hook": 30}


class Late(Exception):
    """There was no time left."""

    tried = False


class Slow(Unordered):
    """Gets to no more than seven events in the time of a delivery."""

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> None:
        self.fails = {event["id"]: Late() for event in events[7:]}
        await super().deliver(events)


async def test_a_slow_sink_gets_batches_that_it_can_take(time: HandTime, outbox: EventsInMemory, relay_to: Start) -> None:
    outbox.put_many(400)
    slow = Slow()
    relay_to(slow)
    await time.until(lambda: len(slow.got) == 400)
    assert len(slow.tried) <= 3 * 400
    assert not outbox.dead
