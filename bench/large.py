"""The filled database against an empty one: the same load, turn by turn, on the same cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.comparison import medians
from bench.fill import DATABASE as FILLED
from bench.fill import Size
from bench.loads import Crowd
from bench.servers.rivals import PAYNOW, paynow_database
from bench.stage import Stage
from bench.turns import Figures, check_audit, server_turn
from bench.voice import Voice

EMPTY = "empty"
FAVOURITE_SHARE = 0.01
"""Of the load, on both databases: the customer `c_0`, who has a long past of its own in the filled one."""
CUSTOMERS = 10_000


def measure(stage: Stage, size: Size, *, rounds: int, minutes: float, warmup_s: float, with_audit: bool, say: Voice) -> dict[str, Any]:
    """`rounds` turns on each, of `minutes` in all; the load on the filled one is of all its customers. Raises `Broken`."""
    stage.make_database(EMPTY)
    paynow_database(stage, EMPTY, CUSTOMERS)
    stage.run(EMPTY, "vacuum analyze")
    sides = {
        EMPTY: (replace(PAYNOW, name=EMPTY, database=EMPTY), Crowd(CUSTOMERS, FAVOURITE_SHARE)),
        # Only what is newer than the filling is counted: counting ten million takes longer than a turn.
        FILLED: (
            replace(PAYNOW, name=FILLED, database=FILLED, stored=f"select count(*) from payments where payment_id > '{size.last_id}'"),
            Crowd(size.customers, FAVOURITE_SHARE),
        ),
    }
    seconds = minutes * 60 / (2 * rounds)
    turns: dict[str, list[Figures]] = {name: [] for name in sides}
    run_key = stage.folder.name
    say.begin("large", 2 * rounds)
    for round_number in range(rounds):
        for name in sorted(sides, reverse=round_number % 2 == 1):
            rival, crowd = sides[name]
            found = server_turn(stage, rival, key=f"{run_key}-{round_number}", warmup_s=warmup_s, seconds=seconds, crowd=crowd)
            turns[name].append(found)
            say.done(f"round {round_number + 1} of {rounds}  {name:<8} {found.decisions_per_s:8,.0f}/s  p99 {found.p99_ms:6.1f} ms")
    for name in sides if with_audit else ():
        say(f"audit of {name}")
        check_audit(stage, name)
    empty, filled = medians(turns[EMPTY]), medians(turns[FILLED])
    return {
        "filled_payments": size.payments,
        "filled_customers": size.customers,
        "payments_of_one_customer": size.favourite,
        **{f"{name}_{key}": value for name, found in ((EMPTY, empty), (FILLED, filled)) for key, value in found.items() if value is not None},
        "throughput_ratio": (filled["decisions_per_s"] or 0) / (empty["decisions_per_s"] or 1),
        "p99_ratio": (filled["p99_ms"] or 0) / (empty["p99_ms"] or 1),
        "audit": "clean" if with_audit else "not run",
        "rounds": {name: [one.document() for one in found] for name, found in turns.items()},
    }
