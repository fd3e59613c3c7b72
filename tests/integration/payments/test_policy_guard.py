"""The policy guard: what it counts, when it speaks, and when it takes a policy back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
from desk import POLICY, Desk, Gate, compiled, request_of, says

from database import execute
from paynow.clock import Clock
from paynow.errors import ConfigurationFault, ConfigurationRefused, OutcomeUnknown
from paynow.payments.policy_guard import AUTHOR, PolicyGuard
from paynow.policy import Policy
from paynow.settings import PolicyGuardSettings
from paynow.store import Store
from paynow.store.audit import audit
from paynow.store.records import WatchedPolicy
from waiting import eventually_async, meanwhile
from wire import wire_to

GOOD = compiled(POLICY)
OTHER = compiled(f"{POLICY}\n# another\n")
STRICT = compiled('[[rule]]\nid = "all"\nwhen = "payment.amount_minor >= 1"\nthen = "review"\nmessage = "Every payment"\n')
STRICTER = compiled(STRICT.text.replace('"review"', '"block"'))
SETTINGS = PolicyGuardSettings(window_s=300, review_band=(0.0, 0.5), block_band=(0.0, 0.5), decisions_min=4, roll_back=True, roll_back_within_s=600)
WINDOW_S = 300.0


class Guards:
    """Guards of one database, each as in a process of its own, which look when a test tells them to. `told` counts the wakings of relays."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.told = 0
        self.left: list[bool] = []
        self.watched: list[tuple[int, int, int, bool]] = []
        self._stores: list[Store] = []

    def make(
        self,
        settings: PolicyGuardSettings = SETTINGS,
        compile_text: Callable[..., Policy] = compiled,
        every_s: float = 0,
        late_s: float = 3.5,
        dsn: str | None = None,
    ) -> PolicyGuard:
        self._stores.append(Store(dsn or self.dsn, acquire_timeout_s=5, statement_timeout_s=5))
        band = self._stores[-1].policy_band
        return PolicyGuard(band, compile_text, settings, WINDOW_S, self, Clock(), late_s=late_s, told=self._tell, every_s=every_s)

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    def _tell(self) -> None:
        self.told += 1

    def policy_watched(self, decisions: int, reviews: int, blocks: int, *, outside: bool) -> None:
        self.watched.append((decisions, reviews, blocks, outside))

    def policy_band_left(self, *, rolled_back: bool) -> None:
        self.left.append(rolled_back)

    @property
    def events(self) -> list[tuple[str, str, str | None]]:
        """Of each event that waits its kind, its policy, and the version that was rolled back to."""
        rows = execute(self.dsn, "select type, subject, data from outbox where customer_id = 'paynow.policy' order by sequence")
        assert all(subject == data["policyVersion"] for _, subject, data in rows)
        return [(kind.removeprefix("paynow.policy."), subject, data["rolledBackTo"]) for kind, subject, data in rows]

    @property
    def rollbacks(self) -> list[str | None]:
        """What each event that waits says of the way back."""
        rows = execute(self.dsn, "select data->>'rollback' from outbox where customer_id = 'paynow.policy' order by sequence")
        assert rows == execute(self.dsn, "select rollback from policy_band_crossings order by position")
        return [said for (said,) in rows]

    @property
    def active(self) -> str:
        return execute(self.dsn, "select version from policies where active")[0][0]

    @property
    def history(self) -> list[tuple[str, str]]:
        return execute(self.dsn, "select version, cause from policy_activations order by position")


@pytest.fixture
async def guards(database: str) -> AsyncIterator[Guards]:
    made = Guards(database)
    yield made
    await made.close()


@pytest.fixture
async def pays(desk: Desk) -> Callable[..., Any]:
    """Decides so many payments under the active policy, each once."""
    keys: Iterator[int] = iter(range(10_000))

    async def pay(count: int) -> None:
        await desk.policies.refresh()
        for _ in range(count):
            await desk.decide(request_of(f"k-{next(keys)}"))

    return pay


async def activate(desk: Desk, policy: Policy) -> None:
    """As a person does."""
    assert await desk.store.administration.activate_policy(policy.version, policy.text, "a person")


async def watch(desk: Desk) -> WatchedPolicy:
    seen = await desk.store.policy_band.watch(WINDOW_S, every_s=0, late_s=3.5)
    assert seen is not None
    return seen


Pays = Callable[[int], Any]


