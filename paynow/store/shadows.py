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


class Counted(NamedTuple):
    """What the decisions beyond a reader's position, up to `read_to`, came to under its policy."""

    reader: Reader
    verdicts: Sequence[VerdictCount]
    rules: Sequence[RuleCount]
    read_to: Position
    decisions: int
    unreadable: int


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


class _Overtaken(Exception):
    """A policy is not where it was when the decisions were read."""


class Following:
    """The session of who reads along. Several processes may be at it: of those that read the same decisions one counts them.

    No transaction is open while decisions are judged: that takes long where the processors are busy, and would hold up whoever waits for the oldest.
    """

    def __init__(self, connection: pg.connection) -> None:
        self._connection = connection
        self._queries = load_queries(folder("sql") / "queries")
        connection.set_session(isolation_level="READ COMMITTED")

    def next(self, versions: Sequence[str], decisions_max: int) -> tuple[list[Reader], list[tuple[Position, PastDecision]]]:
        """Where these policies are, and the decisions that come next for the one that is furthest behind. Nothing is held afterwards."""
        with self._connection:
            readers = self._readers(versions)
            return readers, self._decisions(readers, decisions_max) if readers else []

    def count(self, counted: Sequence[Counted]) -> bool:
        """Stores what decisions came to and how far each policy has read, all or nothing; False if somebody else has counted for one meanwhile."""
        try:
            with self._connection:
                for one in sorted(counted, key=lambda one: one.reader.version):
                    self._count(one)
        except _Overtaken:
            return False
        return True

    def _count(self, one: Counted) -> None:
        version, before = one.reader.version, one.reader.position
        places = {"read_to": str(one.read_to.settled_by), "read_to_payment": one.read_to.payment_id}
        places |= {"read_before": str(before.settled_by), "read_before_payment": before.payment_id}
        if not self._do("shadow_advance", {"version": version, **places, "decisions": one.decisions, "unreadable": one.unreadable}):
            raise _Overtaken
        if one.verdicts:
            columns = [list(column) for column in zip(*one.verdicts, strict=True)]
            names = ("policy_versions", "recorded", "candidates", "currencies", "decisions", "unsure", "amounts_minor")
            self._do("shadow_verdicts_add", {"version": version, **dict(zip(names, columns, strict=True))})
        if one.rules:
            ids, fired, unknown = (list(column) for column in zip(*one.rules, strict=True))
            self._do("shadow_rules_add", {"version": version, "rules": ids, "fired": fired, "unknown": unknown})

    def _readers(self, versions: Sequence[str]) -> list[Reader]:
        rows = self._do("shadow_positions", {"versions": list(versions)})
        if any(restored for *_, restored in rows):
            self._do("shadow_restart", {})
            rows = self._do("shadow_positions", {"versions": list(versions)})
        return [Reader(version, Position(int(read_to), payment_id), since) for version, read_to, payment_id, since, _ in rows]

    def _decisions(self, readers: Sequence[Reader], decisions_max: int) -> list[tuple[Position, PastDecision]]:
        beyond = min(reader.position for reader in readers)
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
