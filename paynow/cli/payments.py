"""`paynow payments replay`: a file of payments through a running service, and what came of them."""

from __future__ import annotations

import asyncio
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from paynow.cli import EXIT_FAULT, EXIT_REFUSED
from paynow.cli.calling import api_key, url_option
from paynow.cli.common import config_option, json_option, show_json
from paynow.cli.sending import Sender, Tally, percentile
from paynow.clock import Clock
from paynow.payments.payment_file import PaymentFileRefused, PaymentLine, read_payments

FAULTS_SHOWN = 20
CONCURRENCY_MAX = 1_000


@click.group()
def payments() -> None:
    """Send payments through a running service."""


@payments.command()
@click.argument("file", metavar="FILE.csv", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@url_option
@click.option("--concurrency", type=click.IntRange(1, CONCURRENCY_MAX), default=16, show_default=True, help="Payments under way at once.")
@click.option("--limit", type=click.IntRange(min=1), help="Send only the first so many payments.")
@config_option
@json_option
def replay(*, file: Path, url: str, concurrency: int, limit: int | None, config_file: Path | None, as_json: bool) -> None:
    """Send customer_id,payee_id,amount,currency and perhaps idempotency_key with the key in API_KEY. The same file again moves no money again."""
    key = api_key(config_file, "payments:decide")
    chosen = list(islice(_read(file), limit))
    with _bar() as bar:
        task = bar.add_task("payments", total=len(chosen))
        sender = Sender(url, key, concurrency=concurrency, clock=Clock(), sent=lambda: bar.advance(task))
        tally = asyncio.run(sender(chosen))
    for line, code in tally.failures:
        click.echo(f"{file}:{line}: {code}", err=True)
    summary = _summary(tally, len(chosen))
    if as_json:
        show_json(summary)
    else:
        _show(summary)
    if tally.errors or tally.sent < len(chosen):
        sys.exit(EXIT_FAULT)


def _read(file: Path) -> list[PaymentLine]:
    try:
        return read_payments(file)
    except PaymentFileRefused as refused:
        for line, message in refused.faults[:FAULTS_SHOWN]:
            click.echo(f"{file}:{line}: {message}", err=True)
        more = len(refused.faults) - FAULTS_SHOWN
        click.echo(f"paynow: nothing was sent: {refused}{f' ({more} more)' if more > 0 else ''}", err=True)
        sys.exit(EXIT_REFUSED)


def _summary(tally: Tally, payments_in_all: int) -> dict[str, Any]:
    latencies_s = sorted(tally.latencies_s)
    return {
        "payments": payments_in_all,
        "decisions": {decision: tally.decisions[decision] for decision in ("allow", "review", "block")},
        "replayed": tally.replayed,
        "retries": tally.retries,
        "errors": dict(sorted(tally.errors.items())),
        "notSent": payments_in_all - tally.sent,
        "latencyMs": {f"p{share}": round(percentile(latencies_s, share / 100) * 1000, 2) for share in (50, 95, 99)},
        "seconds": round(tally.seconds, 3),
        "perSecond": round(tally.decisions.total() / tally.seconds, 1) if tally.seconds else 0.0,
    }


def _show(summary: dict[str, Any]) -> None:
    counts = {name: ", ".join(f"{key} {count}" for key, count in summary[name].items()) for name in ("decisions", "errors")}
    latency = ", ".join(f"{name} {ms:.2f} ms" for name, ms in summary["latencyMs"].items())
    rows = [
        ("payments", f"{summary['payments']}" + (f", of which {summary['notSent']} were not sent" if summary["notSent"] else "")),
        ("decisions", counts["decisions"]),
        ("replayed", f"{summary['replayed']}"),
        ("retries", f"{summary['retries']}"),
        ("errors", counts["errors"] or "none"),
        ("latency", latency),
        ("throughput", f"{summary['perSecond']:.1f} decisions a second, {summary['seconds']:.2f} s in all"),
    ]
    for name, value in rows:
        click.echo(f"{name:<12}{value}")


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
