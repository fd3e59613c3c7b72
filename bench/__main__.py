"""`python -m bench`, which is `make bench`: every measurement is a command; without one, the comparison of all rivals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from bench import brokers, comparison, costs, fill, large, overload, past, scaling, shadow, soak
from bench.loads import Crowd, wrk
from bench.measures import machine
from bench.processes import DidNotServe
from bench.report import results, tables
from bench.report.aims import verdicts
from bench.servers.rivals import SERVERS
from bench.stage import Stage, lasting_stage, private_stage
from bench.turns import Broken, check_audit
from bench.voice import Voice

EXIT_TERMINATED = 143

minutes_option = click.option("--minutes", type=click.FloatRange(min=0.05), default=10.0, show_default=True, help="How long the load lasts.")
customers_option = click.option("--customers", type=click.IntRange(100), default=10_000, show_default=True, help="Customers of the load.")
publish_option = click.option("--publish/--no-publish", default=True, show_default=True, help="Keep the results under bench/results/.")


@click.group(invoke_without_command=True)
@click.pass_context
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Every rival has a turn in each.")
@click.option("--seconds", type=click.FloatRange(min=1), default=10.0, show_default=True, help="Length of a turn.")
@click.option("--warmup", "warmup_s", type=click.FloatRange(min=1), default=3.0, show_default=True, help="Seconds before it that do not count.")
@click.option("--open-seconds", type=click.FloatRange(min=0), default=20.0, show_default=True, help="Length of an open loop; 0: none.")
@click.option("--only", multiple=True, type=click.Choice([*(rival.name for rival in SERVERS), comparison.PGBENCH]), help="These rivals alone.")
@customers_option
@publish_option
def bench(
    context: click.Context, rounds: int, seconds: float, warmup_s: float, open_seconds: float, only: tuple[str, ...], customers: int, publish: bool
) -> None:
    """Measure PayNow against its rivals, in interleaved rounds on this machine, and write results and README."""
    if context.invoked_subcommand:
        return
    crowd = Crowd(customers)
    with Voice() as say, private_stage() as stage:
        facts = _begin(stage, say)
        found = comparison.compare(stage, rounds=rounds, seconds=seconds, warmup_s=warmup_s, crowd=crowd, say=say, only=only)
        ours = found["rivals"].get("paynow")
        if ours and open_seconds:
            maximum = ours["median"]["decisions_per_s"]
            found["open_loop"] = comparison.open_loop(
                stage, maximum=maximum, seconds=open_seconds, repeats=rounds, warmup_s=warmup_s, crowd=crowd, say=say
            )
        _end("comparison", found, facts, say, publish=publish)


@bench.command("fill")
@click.option("--payments", type=click.IntRange(1_000), default=10_000_000, show_default=True, help="Decided payments in all.")
@click.option("--customers", type=click.IntRange(10), default=1_000_000, show_default=True, help="Customers in all.")
@click.option("--favourite", type=click.IntRange(0), default=1_000_000, show_default=True, help="Payments of one of them, c_0.")
@click.option("--again", is_flag=True, help="In place of a database that is filled already.")
@click.option("--audit/--no-audit", "with_audit", default=True, show_default=True, help="Check the promises afterwards.")
def fill_command(payments: int, customers: int, favourite: int, again: bool, with_audit: bool) -> None:
    """Fill a database with a long past, for `large`; it stays under .bench/."""
    if favourite > min(payments, fill.PAYEES):
        raise click.UsageError("one customer cannot have more payments than there are, nor than there are payees")
    with Voice() as say, lasting_stage(fill.SETTINGS) as stage:
        _alone(stage)
        if fill.filled_size(stage) and not again:
            raise click.ClickException("there is a filled database already: --again makes it anew")
        found = fill.fill(stage, fill.Size(payments, customers, favourite), say)
        say(tables.facts(found))
        if with_audit:
            say("audit")
            check_audit(stage, fill.DATABASE)
            say("audit: clean")


@bench.command("large")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Turns on each of the two databases.")
@click.option("--minutes", type=click.FloatRange(min=0.05), default=5.0, show_default=True, help="All turns together.")
@click.option("--warmup", "warmup_s", type=click.FloatRange(min=1), default=3.0, show_default=True, help="Seconds before a turn that do not count.")
@click.option("--audit/--no-audit", "with_audit", default=True, show_default=True, help="Check the promises afterwards.")
@publish_option
def large_command(rounds: int, minutes: float, warmup_s: float, with_audit: bool, publish: bool) -> None:
    """Throughput and times on the filled database against an empty one."""
    with Voice() as say, lasting_stage() as stage:
        _alone(stage)
        size = fill.filled_size(stage)
        if size is None:
            raise click.ClickException("there is no filled database: run `fill` first")
        facts = _begin(stage, say)
        found = large.measure(stage, size, rounds=rounds, minutes=minutes, warmup_s=warmup_s, with_audit=with_audit, say=say)
        _end("large", found, facts, say, publish=publish)


@bench.command("soak")
@minutes_option
@customers_option
@publish_option
def soak_command(minutes: float, customers: int, publish: bool) -> None:
    """Full load for minutes: memory has to stay flat, queues empty afterwards, the audit clean."""
    _alone_on_a_stage("soak", lambda stage, say: soak.measure(stage, minutes=minutes, crowd=Crowd(customers), say=say), publish=publish)


@bench.command("overload")
@minutes_option
@customers_option
@publish_option
def overload_command(minutes: float, customers: int, publish: bool) -> None:
    """Twice the maximum for minutes: times of what is accepted, times of what is refused, throughput."""
    _alone_on_a_stage("overload", lambda stage, say: overload.measure(stage, minutes=minutes, crowd=Crowd(customers), say=say), publish=publish)


@bench.command("backtest")
@click.option("--decisions", type=click.IntRange(1), default=1_000_000, show_default=True, help="Recorded decisions that are judged again.")
@click.option("--workers", type=click.IntRange(1), help="Processes; as many as there are processors if it is not said.")
@publish_option
def backtest_command(decisions: int, workers: int | None, publish: bool) -> None:
    """Judge a week of decisions by another policy: rate for each core, memory, and the verdict matrix against one that SQL counts."""
    _alone_on_a_stage("backtest", lambda stage, say: past.measure(stage, decisions=decisions, workers=workers, say=say), publish=publish)


@bench.command("shadow")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Turns with shadow policies, and as many without.")
@minutes_option
@click.option("--warmup", "warmup_s", type=click.FloatRange(min=1), default=3.0, show_default=True, help="Seconds before a turn that do not count.")
@customers_option
@publish_option
def shadow_command(rounds: int, minutes: float, warmup_s: float, customers: int, publish: bool) -> None:
    """Times at half of the maximum with two shadow policies against those without, and whether the policies catch up."""
    crowd = Crowd(customers)
    _alone_on_a_stage(
        "shadow", lambda stage, say: shadow.measure(stage, rounds=rounds, minutes=minutes, warmup_s=warmup_s, crowd=crowd, say=say), publish=publish
    )


@bench.command("events")
@click.option("--broker", "names", multiple=True, type=click.Choice([*brokers.BROKERS]), help="This one alone.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="Length of the load whose events are a backlog, and of full load.",
)
@click.option(
    "--payments", type=click.IntRange(1_000), default=50_000, show_default=True, help="Payments while the broker is away and relays are killed."
)
@customers_option
@publish_option
def events_command(names: tuple[str, ...], seconds: float, payments: int, customers: int, publish: bool) -> None:
    """Events into Kafka and RabbitMQ: how a backlog drains, whether the relay keeps up with full load, what an outage and killed relays do."""
    for name in names or tuple(brokers.BROKERS):
        with brokers.BROKERS[name]() as broker:
            _alone_on_a_stage(
                f"events_{name}",
                lambda stage, say, broker=broker: brokers.measure(
                    stage, broker, seconds=seconds, warmup_s=3, payments=payments, crowd=Crowd(customers), say=say
                ),
                publish=publish,
            )


@bench.command("scaling")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Turns of each.")
@click.option("--seconds", type=click.FloatRange(min=1), default=10.0, show_default=True, help="Length of a turn.")
@click.option("--warmup", "warmup_s", type=click.FloatRange(min=1), default=3.0, show_default=True, help="Seconds before it that do not count.")
@customers_option
@publish_option
def scaling_command(rounds: int, seconds: float, warmup_s: float, customers: int, publish: bool) -> None:
    """What a decision leaves on the disk, and what PgBouncer or partitions add to its cost: the figures of docs/scaling.md."""
    crowd = Crowd(customers)
    _alone_on_a_stage(
        "scaling",
        lambda stage, say: scaling.measure(stage, rounds=rounds, seconds=seconds, warmup_s=warmup_s, crowd=crowd, say=say),
        publish=publish,
    )


@bench.command("costs")
@click.option("--record", is_flag=True, help="Make them those to which CI holds later ones.")
def costs_command(record: bool) -> None:
    """What a decision costs in counts: statements, flushes, calls of Python."""
    with private_stage() as stage:
        found = costs.measure(stage)
    before = asdict(costs.recorded()) if costs.RECORDED.exists() else {}
    for name, value in asdict(found).items():
        click.echo(f"{name:<20} {value:9.2f}   recorded {before.get(name, 0):9.2f}")
    if record:
        costs.record(found)


@bench.command("report")
def report_command() -> None:
    """Make pages, plots and the README's part anew out of the results."""
    for path in sorted(results.FOLDER.glob("????-??-??.json")):
        results.render(path)
    if not results.publish():
        raise click.ClickException("there are no results yet")


