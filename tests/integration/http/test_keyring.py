"""Who may do what, with keys kept in a real PostgreSQL: accepted, refused, revoked, limited, and never asked for more often than needed."""

from __future__ import annotations

import asyncio
import base64
import hmac
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from database import execute
from paynow.api_keys import SCOPES, NewKey, key_id_of, new_key, sha256
from paynow.clock import Clock
from paynow.errors import InternalFault, LimiterUnavailable, NotAuthenticated, RateLimited, StoreUnavailable
from paynow.http import keyring as keyring_module
from paynow.http.keyring import Caller, Keyring
from paynow.plugin_api import Grant, Limit
from paynow.store import Store
from paynow.store.records import StoredKey

ENVIRONMENT_KEY = "the-key-of-the-environment"
NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
REVOKED_WITHIN_S = 10
LAST_USED = "select key_id, last_used_at from api_keys where last_used_at is not null"


class Limiter:
    """By hand: `answer` is what it says, or raises."""

    name = "hand"
    shared = inside_claim = False

    def __init__(self) -> None:
        self.answer: Grant | Exception = Grant(allowed=True, remaining=2, retry_after_s=0, reset_s=1)
        self.asked: list[tuple[str, str, Limit]] = []

    async def take(self, kind: str, subject: str, limit: Limit) -> Grant:
        self.asked.append((kind, subject, limit))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


REFUSED = Grant(allowed=False, remaining=0, retry_after_s=2.5, reset_s=5)


class Door:
    """A keyring over a real store. Time passes by hand: `later`. `loads` is how often keys were read from the store."""

    def __init__(self, dsn: str, **settings: Any) -> None:
        self.past_s = 0.0
        self.statements: Counter[str] = Counter()
        self.store = Store(dsn, acquire_timeout_s=5, observe=lambda step, seconds, outcome: self.statements.update([step]))
        self.limiter, self.local = Limiter(), Limiter()
        self.limited: list[str] = []
        self.failures: list[str] = []
        self.keyring = Keyring(
            self.store.administration,
            self.limiter,
            Clock(now=lambda: NOW + timedelta(seconds=self.past_s), monotonic=lambda: 1000 + self.past_s),
            **{
                "environment_key": ENVIRONMENT_KEY,
                "on_limiter_failure": "deny",
                "limiter_failed": self.failures.append,
                "rate_limited": self.limited.append,
                "local_limiter": self.local,
                **settings,
            },
        )

    @property
    def loads(self) -> int:
        return self.statements["key"]

    def later(self, seconds: float) -> None:
        self.past_s += seconds

    async def add(self, **changes: Any) -> NewKey:
        """A new key in the store, with the scope `accounts:read` if the test says no other."""
        key = new_key()
        stored = StoredKey(key.key_id, "a test", key.sha256, ("accounts:read",), None, None, NOW, None, None, None)
        await self.store.administration.add_key(replace(stored, **changes))
        return key

    async def refuses(self, presented: str | None) -> bool:
        try:
            await self.keyring.authenticate(presented)
        except NotAuthenticated:
            return True
        return False


@pytest.fixture
async def door_of(database: str) -> AsyncIterator[Callable[..., Door]]:
    made: list[Door] = []

    def make(dsn: str = database, **settings: Any) -> Door:
        made.append(Door(dsn, **settings))
        return made[-1]

    yield make
    for door in made:
        await door.store.close()


@pytest.fixture
def door(door_of: Callable[..., Door]) -> Door:
    return door_of()


def with_another_secret(key: NewKey) -> str:
    """A key of the same id and of the right form, with a secret of its own."""
    secret = new_key().text.split("_")[2][:52]
    checksum = base64.b32encode(zlib.crc32(f"{key.key_id}_{secret}".encode()).to_bytes(4, "big")).decode().rstrip("=").lower()
    text = f"pn_{key.key_id}_{secret}{checksum}"
    assert key_id_of(text) == key.key_id
    return text


# ---------------------------------------------------------------- who is let in


async def test_a_key_is_accepted_with_its_scopes_and_its_rate(door: Door) -> None:
    plain = await door.add()
    limited = await door.add(scopes=("payments:decide", "payments:read"), rate_per_s=2.5, rate_burst=5)
    assert await door.keyring.authenticate(plain.text) == Caller(plain.key_id, frozenset({"accounts:read"}), None)
    assert await door.keyring.authenticate(limited.text) == Caller(limited.key_id, frozenset({"payments:decide", "payments:read"}), Limit(2.5, 5))


async def test_the_environments_key_has_every_scope_and_asks_nobody(door: Door) -> None:
    assert await door.keyring.authenticate(ENVIRONMENT_KEY) == Caller("environment", frozenset(SCOPES), None)
    assert not door.statements
    assert not door.limiter.asked


