"""`paynow cases`: the review queue, and the work on it, through a running service: the acting key stands in each case's history."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.text import Text

from paynow.cases.vocabulary import LABELS, STATUSES
from paynow.cli.calling import api_key, call, url_option
from paynow.cli.common import WIDTH_UNBOUND, config_option, json_option, show_json, show_table

PAGE_MAX = 200
STYLES = {"open": "bold", "claimed": "bold yellow", "approved": "bold green", "declined": "bold red"}
case_argument = click.argument("case_id", metavar="CASE_ID", type=click.UUID)


@click.group()
def cases() -> None:
    """Work on reviews, through a running service and with the key in API_KEY: each act stands under its name in the case's history."""


@cases.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Only cases with this status.")
@click.option("--holder", metavar="KEY_ID", help="Only cases that this key has claimed.")
@click.option("--label", type=click.Choice(LABELS), help="Only cases with this label.")
@click.option("--currency", metavar="CODE", help="Only cases in this currency.")
@click.option("--amount-min", metavar="AMOUNT", help="Only cases of at least this amount, in major units; needs --currency.")
@click.option("--amount-max", metavar="AMOUNT", help="Only cases of at most this amount, in major units; needs --currency.")
@click.option("--age-min", metavar="TIME", help="Only cases opened at least so long ago, like 2h.")
@click.option("--age-max", metavar="TIME", help="Only cases opened at most so long ago, like 7d.")
@click.option("--overdue", is_flag=True, help="Only cases that are not resolved and past their due time.")
@click.option("--newest", is_flag=True, help="Newest first, also what is resolved; else what is not, in the order of urgency.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@url_option
@config_option
@json_option
def list_(*, newest: bool, overdue: bool, limit: int, url: str, config_file: Path | None, as_json: bool, **filters: str | None) -> None:
    """Show cases: what is not resolved, the highest priority first, then as it is due."""
    newest = newest or filters["status"] in ("approved", "declined")
    query = {_camel(name): value for name, value in filters.items() if value is not None}
    query |= {"order": "newest" if newest else "urgent"} | ({"overdue": "true"} if overdue else {})
    found = _pages(url, api_key(config_file, "cases:read"), query, limit)
    if as_json:
        show_json(found)
        return
    columns = ("case", "status", "priority", "due", "amount", "customer", "reasons", "holder", "label")
    rows = [
        (
            case["caseId"],
            case["status"],
            str(case["priority"]),
            f"{case['dueAt']}{' overdue' if case['overdue'] else ''}",
            f"{case['amount']} {case['currency']}",
            case["customerId"],
            ", ".join(reason["code"] for reason in case["reasons"]),
            case["holder"] or case["resolvedBy"] or "-",
            case["label"] or "-",
        )
        for case in found
    ]
    show_table(columns, rows, none="there is no such case")


@cases.command()
@case_argument
@url_option
@config_option
@json_option
def show(case_id: UUID, url: str, config_file: Path | None, as_json: bool) -> None:
    """Show one case with its history."""
    case = call(url, api_key(config_file, "cases:read"), "GET", f"/api/cases/{case_id}")
    if as_json:
        show_json(case)
        return
    output = Console(highlight=False)
    if not output.is_terminal:
        output.width = WIDTH_UNBOUND
    for name, value in _facts(case):
        output.print(Text.assemble((f"{name:<10}", "dim"), value))
    output.print()
    for act in case["history"]:
        said = act.get("label") or act.get("note") or ""
        output.print(Text.assemble((f"{act['at']}  ", "dim"), f"{act['act']:<10}{act['keyId']:<14}", said))


@cases.command()
@case_argument
@url_option
@config_option
@json_option
def claim(case_id: UUID, url: str, config_file: Path | None, as_json: bool) -> None:
    """Take a case: nobody else resolves it until it is unclaimed."""
    _work(url, config_file, case_id, "claim", as_json=as_json)


@cases.command()
@case_argument
@url_option
@config_option
@json_option
def unclaim(case_id: UUID, url: str, config_file: Path | None, as_json: bool) -> None:
    """Give a case back; with the scope cases:admin also one that another key holds."""
    _work(url, config_file, case_id, "unclaim", as_json=as_json)


@cases.command()
@case_argument
@url_option
@config_option
@json_option
def approve(case_id: UUID, url: str, config_file: Path | None, as_json: bool) -> None:
    """Let the payment move after all: its money is reserved now."""
    _work(url, config_file, case_id, "approve", as_json=as_json)


@cases.command()
@case_argument
@url_option
@config_option
@json_option
def decline(case_id: UUID, url: str, config_file: Path | None, as_json: bool) -> None:
    """Do not let the payment move."""
    _work(url, config_file, case_id, "decline", as_json=as_json)


@cases.command()
@case_argument
@click.argument("text", metavar="TEXT")
@url_option
@config_option
@json_option
def note(case_id: UUID, text: str, url: str, config_file: Path | None, as_json: bool) -> None:
    """Add a note to the case's history."""
    _work(url, config_file, case_id, "note", {"note": text}, as_json=as_json)


@cases.command()
@case_argument
@click.argument("label_", metavar="LABEL", type=click.Choice(LABELS))
@url_option
@config_option
@json_option
def label(case_id: UUID, label_: str, url: str, config_file: Path | None, as_json: bool) -> None:
    """Say what the case turned out to be: confirmed_fraud, false_positive or unclear."""
    _work(url, config_file, case_id, "label", {"label": label_}, as_json=as_json)


def _work(url: str, config_file: Path | None, case_id: UUID, act: str, body: dict[str, str] | None = None, *, as_json: bool) -> None:
    case = call(url, api_key(config_file, "cases:write"), "POST", f"/api/cases/{case_id}/{act}", body=body)
    if as_json:
        show_json(case)
    else:
        by = case["holder"] or case["resolvedBy"]
        label = f", labelled {case['label']}" if case["label"] else ""
        click.echo(f"case {case['caseId']} is {case['status']}{f' by {by}' if by else ''}{label}")


def _pages(url: str, key: str, query: dict[str, str], limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        place = {"limit": str(min(limit - len(found), PAGE_MAX))} | ({"cursor": cursor} if cursor else {})
        page = call(url, key, "GET", "/api/cases", query={**query, **place})
        found += page["items"]
        cursor = page["nextCursor"]
        if cursor is None or len(found) >= limit:
            return found


def _facts(case: dict[str, Any]) -> list[tuple[str, Text | str]]:
    by = case["holder"] or case["resolvedBy"]
    at = case["claimedAt"] or case["resolvedAt"]
    return [
        ("case", case["caseId"]),
        ("payment", case["paymentId"]),
        ("customer", case["customerId"]),
        ("amount", f"{case['amount']} {case['currency']}"),
        ("status", Text.assemble((case["status"], STYLES[case["status"]]), f" by {by} at {at}" if by else "")),
        *(("reason", f"{reason['code']}: {reason['message']}") for reason in case["reasons"]),
        ("priority", str(case["priority"])),
        ("opened", case["openedAt"]),
        ("due", f"{case['dueAt']}{' overdue' if case['overdue'] else ''}"),
        ("reserved", f"until {case['reservedUntil']}" if case["reservedUntil"] else "nothing"),
        ("label", case["label"] or "none"),
    ]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
