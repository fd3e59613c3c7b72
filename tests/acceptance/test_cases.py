"""Cases through the running service: one holder each, money that moves once or not at all, and a history that tells who did what."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import psycopg2
import pytest

from database import contents, execute
from reviews import REVIEWS, clients, everybody, get, make_keys, post, reviewed
from service import RunningService, audit, balance, body, open_account, running
from waiting import eventually_async

MONEY = ("accounts", "ledger_entries", "outbox", "payments", "customers", "known_payees", "cases", "case_history")


@pytest.fixture(scope="module")
def module_environ() -> dict[str, str]:
    return REVIEWS


@pytest.fixture
def service(database: str, tmp_path) -> Iterator[RunningService]:
    """Events stay in the outbox, so that a test can count them. Payments of one customer wait for each other, on a busy machine for long."""
    with running(database, tmp_path, {**REVIEWS, "PAYNOW_EVENTS__SINKS": "[]", "PAYNOW_DATABASE__ACQUIRE_TIMEOUT_MS": "10000"}) as started:
        yield started


@pytest.fixture
async def case_id(service: RunningService) -> AsyncIterator[str]:
    """A review of 20.00 by `c_1`, who has 100.00."""
    open_account(service.dsn, "c_1", 10_000)
    async with service.client() as client:
        yield (await reviewed(client, "c_1", "k-1"))["caseId"]


def resolutions(dsn: str) -> list[tuple]:
    return execute(dsn, "select subject, data ->> 'resolution', sequence from outbox where type = 'paynow.case.resolved' order by position")


async def test_fifty_keys_that_claim_the_same_twenty_cases_at_once_leave_each_with_one_holder(service: RunningService, tmp_path) -> None:
    open_account(service.dsn, "c_1", 100_000)
    keys = await make_keys(service.dsn, 50)
    ids = {key_id for key_id, _ in keys}
    async with service.client() as client:
        wanted = [(await reviewed(client, "c_1", f"k-{number}"))["caseId"] for number in range(20)]
    async with clients(service, keys) as analysts:
        for analyst in analysts:  # every key is known before the rush
            await get(analyst, "/api/cases?limit=1")
        rush = await asyncio.gather(*(everybody(analysts, f"/api/cases/{case}/claim") for case in wanted))
        for case, answers in zip(wanted, rush, strict=True):
            assert Counter(status for status, _ in answers) == {200: 1, 409: 49}
            (holder,) = {answer["holder"] for status, answer in answers if status == 200}
            refused = [answer for status, answer in answers if status == 409]
            assert holder in ids
            assert {(answer["code"], answer["heldBy"], answer["status"], answer["retryable"]) for answer in refused} == {
                ("case_held", holder, 409, False)
            }
            shown = await get(analysts[0], f"/api/cases/{case}")
            assert (shown["status"], shown["holder"], [act["keyId"] for act in shown["history"]]) == ("claimed", holder, [holder])
    audit(service.dsn, tmp_path)


async def test_a_repeat_by_the_holder_is_harmless_and_unclaiming_opens_the_case_to_others(service: RunningService, case_id: str) -> None:
    (one, other) = keys = await make_keys(service.dsn, 2)
    (admin,) = await make_keys(service.dsn, 1, ("cases:write", "cases:admin"))
    path = f"/api/cases/{case_id}"
    async with clients(service, [*keys, admin]) as (first, second, chief):
        claimed = await post(first, f"{path}/claim")
        assert (claimed[0], claimed[1]["holder"]) == (200, one[0])
        assert await post(first, f"{path}/claim") == claimed
        assert (await post(second, f"{path}/unclaim"))[1]["code"] == "case_held"
        for _ in range(2):
            status, opened = await post(first, f"{path}/unclaim")
            assert (status, opened["status"], opened["holder"], opened["claimedAt"]) == (200, "open", None, None)
        assert (await post(second, f"{path}/claim"))[1]["holder"] == other[0]
        assert (await post(chief, f"{path}/unclaim"))[1]["status"] == "open"
        history = [(act["act"], act["keyId"]) for act in (await get(first, path))["history"]]
    assert history == [("claimed", one[0]), ("unclaimed", one[0]), ("claimed", other[0]), ("unclaimed", admin[0])]


async def test_only_the_holder_resolves_a_claimed_case_and_anybody_an_open_one(service: RunningService, case_id: str) -> None:
    one, other = await make_keys(service.dsn, 2)
    async with clients(service, [one, other]) as (first, second), service.client() as client:
        await post(first, f"/api/cases/{case_id}/claim")
        before = contents(service.dsn)
        for act in ("approve", "decline"):
            status, answer = await post(second, f"/api/cases/{case_id}/{act}")
            assert (status, answer["code"], answer["heldBy"]) == (409, "case_held", one[0])
        assert contents(service.dsn) == before
        assert (await post(first, f"/api/cases/{case_id}/decline"))[1]["status"] == "declined"
        unclaimed = (await reviewed(client, "c_1", "k-2"))["caseId"]
        assert (await post(second, f"/api/cases/{unclaimed}/approve"))[1]["resolvedBy"] == other[0]


async def test_approving_with_too_little_money_moves_nothing_and_leaves_the_case_as_it_was(service: RunningService, tmp_path) -> None:
    open_account(service.dsn, "c_poor", 1_999)
    keys = await make_keys(service.dsn, 1)
    async with clients(service, keys) as (analyst,), service.client() as client:
        case_id = (await reviewed(client, "c_poor", "k-1"))["caseId"]
        await post(analyst, f"/api/cases/{case_id}/claim")
        before = contents(service.dsn)
        for _ in range(3):
            status, answer = await post(analyst, f"/api/cases/{case_id}/approve")
            assert (status, answer["code"], answer["status"]) == (409, "insufficient_funds", 409)
        after = contents(service.dsn)
        assert {table: after[table] for table in MONEY} == {table: before[table] for table in MONEY}
        execute(
            service.dsn,
            """with paid as (update accounts set available = available + 1, entry_seq = 2 where customer_id = 'c_poor')
            insert into ledger_entries (customer_id, currency, entry_seq, kind, available_change, reserved_change)
            values ('c_poor', 'USD', 2, 'adjust', 1, 0)""",
        )
        assert (await post(analyst, f"/api/cases/{case_id}/approve"))[0] == 200, "with the money it can be approved"
    assert balance(service.dsn, "c_poor") == (0, 2_000)
    audit(service.dsn, tmp_path)


@pytest.mark.parametrize("alone", [True, False], ids=["one key", "twenty keys"])
async def test_twenty_who_approve_at_once_reserve_once_and_tell_it_once(service: RunningService, case_id: str, alone: bool, tmp_path) -> None:
    keys = await make_keys(service.dsn, 1 if alone else 20)
    async with clients(service, keys * 20 if alone else keys) as analysts:
        for analyst in analysts:
            await get(analyst, "/api/cases?limit=1")
        answers = await everybody(analysts, f"/api/cases/{case_id}/approve")
    assert Counter(status for status, _ in answers) == ({200: 20} if alone else {200: 1, 409: 19})
    assert len({str(answer) for status, answer in answers if status == 200}) == 1
    assert {answer["code"] for status, answer in answers if status == 409} <= {"case_resolved"}
    assert execute(service.dsn, "select kind, available_change, reserved_change from ledger_entries where kind <> 'credit'") == [
        ("reserve", -2_000, 2_000)
    ]
    assert balance(service.dsn, "c_1") == (8_000, 2_000)
    assert [row[1:] for row in resolutions(service.dsn)] == [("approved", 2)]
    assert execute(service.dsn, "select act, count(*) from case_history group by 1") == [("approved", 1)]
    audit(service.dsn, tmp_path)


@pytest.mark.parametrize(("end", "state", "money"), [("capture", "captured", (8_000, 0)), ("release", "released", (10_000, 0))])
async def test_what_was_approved_is_captured_or_released_like_any_other(
    service: RunningService, case_id: str, end: str, state: str, money: tuple, tmp_path
) -> None:
    keys = await make_keys(service.dsn, 1)
    async with clients(service, keys) as (analyst,), service.client() as client:
        approved = (await post(analyst, f"/api/cases/{case_id}/approve"))[1]
        payment = f"/api/payments/{approved['paymentId']}"
        shown = await get(client, payment)
        assert (shown["decision"], shown["reservation"]["status"], shown["reservation"]["expiresAt"]) == ("review", "held", approved["reservedUntil"])
        assert (await post(client, f"{payment}/{end}"))[1]["status"] == state
        assert (await post(analyst, f"/api/cases/{case_id}/approve"))[1] == approved, "the answer stays what it was"
        assert (await post(client, f"{payment}/{'release' if end == 'capture' else 'capture'}"))[1]["code"] == "reservation_ended"
    assert balance(service.dsn, "c_1") == money
    audit(service.dsn, tmp_path)


async def test_what_was_approved_expires_like_any_other(database: str, tmp_path) -> None:
    open_account(database, "c_1", 10_000)
    with running(database, tmp_path, {**REVIEWS, "PAYNOW_RESERVATIONS__TTL": "1s"}) as service:
        async with service.client() as client:
            case_id = (await reviewed(client, "c_1", "k-1"))["caseId"]
            assert (await post(client, f"/api/cases/{case_id}/approve"))[0] == 200

            async def expired() -> bool:
                return balance(database, "c_1") == (10_000, 0)

            await eventually_async(expired, within_s=15)
            assert (await get(client, f"/api/cases/{case_id}"))["status"] == "approved"
    audit(database, tmp_path)


async def test_declining_moves_nothing_is_told_once_and_stays(service: RunningService, case_id: str, tmp_path) -> None:
    one, other = await make_keys(service.dsn, 2)
    path = f"/api/cases/{case_id}"
    async with clients(service, [one, other]) as (first, second), service.client() as client:
        declined = await post(first, f"{path}/decline")
        assert (declined[0], declined[1]["status"], declined[1]["reservedUntil"]) == (200, "declined", None)
        before = contents(service.dsn)
        assert await post(first, f"{path}/decline") == declined
        for analyst, act in ((first, "approve"), (second, "decline"), (second, "claim"), (first, "unclaim")):
            status, answer = await post(analyst, f"{path}/{act}")
            assert (status, answer["code"]) == (409, "case_resolved")
        after = contents(service.dsn)
        assert {table: after[table] for table in MONEY} == {table: before[table] for table in MONEY}
        status, answer = await post(client, f"/api/payments/{declined[1]['paymentId']}/capture")
        assert (status, answer["code"]) == (409, "not_reserved")
    assert balance(service.dsn, "c_1") == (10_000, 0)
    assert [row[1:] for row in resolutions(service.dsn)] == [("declined", 2)]
    audit(service.dsn, tmp_path)


async def test_both_are_told_to_the_sinks_in_the_customers_sequence(module_service: RunningService) -> None:
    open_account(module_service.dsn, "c_told", 10_000)
    async with module_service.client() as client:
        cases = [(await reviewed(client, "c_told", f"k-{number}"))["caseId"] for number in range(2)]
        await post(client, f"/api/cases/{cases[0]}/approve")
        await post(client, f"/api/cases/{cases[1]}/decline")

        async def told() -> list[dict]:
            page = await get(client, "/api/events/recent?limit=200")
            events = [event for event in page["items"] if event["data"]["customerId"] == "c_told"]
            return events[::-1] if len(events) == 4 else []

        events = await eventually_async(told)
    assert [int(event["sequence"]) for event in events] == [1, 2, 3, 4]
    approved, declined = events[2:]
    assert approved["type"] == declined["type"] == "paynow.case.resolved"
    assert approved["data"] == {
        "paymentId": approved["subject"],
        "customerId": "c_told",
        "payeeId": "p_1",
        "amount": "20.00",
        "currency": "USD",
        "caseId": cases[0],
        "resolution": "approved",
        "resolvedBy": "environment",
        "reservation": "held",
    }
    assert (declined["data"]["resolution"], declined["data"]["reservation"]) == ("declined", None)


async def test_an_approval_that_died_before_its_answer_gets_the_same_answer_from_another_process(database: str, tmp_path) -> None:
    """Killed in the middle again and again: whatever had happened by then, the repeat ends in one reservation and one event."""
    open_account(database, "c_1", 100_000)
    keys = await make_keys(database, 1)
    environ = {**REVIEWS, "PAYNOW_EVENTS__SINKS": "[]"}
    with running(database, tmp_path, environ) as survivor:
        async with clients(survivor, keys) as (analyst,), survivor.client() as client:
            cases = [(await reviewed(client, "c_1", f"k-{number}"))["caseId"] for number in range(12)]
            dying = RunningService(database, tmp_path, environ)
            async with clients(dying, keys) as (lost,):
                await get(lost, "/api/cases?limit=1")
                under_way = [asyncio.ensure_future(post(lost, f"/api/cases/{case}/approve")) for case in cases]
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                dying.kill()
                first = await asyncio.gather(*under_way, return_exceptions=True)
            again = [await post(analyst, f"/api/cases/{case}/approve") for case in cases]
    assert {status for status, _ in again} == {200}
    assert all(isinstance(before, BaseException) or before == after for before, after in zip(first, again, strict=True))
    assert balance(database, "c_1") == (100_000 - 12 * 2_000, 12 * 2_000)
    assert len(resolutions(database)) == 12
    audit(database, tmp_path)


async def test_everything_at_once_leaves_each_case_with_one_end_and_the_money_right(service: RunningService, tmp_path) -> None:
    """Eight people do what they like to the same cases while their customer pays, captures and releases."""
    open_account(service.dsn, "c_1", 20_000)
    keys = await make_keys(service.dsn, 8)
    draw = random.Random(7)
    async with service.client() as client, clients(service, keys) as analysts:
        cases = [await reviewed(client, "c_1", f"k-{number}") for number in range(15)]

        async def anything(number: int) -> int:
            case = draw.choice(cases)
            if number % 4 == 0:
                return (await post(client, "/api/payments/decide", body("c_1", "1.00", f"more-{number}")))[0]
            if number % 4 == 1:
                return (await post(client, f"/api/payments/{case['paymentId']}/{draw.choice(['capture', 'release'])}"))[0]
            act = draw.choice(["claim", "claim", "unclaim", "approve", "decline", "note", "label"])
            document = {"note": {"note": f"note {number}"}, "label": {"label": draw.choice(["unclear", "confirmed_fraud"])}}.get(act)
            return (await post(draw.choice(analysts), f"/api/cases/{case['caseId']}/{act}", document))[0]

        statuses = Counter(await asyncio.gather(*(anything(number) for number in range(400))))
    assert set(statuses) <= {200, 409}
    resolved = execute(service.dsn, "select count(*) from cases where status in ('approved', 'declined')")[0][0]
    assert resolved > 5
    assert len(resolutions(service.dsn)) == len({row[0] for row in resolutions(service.dsn)}) == resolved
    assert execute(service.dsn, "select count(*) from case_history where act in ('approved', 'declined')") == [(resolved,)]
    audit(service.dsn, tmp_path)


async def test_notes_and_labels_by_anybody_at_any_time_stand_in_the_history(service: RunningService, case_id: str, tmp_path) -> None:
    one, other = await make_keys(service.dsn, 2)
    path = f"/api/cases/{case_id}"
    async with clients(service, [one, other]) as (first, second):
        await post(first, f"{path}/claim")
        for _ in range(2):
            assert (await post(second, f"{path}/note", {"note": "Called the customer\n“genuine”"}))[0] == 200
        await post(first, f"{path}/decline")
        for label in ("unclear", "confirmed_fraud", "confirmed_fraud"):
            assert (await post(second, f"{path}/label", {"label": label}))[1]["label"] == label
        shown = await get(first, path)
        history = [(act["act"], act["keyId"], act.get("note") or act.get("label")) for act in shown["history"]]
        labelled = await get(first, "/api/cases?label=confirmed_fraud")
    assert history == [
        ("claimed", one[0], None),
        ("noted", other[0], "Called the customer\n“genuine”"),
        ("declined", one[0], None),
        ("labelled", other[0], "unclear"),
        ("labelled", other[0], "confirmed_fraud"),
    ]
    assert [case["caseId"] for case in labelled["items"]] == [case_id]
    audit(service.dsn, tmp_path)


@pytest.mark.parametrize(
    ("act", "document", "field"),
    [
        ("note", {}, "note"),
        ("note", {"note": " "}, "note"),
        ("note", {"note": "x" * 2_001}, "note"),
        ("note", {"note": "bell\a"}, "note"),
        ("note", {"note": 5}, "note"),
        ("note", {"note": "x", "by": "y"}, "by"),
        ("label", {"label": "fraud"}, "label"),
        ("label", {"label": None}, "label"),
    ],
)
async def test_what_is_no_note_or_label_is_refused_by_its_field(module_service: RunningService, act: str, document: dict, field: str) -> None:
    async with module_service.client() as client:
        status, answer = await post(client, f"/api/cases/01a20cff-9088-7128-a24b-d23f08244ad5/{act}", document)
    assert (status, [fault["field"] for fault in answer["errors"]]) == (400, [field])


async def test_a_case_that_there_is_not_is_not_found(module_service: RunningService) -> None:
    async with module_service.client() as client:
        for name in ("01a20cff-9088-7128-a24b-d23f08244ad5", "nonsense"):
            for act in ("claim", "unclaim", "approve", "decline"):
                assert (await post(client, f"/api/cases/{name}/{act}"))[1]["code"] == "not_found"


async def test_reading_alone_changes_nothing(service: RunningService, case_id: str) -> None:
    keys = await make_keys(service.dsn, 1, ("cases:read",))
    async with clients(service, keys) as (reader,):
        assert (await get(reader, f"/api/cases/{case_id}"))["history"] == []
        for act in ("claim", "unclaim", "approve", "decline", "note", "label"):
            status, answer = await post(reader, f"/api/cases/{case_id}/{act}", {"note": "x"} if act == "note" else None)
            assert (status, answer["code"]) == (403, "missing_scope")


@pytest.mark.parametrize("statement", ["update case_history set actor = 'me'", "delete from case_history", "truncate case_history"])
async def test_nobody_changes_the_history(service: RunningService, case_id: str, statement: str) -> None:
    async with service.client() as client:
        await post(client, f"/api/cases/{case_id}/claim")
    with pytest.raises(psycopg2.errors.RestrictViolation, match="append-only"):
        execute(service.dsn, statement)
    assert execute(service.dsn, "select act, actor from case_history") == [("claimed", "environment")]
