"""Policies that read the decisions behind the active one: how far each has come, and what it came to.

A payment is read when every transaction that began before the one that settled it has ended, in the order of those transactions: none is missed,
however they overlap. What a policy comes to is stored in the transaction that says how far it has read: none is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import psycopg2.extensions as pg

from paynow.resources import folder
from paynow.store.past import PastDecision
from paynow.store.pool import Pool
from paynow.store.queries import load_queries
from paynow.store.session import session


class Position(NamedTuple):
    """The last payment that was read, in the order of settling: the number of the transaction that settled it, and its id."""

    settled_by: int
    payment_id: str


class Reader(NamedTuple):
    """A policy and where it has come to."""

    version: str
    position: Position
    counted_from: datetime


class VerdictCount(NamedTuple):
    """How many decisions of one policy were made so, and would have been made so; `unsure` as in a backtest."""

    policy_version: str
    recorded: str
    candidate: str
    currency: str
    decisions: int
    unsure: int
    amount_minor: int


class RuleCount(NamedTuple):
    """How often a rule was true, and how often it could not be told."""

    rule: str
    fired: int
    unknown: int


class ReadBehind(NamedTuple):
    """One policy as a whole. `behind_s` is the age of the oldest decision that it has not read, 0 if it has read all."""

    version: str
    counted_from: datetime
    decisions: int
    unreadable: int
    behind_s: float


class ShadowCount(NamedTuple):
    """What a policy came to beside what was decided, of one currency."""

    version: str
    recorded: str
    candidate: str
    currency: str
    decisions: int
    unsure: int
    amount_minor: Decimal


class Following:
    """The session of who reads along. Each step is a transaction, and several processes may be at it: one at a time reads for a policy."""

    def __init__(self, connection: pg.connection) -> None:
        self._connection = connection
        self._queries = load_queries(folder("sql") / "queries")
        connection.set_session(isolation_level="READ COMMITTED")

    def anything_new(self, versions: Sequence[str]) -> bool:
        """Whether a decision waits for one of these policies; looks only."""
        with self._connection:
            readers = self._readers("shadow_positions", versions)
            return bool(readers and self._decisions(min(reader.position for reader in readers), readers, 1))

    @contextmanager
    def turn(self, versions: Sequence[str], decisions_max: int) -> Iterator[tuple[list[Reader], list[tuple[Position, PastDecision]]]]:
        """The policies that are ours for the length of the block, and the decisions that come next for the one that is furthest behind.

        What is added in the block is committed at its end, all or nothing.
        """
        with self._connection:
            readers = self._readers("shadow_lock", versions)
            first = min((reader.position for reader in readers), default=None)
            yield readers, self._decisions(first, readers, decisions_max) if first is not None else []

    def add(
        self, version: str, verdicts: Sequence[VerdictCount], rules: Sequence[RuleCount], *, read_to: Position, decisions: int, unreadable: int
    ) -> None:
        """Within a turn: what decisions up to `read_to` came to under a policy."""
        if verdicts:
            columns = [list(column) for column in zip(*verdicts, strict=True)]
            names = ("policy_versions", "recorded", "candidates", "currencies", "decisions", "unsure", "amounts_minor")
            self._do("shadow_verdicts_add", {"version": version, **dict(zip(names, columns, strict=True))})
        if rules:
            ids, fired, unknown = (list(column) for column in zip(*rules, strict=True))
            self._do("shadow_rules_add", {"version": version, "rules": ids, "fired": fired, "unknown": unknown})
        place = {"read_to": str(read_to.settled_by), "read_to_payment": read_to.payment_id}
        self._do("shadow_advance", {"version": version, **place, "decisions": decisions, "unreadable": unreadable})

    def _readers(self, query: str, versions: Sequence[str]) -> list[Reader]:
        rows = self._do(query, {"versions": list(versions)})
        if any(restored for *_, restored in rows):
            self._do("shadow_restart", {})
            rows = self._do(query, {"versions": list(versions)})
        return [Reader(version, Position(int(read_to), payment_id), since) for version, read_to, payment_id, since, _ in rows]

    def _decisions(self, beyond: Position, readers: Sequence[Reader], decisions_max: int) -> list[tuple[Position, PastDecision]]:
        rows = self._do(
            "shadow_decisions",
            {
                "read_to": str(beyond.settled_by),
                "read_to_payment": beyond.payment_id,
                "counted_from": min(reader.counted_from for reader in readers),
                "decisions": decisions_max,
            },
        )
        return [(Position(int(settled_by), row[0]), PastDecision._make(row)) for settled_by, *row in rows]

    def _do(self, name: str, parameters: Mapping[str, object]) -> list[tuple]:
        with self._connection.cursor() as cursor:
            cursor.execute(self._queries[name], parameters)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def following(dsn: str) -> Iterator[Following]:
    """A session to read along with. What the driver raises comes out as `DatabaseFailed`."""
    with session(dsn, "paynow shadow") as connection:
        yield Following(connection)


class Shadows:
    """Policies behind the active one as the service knows them: made known, and shown with what they came to."""

    def __init__(self, pool: Pool, queries: dict[str, str]) -> None:
        self._pool = pool
        self._queries = queries

    async def begin(self, version: str, body: str, rules: Sequence[str]) -> None:
        """Makes a policy known: it reads what is settled from now on, and goes on where it was if it read before."""
        await self._pool.call("shadow_begin", self._queries["shadow_begin"], {"version": version, "body": body, "rules": list(rules)})

    async def policies(self, versions: Sequence[str] | None = None) -> list[ReadBehind]:
        """These policies, or all that ever read along, the newest first."""
        named = {"versions": None if versions is None else list(versions)}
        return [ReadBehind(*row) for row in await self._pool.read("shadow_policies", self._queries["shadow_policies"], named)]

    async def verdicts(self, versions: Sequence[str], *, against: str | None = None) -> list[ShadowCount]:
        """What they came to, beside all decisions or those of the policy `against`."""
        named = {"versions": list(versions), "against": against}
        return [ShadowCount(*row) for row in await self._pool.read("shadow_verdicts", self._queries["shadow_verdicts"], named)]

    async def rules(self, versions: Sequence[str]) -> dict[str, list[RuleCount]]:
        """What their rules came to, by version and in each policy's order, beside all decisions."""
        found: dict[str, list[RuleCount]] = {version: [] for version in versions}
        for version, *counted in await self._pool.read("shadow_rules", self._queries["shadow_rules"], {"versions": list(versions)}):
            found[version].append(RuleCount(*counted))
        return found
