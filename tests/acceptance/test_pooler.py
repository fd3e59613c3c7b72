"""PayNow behind a PgBouncer in transaction mode, which goes away and comes back. PAYNOW_TEST_POOLER lets every acceptance test take that way."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

from commands import paynow
from database import execute
from servers.pgbouncer import Pgbouncer
from service import UNLIMITED, audit, body, open_account, running
from waiting import eventually_async

RULE = """[[rule]]
id = "all"
when = "payment.amount_minor >= 1"
then = "block"
message = "Every payment"
"""


async def test_two_workers_decide_through_the_pooler_hear_of_policies_past_it_and_outlive_its_restart(
    pgbouncer: Pgbouncer, database: str, tmp_path: Path
) -> None:
    (tmp_path / "block.toml").write_text(RULE)
    way = {"DATABASE_URL": pgbouncer.dsn(database), "DATABASE_DIRECT_URL": database, "PAYNOW_DATABASE__POOLER": "transaction"}
    with running(database, tmp_path, {**UNLIMITED, **way}, arguments=("--workers", "2")) as service:
        open_account(database, "c_1", 1_000)
        open_account(database, "c_rich", 1_000_000)
        async with service.client() as client:

            async def pay(key: str, customer: str = "c_1") -> tuple[int, str | None]:
                async with client.post("/api/payments/decide", json=body(customer, "1.00", key)) as answer:
                    return answer.status, (await answer.json()).get("decision")

            decided = await asyncio.gather(*(pay(f"k-{n}") for n in range(30)))
            assert sorted(decided) == [(200, "allow")] * 10 + [(200, "block")] * 20, "no more than there is"
            through = (
                "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'paynow' and query ~ '^set local'"
            )
            assert execute(database, through)[0][0] > 0, "statements of payments bring their time limits along"

            activated = await asyncio.to_thread(paynow, tmp_path, database, "policy", "activate", "block.toml", **way)
            assert activated.code == 0, activated.err
            fresh = map("after-{}".format, count())

            async def heard() -> bool:
                return {await pay(next(fresh), "c_rich") for _ in range(4)} == {(200, "block")}

            await eventually_async(heard, within_s=3)

            pgbouncer.stop()
            try:
                assert {status for status, _ in await asyncio.gather(*(pay(f"down-{n}") for n in range(4)))} == {503}
            finally:
                pgbouncer.start()

            async def up_again() -> bool:
                return (await pay("again"))[0] == 200

            await eventually_async(up_again)
            assert await pay("k-0") == decided[0]
    audit(database, tmp_path)
