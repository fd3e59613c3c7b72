"""What nobody came back for is finished, by whichever process looks first, and nothing in its way stops the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing

import orjson
import psycopg2
import pytest
from desk import Desk, Gate, asks_the_balance, compiled, request_of, run_out, says
from psycopg2.extensions import make_dsn

from database import OwnServer, execute
from paynow.payments.completer import AT_ONCE_MAX
from paynow.plugin_api import ToolContext
from paynow.store import migrations
from service import balance, open_account
from waiting import meanwhile

DeskOf = Callable[..., Awaitable[Desk]]
PROCESSING = "select count(*) from idempotency_keys where state = 'processing'"


async def dies_at(desk: Desk, *requests: object) -> None:
    """A process that claims these payments and then dies: its leases run on."""
    gate = Gate()
    desk.look = gate.then("allow")
    deciding = [asyncio.create_task(desk.decide(request)) for request in requests]
    await meanwhile(lambda: gate.waiting == len(requests))
    for one in deciding:
        one.cancel()
    await asyncio.wait(deciding)


@asynccontextmanager
async def looking(desk: Desk) -> AsyncIterator[asyncio.Task[None]]:
    """The completer at its work. It has to end at once when it is cancelled."""
    running = asyncio.create_task(desk.completer.run())
    yield running
    running.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait([running])
    assert running.cancelled()


# ---------------------------------------------------------------- claims


async def test_a_claim_is_finished_after_its_lease_and_not_before(desk_of: DeskOf, database: str) -> None:
    died, desk = await desk_of(), await desk_of()
    await dies_at(died, request_of())
    assert await desk.completer.finish_claims() == 0
    assert execute(database, PROCESSING) == [(1,)]
    claimed_as = execute(database, "select payment_id::text from idempotency_keys")
    run_out(database)
    assert await desk.completer.finish_claims() == 1
    assert balance(database, "c_1") == (9_900, 100)
    assert (len(desk.told), desk.meters["payment_decided", "allow"], desk.meters["completed_claims"]) == (1, 1, 1)
    answer = await desk.decide(request_of())
    assert answer.replayed
    document = orjson.loads(answer.body)
    assert [(document["paymentId"],)] == claimed_as
    assert document["requestId"] == "request-of-k-1", "its own, not the completer's"
    assert await desk.completer.finish_claims() == 0


async def test_a_claim_is_finished_under_the_policy_it_was_made_under(desk_of: DeskOf, database: str) -> None:
    died, stricter = await desk_of(), compiled('default = "block"\n')
    await dies_at(died, request_of())
    await died.store.administration.activate_policy(stricter.version, stricter.text, "test")
    desk = await desk_of(policy=stricter.text)
    assert desk.policies.active.version == stricter.version
    run_out(database)
    assert await desk.completer.finish_claims() == 1
    assert [told.decision for told in desk.told] == ["allow"]


async def test_a_claim_whose_policy_does_not_fit_any_more_is_finished_under_the_active_one(desk_of: DeskOf, database: str) -> None:
    """A tool that its rules read has left the plan since: nobody could ever decide under it."""
    died, desk, gone = await desk_of(), await desk_of(), "9" * 32
    await dies_at(died, request_of())
    rule = '[[rule]]\nid = "gone"\nwhen = "goneTool.score > 1"\nthen = "block"\nmessage = "-"\n'
    execute(database, "insert into policies (version, body, author) values (%s, %s, 'test')", gone, rule)
    execute(database, "update idempotency_keys set policy_version = %s", gone)
    run_out(database)
    assert await desk.completer.finish_claims() == 1
    active = desk.policies.active.version
    assert execute(database, "select policy_version, answer::json ->> 'policyVersion' from payments") == [(active, active)]


async def test_of_two_processes_that_look_at_once_each_claim_is_finished_by_one(desk_of: DeskOf, database: str) -> None:
    died, one, other = await desk_of(), await desk_of(), await desk_of()
    await dies_at(died, *(request_of(f"k-{number}") for number in range(30)))
    run_out(database)
    finished = await asyncio.gather(one.completer.finish_claims(), other.completer.finish_claims())
    assert sum(finished) == len(one.told) + len(other.told) == 30
    assert balance(database, "c_1") == (7_000, 3_000)
    assert execute(database, "select count(*), count(distinct event_id) from outbox") == [(30, 30)]


async def test_a_request_for_the_same_key_waits_for_the_completer_here(desk_of: DeskOf, database: str) -> None:
    died, desk, gate = await desk_of(), await desk_of(), Gate()
    await dies_at(died, request_of())
    run_out(database)
    desk.look = gate.then("allow")
    finishing = asyncio.create_task(desk.completer.finish_claims())
    await gate.reached.wait()
    asking = asyncio.create_task(desk.decide(request_of()))
    await asyncio.sleep(0)
    gate.open()
    assert await finishing == 1
    assert (await asking).replayed
    assert desk.statements["claim"] == 1


async def test_a_claim_that_is_being_decided_in_this_process_is_left_to_it(desk: Desk, database: str) -> None:
    gate = Gate()
    desk.look = gate.then("allow")
    deciding = asyncio.create_task(desk.decide(request_of()))
    await gate.reached.wait()
    run_out(database)
    assert await desk.completer.finish_claims() == 0
    gate.open()
    assert not (await deciding).replayed
    assert desk.statements["claim"] == 1


async def test_a_claim_that_fails_does_not_stop_the_others_and_is_tried_again(
    desk_of: DeskOf, database: str, logged: list[dict[str, object]]
) -> None:
    died, desk = await desk_of(), await desk_of(tools_dsn=make_dsn(database, host="/nowhere"))
    await dies_at(died, *(request_of(f"k-{number}") for number in range(10)))
    run_out(database)
    poisonous = execute(database, "select payment_id::text from idempotency_keys where key = 'k-0'")[0][0]

    async def fails_for_one(context: ToolContext) -> str:
        return await asks_the_balance(context) if str(context.payment.payment_id) == poisonous else "allow"

    desk.look = fails_for_one
    assert await desk.completer.finish_claims() == 9
    assert [line["error"] for line in logged if line["message"] == "an abandoned claim could not be finished yet"] == ["StoreUnavailable"]
    desk.look = says("allow")
    assert await desk.completer.finish_claims() == 1, "its lease was ended, so it need not be waited for"
    assert execute(database, PROCESSING) == [(0,)]


async def test_only_so_many_claims_are_finished_side_by_side(desk_of: DeskOf, database: str) -> None:
    died, desk = await desk_of(), await desk_of()
    await dies_at(died, *(request_of(f"k-{number}") for number in range(20)))
    run_out(database)
    gate, here = asyncio.Event(), []

    async def waits(context: ToolContext) -> str:
        here.append(context.payment)
        await gate.wait()
        return "allow"

    desk.look = waits
    finishing = asyncio.create_task(desk.completer.finish_claims())
    await meanwhile(lambda: len(here) == AT_ONCE_MAX)
    for _ in range(10):
        await desk.store.decisions.knows("c_1", "k-1")
    assert len(here) == AT_ONCE_MAX
    gate.set()
    assert await finishing == 20


# ---------------------------------------------------------------- the other duties


async def test_reservations_past_their_time_give_their_money_back(desk_of: DeskOf, database: str) -> None:
    desk, patient = await desk_of(ttl_s=-1), await desk_of()
    await desk.decide(request_of())
    await patient.decide(request_of("k-2", amount_minor=200))
    assert balance(database, "c_1") == (9_700, 300)
    assert [await desk.completer.expire_reservations() for _ in range(2)] == [1, 0]
    assert balance(database, "c_1") == (9_800, 200)
    assert desk.meters["expired_reservations"] == 1


async def test_cases_that_could_not_be_opened_are_opened_later_with_their_reasons(desk: Desk, database: str) -> None:
    desk.look, desk.opens = says("review"), False
    for key in ("k-1", "k-2"):
        await desk.decide(request_of(key))
    assert await desk.completer.open_cases() == 0
    assert desk.meters["tool_attempt", "open", "error"] == 3, "the first that fails again ends the round"
    desk.opens = True
    assert [await desk.completer.open_cases() for _ in range(3)] == [1, 1, 0], "the next round begins behind what failed"
    reasons = [{"code": "review", "message": "The tool says review"}]
    assert execute(database, "select reasons, status::text from cases") == [(reasons, "open")] * 2


async def test_keys_are_forgotten_when_their_retention_is_over_if_there_is_one(desk_of: DeskOf, database: str) -> None:
    forever, desk = await desk_of(), await desk_of(retention_h=2)
    await desk.decide(request_of())
    execute(database, "update idempotency_keys set claimed_at = claimed_at - interval '1 hour'")
    assert await desk.completer.forget_keys() == 0
    execute(database, "update idempotency_keys set claimed_at = claimed_at - interval '1 hour'")
    assert await forever.completer.forget_keys() == 0
    assert await desk.completer.forget_keys() == 1
    assert execute(database, "select count(*) from payments") == [(1,)]


# ---------------------------------------------------------------- going on


async def test_it_looks_around_again_and_again(desk_of: DeskOf, database: str) -> None:
    died, desk = await desk_of(), await desk_of()
    async with looking(desk):
        await meanwhile(lambda: len(desk.time.slept_s) > 2)
        assert set(desk.time.slept_s) == {1}
        await dies_at(died, request_of())
        run_out(database)
        await meanwhile(lambda: desk.told)


async def test_it_goes_on_with_its_other_duties_and_with_the_next_round_after_a_refusal(
    desk_of: DeskOf, database: str, logged: list[dict[str, object]]
) -> None:
    died, desk = await desk_of(), await desk_of(ttl_s=-1)
    await desk.decide(request_of("k-0"))
    await dies_at(died, request_of("k-1"))
    run_out(database)
    execute(database, "alter table idempotency_keys rename to gone")
    async with looking(desk):
        await meanwhile(lambda: balance(database, "c_1") == (10_000, 0))
        assert [line["error"] for line in logged if line["message"] == "a duty waits for the store"][:1] == ["internal"]
        execute(database, "alter table gone rename to idempotency_keys")
        await meanwhile(lambda: execute(database, PROCESSING) == [(0,)])


async def test_a_fault_in_one_duty_does_not_end_the_others(desk_of: DeskOf, database: str, logged: list[dict[str, object]]) -> None:
    desk = await desk_of(retention_h=1)
    desk.look, desk.opens = says("review"), False
    await desk.decide(request_of())
    execute(database, "update payments set answer = 'no json'")
    execute(database, "update idempotency_keys set claimed_at = claimed_at - interval '2 hours'")
    async with looking(desk):
        await meanwhile(lambda: execute(database, "select count(*) from idempotency_keys") == [(0,)])
    assert "a duty failed" in [line["message"] for line in logged if line["level"] == "ERROR"]


async def test_it_waits_for_a_server_that_is_away_and_goes_on_when_it_is_back(
    desk_of: DeskOf, own_server: OwnServer, logged: list[dict[str, object]]
) -> None:
    migrations.migrate(own_server.dsn)
    open_account(own_server.dsn, "c_1", 10_000)
    died, desk = await desk_of(own_server.dsn), await desk_of(own_server.dsn)
    await dies_at(died, request_of())
    run_out(own_server.dsn)
    await asyncio.to_thread(own_server.stop_immediate)
    async with looking(desk):
        await meanwhile(lambda: len(desk.time.slept_s) > 2)
        await asyncio.to_thread(own_server.start)
        await meanwhile(lambda: desk.told)
    assert {line["level"] for line in logged if line["message"] == "a duty waits for the store"} == {"WARNING"}


@pytest.mark.parametrize("where", ["asleep", "at a tool", "at the store"])
async def test_it_stops_at_once_when_it_is_cancelled(desk_of: DeskOf, database: str, where: str) -> None:
    died, desk, gate = await desk_of(), await desk_of(), Gate()
    await dies_at(died, request_of())
    run_out(database)
    desk.look = gate.then("allow") if where == "at a tool" else says("allow")
    desk.time.meanwhile = asyncio.Event().wait
    with closing(psycopg2.connect(database)) as locker, locker.cursor() as cursor:
        if where == "at the store":
            cursor.execute("lock table payments")
        async with looking(desk):
            match where:
                case "asleep":
                    await meanwhile(lambda: desk.time.slept_s)
                case "at a tool":
                    await gate.reached.wait()
                case "at the store":
                    await meanwhile(lambda: execute(database, "select count(*) from pg_locks where not granted") != [(0,)])
