"""The two steps that write, on a real PostgreSQL: who may settle, what a repetition gets, and what holds when two come at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg2
import psycopg2.errors
import pytest

from database import execute
from paynow.errors import InternalFault, StoreUnavailable
from paynow.ids import new_id
from paynow.payments.fingerprint import fingerprint
from paynow.plugin_api import Balance, Limit, Payment
from paynow.store import Store
from paynow.store.records import Case, ClaimRequest, Finished, Settlement
from service import balance, open_account
from waiting import meanwhile

POLICY = "0" * 32
OTHER_POLICY = "1" * 32
HELD = "select count(*) from pg_locks where not granted"


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store on a fresh database in which `c_1` has 100.00 USD; leases hold for a minute."""
    open_account(database, "c_1", 10_000)
    opened = Store(database, connections_max=8, lease_s=60, acquire_timeout_s=5, statement_timeout_s=5)
    for version in (OTHER_POLICY, POLICY):
        await opened.administration.activate_policy(version, "", "test")
    yield opened
    await opened.close()


def claim_of(key: str = "k-1", *, amount_minor: int = 100, customer_id: str = "c_1", policy: str = POLICY) -> ClaimRequest:
    payment = Payment(new_id(customer_id), customer_id, "p_1", amount_minor, "USD")
    return ClaimRequest(payment, key, fingerprint(customer_id, "p_1", amount_minor, "USD"), uuid4().hex, "request-1", policy)


def settlement_of(claim: ClaimRequest, decision: str = "allow", *, case: Case | None = None, pending: bool = False) -> Settlement:
    now = datetime.now(UTC)
    return Settlement(
        claim=claim,
        policy_version=claim.policy_version,
        decision=decision,
        degraded=False,
        decided_at=now,
        reserved_until=now + timedelta(days=1),
        event_id=new_id(claim.payment.customer_id),
        finished=Finished(f'{{"decision":"{decision}","token":"{claim.token}"}}'.encode(), b"{}"),
        case=case,
        case_pending=pending,
    )


async def claimed(store: Store, claim: ClaimRequest) -> ClaimRequest:
    """The claim, which has to be ours."""
    outcome = await store.decisions.claim(claim, None)
    assert outcome.outcome in ("claimed", "taken_over")
    assert outcome.payment_id is not None
    return claim._replace(payment=replace(claim.payment, payment_id=outcome.payment_id))


def run_out(dsn: str) -> None:
    execute(dsn, "update idempotency_keys set lease_until = clock_timestamp() - interval '1 s' where state = 'processing'")


def settled_statistics(dsn: str, query: str) -> int:
    """Statistics that sessions report when they end: those of this store's are made to."""
    execute(dsn, "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and application_name = 'paynow'")
    return execute(dsn, query)[0][0]


def counts(dsn: str) -> tuple[int, ...]:
    tables = ("payments", "outbox", "ledger_entries", "cases")
    return tuple(execute(dsn, f"select count(*) from {table}")[0][0] for table in tables)


async def test_an_old_token_settles_nothing(store: Store, database: str) -> None:
    paused = await claimed(store, claim_of())
    run_out(database)
    successor = await claimed(store, claim_of())
    assert (await store.decisions.settle(settlement_of(paused))).outcome == "fenced"
    assert counts(database) == (0, 0, 1, 0)
    assert balance(database, "c_1") == (10_000, 0)
    settled = await store.decisions.settle(settlement_of(successor))
    assert settled.decision == "allow"
    assert (await store.decisions.settle(settlement_of(paused))).outcome == "fenced", "also after the successor has settled"
    assert balance(database, "c_1") == (9_900, 100)


async def test_a_settle_that_is_repeated_moves_nothing_and_gets_the_first_answer(store: Store, database: str) -> None:
    claim = await claimed(store, claim_of())
    first = await store.decisions.settle(settlement_of(claim))
    assert await store.decisions.settle(settlement_of(claim, "block")) == first
    assert counts(database) == (1, 1, 2, 0)
    assert balance(database, "c_1") == (9_900, 100)


