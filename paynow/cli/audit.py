"""`paynow audit`: the promises, checked against the database. It only shows; what is checked and how stands in `store/audit.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from paynow.cli import EXIT_FAULT
from paynow.cli.common import WIDTH_UNBOUND, config_option, database, json_option, load_settings, prepare_schema, show_json
from paynow.store import audit as auditing
from paynow.store.audit import Finding


@click.command()
@config_option
@json_option
def audit(config_file: Path | None, as_json: bool) -> None:
    """Check the promises against the database, in one snapshot and without changing anything. Exit code 1 if one is broken."""
    settings = load_settings(config_file).settings
    output = _output()
    with database(settings) as dsn:
        prepare_schema(settings, dsn)
        # Where the lines come out on a terminal, the spinner has to know of them.
        with (output if output.is_terminal else Console(stderr=True)).status("") as status:
            _, findings = auditing.audit(
                dsn,
                started=lambda check: status.update(Text(check.sentence)),
                finished=lambda finding: None if as_json else _show(output, finding),
            )
    broken = [finding for finding in findings if finding.offenders]
    if as_json:
        show_json([_document(finding) for finding in findings])
    else:
        output.print(Text(f"{len(broken)} of {len(findings)} checks found something" if broken else f"all {len(findings)} checks passed", "bold"))
    if broken:
        sys.exit(EXIT_FAULT)


def _output() -> Console:
    output = Console(highlight=False)
    if not output.is_terminal:
        output.width = WIDTH_UNBOUND
    return output


def _show(output: Console, finding: Finding) -> None:
    """A line a check, with the promise's number; below it what it found, and how much more there is."""
    check = finding.check
    verdict, name = (Text("BROKEN", "bold red"), check.name) if finding.offenders else (Text("ok    ", "green"), "")
    output.print(Text.assemble(verdict, f"  {check.promise:>2}  {check.sentence}  ", (f"{finding.duration_s:.2f} s  {name}".rstrip(), "dim")))
    for offender in finding.shown:
        output.print(Text(f"        {offender.subject}: {offender.detail}"))
    if more := finding.offenders - len(finding.shown):
        output.print(Text(f"        and {more} more"))


def _document(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check.name,
        "promise": finding.check.promise,
        "sentence": finding.check.sentence,
        "ok": not finding.offenders,
        "offenders": finding.offenders,
        "shown": [{"subject": offender.subject, "detail": offender.detail} for offender in finding.shown],
        "durationMs": round(finding.duration_s * 1000, 2),
    }
