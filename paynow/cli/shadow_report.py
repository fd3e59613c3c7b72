"""`paynow policy shadow-report`: what policies came to that judge behind the active one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from paynow.cli.common import config_option, json_option, show_json, show_table, with_store
from paynow.cli.parameters import PlainText
from paynow.cli.verdicts import show_matrix
from paynow.errors import PayNowError
from paynow.store import Store


class NoSuchShadow(PayNowError):
    """No policy of that version ever judged in shadow."""


@click.command("shadow-report")
@click.argument("version", metavar="[VERSION]", type=PlainText(), required=False)
@click.option("--against", metavar="VERSION", type=PlainText(), help="Only beside what this policy decided, not all that were active meanwhile.")
@config_option
@json_option
def shadow_report(version: str | None, against: str | None, config_file: Path | None, as_json: bool) -> None:
    """Show what shadow policies came to beside what was decided: VERSION, else every one that ever judged, the newest first."""
    found = with_store(config_file, lambda store: _found(store, version, against))
    if version is not None and not found:
        raise NoSuchShadow("no policy of that version judges in shadow, or ever did: see paynow policy shadow-report")
    if as_json:
        show_json(found)
        return
    if not found:
        click.echo("no policy judges in shadow yet: name its file in policy.shadow and start the service")
    for place, one in enumerate(found):
        if place:
            click.echo()
        _show(one)


async def _found(store: Store, version: str | None, against: str | None) -> list[dict[str, Any]]:
    from paynow.shadow.report import document

    policies = await store.shadows.policies(None if version is None else [version])
    versions = [policy.version for policy in policies]
    return document(policies, await store.shadows.verdicts(versions, against=against), await store.shadows.rules(versions))


def _show(one: dict[str, Any]) -> None:
    behind = f"{one['behindSeconds']:,.1f} s behind" if one["behindSeconds"] else "has judged all"
    click.echo(f"{one['version']} since {one['since']}, {behind}")
    click.echo(f"{one['decisions']:,} decisions, {one['changed']:,} would change\n")
    show_matrix(one["matrix"])
    if one["unsure"]:
        click.echo(f"\nunsure: {one['unsure']:,} records lack what the policy reads; the rules that need it are unknown, which is a review at least")
    if one["unreadable"]:
        click.echo(f"\n{one['unreadable']:,} stored answers could not be read: paynow explain --verify --all names them")
    click.echo()
    show_table(
        ("rule", "fired", "unknown"), [(rule["id"], f"{rule['fired']:,}", f"{rule['unknown']:,}") for rule in one["rules"]], none="it has no rules"
    )