async def test_a_taken_over_claim_keeps_its_payment_id_and_policy_and_counts_no_second_attempt(store: Store, database: str) -> None:
    first = await claimed(store, claim_of(policy=OTHER_POLICY))
    assert (await store.decisions.claim(claim_of(), None)).outcome == "in_flight"
    run_out(database)
    again = await store.decisions.claim(claim_of(), None)
    assert (again.outcome, again.payment_id, again.policy_version) == ("taken_over", first.payment.payment_id, OTHER_POLICY)
    assert (await store.reads.activity(first.payment)).attempts_24h == 1


async def test_an_abandoned_claim_can_be_taken_at_once_but_only_its_holder_abandons_it(store: Store) -> None:
    claim = await claimed(store, claim_of())
    await store.decisions.abandon(claim_of())
    assert (await store.decisions.claim(claim_of(), None)).outcome == "in_flight"
    await store.decisions.abandon(claim)
    assert (await store.decisions.claim(claim_of(), None)).outcome == "taken_over"


async def test_a_run_out_claim_is_not_taken_by_another_payment(store: Store, database: str) -> None:
    await claimed(store, claim_of())
    run_out(database)
    assert (await store.decisions.claim(claim_of(amount_minor=200), None)).outcome == "mismatch"


async def test_a_claim_repeated_with_its_token_is_still_ours(store: Store) -> None:
    claim = await claimed(store, claim_of())
    again = await store.decisions.claim(claim, None)
    assert (again.outcome, again.payment_id) == ("claimed", claim.payment.payment_id)
    assert (await store.reads.activity(claim.payment)).attempts_24h == 1


async def test_of_claims_that_come_at_once_one_gets_the_key_and_the_others_see_it(store: Store, database: str) -> None:
    """The second inserts while the first is not committed: it waits, loses, and must see what its own first look could not."""
    with closing(psycopg2.connect(database)) as first, first.cursor() as cursor:
        insert_claim(cursor, "k-1")
        second = asyncio.create_task(store.decisions.claim(claim_of(), Limit(1, 5)))
        await meanwhile(lambda: execute(database, HELD)[0][0])
        first.commit()
    outcome = await second
    assert outcome.outcome == "in_flight"
    assert (await store.decisions.claim(claim_of("k-2"), Limit(1, 5))).allowance.remaining == 4, "the token it had taken went back"
    assert (await store.reads.activity(claim_of().payment)).attempts_24h == 2, "one for each key"


async def test_a_key_that_becomes_known_while_the_limit_is_asked_is_not_refused(store: Store, database: str) -> None:
    with closing(psycopg2.connect(database)) as first, first.cursor() as cursor:
        cursor.execute("insert into rate_limits (subject, kind, full_at) values ('c_1', 'customer', clock_timestamp() + interval '1 hour')")
        insert_claim(cursor, "k-1")
        second = asyncio.create_task(store.decisions.claim(claim_of(), Limit(1, 1)))
        await meanwhile(lambda: execute(database, HELD)[0][0])
        first.commit()
    assert (await second).outcome == "in_flight"
    assert (await store.decisions.claim(claim_of("k-2"), Limit(1, 1))).outcome == "rate_limited"


async def test_money_that_is_gone_by_the_settle_leaves_the_claim_to_be_settled_otherwise(store: Store, database: str) -> None:
    claims = [await claimed(store, claim_of(f"k-{number}", amount_minor=6_000)) for number in range(2)]
    settled = [await store.decisions.settle(settlement_of(claim)) for claim in claims]
    assert [(one.outcome, one.decision) for one in settled] == [("settled", "allow"), ("short", None)]
    assert counts(database) == (1, 1, 2, 0)
    assert (await store.decisions.settle(settlement_of(claims[1], "block"))).decision == "block"
    assert balance(database, "c_1") == (4_000, 6_000)


async def test_settles_of_one_customer_at_once_never_give_more_than_there_is(store: Store, database: str) -> None:
    claims = [await claimed(store, claim_of(f"k-{number}", amount_minor=3_000)) for number in range(8)]
    settled = await asyncio.gather(*(store.decisions.settle(settlement_of(claim)) for claim in claims))
    assert sorted(one.outcome for one in settled) == ["settled"] * 3 + ["short"] * 5
    assert balance(database, "c_1") == (1_000, 9_000)
    assert execute(database, "select array_agg(sequence order by position) from outbox") == [(list(range(1, 4)),)]