def _activated(dsn: str, *, ago: str) -> None:
    """As if every activation had been so long ago."""
    execute(
        dsn,
        f"alter table policy_activations disable trigger user; update policy_activations set at = at - interval '{ago}'; "
        "alter table policy_activations enable trigger user",
    )


def _seen_outside(dsn: str, *, ago: float) -> None:
    """As if the shares had last been seen outside so many seconds ago."""
    execute(dsn, "update policy_band_outside set seen_at = clock_timestamp() - %s * interval '1 s'", ago)


async def test_shares_that_leave_their_band_are_told_once_however_many_look_at_once(
    desk: Desk, pays: Pays, guards: Guards, database: str, logged: list[dict[str, Any]]
) -> None:
    settings = replace(SETTINGS, roll_back=False)
    both = [guards.make(settings) for _ in range(4)]
    await activate(desk, STRICT)
    await pays(6)
    for _ in range(5):
        await asyncio.gather(*(guard.look() for guard in both))
    assert guards.events == [("band_left", STRICT.version, None)]
    assert guards.left == [False]
    assert guards.told == 1
    lines = [line for line in logged if line["level"] == "WARNING"]
    assert [(line["policy_version"], line["count"], line["review_share"], line["rollback"]) for line in lines] == [
        (STRICT.version, 6, 1.0, "not_wanted")
    ]
    assert guards.watched[-1] == (6, 6, 0, True)
    data = execute(database, "select data from outbox where customer_id = 'paynow.policy'")[0][0]
    told = ("decisions", "reviewShare", "reviewBand", "blockShare", "blockBand", "windowS")
    assert [data[name] for name in told] == [6, 1.0, [0.0, 0.5], 0.0, [0.0, 0.5], 300.0]
    assert guards.active == STRICT.version, "nobody asked for the way back"


async def test_each_side_of_each_band_is_watched(desk: Desk, pays: Pays, guards: Guards) -> None:
    for settings in (
        replace(SETTINGS, review_band=(0.0, 0.4)),
        replace(SETTINGS, review_band=(0.6, 1.0)),
        replace(SETTINGS, block_band=(0.0, 0.2)),
        replace(SETTINGS, block_band=(0.3, 1.0)),
    ):
        await activate(desk, compiled(f"{POLICY}\n# {settings}\n"))
        for said in ("review", "review", "block", "allow"):
            desk.look = says(said)
            await pays(1)
        within = guards.make(replace(SETTINGS, review_band=(0.5, 0.5), block_band=(0.25, 0.25), roll_back=False))
        before = len(guards.left)
        await within.look()
        assert len(guards.left) == before, "a share on the edge of its band is in it"
        await guards.make(replace(settings, roll_back=False)).look()
        assert len(guards.left) == before + 1, settings


async def test_a_policy_is_taken_back_soon_after_its_activation(desk: Desk, pays: Pays, guards: Guards, database: str) -> None:
    guard = guards.make()
    await activate(desk, STRICT)
    await pays(4)
    await guard.look()
    assert guards.history[-2:] == [(STRICT.version, "activated"), (GOOD.version, "rolled_back")]
    assert execute(database, "select author from policy_activations order by position desc limit 1") == [(AUTHOR,)]
    assert guards.events == [("band_left", STRICT.version, GOOD.version)]
    assert guards.left == [True]
    await pays(4)
    assert execute(database, "select decision::text, count(*)::int from payments group by 1 order by 1") == [("allow", 4), ("review", 4)]
    await guard.look()
    assert guards.events[1:] == [("band_returned", GOOD.version, None)]
    assert guards.watched[-1] == (4, 0, 0, False)
    _, findings = audit(database)
    assert [finding.check.name for finding in findings if finding.offenders] == []


async def test_services_hear_of_the_way_back_as_of_any_activation(desk: Desk, pays: Pays, guards: Guards, database: str) -> None:
    await activate(desk, STRICT)
    await pays(4)
    with closing(psycopg2.connect(database)) as connection:
        connection.autocommit = True
        connection.cursor().execute("listen paynow_policy")
        await guards.make().look()

        def heard() -> bool:
            connection.poll()
            return [notice.payload for notice in connection.notifies] == [GOOD.version]

        await meanwhile(heard)


@pytest.mark.parametrize("late", [False, True])
async def test_a_policy_is_not_taken_back_late(desk: Desk, pays: Pays, guards: Guards, database: str, late: bool) -> None:
    await activate(desk, STRICT)
    _activated(database, ago="11 minutes" if late else "9 minutes")
    await pays(4)
    await _look_until_complete(guards.make())
    assert guards.left == [not late]
    assert (guards.active == STRICT.version) is late


