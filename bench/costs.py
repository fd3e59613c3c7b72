"""What a decision costs in counts: statements, flushes, calls of Python. They hardly depend on the machine or on what else it does, so that CI
can hold them to those recorded last (`bench/costs.toml`, `tests/integration/test_costs.py`), where seconds would tell more of the machine.
"""

from __future__ import annotations

import asyncio
import pstats
import tomllib
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path

import aiohttp

from bench.loads import API_KEY, PATH
from bench.measures import metrics, postgres
from bench.servers.rivals import PAYNOW, Rival, at_work, paynow_database
from bench.stage import Stage
from bench.turns import Broken, check_drained

RECORDED = Path(__file__).with_name("costs.toml")
CUSTOMERS = 2_000
TOGETHER = 64
FEW, MANY = 300, 1_500
"""Payments of the two runs under the profiler: what both have in common (starting, stopping) falls out of the difference."""
STEPS = ("claim", "balance", "activity", "settle")

_PROFILED = replace(PAYNOW, name="profiled", module=("cProfile", "-o", "calls.prof", "-m", *PAYNOW.module))


@dataclass(frozen=True, slots=True)
class Costs:
    """For one decision. `alone`: one payment after the other; `together`: 64 under way at all times.

    Statements are those of the four steps; calls are those of Python functions in the server's process, built-in ones included.
    """

    statements_alone: float
    flushes_alone: float
    statements_together: float
    flushes_together: float
    calls_together: float


def measure(stage: Stage) -> Costs:
    """Asks some thousand payments. Raises `Broken` if one is not decided."""
    database = PAYNOW.database or ""
    stage.make_database(database)
    paynow_database(stage, database, CUSTOMERS)
    numbers = count(1)
    alone = _work(stage, PAYNOW, FEW, 1, numbers)
    together = _work(stage, PAYNOW, MANY, TOGETHER, numbers)
    profiled = replace(_PROFILED, database=database)
    calls = [_calls(stage, profiled, payments, numbers) for payments in (FEW, MANY)]
    return Costs(*alone, *together, (calls[1] - calls[0]) / (MANY - FEW))


def recorded() -> Costs:
    """Those of the last record."""
    return Costs(**tomllib.loads(RECORDED.read_text(encoding="utf-8")))


def record(costs: Costs) -> None:
    """Makes these the ones that CI holds later ones to."""
    RECORDED.write_text("".join(f"{name} = {value:.2f}\n" for name, value in asdict(costs).items()), encoding="utf-8")


def _work(stage: Stage, rival: Rival, payments: int, at_once: int, numbers: count[int]) -> tuple[float, float]:
    """Statements and flushes for one decision."""
    before = postgres.work(stage, rival.database or "")
    with at_work(rival, stage) as serving:
        counted = metrics.read(serving.port, API_KEY)
        asyncio.run(_ask(serving.port, payments, at_once, numbers))
        statements = metrics.read(serving.port, API_KEY).since(counted).statements
        check_drained(stage, rival.database or "")
    flushes = postgres.work(stage, rival.database or "").since(before).fsyncs
    return sum(statements.get(step, 0) for step in STEPS) / payments, flushes / payments


def _calls(stage: Stage, rival: Rival, payments: int, numbers: count[int]) -> int:
    with at_work(rival, stage) as serving:
        asyncio.run(_ask(serving.port, payments, TOGETHER, numbers))
        check_drained(stage, rival.database or "")
    return int(pstats.Stats(str(stage.folder / "calls.prof")).total_calls)  # type: ignore[attr-defined]


async def _ask(port: int, payments: int, at_once: int, numbers: count[int]) -> None:
    left = iter(range(payments))
    connector = aiohttp.TCPConnector(limit=at_once)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers={"X-API-Key": API_KEY}, connector=connector) as client:

        async def caller() -> None:
            for _ in left:
                number = next(numbers)
                asked = {"customerId": f"c_{number % CUSTOMERS}", "amount": "12.50", "currency": "USD", "payeeId": "p_0"}
                async with client.post(PATH, json={**asked, "idempotencyKey": f"k-{number}"}) as answer:
                    if answer.status != 200:
                        raise Broken(f"a payment was answered with {answer.status}: {await answer.text()}")

        await asyncio.gather(*(caller() for _ in range(at_once)))
