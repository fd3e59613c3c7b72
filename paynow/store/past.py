"""Recorded decisions, read by several processes at once: one cuts the past into slices, the others read them, all in one snapshot.

Payment ids hold the time at which a payment came in, so a window of time is a range of ids, and the index that is there anyway finds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import psycopg2.extensions as pg

from paynow.resources import folder
from paynow.store.queries import load_queries
from paynow.store.session import session

SLICE_DECISIONS = 4_000
"""What one process takes at a time: a fraction of a second's work, so that all end at nearly the same time."""
FETCHED_AT_ONCE = 400
"""Rows of a slice that are held at once: about a megabyte of answers."""

EARLIEST, LATEST = UUID(int=0), UUID(int=(1 << 128) - 1)


@dataclass(frozen=True, slots=True)
class Window:
    """From the first payment id to the one beyond the last; `sample` asks for so many of them only, as if by chance."""

    first: UUID = EARLIEST
    beyond: UUID = LATEST
    sample: int | None = None

    @classmethod
    def between(cls, since: datetime | None, until: datetime | None, sample: int | None = None) -> Window:
        """The payments that came in at or after `since` and before `until`, both aware; None is without a bound."""
        return cls(EARLIEST if since is None else _id_at(since), LATEST if until is None else _id_at(until), sample)


@dataclass(frozen=True, slots=True)
class Slice:
    """Some decisions: those of `ids`, or if it is None all from `first` to the one before `beyond`."""

    first: UUID
    beyond: UUID
    ids: tuple[str, ...] | None = None


class PastDecision(NamedTuple):
    """One decision as it lies there. Ids are texts: making a UUID of each takes longer than reading it."""

    payment_id: str
    customer_id: str
    payee_id: str
    amount_minor: int
    currency: str
    decision: str
    policy_version: str
    answer: str


class Past:
    """One session that sees the past as it stood when the first of those that read together was opened."""

    def __init__(self, connection: pg.connection, snapshot: str | None) -> None:
        self._connection = connection
        self._queries = load_queries(folder("sql") / "queries")
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        if snapshot is not None:
            self._do("set transaction snapshot %s", (snapshot,))
        self.snapshot: str = snapshot or self._do(self._queries["past_export_snapshot"])[0][0]

    def count(self, window: Window) -> int:
        """How many decisions there are in a window."""
        counted = int(self._do(self._queries["past_count"], _bounds(window))[0][0])
        return counted if window.sample is None else min(counted, window.sample)

    def slices(self, window: Window) -> Iterator[Slice]:
        """A window in slices of `SLICE_DECISIONS`, the oldest first; nothing is held but the slice at hand."""
        if window.sample is None:
            cuts = self._stream("past_cuts", {**_bounds(window), "decisions": SLICE_DECISIONS}, fetched=1_000)
            first = next(cuts, None)
            while first is not None:
                cut = next(cuts, None)
                yield Slice(UUID(first[0]), window.beyond if cut is None else UUID(cut[0]))
                first = cut
            return
        chosen = self._stream("past_sample", {**_bounds(window), "sample": window.sample}, fetched=SLICE_DECISIONS)
        while ids := tuple(payment_id for (payment_id,) in islice(chosen, SLICE_DECISIONS)):
            yield slice_of(ids)

    def decisions(self, part: Slice) -> Iterator[PastDecision]:
        """The decisions of a slice in the order of their ids, by a cursor of the server's."""
        if part.ids is None:
            rows = self._stream("past_decisions", {"first": str(part.first), "beyond": str(part.beyond)}, fetched=FETCHED_AT_ONCE)
        else:
            rows = self._stream("past_chosen_decisions", {"ids": list(part.ids)}, fetched=FETCHED_AT_ONCE)
        return map(PastDecision._make, rows)

    def policy(self, version: str) -> str | None:
        """The text of a policy ever active."""
        rows = self._do(self._queries["past_policy"], (version,))
        return rows[0][0] if rows else None

    def labels(self) -> Iterator[tuple[str, str]]:
        """What analysts have said: payment ids with their labels."""
        return self._stream("past_labels", {}, fetched=10_000)

    def _do(self, statement: str, parameters: object = None) -> list[tuple]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def _stream(self, name: str, parameters: object, *, fetched: int) -> Iterator[tuple]:
        with self._connection.cursor(name=name) as cursor:
            cursor.itersize = fetched
            cursor.execute(self._queries[name], parameters)
            yield from cursor


@contextmanager
def open_past(dsn: str, snapshot: str | None = None) -> Iterator[Past]:
    """A session on the past: a snapshot of its own, or that of another session that is still open.

    What the driver raises comes out as `DatabaseFailed`.
    """
    with session(dsn, "paynow past") as connection:
        yield Past(connection, snapshot)


def slice_of(ids: Sequence[str]) -> Slice:
    """The slice of these payment ids, which are in order."""
    return Slice(UUID(ids[0]), UUID(int=min(UUID(ids[-1]).int + 1, LATEST.int)), tuple(ids))


def _bounds(window: Window) -> dict[str, str]:
    return {"first": str(window.first), "beyond": str(window.beyond)}


def _id_at(moment: datetime) -> UUID:
    """The least id of that millisecond."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=min(max(milliseconds, 0), (1 << 48) - 1) << 80)