async def test_fewer_decisions_than_the_least_say_nothing(desk: Desk, pays: Pays, guards: Guards) -> None:
    guard = guards.make()
    await activate(desk, STRICT)
    await pays(3)
    await guard.look()
    assert (guards.events, guards.active) == ([], STRICT.version)
    assert guards.watched == [(3, 3, 0, False)], "the shares are shown all the same"
    await pays(1)
    await guard.look()
    assert len(guards.events) == 1


async def test_replays_do_not_count(desk: Desk, guards: Guards) -> None:
    await activate(desk, STRICT)
    await desk.policies.refresh()
    for _ in range(20):
        await desk.decide(request_of("one key"))
    await guards.make().look()
    assert guards.watched == [(1, 1, 0, False)]


async def test_decisions_under_the_policy_before_do_not_count(desk: Desk, pays: Pays, guards: Guards) -> None:
    desk.look = says("review")
    await pays(8)
    await activate(desk, OTHER)
    desk.look = says("allow")
    await pays(4)
    await guards.make().look()
    assert guards.watched == [(4, 0, 0, False)]
    assert guards.events == []


async def test_decisions_of_a_worker_that_has_not_heard_of_the_activation_yet_do_not_count(desk: Desk, guards: Guards) -> None:
    await activate(desk, OTHER)
    desk.look = says("review")
    for number in range(8):
        await desk.decide(request_of(f"k-{number}"))
    await guards.make().look()
    assert guards.watched == [(0, 0, 0, False)]
    assert desk.policies.active.version == GOOD.version


async def test_decisions_of_an_earlier_activation_of_the_same_policy_do_not_count(desk: Desk, pays: Pays, guards: Guards) -> None:
    """Somebody activates it again because they know better: it has another chance."""
    await activate(desk, STRICT)
    await pays(4)
    await guards.make().look()
    await activate(desk, STRICT)
    await guards.make().look()
    assert guards.active == STRICT.version
    await pays(4)
    await guards.make().look()
    assert guards.active == GOOD.version, "and the same end"
    assert guards.left == [True, True]


async def test_what_is_activated_while_the_guard_makes_up_its_mind_stands(desk: Desk, pays: Pays, guards: Guards) -> None:
    def compile_while_somebody_activates(text: str, origin: str, *, run_examples: bool) -> Policy:
        execute(guards.dsn, "select activate_policy(%s, %s, 'a person', 'activated', null)", OTHER.version, OTHER.text)
        return compiled(text, origin, run_examples=run_examples)

    await activate(desk, STRICT)
    await pays(4)
    await guards.make(compile_text=compile_while_somebody_activates).look()
    assert guards.active == OTHER.version
    assert (guards.events, guards.left) == ([], []), "nothing is told of what was not done"


async def test_activations_and_the_guard_at_once_leave_the_persons_policy(desk: Desk, pays: Pays, guards: Guards) -> None:
    guard = guards.make()
    for number in range(10):
        await activate(desk, compiled(f"{STRICT.text}\n# {number}\n"))
        await pays(4)
        wanted = compiled(f"{POLICY}\n# {number}\n")
        await asyncio.gather(guard.look(), activate(desk, wanted))
        assert guards.active == wanted.version


async def test_after_its_own_rollback_the_guard_only_tells(desk: Desk, pays: Pays, guards: Guards) -> None:
    """What goes wrong has another cause than the policy: going back and forth would help nobody."""
    guard = guards.make()
    desk.look = says("review")
    await activate(desk, OTHER)
    for _ in range(3):
        await pays(4)
        await guard.look()
    assert guards.history[-2:] == [(OTHER.version, "activated"), (GOOD.version, "rolled_back")]
    assert guards.events == [("band_left", OTHER.version, GOOD.version), ("band_left", GOOD.version, None)]


async def test_a_policy_that_was_taken_back_is_not_returned_to(desk: Desk, pays: Pays, guards: Guards) -> None:
    guard = guards.make()
    for wrong in (STRICT, STRICTER, STRICT):
        await activate(desk, wrong)
        await pays(4)
        await guard.look()
        assert guards.active == GOOD.version


async def test_what_people_roll_back_to_is_not_undone(desk: Desk, pays: Pays, guards: Guards) -> None:
    await activate(desk, STRICT)
    await activate(desk, OTHER)
    await desk.store.administration.activate_policy(STRICT.version, STRICT.text, "a person", cause="rolled_back", instead_of=OTHER.version)
    await pays(4)
    await guards.make().look()
    assert (guards.active, guards.left) == (STRICT.version, [False])


