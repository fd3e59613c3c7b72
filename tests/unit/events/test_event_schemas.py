"""The schemas of events: valid, strict enough to tell what PayNow writes from what it does not, and open where events may grow."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from event_forms import faults, open_form, strict
from paynow.cli import main
from paynow.events import asyncapi, page, schemas
from paynow.events.examples import EXAMPLES
from paynow.events.forms import EVENT_TYPES

ROOT = Path(__file__).parents[3]
EVENTS_PAGE = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
ALL = pytest.mark.parametrize("event", EXAMPLES.values(), ids=list(EXAMPLES))
DECIDED, LEFT = EXAMPLES["paynow.payment.decided"], EXAMPLES["paynow.policy.band_left"]


def changed(event: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with another value at a place like `data.amount`."""
    copied = copy.deepcopy(event)
    *above, last = path.split(".")
    place = copied
    for name in above:
        place = place[name]
    place[last] = value
    return copied


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def resolved(document: dict[str, Any], reference: str) -> Any:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_the_document_is_a_valid_schema_whose_references_lead_somewhere() -> None:
    document = schemas.document()
    Draft202012Validator.check_schema(document)
    assert all(resolved(document, reference) for reference in references(document))
    assert json.loads(schemas.as_bytes()) == document


@pytest.mark.parametrize(("options", "document"), [([], schemas), (["--asyncapi"], asyncapi)])
def test_the_command_says_what_the_service_says(options: list[str], document: Any) -> None:
    said = CliRunner().invoke(main, ["events", "schema", *options])
    assert (said.exit_code, json.loads(said.output)) == (0, json.loads(document.as_bytes()))


def test_there_is_an_example_of_every_type() -> None:
    assert list(EXAMPLES) == [one.type for one in EVENT_TYPES]


@ALL
def test_every_example_has_the_form_of_its_type_and_nothing_else(event: dict[str, Any]) -> None:
    assert faults(strict(), event) == []


@ALL
def test_no_attribute_or_field_may_be_missing(event: dict[str, Any]) -> None:
    for name in event:
        assert not open_form().is_valid({other: value for other, value in event.items() if other != name}), name
    for name in event["data"]:
        fewer = {other: value for other, value in event["data"].items() if other != name}
        assert not open_form().is_valid({**event, "data": fewer}), name


@pytest.mark.parametrize(
    ("event", "path", "value"),
    [
        (DECIDED, "specversion", "1.1"),
        (DECIDED, "id", "42"),
        (DECIDED, "subject", "payment 42"),
        (DECIDED, "time", "2026-11-24T10:00:00.000000+00:00"),
        (DECIDED, "sequence", "42"),
        (DECIDED, "sequence", 42),
        (DECIDED, "data.amount", 125.5),
        (DECIDED, "data.amount", "1.255E+2"),
        (DECIDED, "data.currency", "usd"),
        (DECIDED, "data.decision", "perhaps"),
        (DECIDED, "data.reasons", [{"code": "large"}]),
        (DECIDED, "data.degraded", "no"),
        (DECIDED, "data.caseId", ""),
        (DECIDED, "data.decidedAt", 1_795_514_400),
        (LEFT, "data.reviewShare", "0.3"),
        (LEFT, "data.reviewShare", 31.2),
        (LEFT, "data.reviewBand", [0.2]),
        (LEFT, "data.decisions", 5210.5),
        (LEFT, "data.rolledBackTo", True),
        (EXAMPLES["paynow.reservation.captured"], "data.reservation", "taken"),
        (EXAMPLES["paynow.case.resolved"], "data.reservation", "captured"),
    ],
)
def test_another_form_is_refused(event: dict[str, Any], path: str, value: object) -> None:
    assert not open_form().is_valid(changed(event, path, value))


@pytest.mark.parametrize(
    ("event", "path", "value"),
    [
        (DECIDED, "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        (DECIDED, "data.score", 40),
        (DECIDED, "type", "paynow.payment.reversed"),
        (LEFT, "data.rollback", "forbidden"),
    ],
)
def test_consumers_are_told_to_take_what_may_be_added_and_our_own_tests_are_not(event: dict[str, Any], path: str, value: object) -> None:
    assert faults(open_form(), changed(event, path, value)) == []
    assert not strict().is_valid(changed(event, path, value))


def test_the_pages_for_people_list_every_type_and_show_an_event_of_the_described_form() -> None:
    listed = re.findall(r"^\| `(paynow\.[a-z_.]+)` \|", EVENTS_PAGE, re.MULTILINE)
    assert listed == [one.type for one in EVENT_TYPES]
    for text in (EVENTS_PAGE, page.page()):
        shown = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
        assert shown
        assert [faults(strict(), event) for event in shown] == [[]] * len(shown)


def test_every_type_that_the_database_writes_is_described() -> None:
    written = {name for file in (ROOT / "sql" / "functions").glob("*.sql") for name in re.findall(r"'(paynow\.[a-z]+\.[a-z_]+)'", file.read_text())}
    assert written
    assert written <= {one.type for one in EVENT_TYPES}


def test_the_asyncapi_document_says_of_every_channel_all_messages_and_every_reference_leads_somewhere() -> None:
    document = asyncapi.document()
    assert document["asyncapi"] == "3.0.0"
    assert all(resolved(document, reference) for reference in references(document))
    assert json.loads(asyncapi.as_bytes()) == document
    names = [one.name for one in EVENT_TYPES]
    for name, channel in document["channels"].items():
        assert list(channel["messages"]) == names, name
        assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel["parameters"]), name
    for server in document["servers"].values():
        assert set(re.findall(r"{(\w+)}", server["host"])) == set(server["variables"])
    sent = [operation["channel"]["$ref"].removeprefix("#/channels/") for operation in document["operations"].values()]
    assert sent == list(document["channels"])


def test_the_asyncapi_document_has_the_forms_of_the_schema() -> None:
    described, forms = asyncapi.document()["components"], schemas.document()["$defs"]
    moved = json.loads(json.dumps(described["schemas"]).replace("#/components/schemas/", "#/$defs/"))
    assert moved == forms
    for one in EVENT_TYPES:
        message = described["messages"][one.name]
        assert (message["name"], message["payload"]) == (one.type, {"$ref": f"#/components/schemas/{one.name}"})
        assert faults(strict(), message["examples"][0]["payload"]) == []


def test_what_is_said_in_asyncapi_can_be_said_in_its_older_dialect_too() -> None:
    """AsyncAPI 3.0 reads schemas as JSON Schema draft 7: what came later would be passed over there."""
    later = {"$defs", "prefixItems", "unevaluatedProperties", "unevaluatedItems", "dependentRequired", "dependentSchemas", "minContains"}
    assert later.isdisjoint(re.findall(r'"([$\w]+)":', json.dumps(asyncapi.document())))
    for form in asyncapi.document()["components"]["schemas"].values():
        for field in form["properties"].values():
            assert "$ref" not in field or list(field) == ["$ref"], "what stands beside a reference is passed over in draft 7"


@pytest.mark.parametrize(("section", "name"), [("kafka", "topic"), ("rabbitmq", "exchange"), ("redis_streams", "stream")])
def test_the_names_that_asyncapi_gives_are_those_of_the_default_settings(section: str, name: str) -> None:
    settings = tomllib.loads((ROOT / "config" / "default.toml").read_text(encoding="utf-8"))["events"]
    assert settings.get(section, {}).get(name, asyncapi.NAME) == asyncapi.NAME
    assert f"`events.{section}.{name}`" in asyncapi.as_bytes().decode()
