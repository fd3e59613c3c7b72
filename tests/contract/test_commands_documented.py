"""docs/cli.md and the program say the same: every command and option is there with an example, and every example is one that the program takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from paynow.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (paynow [a-z -]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
COMMON_OPTIONS = {"--help", "--config"}
EVERYWHERE = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "Makefile", ROOT / "paynow" / "http" / "pages" / "introduction.md"]


def commands(command: click.Command = main, path: str = "paynow") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by the words that call it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, f"{path} {name}")
    else:
        yield path, command


ALL = dict(commands())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def examples(text: str) -> list[str]:
    """The calls of the program in a page's shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [found for block in blocks for found in re.findall(r"(?:^|\$\(|bin/)(paynow (?!--help)[^)#|\n]+)", block, re.MULTILINE)]


def parse(example: str) -> None:
    """As the program would, up to the point where it would do something. The files of the example are made in the current folder."""
    words = shlex.split(example)
    for word in words:
        if word.endswith((".csv", ".toml")):
            Path(word).touch()
    command: click.Command = main
    context = click.Context(main, info_name="paynow")
    words = words[1:]
    while isinstance(command, click.Group):
        _, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
        context = click.Context(command, info_name=command.name, parent=context)
    command.make_context(command.name, words)


def test_there_are_commands_and_examples() -> None:
    assert len(ALL) > 15
    assert len(examples(PAGE)) >= len(ALL)


@pytest.mark.parametrize("path", ALL)
def test_every_command_has_a_section_with_an_example(path: str) -> None:
    assert path in SECTIONS
    assert any(example.split()[: len(path.split())] == path.split() for example in examples(SECTIONS[path]))


@pytest.mark.parametrize("path", ALL)
def test_every_option_is_named_in_the_section(path: str) -> None:
    options = {option for parameter in ALL[path].params if isinstance(parameter, click.Option) for option in parameter.opts} - COMMON_OPTIONS
    assert {option for option in options if not re.search(rf"{option}(?![\w-])", SECTIONS[path])} == set()


def test_no_section_is_about_a_command_that_does_not_exist() -> None:
    assert set(SECTIONS) == set(ALL)


@pytest.mark.parametrize("example", examples(PAGE))
def test_every_example_is_taken_by_the_program(example: str) -> None:
    parse(example)


@pytest.mark.parametrize("page", EVERYWHERE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_the_other_pages_too(page: Path) -> None:
    for example in examples(page.read_text(encoding="utf-8")):
        parse(example)


@pytest.mark.parametrize("path", ALL)
def test_every_command_and_option_says_what_it_is_for(path: str) -> None:
    command = ALL[path]
    assert command.help
    assert [parameter.name for parameter in command.params if isinstance(parameter, click.Option) and not parameter.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_root_names_each_command_as_its_module_does(name: str) -> None:
    assert main.get_command(click.Context(main), name).name == name


@pytest.mark.parametrize(
    "wrong", ["paynow keys creat --name n --scopes all", "paynow serve --prot 1", "paynow lists add customer c_1 blok --reason r"]
)
def test_an_example_that_the_program_would_refuse_is_refused_here(wrong: str) -> None:
    with pytest.raises(click.UsageError):
        parse(wrong)