async def test_the_first_policy_of_all_is_only_told(desk: Desk, pays: Pays, guards: Guards) -> None:
    desk.look = says("block")
    await pays(4)
    await guards.make().look()
    assert (guards.active, guards.left) == (GOOD.version, [False])


async def test_a_policy_before_that_does_not_fit_any_more_is_not_returned_to(
    desk: Desk, pays: Pays, guards: Guards, logged: list[dict[str, Any]]
) -> None:
    def refuse(text: str, origin: str, *, run_examples: bool) -> Policy:
        raise ConfigurationRefused([ConfigurationFault(origin, "", "does not fit")])

    await activate(desk, STRICT)
    await pays(4)
    await guards.make(compile_text=refuse).look()
    assert (guards.active, guards.left) == (STRICT.version, [False])
    assert [line["policy_version"] for line in logged if line["level"] == "ERROR"] == [GOOD.version]
    assert guards.rollbacks == ["does_not_fit"]


async def test_payments_under_way_keep_their_version(desk: Desk, pays: Pays, guards: Guards, database: str) -> None:
    await activate(desk, STRICT)
    await pays(4)
    gate = Gate()
    desk.look = gate.then("allow")
    under_way = asyncio.create_task(desk.decide(request_of("under way")))
    await gate.reached.wait()
    await guards.make().look()
    await desk.policies.refresh()
    assert desk.policies.active.version == GOOD.version
    gate.open()
    answer = json.loads((await under_way).body)
    assert (answer["policyVersion"], answer["decision"]) == (STRICT.version, "review")
    desk.look = says("allow")
    await pays(4)
    await guards.make().look()
    assert guards.watched[-1][0] == 4, "and do not count for the version that came back"


async def test_shares_that_come_back_are_told_and_told_anew_when_they_leave_again(desk: Desk, pays: Pays, guards: Guards) -> None:
    guard = guards.make(replace(SETTINGS, roll_back=False))
    for said, count in (("review", 4), ("allow", 12), ("review", 16)):
        desk.look = says(said)
        await pays(count)
        await guard.look()
        _seen_outside(guards.dsn, ago=WINDOW_S)
    assert [kind for kind, *_ in guards.events] == ["band_left", "band_returned", "band_left"]
    assert guards.left == [False, False]


async def test_an_event_whose_telling_is_repeated_is_told_once(desk: Desk, pays: Pays, guards: Guards) -> None:
    """As after a lost connection: whoever asks again is told that it was done, and it was done once."""
    await activate(desk, STRICT)
    await pays(4)
    seen = await watch(desk)
    event_id = "01a20cff-9088-7128-a24b-d23f08244ad5"
    data = json.dumps({"policyVersion": STRICT.version, "rolledBackTo": GOOD.version})
    for _ in range(2):
        came = await desk.store.policy_band.cross(
            seen, event_id, "paynow.policy.band_left", data, outside=True, rollback="done", back_to=GOOD.version, author=AUTHOR
        )
        assert came == "told"
    assert len(guards.events) == 1
    assert guards.history[-1] == (GOOD.version, "rolled_back")


FILL = """
insert into payments (customer_id, payment_id, payee_id, amount_minor, currency, decision, degraded, policy_version, decided_at, answer)
select 'c_1', (left(first_payment_id(at)::text, 19) || right(gen_random_uuid()::text, 17))::uuid, 'p_1', 1, 'USD',
    case when n %% 3 = 0 then 'review'::decision else 'block' end, false, %s, at, 'x'
from (select n, clock_timestamp() - n * interval '1 s' as at from generate_series(1, 400) n) t
"""


async def _look_until_complete(guard: PolicyGuard) -> int:
    looks = 1
    while await guard.look():
        looks += 1
    return looks


