"""`paynow backtest`: what a policy would have decided in the past, before it decides anything. It only shows."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paynow.backtest.processes import WORKERS_MAX
from paynow.cli import EXIT_FAULT, EXIT_REFUSED
from paynow.cli.common import config_option, json_option, load_settings, progress_bar, ready_database, show_json, show_table
from paynow.cli.parameters import Duration, Moment
from paynow.cli.verdicts import show_matrix
from paynow.errors import ConfigurationFault, ConfigurationRefused
from paynow.plugin_api import Field
from paynow.policy import Policy

if TYPE_CHECKING:
    from paynow.store.past import Window

TOP_MAX = 1_000


@click.command()
@click.option("--policy", "file", required=True, type=click.Path(path_type=Path), help="The candidate: a policy file.")
@click.option("--since", type=Duration(), help="Only payments that came in within this time, like 7d.")
@click.option("--from", "begin", type=Moment(), help="Only payments that came in at this moment or later, like 2026-11-01 or 2026-11-01T12:00:00Z.")
@click.option("--to", "end", type=Moment(), help="Only payments that came in before this moment.")
@click.option("--sample", type=click.IntRange(min=1), help="Only so many of them, as if by chance; the same ones each time.")
@click.option("--workers", type=click.IntRange(1, WORKERS_MAX), help="Processes; as many as there are processors if it is not said.")
@click.option("--labels", "labels_file", type=click.Path(path_type=Path), help="payment_id,label in CSV; else the labels of the cases, if any.")
@click.option("--top", type=click.IntRange(0, TOP_MAX), default=10, show_default=True, help="Show so many of the largest changes of each currency.")
@click.option("--export", "export_file", type=click.Path(path_type=Path), help="Write every payment that would change to a .csv or .parquet file.")
@config_option
@json_option
def backtest(
    *,
    file: Path,
    since: timedelta | None,
    begin: datetime | None,
    end: datetime | None,
    sample: int | None,
    workers: int | None,
    labels_file: Path | None,
    top: int,
    export_file: Path | None,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """Judge recorded decisions by another policy: what would change, which rules would fire, and how well it meets analysts' labels."""
    from paynow.backtest.files import ExportRefused, LabelsRefused, check_export, exporting, read_labels  # heavy: only here
    from paynow.backtest.report import document
    from paynow.backtest.run import backtest as run

    window = _window(since, begin, end, sample)
    candidate, tools = _candidate(file, config_file)
    try:
        labels = read_labels(labels_file) if labels_file else None
        if export_file:
            check_export(export_file)
    except (LabelsRefused, ExportRefused, OSError) as refused:
        click.echo(f"paynow: {refused}", err=True)
        sys.exit(EXIT_REFUSED)
    with ready_database(config_file) as dsn, progress_bar() as bar:
        task = bar.add_task("judging", total=None)
        with exporting(export_file) if export_file else nullcontext() as export:
            outcome = run(
                dsn,
                candidate,
                tools,
                window,
                labels=labels,
                workers=workers,
                top_max=top,
                begun=lambda decisions: bar.update(task, total=decisions),
                done=lambda decisions: bar.advance(task, decisions),
                export=export,
            )
    report = document(outcome)
    if as_json:
        show_json(report)
    else:
        _show(report)
    if report["unreadable"]:
        click.echo(f"paynow: {report['unreadable']} stored answers cannot be read: paynow explain --verify --all names them", err=True)
        sys.exit(EXIT_FAULT)


def _window(since: timedelta | None, begin: datetime | None, end: datetime | None, sample: int | None) -> Window:
    from paynow.store.past import Window

    if since is not None and (begin is not None or end is not None):
        raise click.UsageError("--since goes up to now: it cannot stand beside --from and --to")
    if begin is not None and end is not None and begin >= end:
        raise click.UsageError("--from has to be before --to")
    return Window.between(datetime.now(UTC) - since if since is not None else begin, end, sample)


def _candidate(file: Path, config_file: Path | None) -> tuple[Policy, Mapping[str, Mapping[str, Field]]]:
    """The candidate as a start would compile it, and what it was checked against. Raises `ConfigurationRefused`."""
    from paynow.agent import make_plan  # as heavy as the service: only here
    from paynow.app import compile_for
    from paynow.plugin_loader import load_plugins

    loaded = load_settings(config_file)
    plugins = load_plugins(loaded.settings, origin_of=loaded.origin_of)
    plan = make_plan(loaded.settings.agent, plugins.tools, origin_of=loaded.origin_of)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationRefused([ConfigurationFault(str(file), "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigurationRefused([ConfigurationFault(str(file), "", "is not UTF-8 text")]) from None
    return compile_for(plan, text, str(file)), {planned.tool.name: planned.tool.output for planned in plan.gather}


def _show(report: Mapping[str, Any]) -> None:
    if not report["decisions"]:
        click.echo("there are no decisions in that time")
        return
    click.echo(f"{report['decisions']:,} decisions, {report['changed']:,} would change; candidate {report['candidate']['version']}")
    click.echo(f"{report['perSecond']:,.0f} a second by {report['workers']} processes\n")
    _show_matrix(report)
    _show_rules(report)
    _show_top(report)
    _show_labels(report["labels"])


def _show_matrix(report: Mapping[str, Any]) -> None:
    show_matrix(report["matrix"])
    if report["unsure"]:
        click.echo(
            f"\nunsure: {report['unsure']:,} records lack what the candidate reads; the rules that need it are unknown, which is a review at least"
        )
        lacking = [(entry["rule"], entry["name"], f"{entry['decisions']:,}") for entry in report["notRecorded"]]
        show_table(("rule", "not recorded", "decisions"), lacking)


def _show_rules(report: Mapping[str, Any]) -> None:
    def counted(number: int | None) -> str:
        return "not in it" if number is None else f"{number:,}"

    click.echo()
    rows = [(rule["id"], counted(rule["recorded"]), counted(rule["candidate"]), counted(rule["unknown"])) for rule in report["rules"]]
    show_table(("rule", "recorded", "candidate", "unknown"), rows, none="the candidate has no rules, and none fired")


def _show_top(report: Mapping[str, Any]) -> None:
    if report["top"]:
        click.echo("\nlargest changes")
        rows = [
            (
                change["paymentId"],
                f"{change['amount']} {change['currency']}",
                f"{change['recorded']} to {change['candidate']}{', unsure' if change['unsure'] else ''}",
                " ".join(change["candidateRules"]) or "-",
                " ".join(change["recordedRules"]) or "-",
            )
            for change in report["top"]
        ]
        show_table(("payment", "amount", "verdict", "rules", "rules before"), rows)


def _show_labels(labels: Mapping[str, Any]) -> None:
    if not labels["judged"]:
        return
    counts = ", ".join(f"{count:,} {label}" for label, count in labels["decisions"].items())
    click.echo(f"\nlabels: {counts}")
    rows = [
        (
            judged["policy"],
            judged["caughtBy"],
            f"{judged['fraudCaught']:,}",
            f"{judged['fraudMissed']:,}",
            f"{judged['harmlessCaught']:,}",
            *("-" if judged[name] is None else f"{judged[name]:.1%}" for name in ("precision", "recall")),
            "  ".join(f"{amount['amount']} {amount['currency']}" for amount in judged["missedAmounts"]) or "-",
        )
        for judged in labels["judged"]
    ]
    show_table(("policy", "caught by", "fraud caught", "fraud missed", "harmless caught", "precision", "recall", "missed"), rows)