async def test_a_batch_settles_those_it_can_and_leaves_no_trace_of_the_others(store: Store, database: str) -> None:
    """The first two leave alone; the six others meet in one batch."""
    for customer in ("c_first", "c_second", "c_paid", "c_fenced", "c_poor", "c_review"):
        open_account(database, customer, 1_000)
    claims = {
        customer: await claimed(store, claim_of(customer_id=customer, amount_minor=2_000 if customer == "c_poor" else 100))
        for customer in ("c_first", "c_second", "c_paid", "c_fenced", "c_poor", "c_review", "c_stranger", "c_unknown")
    }
    claims["c_fenced"] = claims["c_fenced"]._replace(token=uuid4().hex)
    decisions = {"c_review": "review", "c_stranger": "block"}
    settled = await asyncio.gather(*(store.decisions.settle(settlement_of(claim, decisions.get(name, "allow"))) for name, claim in claims.items()))
    assert {name: one.outcome for name, one in zip(claims, settled, strict=True) if one.outcome != "settled"} == {
        "c_fenced": "fenced",
        "c_poor": "short",
        "c_unknown": "short",
    }
    columns = "customer_id, available, reserved, entry_seq, allowed_count, allowed_sum, usual_count, allowed_tick > 0"
    assert execute(database, f"select {columns} from accounts order by 1") == [
        ("c_1", 10_000, 0, 1, 0, 0, 0, False),
        ("c_fenced", 1_000, 0, 1, 0, 0, 0, False),
        ("c_first", 900, 100, 2, 1, 100, 1, True),
        ("c_paid", 900, 100, 2, 1, 100, 1, True),
        ("c_poor", 1_000, 0, 1, 0, 0, 0, False),
        ("c_review", 1_000, 0, 1, 0, 0, 0, False),
        ("c_second", 900, 100, 2, 1, 100, 1, True),
    ]
    numbered = execute(database, "select customer_id, event_seq from customers where event_seq > 0 order by 1")
    assert numbered == [("c_first", 1), ("c_paid", 1), ("c_review", 1), ("c_second", 1), ("c_stranger", 1)]
    assert execute(database, "select customer_id, sequence from outbox order by 1") == numbered
    assert counts(database) == (5, 5, 10, 0)


async def test_a_locked_customer_keeps_nobody_else_from_being_settled(database: str) -> None:
    """An import holds its customers for as long as it takes: the payments that meet one of them in a batch are settled without it."""
    opened = Store(database, connections_max=8, lease_s=60, lanes=1)
    await opened.administration.activate_policy(POLICY, "", "test")
    try:
        for customer in ("c_held", "c_other", "c_third"):
            open_account(database, customer, 1_000)
        claims = [await claimed(opened, claim_of(customer_id=customer)) for customer in ("c_held", "c_other", "c_third")]
        with closing(psycopg2.connect(database)) as holder, holder.cursor() as cursor:
            cursor.execute("select from customers where customer_id = 'c_held' for no key update")
            held, *others = await asyncio.gather(*(opened.decisions.settle(settlement_of(claim)) for claim in claims), return_exceptions=True)
        assert isinstance(held, StoreUnavailable), "nothing has happened for it, and that is certain"
        assert [other.outcome for other in others] == ["settled", "settled"]
        assert (await opened.decisions.settle(settlement_of(claims[0]))).outcome == "settled"
    finally:
        await opened.close()


async def test_a_customer_twice_in_one_statement_is_refused(store: Store, database: str) -> None:
    claims = [await claimed(store, claim_of(f"k-{number}")) for number in range(2)]
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor, pytest.raises(psycopg2.errors.InvalidParameterValue):
        cursor.execute(
            "select settle_payments(array['c_1', 'c_1'], array['k-0', 'k-1'], %s::uuid[], %s::uuid[], array['p_1', 'p_1'], array[1, 1], "
            "array['USD', 'USD'], null, null, array['allow', 'allow'], null, null, null, null, null, null, null, null)",
            ([str(claim.token) for claim in claims], [str(claim.payment.payment_id) for claim in claims]),
        )
    assert counts(database) == (0, 0, 1, 0)