@pytest.mark.parametrize("presented", [None, "", "x", ENVIRONMENT_KEY[:-1], ENVIRONMENT_KEY + "x", "\udcff"])
async def test_what_is_no_key_is_refused_without_a_look_into_the_store(door: Door, presented: str | None) -> None:
    assert await door.refuses(presented)
    assert not door.statements


@pytest.mark.parametrize("unset", [None, ""])
async def test_without_a_key_in_the_environment_there_is_none(door_of: Callable[..., Door], unset: str | None) -> None:
    door = door_of(environment_key=unset)
    assert await door.refuses(ENVIRONMENT_KEY)
    assert await door.refuses("")


async def test_an_unknown_key_is_refused_until_it_is_made(door: Door) -> None:
    key = new_key()
    assert await door.refuses(key.text)
    stored = StoredKey(key.key_id, "a test", key.sha256, ("accounts:read",), None, None, NOW, None, None, None)
    await door.store.administration.add_key(stored)
    assert not await door.refuses(key.text)


async def test_a_mistyped_key_is_refused_without_a_look_into_the_store(door: Door) -> None:
    key = await door.add()
    door.statements.clear()
    assert await door.refuses(key.text[:-1] + ("a" if key.text[-1] != "a" else "b"))
    assert not door.statements


async def test_another_secret_under_a_known_id_is_refused_and_costs_the_key_nothing(door: Door, database: str) -> None:
    key = await door.add(rate_per_s=1.0, rate_burst=3)
    assert await door.refuses(with_another_secret(key))
    assert not door.limiter.asked
    await door.keyring.note_used()
    assert execute(database, LAST_USED) == []
    assert not await door.refuses(key.text)


