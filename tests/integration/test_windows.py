"""The windows that signals are read from, held against a plain recount of what happened."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import psycopg2
import pytest

BIGINT_MAX = 2**63 - 1
WINDOWS = ((1, 7), (30, 13), (360, 25))
"""The minute, the hour and the day: ticks of 10 s a bucket, and buckets."""
GAPS = (0, 0, 1, 1, 2, 6, 7, 29, 30, 31, 200, 389, 390, 391, 1_000, 8_000, 8_999, 9_000, 9_001, 50_000)
START = 176_000_000


class Ring:
    """A counter in the database's own hands: what the claim and the settle do with a row."""

    def __init__(self, connection: psycopg2.extensions.connection, kind: str) -> None:
        self._cursor = connection.cursor()
        self._kind = kind
        self.cells: list[int] = []
        self.total = 0
        self.tick = START

    def add(self, at: int, change: int) -> None:
        if at > self.tick:
            self.cells = self._one(f"select windows_roll(%s::{self._kind}[], %s::{self._kind}, %s, %s)", at)
            assert len(self.cells) in (0, 45)
            self.tick = at
        self.total += change

    def sums(self, at: int) -> list[int]:
        return self._one(f"select windows_total(%s::{self._kind}[], %s::{self._kind}, %s, %s)", at)

    def _one(self, query: str, at: int) -> list[int]:
        self._cursor.execute(query, (self.cells, self.total, self.tick, at))
        return self._cursor.fetchone()[0]


class HourRing(Ring):
    """A counter of which only the day is asked."""

    def add(self, at: int, change: int) -> None:
        if at > self.tick:
            self.cells = self._one("select hours_roll(%s::bigint[], %s::bigint, %s, %s)", at)
            assert len(self.cells) == 25
            self.tick = at
        self.total += change

    def day(self, at: int) -> int:
        return self._one("select window_sum(%s::bigint[], %s::bigint, %s, %s, 360, 25, 0)", at)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg2.extensions.connection]:
    with closing(psycopg2.connect(database)) as connection:
        yield connection


def recounted(changes: list[tuple[int, int]], at: int) -> list[int]:
    return [min(sum(change for tick, change in changes if tick // width > at // width - size), BIGINT_MAX) for width, size in WINDOWS]


@pytest.mark.parametrize("kind", ["bigint", "numeric"])
@pytest.mark.parametrize("seed", range(8))
def test_windows_are_what_a_recount_says(connection: psycopg2.extensions.connection, kind: str, seed: int) -> None:
    chance = random.Random(seed)
    largest = 100 if kind == "bigint" else 10 ** chance.choice((2, 15, 18))
    ring, changes, now = Ring(connection, kind), [], START + chance.randrange(10_000)
    for _ in range(120):
        now += chance.choice(GAPS)
        change = chance.randint(1, largest)
        ring.add(now, change)
        changes.append((now, change))
        for later in (0, chance.choice(GAPS)):
            assert ring.sums(now + later) == recounted(changes, now + later)


@pytest.mark.parametrize("taken_back", [0, 0.5])
@pytest.mark.parametrize("seed", range(8))
def test_a_ring_of_hours_says_what_a_recount_says_of_the_day(connection: psycopg2.extensions.connection, seed: int, taken_back: float) -> None:
    """Also where it was rolled on for changes that were taken back: a block that settles nothing leaves its tick behind."""
    chance = random.Random(seed)
    ring, changes, now = HourRing(connection, "bigint"), [], START + chance.randrange(10_000)
    ring.tick = 0
    for _ in range(120):
        now += chance.choice(GAPS)
        ring.add(now, 1)
        if chance.random() < taken_back:
            ring.total -= 1
        else:
            changes.append((now, 1))
        for later in (0, chance.choice(GAPS)):
            assert ring.day(now + later) == recounted(changes, now + later)[2]


def test_a_day_is_the_current_hour_and_the_24_before_it(connection: psycopg2.extensions.connection) -> None:
    ring, hour = HourRing(connection, "bigint"), 360
    ring.tick = 0
    began = START // hour * hour
    ring.add(began + hour - 1, 1)
    assert ring.day(began + 25 * hour - 1) == 1, "the last tick of the 24th hour after its own"
    assert ring.day(began + 25 * hour) == 0


def test_what_comes_late_counts_in_the_newest_bucket(connection: psycopg2.extensions.connection) -> None:
    ring = Ring(connection, "bigint")
    ring.add(START + 100, 1)
    ring.add(START + 50, 1)
    assert ring.sums(START + 100) == [2, 2, 2]
    assert ring.sums(START + 50) == [2, 2, 2], "also to a reader whose clock is behind"
    assert ring.sums(START + 107) == [0, 2, 2]


def test_sums_of_amounts_stop_at_the_largest_bigint_and_come_down_again(connection: psycopg2.extensions.connection) -> None:
    ring = Ring(connection, "numeric")
    for number in range(4):
        ring.add(START + 3_600 * number, BIGINT_MAX)
    assert ring.sums(START + 10_800) == [BIGINT_MAX] * 3
    ring.add(START + 60_000, 5)
    assert ring.sums(START + 60_000) == [5, 5, 5]


def test_a_tick_is_ten_seconds(connection: psycopg2.extensions.connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "select window_tick(%s), window_tick(%s)", (datetime.fromtimestamp(1_760_000_009, UTC), datetime.fromtimestamp(1_760_000_010, UTC))
        )
        assert cursor.fetchone() == (START, START + 1)
