"""`paynow policy`: a policy is checked against the tools, looked at, and made the active one."""

from __future__ import annotations

import getpass
from pathlib import Path

import click

from paynow.app import Assembly, check
from paynow.cli.common import config_option, json_option, load_settings, show_json, show_table, with_store
from paynow.clock import rfc3339
from paynow.errors import ConfigurationFault, ConfigurationRefused, PayNowError
from paynow.policy import Policy


class NoSuchPolicy(PayNowError):
    """No policy was ever active under that version."""


@click.group()
def policy() -> None:
    """Check, show and activate policies."""


@policy.command("check")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@config_option
def check_(file: Path | None, config_file: Path | None) -> None:
    """Check a policy file (the configured one if none is named) as a start would."""
    assembly = check(load_settings(config_file))
    checked = _compiled(assembly, file) if file else assembly.policy
    click.echo(f"the policy is valid: {len(checked.rules)} rules, version {checked.version}")


@policy.command("list")
@config_option
@json_option
def list_(config_file: Path | None, as_json: bool) -> None:
    """Show every policy that was ever active."""
    found = with_store(config_file, lambda store: store.administration.policies())
    columns = ("version", "state", "author", "added")
    rows = [(one.version, "active" if one.active else "", one.author, rfc3339(one.added_at)) for one in found]
    if as_json:
        show_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        show_table(columns, rows)


@policy.command()
@click.argument("version", required=False)
@config_option
def show(version: str | None, config_file: Path | None) -> None:
    """Print a policy's text: the active one's, or that of a version."""
    found = with_store(config_file, lambda store: store.administration.policy(version) if version else store.administration.active_policy())
    if found is None:
        raise NoSuchPolicy("there is no such policy: see paynow policy list")
    click.echo(found.body, nl=not found.body.endswith("\n"))


@policy.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@config_option
def activate(file: Path | None, config_file: Path | None) -> None:
    """Make a policy file (the configured one if none is named) the active policy. Running services take it at their next start."""
    assembly = check(load_settings(config_file))
    chosen = _compiled(assembly, file) if file else assembly.policy
    with_store(config_file, lambda store: store.administration.activate_policy(chosen.version, chosen.text, getpass.getuser()))
    click.echo(f"{chosen.version} is the active policy; services that run take it at their next start")


def _compiled(assembly: Assembly, file: Path) -> Policy:
    try:
        return assembly.compile(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationRefused([ConfigurationFault(str(file), "", f"the policy cannot be read: {type(error).__name__}")]) from None
