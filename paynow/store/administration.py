"""What operators keep in the database: API keys and policies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from paynow.store.pool import Pool, Row
from paynow.store.records import PolicyActivation, StoredKey, StoredPolicy


class Administration:
    """API keys and policy versions."""

    def __init__(self, pool: Pool, queries: dict[str, str]) -> None:
        self._pool = pool
        self._queries = queries

    async def _call(self, name: str, parameters: tuple[object, ...] | Mapping[str, object] = ()) -> list[Row]:
        return await self._pool.call(name, self._queries[name], parameters)

    async def _read(self, name: str, parameters: tuple[object, ...] | Mapping[str, object] = ()) -> list[Row]:
        return await self._pool.read(name, self._queries[name], parameters)

    async def add_key(self, key: StoredKey) -> None:
        """Keeps a new key's hash."""
        await self._call("add_key", (key.key_id, key.name, key.secret_sha256, list(key.scopes), key.rate_per_s, key.rate_burst, key.expires_at))

    async def find_key(self, key_id: str) -> StoredKey | None:
        """The key, revoked and expired ones too, or None."""
        rows = await self._read("key", (key_id,))
        return _key(rows[0]) if rows else None

    async def keys(self) -> list[StoredKey]:
        """Every key, oldest first."""
        return [_key(row) for row in await self._read("keys")]

    async def revoke_key(self, key_id: str) -> datetime | None:
        """Ends a key and says since when it has ended; None if there is no such key."""
        rows = await self._call("revoke_key", (key_id,))
        return rows[0][0] if rows else None

    async def keys_used(self, used_at: Mapping[str, datetime]) -> None:
        """Notes when keys were last used."""
        await self._call("keys_used", (list(used_at), list(used_at.values())))

    async def active_policy(self) -> StoredPolicy | None:
        """The policy that new payments are decided under."""
        rows = await self._read("active_policy")
        return StoredPolicy(*rows[0]) if rows else None

    async def policy(self, version: str) -> StoredPolicy | None:
        """A policy ever active."""
        rows = await self._read("policy", (version,))
        return StoredPolicy(*rows[0]) if rows else None

    async def policies(self) -> list[StoredPolicy]:
        """Every policy ever active, newest first."""
        return [StoredPolicy(*row) for row in await self._read("policies")]

    async def active_policy_version(self) -> str | None:
        """The version alone."""
        rows = await self._read("active_policy_version")
        return rows[0][0] if rows else None

    def hearing_of_policies(self) -> AbstractAsyncContextManager[Callable[[float], Awaitable[None]]]:
        """Hears of a policy that is made the active one, over a connection of its own: see `Pool.listening`."""
        return self._pool.listening("paynow_policy")

    async def policy_before(self) -> StoredPolicy | None:
        """The policy that was the active one before today's, or None."""
        rows = await self._read("policy_before")
        return StoredPolicy(*rows[0]) if rows else None

    async def policy_to_return_to(self) -> StoredPolicy | None:
        """As `policy_before`, but without what the policy guard has taken back."""
        rows = await self._read("policy_to_return_to", (None, None))
        return StoredPolicy(*rows[0]) if rows else None

    async def policy_history(self, limit: int) -> list[PolicyActivation]:
        """What was made the active policy when, what was proposed to be and what became of that, newest first."""
        return [PolicyActivation(*row) for row in await self._read("policy_history", {"limit": limit})]

    async def seed_policy(self, version: str, body: str, author: str) -> None:
        """Makes a policy the active one if none is."""
        await self._call("activate_policy", (version, body, author, "seeded", None))

    async def activate_policy(self, version: str, body: str, author: str, *, cause: str = "activated", instead_of: str | None = None) -> bool:
        """Makes a policy the active one; running services hear of it. False if it is already, or if `instead_of` is not the active one any more."""
        return bool((await self._call("activate_policy", (version, body, author, cause, instead_of)))[0][0])


def _key(row: Row) -> StoredKey:
    key_id, name, secret, scopes, *rest = row
    return StoredKey(key_id, name, bytes(secret), tuple(scopes), *rest)
