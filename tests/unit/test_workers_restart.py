"""How long a worker that died is waited with: it may die for days."""

from __future__ import annotations

from paynow.workers import RESTART_FIRST_S, RESTART_MAX_S, restart_wait_s


def test_each_wait_is_twice_the_one_before_up_to_the_longest() -> None:
    assert [restart_wait_s(failures) for failures in (1, 2, 3)] == [RESTART_FIRST_S, 2 * RESTART_FIRST_S, 4 * RESTART_FIRST_S]
    assert restart_wait_s(100) == RESTART_MAX_S


def test_a_worker_that_dies_for_days_is_waited_with_as_long_and_no_longer() -> None:
    assert restart_wait_s(100_000) == RESTART_MAX_S
