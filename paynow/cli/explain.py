"""`paynow explain`: how a payment was decided, what would have changed it, and whether payments would be decided so again."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import orjson
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from paynow.backtest.processes import WORKERS_MAX
from paynow.cli import EXIT_FAULT
from paynow.cli.common import (
    WIDTH_UNBOUND,
    config_option,
    json_option,
    load_settings,
    progress_bar,
    ready_database,
    show_json,
    with_store,
)
from paynow.cli.parameters import Duration
from paynow.clock import rfc3339
from paynow.errors import PayNowError
from paynow.explain.again import PastPolicies, verify
from paynow.explain.document import explanation
from paynow.explain.verifying import Verified, verify_all, verify_these
from paynow.explain.wording import value_text
from paynow.money import to_text
from paynow.payments.answer import payment_json
from paynow.payments.recorded import Difference, Recorded, Span, read_answer, spans
from paynow.plugin_api import Field
from paynow.plugin_loader import load_plugins
from paynow.store import Store
from paynow.store.past import Window
from paynow.store.records import StoredCase, StoredPayment, StoredPolicy

BAR_CELLS = 24
DIFFERENT_SHOWN = 20
RULE_ORDER = ("true", "unknown", "false")
RULE_STYLES = {"true": "bold", "unknown": "yellow", "false": "dim"}
STYLES = {"allow": "bold green", "review": "bold yellow", "block": "bold red", "ok": "green", "settled": "green"}


class NoSuchPayment(PayNowError):
    """No payment was decided under that id."""


@dataclass(frozen=True, slots=True)
class _Found:
    payment: StoredPayment
    case: StoredCase | None
    policy: StoredPolicy | None


@click.command()
@click.argument("payment_ids", metavar="[PAYMENT_ID]...", nargs=-1, type=click.UUID)
@click.option("--verify", "verifies", is_flag=True, help="Decide it again from what was recorded; exit code 1 if something comes out differently.")
@click.option("--since", type=Duration(), help="With --verify: all payments that came in within this time, like 7d.")
@click.option("--all", "everything", is_flag=True, help="With --verify: all payments.")
@click.option("--workers", type=click.IntRange(1, WORKERS_MAX), help="Processes for --since and --all; as many as there are processors otherwise.")
@config_option
@json_option
def explain(
    *,
    payment_ids: tuple[UUID, ...],
    verifies: bool,
    since: timedelta | None,
    everything: bool,
    workers: int | None,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """Show how a payment was decided: what the tools said and how long they took, the rules, and what would have changed it. Or decide many again."""
    if bool(payment_ids) + (since is not None) + everything != 1:
        raise click.UsageError("expected the ids of payments, or --since, or --all")
    if not verifies and len(payment_ids) != 1:
        raise click.UsageError("one payment is explained at a time; --verify decides many again")
    declared = _declared_outputs(config_file)
    if len(payment_ids) == 1:
        _explain_one(payment_ids[0], declared, verifies=verifies, config_file=config_file, as_json=as_json)
    else:
        _verify_many(payment_ids, since, declared, workers=workers, config_file=config_file, as_json=as_json)


def _explain_one(payment_id: UUID, declared: Mapping[str, Mapping[str, Field]], *, verifies: bool, config_file: Path | None, as_json: bool) -> None:
    found = with_store(config_file, lambda store: _find(store, payment_id))
    payment = found.payment
    recorded = read_answer(payment.answer)
    policies = PastPolicies(declared, {found.policy.version: found.policy.body}.get if found.policy else lambda version: None)
    told = explanation(payment.payment, recorded, policies, declared)
    differences = verify(payment.payment, payment.decision, payment.answer, payment.policy_version, policies) if verifies else None
    if as_json:
        show_json(_document(found, told, differences))
    else:
        _show(_output(), found, recorded, told, differences)
    if differences:
        sys.exit(EXIT_FAULT)


def _verify_many(
    payment_ids: Sequence[UUID],
    since: timedelta | None,
    declared: Mapping[str, Mapping[str, Field]],
    *,
    workers: int | None,
    config_file: Path | None,
    as_json: bool,
) -> None:
    with ready_database(config_file) as dsn, progress_bar() as bar:
        if payment_ids:
            found = verify_these(dsn, payment_ids, declared)
        else:
            task = bar.add_task("deciding", total=None)
            found = verify_all(
                dsn,
                Window.between(datetime.now(UTC) - since if since is not None else None, None),
                declared,
                workers=workers,
                begun=lambda decisions: bar.update(task, total=decisions),
                done=lambda decisions: bar.advance(task, decisions),
            )
    if as_json:
        shown = [{"paymentId": payment_id, "differences": list(map(asdict, differences))} for payment_id, differences in found.shown]
        show_json({"decisions": found.decisions, "different": found.different, "shown": shown})
    else:
        _show_many(found)
    if found.different:
        sys.exit(EXIT_FAULT)


def _show_many(found: Verified) -> None:
    for payment_id, differences in found.shown[:DIFFERENT_SHOWN]:
        click.echo(f"{payment_id}  " + "; ".join(f"{one.what}: recorded {one.recorded}, again {one.again}" for one in differences))
    if more := found.different - len(found.shown[:DIFFERENT_SHOWN]):
        click.echo(f"and {more} more")
    if found.different:
        click.echo(f"{found.different:,} of {found.decisions:,} decisions come out differently")
    else:
        click.echo(f"verified: {found.decisions:,} decisions come out the same")


def _declared_outputs(config_file: Path | None) -> dict[str, Mapping[str, Field]]:
    """The outputs of all tools that are enabled: plan and policy may have changed since. Raises `ConfigurationRefused`."""
    loaded = load_settings(config_file)
    return {name: tool.output for name, tool in load_plugins(loaded.settings, origin_of=loaded.origin_of).tools.items()}


async def _find(store: Store, payment_id: UUID) -> _Found:
    payment = await store.payments.find(payment_id)
    if payment is None:
        raise NoSuchPayment(f"there is no payment {payment_id}")
    case = await store.cases.find(payment.case_id) if payment.case_id else None
    return _Found(payment, case, await store.administration.policy(payment.policy_version))


def _document(found: _Found, told: Mapping[str, Any], differences: list[Difference] | None) -> dict[str, Any]:
    payment, case = found.payment, found.case
    document = {
        "payment": payment_json(payment.payment),
        "answer": orjson.loads(payment.answer),
        "now": {
            "reservation": payment.reservation,
            "reservedUntil": payment.reserved_until and rfc3339(payment.reserved_until),
            "reservationEndedAt": payment.reservation_ended_at and rfc3339(payment.reservation_ended_at),
            "case": case and {"caseId": str(case.case_id), "status": case.status, "openedAt": rfc3339(case.opened_at)},
        },
    }
    document |= {name: told[name] for name in ("timeline", "rules", "changes", "searched")}
    if differences is not None:
        document["verified"] = {"same": not differences, "differences": [asdict(difference) for difference in differences]}
    return document


def _output() -> Console:
    output = Console(highlight=False)
    if not output.is_terminal:
        output.width = WIDTH_UNBOUND
    return output


def _show(output: Console, found: _Found, recorded: Recorded, told: Mapping[str, Any], differences: list[Difference] | None) -> None:
    _show_facts(output, found, recorded)
    output.print()
    _show_steps(output, recorded.steps)
    if told["rules"]:
        output.print()
        _show_rules(output, told["rules"], found.payment.payment.currency)
    output.print()
    _show_changes(output, told)
    if differences is not None:
        output.print()
        _show_verified(output, differences)


def _show_facts(output: Console, found: _Found, recorded: Recorded) -> None:
    payment = found.payment.payment
    decision = Text.assemble((recorded.decision, STYLES[recorded.decision]), ", degraded" if recorded.degraded else "", f"  at {recorded.decided_at}")
    facts: list[tuple[str, Text | str]] = [
        ("payment", str(payment.payment_id)),
        ("from, to", f"{payment.customer_id} to {payment.payee_id}"),
        ("amount", f"{to_text(payment.amount_minor, payment.currency)} {payment.currency}"),
        ("decision", decision),
        *(("reason", f"{reason.code}: {reason.message}") for reason in recorded.reasons),
        ("policy", recorded.policy_version),
        ("reservation", _reservation_now(found.payment)),
        ("case", f"{found.case.case_id}, {found.case.status}" if found.case else "none"),
    ]
    for name, value in facts:
        output.print(Text.assemble((f"{name:<13}", "dim"), value))


def _reservation_now(payment: StoredPayment) -> str:
    if payment.reservation is None or payment.reserved_until is None:
        return "none"
    if payment.reservation_ended_at is not None:
        return f"{payment.reservation} at {rfc3339(payment.reservation_ended_at)}"
    return f"{payment.reservation} until {rfc3339(payment.reserved_until)}"


def _show_steps(output: Console, steps: Sequence[Mapping[str, Any]]) -> None:
    """A line a step, its bar where it stood in time; below it what the tool said."""
    times = spans(steps)
    whole_ms = max((span.start_ms + span.duration_ms for span in times if span), default=0.0)
    width = max((len(step["tool"]) for step in steps if "tool" in step), default=0)
    for step, span in zip(steps, times, strict=True):
        if span is None:
            output.print(_line(step, width))
            continue
        status = f"{step['status']}{' ' + step['error'] if 'error' in step else ''}"
        duration = f"{span.duration_ms:>9.2f} ms  "
        bar = Text(_bar(span, whole_ms), STYLES.get(step["status"], "red"))
        output.print(Text.assemble(f"{'tool':<10}{step['tool']:<{width}}  #{step['attempt']} ", duration, bar, "  ", (status, bar.style)))
        if "output" in step:
            said = "  ".join(f"{name}={json.dumps(value)}" for name, value in step["output"].items())
            output.print(Padding(Text(said, "dim"), (0, 0, 0, 10), expand=False))


def _line(step: Mapping[str, Any], width: int) -> Text:
    kind = f"{step['step']:<10}"
    match step["step"]:
        case "plan":
            return Text(kind + ", ".join(step["tools"]))
        case "fallback":
            return Text.assemble(kind, f"{step['tool']:<{width}}  ", (f"gave no answer: {step['onFailure']}", "yellow"))
        case "decide":
            rules = [f"{word} {', '.join(step[name])}" for word, name in (("fired", "fired"), ("unknown", "unknown")) if step[name]]
            return Text.assemble(kind, (step["decision"], STYLES[step["decision"]]), f"  {'; '.join(rules) or 'no rule fired'}")
        case "settle":
            reason = f" for {step['reason']}" if "reason" in step else ""
            return Text.assemble(kind, (step["decision"], STYLES[step["decision"]]), f"  {step['status']}{reason}")
        case _:
            return Text(kind)


def _bar(span: Span, whole_ms: float) -> str:
    """At least one cell, at its place among all."""
    cells_per_ms = BAR_CELLS / whole_ms if whole_ms else 0.0
    start = min(round(span.start_ms * cells_per_ms), BAR_CELLS - 1)
    length = max(1, min(round(span.duration_ms * cells_per_ms), BAR_CELLS - start))
    return (" " * start + "━" * length).ljust(BAR_CELLS)


def _show_rules(output: Console, rules: Sequence[Mapping[str, Any]], currency: str) -> None:
    """A line a rule, those that fired first; below it what the names that it reads were."""
    width = max(len(rule["id"]) for rule in rules)
    for rule in sorted(rules, key=lambda rule: RULE_ORDER.index(rule["value"])):
        style = RULE_STYLES[rule["value"]]
        output.print(Text.assemble(f"{'rule':<10}{rule['id']:<{width}}  ", (f"{rule['value']:<8}", style), _consequence(rule)))
        said = "  ".join(f"{name}={'?' if value is None else value_text(name, value, currency)}" for name, value in rule["values"].items())
        output.print(Padding(Text(said or "always", "dim"), (0, 0, 0, 10), expand=False))


def _consequence(rule: Mapping[str, Any]) -> str:
    told = rule["then"] if "then" in rule else f"score {rule['score']:+}"
    return told if rule["mode"] == "enforce" else f"{told}, only watched"


def _show_changes(output: Console, told: Mapping[str, Any]) -> None:
    for change in told["changes"]:
        verdict, _, rest = change["text"].partition(" ")
        output.print(Text.assemble(f"{'change':<10}", (verdict, STYLES[change["decision"]]), f" {rest}"))
    searched = told["searched"]
    for note in searched["notes"]:
        output.print(Text.assemble(f"{'change':<10}", (note, "yellow")))
    if not told["changes"] and not searched["notes"]:
        output.print(Text(f"{'change':<10}nothing was found that would have changed the verdict by itself or with one thing more"))
    if not searched["complete"]:
        output.print(Text(f"{'change':<10}the search ended after {searched['evaluations']:,} evaluations; there may be more", "yellow"))


def _show_verified(output: Console, differences: list[Difference]) -> None:
    if not differences:
        output.print(Text.assemble(("verified  ", "green"), "the same policy on the same outputs gives the same decision"))
    for difference in differences:
        output.print(Text.assemble((f"{difference.what} differs", "bold red"), f": recorded {difference.recorded}; again {difference.again}"))
