"""`paynow policy`: a policy is checked against the tools, looked at, and made the active one."""

from __future__ import annotations

from pathlib import Path

import click

from paynow.cli.common import config_option, json_option, load_settings, operator, show_json, show_table, with_store
from paynow.cli.parameters import PlainText
from paynow.clock import rfc3339
from paynow.errors import ConfigurationFault, ConfigurationRefused, PayNowError
from paynow.policy import Policy
from paynow.store import Store

file_argument = click.argument("file", metavar="[FILE]", type=click.Path(path_type=Path), required=False)


class NoSuchPolicy(PayNowError):
    """No policy was ever active under that version."""


@click.group()
def policy() -> None:
    """Check, show and activate policies."""


@policy.command("check")
@file_argument
@config_option
@json_option
def check_(file: Path | None, config_file: Path | None, as_json: bool) -> None:
    """Check a policy (FILE, else the configured one) against the configured tools, and show its rules. Exit code 2 and every fault if it is wrong."""
    checked = _compiled(file, config_file)
    if as_json:
        rules = [{"id": rule.id, "then": rule.then, "when": rule.when, "message": rule.message} for rule in checked.rules]
        show_json({"version": checked.version, "default": checked.default, "rules": rules})
        return
    rows = [(rule.id, rule.then, " ".join(rule.when.split())) for rule in checked.rules]
    show_table(("rule", "then", "when"), rows, none="it has no rules")
    click.echo(f"valid: {len(checked.rules)} rules, else {checked.default}; version {checked.version}")


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
    """Print a policy's text: that of VERSION, else the active one's."""
    found = with_store(config_file, lambda store: store.administration.policy(version) if version else store.administration.active_policy())
    if found is None:
        raise NoSuchPolicy(
            "there is no such policy: see paynow policy list" if version else "no policy is active yet: paynow serve stores the configured one"
        )
    click.echo(found.body, nl=not found.body.endswith("\n"))


@policy.command()
@file_argument
@config_option
def activate(file: Path | None, config_file: Path | None) -> None:
    """Make a policy (FILE, else the configured one) the active one, if it is right. Running services take it at their next start."""
    chosen = _compiled(file, config_file)
    if with_store(config_file, lambda store: _activated(store, chosen)):
        click.echo(f"{chosen.version} is the active policy; services that run take it at their next start")
    else:
        click.echo(f"{chosen.version} was the active policy already; nothing was changed")


async def _activated(store: Store, chosen: Policy) -> bool:
    active = await store.administration.active_policy()
    if active is not None and active.version == chosen.version:
        return False
    await store.administration.activate_policy(chosen.version, chosen.text, operator())
    return True


def _compiled(file: Path | None, config_file: Path | None) -> Policy:
    """As a start would, against the plan's tools; no secret is needed for that. Raises `ConfigurationRefused`."""
    from paynow.agent import make_plan  # as heavy as the service: only here, so that the others stay quick
    from paynow.app import compile_for
    from paynow.plugin_loader import load_plugins

    loaded = load_settings(config_file)
    plugins = load_plugins(loaded.settings, origin_of=loaded.origin_of)
    plan = make_plan(loaded.settings.agent, plugins.tools, origin_of=loaded.origin_of)
    file = file or loaded.settings.policy.file
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationRefused([ConfigurationFault(str(file), "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigurationRefused([ConfigurationFault(str(file), "", "is not UTF-8 text")]) from None
    return compile_for(plan, text, str(file))
