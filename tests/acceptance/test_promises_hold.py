"""The promises, whatever happens in whatever order: two real services on one database, payments side by side, repeats, ends of reservations,
processes that are killed or overtaken in the middle of a step. After every step all that is stored is what the model says, no more and no less.

`PAYNOW_TEST_EXAMPLES` is how many stories are told; a story that fails is made as short as it can be.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import nullcontext
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path

import aiohttp
import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from database import ALL_DELIVERED
from paynow.money import AMOUNT_MINOR_MAX, to_text
from paynow.store.audit import audit as findings_of
from paynow.store.imports import ImportRefused, OpeningAccount, import_accounts
from promise_draws import CURRENCIES, CUSTOMERS, FIRST_ACCOUNTS, STATE_OF, accounts, any_one, openings, service, several_wishes, some, ways, wishes
from promise_model import Asked, Decided, Model
from service import audit
from two_services import GATES, Gate, Reply, TwoServices, at_once, in_rows
from waiting import eventually, eventually_async

STORIES = int(os.environ.get("PAYNOW_TEST_EXAMPLES", "12"))
STEPS = 30
KILLS_MAX = 1
"""A killed service takes as long to start again as all other steps of a story together."""
PHASES = (hypothesis.Phase.reuse, hypothesis.Phase.generate, hypothesis.Phase.shrink)
LOCK_CUSTOMERS = "insert into customers as c select unnest(%s) on conflict (customer_id) do update set event_seq = c.event_seq"

STATES_AFTER = {
    ("claim", False): (None, None),
    ("claim", True): ("processing", None),
    ("settle", False): ("processing", "processing"),
    ("settle", True): ("decided", "processing"),
}
"""How a batch of payments is stored that was stopped in a step which was committed or not; and how those are that had not come so far."""

stories = count(1)


class Promises(RuleBasedStateMachine):
    """One story. What is drawn never depends on what the services answered, so that a story can be told again."""

    services: TwoServices

    def __init__(self) -> None:
        super().__init__()
        self.services.heal()
        self.model = Model()
        self.name = f"s{next(stories)}"
        self.customers = [f"{self.name}_{customer}" for customer in CUSTOMERS]
        self.keys = count(1)
        self.kills = 0

    # ---- what happens

    @initialize(openings=st.tuples(*[openings] * len(FIRST_ACCOUNTS)))
    def there_are_accounts(self, openings) -> None:
        for account, opening in zip(FIRST_ACCOUNTS, openings, strict=True):
            self.import_account(account, opening, adjust=False)

    @rule(account=accounts, opening=openings, adjust=st.booleans())
    def import_account(self, account, opening, adjust) -> None:
        customer, currency = place = self.place(account)
        expected = self.model.import_outcome(place, opening, adjust)
        try:
            counts = import_accounts(self.services.dsn, [OpeningAccount(1, customer, currency, opening)], adjust=adjust)
        except ImportRefused:
            assert expected is None
        else:
            assert counts == {expected: 1}
            self.model.imported(place, opening, expected)

    @rule(several=several_wishes, copies=st.integers(1, 3), first=service, all_see_the_same=st.booleans())
    def decide(self, several, copies, first, all_see_the_same) -> None:
        """Payments side by side, each asked about as often as there are copies; perhaps none settles before all were judged."""
        payments = self.payments(several)

        async def ask() -> list[list[Reply]]:
            requests = [self.services.decide((first + copy + number) % 2, asked) for copy in range(copies) for number, asked in enumerate(payments)]
            if not all_see_the_same:
                return in_rows(await at_once(*requests), len(payments))
            with self.services.gate(GATES["settle"]) as gate:
                sending = asyncio.ensure_future(at_once(*requests))
                try:
                    await self.stopped(gate, payments)
                finally:
                    gate.let_go()
                return in_rows(await sending, len(payments))

        self.book(payments, self.services.run(ask()))

    @rule(wish=wishes, first=service, requests=st.integers(2, 4))
    def decide_two_payments_under_one_key(self, wish, first, requests) -> None:
        """At once: one of them is decided, and the other is refused wherever it is asked about."""
        (asked,) = self.payments([wish])
        rival = Asked(asked.customer, asked.key, asked.payee, asked.amount + 1, asked.currency)

        async def ask() -> list[Reply]:
            where = cycle([first, 1 - first, 1 - first, first])
            return await at_once(*(self.services.decide(next(where), one) for _ in range(requests) for one in (asked, rival)))

        replies = self.services.run(ask())
        sides = [(asked, replies[::2]), (rival, replies[1::2])]
        (winner, answered), (_, refused) = sides if replies[0].status == 200 else sides[::-1]
        self.book([winner], [answered])
        for reply in refused:
            assert (reply.status, reply.code) == (422, "idempotency_mismatch")

    @rule(which=any_one, where=service, notation=st.sampled_from(["text", "number", "more decimals", "fewer decimals"]))
    def repeat(self, which, where, notation) -> None:
        for one in self.one_of(list(self.model.decided.values()), which):
            written = to_text(one.asked.amount, one.asked.currency)
            if notation == "more decimals":
                written += "0" if "." in written else ".0"
            elif notation == "fewer decimals" and "." in written:
                written = written.rstrip("0").rstrip(".")
            amount = written if notation == "number" else json.dumps(written)
            assert_replayed(one, self.services.run(self.services.decide(where, one.asked, amount=amount)))

    @rule(which=any_one, where=service, other=st.sampled_from(["payee", "amount", "currency"]))
    def repeat_with_another_body(self, which, where, other) -> None:
        for one in self.one_of(list(self.model.decided.values()), which):
            asked = one.asked
            payee = asked.payee + "x" if other == "payee" else asked.payee
            amount = asked.amount + 1 if other == "amount" else asked.amount
            currency = CURRENCIES[CURRENCIES.index(asked.currency) - 1] if other == "currency" else asked.currency
            reply = self.services.run(self.services.decide(where, Asked(asked.customer, asked.key, payee, amount, currency)))
            assert (reply.status, reply.code, reply.replayed) == (422, "idempotency_mismatch", False)
            assert one.payment_id.encode() not in reply.body

    @rule(which=some, ways=ways, first=service, in_line=st.booleans())
    def end(self, which, ways, first, in_line) -> None:
        """One way, or several at once, perhaps all begun before the first is done: one of them holds, and everybody is told of that one."""
        for one in self.chosen(which):
            replies = self.services.run(self.end_at_once(one, ways, first, in_line))
            if one.reservation == "held":
                self.learn_end(one, {STATE_OF[way] for way in ways})
            for way, reply in zip(ways, replies, strict=True):
                if way != "expire":
                    assert_ended(one, way, reply)
            self.end_again([one], first)

    async def end_at_once(self, one: Decided, ways: list[str], first: int, in_line: bool) -> list[Reply | int]:
        where = cycle([first, 1 - first])
        requests = [self.services.expire() if way == "expire" else self.services.end(next(where), one.payment_id, way) for way in ways]
        ending, waiting = [], 0
        with self.services.gate(LOCK_CUSTOMERS, self.customers) if in_line else nullcontext() as gate:
            if "expire" in ways:
                self.services.let_reservations_run_out([one.payment_id])
            if not in_line:
                return await at_once(*requests)
            for way, request in zip(ways, requests, strict=True):
                ending.append(asyncio.ensure_future(request))
                if way != "expire" or one.reservation == "held":
                    waiting += 1
                    await self.services.waiting(gate, waiting)
        return await at_once(*ending)

    @rule(which=some, first=service, once_more=st.booleans())
    def expire_several(self, which, first, once_more) -> None:
        chosen = self.chosen(which)
        self.services.let_reservations_run_out([one.payment_id for one in chosen])
        self.services.run(self.services.expire())
        for one in chosen:
            if one.reservation == "held":
                self.learn_end(one, {"expired"})
        self.end_again(chosen if once_more else [], first)

    def end_again(self, ended: list[Decided], first: int) -> None:
        """Whoever comes later changes nothing."""
        for number, one in enumerate(ended):
            for way, where in (("release", first), ("capture", 1 - first), ("release", 1 - first)):
                assert_ended(one, way, self.services.run(self.services.end((where + number) % 2, one.payment_id, way)))

    def chosen(self, which: list[int]) -> list[Decided]:
        """Some of the payments, each once: of those that are held, and one of each other sort."""
        sorts = {one.reservation: one for one in self.model.decided.values() if one.reservation != "held"}
        return list({one.payment_id: one for number in which for one in self.one_of([*self.model.held, *sorts.values()], number)}.values())

    @precondition(lambda self: self.kills < KILLS_MAX)
    @rule(
        several=several_wishes,
        ends=st.lists(st.tuples(any_one, st.sampled_from(["capture", "release"])), max_size=2),
        victim=service,
        step=st.sampled_from(sorted(GATES)),
        committed=st.booleans(),
        completed=st.booleans(),
        asked_again=service,
    )
    def kill(self, several, ends, victim, step, committed, completed, asked_again) -> None:
        """`kill -9` in the middle of a step, which had been committed or not. Then whoever comes next finishes all of it."""
        self.kills += 1
        payments = self.payments(several)
        held = self.model.held
        # Each reservation once, and none of them where the step that is stopped is not theirs.
        chosen = {one.payment_id: (one, way) for number, way in ends for one in self.one_of(held, number)} if step == "settle" else {}
        freed = Counter()
        for one, way in chosen.values():
            freed[one.asked.account] += one.asked.amount if way == "release" else 0

        async def interrupt() -> None:
            with self.services.gate(GATES[step]) as gate:
                sending = [asyncio.ensure_future(self.services.end(victim, one.payment_id, way)) for one, way in chosen.values()]
                try:
                    if sending:
                        await self.services.waiting(gate, len(sending))
                    sending += [asyncio.ensure_future(self.services.decide(victim, asked)) for asked in payments]
                    await self.stopped(gate, payments if step == "settle" else [], besides=len(chosen))
                    if committed:
                        self.services.pause(victim)
                        gate.let_go()
                        self.services.carried_out()
                finally:
                    await self.services.kill(victim)
                    self.services.end_steps()
                    outcomes = await asyncio.gather(*sending, return_exceptions=True)
                assert all(isinstance(outcome, aiohttp.ClientError) for outcome in outcomes), outcomes

        self.services.run(interrupt())
        stored = self.learn_keys(payments, *STATES_AFTER[step, committed], freed)
        for one, way in chosen.values():
            if committed:
                self.learn_end(one, {STATE_OF[way]})
        self.everything_stored_is_what_the_model_says()

        self.services.let_leases_run_out(self.customers)
        self.services.start(victim)
        if completed:
            eventually(lambda: self.services.finished(self.customers))

        async def ask_again() -> tuple[list[Reply], list[Reply]]:
            return (
                await at_once(*(self.services.decide(asked_again, asked) for asked in payments)),
                await at_once(*(self.services.end(asked_again, one.payment_id, way) for one, way in chosen.values())),
            )

        replies, ended = self.services.run(ask_again())
        unstored = [(asked, reply) for asked, reply in zip(payments, replies, strict=True) if asked.slot not in stored]
        assert all(reply.status == 200 for reply in replies), replies
        self.model.judged([(asked, reply.body) for asked, reply in unstored])
        for asked, reply in zip(payments, replies, strict=True):
            assert reply.body == self.model.decided[asked.slot].answer
            assert reply.replayed or asked.slot not in stored
        for (one, way), reply in zip(chosen.values(), ended, strict=True):
            if one.reservation == "held":
                self.learn_end(one, {STATE_OF[way]})
            assert_ended(one, way, reply)

    @rule(several=several_wishes, late=service, asleep=st.booleans())
    def overtake(self, several, late, asleep) -> None:
        """A service is so late, asleep while it gathers or in its settles, that the other takes its claims over: both say the same."""
        payments = self.payments(several)

        async def race() -> list[Reply]:
            with self.services.gate(LOCK_CUSTOMERS, self.customers) as gate:
                sending = asyncio.ensure_future(at_once(*(self.services.decide(late, asked) for asked in payments)))
                try:
                    await self.stopped(gate, payments)
                    self.services.let_leases_run_out(self.customers)
                    overtaking = asyncio.ensure_future(at_once(*(self.services.decide(1 - late, asked) for asked in payments)))
                    await self.stopped(gate, payments, besides=1)
                finally:
                    gate.let_go()
                return [*await sending, *await overtaking]

        async def sleep_over() -> list[Reply]:
            with self.services.dozing(late):
                sending = asyncio.ensure_future(at_once(*(self.services.decide(late, asked) for asked in payments)))
                await eventually_async(partial(self.services.all_claimed, [asked.slot for asked in payments]))
                self.services.let_leases_run_out(self.customers)
                self.services.pause(late)
            try:
                overtaking = await at_once(*(self.services.decide(1 - late, asked) for asked in payments))
            finally:
                self.services.resume(late)
            return [*await sending, *overtaking]

        # A completer may have been there before the other service was asked: then nobody is the first to hear of it.
        replies = self.services.run(sleep_over() if asleep else race())
        self.book(payments, in_rows(replies, len(payments)), first_hearers={0, 1})

    @rule(several=several_wishes, where=service, step=st.sampled_from(sorted(GATES)))
    def lose_connections(self, several, where, step) -> None:
        """PostgreSQL ends sessions in the middle of a step. Who is not answered asks again, and all get the one decision."""
        payments = self.payments(several)

        async def ask() -> tuple[list[Reply], list[Reply]]:
            with self.services.gate(GATES[step]) as gate:
                sending = asyncio.ensure_future(at_once(*(self.services.decide(where, asked) for asked in payments)))
                try:
                    self.services.terminate(await self.stopped(gate, payments if step == "settle" else []))
                finally:
                    gate.let_go()
                told = await sending
            self.services.let_leases_run_out(self.customers)
            return told, await at_once(*(self.services.decide(1 - where, asked) for asked in payments))

        told, again = self.services.run(ask())
        assert {reply.status for reply in again} == {200}
        for before, after in zip(told, again, strict=True):
            assert before.status == 503 or (before.status, before.body) == (200, after.body)
            assert after.replayed or before.status == 503
        self.model.judged([(asked, reply.body) for asked, reply in zip(payments, again, strict=True)])

    # ---- what must be so

    @invariant()
    def everything_stored_is_what_the_model_says(self) -> None:
        differences = self.services.facts(self.customers).differences(self.model.facts())
        assert not differences, "\n".join(f"{name}: stored {stored}, should be {should}" for name, (stored, should) in differences.items())

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:
            return  # The story has ended early; that is what there is to tell.
        decided = list(self.model.decided.values())
        replies = self.services.run(at_once(*(self.services.decide(number % 2, one.asked) for number, one in enumerate(decided))))
        for one, reply in zip(decided, replies, strict=True):
            assert_replayed(one, reply)
        self.everything_stored_is_what_the_model_says()
        _, findings = findings_of(self.services.dsn)
        offenders = [offender for finding in findings for offender in finding.shown if offender.subject.startswith(self.name)]
        assert not offenders

    # ---- how the model learns

    def book(self, payments: list[Asked], replies: list[list[Reply]], *, first_hearers: Set[int] = frozenset({1})) -> None:
        """Several answers to each payment: the same bytes, and so many that are not marked as given before."""
        for answers in replies:
            assert {reply.status for reply in answers} == {200}, answers
            assert len({reply.body for reply in answers}) == 1, answers
            assert sum(not reply.replayed for reply in answers) in first_hearers, answers
        self.model.judged([(asked, answers[0].body) for asked, answers in zip(payments, replies, strict=True)])

    def learn_keys(self, payments: list[Asked], state: str | None, before: str | None, freed: Counter) -> set:
        """What was stored of payments that nobody was answered: those whose batch was stopped are in this state, others still in the one before.

        Returns the keys that were decided.
        """
        facts = self.services.facts(self.customers)
        states = {asked: facts.keys.get(asked.slot, (None,))[0] for asked in payments}
        assert state in states.values()
        assert set(states.values()) <= {state, before}
        decided = [asked for asked in payments if states[asked] == "decided"]
        self.model.claimed |= {asked.slot: (asked, facts.keys[asked.slot][1]) for asked in payments if states[asked] == "processing"}
        self.model.judged([(asked, facts.payments[facts.keys[asked.slot][1]][3]) for asked in decided], freed)
        return {asked.slot for asked in decided}

    async def stopped(self, gate: Gate, claimed: list[Asked], *, besides: int = 0) -> list[int]:
        """Waits until these are claimed and a batch of payments stands at the gate, besides so many other sessions. Other batches wait their turn."""
        await eventually_async(partial(self.services.all_claimed, [asked.slot for asked in claimed]))
        return await self.services.waiting(gate, besides + 1)

    def learn_end(self, one: Decided, possible: set[str]) -> None:
        """A held reservation should have ended in one of these ways: which?"""
        state = self.services.facts(self.customers).payments[one.payment_id][2]
        assert state in possible
        self.model.ended(one, state)

    # ---- what is drawn, made out

    def place(self, account: tuple[str, str]) -> tuple[str, str]:
        customer, currency = account
        return f"{self.name}_{customer}", currency

    def payments(self, several: list) -> list[Asked]:
        made = []
        for account, payee, (part, of), more in several:
            customer, currency = place = self.place(account)
            amount = min(max(1, self.model.available(place) * part // of + more), AMOUNT_MINOR_MAX)
            made.append(Asked(customer, f"k-{next(self.keys)}", payee, amount, currency))
        return made

    @staticmethod
    def one_of(things: list, which: int = 0) -> Iterator:
        """One of them, if there is any."""
        yield from islice(things, which % len(things), which % len(things) + 1) if things else ()


def assert_replayed(one: Decided, reply: Reply) -> None:
    assert (reply.status, reply.body, reply.replayed) == (200, one.answer, True)


def assert_ended(one: Decided, way: str, reply: Reply) -> None:
    """Whoever wants to capture or release is told how it ended, always in the same bytes, or that it ended otherwise."""
    if one.reservation is None:
        assert (reply.status, reply.code) == (409, "not_reserved")
    elif one.reservation == STATE_OF[way] or (way, one.reservation) == ("release", "expired"):
        assert reply.status == 200
        assert (json.loads(reply.body)["status"], json.loads(reply.body)["paymentId"]) == (one.reservation, one.payment_id)
        one.ended = one.ended or reply.body
        assert reply.body == one.ended
    else:
        assert (reply.status, reply.code) == (409, "reservation_ended")


@pytest.fixture
def services(database: str, tmp_path: Path) -> Iterator[TwoServices]:
    both = TwoServices(database, tmp_path)
    try:
        yield both
    finally:
        codes = both.close()
    assert set(codes) <= {0, -signal.SIGKILL}


def test_the_promises_hold_whatever_happens(services: TwoServices, tmp_path: Path) -> None:
    class OnTheseServices(Promises):
        pass

    OnTheseServices.services = services
    settings = hypothesis.settings(max_examples=STORIES, stateful_step_count=STEPS, phases=PHASES, suppress_health_check=list(hypothesis.HealthCheck))
    run_state_machine_as_test(OnTheseServices, settings=settings)
    eventually(lambda: services.execute(ALL_DELIVERED)[0][0])
    for customer, sequences in services.delivered().items():
        assert sequences == list(range(1, len(sequences) + 1)), customer
    audit(services.dsn, tmp_path)
