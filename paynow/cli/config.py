"""`paynow config check` and `paynow config show`: what a boot would make of the configuration, and where each value comes from."""

from __future__ import annotations

from pathlib import Path

import click

from paynow.cli.common import config_option, json_option, load_settings, show_json, show_table


@click.group()
def config() -> None:
    """Check and show the configuration."""


@config.command()
@config_option
def check(config_file: Path | None) -> None:
    """Do all that a start does before it touches a database or a port. Exit code 2 and a line for each fault if it would refuse."""
    loaded = load_settings(config_file)
    from paynow.app import check as boot_check  # the whole program: only here, so that `show` stays quick

    boot_check(loaded)
    click.echo("configuration is valid")


@config.command()
@config_option
@json_option
def show(config_file: Path | None, as_json: bool) -> None:
    """Show every value with its origin. Secrets are said to be set or not, no more."""
    loaded = load_settings(config_file)
    if as_json:
        show_json([{"key": value.key, "value": value.shown, "origin": value.origin} for value in loaded.values])
    else:
        show_table(("key", "value", "origin"), [(value.key, value.shown, value.origin) for value in loaded.values])
