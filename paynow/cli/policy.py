"""`paynow policy`: a policy is checked against the tools, looked at, and made the active one."""

from __future__ import annotations

from dataclasses import asdict
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from paynow.cli.calling import api_key, call, url_option
from paynow.cli.common import config_option, json_option, load_settings, operator, show_json, show_table, with_store
from paynow.cli.parameters import PlainText
from paynow.cli.shadow_report import shadow_report
from paynow.clock import rfc3339
from paynow.errors import ConfigurationFault, ConfigurationRefused, PayNowError
from paynow.policy import Policy, Rule
from paynow.settings import Settings
from paynow.store import Store
from paynow.store.records import PolicyProposal, StoredPolicy

if TYPE_CHECKING:
    from paynow.agent import Plan

file_argument = click.argument("file", metavar="[FILE]", type=click.Path(path_type=Path), required=False)


class NoSuchPolicy(PayNowError):
    """No policy was ever active under that version."""


@click.group()
def policy() -> None:
    """Check, show and activate policies."""


policy.add_command(shadow_report)


@policy.command("check")
@file_argument
@config_option
@json_option
def check_(file: Path | None, config_file: Path | None, as_json: bool) -> None:
    """Check a policy (FILE, else the configured one) against the configured tools, run its examples, and show its rules.

    Exit code 2 and every fault if it is wrong."""
    checked = _compiled(file, config_file)
    if as_json:
        rules = [_rule_json(rule) for rule in checked.rules]
        thresholds = checked.thresholds and asdict(checked.thresholds)
        document = {"version": checked.version, "default": checked.default, "thresholds": thresholds, "rules": rules, "examples": checked.examples}
        show_json(document)
        return
    rows = [(rule.id, _then(rule), " ".join(rule.when.split())) for rule in checked.rules]
    show_table(("rule", "then", "when"), rows, none="it has no rules")
    if checked.thresholds:
        click.echo("; ".join(f"{verdict} from a score of {least}" for verdict, least in asdict(checked.thresholds).items() if least is not None))
    holds = f"{checked.examples} {'example holds' if checked.examples == 1 else 'examples hold'}"
    click.echo(f"valid: {len(checked.rules)} rules, else {checked.default}; {holds}; version {checked.version}")


def _rule_json(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "mode": "enforce" if rule.enforced else "shadow",
        "then": rule.then,
        "score": rule.score,
        "when": rule.when,
        "message": rule.reason.message,
        "customerMessage": rule.reason.customer_message,
    }


def _then(rule: Rule) -> str:
    """What a rule comes to: `review`, `score +40`, `block (shadow)`."""
    return (rule.then or f"score {rule.score:+d}") + ("" if rule.enforced else " (shadow)")


@policy.command()
@file_argument
@config_option
def table(file: Path | None, config_file: Path | None) -> None:
    """Print as Markdown what fails, which fallback holds and which verdict comes of it, for the configured tools and a policy (FILE, else the
    configured one)."""
    from paynow.payments.decision_table import decision_table

    settings, plan, checked = _checked(file, config_file)
    click.echo(decision_table(plan, checked, on_store_failure=settings.rate_limit.on_store_failure), nl=False)


@policy.command("list")
@config_option
@json_option
def list_(config_file: Path | None, as_json: bool) -> None:
    """Show every policy that was ever active, newest first."""
    found = with_store(config_file, lambda store: store.administration.policies())
    if as_json:
        show_json([{"version": one.version, "active": one.active, "author": one.author, "addedAt": rfc3339(one.added_at)} for one in found])
        return
    rows = [(one.version, "active" if one.active else "-", one.author, rfc3339(one.added_at)) for one in found]
    show_table(("version", "state", "author", "added"), rows, none="there is none yet: the first start of paynow serve stores the configured one")


@policy.command()
@click.argument("version", metavar="[VERSION]", type=PlainText(), required=False)
@config_option
def show(version: str | None, config_file: Path | None) -> None:
    """Print a policy's text: that of VERSION, which may be proposed only, else the active one's."""
    found = with_store(config_file, lambda store: _known(store, version) if version else store.administration.active_policy())
    if found is None:
        raise NoSuchPolicy(
            "there is no such policy: see paynow policy list" if version else "no policy is active yet: paynow serve stores the configured one"
        )
    _show_text(str(found.body))


