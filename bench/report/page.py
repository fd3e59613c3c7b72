"""The whole page of a day's results."""

from __future__ import annotations

from bench.report import tables
from bench.report.aims import Document, found, verdicts

PARTS = {
    "large": "Filled database against an empty one",
    "soak": "Soak",
    "overload": "Overload: twice the maximum",
    "backtest": "Backtest",
    "shadow": "Shadow policies",
    "events_kafka": "Events into Kafka: a backlog, full load, an outage of a minute with relays killed",
    "events_rabbitmq": "Events into RabbitMQ: a backlog, full load, an outage of a minute with relays killed",
    "scaling": "What scaling rests on: plain, through PgBouncer, on partitions",
}


def whole(document: Document, day: str) -> str:
    """Every part that was measured on that day, as Markdown."""
    judged = verdicts(document)
    parts = [
        f"# Measured on {day}\n",
        machine_line(document),
        "How it is measured, and what the columns mean: [docs/bench.md](../../docs/bench.md).\n",
    ]
    if judged:
        parts += ["## Aims\n", tables.aims(judged)]
    if lines := tables.missed(judged):
        parts += ["What bounds those that were missed:\n", lines]
    if compared := found(document, "comparison"):
        parts += [
            "## Rivals\n",
            f"![Throughput and times]({day}.svg)\n",
            tables.comparison(document),
            f"Medians of {compared['rounds']} interleaved rounds of {compared['seconds']:g} s. CPU: seconds of processor time for 1,000 decisions.\n",
            "## What a decision costs\n",
            tables.costs(document),
            "## Rounds\n",
            tables.spread(document),
        ]
        if compared.get("open_loop"):
            parts += ["## Open loop\n", tables.open_loop(document)]
        parts += [f"Left out, {name}: {reason.splitlines()[-1]}\n" for name, reason in compared["skipped"].items()]
    for part, title in PARTS.items():
        if of_part := found(document, part):
            parts += [f"## {title}\n", tables.facts(of_part)]
    return "\n".join(parts)


def machine_line(document: Document) -> str:
    """The machine in a sentence."""
    machine = document["machine"]
    return (
        f"{machine['cores']} × {machine['cpu']}, {machine['memory_gb']:g} GB, {machine['system']}; Python {machine['python']}, "
        f"PostgreSQL {machine['postgresql']} (fsync {machine['postgresql_settings']['fsync']}), one flush to disk {machine['fsync_ms']:g} ms. "
        "Load generator, rivals and PostgreSQL share the processors.\n"
    )
