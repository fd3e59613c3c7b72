"""What the arithmetic of docs/scaling.md rests on: what a decision leaves on the disk, and what a pooler or partitions add to its cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import psycopg2

from bench.comparison import medians
from bench.loads import Crowd
from bench.measures.processes import cpu_s
from bench.servers.pgbouncer import Pgbouncer
from bench.servers.rivals import PAYNOW, command, paynow_database
from bench.stage import Stage
from bench.turns import Figures, check_audit, server_turn
from bench.voice import Voice
from paynow.resources import folder

PARTITIONED = ("payments", "idempotency_keys", "ledger_entries", "known_payees")
PARTITIONS = 16
BYTES = """
select coalesce(substring(relname from '^(.+)_[0-9]+$'), relname), sum(pg_table_size(oid)), sum(pg_indexes_size(oid))
from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' group by 1
"""
"""Of each table, its partitions together: rows with what is kept aside of them, and indexes."""


def measure(stage: Stage, *, rounds: int, seconds: float, warmup_s: float, crowd: Crowd, say: Voice) -> dict[str, Any]:
    """Turns of PayNow as it is, through PgBouncer, and on partitions; then what was added to each table. Raises `Broken`, `RuntimeError`."""
    rivals = {name: replace(PAYNOW, name=name, database=name) for name in ("plain", "pooled", "partitioned")}
    for name in rivals:
        stage.make_database(name)
        paynow_database(stage, name, crowd.customers)
    _cut(stage, "partitioned")
    before = {name: _bytes(stage, name) for name in ("plain", "partitioned")}
    turns: dict[str, list[Figures]] = {name: [] for name in rivals}
    pooler_cpu: list[float] = []
    with _pgbouncer(stage) as pooler:
        way = {
            "DATABASE_URL": pooler.dsn(stage.dsn("pooled")),
            "DATABASE_DIRECT_URL": stage.dsn("pooled"),
            "PAYNOW_DATABASE__POOLER": "transaction",
        }
        rivals["pooled"] = replace(rivals["pooled"], environ=way)
        say.begin("scaling", rounds * len(rivals))
        for number in range(rounds):
            for name in list(rivals)[number % len(rivals) :] + list(rivals)[: number % len(rivals)]:
                spent, stored = cpu_s(pooler.pid), stage.number(name, PAYNOW.stored or "")
                found = server_turn(stage, rivals[name], key=f"s{number}", warmup_s=warmup_s, seconds=seconds, crowd=crowd)
                turns[name].append(found)
                if name == "pooled":
                    pooler_cpu.append((cpu_s(pooler.pid) - spent) / (stage.number(name, PAYNOW.stored or "") - stored) * 1000)
                say.done(f"round {number + 1} of {rounds}  {name:<12} {found.decisions_per_s:8,.0f}/s  p99 {found.p99_ms:6.1f} ms")
    for name in rivals:
        check_audit(stage, name)
    figures = {f"{name}_{key}": value for name, found in turns.items() for key, value in medians(found).items() if value is not None}
    kept = {key: value for name in before for key, value in _kept(stage, name, before[name]).items()}
    return {**figures, "pooler_cpu": sorted(pooler_cpu)[len(pooler_cpu) // 2], **kept, "audit": "clean"}


def _kept(stage: Stage, name: str, before: dict[str, tuple[int, int]]) -> dict[str, float]:
    """Bytes that a decision has added: in all, and to each table that grew."""
    decisions = stage.number(name, PAYNOW.stored or "")
    grown = {
        table: tuple((now - then) / decisions for now, then in zip(sizes, before.get(table, (0, 0)), strict=True))
        for table, sizes in _bytes(stage, name).items()
    }
    shown = {f"{name}_bytes_{table}": rows + indexes for table, (rows, indexes) in sorted(grown.items()) if rows + indexes >= 1}
    return {f"{name}_decisions": decisions, f"{name}_bytes": sum(shown.values()), f"{name}_bytes_indexes": sum(i for _, i in grown.values()), **shown}


def _bytes(stage: Stage, database: str) -> dict[str, tuple[int, int]]:
    stage.run(database, "vacuum (analyze)")
    return {table: (int(rows), int(indexes)) for table, rows, indexes in stage.run(database, BYTES)}


def _cut(stage: Stage, database: str) -> None:
    bounds = [f"for values with (modulus {PARTITIONS}, remainder {n})" for n in range(PARTITIONS)]
    with closing(psycopg2.connect(stage.dsn(database))) as connection, connection, connection.cursor() as cursor:
        cursor.execute((folder("sql") / "recipes" / "partition_table.sql").read_text(encoding="utf-8"))
        for table in PARTITIONED:
            cursor.execute("select pg_temp.partition_table(%s, 'customer_id', 'hash', %s)", (table, bounds))
    command(stage, database, "migrate")


@contextmanager
def _pgbouncer(stage: Stage) -> Iterator[Pgbouncer]:
    place = stage.folder / "pgbouncer"
    place.mkdir()
    pooler = Pgbouncer(place, stage.server.dsn)
    pooler.start()
    try:
        yield pooler
    finally:
        pooler.stop()
