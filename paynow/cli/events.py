"""`paynow events`: how far the sinks are behind, what they refused, and what they are to get again."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import click

from paynow.cli import EXIT_FAULT
from paynow.cli.common import config_option, json_option, show_json, show_table, with_store
from paynow.cli.event_schemas import schema
from paynow.cli.parameters import Moment
from paynow.clock import rfc3339
from paynow.errors import PayNowError
from paynow.store.records import DeadLetter

sink_argument = click.argument("sink")


class NoSuchSink(PayNowError):
    """No relay ever served a sink of that name."""


@click.group()
def events() -> None:
    """See where events are, send them again, and show their forms."""


events.add_command(schema)


@events.command()
@config_option
@json_option
def sinks(config_file: Path | None, as_json: bool) -> None:
    """Show every sink that was ever served, and how far it is behind."""
    found = with_store(config_file, lambda store: store.events.behind())
    if as_json:
        show_json(
            [
                {
                    "sink": sink.sink,
                    "behind": sink.events,
                    "oldestSeconds": round(sink.oldest_s, 1),
                    "retries": sink.retries,
                    "deadLetters": sink.dead_letters,
                    "state": "disabled" if sink.disabled else "enabled",
                }
                for sink in found
            ]
        )
        return
    columns = ("sink", "state", "behind", "oldest", "retries", "dead letters")
    rows = [
        (sink.sink, "disabled" if sink.disabled else "enabled", str(sink.events), f"{sink.oldest_s:.0f} s", str(sink.retries), str(sink.dead_letters))
        for sink in found
    ]
    show_table(columns, rows, none="no sink was served yet")


@events.command("dead-letters")
@click.option("--sink", help="Of this sink only.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many, oldest first.")
@config_option
@json_option
def dead_letters(sink: str | None, limit: int, config_file: Path | None, as_json: bool) -> None:
    """Show events that a sink refused for good, or that it did not take for days."""
    found = with_store(config_file, lambda store: store.events.dead_letters(sink, limit))
    if as_json:
        show_json([_letter_json(letter) for letter in found])
        return
    columns = ("sink", "event", "type", "subject", "refused", "why")
    rows = [(letter.sink, str(letter.event_id), letter.type, letter.subject, rfc3339(letter.refused_at), letter.error) for letter in found]
    show_table(columns, rows, none="there are no dead letters")


@events.command()
@sink_argument
@click.option("--event", "event_ids", type=click.UUID, multiple=True, help="This dead letter; may be given again for others.")
@click.option("--all", "everything", is_flag=True, help="All dead letters of the sink.")
@config_option
def redeliver(sink: str, event_ids: tuple[UUID, ...], everything: bool, config_file: Path | None) -> None:
    """Let SINK have its dead letters again: some by their event ids, or all."""
    if everything == bool(event_ids):
        raise click.UsageError("say which: --event ID, or --all")
    count = with_store(config_file, lambda store: store.events.redeliver(sink, None if everything else event_ids))
    if not count:
        click.echo(f"paynow: {sink} has no such dead letters", err=True)
        sys.exit(EXIT_FAULT)
    click.echo(f"{count} {'event is' if count == 1 else 'events are'} delivered again by the next relay")


@events.command()
@sink_argument
@click.option("--from", "since", type=Moment(), required=True, help="The first moment at which the events occurred, RFC 3339.")
@click.option("--to", "until", type=Moment(), help="The moment before which they occurred, RFC 3339; now if it is not said.")
@config_option
def replay(sink: str, since: datetime, until: datetime | None, config_file: Path | None) -> None:
    """Let SINK have again all events of a time that are still kept (events.keep), under the same ids."""
    if not any(known.sink == sink for known in with_store(config_file, lambda store: store.events.behind())):
        raise NoSuchSink(f"no relay ever served a sink {sink!r}")
    count = with_store(config_file, lambda store: store.events.replay(sink, since, until or datetime.now(UTC)))
    click.echo(f"{count} {'event is' if count == 1 else 'events are'} delivered again by the next relay")


@events.command()
@sink_argument
@config_option
def enable(sink: str, config_file: Path | None) -> None:
    """Let SINK have events again after its receiver said that it wants no more (HTTP 410)."""
    if not with_store(config_file, lambda store: store.events.enable(sink)):
        raise NoSuchSink(f"no relay ever served a sink {sink!r}")
    click.echo(f"{sink} gets its events again, beginning with those that wait")


@events.command()
@sink_argument
@config_option
def forget(sink: str, config_file: Path | None) -> None:
    """Forget SINK, which is served no more, with what it was to get. Its dead letters stay."""
    if not with_store(config_file, lambda store: store.events.forget_sink(sink)):
        raise NoSuchSink(f"no relay ever served a sink {sink!r}")
    click.echo(f"{sink} is forgotten")


def _letter_json(letter: DeadLetter) -> dict[str, object]:
    return {
        "sink": letter.sink,
        "eventId": str(letter.event_id),
        "customerId": letter.customer_id,
        "sequence": letter.sequence,
        "type": letter.type,
        "subject": letter.subject,
        "occurredAt": rfc3339(letter.occurred_at),
        "error": letter.error,
        "refusedAt": rfc3339(letter.refused_at),
    }