def _show_text(text: str) -> None:
    click.echo(text, nl=not text.endswith("\n"))


@policy.command()
@file_argument
@url_option
@config_option
def activate(file: Path | None, url: str, config_file: Path | None) -> None:
    """Make a policy (FILE, else the configured one) the active one, if it is right. Running services take it within a second.

    With policy.approval = "required" it is proposed through a running service, with the key in API_KEY, and another key has to approve it."""
    settings, _, chosen = _checked(file, config_file)
    if settings.policy.approval == "required":
        found = call(url, api_key(config_file, "policies:write"), "POST", "/api/policies/proposals", body={"policy": chosen.text})
        click.echo(f"{found['version']} is proposed by the key {found['proposedBy']}; another key has to approve it:")
        click.echo(f"  paynow policy approve {found['version']}")
    elif with_store(config_file, lambda store: store.administration.activate_policy(chosen.version, chosen.text, operator())):
        click.echo(f"{chosen.version} is the active policy; services that run take it within a second")
    else:
        click.echo(f"{chosen.version} was the active policy already; nothing was changed")


version_argument = click.argument("version", metavar="VERSION", type=PlainText())


@policy.command()
@click.argument("version", metavar="[VERSION]", type=PlainText(), required=False)
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many at most.")
@url_option
@config_option
@json_option
def proposals(version: str | None, limit: int, url: str, config_file: Path | None, as_json: bool) -> None:
    """Show what was proposed through a running service to be the active policy, newest first; or the text of VERSION."""
    key = api_key(config_file, "policies:read")
    if version is not None:
        found = call(url, key, "GET", _proposal(version))
        show_json(found) if as_json else _show_text(found["policy"])
        return
    items = call(url, key, "GET", "/api/policies/proposals", query={"limit": str(limit)})["items"]
    if as_json:
        show_json(items)
        return
    rows = [(one["version"], one["status"], one["proposedBy"], one["proposedAt"], one["judgedBy"] or "-", one["judgedAt"] or "-") for one in items]
    show_table(("version", "status", "proposed by", "at", "judged by", "at"), rows, none="nothing was ever proposed")


@policy.command()
@version_argument
@url_option
@config_option
def approve(version: str, url: str, config_file: Path | None) -> None:
    """Make a proposed policy the active one, through a running service, with another key in API_KEY than the one that has proposed it."""
    found = call(url, api_key(config_file, "policies:write"), "POST", f"{_proposal(version)}/approve")
    keys = f"proposed by the key {found['proposedBy']} and approved by the key {found['judgedBy']}"
    click.echo(f"{version} is the active policy, {keys}; services that run take it within a second")


@policy.command()
@version_argument
@url_option
@config_option
def refuse(version: str, url: str, config_file: Path | None) -> None:
    """Refuse a proposed policy, through a running service with the key in API_KEY; whoever proposed it takes it back so."""
    found = call(url, api_key(config_file, "policies:write"), "POST", f"{_proposal(version)}/refuse")
    click.echo(f"{version} is refused by the key {found['judgedBy']}; it was proposed by the key {found['proposedBy']}")


def _proposal(version: str) -> str:
    return f"/api/policies/proposals/{quote(version, safe='')}"


@policy.command()
@click.argument("version", metavar="[VERSION]", type=PlainText(), required=False)
@config_option
def rollback(version: str | None, config_file: Path | None) -> None:
    """Make an earlier policy the active one again: VERSION, else the one that was active before (without those that
    the policy guard has taken back). It is checked as at an activation, and needs no
    approval: it is the way out of an emergency."""
    active, chosen = with_store(config_file, lambda store: _active_and_earlier(store, version))
    if chosen is None:
        raise NoSuchPolicy(
            "there is no such policy: see paynow policy list" if version else "there is no earlier policy to return to: see paynow policy history"
        )
    if active is not None and active.version == chosen.version:
        click.echo(f"{chosen.version} is the active policy; nothing was changed")
        return
    _, _, compiled = _fitted(chosen.body, f"the earlier policy {chosen.version}", config_file)
    instead_of = active.version if active else None
    done = with_store(
        config_file,
        lambda store: store.administration.activate_policy(compiled.version, chosen.body, operator(), cause="rolled_back", instead_of=instead_of),
    )
    if not done:
        raise NoSuchPolicy("another policy was made the active one meanwhile; nothing was changed")
    click.echo(f"{chosen.version} is the active policy again; services that run take it within a second")


