"""What is usual of a customer, held against a plain computation over all the amounts."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction

import psycopg2
import pytest

WEIGHED_ALIKE = 30


class Usual:
    """A mean and a variance in the database's own hands: what the settle does with a row."""

    def __init__(self, connection: psycopg2.extensions.connection) -> None:
        self._cursor = connection.cursor()
        self.count, self.mean, self.variance = 0, 0.0, 0.0

    def add(self, amount: int) -> None:
        statement = "select usual_mean(%(count)s, %(mean)s, %(amount)s), usual_variance(%(count)s, %(mean)s, %(variance)s, %(amount)s)"
        self._cursor.execute(statement, {"count": self.count, "mean": self.mean, "variance": self.variance, "amount": amount})
        self.mean, self.variance = self._cursor.fetchone()
        self.count += 1


@pytest.fixture
def usual(database: str) -> Iterator[Usual]:
    with closing(psycopg2.connect(database)) as connection:
        yield Usual(connection)


def weights(count: int) -> list[Fraction]:
    """What each of so many amounts weighs, the oldest first: 30 weigh alike, each later one a thirtieth, and the next takes a thirtieth off all."""
    found: list[Fraction] = []
    for number in range(1, count + 1):
        share = Fraction(1, min(number, WEIGHED_ALIKE))
        found = [weight * (1 - share) for weight in found] + [share]
    return found


def weighed(amounts: Sequence[int]) -> tuple[float, float]:
    """The weighed mean and variance, exactly, over all amounts at once."""
    shares = weights(len(amounts))
    assert sum(shares) == 1
    mean = sum(share * amount for share, amount in zip(shares, amounts, strict=True))
    return float(mean), float(sum(share * (amount - mean) ** 2 for share, amount in zip(shares, amounts, strict=True)))


@pytest.mark.parametrize("seed", range(8))
def test_mean_and_variance_are_what_all_amounts_come_to(usual: Usual, seed: int) -> None:
    chance = random.Random(seed)
    largest = 10 ** chance.choice((1, 4, 8, 15))
    amounts: list[int] = []
    for number in range(90):
        amounts.append(chance.randint(1, largest))
        usual.add(amounts[-1])
        if number % 7 == 0 or number in (28, 29, 30, 31):
            mean, variance = weighed(amounts)
            assert math.isclose(usual.mean, mean, rel_tol=1e-9)
            assert math.isclose(usual.variance, variance, rel_tol=1e-9, abs_tol=0.001)


def test_amounts_that_stay_the_same_never_become_too_small_for_a_number(usual: Usual) -> None:
    """Each takes away a thirtieth of the variance: 21,000 of them would leave less than a number can be, which PostgreSQL takes for an error."""
    usual.count, usual.mean, usual.variance = 100, 500.0, 1e-300
    for _ in range(3):
        usual.add(500)
    assert (usual.mean, usual.variance) == (500.0, 0.0)


def test_the_largest_amounts_can_be_usual(usual: Usual) -> None:
    for amount in (10**15, 1, 10**15, 1):
        usual.add(amount)
    assert math.isclose(usual.mean, 5e14, rel_tol=1e-9)
    assert math.isclose(math.sqrt(usual.variance), 5e14, rel_tol=1e-9)
