"""The way of a payment on a real PostgreSQL: who decides, who waits, what is repeated, and what is said when something goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import pytest
from desk import GRANTED, REFUSED, Desk, Gate, Limiter, asks_the_balance, compiled, request_of, run_out, says
from psycopg2.extensions import make_dsn

from database import execute
from paynow.errors import IdempotencyMismatch, InFlight, InternalFault, LimiterUnavailable, OutcomeUnknown, RateLimited, StoreUnavailable
from paynow.payments.decide import Answer
from paynow.plugin_api import Limit, ToolContext
from service import balance
from wire import wire_to

DeskOf = Callable[..., Awaitable[Desk]]
LIMIT = Limit(per_second=1, burst=5)
PAYMENTS = "select count(*) from payments"
EVENTS = "select count(*) from outbox"
KEYS = "select key, state, lease_until > clock_timestamp() from idempotency_keys order by key"


def said(answer: Answer) -> dict:
    return orjson.loads(answer.body)


async def waiting_at(gate: Gate, desk: Desk, verdict: str = "allow", **request: object) -> asyncio.Task[Answer]:
    """A payment whose tool waits at the gate."""
    desk.look = gate.then(verdict)
    deciding = asyncio.create_task(desk.decide(request_of(**request)))
    await gate.reached.wait()
    return deciding


# ---------------------------------------------------------------- one decision


async def test_a_new_payment_is_decided_stored_and_told_once(desk: Desk, database: str) -> None:
    answer = await desk.decide(request_of())
    assert (answer.replayed, answer.limit, said(answer)["decision"]) == (False, None, "allow")
    assert balance(database, "c_1") == (9_900, 100)
    (told,) = desk.told
    assert (str(told.payment_id), told.decision, told.reasons, told.degraded) == (said(answer)["paymentId"], "allow", (), False)
    assert desk.meters["payment_decided", "allow"] == desk.woken == 1


async def test_a_stored_answer_is_given_again_byte_for_byte_and_told_to_nobody(desk_of: DeskOf, database: str) -> None:
    desk, other = await desk_of(), await desk_of()
    first = await desk.decide(request_of())
    for again in (await desk.decide(request_of()), await other.decide(request_of())):
        assert (again.body, again.replayed) == (first.body, True)
    assert len(desk.told) == desk.woken == 1
    assert not other.told
    assert desk.meters["payment_replayed"] == other.meters["payment_replayed"] == 1
    assert execute(database, EVENTS) == [(1,)]


@pytest.mark.parametrize("verdict", ["review", "block"])
async def test_what_is_not_allowed_moves_no_money_and_is_told_with_its_reasons(desk: Desk, database: str, verdict: str) -> None:
    desk.look = says(verdict)
    assert said(await desk.decide(request_of()))["decision"] == verdict
    assert balance(database, "c_1") == (10_000, 0)
    assert [(told.decision, told.reasons) for told in desk.told] == [(verdict, (verdict,))]
    assert execute(database, "select count(*) from cases") == [(int(verdict == "review"),)]


async def test_a_case_that_cannot_be_opened_is_left_for_later(desk: Desk, database: str) -> None:
    desk.look, desk.opens = says("review"), False
    answer = said(await desk.decide(request_of()))
    assert (answer["decision"], answer["caseId"]) == ("review", None)
    assert execute(database, "select case_pending from payments") == [(True,)]


async def test_money_gone_by_the_settle_is_told_as_it_was_stored(desk: Desk, database: str) -> None:
    gate = Gate()
    late = await waiting_at(gate, desk, amount_minor=6_000)
    desk.look = says("allow")
    await desk.decide(request_of("k-2", amount_minor=6_000))
    gate.open()
    assert said(await late)["decision"] == "block"
    assert [(told.decision, told.reasons) for told in desk.told] == [("allow", ()), ("block", ("insufficient_funds",))]
    assert (desk.meters["payment_decided", "allow"], desk.meters["payment_decided", "block"]) == (1, 1)
    assert balance(database, "c_1") == (4_000, 6_000)


# ---------------------------------------------------------------- the same key in this process


async def test_many_at_once_wait_for_the_first_and_ask_postgresql_nothing(desk: Desk, database: str) -> None:
    gate = Gate()
    first = await waiting_at(gate, desk)
    others = [asyncio.create_task(desk.decide(request_of())) for _ in range(20)]
    await asyncio.sleep(0)
    gate.open()
    answers = await asyncio.gather(first, *others)
    assert {answer.body for answer in answers} == {answers[0].body}
    assert [answer.replayed for answer in answers] == [False] + [True] * 20
    assert (desk.statements["claim"], desk.statements["settle"], gate.passed, len(desk.told)) == (1, 1, 1, 1)
    assert desk.meters["payment_replayed"] == 20
    assert balance(database, "c_1") == (9_900, 100)


async def test_who_waits_longer_than_is_configured_is_refused_and_the_first_goes_on(desk_of: DeskOf) -> None:
    desk, gate = await desk_of(wait_s=0.05), Gate()
    first = await waiting_at(gate, desk)
    with pytest.raises(InFlight) as refused:
        await desk.decide(request_of())
    assert refused.value.retry_after_s
    gate.open()
    assert said(await first)["decision"] == "allow"


async def test_when_the_first_ends_without_an_answer_the_next_decides(desk_of: DeskOf, database: str) -> None:
    desk, gate = await desk_of(), Gate()
    first = await waiting_at(gate, desk)
    others = [asyncio.create_task(desk.decide(request_of())) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    run_out(database)
    gate.open()
    answers = await asyncio.gather(*others)
    assert sorted(answer.replayed for answer in answers) == [False, True, True]
    assert execute(database, PAYMENTS) == [(1,)]


@pytest.mark.parametrize("known", ["in flight here", "in flight elsewhere", "stored"])
async def test_another_payment_under_the_key_is_a_mismatch_that_changes_nothing(desk_of: DeskOf, database: str, known: str) -> None:
    desk, gate = await desk_of(), Gate()
    other = desk if known == "in flight here" else await desk_of()
    first = await waiting_at(gate, other)
    if known != "in flight elsewhere":
        asyncio.get_running_loop().call_soon(gate.open)
    if known == "stored":
        await first
    with pytest.raises(IdempotencyMismatch):
        await desk.decide(request_of(amount_minor=200))
    gate.open()
    assert said(await first)["decision"] == "allow"
    assert balance(database, "c_1") == (9_900, 100)
    assert desk.meters["payment_replayed"] == 0


# ---------------------------------------------------------------- the same key elsewhere


async def test_a_key_in_flight_elsewhere_is_looked_at_again_with_growing_pauses_until_time_is_up(desk_of: DeskOf) -> None:
    desk, other, gate = await desk_of(wait_s=2), await desk_of(), Gate()
    first = await waiting_at(gate, other)
    with pytest.raises(InFlight) as refused:
        await desk.decide(request_of())
    assert refused.value.retry_after_s
    assert desk.time.slept_s[:6] == [0.02, 0.04, 0.08, 0.16, 0.2, 0.2]
    assert 1.5 < sum(desk.time.slept_s) < 2
    assert desk.statements["claim"] == len(desk.time.slept_s) + 1
    gate.open()
    assert not (await first).replayed


async def test_who_looks_again_gets_the_answer_of_the_other_process(desk_of: DeskOf) -> None:
    desk, other, gate = await desk_of(), await desk_of(), Gate()
    first = await waiting_at(gate, other)

    async def finish() -> None:
        gate.open()
        await first

    desk.time.meanwhile = finish
    again = await desk.decide(request_of())
    assert (again.body, again.replayed) == ((await first).body, True)
    assert desk.time.slept_s == [0.02]


async def test_a_claim_whose_lease_is_over_is_taken_and_its_process_gives_the_successors_answer(desk_of: DeskOf, database: str) -> None:
    paused, successor, gate, later = await desk_of(), await desk_of(), Gate(), Gate()
    first = await waiting_at(gate, paused)
    claimed_as = execute(database, "select payment_id::text from idempotency_keys")
    run_out(database)
    taking_over = await waiting_at(later, successor)
    gate.open()

    async def finish() -> None:
        later.open()
        await taking_over

    paused.time.meanwhile = finish
    fenced, taken = await first, await taking_over
    assert (fenced.body, fenced.replayed, taken.replayed) == (taken.body, True, False)
    assert [(said(taken)["paymentId"],)] == claimed_as
    assert paused.time.slept_s == [0.02]
    assert (len(paused.told), len(successor.told)) == (0, 1)
    assert (paused.meters["payment_decided", "allow"], paused.woken) == (0, 0)
    assert balance(database, "c_1") == (9_900, 100)


# ---------------------------------------------------------------- trouble


async def test_a_settle_whose_answer_is_lost_is_read_again_before_anything_is_said(desk_of: DeskOf, database: str) -> None:
    """Two answers are lost: the first and that of the pool's own repetition."""
    async with wire_to(database) as wire:
        desk = await desk_of(wire.dsn)
        wire.lose_answers("settle_payments", times=2)
        answer = await desk.decide(request_of())
        assert wire.lost == 2
        assert (said(answer)["decision"], answer.replayed) == ("allow", False)
        assert desk.time.slept_s == [0.02]
        assert len(desk.told) == 1
        assert balance(database, "c_1") == (9_900, 100)


