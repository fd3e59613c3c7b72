"""A policy that is wrong in fact, made the active one beside payments: two workers say so once, and it goes back by itself."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from pathlib import Path

from commands import paynow
from database import execute
from event_forms import faults, strict
from paynow.payments.policy_guard import AUTHOR
from service import UNLIMITED, RunningService, audit, body, open_account, running
from waiting import eventually, eventually_async, meanwhile

GUARD = {
    **UNLIMITED,
    "PAYNOW_POLICY_GUARD__WINDOW": "1m",
    "PAYNOW_POLICY_GUARD__REVIEW_BAND": "[0, 0.5]",
    "PAYNOW_POLICY_GUARD__DECISIONS_MIN": "20",
}
ROLL_BACK = {**GUARD, "PAYNOW_POLICY_GUARD__ROLL_BACK": "true"}
STRICT = '[[rule]]\nid = "all"\nwhen = "payment.amount_minor >= 1"\nthen = "review"\nmessage = "Every payment"\n'
WITHIN_S = 25.0
"""Two looks, each with time to spare."""


def activate(folder: Path, dsn: str, text: str) -> str:
    (folder / "new.toml").write_text(text)
    done = paynow(folder, dsn, "policy", "activate", "new.toml")
    assert done.code == 0, done.err
    return done.out.split()[0]


async def pay(service: RunningService, numbers: itertools.count, count: int = 30) -> Counter[str]:
    async with service.client() as client:

        async def one(number: int) -> str:
            async with client.post("/api/payments/decide", json=body(key=f"k-{number}")) as answer:
                return (await answer.json())["decision"]

        return Counter(await asyncio.gather(*(one(next(numbers)) for _ in range(count))))


async def figures(service: RunningService, *, watched: int) -> dict[str, float] | None:
    """The guard's metrics, once it looks at so many decisions."""
    async with service.client() as client, client.get("/metrics") as answer:
        lines = [line.rsplit(" ", 1) for line in (await answer.text()).splitlines() if line.startswith("paynow_policy_")]
    found = {name: float(value) for name, value in lines}
    return found if found["paynow_policy_watched_decisions"] == watched else None


async def seen_events(service: RunningService, told: list[tuple[str, str, str | None]]) -> bool:
    """Whether the events of policies are these, in this order."""
    async with service.client() as client, client.get("/api/events/recent?limit=200") as answer:
        events = [event for event in (await answer.json())["items"] if event["type"].startswith("paynow.policy.")]
    assert [faults(strict(), event) for event in events] == [[]] * len(events)
    return [(event["type"], event["subject"], event["data"]["rolledBackTo"]) for event in reversed(events)] == told


async def test_a_wrong_policy_is_told_once_by_two_workers_and_goes_back_by_itself(database: str, tmp_path: Path) -> None:
    numbers = itertools.count()
    with running(database, tmp_path, ROLL_BACK, arguments=("--workers", "2")) as service:
        open_account(database, "c_1", 10_000_000)
        assert await pay(service, numbers) == {"allow": 30}
        good = execute(database, "select version from policies where active")[0][0]
        wrong = activate(tmp_path, database, STRICT)
        await meanwhile(lambda: len(service.lines("another policy is the active one")) == 2)
        assert await pay(service, numbers) == {"review": 30}
        (line,) = await meanwhile(lambda: service.lines("the decisions of the active policy have left their band"), within_s=WITHIN_S)
        assert (line["level"], line["policy_version"], line["review_share"], line["rollback"]) == ("WARNING", wrong, 1.0, "done")
        await meanwhile(lambda: len(service.lines("another policy is the active one")) == 4)
        assert await pay(service, numbers) == {"allow": 30}
        told = paynow(tmp_path, database, "policy", "history", "--json").json()
        assert [(one["version"], one["cause"]) for one in told] == [(good, "rolled_back"), (wrong, "activated"), (good, "seeded")]
        assert told[0]["author"] == AUTHOR
        await meanwhile(lambda: service.lines("the decisions of the active policy are back in their band"), within_s=WITHIN_S)
        told = [("paynow.policy.band_left", wrong, good), ("paynow.policy.band_returned", good, None)]
        await eventually_async(lambda: seen_events(service, told))
        assert len(service.lines("the decisions of the active policy have left their band")) == 1
        seen = await eventually_async(lambda: figures(service, watched=30), within_s=WITHIN_S)
        counted = ("paynow_policy_band_left_total", "paynow_policy_rollbacks_total", "paynow_policy_outside_band")
        assert [seen[name] for name in counted] == [1, 1, 0]
        audit(database, tmp_path)


async def test_without_being_asked_to_it_does_not_go_back(database: str, tmp_path: Path) -> None:
    numbers = itertools.count()
    with running(database, tmp_path, GUARD) as service:
        open_account(database, "c_1", 10_000_000)
        wrong = activate(tmp_path, database, STRICT)
        await meanwhile(lambda: service.lines("another policy is the active one"))
        await pay(service, numbers)
        (line,) = await meanwhile(lambda: service.lines("the decisions of the active policy have left their band"), within_s=WITHIN_S)
        assert line["rollback"] == "not_wanted"
        assert execute(database, "select version from policies where active") == [(wrong,)]
        seen = await eventually_async(lambda: figures(service, watched=30), within_s=WITHIN_S)
        assert (seen["paynow_policy_outside_band"], seen['paynow_policy_share{decision="review"}']) == (1, 1)


async def test_when_the_machine_that_guards_dies_another_goes_on(database: str, tmp_path: Path) -> None:
    numbers = itertools.count()
    first = RunningService(database, tmp_path, ROLL_BACK)
    with running(database, tmp_path, ROLL_BACK) as second:
        try:
            open_account(database, "c_1", 10_000_000)
            activate(tmp_path, database, STRICT)
            await meanwhile(lambda: first.lines("another policy is the active one") and second.lines("another policy is the active one"))
            eventually(lambda: execute(database, "select count(*) > 0 from policy_slices s where activation = 2")[0][0])
        finally:
            first.kill()
        assert await pay(second, numbers) == {"review": 30}
        await meanwhile(lambda: second.lines("the decisions of the active policy have left their band"), within_s=WITHIN_S)
        assert execute(database, "select cause from policy_activations order by position") == [("seeded",), ("activated",), ("rolled_back",)]