async def test_a_claim_brings_along_what_the_tools_would_read_with_its_own_attempt_counted(store: Store, database: str) -> None:
    for customer in ("c_first", "c_second"):
        open_account(database, customer, 1_000)
    settled = claim_of("k-0", customer_id="c_first", amount_minor=300)
    await store.decisions.settle(settlement_of(await claimed(store, settled)))
    requests = [claim_of(f"k-{n}", customer_id=customer, amount_minor=40) for n, customer in enumerate(("c_first", "c_second", "c_none"), 1)]
    for claim, request in zip(await asyncio.gather(*(store.decisions.claim(one, None) for one in requests)), requests, strict=True):
        payment = request.payment
        balance_now, activity_now = await store.reads.balance(payment.customer_id, payment.currency), await store.reads.activity(payment)
        assert claim.seen.balance == balance_now
        assert replace(claim.seen.activity, since_allowed_s=0) == replace(activity_now, since_allowed_s=0), "it goes by steps of 10 s"
    first = (await store.decisions.claim(claim_of("k-9", customer_id="c_first", amount_minor=40), Limit(100, 100))).seen
    assert (first.balance, first.activity.attempts_24h, first.activity.allowed_count) == (Balance(700, 300), 3, 1)


@pytest.mark.parametrize("limit", [None, Limit(1_000, 1_000)], ids=["no limit", "a limit"])
async def test_payments_that_are_claimed_at_once_see_each_other_whatever_their_currency(store: Store, database: str, limit: Limit | None) -> None:
    """The first is held when it has counted its attempt and is about to read: the second, whose rows are others, must not read before it is over."""
    first, second = claim_of("k-1"), claim_of("k-2")
    second = second._replace(payment=replace(second.payment, currency="EUR"))
    with closing(psycopg2.connect(database)) as holder, holder.cursor() as cursor:
        cursor.execute("lock table lists")
        held = asyncio.create_task(store.decisions.claim(first, limit))
        await meanwhile(lambda: execute(database, HELD)[0][0] == 1)
        other = asyncio.create_task(store.decisions.claim(second, limit))
        await meanwhile(lambda: execute(database, HELD)[0][0] == 2)
        holder.rollback()
    seen = [(await claim).seen.activity.attempts_24h for claim in (held, other)]
    assert sorted(seen) == [1, 2]


async def test_a_batch_with_a_known_key_brings_nothing_along(store: Store) -> None:
    known = await claimed(store, claim_of("k-1"))
    opened = [known._replace(token=uuid4().hex), claim_of("k-2")]
    again, new = await asyncio.gather(*(store.decisions.claim(one, None) for one in opened))
    assert (again.outcome, again.seen, new.outcome) == ("in_flight", None, "claimed")


async def test_a_limit_that_ends_within_a_batch_lets_the_first_through_and_leaves_no_trace_of_the_rest(store: Store, database: str) -> None:
    limit = Limit(per_second=0.001, burst=3)
    requests = [claim_of(f"k-{number}") for number in range(8)]
    outcomes = [claim.outcome for claim in await asyncio.gather(*(store.decisions.claim(request, limit) for request in requests))]
    assert sorted(outcomes) == ["claimed"] * 3 + ["rate_limited"] * 5
    assert execute(database, "select count(*) from idempotency_keys") == [(3,)]
    activity = await store.reads.activity(requests[0].payment)
    assert (activity.attempts_1m, activity.attempted_minor_1m) == (3, 300)


async def test_a_batch_that_asks_for_too_much_keeps_its_order(store: Store, database: str) -> None:
    """One batch by itself: nothing but the order within it decides who is refused."""
    requests = [claim_of(f"k-{9 - number}") for number in range(5)]
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "select ordinal, outcome, remaining, wait_s > 0, reset_s > 0 "
            "from claim_payments(%s::text[], %s, %s::bytea[], %s::uuid[], %s::uuid[], %s, "
            "%s::bigint[], %s, %s, %s, interval '60 s', 0.001, 3, false)",
            (
                ["c_1"] * 5,
                [request.key for request in requests],
                [request.fingerprint for request in requests],
                [str(request.payment.payment_id) for request in requests],
                [str(request.token) for request in requests],
                ["p_1"] * 5,
                [100] * 5,
                ["USD"] * 5,
                ["request-1"] * 5,
                [POLICY] * 5,
            ),
        )
        assert sorted(cursor.fetchall()) == [(n, "claimed" if n <= 3 else "rate_limited", 0, True, True) for n in range(1, 6)]
        connection.commit()
    assert (await store.reads.activity(requests[0].payment)).attempts_24h == 3