async def test_a_whole_window_is_counted_in_small_steps_and_then_only_what_is_new(desk: Desk, database: str, guards: Guards) -> None:
    _activated(database, ago="1 h")
    execute(database, FILL, GOOD.version)
    guard = guards.make(replace(SETTINGS, review_band=(0.0, 1.0), block_band=(0.0, 1.0)))
    assert await _look_until_complete(guard) >= WINDOW_S / 5 / 12
    decisions, reviews, blocks, _ = guards.watched[-1]
    assert 280 <= decisions <= 306, "the window, and a slice more at most"
    assert reviews + blocks == decisions
    assert reviews in (decisions // 3, decisions // 3 + 1)
    execute(database, "update payments set decision = 'block'")
    assert await _look_until_complete(guard) == 1
    assert guards.watched[-1][1] > 80, "slices that can get no more payments are not counted again"


async def test_whoever_reads_what_another_has_counted_reads_no_more_than_its_own_window(desk: Desk, database: str, guards: Guards) -> None:
    _activated(database, ago="1 h")
    execute(database, FILL, GOOD.version)
    await _look_until_complete(guards.make(replace(SETTINGS, review_band=(0.0, 1.0), block_band=(0.0, 1.0))))
    seen = await desk.store.policy_band.watch(60, every_s=600, late_s=3.5)
    assert seen is not None
    assert not seen.counted
    assert 40 <= seen.decisions <= 66


async def test_payments_that_may_take_minutes_do_not_keep_the_guard_from_its_end(desk: Desk, database: str, guards: Guards) -> None:
    _activated(database, ago="1 h")
    execute(database, FILL, GOOD.version)
    guard = guards.make(replace(SETTINGS, review_band=(0.0, 1.0), block_band=(0.0, 1.0)), late_s=120)
    async with asyncio.timeout(20):
        await _look_until_complete(guard)
    assert 280 <= guards.watched[-1][0] <= 306
    execute(database, "update payments set decision = 'block'")
    await guard.look()
    assert guards.watched[-1][1] < 75, "and what they have come to since counts"


async def test_what_has_left_the_window_is_forgotten(desk: Desk, database: str, guards: Guards) -> None:
    execute(database, "insert into policy_slices values (1, 5, 9, 9, 9, now()), (0, policy_slice(now()), 9, 9, 9, now())")
    await _look_until_complete(guards.make())
    assert guards.watched[-1][:3] == (0, 0, 0)
    assert execute(database, "select count(*) from policy_slices where slice = 5 or activation = 0") == [(0,)]


async def test_one_counts_and_the_others_read_what_it_has_counted(desk: Desk, pays: Pays, guards: Guards, database: str) -> None:
    await pays(5)
    for _ in range(4):
        await guards.make(every_s=60).look()
    assert [seen[0] for seen in guards.watched] == [5, 5, 5, 5]
    await pays(5)
    await guards.make(every_s=60).look()
    assert guards.watched[-1][0] == 5, "it is not yet time to count again"


async def test_another_takes_over_from_one_that_hangs_as_soon_as_it_is_gone(desk: Desk, pays: Pays, guards: Guards, database: str) -> None:
    await activate(desk, STRICT)
    await pays(4)
    guard = guards.make()
    with closing(psycopg2.connect(database)) as hanging:
        hanging.cursor().execute("select pg_advisory_xact_lock(hashtext('policy guard'), 0)")
        assert await guard.look() is False
        assert (guards.watched, guards.events) == ([(0, 0, 0, False)], [])
        execute(database, "select pg_terminate_backend(%s)", hanging.info.backend_pid)

    async def left() -> bool:
        await guard.look()
        return guards.left == [True]

    await eventually_async(left)


async def test_the_history_of_crossings_cannot_be_changed(desk: Desk, pays: Pays, guards: Guards, database: str) -> None:
    await activate(desk, STRICT)
    await pays(4)
    await guards.make().look()
    for change in ("update policy_band_crossings set outside = false", "delete from policy_band_crossings", "truncate policy_band_crossings"):
        with pytest.raises(psycopg2.errors.RestrictViolation):
            execute(database, change)


async def test_the_way_back_skips_a_policy_that_never_proved_good(desk: Desk, pays: Pays, guards: Guards) -> None:
    """A mistake and its hasty repair: the repair is not undone into the mistake."""
    await activate(desk, STRICTER)
    await activate(desk, STRICT)
    await pays(4)
    await guards.make().look()
    assert guards.history[-1] == (GOOD.version, "rolled_back")


async def test_the_way_back_leads_to_a_policy_that_stood_long_enough(desk: Desk, pays: Pays, guards: Guards, database: str) -> None:
    await activate(desk, OTHER)
    _activated(database, ago="11 minutes")
    await activate(desk, STRICT)
    await pays(4)
    await guards.make().look()
    assert guards.history[-1] == (OTHER.version, "rolled_back")


async def test_without_a_good_policy_the_guard_only_tells(desk: Desk, pays: Pays, guards: Guards, database: str) -> None:
    """The one before was told outside its band, however long it stood."""
    guard = guards.make()
    desk.look = says("review")
    await pays(4)
    await guard.look()
    await activate(desk, STRICT)
    await pays(4)
    await guard.look()
    assert (guards.active, guards.left) == (STRICT.version, [False, False])
    assert guards.rollbacks == ["not_an_activation", "none_good"]


@pytest.mark.parametrize(("ago", "said"), [("11 minutes", "late"), ("1 minute", "done")])
async def test_the_event_says_what_became_of_the_way_back(desk: Desk, pays: Pays, guards: Guards, database: str, ago: str, said: str) -> None:
    await activate(desk, STRICT)
    _activated(database, ago=ago)
    await pays(4)
    await _look_until_complete(guards.make())
    assert guards.rollbacks == [said]


async def test_a_persons_rollback_does_not_lead_to_what_the_guard_has_taken_back(desk: Desk, pays: Pays, guards: Guards) -> None:
    await activate(desk, OTHER)
    await activate(desk, STRICT)
    await pays(4)
    await guards.make().look()
    assert guards.active == GOOD.version
    found = await desk.store.administration.policy_to_return_to()
    assert found is not None
    assert found.version == OTHER.version


async def test_the_examples_of_the_policy_to_return_to_do_not_keep_it_away(desk: Desk, pays: Pays, guards: Guards) -> None:
    """They were true of the tools of their time; only its fitness for the tools of today matters."""
    asked: list[bool] = []

    def compile_text(text: str, origin: str, *, run_examples: bool = True) -> Policy:
        asked.append(run_examples)
        return compiled(text, origin, run_examples=run_examples)

    await activate(desk, STRICT)
    await pays(4)
    await guards.make(compile_text=compile_text).look()
    assert (guards.active, asked) == (GOOD.version, [False])


async def test_shares_at_the_edge_are_not_told_back_until_they_were_inside_for_a_window(
    desk: Desk, pays: Pays, guards: Guards, database: str
) -> None:
    guard = guards.make(replace(SETTINGS, roll_back=False))
    for said, count in (("review", 4), ("allow", 5), ("review", 2), ("allow", 3)):
        desk.look = says(said)
        await pays(count)
        await guard.look()
    assert [kind for kind, *_ in guards.events] == ["band_left"]
    _seen_outside(database, ago=WINDOW_S - 10)
    await guards.make(replace(SETTINGS, roll_back=False)).look()
    assert len(guards.events) == 1, "not yet a whole window"
    _seen_outside(database, ago=WINDOW_S)
    await guards.make(replace(SETTINGS, roll_back=False)).look()
    assert [kind for kind, *_ in guards.events] == ["band_left", "band_returned"], "another process knows it as well"


async def test_each_look_that_sees_the_shares_outside_begins_the_window_anew(desk: Desk, pays: Pays, guards: Guards, database: str) -> None:
    guard = guards.make(replace(SETTINGS, roll_back=False))
    desk.look = says("review")
    await pays(4)
    await guard.look()
    _seen_outside(database, ago=WINDOW_S)
    await guard.look()
    desk.look = says("allow")
    await pays(12)
    await guard.look()
    assert [kind for kind, *_ in guards.events] == ["band_left"]


async def test_a_telling_whose_answer_was_lost_is_made_up_for_at_the_next_look(desk: Desk, pays: Pays, guards: Guards, database: str) -> None:
    """It was committed: without that no metric, no warning and no relay would ever hear of it, for nobody else tells it."""
    await activate(desk, STRICT)
    await pays(4)
    async with wire_to(database) as wire:
        guard = guards.make(dsn=wire.dsn)
        wire.lose_answers("cross_policy_band", times=2)
        with pytest.raises(OutcomeUnknown):
            await guard.look()
        await eventually_async(_is_active(guards, GOOD))
        assert (guards.left, guards.told) == ([], 0)
        await guard.look()
        await guard.look()
        await guards.close()
    assert (guards.left, guards.told, len(guards.events)) == ([True], 1, 1)


def _is_active(guards: Guards, policy: Policy) -> Callable[[], Any]:
    async def active() -> bool:
        return guards.active == policy.version

    return active


async def test_decisions_that_a_tools_failure_had_a_part_in_do_not_count(desk: Desk, pays: Pays, guards: Guards, database: str) -> None:
    """Else an outage soon after an activation would take a good policy back."""
    await activate(desk, STRICT)
    await pays(8)
    execute(database, "update payments set degraded = true where payment_id in (select payment_id from payments limit 5)")
    await guards.make().look()
    assert (guards.watched, guards.events) == ([(3, 3, 0, False)], [])
