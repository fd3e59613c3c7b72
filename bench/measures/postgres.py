"""What PostgreSQL did for a rival, out of its own counters, which are whole only when the sessions that count have ended."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.stage import Stage

SESSIONS_END_WITHIN_S = 10.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Work:
    """Committed transactions of one database; flushes and bytes of the cluster's write-ahead log."""

    commits: int
    fsyncs: int
    wal_bytes: int

    def since(self, before: Work) -> Work:
        """What was done between the two."""
        return Work(self.commits - before.commits, self.fsyncs - before.fsyncs, self.wal_bytes - before.wal_bytes)


def work(stage: Stage, database: str) -> Work:
    """The counters as they stand. Waits until nobody is connected to the database."""
    until = time.monotonic() + SESSIONS_END_WITHIN_S
    while stage.number("postgres", "select count(*) from pg_stat_activity where datname = %s", database) and time.monotonic() < until:
        time.sleep(POLL_S)
    return Work(
        stage.number("postgres", "select xact_commit from pg_stat_database where datname = %s", database),
        stage.number("postgres", _fsyncs(stage)),
        stage.number("postgres", "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"),
    )


def _fsyncs(stage: Stage) -> str:
    if stage.number("postgres", "select current_setting('server_version_num')::int") >= 180_000:
        return "select coalesce(sum(fsyncs), 0) from pg_stat_io where object = 'wal'"
    return "select wal_sync from pg_stat_wal"
