"""`paynow events schema`: the forms of events, for consumers. It needs no configuration and no database."""

from __future__ import annotations

import click

from paynow.cli.common import show_json


@click.command()
@click.option("--asyncapi", "form", flag_value="asyncapi", help="As an AsyncAPI 3.0 document, with the ways by which events leave.")
@click.option("--markdown", "form", flag_value="markdown", help="As a page for people.")
def schema(form: str | None) -> None:
    """Print the JSON Schema of every event: the envelope, the types, and their data."""
    from paynow.events import asyncapi, page, schemas

    if form == "markdown":
        click.echo(page.page(), nl=False)
    else:
        show_json(asyncapi.document() if form else schemas.document())