async def test_a_settle_that_stays_unknown_is_told_so_and_never_abandoned(desk_of: DeskOf, database: str) -> None:
    async with wire_to(database) as wire:
        desk = await desk_of(wire.dsn)
        wire.lose_answers("settle_payments", times=4)
        with pytest.raises(OutcomeUnknown):
            await desk.decide(request_of())
        assert wire.lost == 4
        assert desk.statements["abandon"] == 0
        again = await desk.decide(request_of())
        assert (again.replayed, said(again)["decision"]) == (True, "allow")
        assert balance(database, "c_1") == (9_900, 100)


async def test_a_definite_failure_under_a_tool_ends_the_lease_at_once(desk_of: DeskOf, database: str) -> None:
    desk, other = await desk_of(tools_dsn=make_dsn(database, host="/nowhere")), await desk_of()
    desk.look = asks_the_balance
    with pytest.raises(StoreUnavailable):
        await desk.decide(request_of())
    assert execute(database, KEYS) == [("k-1", "processing", False)]
    assert not (await other.decide(request_of())).replayed
    assert not other.time.slept_s


async def test_an_unknown_outcome_of_a_read_leaves_nothing_to_wait_for_either(desk_of: DeskOf, database: str) -> None:
    """Only the settle may have stored a decision; what a tool read before it has no outcome."""
    async with wire_to(database) as wire:
        desk, other = await desk_of(tools_dsn=wire.dsn), await desk_of()
        desk.look = asks_the_balance
        wire.lose_answers("read_balances", times=2)
        with pytest.raises(StoreUnavailable):
            await desk.decide(request_of())
        assert execute(database, KEYS) == [("k-1", "processing", False)]
        assert not (await other.decide(request_of())).replayed


