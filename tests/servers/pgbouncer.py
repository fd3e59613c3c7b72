"""A real PgBouncer for tests, in transaction mode and as docs/scaling.md shows it."""

from __future__ import annotations

from pathlib import Path

from bench.servers import pgbouncer
from services import absent


class Pgbouncer(pgbouncer.Pgbouncer):
    """As the bench starts it. Without the program the test is skipped, or fails if `PAYNOW_TEST_SERVICES=required`."""

    def __init__(self, folder: Path, server_dsn: str, **changes: str) -> None:
        if pgbouncer.program() is None:
            absent(f"the program {pgbouncer.PROGRAM} is not installed")
        super().__init__(folder, server_dsn, **changes)