def _alone_on_a_stage(part: str, measure: Callable[[Stage, Voice], dict[str, Any]], *, publish: bool) -> None:
    with Voice() as say, private_stage() as stage:
        facts = _begin(stage, say)
        _end(part, measure(stage, say), facts, say, publish=publish)


def _alone(stage: Stage) -> None:
    if not stage.server.started:
        raise click.ClickException("somebody uses the filled database's server: it would keep its settings")


def _begin(stage: Stage, say: Voice) -> dict[str, Any]:
    facts = machine.facts(stage)
    say(f"{facts['cores']} × {facts['cpu']}, PostgreSQL {facts['postgresql']}, a flush takes {facts['fsync_ms']} ms, load {facts['load_before']}")
    if facts["load_before"] > 0.5 * (facts["cores"] or 1):
        say("this machine is busy with something else: what is measured now says little")
    if not wrk.installed():
        say(wrk.MISSING)
    return {**facts, "load_generator": "wrk" if wrk.installed() else "bench.loads.generator"}


def _end(part: str, found: dict[str, Any], facts: dict[str, Any], say: Voice, *, publish: bool) -> None:
    document = {part: {"found": found}, "machine": facts}
    say("\n" + (tables.comparison(document) + "\n" + tables.costs(document) if part == "comparison" else tables.facts(found)))
    if found.get("open_loop"):
        say(tables.open_loop(document))
    if judged := verdicts(document):
        say(tables.aims(judged))
    if publish:
        path = results.add(part, found, facts)
        results.publish()
        say(f"kept in {path}, with a page beside it")


def _main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # so that everything that was started is stopped
    try:
        bench(prog_name="bench", standalone_mode=True)
    except (Broken, DidNotServe, RuntimeError) as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    _main()