async def test_a_settle_that_postgresql_refuses_ends_the_lease_and_changes_nothing(desk: Desk, database: str) -> None:
    execute(database, "alter table outbox add constraint nothing_more check (false) not valid")
    with pytest.raises(InternalFault):
        await desk.decide(request_of())
    assert execute(database, KEYS) == [("k-1", "processing", False)]
    assert balance(database, "c_1") == (10_000, 0)
    assert not desk.told
    execute(database, "alter table outbox drop constraint nothing_more")
    assert said(await desk.decide(request_of()))["decision"] == "allow"


async def test_a_claim_that_cannot_be_abandoned_is_left_and_the_first_failure_is_told(
    desk_of: DeskOf, database: str, logged: list[dict[str, object]]
) -> None:
    async with wire_to(database) as wire:
        desk = await desk_of(wire.dsn, tools_dsn=make_dsn(database, host="/nowhere"))
        desk.look = asks_the_balance
        wire.lose_answers("abandon_claims", times=2)
        with pytest.raises(StoreUnavailable):
            await desk.decide(request_of())
        assert wire.lost == 2
    assert [line["error"] for line in logged if line["message"] == "a claim could not be abandoned"] == ["outcome_unknown"]


async def test_the_policy_of_the_claim_is_the_one_it_is_decided_under(desk_of: DeskOf, database: str) -> None:
    """Activated while the first process was away: the successor knows the new policy, and decides under the old one."""
    paused, gate = await desk_of(), Gate()
    first = await waiting_at(gate, paused, "review")
    stricter = compiled('default = "block"\n')
    await paused.store.administration.activate_policy(stricter.version, stricter.text, "test")
    successor = await desk_of(policy=stricter.text)
    assert successor.policies.active.version == stricter.version
    first.cancel()
    await asyncio.wait([first])
    run_out(database)
    answer = said(await successor.decide(request_of()))
    assert (answer["decision"], answer["policyVersion"]) == ("allow", paused.policies.active.version)


# ---------------------------------------------------------------- the customer's limit


async def test_a_limiter_outside_the_claim_is_asked_for_new_keys_only(desk_of: DeskOf) -> None:
    limiter = Limiter(GRANTED)
    desk = await desk_of(limiter=limiter, limit=LIMIT)
    first = await desk.decide(request_of())
    assert (first.limit.name, first.limit.remaining, first.limit.burst) == ("customer", 4, 5)
    assert (await desk.decide(request_of())).replayed
    with pytest.raises(IdempotencyMismatch):
        await desk.decide(request_of(amount_minor=200))
    assert limiter.asked == [("customer", "c_1")]


