"""Policies that judge behind the active one, over decisions that PayNow's own code wrote: none is missed, none counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import psycopg2
import pytest

from bench.past import CANDIDATE, built_in, copy_decisions, matrix_in_sql
from database import execute
from paynow.policy import Policy, compile_policy
from paynow.resources import folder
from paynow.shadow.follower import take_turn
from paynow.store import Store
from paynow.store.shadows import Counted, Following, Position, VerdictCount, following

POLICY = (folder("config") / "policy.toml").read_text(encoding="utf-8")
TOOLS = {name: tool.output for name, tool in built_in("get_balance", "get_risk_signals").items()}
OTHER = CANDIDATE.replace("> 4", "> 1")
SAME_AGAIN = """insert into payments
    (customer_id, payment_id, payee_id, amount_minor, currency, decision, degraded, policy_version, decided_at, answer)
    select customer_id, %s, payee_id, amount_minor, currency, decision, degraded, policy_version, clock_timestamp(), answer
    from payments where decision = 'block' limit 1"""


def compiled(text: str) -> Policy:
    return compile_policy(text, origin="candidate", tools=TOOLS, run_examples=False)


@pytest.fixture
def session(database: str) -> Iterator[Following]:
    with following(database) as opened:
        yield opened


def begin(dsn: str, *texts: str) -> dict[str, Policy]:
    """Candidates that read along from now on, and may read what was decided in the last week."""
    candidates = {policy.version: policy for policy in map(compiled, texts)}
    asyncio.run(_begin(dsn, candidates))
    execute(dsn, "update shadow_policies set counted_from = counted_from - interval '8 days'")
    return candidates


async def _begin(dsn: str, candidates: dict[str, Policy]) -> None:
    store = Store(dsn)
    for version, candidate in candidates.items():
        await store.shadows.begin(version, candidate.text, [rule.id for rule in candidate.rules])
    await store.close()


def read_all(session: Following, candidates: dict[str, Policy], at_once: int = 150) -> int:
    """Turns until nothing is new; how many decisions were read."""
    read = 0
    while turn := take_turn(session, candidates, TOOLS, at_once):
        read += turn
    return read


def counted(dsn: str, version: str) -> list[tuple]:
    statement = """select recorded::text, candidate::text, currency, sum(decisions)::int, sum(amount_minor)::bigint
        from shadow_verdicts where version = %s group by recorded, candidate, currency order by recorded, candidate, currency"""
    return execute(dsn, statement, version)


def behind_s(dsn: str) -> float:
    async def asked() -> float:
        store = Store(dsn)
        (policy,) = await store.shadows.policies()
        await store.close()
        return policy.behind_s

    return asyncio.run(asked())


def totals(dsn: str) -> dict[str, int]:
    return dict(execute(dsn, "select version, decisions::int from shadow_policies"))


def test_what_was_decided_is_counted_as_sql_counts_it(database: str, session: Following) -> None:
    candidates = begin(database, CANDIDATE)
    copy_decisions(database, 1_000, POLICY)
    assert read_all(session, candidates) == 1_000
    (version,) = candidates
    assert counted(database, version) == matrix_in_sql(database)
    fired = dict(execute(database, "select rule, fired::int from shadow_rules order by place"))
    assert list(fired) == [rule.id for rule in candidates[version].rules]
    assert fired["new_payee_in_dollars"] > 0


def test_decisions_before_a_policy_began_are_the_backtests_affair(database: str, session: Following) -> None:
    copy_decisions(database, 50, POLICY)
    candidates = begin(database, CANDIDATE)
    assert read_all(session, candidates) == 0


def test_what_is_settled_first_but_committed_last_is_not_missed(database: str, session: Following) -> None:
    copy_decisions(database, 200, POLICY)
    candidates = begin(database, CANDIDATE)
    with closing(psycopg2.connect(database)) as slow, slow.cursor() as cursor:
        cursor.execute(SAME_AGAIN, (str(uuid4()),))
        execute(database, SAME_AGAIN, str(uuid4()))
        read_all(session, candidates)
        slow.commit()
    read_all(session, candidates)
    assert list(totals(database).values()) == [2]


def test_a_turn_that_dies_counts_nothing_and_the_next_counts_it_once(database: str, session: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = begin(database, CANDIDATE, OTHER)
    copy_decisions(database, 120, POLICY)
    do, advanced = session._do, []

    def dying(name: str, parameters: object) -> list[tuple]:
        if name == "shadow_advance":
            advanced.append(name)
            if len(advanced) == len(candidates):
                raise KeyboardInterrupt
        return do(name, parameters)

    monkeypatch.setattr(session, "_do", dying)
    with pytest.raises(KeyboardInterrupt):
        take_turn(session, candidates, TOOLS)
    assert set(totals(database).values()) == {0}
    assert execute(database, "select count(*) from shadow_verdicts") == [(0,)]
    monkeypatch.undo()
    read_all(session, candidates)
    assert set(totals(database).values()) == {120}


def test_of_two_that_read_the_same_decisions_one_counts_them(database: str, session: Following) -> None:
    candidates = begin(database, CANDIDATE, OTHER)
    copy_decisions(database, 100, POLICY)
    with following(database) as other:
        read = session.next(list(candidates), 60)
        assert other.next(list(candidates), 60) == read, "nothing is held while decisions are judged"
        place = read[1][-1][0]
        counted = [Counted(reader, [], [], place, 60, 0) for reader in read[0]]
        assert session.count(counted)
        assert not other.count(counted)
    read_all(session, candidates)
    assert set(totals(database).values()) == {100}


def test_no_transaction_is_open_while_decisions_are_judged(database: str, session: Following) -> None:
    """Judging takes as long as the processors let it, and whoever waits for the oldest transaction would wait for it."""
    candidates = begin(database, CANDIDATE)
    copy_decisions(database, 20, POLICY)
    session.next(list(candidates), 10)
    state = "select state, backend_xid, backend_xmin from pg_stat_activity where application_name = 'paynow shadow'"
    assert execute(database, state) == [("idle", None, None)]


def test_a_policy_that_comes_later_begins_later_and_one_that_left_goes_on_where_it_was(database: str, session: Following) -> None:
    first = begin(database, CANDIDATE)
    copy_decisions(database, 60, POLICY)
    read_all(session, first)
    second = begin(database, OTHER)
    copy_decisions(database, 40, POLICY, seed=8)
    read_all(session, second)
    both = {**first, **second}
    read_all(session, both, at_once=7)
    assert totals(database) == {next(iter(first)): 100, next(iter(second)): 40}


def test_decisions_of_several_policies_are_told_apart(database: str, session: Following) -> None:
    candidates = begin(database, CANDIDATE)
    copy_decisions(database, 30, POLICY)
    for _ in range(10):
        execute(database, SAME_AGAIN.replace("policy_version, clock", "'other', clock"), str(uuid4()))
    read_all(session, candidates)
    by_policy = execute(database, "select policy_version, sum(decisions)::int from shadow_verdicts group by 1 order by 2")
    assert by_policy == [("other", 10), (compiled(POLICY).version, 30)]


def test_after_a_restore_into_a_younger_cluster_reading_begins_anew(database: str, session: Following) -> None:
    """Transactions are numbered by the cluster: the old place lies far ahead there, and nothing would be read for years."""
    candidates = begin(database, CANDIDATE)
    copy_decisions(database, 20, POLICY)
    read_all(session, candidates)
    brought = "update payments set decided_at = now() - interval '2 minutes', settled_by = "
    execute(database, brought + "'8999999999'; update shadow_policies set read_to = '9000000000'")
    assert read_all(session, candidates) == 0
    assert behind_s(database) == 0, "payments that were brought along wait for nobody"
    execute(database, brought + "(pg_current_xact_id()::text::bigint + 1)::text::xid8")
    execute(database, SAME_AGAIN, str(uuid4()))
    execute(database, "select pg_current_xact_id()")
    assert read_all(session, candidates) == 1
    assert list(totals(database).values()) == [21]


def test_what_cannot_be_read_is_counted_as_such_and_holds_up_nothing(database: str, session: Following) -> None:
    candidates = begin(database, CANDIDATE)
    copy_decisions(database, 20, POLICY)
    execute(database, "update payments set answer = '{}' where payment_id = (select payment_id from payments limit 1)")
    read_all(session, candidates)
    assert execute(database, "select decisions::int, unreadable::int from shadow_policies") == [(20, 1)]


def test_the_index_serves_the_reading_of_a_large_table(database: str, session: Following) -> None:
    candidates = begin(database, CANDIDATE)
    copy_decisions(database, 3_000, POLICY)
    execute(database, "analyze payments")
    (version,) = candidates
    readers, decisions = session.next([version], 1)
    place: Position = decisions[0][0]
    assert session.count([Counted(readers[0], [VerdictCount("p", "allow", "allow", "USD", 1, 0, 5)], [], place, 1, 0)])
    named = {
        "read_to": str(place.settled_by),
        "read_to_payment": place.payment_id,
        "counted_from": "2020-01-01T00:00:00Z",
        "decisions": 10,
    }
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("explain " + session._queries["shadow_decisions"], named)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "payments_settled" in plan, plan
