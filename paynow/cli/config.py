"""`paynow config check` and `paynow config show`: what a boot would make of the configuration, and where each value comes from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from paynow.errors import ConfigurationRefused
from paynow.settings.load import Loaded, load

EXIT_REFUSED = 2
WIDTH_UNBOUND = 1000

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="A TOML file over the defaults; else the one that PAYNOW_CONFIG names, if any.",
)


@click.group()
def config() -> None:
    """Check and show the configuration."""


@config.command()
@config_option
def check(config_file: Path | None) -> None:
    """Do all that a start does before it touches a database or a port. Exit code 2 and a line for each fault if it would refuse."""
    try:
        loaded = load(config_file, os.environ, dotenv=Path(".env"))
        from paynow.app import check as boot_check  # the whole program: only here, so that `show` stays quick

        boot_check(loaded)
    except ConfigurationRefused as refused:
        _refuse(refused)
    click.echo("configuration is valid")


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="A list of objects: key, value, origin.")
def show(config_file: Path | None, as_json: bool) -> None:
    """Show every value with its origin. Secrets are said to be set or not, no more."""
    try:
        loaded = load(config_file, os.environ, dotenv=Path(".env"))
    except ConfigurationRefused as refused:
        _refuse(refused)
    if as_json:
        objects = [{"key": value.key, "value": value.shown, "origin": value.origin} for value in loaded.values]
        click.echo(json.dumps(objects, indent=2, ensure_ascii=False))
    else:
        _table(loaded)


def _table(loaded: Loaded) -> None:
    """A table as wide as the terminal; into a pipe, one line for each value however long it is."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_UNBOUND
    table = Table("key", "value", "origin", box=None, pad_edge=False)
    for value in loaded.values:
        table.add_row(Text(value.key), Text(value.shown, overflow="fold"), Text(value.origin))
    console.print(table)


def _refuse(refused: ConfigurationRefused) -> NoReturn:
    for fault in refused.faults:
        click.echo(str(fault), err=True)
    raise SystemExit(EXIT_REFUSED)