async def test_looks_at_keys_that_wait_share_a_statement_and_each_gets_its_own_answer(desk_of: DeskOf) -> None:
    desk = await desk_of()
    for number in range(3):
        await desk.decide(request_of(f"k-{number}"))
    looks = [("c_1", f"k-{number}") for number in range(100)] + [("c_2", "k-1")]
    known = await asyncio.gather(*(desk.store.decisions.knows(*look) for look in looks))
    assert known == [True] * 3 + [False] * 98
    assert desk.statements["key_known"] < 10


async def test_a_refused_payment_is_told_when_to_come_back_and_leaves_no_key(desk_of: DeskOf, database: str) -> None:
    desk = await desk_of(limiter=Limiter(REFUSED), limit=LIMIT)
    with pytest.raises(RateLimited) as refused:
        await desk.decide(request_of())
    assert (refused.value.retry_after_s, refused.value.told.remaining, refused.value.told.reset_s) == (2.5, 0, 5)
    assert desk.meters["rate_limited", "customer"] == 1
    assert execute(database, KEYS) == []


async def test_a_key_that_becomes_known_while_the_limiter_is_asked_is_not_refused(desk_of: DeskOf) -> None:
    other = await desk_of()

    class Slow(Limiter):
        async def take(self, kind: str, subject: str, limit: Limit):
            await other.decide(request_of())
            return await super().take(kind, subject, limit)

    desk = await desk_of(limiter=Slow(REFUSED), limit=LIMIT)
    assert (await desk.decide(request_of())).replayed
    assert desk.meters["rate_limited", "customer"] == 0


async def test_a_limiter_inside_the_claim_is_not_asked_outside(desk_of: DeskOf, database: str) -> None:
    limiter = Limiter(AssertionError("inside the claim"), inside_claim=True)
    desk = await desk_of(limiter=limiter, limit=Limit(per_second=0.001, burst=1))
    assert (await desk.decide(request_of())).limit.remaining == 0
    with pytest.raises(RateLimited) as refused:
        await desk.decide(request_of("k-2"))
    assert refused.value.retry_after_s == pytest.approx(1000, rel=0.01)
    assert limiter.asked == []
    assert execute(database, PAYMENTS) == [(1,)]


async def test_a_limiter_that_is_down_denies_where_that_is_configured(desk_of: DeskOf, database: str) -> None:
    local = Limiter(GRANTED)
    desk = await desk_of(limiter=Limiter(ConnectionError()), local_limiter=local, limit=LIMIT, limiter_failure="deny")
    with pytest.raises(LimiterUnavailable) as refused:
        await desk.decide(request_of())
    assert refused.value.retry_after_s
    assert (desk.meters["limiter_failed", "deny"], local.asked) == (1, [])
    assert execute(database, KEYS) == []


async def test_a_limiter_that_is_down_is_replaced_by_the_local_one_where_that_is_configured(desk_of: DeskOf) -> None:
    local = Limiter(GRANTED)
    desk = await desk_of(limiter=Limiter(ConnectionError()), local_limiter=local, limit=LIMIT, limiter_failure="local")
    assert (await desk.decide(request_of())).limit.remaining == 4
    local.answer = REFUSED
    with pytest.raises(RateLimited):
        await desk.decide(request_of("k-2"))
    assert local.asked == [("customer", "c_1")] * 2
    assert desk.meters["limiter_failed", "local"] == 2


async def test_a_known_key_is_answered_while_the_limiter_is_down(desk_of: DeskOf) -> None:
    limiter = Limiter(GRANTED)
    desk = await desk_of(limiter=limiter, limit=LIMIT)
    first = await desk.decide(request_of())
    limiter.answer = ConnectionError()
    assert (await desk.decide(request_of())).body == first.body


async def test_the_settle_of_a_fenced_process_takes_no_second_token(desk_of: DeskOf, database: str) -> None:
    limiter = Limiter(GRANTED)
    paused, successor = await desk_of(limiter=limiter, limit=LIMIT), await desk_of()

    async def taken_meanwhile(context: ToolContext) -> str:
        run_out(database)
        await successor.decide(request_of())
        return "allow"

    paused.look = taken_meanwhile
    assert (await paused.decide(request_of())).replayed
    assert limiter.asked == [("customer", "c_1")]
