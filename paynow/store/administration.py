"""What operators keep in the database: API keys and policies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from paynow.store.pool import Pool, Row
from paynow.store.records import StoredKey, StoredPolicy


class Administration:
    """API keys and policy versions."""

    def __init__(self, pool: Pool, queries: dict[str, str]) -> None:
        self._pool = pool
        self._queries = queries

    async def _call(self, name: str, parameters: tuple[object, ...] | Mapping[str, object] = ()) -> list[Row]:
        return await self._pool.call(name, self._queries[name], parameters)

    async def _read(self, name: str, parameters: tuple[object, ...] = ()) -> list[Row]:
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

    async def seed_policy(self, version: str, body: str, author: str) -> None:
        """Makes a policy the active one if none is."""
        await self._call("seed_policy", (version, body, author))

    async def activate_policy(self, version: str, body: str, author: str) -> None:
        """Makes a policy the active one."""
        await self._call("activate_policy", {"version": version, "body": body, "author": author})


def _key(row: Row) -> StoredKey:
    key_id, name, secret, scopes, *rest = row
    return StoredKey(key_id, name, bytes(secret), tuple(scopes), *rest)