async def test_refusing_a_flood_writes_nothing(store: Store, database: str) -> None:
    limit = Limit(per_second=0.001, burst=1)
    await store.decisions.claim(claim_of("k-0"), limit)
    written = "select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_user_tables"
    before = settled_statistics(database, written)
    for number in range(20):
        refused = await store.decisions.claim(claim_of(f"flood-{number}"), limit)
        assert refused.outcome == "rate_limited"
        assert refused.allowance.retry_after_s > 900
    assert (await store.decisions.claim(claim_of("k-0"), limit)).outcome == "in_flight", "a known key is not refused"
    assert settled_statistics(database, written) == before


async def test_a_staged_case_opens_with_its_review_and_with_nothing_else(store: Store, database: str) -> None:
    for key, decision in (("k-1", "review"), ("k-2", "block")):
        claim = await claimed(store, claim_of(key))
        await store.decisions.settle(settlement_of(claim, decision, case=Case(new_id("c_1"), b"[]")))
    assert execute(database, "select p.decision from cases join payments p using (customer_id, payment_id)") == [("review",)]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_a_role_that_defaults_to_another_isolation_is_refused(store: Store, database: str, level: str) -> None:
    ours = await claimed(store, claim_of("k-0"))
    name = execute(database, "select current_database()")[0][0]
    execute(database, f"alter database {name} set default_transaction_isolation = '{level}'")
    other = Store(database)
    try:
        with pytest.raises(InternalFault):
            await other.decisions.claim(claim_of(), None)
        with pytest.raises(InternalFault):
            await other.decisions.settle(settlement_of(ours))
    finally:
        await other.close()
    assert execute(database, "select key, state from idempotency_keys") == [("k-0", "processing")]
    assert counts(database) == (0, 0, 1, 0)


async def test_retention_forgets_decided_keys_and_no_other(store: Store, database: str) -> None:
    decided, _ = await claimed(store, claim_of("k-1")), await claimed(store, claim_of("k-2"))
    await store.decisions.settle(settlement_of(decided))
    assert await store.decisions.forget_keys(1, 100) == 0
    execute(database, "update idempotency_keys set claimed_at = claimed_at - interval '2 hours'")
    assert await store.decisions.forget_keys(1, 100) == 1
    assert execute(database, "select key from idempotency_keys") == [("k-2",)]


async def test_a_reservation_that_stands_twice_in_a_batch_ends_once(store: Store, database: str) -> None:
    settled = []
    for key in ("k-1", "k-2"):
        claim = await claimed(store, claim_of(key))
        await store.decisions.settle(settlement_of(claim))
        settled.append(str(claim.payment.payment_id))
    statement = """select outcome from end_reservations(array['c_1', 'c_1'], array[%s, %s]::uuid[], 'captured',
        array[gen_random_uuid(), gen_random_uuid()], 'paynow.reservation.captured', array['{}', '{}'])"""
    assert execute(database, statement, settled[0], settled[0]) == [("ended",), ("already",)]
    assert balance(database, "c_1") == (9_800, 100)
    assert execute(database, "select event_seq from customers where customer_id = 'c_1'") == [(3,)]


def insert_claim(cursor: psycopg2.extensions.cursor, key: str) -> UUID:
    """The same claim by another process, in a transaction that is still open."""
    claim = claim_of(key)
    cursor.execute(
        "select payment_id from claim_payments(%s::text[], %s, %s::bytea[], %s::uuid[], %s::uuid[], %s, %s::bigint[], %s, %s, %s, "
        "interval '60 s', null, null, false)",
        (
            ["c_1"],
            [key],
            [claim.fingerprint],
            [str(claim.payment.payment_id)],
            [str(claim.token)],
            ["p_1"],
            [100],
            ["USD"],
            ["request-0"],
            [POLICY],
        ),
    )
    return cursor.fetchone()[0]