async def test_secrets_are_compared_in_constant_time_only(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digests that decide are handed to `hmac.compare_digest`, whole, whether they are right or wrong."""
    compared: list[tuple[bytes, bytes]] = []

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac_compare(one, other)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", watched)
    key = await door.add()
    for text in (with_another_secret(key), key.text):
        compared.clear()
        await door.refuses(text)
        assert compared == [(sha256(text), sha256(ENVIRONMENT_KEY)), (sha256(text), key.sha256)]


# ---------------------------------------------------------------- when it ends


async def test_a_revoked_key_ends_within_ten_seconds_in_every_process(door_of: Callable[..., Door]) -> None:
    doors = [door_of() for _ in range(2)]
    key = await doors[0].add()
    for door in doors:
        assert not await door.refuses(key.text)
    assert await doors[0].store.administration.revoke_key(key.key_id) is not None
    for door in doors:
        door.later(REVOKED_WITHIN_S - 1)
        assert await door.refuses(key.text)


async def test_a_key_in_constant_use_is_looked_at_again_too(door: Door) -> None:
    """Using it does not make it known for longer."""
    key = await door.add()
    assert not await door.refuses(key.text)
    await door.store.administration.revoke_key(key.key_id)
    for _ in range(REVOKED_WITHIN_S - 1):
        door.later(1)
        refused = await door.refuses(key.text)
    assert refused
    assert door.loads <= 1 + (REVOKED_WITHIN_S - 1)


async def test_a_key_ends_in_the_moment_of_its_expiry(door: Door) -> None:
    key = await door.add(expires_at=NOW + timedelta(seconds=3))
    assert not await door.refuses(key.text)
    door.later(2.9)
    assert not await door.refuses(key.text)
    door.later(0.1)
    assert await door.refuses(key.text)
    assert door.loads == 1, "it was known, and needed no second look"


async def test_a_key_that_was_removed_ends_as_a_revoked_one_does(door: Door, database: str) -> None:
    key = await door.add()
    assert not await door.refuses(key.text)
    execute(database, "delete from api_keys")
    door.later(REVOKED_WITHIN_S - 1)
    assert await door.refuses(key.text)


# ---------------------------------------------------------------- what is remembered


async def test_a_key_is_read_once_for_a_while(door: Door) -> None:
    key = await door.add()
    for _ in range(50):
        assert not await door.refuses(key.text)
    assert door.loads == 1
    door.later(REVOKED_WITHIN_S)
    assert not await door.refuses(key.text)
    assert door.loads == 2


async def test_many_at_once_share_one_read_whoever_of_them_goes_away(door: Door) -> None:
    key = await door.add()
    leaving, *staying = [asyncio.create_task(door.refuses(key.text)) for _ in range(50)]
    await asyncio.sleep(0)
    leaving.cancel()
    assert await asyncio.gather(*staying) == [False] * 49
    assert leaving.cancelled()
    assert door.loads == 1


async def test_only_so_many_keys_are_remembered_and_the_longest_known_goes_first(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_module, "REMEMBERED_MAX", 3)
    keys = [await door.add() for _ in range(4)]
    for key in keys:
        assert not await door.refuses(key.text)
    assert door.loads == 4
    for key in keys[1:]:
        assert not await door.refuses(key.text)
    assert door.loads == 4, "the last three are known"
    assert not await door.refuses(keys[0].text)
    assert door.loads == 5, "the first is not"


async def test_keys_that_do_not_exist_take_no_room(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_module, "REMEMBERED_MAX", 3)
    key = await door.add()
    assert not await door.refuses(key.text)
    for _ in range(5):
        assert await door.refuses(new_key().text)
    assert not await door.refuses(key.text)
    assert door.loads == 6


async def test_without_postgresql_known_keys_are_let_in_and_others_are_told_to_come_back(door: Door, database: str) -> None:
    known, other = await door.add(), await door.add()
    assert not await door.refuses(known.text)
    execute(database, "alter table api_keys rename to gone")
    assert not await door.refuses(known.text)
    with pytest.raises(InternalFault):
        await door.keyring.authenticate(other.text)
    execute(database, "alter table gone rename to api_keys")
    assert not await door.refuses(other.text), "trouble is not remembered"


# ---------------------------------------------------------------- its own rate


async def test_a_keys_rate_is_asked_for_each_request_under_its_id(door: Door) -> None:
    key = await door.add(rate_per_s=1.0, rate_burst=3)
    for _ in range(2):
        await door.keyring.authenticate(key.text)
    assert door.limiter.asked == [("api_key", key.key_id, Limit(1.0, 3))] * 2


async def test_a_key_over_its_rate_is_refused_and_told_when_to_come_back(door: Door, database: str) -> None:
    key = await door.add(rate_per_s=1.0, rate_burst=3)
    door.limiter.answer = REFUSED
    with pytest.raises(RateLimited) as refused:
        await door.keyring.authenticate(key.text)
    told = refused.value.told
    assert (refused.value.retry_after_s, told.name, told.per_second, told.burst, told.remaining, told.reset_s) == (2.5, "api_key", 1.0, 3, 0, 5)
    assert door.limited == ["api_key"]


async def test_the_stores_own_limiter_keeps_a_keys_rate_over_processes(door_of: Callable[..., Door]) -> None:
    doors = [door_of() for _ in range(2)]
    for door in doors:
        door.limiter.take = door.store.decisions.take
    key = await doors[0].add(rate_per_s=0.001, rate_burst=3)
    outcomes = await asyncio.gather(*(door.keyring.authenticate(key.text) for door in doors * 4), return_exceptions=True)
    assert Counter(type(outcome) for outcome in outcomes) == {Caller: 3, RateLimited: 5}


async def test_a_limiter_that_is_down_denies_where_that_is_configured(door: Door) -> None:
    key, free = await door.add(rate_per_s=1.0, rate_burst=3), await door.add()
    door.limiter.answer = StoreUnavailable()
    with pytest.raises(LimiterUnavailable) as refused:
        await door.keyring.authenticate(key.text)
    assert refused.value.retry_after_s
    assert (door.failures, door.local.asked) == (["deny"], [])
    assert not await door.refuses(free.text), "a key without a rate asks no limiter"


async def test_a_limiter_that_is_down_is_replaced_by_the_local_one_where_that_is_configured(door_of: Callable[..., Door]) -> None:
    door = door_of(on_limiter_failure="local")
    key = await door.add(rate_per_s=1.0, rate_burst=3)
    door.limiter.answer = ConnectionError()
    assert not await door.refuses(key.text)
    door.local.answer = REFUSED
    with pytest.raises(RateLimited):
        await door.keyring.authenticate(key.text)
    assert door.failures == ["local"] * 2


# ---------------------------------------------------------------- when it was last used


async def test_the_last_use_is_written_down_now_and_then(door: Door, database: str) -> None:
    used, idle = await door.add(), await door.add()
    await door.keyring.authenticate(used.text)
    door.later(2)
    await door.keyring.authenticate(used.text)
    await door.refuses(with_another_secret(idle))
    assert execute(database, LAST_USED) == []
    await door.keyring.note_used()
    assert execute(database, LAST_USED) == [(used.key_id, NOW + timedelta(seconds=2))]
    await door.keyring.note_used()
    assert door.statements["keys_used"] == 1, "nothing new, nothing written"


async def test_a_use_that_could_not_be_written_down_is_kept_for_the_next_time(door: Door, database: str) -> None:
    one, other = await door.add(), await door.add()
    await door.keyring.authenticate(one.text)
    await door.keyring.authenticate(other.text)
    execute(database, "alter table api_keys rename to gone")
    noting = asyncio.create_task(door.keyring.note_used())
    await asyncio.sleep(0)
    door.later(1)
    await door.keyring.authenticate(other.text)
    with pytest.raises(InternalFault):
        await noting
    execute(database, "alter table gone rename to api_keys")
    await door.keyring.note_used()
    assert dict(execute(database, LAST_USED)) == {one.key_id: NOW, other.key_id: NOW + timedelta(seconds=1)}
