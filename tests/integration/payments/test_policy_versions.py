"""Which policy rules, and how earlier ones are found again."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from desk import POLICY, compiled
from psycopg2.extensions import make_dsn

from database import execute
from paynow.clock import Clock
from paynow.errors import ConfigurationFault, ConfigurationRefused, InternalFault, Refusal
from paynow.payments import policy_versions
from paynow.payments.policy_versions import VERSIONS_KEPT_MAX, PolicyVersions
from paynow.policy import Policy
from paynow.store import Store
from waiting import meanwhile


class Shelf:
    """Policy versions over a real store. `asked` counts its statements, `compiled` the versions in the order in which they were compiled."""

    def __init__(self, dsn: str) -> None:
        self.asked: Counter[str] = Counter()
        self.compiled: list[str] = []
        self.refuses = False
        self.fails = False
        self.met: list[bool] = []
        self.threads: list[threading.Thread] = []
        self.store = Store(dsn, acquire_timeout_s=5, observe=lambda step, seconds, outcome: self.asked.update([step]))
        self.versions = PolicyVersions(self.store.administration, self._compile, self, Clock())

    def policy_taken(self, taken: bool) -> None:
        self.met.append(taken)

    async def put(self, *policies: Policy) -> None:
        """Each was the active one; the last still is."""
        for policy in policies:
            await self.store.administration.activate_policy(policy.version, policy.text, "test")

    def _compile(self, text: str, origin: str, *, run_examples: bool = True) -> Policy:
        if self.fails:
            raise RuntimeError("nobody foresaw this")
        if self.refuses:
            raise ConfigurationRefused([ConfigurationFault(origin, "", "does not fit")])
        self.compiled.append(origin.rsplit(maxsplit=1)[-1])
        self.threads.append(threading.current_thread())
        return compiled(text, run_examples=run_examples)


@pytest.fixture
async def shelf(database: str) -> AsyncIterator[Shelf]:
    made = Shelf(database)
    yield made
    await made.store.close()


OURS = compiled(POLICY)
OTHERS = [compiled(f"{POLICY}\n# {number}\n") for number in range(VERSIONS_KEPT_MAX + 2)]
OTHER = OTHERS[0]


async def test_the_file_seeds_an_empty_database(shelf: Shelf, database: str, logged: list[dict[str, object]]) -> None:
    await shelf.versions.start(OURS)
    assert shelf.versions.active is OURS
    assert execute(database, "select version, body, active from policies") == [(OURS.version, OURS.text, True)]
    assert not logged


async def test_then_the_database_rules_and_a_file_that_differs_is_a_warning(shelf: Shelf, logged: list[dict[str, object]]) -> None:
    await shelf.put(OTHER)
    await shelf.versions.start(OURS)
    assert (shelf.versions.active.version, shelf.versions.active.text) == (OTHER.version, OTHER.text)
    assert [(line["level"], line["policy_version"]) for line in logged] == [("WARNING", OTHER.version)]


async def test_a_file_that_is_the_active_policy_is_not_compiled_again(shelf: Shelf, logged: list[dict[str, object]]) -> None:
    await shelf.put(OTHER, OURS)
    await shelf.versions.start(OURS)
    assert shelf.versions.active is OURS
    assert not shelf.compiled
    assert not logged


async def test_an_active_policy_that_does_not_fit_any_more_stops_the_start(shelf: Shelf) -> None:
    await shelf.put(OTHER)
    shelf.refuses = True
    with pytest.raises(ConfigurationRefused, match=OTHER.version):
        await shelf.versions.start(OURS)


async def test_an_earlier_policy_is_loaded_and_compiled_once(shelf: Shelf) -> None:
    await shelf.put(OTHER, OURS)
    await shelf.versions.start(OURS)
    first = await shelf.versions.get(OTHER.version)
    assert (first.version, first.text) == (OTHER.version, OTHER.text)
    assert await shelf.versions.get(OTHER.version) is first
    assert (shelf.compiled, shelf.asked["policy"]) == ([OTHER.version], 1)


async def test_many_who_ask_at_once_share_one_load_whoever_of_them_goes_away(shelf: Shelf) -> None:
    await shelf.put(OTHER, OURS)
    await shelf.versions.start(OURS)
    leaving, *staying = [asyncio.create_task(shelf.versions.get(OTHER.version)) for _ in range(20)]
    await asyncio.sleep(0)
    leaving.cancel()
    assert len(set(map(id, await asyncio.gather(*staying)))) == 1
    assert leaving.cancelled()
    assert (shelf.compiled, shelf.asked["policy"]) == ([OTHER.version], 1)


async def test_a_version_never_active_is_a_fault_and_is_found_once_it_is_there(shelf: Shelf) -> None:
    await shelf.versions.start(OURS)
    for _ in range(2):
        with pytest.raises(InternalFault):
            await shelf.versions.get(OTHER.version)
    assert shelf.asked["policy"] == 2
    await shelf.put(OTHER)
    assert (await shelf.versions.get(OTHER.version)).version == OTHER.version


async def test_the_active_policy_stands_in_for_an_earlier_one_that_does_not_fit_any_more(shelf: Shelf) -> None:
    await shelf.put(OTHER, OURS)
    await shelf.versions.start(OURS)
    shelf.refuses = True
    for _ in range(2):
        assert await shelf.versions.get(OTHER.version) is OURS
    shelf.refuses = False
    assert (await shelf.versions.get(OTHER.version)).version == OTHER.version


async def test_only_so_many_earlier_policies_are_kept_and_the_active_one_always(shelf: Shelf) -> None:
    await shelf.put(*OTHERS, OURS)
    await shelf.versions.start(OURS)
    for other in OTHERS:
        await shelf.versions.get(other.version)
    assert await shelf.versions.get(OURS.version) is OURS
    assert shelf.asked["policy"] == len(OTHERS)
    await shelf.versions.get(OTHERS[-1].version)
    assert shelf.asked["policy"] == len(OTHERS), "the last is still known"
    await shelf.versions.get(OTHERS[0].version)
    assert shelf.asked["policy"] == len(OTHERS) + 1, "the first has gone"


@asynccontextmanager
async def following(shelf: Shelf) -> AsyncIterator[None]:
    task = asyncio.create_task(shelf.versions.follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def listeners(dsn: str) -> int:
    return execute(dsn, "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen%%'")[0][0]


async def test_a_policy_that_is_activated_is_taken_at_once_and_the_one_before_is_kept(shelf: Shelf, logged: list[dict[str, object]]) -> None:
    await shelf.versions.start(OURS)
    async with following(shelf):
        await shelf.put(OTHER)
        await meanwhile(lambda: shelf.versions.active.version == OTHER.version)
        asked = shelf.asked["policy"]
        assert await shelf.versions.get(OURS.version) is OURS
        assert shelf.asked["policy"] == asked, "payments under way would have to read their policy again"
    assert shelf.met == [True]
    assert [line["message"] for line in logged] == ["another policy is the active one"]


async def test_a_notice_is_heard_without_looking(shelf: Shelf, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_versions, "LOOK_EVERY_S", 1000.0)
    await shelf.versions.start(OURS)
    async with following(shelf):
        await meanwhile(lambda: listeners(database) == 1)
        await shelf.put(OTHER)
        await meanwhile(lambda: shelf.versions.active.version == OTHER.version)


async def test_a_lost_listener_comes_back_and_misses_nothing(shelf: Shelf, database: str) -> None:
    await shelf.versions.start(OURS)
    async with following(shelf):
        await meanwhile(lambda: listeners(database) == 1)
        execute(database, "select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%%' and pid <> pg_backend_pid()")
        await shelf.put(OTHER)
        await meanwhile(lambda: shelf.versions.active.version == OTHER.version)
        await meanwhile(lambda: listeners(database) == 1)


async def test_a_policy_that_does_not_fit_is_told_once_and_the_next_one_taken(shelf: Shelf, logged: list[dict[str, object]]) -> None:
    await shelf.versions.start(OURS)
    await shelf.put(OTHER)
    shelf.refuses = True
    for _ in range(3):
        await shelf.versions.refresh()
    assert shelf.versions.active is OURS
    assert (shelf.met, len(logged)) == ([False], 1)
    shelf.refuses = False
    await shelf.put(OTHERS[1])
    await shelf.versions.refresh()
    assert shelf.versions.active.version == OTHERS[1].version


async def test_an_earlier_policy_is_found_though_its_examples_do_not_hold_any_more_and_holds_up_no_payment(shelf: Shelf) -> None:
    """The tool's output has changed since: what the example says of it is not today's."""
    stale = compiled(f'{POLICY}\n[[example]]\nname = "x"\npayment = {{ amount = "1.00", currency = "USD" }}\nexpect = "block"\n', run_examples=False)
    await shelf.put(stale, OURS)
    await shelf.versions.start(OURS)
    assert (await shelf.versions.get(stale.version)).version == stale.version
    assert threading.main_thread() not in shelf.threads


async def test_a_policy_that_did_not_fit_is_tried_again_after_another_was_active(shelf: Shelf) -> None:
    await shelf.versions.start(OURS)
    shelf.refuses = True
    for active in (OTHER, OURS, OTHER):
        await shelf.put(active)
        await shelf.versions.refresh()
    assert shelf.met == [False, False]


async def test_what_nobody_foresaw_does_not_end_the_following(shelf: Shelf, logged: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch) -> None:
    """It would decide by an old policy from then on, and nobody would see it."""
    monkeypatch.setattr(policy_versions, "LOOK_EVERY_S", 0.01)
    await shelf.versions.start(OURS)
    shelf.fails = True
    async with following(shelf):
        await shelf.put(OTHER)
        await meanwhile(lambda: [line for line in logged if line["message"] == "following the active policy failed"])
        shelf.fails = False
        await meanwhile(lambda: shelf.versions.active.version == OTHER.version)


async def test_an_activation_that_would_see_an_old_state_is_refused(shelf: Shelf, database: str) -> None:
    old = Store(make_dsn(database, options="-c default_transaction_isolation=repeatable\\ read"))
    try:
        with pytest.raises(Refusal):
            await old.administration.activate_policy(OTHER.version, OTHER.text, "test")
    finally:
        await old.close()
    assert execute(database, "select count(*) from policies") == [(0,)]
