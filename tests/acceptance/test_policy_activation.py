"""A policy that is activated while payments are under way: both workers take it, no payment fails and none sees a mixture."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from pathlib import Path

from commands import paynow
from database import execute
from service import UNLIMITED, audit, body, open_account, running
from waiting import meanwhile

CALLERS = 12
ACTIVATIONS = 6
RULE = """[[rule]]
id = "all"
when = "payment.amount_minor >= 1"
then = "{verdict}"
message = "Every payment"
"""


async def test_activations_under_load_fail_no_payment_and_mix_nothing(database: str, tmp_path: Path) -> None:
    files = {}
    for verdict in ("review", "block"):
        files[verdict] = tmp_path / f"{verdict}.toml"
        files[verdict].write_text(RULE.format(verdict=verdict))
    answers: list[tuple[int, str, str, tuple[str, ...]]] = []
    with running(database, tmp_path, UNLIMITED, arguments=("--workers", "2")) as service:
        for number in range(CALLERS):
            open_account(service.dsn, f"c_{number}", 10_000_000)
        stopping = asyncio.Event()
        async with service.client() as client:

            async def caller(number: int) -> None:
                for turn in itertools.count():
                    async with client.post("/api/payments/decide", json=body(f"c_{number}", key=f"k-{turn}")) as answer:
                        told = await answer.json()
                    reasons = tuple(reason["code"] for reason in told.get("reasons", ()))
                    answers.append((answer.status, told.get("policyVersion"), told.get("decision"), reasons))
                    if stopping.is_set():
                        return

            callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
            versions = {}
            for _, verdict in zip(range(ACTIVATIONS), itertools.cycle(files)):
                done = await asyncio.to_thread(paynow, tmp_path, service.dsn, "policy", "activate", str(files[verdict]))
                assert done.code == 0, done.err
                versions[verdict] = done.out.split()[0]
                heard = len(answers)
                # All callers are answered under the new one, by whichever worker.
                await meanwhile(lambda: len(answers) - heard >= CALLERS and _last(answers, CALLERS) == {versions[verdict]})  # noqa: B023
            stopping.set()
            await asyncio.gather(*callers)
        assert {status for status, *_ in answers} == {200}
        first = {decision for _, version, decision, _ in answers if version not in versions.values()}
        assert first == {"allow"}, "before the first activation"
        for verdict, version in versions.items():
            told = Counter((decision, reasons) for _, under, decision, reasons in answers if under == version)
            assert set(told) == {(verdict, ("all",))}, "an answer names one policy and has the verdict of another"
        recorded = "select count(*) from payments where policy_version <> answer::json ->> 'policyVersion'"
        assert execute(service.dsn, recorded) == [(0,)]
        causes = execute(service.dsn, "select cause, count(*)::int from policy_activations group by 1 order by 1")
        assert causes == [("activated", ACTIVATIONS), ("seeded", 1)]
        audit(service.dsn, tmp_path)


def _last(answers: list[tuple[int, str, str, tuple[str, ...]]], count: int) -> set[str]:
    return {version for _, version, *_ in answers[-count:]}
