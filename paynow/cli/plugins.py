"""`paynow plugins list` and `paynow plugins new`: which plugins there are and what they bring, and a tested starting point for one more."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

import click

from paynow.cli.common import config_option, json_option, load_settings, show_json, show_table
from paynow.plugin_checks import TOOL_NAME, TOOL_NAMES_TAKEN
from paynow.plugin_loader import LoadedPlugin, load_plugins
from paynow.plugin_sources import PluginSource, find
from paynow.settings import Settings
from paynow.settings.load import Loaded

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"(?!test_)[a-z][a-z0-9]*(_[a-z0-9]+)*")


@click.group()
def plugins() -> None:
    """Show the plugins there are, and write new ones."""


@plugins.command("list")
@config_option
@json_option
def list_(config_file: Path | None, as_json: bool) -> None:
    """Show every plugin that is enabled, with what it brings, and every other that could be; the others are not imported."""
    loaded = load_settings(config_file)
    running = load_plugins(loaded.settings, origin_of=loaded.origin_of).loaded
    found, _ = find(loaded.settings.plugins.dirs, loaded.origin_of)
    names = {plugin.name for plugin in running}
    rows = [_row(plugin, "enabled") for plugin in running] + [_row(source, "available") for source in found if source.name not in names]
    if as_json:
        show_json(rows)
    else:
        show_table(("plugin", "state", "from", "hooks", "tools, sinks and limiters"), [_cells(row) for row in rows])


@plugins.command()
@click.argument("name")
@click.option("--dir", "place", type=click.Path(path_type=Path), default=Path("plugins"), help="The folder to write to.", show_default=True)
@config_option
def new(name: str, place: Path, config_file: Path | None) -> None:
    """Write a tool, NAME.py, and its passing test, test_NAME.py. NAME is small letters, digits and _, as in device_trust."""
    tool = _tool_name(name)
    files = {place / f"{name}.py": "plugin.py.template", place / f"test_{name}.py": "test_plugin.py.template"}
    _refuse_taken(name, files, load_settings(config_file))
    try:
        _write(files, name=name, tool=tool)
    except OSError as error:
        raise click.BadParameter(f"{place} cannot be written to: {error.strerror}", param_hint="--dir") from error
    settings = load_settings(config_file).settings  # again: a configured folder that was missing may be there now
    click.echo(_next_steps(name, tool, list(files), settings))


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
    found, _ = find(loaded.settings.plugins.dirs, loaded.origin_of)
    taken = [str(path) for path in files if os.path.lexists(path)] or [source.source for source in found if source.name == name]
    if taken:
        raise click.BadParameter(f"there already: {' and '.join(taken)}; nothing was written", param_hint="NAME")


def _write(files: dict[Path, str], **names: str) -> None:
    for path, template in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(names)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)


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
            "3. Use it, in your policy:",
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


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    source = row["source"].removeprefix(f"{Path.cwd()}{os.sep}")
    brings = [*row["tools"], *row["sinks"], *row["limiters"]]
    return row["name"], row["state"], source, ", ".join(row["hooks"]) or "-", ", ".join(brings) or "-"
