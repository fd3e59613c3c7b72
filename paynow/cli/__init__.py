"""The commands. Each is imported only when it is called, so that `paynow --help` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from paynow import __version__
from paynow.errors import ConfigurationRefused, PayNowError

COMMANDS = {
    "accounts": "Bring in accounts",
    "audit": "Check the promises against the database",
    "backtest": "Judge recorded decisions by another policy",
    "cases": "Work on reviews",
    "config": "Check and show the configuration",
    "events": "See where events are, send them again, show their forms",
    "explain": "Show how a payment was decided",
    "keys": "Create, list and revoke API keys",
    "lists": "Keep the allow and block lists",
    "migrate": "Bring the database up to date",
    "payments": "Send payments through a running service",
    "plugins": "Show plugins, write a new one",
    "policy": "Check, show and activate policies",
    "relay": "Hand events to the sinks, without serving",
    "serve": "Serve payment decisions",
}
"""Each command's name, which is also its module's, and what `paynow --help` says of it."""

EXIT_FAULT = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130


@contextmanager
def faults_end_it() -> Iterator[None]:
    """What is raised of PayNow's own ends the program as one line and an exit code: 1 for a fault, 2 for a configuration."""
    try:
        yield
    except ConfigurationRefused as refused:
        for fault in refused.faults:
            click.echo(str(fault), err=True)
        sys.exit(EXIT_REFUSED)
    except PayNowError as error:
        click.echo(f"paynow: {error}", err=True)
        sys.exit(EXIT_FAULT)
    except KeyboardInterrupt:
        click.echo("paynow: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)


class LazyGroup(click.Group):
    """The root: commands by their names."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return getattr(import_module(f"paynow.cli.{cmd_name}"), cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from paynow.settings.notation import did_you_mean  # settings take a while to import

            ctx.fail(f"there is no command {args[0]!r}; {did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        with faults_end_it():
            return super().invoke(ctx)


@click.group(cls=LazyGroup)
@click.version_option(__version__, prog_name="paynow")
def main() -> None:
    """PayNow decides whether payments may move. `paynow serve` serves; the other commands look after it."""