@policy.command()
@click.argument("versions", metavar="[VERSION [VERSION]]", nargs=-1, type=PlainText())
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), help="Compare with this file in place of a second version.")
@config_option
def diff(versions: tuple[str, ...], file: Path | None, config_file: Path | None) -> None:
    """Show what differs between two policies: by default what the active one changed of the one before it, or the file of the active one."""
    if len(versions) > (1 if file else 2):
        raise click.UsageError("name at most two policies")
    found = with_store(config_file, lambda store: _compared(store, versions, with_file=file is not None))
    texts = [(one.version, str(one.body)) for one in found]
    if file is not None:
        texts.append((str(file), read_policy(file)))
    (old, before), (new, after) = texts
    for line in unified_diff(before.splitlines(), after.splitlines(), old, new, lineterm=""):
        click.secho(line, fg={"+": "green", "-": "red", "@": "cyan"}.get(line[:1]))


@policy.command()
@click.option("--last", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many to show.")
@config_option
@json_option
def history(last: int, config_file: Path | None, as_json: bool) -> None:
    """Show what was made the active policy when, by whom and why, what was proposed and what became of that, newest first."""
    found = with_store(config_file, lambda store: store.administration.policy_history(last))
    if as_json:
        show_json([{"version": one.version, "cause": one.cause, "author": one.author, "at": rfc3339(one.at)} for one in found])
        return
    show_table(
        ("version", "cause", "author", "at"), [(one.version, one.cause, one.author, rfc3339(one.at)) for one in found], none="there is none yet"
    )


async def _active_and_earlier(store: Store, version: str | None) -> tuple[StoredPolicy | None, StoredPolicy | None]:
    administration = store.administration
    return await administration.active_policy(), await (administration.policy(version) if version else administration.policy_to_return_to())


async def _known(store: Store, version: str) -> StoredPolicy | PolicyProposal | None:
    """A policy that was ever active, or was proposed to be."""
    return await store.administration.policy(version) or await store.policy_proposals.find(version)


async def _compared(store: Store, versions: tuple[str, ...], *, with_file: bool) -> list[StoredPolicy | PolicyProposal]:
    """The policies to compare, the older first as it was asked for. Raises `NoSuchPolicy`."""
    administration = store.administration
    found: list[StoredPolicy | PolicyProposal | None] = [await _known(store, version) for version in versions]
    if len(found) < (1 if with_file else 2):
        found.append(await administration.active_policy())
    if len(found) < (1 if with_file else 2):
        found.insert(0, await administration.policy_before())
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        raise NoSuchPolicy("there is no such policy: see paynow policy list" if versions else "there are not two policies to compare yet")
    return known


def _compiled(file: Path | None, config_file: Path | None) -> Policy:
    return _checked(file, config_file)[2]


def _checked(file: Path | None, config_file: Path | None) -> tuple[Settings, Plan, Policy]:
    file = file or load_settings(config_file).settings.policy.file
    return _fitted(read_policy(file), str(file), config_file)


def read_policy(file: Path) -> str:
    """A policy file's text. Raises `ConfigurationRefused`."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationRefused([ConfigurationFault(str(file), "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigurationRefused([ConfigurationFault(str(file), "", "is not UTF-8 text")]) from None


def _fitted(text: str, origin: str, config_file: Path | None) -> tuple[Settings, Plan, Policy]:
    """As a start would, against the plan's tools; no secret is needed for that. Raises `ConfigurationRefused`."""
    from paynow.agent import make_plan  # as heavy as the service: only here, so that the others stay quick
    from paynow.app import compile_for
    from paynow.plugin_loader import load_plugins

    loaded = load_settings(config_file)
    plugins = load_plugins(loaded.settings, origin_of=loaded.origin_of)
    plan = make_plan(loaded.settings.agent, plugins.tools, origin_of=loaded.origin_of)
    return loaded.settings, plan, compile_for(plan, text, origin)
