"""`paynow plugins list` and `paynow plugins new`: which plugins there are and what they bring, and a tested starting point for one more."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from paynow.errors import ConfigurationRefused
from paynow.plugin_checks import TOOL_NAME, TOOL_NAMES_TAKEN
from paynow.plugin_loader import LoadedPlugin, load_plugins
from paynow.plugin_sources import PluginSource, find
from paynow.settings import Settings
from paynow.settings.load import Loaded, load

EXIT_REFUSED = 2
WIDTH_UNBOUND = 1000
TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"(?!test_)[a-z][a-z0-9]*(_[a-z0-9]+)*")

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="A TOML file over the defaults; else the one that PAYNOW_CONFIG names, if any.",
)


@click.group()
def plugins() -> None:
    """Show the plugins there are, and write new ones."""


@plugins.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="A list of objects: name, state, source, hooks, tools, sinks, limiters.")
def list_(config_file: Path | None, as_json: bool) -> None:
    """Show every plugin that is enabled, with what it brings, and every other that could be; the others are not imported."""
    try:
        loaded = load(config_file, os.environ, dotenv=Path(".env"))
        running = load_plugins(loaded.settings, origin_of=_origins(loaded)).loaded
    except ConfigurationRefused as refused:
        _refuse(refused)
    found, _ = find(loaded.settings.plugins.dirs, _origins(loaded))
    names = {plugin.name for plugin in running}
    rows = [_row(plugin, "enabled") for plugin in running] + [_row(source, "available") for source in found if source.name not in names]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        _table(rows)


@plugins.command()
@click.argument("name")
@click.option("--dir", "place", type=click.Path(path_type=Path), default=Path("plugins"), help="The folder to write to.", show_default=True)
@config_option
def new(name: str, place: Path, config_file: Path | None) -> None:
    """Write a tool, NAME.py, and its passing test, test_NAME.py. NAME is small letters, digits and _, as in device_trust."""
    try:
        loaded = load(config_file, os.environ, dotenv=Path(".env"))
    except ConfigurationRefused as refused:
        _refuse(refused)
    tool = _tool_name(name)
    files = {place / f"{name}.py": "plugin.py.template", place / f"test_{name}.py": "test_plugin.py.template"}
    _refuse_taken(name, files, loaded)
    place.mkdir(parents=True, exist_ok=True)
    for path, template in files.items():
        text = Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(name=name, tool=tool)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    now = load(config_file, os.environ, dotenv=Path(".env")).settings  # a configured folder that was missing may be there now
    click.echo(_next_steps(name, tool, list(files), now))


def _tool_name(name: str) -> str:
    """The tool's name as plan and rules write it: `deviceTrust` for the plugin `device_trust`."""
    first, *others = name.split("_")
    tool = first + "".join(word.capitalize() for word in others)
    if NAME.fullmatch(name) is None or TOOL_NAME.fullmatch(tool) is None or tool in TOOL_NAMES_TAKEN or name == "conftest":
        raise click.BadParameter(
            "expected a name like device_trust: words of small letters and digits joined by _, at most 64 letters, no word that rules use themselves",
            param_hint="NAME",
        )
    return tool


def _refuse_taken(name: str, files: Iterable[Path], loaded: Loaded) -> None:
    there = [str(path) for path in files if path.exists()]
    if there:
        raise click.BadParameter(f"{' and '.join(there)} is there already; nothing was written", param_hint="NAME")
    found, _ = find(loaded.settings.plugins.dirs, _origins(loaded))
    taken = [source.source for source in found if source.name == name]
    if taken:
        raise click.BadParameter(f"there is a plugin of this name already: {taken[0]}; nothing was written", param_hint="NAME")


def _next_steps(name: str, tool: str, files: list[Path], settings: Settings) -> str:
    plugin, test = files
    known = {folder.resolve() for folder in settings.plugins.dirs}
    dirs = [] if plugin.parent.resolve() in known else [f"dirs = {json.dumps([*map(str, settings.plugins.dirs), str(plugin.parent.resolve())])}"]
    return "\n".join(
        [
            f"Written: {plugin} and {test}",
            "",
            f"1. Test it:       pytest {test}",
            "2. Switch it on, in your configuration:",
            "",
            "[plugins]",
            *dirs,
            f"enabled = {json.dumps([*settings.plugins.enabled, name])}",
            "[agent]",
            f"plan = {json.dumps([*settings.agent.plan, tool])}",
            "",
            f"3. Use it, in your policy ({settings.policy.file}):",
            "",
            "[[rule]]",
            f'id = "{name}"',
            f'when = "{tool}.share_of_balance > 0.9 && {tool}.round_amount"',
            'then = "review"',
            'message = "A round amount that takes nearly all of the balance"',
            "",
            "4. Check it all:  paynow config check",
        ]
    )


def _row(plugin: LoadedPlugin | PluginSource, state: str) -> dict[str, Any]:
    """A plugin that does not run has told nobody yet what it would bring."""
    brings = {key: list(getattr(plugin, key, ())) for key in ("hooks", "tools", "sinks", "limiters")}
    return {"name": plugin.name, "state": state, "source": plugin.source, **brings}


def _table(rows: list[dict[str, Any]]) -> None:
    """A table as wide as the terminal; into a pipe, one line for each plugin however long it is."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_UNBOUND
    table = Table("plugin", "state", "from", "hooks", "tools, sinks and limiters", box=None, pad_edge=False)
    for row in rows:
        source = row["source"].removeprefix(f"{Path.cwd()}{os.sep}")
        brings = [*row["tools"], *row["sinks"], *row["limiters"]]
        texts = (row["name"], row["state"], source, ", ".join(row["hooks"]) or "-", ", ".join(brings) or "-")
        table.add_row(*(Text(text, overflow="fold") for text in texts))
    console.print(table)


def _origins(loaded: Loaded) -> Any:
    """Says where a key was set, for the faults of plugins."""
    origins = {value.key: value.origin for value in loaded.values}
    return lambda key: origins.get(key, "configuration")


def _refuse(refused: ConfigurationRefused) -> NoReturn:
    for fault in refused.faults:
        click.echo(str(fault), err=True)
    raise SystemExit(EXIT_REFUSED)
